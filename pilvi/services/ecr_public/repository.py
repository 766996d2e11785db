"""Public repositories: their images are anyone's to pull."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pilvi.auth.policy import MalformedPolicy, parse
from pilvi.core.arn import Arn
from pilvi.core.errors import AlreadyExists, NotFound, ServiceError
from pilvi.core.service import Context, Operations
from pilvi.images import store
from pilvi.services.ecr_public.access import REGION, repository_arn
from pilvi.services.ecr_public.registry import alias_of

ops = Operations()

Record = dict[str, Any]
MOST_TAGS = 50
CATALOG = ("description", "architectures", "operatingSystems", "aboutText", "usageText")


@ops
def create_repository(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Make a public repository.

    req: repositoryName, catalogData (what its page says), tags.
    Errors: RepositoryAlreadyExistsException. UnsupportedCommandException - a Region other than us-east-1.
    Differs: a logo is refused: there is no gallery that would show it.
    """
    ctx = here(ctx, req)
    name = req["repositoryName"]
    catalog = _catalog(req.get("catalogData") or {})
    record = {
        "repositoryArn": repository_arn(ctx, name),
        "registryId": ctx.account,
        "repositoryName": name,
        "repositoryUri": f"public.ecr.aws/{alias_of(ctx)}/{name}",
        "createdAt": ctx.clock.now(),
        "_catalog": catalog,
        "_tags": {tag["Key"]: tag.get("Value") or "" for tag in req.get("tags") or ()},
    }
    try:
        ctx.records("Repository").insert(name, record)
    except AlreadyExists:
        raise ServiceError(
            "RepositoryAlreadyExistsException",
            f"The repository with name '{name}' already exists in the registry with id '{ctx.account}'",
        ) from None
    return {"repository": record, "catalogData": catalog}


