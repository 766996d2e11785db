"""Trying policies out before somebody is refused: the decision is the one that every real request meets."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pilvi.auth.policy import MalformedPolicy, Policy, PolicySet, parse
from pilvi.auth.simulate import Match, Simulation, simulate
from pilvi.core.arn import Arn
from pilvi.core.errors import Invalid, NotFound, ServiceError, Unsupported
from pilvi.core.principal import Principal
from pilvi.core.service import Context, Operations
from pilvi.services.iam import managed, usage
from pilvi.services.iam.entity import find, tags_by_key
from pilvi.services.iam.listing import page
from pilvi.services.iam.tables import entities

NOUNS = {"user": "User", "group": "Group", "role": "Role"}

ops = Operations()


@ops
def simulate_principal_policy(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a user, group or role may do, with further policies if given.

    req: PolicySourceArn, ActionNames; ResourceArns ('*'), PolicyInputList, PermissionsBoundaryPolicyInputList (in place of the
        entity's boundary), ResourcePolicy and ResourceOwner, CallerArn, ContextEntries.
    Errors: NoSuchEntity - no such user, group or role; InvalidInput - not the ARN of one, or a policy is malformed.
    Differs: MatchedStatements carry no positions. ResourceHandlingOption and PolicyExclusionList are not built.
    """
    refuse_unbuilt(req)
    noun, entity = source_of(ctx, req["PolicySourceArn"])
    own = [*policies_of(ctx, noun, entity), *given(req, "PolicyInputList")]
    boundary = boundary_of(ctx, entity)
    bounds = given(req, "PermissionsBoundaryPolicyInputList") or ([boundary] if boundary else [])
    caller = caller_of(ctx, noun, entity)
    return results(
        ctx, req, caller, own, bounds, {"aws:PrincipalTag/" + key: tag["Value"] for key, tag in tags_by_key(entity).items()}
    )


