"""Pull-through cache rules: a prefix of repositories that is filled from another registry when somebody pulls.

What is fetched comes from registries of this server: its public one (public.ecr.aws) and other accounts' or Regions' private
ones. It fetches nothing from the Internet: a rule for a registry there is refused, and `pilvi images import` is the way in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import AlreadyExists, ServiceError
from pilvi.core.service import Context, Operations
from pilvi.images import store
from pilvi.services.ecr.access import on_repository
from pilvi.services.ecr.repository import Record, create_repository, in_registry

ops = Operations()

PUBLIC = "public.ecr.aws"
_PRIVATE = re.compile(r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(?:\.cn)?")
_ELSEWHERE = re.compile(
    r"registry-1\.docker\.io|quay\.io|registry\.k8s\.io|ghcr\.io|registry\.gitlab\.com|cgr\.dev|[a-z0-9]+\.azurecr\.io"
)


@ops
def create_pull_through_cache_rule(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Fill repositories below a prefix from another registry of this server when they are pulled.

    req: ecrRepositoryPrefix (2-30, or ROOT), upstreamRegistryUrl (public.ecr.aws or another private registry), upstreamRepositoryPrefix.
    Errors: PullThroughCacheRuleAlreadyExistsException; UnsupportedUpstreamRegistryException - a registry outside of this server.
    Differs: registries on the Internet are refused; import their images with `pilvi images import`. No credentials are used.
    """
    ctx = in_registry(ctx, req)
    url, prefix = req["upstreamRegistryUrl"].removeprefix("https://").rstrip("/"), req["ecrRepositoryPrefix"]
    if url != PUBLIC and not _PRIVATE.fullmatch(url):
        known = (
            "This server fetches nothing from the Internet; bring images with `pilvi images import`."
            if _ELSEWHERE.fullmatch(url)
            else ""
        )
        raise ServiceError("UnsupportedUpstreamRegistryException", f"The upstream registry {url} is not supported. {known}".strip())
    record = {
        "ecrRepositoryPrefix": prefix,
        "upstreamRegistryUrl": url,
        "upstreamRegistry": "ecr-public" if url == PUBLIC else "ecr",
        "upstreamRepositoryPrefix": req.get("upstreamRepositoryPrefix") or "ROOT",
        "registryId": ctx.account,
        "createdAt": ctx.clock.now(),
        "updatedAt": ctx.clock.now(),
        "customRoleArn": req.get("customRoleArn"),
    }
    if req.get("credentialArn"):
        raise ServiceError("ValidationException", "credentialArn is not used: registries of this server need no credentials.")
    try:
        ctx.records("PullThroughCacheRule").insert(prefix, record)
    except AlreadyExists:
        raise ServiceError(
            "PullThroughCacheRuleAlreadyExistsException",
            f"A pull through cache rule with prefix '{prefix}' already exists in the registry with id '{ctx.account}'",
        ) from None
    return record


@ops
def describe_pull_through_cache_rules(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Rules by prefix, or all.

    Errors: PullThroughCacheRuleNotFoundException - one of the prefixes has none.
    """
    ctx = in_registry(ctx, req)
    if prefixes := req.get("ecrRepositoryPrefixes"):
        return {"pullThroughCacheRules": [_find(ctx, prefix) for prefix in prefixes]}
    found, more = ctx.records("PullThroughCacheRule").page(req.get("nextToken"), req.get("maxResults") or 100)
    return {"pullThroughCacheRules": found, "nextToken": more}


@ops
def validate_pull_through_cache_rule(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Whether what a rule fetches from can be reached; registries of this server always can."""
    return {**_find(in_registry(ctx, req), req["ecrRepositoryPrefix"]), "isValid": True}


@ops
def delete_pull_through_cache_rule(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """End a rule; what was fetched stays.

    Errors: PullThroughCacheRuleNotFoundException.
    """
    ctx = in_registry(ctx, req)
    record = _find(ctx, req["ecrRepositoryPrefix"])
    ctx.records("PullThroughCacheRule").delete(record["ecrRepositoryPrefix"])
    return record


def fetched(ctx: Context, repository: str, *, digest: str, tag: str) -> Record | None:
    """The image, if a rule's registry has it: copied here first. For threads. Denied when the caller may not import."""
    found = _found(ctx, repository)
    if found is None:
        return None
    source, name = found
    image = store.find_image(source, name, digest=digest, tag=tag)
    if image is None:
        return None
    ctx.authorize(on_repository(ctx, "ecr:BatchImportUpstreamImage", ctx.account, repository))
    store.copy_image(source, ctx, repository, image, tag, from_repository=name)
    return store.find_image(ctx, repository, digest=digest, tag=tag)


def make_repository(ctx: Context, repository: str) -> None:
    """The repository that a rule fills is made at its first pull, by callers who may make one."""
    if (found := _found(ctx, repository)) is not None and store.has_images(*found):
        ctx.authorize(on_repository(ctx, "ecr:CreateRepository", ctx.account, repository))
        create_repository(ctx, {"repositoryName": repository})


def _found(ctx: Context, repository: str) -> tuple[Context, str] | None:
    """Where a rule fetches a repository from, if the caller may pull there."""
    rule = rule_for(ctx, repository)
    if rule is None:
        return None
    source, name = _upstream(ctx, rule, repository)
    if source.service == "ecr":
        for action in ("ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"):
            source.authorize(on_repository(source, action, source.account, name))
    return source, name


def rule_for(ctx: Context, repository: str) -> Record | None:
    """The rule with the longest prefix of a repository's name."""
    parts = repository.split("/")
    for count in range(len(parts) - 1, 0, -1):
        if (rule := ctx.records("PullThroughCacheRule").find("/".join(parts[:count]))) is not None:
            return rule
    return ctx.records("PullThroughCacheRule").find("ROOT")


def _upstream(ctx: Context, rule: Mapping[str, Any], repository: str) -> tuple[Context, str]:
    """Where a rule's registry is in this server, and the repository's name there."""
    prefix = rule["ecrRepositoryPrefix"]
    rest = repository if prefix == "ROOT" else repository.removeprefix(f"{prefix}/")
    name = rest if rule["upstreamRepositoryPrefix"] == "ROOT" else f"{rule['upstreamRepositoryPrefix']}/{rest}"
    if rule["upstreamRegistryUrl"] == PUBLIC:
        alias, _, name = name.partition("/")
        owner = ctx.records("Alias", account="", region="", service="ecr-public").find(alias) or {"account": ""}
        return ctx.to("ecr-public", "").at(owner["account"], "us-east-1"), name
    found = _PRIVATE.fullmatch(rule["upstreamRegistryUrl"])
    assert found is not None
    return ctx.at(found["account"], found["region"]), name


def _find(ctx: Context, prefix: str) -> Record:
    record = ctx.records("PullThroughCacheRule").find(prefix)
    if record is None:
        raise ServiceError(
            "PullThroughCacheRuleNotFoundException",
            f"The pull through cache rule with prefix '{prefix}' does not exist in the registry with id '{ctx.account}'",
        )
    return record