@ops
def describe_repositories(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Repositories by name, or all in the order of their names.

    Errors: RepositoryNotFoundException - one of the names is not there.
    """
    ctx = here(ctx, req)
    if names := req.get("repositoryNames"):
        return {"repositories": [find_repository(ctx, name) for name in names]}
    found, more = ctx.records("Repository").page(req.get("nextToken"), req.get("maxResults") or 100)
    return {"repositories": found, "nextToken": more}


@ops
def delete_repository(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Remove a repository; with `force` its images too.

    Errors: RepositoryNotFoundException. RepositoryNotEmptyException - it has images and force is not set.
    """
    ctx = here(ctx, req)
    name = req["repositoryName"]
    record = find_repository(ctx, name)
    if not req.get("force") and store.has_images(ctx, name):
        raise ServiceError(
            "RepositoryNotEmptyException",
            f"The repository with name '{name}' in registry with id '{ctx.account}' cannot be deleted because it still contains images",
        )
    store.delete_all(ctx, name, ctx.records("Repository").deletion(name))
    return {"repository": record}


@ops
def put_repository_catalog_data(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the repository's page says.

    Errors: RepositoryNotFoundException.
    """
    catalog = _catalog(req["catalogData"])
    change(here(ctx, req), req["repositoryName"], lambda record: record | {"_catalog": catalog})
    return {"catalogData": catalog}


@ops
def get_repository_catalog_data(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the repository's page says.

    Errors: RepositoryNotFoundException.
    """
    return {"catalogData": find_repository(here(ctx, req), req["repositoryName"])["_catalog"]}


@ops
def set_repository_policy(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Attach a policy: who else may push.

    Errors: RepositoryNotFoundException. InvalidParameterException - the text is no policy.
    """
    ctx = here(ctx, req)
    try:
        document = json.loads(req["policyText"])
        statements = document["Statement"]
        statements = [statements] if isinstance(statements, Mapping) else statements
        parse({**document, "Statement": [{"Resource": "*", **statement} for statement in statements]}, "resource")
    except (ValueError, KeyError, TypeError, MalformedPolicy) as error:
        raise ServiceError("InvalidParameterException", f"Invalid repository policy provided: {error}") from None
    change(ctx, req["repositoryName"], lambda record: record | {"_policy": req["policyText"]})
    return {"registryId": ctx.account, "repositoryName": req["repositoryName"], "policyText": req["policyText"]}


@ops
def get_repository_policy(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The policy as it was set.

    Errors: RepositoryNotFoundException. RepositoryPolicyNotFoundException - there is none.
    """
    ctx = here(ctx, req)
    name = req["repositoryName"]
    text = find_repository(ctx, name).get("_policy")
    if not text:
        raise ServiceError(
            "RepositoryPolicyNotFoundException",
            f"Repository policy does not exist for the repository with name '{name}' in the registry with id '{ctx.account}'",
        )
    return {"registryId": ctx.account, "repositoryName": name, "policyText": text}


@ops
def delete_repository_policy(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Remove the policy; gives it back once more.

    Errors: RepositoryNotFoundException. RepositoryPolicyNotFoundException - there is none.
    """
    before = dict(get_repository_policy(ctx, req))
    change(here(ctx, req), req["repositoryName"], lambda record: record | {"_policy": ""})
    return before


@ops
def tag_resource(ctx: Context, req: Mapping[str, Any]) -> None:
    """Add or replace tags of the repository with this ARN.

    Errors: RepositoryNotFoundException; TooManyTagsException - more than 50.
    """
    added = {tag["Key"]: tag.get("Value") or "" for tag in req["tags"]}

    def tagged(record: Record) -> Record:
        tags = {**record["_tags"], **added}
        if len(tags) > MOST_TAGS:
            raise ServiceError("TooManyTagsException", "Too many tags for a resource: at most 50.")
        return record | {"_tags": tags}

    change(here(ctx, req), _name_in(ctx, req["resourceArn"]), tagged)


@ops
def untag_resource(ctx: Context, req: Mapping[str, Any]) -> None:
    """Remove tags; names it does not have are passed over."""
    gone: Sequence[str] = req["tagKeys"]
    name = _name_in(ctx, req["resourceArn"])
    change(
        here(ctx, req),
        name,
        lambda record: record | {"_tags": {key: value for key, value in record["_tags"].items() if key not in gone}},
    )


@ops
def list_tags_for_resource(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The tags of the repository with this ARN."""
    record = find_repository(here(ctx, req), _name_in(ctx, req["resourceArn"]))
    return {"tags": [{"Key": key, "Value": value} for key, value in record["_tags"].items()]}


# -- for the other nouns --------------------------------------------------------------------------------------------------


def here(ctx: Context, req: Mapping[str, Any]) -> Context:
    """The context, if it is where and whose public repositories are."""
    if ctx.region != REGION:
        raise ServiceError("UnsupportedCommandException", f"ECR Public is spoken in {REGION} only, not in {ctx.region}.")
    if (req.get("registryId") or ctx.account) != ctx.account:
        raise ServiceError("RegistryNotFoundException", f"The registry with id '{req['registryId']}' does not exist")
    return ctx


def find_repository(ctx: Context, name: str) -> Record:
    record = ctx.records("Repository").find(name)
    if record is None:
        raise no_repository(ctx, name)
    return record


def change(ctx: Context, name: str, changed: Any) -> Record:
    try:
        return ctx.records("Repository").update(name, changed)
    except NotFound:
        raise no_repository(ctx, name) from None


def no_repository(ctx: Context, name: str) -> ServiceError:
    return ServiceError(
        "RepositoryNotFoundException",
        f"The repository with name '{name}' does not exist in the registry with id '{ctx.account}'",
    )


def _catalog(data: Mapping[str, Any]) -> Record:
    if data.get("logoImageBlob"):
        raise ServiceError("InvalidParameterException", "logoImageBlob is not supported: there is no gallery that would show it.")
    return {member: data[member] for member in CATALOG if data.get(member) is not None}


def _name_in(ctx: Context, arn: str) -> str:
    found = Arn.parse(arn)
    if found is None or found.service != "ecr-public" or not found.resource.startswith("repository/"):
        raise ServiceError("InvalidParameterException", f"Invalid resource ARN: {arn}")
    name = found.resource.removeprefix("repository/")
    if found.account != ctx.account:
        raise no_repository(ctx, name)
    return name
