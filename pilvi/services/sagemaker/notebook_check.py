"""What CreateNotebookInstance and UpdateNotebookInstance refuse, in AWS's words where they are known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import Invalid, ServiceError
from pilvi.core.service import Context
from pilvi.services.sagemaker import notebook_instance_lifecycle_config as lifecycle
from pilvi.services.sagemaker.job_check import NOT_BUILT, as_role, check_passed
from pilvi.services.sagemaker.notebook_git import find_repository

_WITHDRAWN = ("notebook-al1-v1", "notebook-al2-v1")


def check_members(req: Mapping[str, Any]) -> None:
    """The request by itself. Raises Invalid, which is a ValidationException."""
    if (platform := req.get("PlatformIdentifier")) in _WITHDRAWN:
        raise Invalid(f"Platform identifier ({platform}) is not supported for this service.")
    if req.get("AcceleratorTypes"):
        raise Invalid(f"AcceleratorTypes {NOT_BUILT}")


def check_lifecycle_config(ctx: Context, req: Mapping[str, Any]) -> None:
    """The scripts must be there."""
    name = req.get("LifecycleConfigName")
    if name and ctx.records(lifecycle.NOUN).find(name.lower()) is None:
        raise Invalid(f"Unable to find Notebook Instance Lifecycle Config '{lifecycle.arn_of(ctx, name)}'.")


def check_repositories(ctx: Context, req: Mapping[str, Any]) -> None:
    """Names of code repositories must be there; addresses are tried at the start."""
    names = [req.get("DefaultCodeRepository"), *(req.get("AdditionalCodeRepositories") or ())]
    found = [find_repository(ctx, name) for name in names if name]
    if len({repository.folder for repository in found}) < len(found):
        raise Invalid("The code repositories of a notebook instance must have different names of their folders.")


def check_role(ctx: Context, role: str, arn: str) -> None:
    """The role must be there, in this account, and let SageMaker in."""
    check_passed(ctx, role)
    as_role(ctx, role, arn)


def check_network(ctx: Context, req: Mapping[str, Any]) -> dict[str, Any]:
    """SubnetId and SecurityGroups as the instance keeps them; a subnet's own network gives the group where none is named."""
    subnet, groups = req.get("SubnetId"), list(req.get("SecurityGroupIds") or ())
    if subnet is None:
        if groups:
            raise Invalid("SecurityGroupIds can only be given together with a SubnetId.")
        if req.get("DirectInternetAccess") == "Disabled":
            raise Invalid("DirectInternetAccess can only be Disabled when a SubnetId is given.")
        return {}
    try:
        vpc = ctx.call("ec2", "DescribeSubnets", SubnetIds=[subnet])["Subnets"][0]["VpcId"]
        if groups:
            found = ctx.call("ec2", "DescribeSecurityGroups", GroupIds=groups)["SecurityGroups"]
        else:
            default = [{"Name": "vpc-id", "Values": [vpc]}, {"Name": "group-name", "Values": ["default"]}]
            found = ctx.call("ec2", "DescribeSecurityGroups", Filters=default)["SecurityGroups"]
    except ServiceError as error:
        if error.code.endswith(".NotFound"):
            raise Invalid(error.message) from error
        raise
    if foreign := [group["GroupId"] for group in found if group["VpcId"] != vpc]:
        raise Invalid(f"The security group {foreign[0]} is not in the VPC {vpc} of the subnet {subnet}.")
    return {"SubnetId": subnet, "SecurityGroups": groups or [group["GroupId"] for group in found]}
