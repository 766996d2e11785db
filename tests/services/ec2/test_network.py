"""The default network: describe_vpcs, describe_subnets, describe_security_groups, with ids, filters, pages and errors."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from pilvi.testing.refusal import refusal
from pilvi.testing.server import Account


def test_describe_vpcs_gives_the_default_one(aws: Account) -> None:
    vpcs = aws.client("ec2").describe_vpcs()["Vpcs"]
    assert [(vpc["CidrBlock"], vpc["IsDefault"], vpc["State"], vpc["OwnerId"]) for vpc in vpcs] == [
        ("172.31.0.0/16", True, "available", aws.account)
    ]
    assert vpcs[0]["VpcId"].startswith("vpc-0")
    assert aws.client("ec2").describe_vpcs()["Vpcs"] == vpcs


def test_describe_subnets_has_one_for_each_zone(aws: Account) -> None:
    ec2 = aws.client("ec2")
    subnets = ec2.describe_subnets()["Subnets"]
    by_zone = {subnet["AvailabilityZone"]: subnet["CidrBlock"] for subnet in subnets}
    assert sorted(by_zone) == [f"us-east-1{letter}" for letter in "abcdef"]
    assert by_zone["us-east-1a"] == "172.31.0.0/20"
    assert by_zone["us-east-1f"] == "172.31.80.0/20"
    assert {subnet["VpcId"] for subnet in subnets} == {ec2.describe_vpcs()["Vpcs"][0]["VpcId"]}
    assert all(subnet["DefaultForAz"] and subnet["MapPublicIpOnLaunch"] for subnet in subnets)
    elsewhere = aws.client("ec2", "eu-central-1").describe_subnets()["Subnets"]
    assert len(elsewhere) == 3
    assert {subnet["SubnetId"] for subnet in elsewhere}.isdisjoint(subnet["SubnetId"] for subnet in subnets)


def test_describe_security_groups_gives_the_default_one(aws: Account) -> None:
    ec2 = aws.client("ec2")
    (group,) = ec2.describe_security_groups()["SecurityGroups"]
    assert (group["GroupName"], group["Description"]) == ("default", "default VPC security group")
    assert group["IpPermissions"][0]["UserIdGroupPairs"][0]["GroupId"] == group["GroupId"]
    assert group["IpPermissionsEgress"][0]["IpRanges"] == [{"CidrIp": "0.0.0.0/0"}]
    assert ec2.describe_security_groups(GroupNames=["default"])["SecurityGroups"] == [group]
    assert ec2.describe_security_groups(GroupIds=[group["GroupId"]])["SecurityGroups"] == [group]


def test_ids_that_do_not_exist_are_told_as_aws_does(aws: Account) -> None:
    ec2 = aws.client("ec2")
    assert refusal(ec2.describe_vpcs, VpcIds=["vpc-1"]) == ("InvalidVpcID.NotFound", "The vpc ID 'vpc-1' does not exist")
    assert refusal(ec2.describe_subnets, SubnetIds=["subnet-1"]) == (
        "InvalidSubnetID.NotFound",
        "The subnet ID 'subnet-1' does not exist",
    )
    assert refusal(ec2.describe_security_groups, GroupIds=["sg-1"]) == (
        "InvalidGroup.NotFound",
        "The security group 'sg-1' does not exist",
    )
    code, message = refusal(ec2.describe_security_groups, GroupNames=["web"])
    assert code == "InvalidGroup.NotFound"
    assert message.startswith("The security group 'web' does not exist in default VPC 'vpc-0")


def test_filters_take_wildcards_and_refuse_unknown_names(aws: Account) -> None:
    ec2 = aws.client("ec2")

    def zones(*filters: tuple[str, list[str]]) -> list[str]:
        wanted = [{"Name": name, "Values": values} for name, values in filters]
        return sorted(subnet["AvailabilityZone"] for subnet in ec2.describe_subnets(Filters=wanted)["Subnets"])

    vpc = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"][0]["VpcId"]
    assert zones(("vpc-id", [vpc]), ("availability-zone", ["us-east-1a", "us-east-1c"])) == ["us-east-1a", "us-east-1c"]
    assert zones(("availability-zone-id", ["use1-az?"]), ("cidr-block", ["172.31.3*"])) == ["us-east-1c"]
    assert zones(("cidr-block", [r"172.31.\*"])) == []
    assert zones(("tag:Name", ["*"])) == []
    assert zones(("default-for-az", ["false"])) == []
    assert ec2.describe_security_groups(Filters=[{"Name": "egress.ip-permission.cidr", "Values": ["0.0.0.0/0"]}])["SecurityGroups"]
    assert refusal(ec2.describe_subnets, Filters=[{"Name": "colour", "Values": ["red"]}]) == (
        "InvalidParameterValue",
        "The filter 'colour' is invalid",
    )


def test_pages_lead_to_the_end(aws: Account) -> None:
    ec2 = aws.client("ec2")
    pages = list(ec2.get_paginator("describe_subnets").paginate(PaginationConfig={"PageSize": 5}))
    assert [len(page["Subnets"]) for page in pages] == [5, 1]
    ids = [subnet["SubnetId"] for page in pages for subnet in page["Subnets"]]
    assert ids == sorted({subnet["SubnetId"] for subnet in ec2.describe_subnets()["Subnets"]})
    assert refusal(ec2.describe_vpcs, NextToken="elsewhere")[0] == "InvalidParameterValue"


def test_dry_run_is_answered_by_an_error(aws: Account) -> None:
    ec2 = aws.client("ec2")
    for call in (ec2.describe_vpcs, ec2.describe_subnets, ec2.describe_security_groups, ec2.describe_regions):
        assert refusal(call, DryRun=True) == ("DryRunOperation", "Request would have succeeded, but DryRun flag is set.")


def test_many_first_lookers_find_one_network(aws: Account) -> None:
    ec2 = aws.client("ec2", "us-west-2")
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: ec2.describe_vpcs()["Vpcs"][0]["VpcId"], range(16)))
    assert len(set(found)) == 1
    assert len(ec2.describe_subnets()["Subnets"]) == 4


def test_a_network_is_its_accounts_own(aws: Account, other_aws: Account) -> None:
    mine = aws.client("ec2").describe_subnets()["Subnets"][0]["SubnetId"]
    assert refusal(other_aws.client("ec2").describe_subnets, SubnetIds=[mine])[0] == "InvalidSubnetID.NotFound"


def test_permission_is_needed(aws: Account) -> None:
    nobody = aws.user("nobody")
    assert refusal(nobody.client("ec2").describe_vpcs)[0] == "UnauthorizedOperation"
