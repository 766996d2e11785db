"""What Studio's resources refuse alike, and how one finds another: domains, user profiles, spaces, roles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pilvi.core.errors import Invalid, PilviError, ServiceError
from pilvi.core.service import Context
from pilvi.services.sagemaker.job_kind import Record
from pilvi.services.sagemaker.notebook_check import check_role
from pilvi.services.sagemaker.studio_lifecycle_config import NOUN as LIFECYCLE
from pilvi.services.sagemaker.studio_lifecycle_config import find_by_arn

_NOT_BUILT = "is not supported by this server yet."
_MEMBERS = (
    "CustomFileSystemConfigs",
    "CustomFileSystems",
    "RStudioServerProAppSettings",
    "RStudioServerProDomainSettings",
    "RStudioServerProDomainSettingsForUpdate",
    "CanvasAppSettings",
    "EmrSettings",
    "CustomImages",
    "BuiltInLifecycleConfigArn",
)
"""What would have to do something, and does not."""
_SWITCHED = ("AmazonQSettings", "DockerSettings", "IdleSettings", "TrustedIdentityPropagationSettings")
"""The same, unless it is there to be off."""
_SIZE_GB, _MOST_GB = 5, 16384


def find_domain(ctx: Context, id: str) -> Record:
    record = ctx.records("Domain").find(id)
    if record is None:
        raise missing("Domain", id)
    return record


def find_user(ctx: Context, domain: str, name: str) -> Record:
    record = ctx.records("UserProfile").find(f"{domain}/{name}".lower())
    if record is None:
        raise missing("UserProfile", name)
    return record


def find_space(ctx: Context, domain: str, name: str) -> Record:
    record = ctx.records("Space").find(f"{domain}/{name}".lower())
    if record is None:
        raise missing("Space", name)
    return record


def missing(noun: str, name: str) -> ServiceError:
    return ServiceError("ResourceNotFound", f"{noun} [{name}] does not exist.")


def taken(noun: str, arn: str) -> ServiceError:
    return ServiceError("ResourceInUse", f"{noun} [{arn}] already exists.")


def in_use(noun: str, arn: str, others: str) -> ServiceError:
    """Source: messages that users of AWS report."""
    return ServiceError("ResourceInUse", f"Unable to delete {noun} [{arn}] because {others}(s) are associated with it.")


def check_settings(ctx: Context, settings: Mapping[str, Any] | None, arn: str) -> None:
    """Roles that settings name can be assumed, scripts are there, and nothing is asked for that is not built."""
    for name, value in _members(settings or {}):
        if name == "ExecutionRole":
            check_role(ctx, value, arn)
        elif (name in _MEMBERS and value) or (name in _SWITCHED and "ENABLED" in value.values()):
            raise Invalid(f"{name} {_NOT_BUILT}")
        elif name in ("SageMakerImageArn", "SageMakerImageVersionArn") and "/sagemaker-distribution" not in value:
            raise Invalid(f"An image other than SageMaker Distribution ({value}) {_NOT_BUILT}")
        elif name == "LifecycleConfigArn" and find_by_arn(ctx, value) is None:
            raise missing(LIFECYCLE, value)


def role_for(ctx: Context, space: Record) -> str:
    """The role of a space's apps: its owner's, else its domain's; a shared space has its domain's role for spaces."""
    domain = find_domain(ctx, space["DomainId"])
    default = (domain.get("DefaultUserSettings") or {}).get("ExecutionRole")
    if (space.get("SpaceSharingSettings") or {}).get("SharingType") == "Shared":
        found = (domain.get("DefaultSpaceSettings") or {}).get("ExecutionRole") or default
    else:
        owner = find_user(ctx, space["DomainId"], space["OwnershipSettings"]["OwnerUserProfileName"])
        found = (owner.get("UserSettings") or {}).get("ExecutionRole") or default
    if not found:
        raise Invalid(f"No execution role is set for the apps of the Space [{space['SpaceArn']}].")
    return str(found)


def default_spec(ctx: Context, space: Record, member: str) -> dict[str, Any]:
    """The resources that apps of a space have when they name none: the space's, its owner's, the domain's."""
    domain = find_domain(ctx, space["DomainId"])
    if (space.get("SpaceSharingSettings") or {}).get("SharingType") == "Shared":
        above = [domain.get("DefaultSpaceSettings")]
    else:
        owner = find_user(ctx, space["DomainId"], space["OwnershipSettings"]["OwnerUserProfileName"])
        above = [domain.get("DefaultUserSettings"), owner.get("UserSettings")]
    found: dict[str, Any] = {}
    for settings in (*above, space["SpaceSettings"]):
        found |= ((settings or {}).get(member) or {}).get("DefaultResourceSpec") or {}
    return found


def storage_for(ctx: Context, domain: str, owner: str | None) -> Mapping[str, int]:
    """The GB that a space has when it does not say (default), and may have at most: as its owner's settings say, else its domain's."""
    record = find_domain(ctx, domain)
    owners = (find_user(ctx, domain, owner).get("UserSettings"), record.get("DefaultUserSettings")) if owner else ()
    for settings in owners or (record.get("DefaultSpaceSettings"),):
        storage = (settings or {}).get("SpaceStorageSettings") or {}
        if (found := storage.get("DefaultEbsStorageSettings")) is not None:
            return {"default": found["DefaultEbsVolumeSizeInGb"], "most": found["MaximumEbsVolumeSizeInGb"]}
    return {"default": _SIZE_GB, "most": _MOST_GB}


def check_portal(ctx: Context, domain: str, user: Record) -> None:
    """A user whose settings, or whose domain's, take Studio away does not come in."""
    for settings in (user.get("UserSettings"), find_domain(ctx, domain).get("DefaultUserSettings")):
        if (portal := (settings or {}).get("StudioWebPortal")) is not None:
            if portal == "DISABLED":
                raise Invalid(f"Studio is disabled for the UserProfile [{user['UserProfileArn']}] (StudioWebPortal).")
            return


def check_network(ctx: Context, req: Mapping[str, Any]) -> None:
    """Subnets, where they are named, are there and in the network that is named."""
    if not (subnets := req.get("SubnetIds")):
        return
    try:
        found = ctx.call("ec2", "DescribeSubnets", SubnetIds=list(subnets))["Subnets"]
    except PilviError as error:
        raise Invalid(error.message) from error
    if req.get("VpcId") and (foreign := [subnet["SubnetId"] for subnet in found if subnet["VpcId"] != req["VpcId"]]):
        raise Invalid(f"The subnet {foreign[0]} is not in the VPC {req['VpcId']}.")


def merged(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> dict[str, Any]:
    """Settings after an update: what is named is replaced, the rest stays."""
    return {**(old or {}), **(new or {})}


def _members(value: Any) -> Iterator[tuple[str, Any]]:
    """Every member of settings, however deep."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield name, inner
            yield from _members(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _members(inner)
