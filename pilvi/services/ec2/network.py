"""The default network: one VPC, a public subnet in each zone, a security group; made when an account first looks at a Region.

    172.31.0.0/16      the VPC
    172.31.0.0/20      the subnet of the first zone, then 172.31.16.0/20, ...

Source: VPC User Guide, "Default VPCs".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pilvi.core.errors import AlreadyExists
from pilvi.core.service import Context
from pilvi.services.ec2.places import Zone, zones_of

Record = dict[str, Any]

CIDR = "172.31.0.0/16"
_ADDRESSES = 4096 - 5
"""Of a /20; AWS keeps five of every subnet for itself."""


def found(ctx: Context, noun: str) -> list[Record]:
    """Every Vpc, Subnet or SecurityGroup of the account in this Region. Makes the default network when there is none yet."""
    if ctx.records("DefaultNetwork").find("default") is None:
        _make(ctx)
    return ctx.records(noun).all()


def _make(ctx: Context) -> None:
    vpc, group = f"vpc-0{ctx.ids.hex(16)}", f"sg-0{ctx.ids.hex(16)}"
    subnets = [_subnet(ctx, vpc, number, zone) for number, zone in enumerate(zones_of(ctx.region))]
    rows = ctx.records("Subnet")
    try:
        ctx.write(
            ctx.records("DefaultNetwork").insertion("default", {"VpcId": vpc}),
            ctx.records("Vpc").insertion(vpc, _vpc(ctx, vpc)),
            ctx.records("SecurityGroup").insertion(group, _group(ctx, vpc, group)),
            *(rows.insertion(subnet["SubnetId"], subnet) for subnet in subnets),
        )
    except AlreadyExists:
        return  # another thread was first, and wrote all of its own


def _vpc(ctx: Context, id: str) -> Record:
    return {
        "VpcId": id,
        "CidrBlock": CIDR,
        "CidrBlockAssociationSet": [
            {"AssociationId": f"vpc-cidr-assoc-0{ctx.ids.hex(16)}", "CidrBlock": CIDR, "CidrBlockState": {"State": "associated"}}
        ],
        "DhcpOptionsId": f"dopt-0{ctx.ids.hex(16)}",
        "InstanceTenancy": "default",
        "IsDefault": True,
        "OwnerId": ctx.account,
        "State": "available",
    }


def _subnet(ctx: Context, vpc: str, number: int, zone: Zone) -> Record:
    id = f"subnet-0{ctx.ids.hex(16)}"
    return {
        "SubnetId": id,
        "SubnetArn": ctx.arn(f"subnet/{id}"),
        "VpcId": vpc,
        "CidrBlock": f"172.31.{16 * number}.0/20",
        "AvailabilityZone": zone.name,
        "AvailabilityZoneId": zone.id,
        "AvailableIpAddressCount": _ADDRESSES,
        "DefaultForAz": True,
        "MapPublicIpOnLaunch": True,
        "MapCustomerOwnedIpOnLaunch": False,
        "AssignIpv6AddressOnCreation": False,
        "Ipv6Native": False,
        "Ipv6CidrBlockAssociationSet": [],
        "EnableDns64": False,
        "PrivateDnsNameOptionsOnLaunch": {
            "HostnameType": "ip-name",
            "EnableResourceNameDnsARecord": False,
            "EnableResourceNameDnsAAAARecord": False,
        },
        "OwnerId": ctx.account,
        "State": "available",
    }


def _group(ctx: Context, vpc: str, id: str) -> Record:
    inside = {**_rule(), "UserIdGroupPairs": [{"GroupId": id, "UserId": ctx.account}]}
    return {
        "GroupId": id,
        "GroupName": "default",
        "Description": "default VPC security group",
        "SecurityGroupArn": ctx.arn(f"security-group/{id}"),
        "OwnerId": ctx.account,
        "VpcId": vpc,
        "IpPermissions": [inside],
        "IpPermissionsEgress": [{**_rule(), "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}],
    }


def _rule() -> dict[str, str | Sequence[Any]]:
    return {"IpProtocol": "-1", "IpRanges": [], "Ipv6Ranges": [], "PrefixListIds": [], "UserIdGroupPairs": []}
