"""Access control lists: what requests ask for, how rows keep them, what they answer, and whom they let in.

A list is kept as `[grantee, permission]` pairs; a grantee is a canonical id or one of the groups. No list means: full control for
the owner and nothing for anybody else. Under BucketOwnerEnforced, which new buckets have, lists are off and count for nothing.

Source: S3 User Guide, "Access control list (ACL) overview": grantees, permissions, their mapping to actions, canned ACLs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pilvi.auth.principals import ACCOUNT, EVERYBODY, NOBODY, PERSONALLY, canonical_id
from pilvi.core.errors import ServiceError
from pilvi.core.principal import Principal
from pilvi.core.service import Context
from pilvi.services.s3.catalog import Bucket
from pilvi.services.s3.errors import access_denied, invalid_argument, invalid_request

Grants = Sequence[Sequence[str]]

GROUP_URI = "http://acs.amazonaws.com/groups/"
GROUPS = {"AllUsers": "global/AllUsers", "AuthenticatedUsers": "global/AuthenticatedUsers", "LogDelivery": "s3/LogDelivery"}
BY_URI = {GROUP_URI + path: name for name, path in GROUPS.items()}
PUBLIC = ("AllUsers", "AuthenticatedUsers")
PERMISSIONS = ("FULL_CONTROL", "WRITE", "WRITE_ACP", "READ", "READ_ACP")
LOG_SERVICE = "logging.s3.amazonaws.com"
EC2_ID = "6aa5a366c34c1cbe25dc49211496e913e0351eb0e8c37aa3477e40942ec6b97c"
"""The canonical id that aws-exec-read means."""
GRANTS_LIMIT = 100

CANNED: dict[str, tuple[tuple[str, str], ...]] = {
    "private": (),
    "public-read": (("AllUsers", "READ"),),
    "public-read-write": (("AllUsers", "READ"), ("AllUsers", "WRITE")),
    "authenticated-read": (("AuthenticatedUsers", "READ"),),
    "aws-exec-read": ((EC2_ID, "READ"),),
    "log-delivery-write": (("LogDelivery", "WRITE"), ("LogDelivery", "READ_ACP")),
    "bucket-owner-read": (("OWNER", "READ"),),
    "bucket-owner-full-control": (("OWNER", "FULL_CONTROL"),),
}
"""What each canned ACL grants beside full control for the owner; OWNER is the bucket's."""

GRANT_HEADERS = {
    "GrantFullControl": ("FULL_CONTROL", "x-amz-grant-full-control"),
    "GrantRead": ("READ", "x-amz-grant-read"),
    "GrantReadACP": ("READ_ACP", "x-amz-grant-read-acp"),
    "GrantWrite": ("WRITE", "x-amz-grant-write"),
    "GrantWriteACP": ("WRITE_ACP", "x-amz-grant-write-acp"),
}

BUCKET_GRANTS = {
    "s3:ListBucket": "READ",
    "s3:ListBucketVersions": "READ",
    "s3:ListBucketMultipartUploads": "READ",
    "s3:PutObject": "WRITE",
    "s3:GetBucketAcl": "READ_ACP",
    "s3:PutBucketAcl": "WRITE_ACP",
}
OBJECT_GRANTS = {
    "s3:GetObject": "READ",
    "s3:GetObjectVersion": "READ",
    "s3:GetObjectAcl": "READ_ACP",
    "s3:GetObjectVersionAcl": "READ_ACP",
    "s3:PutObjectAcl": "WRITE_ACP",
    "s3:PutObjectVersionAcl": "WRITE_ACP",
}
"""Which permission of a list allows an action."""


# -- what a request asks for ------------------------------------------------------------------------------------------------


def speaks_of_acl(req: Mapping[str, Any]) -> bool:
    return "ACL" in req or any(name in req for name in GRANT_HEADERS)


