"""Repositories: where the images of one name live, and how they may be used."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from typing import Any

from pilvi.core.arn import partition_of
from pilvi.core.errors import AlreadyExists, NotFound
from pilvi.core.service import Context, Operations
from pilvi.images import store
from pilvi.images.layers import changing
from pilvi.services.ecr.errors import bad_parameter, no_repository, not_empty, repository_exists
from pilvi.services.ecr.tag import tags_from

ops = Operations()

Record = dict[str, Any]
EXCLUDING = ("IMMUTABLE_WITH_EXCLUSION", "MUTABLE_WITH_EXCLUSION")


@ops
def create_repository(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Make a repository for images of one name.

    req: repositoryName (2-256), tags (at most 50), imageTagMutability with exclusion filters, imageScanningConfiguration,
    encryptionConfiguration (AES256).
    Errors: RepositoryAlreadyExistsException - the name is taken. InvalidParameterException - a key of KMS is asked for.
    Differs: layers are sealed with the server's own key (AES-256-GCM); KMS keys are refused.
    """
    ctx = in_registry(ctx, req)
    name = req["repositoryName"]
    encryption = {"encryptionType": "AES256", **(req.get("encryptionConfiguration") or {})}
    if encryption["encryptionType"] != "AES256" or encryption.get("kmsKey"):
        raise bad_parameter("encryptionConfiguration", "only AES256 is built; layers are sealed with the server's own key")
    record = {
        "repositoryArn": repository_arn(ctx, name),
        "registryId": ctx.account,
        "repositoryName": name,
        "repositoryUri": f"{registry_host(ctx)}/{name}",
        "createdAt": ctx.clock.now(),
        **_mutability(req),
        "imageScanningConfiguration": {"scanOnPush": False, **(req.get("imageScanningConfiguration") or {})},
        "encryptionConfiguration": encryption,
        "_tags": tags_from(req.get("tags") or ()),
    }
    try:
        ctx.records("Repository").insert(name, record)
    except AlreadyExists:
        raise repository_exists(ctx, name) from None
    return {"repository": record}


@ops
def describe_repositories(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Repositories by name, or all in the order of their names.

    req: repositoryNames (at most 100), or maxResults (1-1000) and nextToken.
    Errors: RepositoryNotFoundException - one of the names is not there.
    """
    ctx = in_registry(ctx, req)
    if names := req.get("repositoryNames"):
        return {"repositories": [find_repository(ctx, name) for name in names]}
    found, more = ctx.records("Repository").page(req.get("nextToken"), req.get("maxResults") or 100)
    return {"repositories": found, "nextToken": more}


@ops
def put_image_tag_mutability(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Say whether tags may be moved to other images.

    Errors: RepositoryNotFoundException. InvalidParameterException - exclusion filters without a mutability that has them.
    """
    return change(in_registry(ctx, req), req["repositoryName"], lambda record: _without_filters(record) | _mutability(req))


@ops
def put_image_scanning_configuration(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Say whether pushed images are scanned at once.

    Errors: RepositoryNotFoundException.
    """
    config = {"scanOnPush": False, **req["imageScanningConfiguration"]}
    return change(in_registry(ctx, req), req["repositoryName"], lambda record: record | {"imageScanningConfiguration": config})


@ops
def delete_repository(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Remove a repository; with `force` its images too, and every layer nothing else needs.

    Errors: RepositoryNotFoundException. RepositoryNotEmptyException - it has images and force is not set.
    """
    ctx = in_registry(ctx, req)
    name = req["repositoryName"]
    with changing(ctx):  # an image that is pushed meanwhile counts
        record = find_repository(ctx, name)
        if not req.get("force") and store.has_images(ctx, name):
            raise not_empty(ctx, name)
        more = [ctx.records("Repository").deletion(name)]
        if ctx.records("LifecyclePreview").find(name) is not None:
            more.append(ctx.records("LifecyclePreview").deletion(name))
        store.delete_all(ctx, name, *more)
    return {"repository": record}


# -- for the other nouns --------------------------------------------------------------------------------------------------


def in_registry(ctx: Context, req: Mapping[str, Any]) -> Context:
    """The context in the account whose registry a request names; access.py has checked that the caller may go there."""
    account = req.get("registryId") or ctx.account
    return ctx if account == ctx.account else ctx.at(account, ctx.region)


def find_repository(ctx: Context, name: str) -> Record:
    record = ctx.records("Repository").find(name)
    if record is None:
        raise no_repository(ctx, name)
    return record


def change(ctx: Context, name: str, changed: Any) -> Record:
    """Read, change, write a repository."""
    try:
        return ctx.records("Repository").update(name, changed)
    except NotFound:
        raise no_repository(ctx, name) from None


def repository_arn(ctx: Context, name: str) -> str:
    return ctx.arn(f"repository/{name}", service="ecr")


def registry_host(ctx: Context) -> str:
    suffix = "amazonaws.com.cn" if partition_of(ctx.region) == "aws-cn" else "amazonaws.com"
    return f"{ctx.account}.dkr.ecr.{ctx.region}.{suffix}"


def may_move(repository: Mapping[str, Any], tag: str) -> bool:
    """Whether a tag of this repository may be given to another image."""
    mutability = repository["imageTagMutability"]
    filters: Sequence[Mapping[str, str]] = repository.get("imageTagMutabilityExclusionFilters") or ()
    is_excluded = any(fnmatch.fnmatchcase(tag, entry["filter"]) for entry in filters)
    return mutability.startswith("MUTABLE") is not is_excluded


def _mutability(req: Mapping[str, Any]) -> Record:
    mutability, filters = req.get("imageTagMutability") or "MUTABLE", req.get("imageTagMutabilityExclusionFilters")
    if bool(filters) != (mutability in EXCLUDING):
        raise bad_parameter("imageTagMutabilityExclusionFilters", f"filters go with {' or '.join(EXCLUDING)}, and only with them")
    return {"imageTagMutability": mutability} | ({"imageTagMutabilityExclusionFilters": filters} if filters else {})


def _without_filters(record: Record) -> Record:
    return {name: value for name, value in record.items() if name != "imageTagMutabilityExclusionFilters"}
