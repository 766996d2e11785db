"""Who else may call: resource policies of functions, and of layer versions."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pilvi.core.arn import Arn
from pilvi.core.errors import AlreadyExists, Conflict, ServiceError
from pilvi.core.service import Context, Operations
from pilvi.services.lambda_.layer import find_layer
from pilvi.services.lambda_.names import (
    LATEST,
    FunctionRef,
    LayerRef,
    conflict,
    function_ref,
    invalid,
    layer_ref,
    not_found,
    stale_revision,
    version_id,
)
from pilvi.services.lambda_.version import find_version
from pilvi.storage.records import Rows

if TYPE_CHECKING:
    from types_boto3_lambda import type_defs as t

ops = Operations()

POLICY_BYTES = 20480
"""Source: Lambda quotas, "Resource-based policy"."""


@ops
def add_permission(ctx: Context, req: t.AddPermissionRequestTypeDef) -> Mapping[str, Any]:
    """Let a service, an account, a user or role, or everybody, do something with a function, a version or an alias.

    req: StatementId, Action (lambda:...), Principal; SourceArn, SourceAccount, PrincipalOrgID, EventSourceToken,
    FunctionUrlAuthType narrow it down; Qualifier; RevisionId.
    Errors: ResourceNotFoundException; ResourceConflictException - the id is taken; InvalidParameterValueException - no such
    kind of principal, or Qualifier is $LATEST; PolicyLengthExceededException - over 20 KB; PreconditionFailedException.
    Source: Lambda API reference, AddPermission; developer guide, "Viewing resource-based IAM policies in Lambda".
    """
    ref = _policy_of(ctx, req)
    statement: dict[str, Any] = {
        "Sid": req["StatementId"],
        "Effect": "Allow",
        "Principal": principal_of(req["Principal"]),
        "Action": req["Action"],
        "Resource": ref.qualified_arn,
    }
    if condition := _condition_of(req):
        statement["Condition"] = condition
    rows, row_id = ctx.records("Policy", account=ref.account), _row_id(ref)
    _add(ctx, rows, row_id, statement, req)
    return {"Statement": json.dumps(statement, separators=(",", ":"))}


@ops
def remove_permission(ctx: Context, req: t.RemovePermissionRequestTypeDef) -> None:
    """Take a statement away. Errors: ResourceNotFoundException - "Statement ID is not found in resource policy."."""
    ref = _policy_of(ctx, req)
    _remove(ctx, ctx.records("Policy", account=ref.account), _row_id(ref), req, "Statement ID is not found in resource policy.")


@ops
def get_policy(ctx: Context, req: t.GetPolicyRequestTypeDef) -> Mapping[str, Any]:
    """The policy as JSON text. Errors: ResourceNotFoundException - there is none."""
    ref = _policy_of(ctx, req)
    return _shown(ctx.records("Policy", account=ref.account), _row_id(ref))


@ops
def add_layer_version_permission(ctx: Context, req: t.AddLayerVersionPermissionRequestTypeDef) -> Mapping[str, Any]:
    """Share a layer version with an account ('*': with all).

    Errors: ResourceNotFoundException; ResourceConflictException - the id is taken.
    Differs: OrganizationId is written into the policy, but there are no organizations here.
    """
    ref = _layer_policy_of(ctx, req)
    if req["Action"] != "lambda:GetLayerVersion":
        raise invalid("Only lambda:GetLayerVersion can be granted on a layer version.")
    statement: dict[str, Any] = {
        "Sid": req["StatementId"],
        "Effect": "Allow",
        "Principal": principal_of(req["Principal"]),
        "Action": req["Action"],
        "Resource": ref.version_arn,
    }
    if organization := req.get("OrganizationId"):
        statement["Condition"] = {"StringEquals": {"aws:PrincipalOrgID": organization}}
    revision = _add(ctx, ctx.records("LayerPolicy", account=ref.account), version_id(ref.name, str(ref.version)), statement, req)
    return {"Statement": json.dumps(statement, separators=(",", ":")), "RevisionId": revision}


@ops
def remove_layer_version_permission(ctx: Context, req: t.RemoveLayerVersionPermissionRequestTypeDef) -> None:
    """Take a statement away from a layer version's policy."""
    ref = _layer_policy_of(ctx, req)
    message = f"Statement {req['StatementId']} is not found in resource policy."
    _remove(ctx, ctx.records("LayerPolicy", account=ref.account), version_id(ref.name, str(ref.version)), req, message)


@ops
def get_layer_version_policy(ctx: Context, req: t.GetLayerVersionPolicyRequestTypeDef) -> Mapping[str, Any]:
    """The policy of a layer version as JSON text."""
    ref = _layer_policy_of(ctx, req)
    return _shown(
        ctx.records("LayerPolicy", account=ref.account),
        version_id(ref.name, str(ref.version)),
        f"No policy is associated with the given resource: {ref.version_arn}",
    )