def requested(ctx: Context, req: Mapping[str, Any], owner: str, bucket_owner: str) -> Grants | None:
    """The list that the headers of a request ask for; None when they ask for none, or for what holds anyway.

    owner: the account of what the list is for. bucket_owner: the account of the bucket.
    Errors: InvalidArgument - unknown canned ACL, grantee or group; InvalidRequest - a canned ACL and grants at once;
    MethodNotAllowed - a grantee by e-mail address.
    """
    canned = req.get("ACL")
    headers = [(member, req[member]) for member in GRANT_HEADERS if member in req]
    if canned is not None:
        if headers:
            raise invalid_request("Specifying both Canned ACLs and Header Grants is not allowed")
        return canned_grants(canned, owner, bucket_owner)
    if not headers:
        return None
    grants: list[list[str]] = []
    for member, text in headers:
        permission, header = GRANT_HEADERS[member]
        grants += ([grantee, permission] for grantee in grantees_of(ctx, header, text))
    return grants


def canned_grants(canned: str, owner: str, bucket_owner: str) -> Grants | None:
    extra = CANNED.get(canned)
    if extra is None:
        raise invalid_argument("", "x-amz-acl", canned)
    mine, owners = canonical_id(owner), canonical_id(bucket_owner)
    named = [[owners if grantee == "OWNER" else grantee, permission] for grantee, permission in extra]
    more = [grant for grant in named if grant[0] != mine]
    return [[mine, "FULL_CONTROL"], *more] if more else None


_GRANTEE = re.compile(r"\s*([A-Za-z]+)\s*=\s*(?:\"([^\"]*)\"|([^\s,\"]+))\s*")


def grantees_of(ctx: Context, header: str, text: str) -> list[str]:
    """`id="...", uri="http://..."`"""
    found = []
    for part in text.split(","):
        match = _GRANTEE.fullmatch(part)
        if match is None:
            raise invalid_argument("Argument format not recognized", header, text)
        found.append(checked_grantee(ctx, match[1].lower(), match[2] if match[2] is not None else match[3]))
    return found


def checked_grantee(ctx: Context, kind: str, value: str) -> str:
    """Errors: InvalidArgument - no such account or group; MethodNotAllowed - e-mail addresses, as AWS answers since October 2025."""
    if kind == "emailaddress":
        raise ServiceError("MethodNotAllowed", "The specified method is not allowed against this resource.", 405)
    if kind == "uri":
        group = BY_URI.get(value)
        if group is None:
            raise invalid_argument("Invalid group uri", "uri", value)
        return group
    if kind != "id":
        raise invalid_argument("Argument format not recognized", kind, value)
    if not is_known_id(ctx, value):
        raise invalid_argument("Invalid id", "CanonicalUser/ID", value)
    return value


def is_known_id(ctx: Context, text: str) -> bool:
    """Whether an account has this canonical id."""
    return text == EC2_ID or any(canonical_id(account) == text for account in ctx.cloud.identities.accounts())


def grants_of_document(ctx: Context, policy: Mapping[str, Any], owner: str) -> list[list[str]]:
    """The list of an AccessControlPolicy document.

    Errors: MalformedACLError; AccessDenied - it names another owner; InvalidArgument; MethodNotAllowed.
    """
    named = (policy.get("Owner") or {}).get("ID")
    if named is None:
        raise malformed_acl()
    if named != canonical_id(owner):
        raise access_denied()
    listed = policy.get("Grants") or []
    if len(listed) > GRANTS_LIMIT:
        raise malformed_acl()
    grants = []
    for grant in listed:
        grantee, permission = grant.get("Grantee") or {}, grant.get("Permission")
        if permission not in PERMISSIONS:
            raise malformed_acl()
        grants.append([grantee_of_document(ctx, grantee), permission])
    return grants


def grantee_of_document(ctx: Context, grantee: Mapping[str, Any]) -> str:
    for kind, member in (("id", "ID"), ("uri", "URI"), ("emailaddress", "EmailAddress")):
        if member in grantee:
            return checked_grantee(ctx, kind, grantee[member])
    raise malformed_acl()


def malformed_acl() -> ServiceError:
    return ServiceError(
        "MalformedACLError", "The XML you provided was not well-formed or did not validate against our published schema", 400
    )


# -- new objects ------------------------------------------------------------------------------------------------------------


