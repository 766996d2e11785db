"""Security groups: the default one of the default VPC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pilvi.core.errors import ServiceError
from pilvi.core.service import Context, Operations
from pilvi.services.ec2.listing import Filters, Record, check_dry_run, filtered, paged, with_ids
from pilvi.services.ec2.network import found

ops = Operations()


@ops
def describe_security_groups(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The security groups of this account in this Region.

    req: GroupIds, GroupNames (in the default VPC), Filters, MaxResults (5-1000), NextToken.
    Errors: InvalidGroup.NotFound - there is none of this id or name. InvalidParameterValue - an unknown filter, a foreign token.
    Differs: only the default group, whose rules are told and keep nobody out.
    """
    check_dry_run(req)
    code, message = "InvalidGroup.NotFound", "The security group '{}' does not exist"
    groups = with_ids(found(ctx, "SecurityGroup"), "GroupId", req.get("GroupIds") or (), code, message)
    groups = _with_names(groups, req.get("GroupNames") or ())
    page, more = paged(filtered(groups, req.get("Filters"), FILTERS), req, "GroupId")
    return {"SecurityGroups": page, "NextToken": more}


def _with_names(groups: Sequence[Record], names: Sequence[str]) -> list[Record]:
    known = {group["GroupName"]: group for group in groups}
    for name in names:
        if name not in known:
            vpc = groups[0]["VpcId"] if groups else ""
            raise ServiceError("InvalidGroup.NotFound", f"The security group '{name}' does not exist in default VPC '{vpc}'")
    return [known[name] for name in names] if names else list(groups)


FILTERS: Filters = {
    "description": lambda group: [group["Description"]],
    "egress.ip-permission.cidr": lambda group: _cidrs(group["IpPermissionsEgress"]),
    "egress.ip-permission.protocol": lambda group: [rule["IpProtocol"] for rule in group["IpPermissionsEgress"]],
    "group-id": lambda group: [group["GroupId"]],
    "group-name": lambda group: [group["GroupName"]],
    "ip-permission.cidr": lambda group: _cidrs(group["IpPermissions"]),
    "ip-permission.group-id": lambda group: [
        pair["GroupId"] for rule in group["IpPermissions"] for pair in rule["UserIdGroupPairs"]
    ],
    "ip-permission.protocol": lambda group: [rule["IpProtocol"] for rule in group["IpPermissions"]],
    "owner-id": lambda group: [group["OwnerId"]],
    "vpc-id": lambda group: [group["VpcId"]],
}
"""Source: EC2 API reference, DescribeSecurityGroups, Filter.N."""


def _cidrs(rules: Sequence[Record]) -> list[str]:
    return [entry["CidrIp"] for rule in rules for entry in rule["IpRanges"]]
