"""Values of dimensions and tags."""

from __future__ import annotations

from typing import Any

from tests.services.ce.test_cost_and_usage import PERIOD, at, refusal, used


def made(aws: Any, server: Any) -> Any:
    used(server, aws.account, "one", at(3, "10:00:00"), 3600, types=["ml.m5.large"], tags={"project": "ml", "team": "a"})
    used(server, aws.account, "two", at(4, "10:00:00"), 60, types=["ml.g5.2xlarge"], tags={"project": "data"})
    used(server, aws.account, "three", at(5, "10:00:00"), 60, types=["ml.c5.xlarge"])
    return aws.client("ce")


def test_get_dimension_values_lists_sorts_searches_and_pages(aws: Any, server: Any) -> None:
    client = made(aws, server)
    answer = client.get_dimension_values(TimePeriod=PERIOD, Dimension="INSTANCE_TYPE")
    assert [entry["Value"] for entry in answer["DimensionValues"]] == ["ml.c5.xlarge", "ml.g5.2xlarge", "ml.m5.large"]
    assert (answer["ReturnSize"], answer["TotalSize"]) == (3, 3)
    by_cost = client.get_dimension_values(
        TimePeriod=PERIOD, Dimension="INSTANCE_TYPE", SortBy=[{"Key": "UnblendedCost", "SortOrder": "DESCENDING"}], MaxResults=2
    )
    assert [entry["Value"] for entry in by_cost["DimensionValues"]] == ["ml.m5.large", "ml.g5.2xlarge"]
    rest = client.get_dimension_values(
        TimePeriod=PERIOD, Dimension="INSTANCE_TYPE", MaxResults=2, NextPageToken=by_cost["NextPageToken"]
    )
    assert (rest["ReturnSize"], rest["TotalSize"]) == (1, 3)
    found = client.get_dimension_values(TimePeriod=PERIOD, Dimension="USAGE_TYPE", SearchString="M5")
    assert found["DimensionValues"] == [{"Value": "USE1-Train:ml.m5.large", "Attributes": {}}]
    assert client.get_dimension_values(TimePeriod=PERIOD, Dimension="REGION", Context="RESERVATIONS")["DimensionValues"] == []


def test_get_dimension_values_refuses_what_is_not_built(aws: Any) -> None:
    client = aws.client("ce")
    assert refusal(client.get_dimension_values, TimePeriod=PERIOD, Dimension="TENANCY")[0] == "ValidationException"
    token = refusal(client.get_dimension_values, TimePeriod=PERIOD, Dimension="REGION", NextPageToken="x")
    assert token[0] == "InvalidNextTokenException"


def test_get_tags_lists_keys_and_values(aws: Any, server: Any, other_aws: Any) -> None:
    client = made(aws, server)
    assert client.get_tags(TimePeriod=PERIOD)["Tags"] == ["project", "team"]
    assert client.get_tags(TimePeriod=PERIOD, TagKey="project")["Tags"] == ["", "data", "ml"]
    assert client.get_tags(TimePeriod=PERIOD, TagKey="project", SearchString="m")["Tags"] == ["ml"]
    assert other_aws.client("ce").get_tags(TimePeriod=PERIOD)["Tags"] == []
