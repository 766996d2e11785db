"""VPC endpoints to S3: an interface has DNS names, and whoever calls S3 by one of them comes from its VPC.

    bucket.vpce-0123...-abcd1234.s3.REGION.vpce.amazonaws.com           buckets; so too BUCKET.bucket.vpce-...
    accesspoint.vpce-...    control.vpce-...                            access points; S3 Control

S3 finds an endpoint by its id on the shelf of the buckets ("s3bucket"); conditions on aws:SourceVpce and aws:SourceVpc rest on it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pilvi.auth.policy import MalformedPolicy, parse
from pilvi.core.errors import ServiceError, Unsupported
from pilvi.core.service import Context, Operations
from pilvi.services.ec2.listing import Filters, Record, check_dry_run, filtered, paged, with_ids
from pilvi.services.ec2.network import found
from pilvi.storage.records import Delete, Insert, Put, Table

ops = Operations()

ROWS = "VpcEndpoint"
SHELF = Table("", "", "s3bucket", "VpcEndpoint")
KINDS = ("Gateway", "Interface")
MISSING = "The Vpc Endpoint Id '{}' does not exist"
EVERYTHING = {
    "Version": "2008-10-17",
    "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}],
}
"""The policy of an endpoint that is made without one."""


@ops
def create_vpc_endpoint(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Make a way from a VPC to S3, usable at once.

    req: VpcId, ServiceName (com.amazonaws.REGION.s3), VpcEndpointType (Gateway, Interface), RouteTableIds, SubnetIds,
    SecurityGroupIds, PrivateDnsEnabled, PolicyDocument (what may be done through it; everything when left out).
    Errors: InvalidVpcId.NotFound; InvalidServiceName - no such service; InvalidSubnetId.NotFound; InvalidParameter - what belongs to
    the other type; InvalidPolicyDocument; Unsupported - services but S3, tags.
    Source: EC2 API Reference, CreateVpcEndpoint; S3 User Guide, "AWS PrivateLink for Amazon S3".
    Differs: a gateway has a DNS name, too, because there are no route tables through which a call could find it. Calls come from the
    VPC by the name they use alone.
    """
    check_dry_run(req)
    vpc, kind = req["VpcId"], req.get("VpcEndpointType", "Gateway")
    if vpc not in {entry["VpcId"] for entry in found(ctx, "Vpc")}:
        raise ServiceError("InvalidVpcId.NotFound", f"The Vpc Id {vpc} does not exist")
    check_service(ctx, req.get("ServiceName"))
    check_members(ctx, req, kind)
    id = f"vpce-0{ctx.ids.hex(16)}"
    names = dns_names(ctx, id)
    record: Record = {
        "VpcEndpointId": id,
        "VpcEndpointType": kind,
        "VpcId": vpc,
        "ServiceName": req["ServiceName"],
        "State": "available",
        "PolicyDocument": req.get("PolicyDocument") or json.dumps(EVERYTHING),
        "RouteTableIds": list(req.get("RouteTableIds") or ()),
        "SubnetIds": list(req.get("SubnetIds") or ()),
        "Groups": groups_of(ctx, req) if kind == "Interface" else [],
        "IpAddressType": "ipv4",
        "PrivateDnsEnabled": bool(req.get("PrivateDnsEnabled")),
        "RequesterManaged": False,
        "NetworkInterfaceIds": [],
        "DnsEntries": [{"DnsName": name} for name in names],
        "CreationTimestamp": ctx.clock.now().replace(microsecond=0),
        "Tags": [],
        "OwnerId": ctx.account,
    }
    shelf = shelf_row(ctx, record)
    ctx.write(ctx.records(ROWS).insertion(id, record), Insert(SHELF, id, shelf))
    return {"VpcEndpoint": record, "ClientToken": req.get("ClientToken")}


def shelf_row(ctx: Context, record: Record) -> Record:
    """What S3 needs to know. InvalidPolicyDocument."""
    row = {"Account": ctx.account, "Region": ctx.region, "VpcId": record["VpcId"]}
    text = record["PolicyDocument"]
    if text == json.dumps(EVERYTHING):
        return row
    try:
        parse(text, "resource")
    except MalformedPolicy as error:
        raise ServiceError("InvalidPolicyDocument", f"The Policy Document is not valid: {error.message}") from None
    return {**row, "_policy": json.loads(text)}


