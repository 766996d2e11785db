"""STS: who am I, and temporary credentials. The credentials themselves are made by the identities of the IAM service."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from pilvi.auth.identity import Identity
from pilvi.auth.policy import GlobalContext, MalformedPolicy, global_context, parse
from pilvi.core.arn import Arn
from pilvi.core.errors import Denied, Invalid, ServiceError, Unsupported
from pilvi.core.service import Access, Context, Operations, Service

ROOT_SESSION_LIMIT_S = 3600
PACKED_POLICY_BYTES = 2048

ops = Operations()


@ops.anywhere
async def get_caller_identity(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:  # noqa: ARG001
    """Who signed this request. Needs no permission; the busiest call of every SDK, so it does nothing else."""
    caller = ctx.principal
    return {"UserId": caller.user_id, "Account": caller.account, "Arn": caller.arn}


@ops
def assume_role(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Temporary credentials of a role that trusts the caller.

    req: RoleArn; RoleSessionName (2-64); DurationSeconds (900 up to the role's maximum, 3600 when a role assumes a role);
        Policy and PolicyArns (at most 10) narrow the session; Tags, TransitiveTagKeys, ExternalId, SourceIdentity.
    Errors: AccessDenied - the role is missing, does not trust the caller, or the caller is the root user or may not call this;
        ValidationError - the duration is too long; MalformedPolicyDocument; PackedPolicyTooLarge.
    Source: STS API reference, AssumeRole; IAM User Guide, "Methods to assume a role".
    Differs: the packed size is that of deflate, which AWS does not disclose. A SerialNumber is refused: sessions carry no MFA yet.
    """
    if ctx.principal.kind == "root":
        raise Denied("Roles may not be assumed by root accounts.")
    refuse_mfa(req)
    if req.get("ProvidedContexts"):
        raise Unsupported("ProvidedContexts are not built into this cloud yet.")
    if Arn.parse(req["RoleArn"]) is None:
        raise Invalid(f"{req['RoleArn']} is invalid")
    tags = session_tags(req)
    if missing := [key for key in req.get("TransitiveTagKeys", ()) if key not in tags]:
        raise Invalid(f"The specified transitive tag key must be included in the requested tags: {', '.join(missing)}")
    packed = packed_size(req)
    identity = ctx.cloud.identities.assume_role(
        ctx.principal,
        req["RoleArn"],
        req["RoleSessionName"],
        duration_s=req.get("DurationSeconds", 3600),
        policy=session_policy(req),
        policy_arns=policy_arns(req),
        tags=tags,
        external_id=req.get("ExternalId"),
        source_identity=req.get("SourceIdentity"),
        transitive_tags=req.get("TransitiveTagKeys", ()),
        calling=ctx.identity,
        facts=facts_of(ctx),
    )
    return {
        "Credentials": credentials(identity),
        "AssumedRoleUser": {"AssumedRoleId": identity.principal.user_id, "Arn": identity.principal.arn},
        "PackedPolicySize": packed,
        "SourceIdentity": identity.session["source_identity"] or None,
    }


