"""Repository policies: whom the owner lets in beside those whom IAM does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pilvi.auth.policy import MalformedPolicy, parse
from pilvi.core.errors import ServiceError
from pilvi.core.service import Context, Operations
from pilvi.services.ecr.errors import bad_parameter
from pilvi.services.ecr.repository import change, find_repository, in_registry

ops = Operations()


@ops
def set_repository_policy(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Attach a policy; it counts from the next request on.

    req: policyText (JSON; statements name no Resource: it is the repository).
    Errors: RepositoryNotFoundException. InvalidParameterException - the text is no policy.
    """
    ctx = in_registry(ctx, req)
    read_policy(req["policyText"])
    record = change(ctx, req["repositoryName"], lambda record: record | {"_policy": req["policyText"]})
    return _answer(ctx, record)


@ops
def get_repository_policy(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The policy as it was set.

    Errors: RepositoryNotFoundException. RepositoryPolicyNotFoundException - there is none.
    """
    ctx = in_registry(ctx, req)
    record = find_repository(ctx, req["repositoryName"])
    if not record.get("_policy"):
        raise _no_policy(ctx, req["repositoryName"])
    return _answer(ctx, record)


@ops
def delete_repository_policy(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Remove the policy; gives it back once more.

    Errors: RepositoryNotFoundException. RepositoryPolicyNotFoundException - there is none.
    """
    before = get_repository_policy(ctx, req)
    change(in_registry(ctx, req), req["repositoryName"], lambda record: record | {"_policy": ""})
    return dict(before)


def read_policy(text: str) -> dict[str, Any]:
    """A policy that can be evaluated; InvalidParameterException otherwise."""
    try:
        document = json.loads(text)
        statements = document["Statement"]
        statements = [statements] if isinstance(statements, Mapping) else statements
        parse({**document, "Statement": [{"Resource": "*", **statement} for statement in statements]}, "resource")
    except (ValueError, KeyError, TypeError, MalformedPolicy) as error:
        raise bad_parameter("PolicyText", f"Invalid repository policy provided: {error}") from None
    return dict(document)


def _answer(ctx: Context, record: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"registryId": ctx.account, "repositoryName": record["repositoryName"], "policyText": record["_policy"]}


def _no_policy(ctx: Context, name: str) -> ServiceError:
    return ServiceError(
        "RepositoryPolicyNotFoundException",
        f"Repository policy does not exist for the repository with name '{name}' in the registry with id '{ctx.account}'",
    )
