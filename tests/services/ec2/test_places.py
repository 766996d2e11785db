"""Zones and Regions: describe_availability_zones, describe_regions."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from pilvi.services.ec2.places import zones_of
from pilvi.testing.server import Account


@pytest.mark.parametrize(
    ("region", "first"),
    [
        ("us-east-1", "use1-az1"), ("ap-southeast-2", "apse2-az1"), ("ap-northeast-1", "apne1-az1"), ("eu-central-1", "euc1-az1"),
        ("ca-central-1", "cac1-az1"), ("us-gov-west-1", "usgw1-az1"), ("cn-northwest-1", "cnnw1-az1"), ("sa-east-1", "sae1-az1"),
    ],
)  # fmt: skip
def test_zone_ids_have_the_short_name_of_their_region(region: str, first: str) -> None:
    assert zones_of(region)[0].id == first


def test_describe_availability_zones_of_this_region(aws: Account) -> None:
    ec2 = aws.client("ec2")
    zones = ec2.describe_availability_zones()["AvailabilityZones"]
    assert [zone["ZoneName"] for zone in zones] == [f"us-east-1{letter}" for letter in "abcdef"]
    assert {zone["State"] for zone in zones} == {"available"}
    assert len(ec2.describe_availability_zones(ZoneIds=["use1-az2"])["AvailabilityZones"]) == 1
    named = ec2.describe_availability_zones(Filters=[{"Name": "zone-name", "Values": ["us-east-1?"]}], ZoneNames=["us-east-1b"])
    assert [zone["ZoneId"] for zone in named["AvailabilityZones"]] == ["use1-az2"]
    with pytest.raises(ClientError, match=r"Invalid availability zone: \[eu-west-1a\]") as refused:
        ec2.describe_availability_zones(ZoneNames=["eu-west-1a"])
    assert refused.value.response["Error"]["Code"] == "InvalidParameterValue"


def test_describe_regions(aws: Account) -> None:
    ec2 = aws.client("ec2")
    names = {region["RegionName"] for region in ec2.describe_regions()["Regions"]}
    assert {"us-east-1", "eu-central-1"} < names
    assert "af-south-1" not in names
    every = ec2.describe_regions(AllRegions=True)["Regions"]
    assert {region["RegionName"]: region["OptInStatus"] for region in every}["af-south-1"] == "not-opted-in"
    assert ec2.describe_regions(RegionNames=["us-west-2"])["Regions"][0]["Endpoint"] == "ec2.us-west-2.amazonaws.com"
    with pytest.raises(ClientError, match="eu-east-1"):
        ec2.describe_regions(RegionNames=["eu-east-1"])
