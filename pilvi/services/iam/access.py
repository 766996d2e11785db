"""Which permission an IAM call needs, on which entity.

Source: Service Authorization Reference, "Actions, resources, and condition keys for AWS IAM".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pilvi.core.errors import ServiceError
from pilvi.core.service import Access, Context
from pilvi.services.iam.entity import SERVICE_ROLE_PATH, arn_of
from pilvi.services.iam.service_linked_role import LINKED
from pilvi.services.iam.tables import entities

LISTS = {
    "ListUsers": "user",
    "ListGroups": "group",
    "ListRoles": "role",
    "ListPolicies": "policy",
    "ListInstanceProfiles": "instance-profile",
}
CREATIONS = {
    "CreateUser": ("user", "UserName"),
    "CreateGroup": ("group", "GroupName"),
    "CreateRole": ("role", "RoleName"),
    "CreatePolicy": ("policy", "PolicyName"),
    "CreateInstanceProfile": ("instance-profile", "InstanceProfileName"),
    "CreateVirtualMFADevice": ("mfa", "VirtualMFADeviceName"),
}
NAMED = (
    ("InstanceProfileName", "InstanceProfile", "instance-profile"),
    ("RoleName", "Role", "role"),
    ("GroupName", "Group", "group"),
    ("UserName", "User", "user"),
)
"""Request member, noun and ARN kind of what a call is about; the first that is there counts."""
OWN = frozenset({"GetUser", "CreateAccessKey", "ListAccessKeys", "UpdateAccessKey", "DeleteAccessKey", "ListMFADevices"})
"""About the caller where no user is named."""
BY_USER = frozenset({"EnableMFADevice", "ResyncMFADevice", "DeactivateMFADevice", "GetMFADevice"})
"""About the user who holds the MFA device, not about the device."""
RENAMINGS = {"UpdateUser": ("user", "UserName", "NewUserName"), "UpdateGroup": ("group", "GroupName", "NewGroupName")}
"""Both the entity as it is and as it is to be must be allowed. Source: IAM User Guide, "Rename an IAM user"."""
ATTACHING = frozenset(f"{verb}{noun}Policy" for verb in ("Attach", "Detach") for noun in ("User", "Group", "Role"))


def access(ctx: Context, operation: str, req: Mapping[str, Any]) -> Sequence[Access]:
    if ctx.principal.kind in ("user", "root", "federated-user") and ctx.principal.access_key_id.startswith("ASIA"):
        # Source: STS API reference, GetSessionToken: "You cannot call any IAM API operations" without MFA.
        raise ServiceError("InvalidClientTokenId", "The security token included in the request is invalid", 403)
    resource, entity = about(ctx, operation, req)
    needed = [Access(f"iam:{operation}", resource, context=condition_keys(operation, req, entity))]
    if operation in RENAMINGS and entity:
        needed.append(Access(f"iam:{operation}", new_arn(ctx, operation, req, entity)))
    if operation == "AddRoleToInstanceProfile":
        role = entities(ctx, "Role").find(req["RoleName"].lower())
        role_arn = role["Arn"] if role else arn_of(ctx.account, "role", "/", req["RoleName"])
        needed.append(Access("iam:PassRole", role_arn, context={"iam:PassedToService": "ec2.amazonaws.com"}))
    return needed


def about(ctx: Context, operation: str, req: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """The ARN a call is about, and the entity's row where there is one."""
    if operation in LISTS:
        return arn_of(ctx.account, LISTS[operation], req.get("PathPrefix", "/"), ""), {}
    if operation in CREATIONS:
        kind, member = CREATIONS[operation]
        return arn_of(ctx.account, kind, req.get("Path", "/"), req[member]), {}
    if operation == "CreateServiceLinkedRole":
        service = req["AWSServiceName"]
        name = LINKED[service].role_name if service in LINKED else "*"
        return arn_of(ctx.account, "role", f"{SERVICE_ROLE_PATH}{service}/", name), {}
    if "SerialNumber" in req and operation not in BY_USER:
        return req["SerialNumber"], entities(ctx, "MFADevice").find(req["SerialNumber"]) or {}
    for member, noun, kind in NAMED:
        if member in req:
            entity = entities(ctx, noun).find(req[member].lower()) or {}
            return entity.get("Arn") or arn_of(ctx.account, kind, "/", req[member]), entity
    if operation in OWN:
        return ctx.principal.issuer_arn or ctx.principal.arn, {}
    return req.get("PolicyArn") or req.get("PolicySourceArn") or "*", {}


def new_arn(ctx: Context, operation: str, req: Mapping[str, Any], entity: Mapping[str, Any]) -> str:
    kind, member, new = RENAMINGS[operation]
    return arn_of(ctx.account, kind, req.get("NewPath", entity["Path"]), req.get(new, entity[member]))


def condition_keys(operation: str, req: Mapping[str, Any], entity: Mapping[str, Any]) -> dict[str, Any]:
    keys: dict[str, Any] = {}
    if operation in ATTACHING:
        keys["iam:PolicyARN"] = req["PolicyArn"]
    if boundary := req.get("PermissionsBoundary") or entity.get("_boundary"):
        keys["iam:PermissionsBoundary"] = boundary
    if operation == "CreateServiceLinkedRole":
        keys["iam:AWSServiceName"] = req["AWSServiceName"]
    for tag in req.get("Tags", ()):
        keys[f"aws:RequestTag/{tag['Key']}"] = tag["Value"]
    if tag_keys := [tag["Key"] for tag in req.get("Tags", ())] or req.get("TagKeys"):
        keys["aws:TagKeys"] = tag_keys
    for tag in entity.get("Tags", ()):
        keys[f"aws:ResourceTag/{tag['Key']}"] = keys[f"iam:ResourceTag/{tag['Key']}"] = tag["Value"]
    return keys
