"""Subnets: the default one of each availability zone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.service import Context, Operations
from pilvi.services.ec2.listing import Filters, check_dry_run, filtered, paged, with_ids
from pilvi.services.ec2.network import found

ops = Operations()


@ops
def describe_subnets(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The subnets of this account in this Region.

    req: SubnetIds, Filters, MaxResults (5-1000), NextToken.
    Errors: InvalidSubnetID.NotFound - there is none of this id. InvalidParameterValue - an unknown filter, a foreign token.
    Differs: only the default subnets, which isolate nothing: whatever lies in one runs in this machine's network, and its number
        of free addresses does not change.
    """
    check_dry_run(req)
    message = "The subnet ID '{}' does not exist"
    subnets = with_ids(found(ctx, "Subnet"), "SubnetId", req.get("SubnetIds") or (), "InvalidSubnetID.NotFound", message)
    page, more = paged(filtered(subnets, req.get("Filters"), FILTERS), req, "SubnetId")
    return {"Subnets": page, "NextToken": more}


FILTERS: Filters = {
    "availability-zone": lambda subnet: [subnet["AvailabilityZone"]],
    "availabilityZone": lambda subnet: [subnet["AvailabilityZone"]],
    "availability-zone-id": lambda subnet: [subnet["AvailabilityZoneId"]],
    "availabilityZoneId": lambda subnet: [subnet["AvailabilityZoneId"]],
    "available-ip-address-count": lambda subnet: [subnet["AvailableIpAddressCount"]],
    "cidr": lambda subnet: [subnet["CidrBlock"]],
    "cidr-block": lambda subnet: [subnet["CidrBlock"]],
    "cidrBlock": lambda subnet: [subnet["CidrBlock"]],
    "default-for-az": lambda subnet: [subnet["DefaultForAz"]],
    "defaultForAz": lambda subnet: [subnet["DefaultForAz"]],
    "ipv6-native": lambda subnet: [subnet["Ipv6Native"]],
    "map-public-ip-on-launch": lambda subnet: [subnet["MapPublicIpOnLaunch"]],
    "owner-id": lambda subnet: [subnet["OwnerId"]],
    "state": lambda subnet: [subnet["State"]],
    "subnet-arn": lambda subnet: [subnet["SubnetArn"]],
    "subnet-id": lambda subnet: [subnet["SubnetId"]],
    "vpc-id": lambda subnet: [subnet["VpcId"]],
}
"""Source: EC2 API reference, DescribeSubnets, Filter.N."""
