"""Regions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import ServiceError
from pilvi.core.service import Context, Operations
from pilvi.services.ec2.listing import Filters, check_dry_run, filtered
from pilvi.services.ec2.places import BY_CHOICE, OPEN

ops = Operations()


@ops
def describe_regions(_ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The Regions enabled for this account, or all of them (AllRegions).

    req: RegionNames, Filters, AllRegions.
    Errors: InvalidParameterValue - no Region of this name, an unknown filter.
    Differs: Regions that one must opt in to are told as not opted in, yet answer here as every Region does.
    """
    check_dry_run(req)
    regions = [_region(name, "opt-in-not-required") for name in OPEN] + [_region(name, "not-opted-in") for name in BY_CHOICE]
    if wanted := req.get("RegionNames"):
        known = {region["RegionName"] for region in regions}
        if unknown := [name for name in wanted if name not in known]:
            raise ServiceError("InvalidParameterValue", f"Invalid region names: {', '.join(unknown)}")
        regions = [region for region in regions if region["RegionName"] in wanted]
    elif not req.get("AllRegions"):
        regions = [region for region in regions if region["OptInStatus"] != "not-opted-in"]
    return {"Regions": filtered(regions, req.get("Filters"), FILTERS)}


def _region(name: str, opt_in: str) -> dict[str, str]:
    return {"RegionName": name, "Endpoint": f"ec2.{name}.amazonaws.com", "OptInStatus": opt_in}


FILTERS: Filters = {
    "endpoint": lambda region: [region["Endpoint"]],
    "opt-in-status": lambda region: [region["OptInStatus"]],
    "region-name": lambda region: [region["RegionName"]],
}
"""Source: EC2 API reference, DescribeRegions, Filter.N."""