def mark_owner(ctx: Context, bucket: Bucket, req: Mapping[str, Any], value: dict[str, Any]) -> None:
    """Say in a new object's row whose it is and who may use it, where that is not simply the bucket's owner and nobody else.

    Errors: AccessControlListNotSupported - lists are off; AccessDenied - public, and BlockPublicAcls is on; as `requested`.
    Source: S3 User Guide, "Controlling ownership of objects and disabling ACLs".
    """
    value.pop("acl", None)
    if not bucket.has_acls:
        if speaks_of_acl(req):
            check_enforced(ctx, bucket, req)
        return
    owner = owner_of_new(ctx.principal, bucket, req.get("ACL"))
    grants = requested(ctx, req, owner, bucket.account)
    if grants is not None:
        check_not_public(ctx, bucket, grants, "s3:PutObjectAcl", bucket.object_arn(req["Key"]))
        value["acl"] = [list(grant) for grant in grants]
    if owner != bucket.account:
        value["owner"] = owner


def owner_of_new(principal: Principal, bucket: Bucket, canned: str | None) -> str:
    """The account that owns what this caller puts."""
    if principal.kind == "service" or (bucket.ownership == "BucketOwnerPreferred" and canned == "bucket-owner-full-control"):
        return bucket.account
    return principal.account


def check_enforced(ctx: Context, bucket: Bucket, req: Mapping[str, Any]) -> None:
    """Lists are off; the canned ones that say what holds anyway are accepted, and so is full control for the owner in other words."""
    if "ACL" in req:
        if req["ACL"] not in ("private", "bucket-owner-full-control"):
            canned_grants(req["ACL"], bucket.account, bucket.account)
            raise acl_not_supported()
        return
    grants = requested(ctx, req, bucket.account, bucket.account) or ()
    if [list(grant) for grant in grants] != [[canonical_id(bucket.account), "FULL_CONTROL"]]:
        raise acl_not_supported()


def acl_not_supported() -> ServiceError:
    return ServiceError("AccessControlListNotSupported", "The bucket does not allow ACLs", 400)


def is_public_list(grants: Grants | None) -> bool:
    """Whether everybody, or everybody with an account, is granted something."""
    return any(grantee in PUBLIC for grantee, _ in grants or ())


def check_not_public(ctx: Context, bucket: Bucket, grants: Grants, action: str, resource: str) -> None:
    if bucket.block.block_acls and is_public_list(grants):
        if ctx.principal.account != bucket.account:
            raise access_denied()
        raise access_denied(
            f'User: {ctx.principal.arn or ctx.principal.name} is not authorized to perform: {action} on resource: "{resource}" '
            "because public access control lists (ACLs) are prevented by the BlockPublicAcls setting in S3 Block Public Access."
        )


# -- answers ----------------------------------------------------------------------------------------------------------------


def answer(owner: str, grants: Grants | None) -> dict[str, Any]:
    """What GetBucketAcl and GetObjectAcl say of an account's list."""
    mine = canonical_id(owner)
    listed: Iterable[Sequence[str]] = [(mine, "FULL_CONTROL")] if grants is None else grants
    return {
        "Owner": {"ID": mine},
        "Grants": [{"Grantee": grantee_entry(grantee), "Permission": permission} for grantee, permission in listed],
    }


def grantee_entry(grantee: str) -> dict[str, str]:
    if grantee in GROUPS:
        return {"Type": "Group", "URI": GROUP_URI + GROUPS[grantee]}
    return {"Type": "CanonicalUser", "ID": grantee}


# -- who gets in ------------------------------------------------------------------------------------------------------------


def closeness(caller: Principal, grants: Grants | None, permission: str, *, ignores_public: bool) -> int:
    """How closely a list lets a caller in (pilvi.auth.principals.Grant)."""
    if grants is None:
        return NOBODY
    if caller.kind == "service":
        is_named = caller.name == LOG_SERVICE and any(to == "LogDelivery" and what == permission for to, what in grants)
        return PERSONALLY if is_named else NOBODY
    best: int = NOBODY
    for grantee, held in grants:
        if held not in (permission, "FULL_CONTROL"):
            continue
        if grantee in PUBLIC:
            if not ignores_public and (grantee == "AllUsers" or caller.kind != "anonymous"):
                return EVERYBODY
        elif caller.kind != "anonymous" and grantee == canonical_id(caller.account):
            best = ACCOUNT
    return best