@ops
def modify_vpc_endpoint(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Change what may be done through an endpoint; it counts from the next call on.

    req: VpcEndpointId, PolicyDocument or ResetPolicy.
    Errors: InvalidVpcEndpointId.NotFound; InvalidPolicyDocument; Unsupported - anything but the policy.
    Source: EC2 API Reference, ModifyVpcEndpoint.
    """
    check_dry_run(req)
    if more := sorted(req.keys() - {"DryRun", "VpcEndpointId", "PolicyDocument", "ResetPolicy"}):
        raise Unsupported(f"{more[0]} of VPC endpoints cannot be changed here.")
    rows, id = ctx.records(ROWS), req["VpcEndpointId"]
    record = rows.find(id)
    if record is None:
        raise ServiceError("InvalidVpcEndpointId.NotFound", MISSING.format(id))
    text = json.dumps(EVERYTHING) if req.get("ResetPolicy") else req.get("PolicyDocument") or record["PolicyDocument"]
    changed = {**record, "PolicyDocument": text}
    ctx.write(rows.replacement(id, changed), Put(SHELF, id, shelf_row(ctx, changed)))
    return {"Return": True}


def check_service(ctx: Context, name: str | None) -> None:
    if name == f"com.amazonaws.{ctx.region}.s3":
        return
    if name is not None and name.startswith(f"com.amazonaws.{ctx.region}."):
        raise Unsupported(f"VPC endpoints to {name} are not built; those to S3 are.")
    raise ServiceError("InvalidServiceName", f"The Vpc Endpoint Service '{name}' does not exist")


def check_members(ctx: Context, req: Mapping[str, Any], kind: str) -> None:
    if kind not in KINDS:
        raise Unsupported(f"VPC endpoints of type {kind} are not built.")
    for member in ("TagSpecifications", "SubnetConfigurations", "ServiceNetworkArn", "ResourceConfigurationArn"):
        if req.get(member):
            raise Unsupported(f"{member} of VPC endpoints is not built.")
    for member in ("SubnetIds", "SecurityGroupIds", "PrivateDnsEnabled") if kind == "Gateway" else ("RouteTableIds",):
        if req.get(member):
            raise ServiceError("InvalidParameter", f"{member} cannot be used with VPC endpoints of type {kind}.")
    subnets = {entry["SubnetId"] for entry in found(ctx, "Subnet")}
    for subnet in req.get("SubnetIds") or ():
        if subnet not in subnets:
            raise ServiceError("InvalidSubnetId.NotFound", f"The subnet ID '{subnet}' does not exist")


def groups_of(ctx: Context, req: Mapping[str, Any]) -> list[dict[str, str]]:
    """The security groups of an interface; the VPC's default one when none is named."""
    known = {entry["GroupId"]: entry["GroupName"] for entry in found(ctx, "SecurityGroup")}
    wanted: Sequence[str] = req.get("SecurityGroupIds") or list(known)[:1]
    for group in wanted:
        if group not in known:
            raise ServiceError("InvalidGroup.NotFound", f"The security group '{group}' does not exist")
    return [{"GroupId": group, "GroupName": known[group]} for group in wanted]


def dns_names(ctx: Context, id: str) -> list[str]:
    return [f"*.{id}-{ctx.ids.hex(8)}.s3.{ctx.region}.vpce.amazonaws.com"]


@ops
def describe_vpc_endpoints(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The endpoints of this account in this Region.

    req: VpcEndpointIds, Filters, MaxResults, NextToken.
    Errors: InvalidVpcEndpointId.NotFound; InvalidParameterValue - an unknown filter, a foreign token.
    Source: EC2 API Reference, DescribeVpcEndpoints.
    """
    check_dry_run(req)
    ids = req.get("VpcEndpointIds") or ()
    endpoints = with_ids(ctx.records(ROWS).all(), "VpcEndpointId", ids, "InvalidVpcEndpointId.NotFound", MISSING)
    page, more = paged(filtered(endpoints, req.get("Filters"), FILTERS), req, "VpcEndpointId")
    return {"VpcEndpoints": page, "NextToken": more}


@ops
def delete_vpc_endpoints(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Take endpoints away; calls by their names are refused from then on.

    req: VpcEndpointIds.
    Errors, for each in the answer: InvalidVpcEndpoint.NotFound.
    Source: EC2 API Reference, DeleteVpcEndpoints.
    """
    check_dry_run(req)
    rows, failed = ctx.records(ROWS), []
    for id in req["VpcEndpointIds"]:
        if rows.find(id) is None:
            failed.append({"ResourceId": id, "Error": {"Code": "InvalidVpcEndpoint.NotFound", "Message": MISSING.format(id)}})
            continue
        ctx.write(rows.deletion(id), Delete(SHELF, id))
    return {"Unsuccessful": failed}


FILTERS: Filters = {
    "ip-address-type": lambda endpoint: [endpoint["IpAddressType"]],
    "service-name": lambda endpoint: [endpoint["ServiceName"]],
    "vpc-endpoint-id": lambda endpoint: [endpoint["VpcEndpointId"]],
    "vpc-endpoint-state": lambda endpoint: [endpoint["State"]],
    "vpc-endpoint-type": lambda endpoint: [endpoint["VpcEndpointType"]],
    "vpc-id": lambda endpoint: [endpoint["VpcId"]],
}
"""Source: EC2 API reference, DescribeVpcEndpoints, Filter.N."""