def principal_of(text: str) -> Any:
    """A principal as policies write it."""
    if text == "*":
        return "*"
    if re.fullmatch(r"\d{12}", text):
        return {"AWS": f"arn:aws:iam::{text}:root"}
    parsed = Arn.parse(text)
    if parsed is not None and parsed.service in ("iam", "sts") and re.fullmatch(r"\d{12}", parsed.account):
        return {"AWS": text}
    if re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)*\.(amazonaws\.com(\.cn)?|amazon\.com|alexa\.com)", text) and parsed is None:
        return {"Service": text}
    raise invalid("The provided principal was invalid. Please check the principal and try again.")


def _condition_of(req: Mapping[str, Any]) -> dict[str, Any]:
    equals = {
        key: req[member]
        for member, key in (
            ("SourceAccount", "AWS:SourceAccount"),
            ("EventSourceToken", "lambda:EventSourceToken"),
            ("FunctionUrlAuthType", "lambda:FunctionUrlAuthType"),
            ("PrincipalOrgID", "aws:PrincipalOrgID"),
        )
        if req.get(member)
    }
    out: dict[str, Any] = {"StringEquals": equals} if equals else {}
    if req.get("InvokedViaFunctionUrl") is not None:
        out["Bool"] = {"lambda:InvokedViaFunctionUrl": str(req["InvokedViaFunctionUrl"]).lower()}
    if req.get("SourceArn"):
        out["ArnLike"] = {"AWS:SourceArn": req["SourceArn"]}
    return out


def _policy_of(ctx: Context, req: Mapping[str, Any]) -> FunctionRef:
    """The function, version or alias whose policy is meant; it must exist."""
    ref = function_ref(ctx, req)
    if ref.qualifier == LATEST:
        raise invalid("We currently do not support adding policies for $LATEST.")
    find_version(ctx, ref)
    return ref


def _layer_policy_of(ctx: Context, req: Mapping[str, Any]) -> LayerRef:
    ref = layer_ref(ctx, req["LayerName"], req["VersionNumber"])
    try:
        find_layer(ctx, ref)
    except ServiceError as error:
        raise not_found(f"Layer version {ref.version_arn} does not exist.") from error
    return ref


def _row_id(ref: FunctionRef) -> str:
    return f"{ref.name}/{ref.qualifier}"


def _add(ctx: Context, rows: Rows, row_id: str, statement: dict[str, Any], req: Mapping[str, Any]) -> str:
    while True:
        row = rows.row(row_id)
        record: dict[str, Any] = row.value if row else {"Policy": {"Version": "2012-10-17", "Id": "default", "Statement": []}}
        if req.get("RevisionId") not in (None, record.get("RevisionId")):
            raise stale_revision()
        statements = record["Policy"]["Statement"]
        if any(other["Sid"] == statement["Sid"] for other in statements):
            raise conflict(
                f"The statement id ({statement['Sid']}) provided already exists. "
                "Please provide a new statement id, or remove the existing statement."
            )
        statements.append(statement)
        if (size := len(json.dumps(record["Policy"], separators=(",", ":")))) > POLICY_BYTES:
            raise ServiceError(
                "PolicyLengthExceededException", f"The final policy size ({size}) is bigger than the limit ({POLICY_BYTES})."
            )
        record["RevisionId"] = ctx.ids.uuid()
        try:
            ctx.write(rows.revision(row_id, record, row.version) if row else rows.insertion(row_id, record))
        except (AlreadyExists, Conflict):
            continue
        return str(record["RevisionId"])


def _remove(ctx: Context, rows: Rows, row_id: str, req: Mapping[str, Any], missing: str) -> None:
    while True:
        row = rows.row(row_id)
        statements = row.value["Policy"]["Statement"] if row else []
        rest = [statement for statement in statements if statement["Sid"] != req["StatementId"]]
        if row is None or len(rest) == len(statements):
            raise not_found(missing)
        if req.get("RevisionId") not in (None, row.value["RevisionId"]):
            raise stale_revision()
        record = {"Policy": {**row.value["Policy"], "Statement": rest}, "RevisionId": ctx.ids.uuid()}
        try:
            ctx.write(rows.revision(row_id, record, row.version) if rest else rows.deletion(row_id, row.version))
        except Conflict:
            continue
        return


def _shown(rows: Rows, row_id: str, missing: str = "The resource you requested does not exist.") -> dict[str, Any]:
    found = rows.find(row_id)
    if found is None:
        raise not_found(missing)
    return {"Policy": json.dumps(found["Policy"], separators=(",", ":")), "RevisionId": found["RevisionId"]}