@ops
def simulate_custom_policy(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """What given policies allow together.

    req: PolicyInputList, ActionNames; the rest as for SimulatePrincipalPolicy.
    Errors: InvalidInput - a policy is malformed.
    Differs: MatchedStatements carry no positions. ResourceHandlingOption is not built.
    """
    refuse_unbuilt(req)
    caller = Principal("user", ctx.account, "", "")
    return results(ctx, req, caller, given(req, "PolicyInputList"), given(req, "PermissionsBoundaryPolicyInputList"), {})


@ops
def get_context_keys_for_custom_policy(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:  # noqa: ARG001
    """The condition keys and variables that given policies refer to.

    Errors: InvalidInput - a policy is malformed.
    """
    return {"ContextKeyNames": keys_of(given(req, "PolicyInputList"))}


@ops
def get_context_keys_for_principal_policy(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The condition keys and variables that the policies of a user, group or role refer to.

    Errors: NoSuchEntity; InvalidInput - not the ARN of one, or a policy is malformed.
    """
    noun, entity = source_of(ctx, req["PolicySourceArn"])
    return {"ContextKeyNames": keys_of([*policies_of(ctx, noun, entity), *given(req, "PolicyInputList")])}


# -- who and what -------------------------------------------------------------------------------------------------------


def refuse_unbuilt(req: Mapping[str, Any]) -> None:
    for member in ("ResourceHandlingOption", "PolicyExclusionList"):
        if req.get(member):
            raise Unsupported(f"{member} is not built into this cloud yet.")


def source_of(ctx: Context, arn: str) -> tuple[str, Mapping[str, Any]]:
    """The noun and row of the user, group or role that an ARN names."""
    parts = Arn.parse(arn)
    kind, _, path = parts.resource.partition("/") if parts is not None and parts.service == "iam" else ("", "", "")
    if kind not in NOUNS or not path:
        raise ServiceError("InvalidInput", f"Invalid Entity Arn: {arn} does not clearly define entity type and name.")
    name = path.rpartition("/")[2]
    if parts is not None and parts.account != ctx.account:
        raise NotFound(f"The {kind} with name {name} cannot be found.")
    return NOUNS[kind], find(ctx, NOUNS[kind], name).value


def caller_of(ctx: Context, noun: str, entity: Mapping[str, Any]) -> Principal:
    if noun == "Role":
        session = f"arn:aws:sts::{ctx.account}:assumed-role/{entity['RoleName']}/simulation"
        return Principal("assumed-role", ctx.account, session, f"{entity['RoleId']}:simulation", "simulation", entity["Arn"])
    if noun == "User":
        return Principal("user", ctx.account, entity["Arn"], entity["UserId"], entity["UserName"])
    return Principal("user", ctx.account, "", "")


def policies_of(ctx: Context, noun: str, entity: Mapping[str, Any]) -> Iterator[Policy]:
    """Inline, managed and group policies, each naming its source as IAM does."""
    name = entity[f"{noun}Name"]
    for policy_name, document in entity["_inline"].items():
        yield parse(document, "identity", f"{noun.lower()}_{name}_{policy_name}")
    for arn in entity["_attached"]:
        if (document := document_of(ctx, arn)) is not None:
            yield parse(document, "identity", arn.rpartition("/")[2])
    for group in entity.get("_groups", ()):
        yield from policies_of(ctx, "Group", entities(ctx, "Group").get(group))


def boundary_of(ctx: Context, entity: Mapping[str, Any]) -> Policy | None:
    arn = entity.get("_boundary")
    document = document_of(ctx, arn) if arn else None
    return parse(document, "identity", str(arn).rpartition("/")[2]) if document else None


def document_of(ctx: Context, arn: str) -> str | None:
    if (builtin := managed.find(arn)) is not None:
        return builtin.document
    row = usage.find_policy_row(ctx, arn)
    return row.value["_versions"][row.value["DefaultVersionId"]]["Document"] if row is not None else None


def given(req: Mapping[str, Any], member: str) -> list[Policy]:
    """The policies a request brings along."""
    try:
        return [parse(text, "identity", f"{member}.{number}") for number, text in enumerate(req.get(member, ()), 1)]
    except MalformedPolicy as error:
        raise ServiceError("InvalidInput", str(error)) from error


def keys_of(policies: Sequence[Policy]) -> list[str]:
    return sorted(frozenset().union(*(policy.context_keys for policy in policies)))


# -- the answer ---------------------------------------------------------------------------------------------------------


def results(
    ctx: Context,
    req: Mapping[str, Any],
    caller: Principal,
    own: Sequence[Policy],
    bounds: Sequence[Policy],
    tags: dict[str, str],
) -> Mapping[str, Any]:
    """One page of decisions: every action on every resource."""
    if len(bounds) > 1:
        raise Invalid("Only one permissions boundary policy can be given.")
    for action in req["ActionNames"]:
        if action != "*" and not all(action.partition(":")[::2]):
            raise ServiceError("InvalidInput", f"Invalid Action Name: {action}")
    if caller_arn := req.get("CallerArn"):
        caller = named_caller(caller_arn)
    simulated = simulate(
        caller,
        ctx.account,
        PolicySet(identity=tuple(own), boundary=bounds[0] if bounds else None),
        req["ActionNames"],
        req.get("ResourceArns") or ("*",),
        known_of(caller) | tags | entries(req),
        resource_policy=resource_policy(req),
        resource_account=owner_of(req),
    )
    shown = {f"{number:06d}": shown_result(found) for number, found in enumerate(simulated)}
    return page(req, "EvaluationResults", lambda after: ((id, found) for id, found in shown.items() if id > after))


def named_caller(arn: str) -> Principal:
    parts = Arn.parse(arn)
    if parts is None or not parts.resource.startswith("user/"):
        raise ServiceError("InvalidInput", f"Invalid CallerArn: {arn}. It must be the ARN of an IAM user.")
    return Principal("user", parts.account, arn, "", parts.resource.rpartition("/")[2])


def known_of(caller: Principal) -> dict[str, Any]:
    """What the identity of a caller says by itself."""
    keys = {
        "aws:PrincipalArn": caller.issuer_arn or caller.arn,
        "aws:PrincipalAccount": caller.account,
        "aws:userid": caller.user_id,
        "aws:username": caller.name if caller.kind == "user" else "",
    }
    return {key: value for key, value in keys.items() if value and caller.arn}


def entries(req: Mapping[str, Any]) -> dict[str, Any]:
    """The condition keys a request supposes."""
    found: dict[str, Any] = {}
    for entry in req.get("ContextEntries", ()):
        values = entry.get("ContextKeyValues", [])
        is_list = entry.get("ContextKeyType", "").endswith("List") or len(values) > 1
        found[entry["ContextKeyName"]] = values if is_list else "".join(values)
    return found


def resource_policy(req: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if not req.get("ResourcePolicy"):
        return None
    try:
        parse(req["ResourcePolicy"], "resource")
    except MalformedPolicy as error:
        raise ServiceError("InvalidInput", str(error)) from error
    document: Mapping[str, Any] = json.loads(req["ResourcePolicy"])
    return document


def owner_of(req: Mapping[str, Any]) -> str:
    """The account that owns the resources: ResourceOwner is its ARN, else it is the caller's."""
    owner = str(req.get("ResourceOwner", ""))
    parts = Arn.parse(owner)
    return parts.account if parts is not None else owner


def shown_result(found: Simulation) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "EvalActionName": found.action,
        "EvalResourceName": found.resource,
        "EvalDecision": found.decision,
        "MatchedStatements": [shown_match(match) for match in found.matched if match.role != "boundary"],
        "MissingContextValues": list(found.missing),
    }
    if found.allowed_by_boundary is not None:
        shown["PermissionsBoundaryDecisionDetail"] = {"AllowedByPermissionsBoundary": found.allowed_by_boundary}
    return shown


def shown_match(match: Match) -> dict[str, str]:
    if match.role == "resource":
        return {"SourcePolicyId": "ResourcePolicy", "SourcePolicyType": "Resource Policy"}
    return {"SourcePolicyId": match.source, "SourcePolicyType": "IAM Policy"}
