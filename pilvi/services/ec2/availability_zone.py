"""Availability zones of this Region."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import ServiceError
from pilvi.core.service import Context, Operations
from pilvi.services.ec2.listing import Filters, check_dry_run, filtered
from pilvi.services.ec2.places import zones_of

ops = Operations()


@ops
def describe_availability_zones(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The zones of this Region.

    req: ZoneNames, ZoneIds, Filters.
    Errors: InvalidParameterValue - no zone of this name or id here, an unknown filter.
    Differs: all zones are this machine. Local and Wavelength zones are not listed, whatever AllAvailabilityZones says.
    """
    check_dry_run(req)
    zones = [
        {
            "ZoneName": zone.name,
            "ZoneId": zone.id,
            "ZoneType": "availability-zone",
            "RegionName": ctx.region,
            "GroupName": f"{ctx.region}-zg-1",
            "NetworkBorderGroup": ctx.region,
            "OptInStatus": "opt-in-not-required",
            "State": "available",
            "Messages": [],
        }
        for zone in zones_of(ctx.region)
    ]
    for member, key in (("ZoneNames", "ZoneName"), ("ZoneIds", "ZoneId")):
        if wanted := req.get(member):
            known = {zone[key] for zone in zones}
            if unknown := [name for name in wanted if name not in known]:
                raise ServiceError("InvalidParameterValue", f"Invalid availability zone: [{unknown[0]}]")
            zones = [zone for zone in zones if zone[key] in wanted]
    return {"AvailabilityZones": filtered(zones, req.get("Filters"), FILTERS)}


FILTERS: Filters = {
    "group-name": lambda zone: [zone["GroupName"]],
    "message": lambda zone: zone["Messages"],
    "opt-in-status": lambda zone: [zone["OptInStatus"]],
    "region-name": lambda zone: [zone["RegionName"]],
    "state": lambda zone: [zone["State"]],
    "zone-id": lambda zone: [zone["ZoneId"]],
    "zone-name": lambda zone: [zone["ZoneName"]],
    "zone-type": lambda zone: [zone["ZoneType"]],
}
"""Source: EC2 API reference, DescribeAvailabilityZones, Filter.N."""
