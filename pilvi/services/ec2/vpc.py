"""Virtual private clouds: the default one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.service import Context, Operations
from pilvi.services.ec2.listing import Filters, check_dry_run, filtered, paged, with_ids
from pilvi.services.ec2.network import found

ops = Operations()


@ops
def describe_vpcs(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The networks of this account in this Region.

    req: VpcIds, Filters, MaxResults (5-1000), NextToken.
    Errors: InvalidVpcID.NotFound - there is none of this id. InvalidParameterValue - an unknown filter, a foreign token.
    Differs: there is the default VPC and no other, made when it is first asked for, with one default subnet in each zone and one
        security group. It describes this machine's one network and isolates nothing.
    """
    check_dry_run(req)
    message = "The vpc ID '{}' does not exist"
    vpcs = with_ids(found(ctx, "Vpc"), "VpcId", req.get("VpcIds") or (), "InvalidVpcID.NotFound", message)
    page, more = paged(filtered(vpcs, req.get("Filters"), FILTERS), req, "VpcId")
    return {"Vpcs": page, "NextToken": more}


FILTERS: Filters = {
    "cidr": lambda vpc: [vpc["CidrBlock"]],
    "cidr-block-association.association-id": lambda vpc: [entry["AssociationId"] for entry in vpc["CidrBlockAssociationSet"]],
    "cidr-block-association.cidr-block": lambda vpc: [entry["CidrBlock"] for entry in vpc["CidrBlockAssociationSet"]],
    "cidr-block-association.state": lambda vpc: [entry["CidrBlockState"]["State"] for entry in vpc["CidrBlockAssociationSet"]],
    "dhcp-options-id": lambda vpc: [vpc["DhcpOptionsId"]],
    "is-default": lambda vpc: [vpc["IsDefault"]],
    "isDefault": lambda vpc: [vpc["IsDefault"]],
    "owner-id": lambda vpc: [vpc["OwnerId"]],
    "state": lambda vpc: [vpc["State"]],
    "vpc-id": lambda vpc: [vpc["VpcId"]],
}
"""Source: EC2 API reference, DescribeVpcs, Filter.N."""