@ops
def get_session_token(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Temporary credentials of the calling user.

    req: DurationSeconds (900-129600, default 43200; at most 3600 for the root user).
    Errors: AccessDenied - called with temporary credentials.
    Source: STS API reference, GetSessionToken.
    """
    refuse_sessions(ctx)
    refuse_mfa(req)
    duration_s = req.get("DurationSeconds", 43200)
    if ctx.principal.kind == "root":
        duration_s = min(duration_s, ROOT_SESSION_LIMIT_S)
    return {"Credentials": credentials(ctx.cloud.identities.session_token(ctx.principal, duration_s=duration_s))}


@ops
def get_federation_token(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Temporary credentials that may do what both the calling user and the passed policies allow.

    req: Name (2-32); Policy, PolicyArns (without either, only resource policies can grant something); Tags;
        DurationSeconds (900-129600, default 43200; at most 3600 for the root user).
    Errors: AccessDenied - called with temporary credentials; MalformedPolicyDocument; PackedPolicyTooLarge.
    Source: STS API reference, GetFederationToken.
    """
    refuse_sessions(ctx)
    packed = packed_size(req)
    duration_s = req.get("DurationSeconds", 43200)
    if ctx.principal.kind == "root":
        duration_s = min(duration_s, ROOT_SESSION_LIMIT_S)
    identity = ctx.cloud.identities.federation_token(
        ctx.principal,
        req["Name"],
        duration_s=duration_s,
        policy=session_policy(req),
        policy_arns=policy_arns(req),
        tags=session_tags(req),
    )
    return {
        "Credentials": credentials(identity),
        "FederatedUser": {"FederatedUserId": identity.principal.user_id, "Arn": identity.principal.arn},
        "PackedPolicySize": packed,
    }


@ops
def get_access_key_info(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The account an access key belongs to: key ids carry it, so this says nothing about whether the key exists.

    Errors: ValidationError - the id is not of the form that carries an account.
    Source: STS API reference, GetAccessKeyInfo.
    """
    account = ctx.cloud.identities.account_of_key(req["AccessKeyId"])
    if account is None:
        raise Invalid(f"Invalid Access Key ID: {req['AccessKeyId']}")
    return {"Account": account}


# -- who may ------------------------------------------------------------------------------------------------------------


def access(ctx: Context, operation: str, req: Mapping[str, Any]) -> Sequence[Access]:
    """AssumeRole is asked of the role: its trust policy is the resource policy, so a principal it names needs nothing else."""
    if operation == "AssumeRole":
        return role_access(ctx, req)
    if operation in ("GetCallerIdentity", "GetSessionToken"):
        return ()
    if operation == "GetFederationToken" and is_session(ctx):
        return ()  # refused by the operation itself, in AWS's words
    if operation == "GetFederationToken":
        return (Access("sts:GetFederationToken", f"arn:aws:sts::{ctx.account}:federated-user/{req['Name']}"),)
    return (Access(f"sts:{operation}"),)


def role_access(ctx: Context, req: Mapping[str, Any]) -> Sequence[Access]:
    role_arn = req["RoleArn"]
    parts = Arn.parse(role_arn)
    if parts is None or ctx.principal.kind == "root":
        return ()  # refused by the operation itself, in AWS's words
    trust = ctx.cloud.identities.trust_policy(role_arn)
    context: dict[str, Any] = {"sts:RoleSessionName": req["RoleSessionName"]}
    if "ExternalId" in req:
        context["sts:ExternalId"] = req["ExternalId"]
    if "SourceIdentity" in req:
        context["sts:SourceIdentity"] = req["SourceIdentity"]
    if req.get("Tags"):
        context |= {f"aws:RequestTag/{tag['Key']}": tag["Value"] for tag in req["Tags"]}
        context["aws:TagKeys"] = [tag["Key"] for tag in req["Tags"]]
    actions = ["sts:AssumeRole"]
    if req.get("Tags"):
        actions.append("sts:TagSession")
    if req.get("SourceIdentity"):
        actions.append("sts:SetSourceIdentity")
    return [Access(action, role_arn, trust, parts.account, context) for action in actions]


# -- parts of requests and answers --------------------------------------------------------------------------------------


def facts_of(ctx: Context) -> GlobalContext:
    """What is known of the request, for the conditions of a trust policy."""
    return global_context(
        ctx.principal,
        now=ctx.clock.now,
        source_ip=ctx.source_ip,
        secure=ctx.secure,
        region=ctx.region,
        user_agent=ctx.user_agent,
        identity=ctx.identity,
    )


def credentials(identity: Identity) -> Mapping[str, Any]:
    return {
        "AccessKeyId": identity.access_key_id,
        "SecretAccessKey": identity.secret,
        "SessionToken": identity.session_token,
        "Expiration": identity.expires,
    }


def is_session(ctx: Context) -> bool:
    return ctx.principal.access_key_id.startswith("ASIA")


def refuse_sessions(ctx: Context) -> None:
    if is_session(ctx):
        raise Denied(f"Cannot call {ctx.operation} with session credentials")


def refuse_mfa(req: Mapping[str, Any]) -> None:
    if req.get("SerialNumber") or req.get("TokenCode"):
        raise Denied(
            "MultiFactorAuthentication failed, unable to validate MFA code.  "
            "Please verify your MFA serial number is valid and associated with this user."
        )


def session_policy(req: Mapping[str, Any]) -> str | None:
    """The session policy of a request, known to be well formed."""
    document: str | None = req.get("Policy")
    if document:
        try:
            parse(document, "identity")
        except MalformedPolicy as error:
            raise ServiceError("MalformedPolicyDocument", str(error)) from error
    return document


def policy_arns(req: Mapping[str, Any]) -> list[str]:
    arns = [entry["arn"] for entry in req.get("PolicyArns", ()) if "arn" in entry]
    if len(arns) > 10:
        raise Invalid("The number of policy ARNs exceeds the limit of 10.")
    return arns


def session_tags(req: Mapping[str, Any]) -> dict[str, str]:
    tags = {tag["Key"]: tag["Value"] for tag in req.get("Tags", ())}
    if len({key.lower() for key in tags}) < len(req.get("Tags", ())):
        raise Invalid("Duplicate tag keys found. Please note that Tag keys are case insensitive.")
    return tags


def packed_size(req: Mapping[str, Any]) -> int | None:
    """Per cent of what a session token has room for, of policies and tags together; None when there are none."""
    text = "\n".join(
        [req.get("Policy", ""), *policy_arns(req)] + [f"{tag['Key']}={tag['Value']}" for tag in req.get("Tags", ())]
    ).strip()
    if not text:
        return None
    percent = -(-100 * len(zlib.compress(text.encode())) // PACKED_POLICY_BYTES)
    if percent > 100:
        raise ServiceError("PackedPolicyTooLarge", f"Packed size of session tags consumes {percent}% of allotted space.")
    return percent


service = Service("sts", ops, access=access, errors={Denied: "AccessDenied", Invalid: "ValidationError"})
