"""The registry's own policy: which other accounts may replicate into it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import ServiceError
from pilvi.core.service import Context, Operations
from pilvi.services.ecr.repository_policy import read_policy

ops = Operations()


@ops
def put_registry_policy(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Attach a policy to the registry of this account and Region.

    Errors: InvalidParameterException - the text is no policy.
    """
    read_policy(req["policyText"])
    ctx.records("RegistryPolicy").put("policy", {"policyText": req["policyText"]})
    return {"registryId": ctx.account, "policyText": req["policyText"]}


@ops
def get_registry_policy(ctx: Context, _req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The policy as it was put.

    Errors: RegistryPolicyNotFoundException - there is none.
    """
    found = ctx.records("RegistryPolicy").find("policy")
    if found is None:
        raise ServiceError(
            "RegistryPolicyNotFoundException", f"Registry policy does not exist in the registry with id '{ctx.account}'"
        )
    return {"registryId": ctx.account, "policyText": found["policyText"]}


@ops
def delete_registry_policy(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Remove the policy; gives it back once more.

    Errors: RegistryPolicyNotFoundException - there is none.
    """
    found = get_registry_policy(ctx, req)
    ctx.records("RegistryPolicy").delete("policy")
    return dict(found)


def registry_policy(ctx: Context) -> dict[str, Any] | None:
    """The policy's document, for whoever decides."""
    found = ctx.records("RegistryPolicy").find("policy")
    return None if found is None else dict(json.loads(found["policyText"]))
