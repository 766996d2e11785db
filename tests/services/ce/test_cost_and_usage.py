"""Costs over time: a month computed by hand, real jobs at their billable seconds, groups, filters, pages, errors, crashes."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pilvi.jobs.meter import metering
from pilvi.jobs.record import advanced, new_record
from pilvi.jobs.spec import JobSpec, Member, Resources
from pilvi.jobs.states import Event
from pilvi.services.ce import cost_and_usage
from pilvi.services.ce.metric import METRICS
from pilvi.storage.records import Put, Table
from pilvi.testing.refusal import refusal
from pilvi.testing.server import eventually
from tests.services.sagemaker.conftest import Lab
from tests.services.sagemaker.test_crash import Up, start

NOW = datetime.now(UTC)
MONTH = (NOW.replace(day=1, hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)).replace(day=1)
NEXT = (MONTH + timedelta(days=32)).replace(day=1)
PERIOD = {"Start": f"{MONTH:%Y-%m-%d}", "End": f"{NEXT:%Y-%m-%d}"}


def at(day: int, time: str) -> datetime:
    """A time of the month that is over."""
    hour, minute, second = map(int, time.split(":"))
    return MONTH.replace(day=day, hour=hour, minute=minute, second=second)


def used(server: Any, account: str, name: str, start: datetime, seconds: int, *, tags: Mapping[str, str] = {}, **spec: Any) -> None:
    """A job that had its instances from `start` on for so long, ended as the runner ends it."""
    types = spec.pop("types")
    kind = spec.pop("kind", "training")
    made = JobSpec(
        id=f"{account}-{name}",
        kind=kind,
        name=name,
        account=account,
        region=spec.pop("region", "us-east-1"),
        service="sagemaker",
        principal="sagemaker.amazonaws.com",
        arn=f"arn:aws:sagemaker:us-east-1:{account}:{kind}-job/{name}",
        role_arn="",
        session_name="",
        runtime="",
        command=(),
        members=tuple(Member(f"algo-{n}", resources=Resources(label=type)) for n, type in enumerate(types, 1)),
        product="AmazonSageMaker",
        **{"usage": "Train", **spec},
    )
    end = start + timedelta(seconds=seconds)
    record = new_record(made, start)
    steps = [
        (Event.BEGIN, start),
        (Event.PREPARED, start),
        (Event.DOWNLOADED, start),
        (Event.EXITED_WELL, end),
        (Event.UPLOADED, end),
    ]
    for event, now in steps:
        record, _ = advanced(record, event, now)
    store = server.cloud.store
    store.write(
        Put(
            Table(account, "us-east-1", "sagemaker", "Tags"),
            made.arn,
            {"Tags": [{"Key": key, "Value": value} for key, value in tags.items()]},
        )
    )
    store.write(*metering(store, record))
    store.write(*metering(store, record))


@pytest.fixture
def month(aws: Any, server: Any) -> Any:
    """Two training jobs of different types, one spot, one processing; computed by hand:

    one       1 x ml.m5.large   5,430 s               x 0.115 / 3600 = 0.173458333...
    two       2 x ml.g5.2xlarge 1,800 s over midnight x 1.515 / 3600 = 1.515
    cheap     1 x ml.c5.xlarge 10,000 s x 0.3 (spot)  x 0.204 / 3600 = 0.17
    prepared  3 x ml.m5.xlarge    400 s               x 0.23  / 3600 = 0.076666666...
                                                                       1.935125
    """
    account = aws.account
    used(server, account, "one", at(3, "10:00:00"), 5430, types=["ml.m5.large"], tags={"project": "ml"})
    used(server, account, "two", at(9, "23:50:00"), 1800, types=["ml.g5.2xlarge"] * 2)
    used(server, account, "cheap", at(11, "00:00:00"), 10000, types=["ml.c5.xlarge"], billed_share=0.3, is_interruptible=True)
    used(
        server, account, "prepared", at(12, "08:00:00"), 400, types=["ml.m5.xlarge"] * 3,
        kind="processing", usage="Processing", tags={"project": "data"},
    )  # fmt: skip
    return aws.client("ce")


def cost(client: Any, metrics: list[str] | None = None, **request: Any) -> list[Any]:
    asked = {"TimePeriod": PERIOD, "Granularity": "MONTHLY", "Metrics": metrics or ["UnblendedCost"], **request}
    return list(client.get_cost_and_usage(**asked)["ResultsByTime"])


def groups(results: list[Any], metric: str = "UnblendedCost") -> dict[tuple[str, ...], str]:
    return {tuple(group["Keys"]): group["Metrics"][metric]["Amount"] for result in results for group in result["Groups"]}


def test_get_cost_and_usage_matches_a_month_computed_by_hand(month: Any) -> None:
    (result,) = cost(month, list(METRICS))
    assert (result["TimePeriod"], result["Estimated"], result["Groups"]) == (PERIOD, False, [])
    assert {result["Total"][name]["Amount"] for name in ("UnblendedCost", "BlendedCost", "AmortizedCost", "NetUnblendedCost")} == {
        "1.935125"
    }
    assert result["Total"]["UnblendedCost"]["Unit"] == "USD"
    assert result["Total"]["UsageQuantity"] == {"Amount": "3.675", "Unit": "Hrs"}
    assert groups(cost(month, GroupBy=[{"Type": "DIMENSION", "Key": "USAGE_TYPE"}])) == {
        ("USE1-Processing:ml.m5.xlarge",): "0.0766666667",
        ("USE1-Train:ml.c5.xlarge",): "0.17",
        ("USE1-Train:ml.g5.2xlarge",): "1.515",
        ("USE1-Train:ml.m5.large",): "0.1734583333",
    }


def test_get_cost_and_usage_by_day_and_hour_splits_where_they_end(month: Any) -> None:
    days = cost(month, Granularity="DAILY")
    assert len(days) == (NEXT - MONTH).days
    spent = {day["TimePeriod"]["Start"][8:]: day["Total"]["UnblendedCost"]["Amount"] for day in days}
    assert {day: usd for day, usd in spent.items() if usd != "0"} == {
        "03": "0.1734583333", "09": "0.505", "10": "1.01", "11": "0.17", "12": "0.0766666667",
    }  # fmt: skip


def test_get_cost_and_usage_groups_by_two_and_by_tag(month: Any) -> None:
    by = [{"Type": "DIMENSION", "Key": "SERVICE"}, {"Type": "DIMENSION", "Key": "PURCHASE_TYPE"}]
    assert groups(cost(month, GroupBy=by)) == {
        ("Amazon SageMaker", "On Demand Instances"): "1.765125",
        ("Amazon SageMaker", "Spot Instances"): "0.17",
    }
    assert groups(cost(month, GroupBy=[{"Type": "TAG", "Key": "project"}])) == {
        ("project$",): "1.685",
        ("project$data",): "0.0766666667",
        ("project$ml",): "0.1734583333",
    }


@pytest.mark.parametrize(
    ("expression", "amount"),
    [
        ({"Dimensions": {"Key": "INSTANCE_TYPE", "Values": ["ml.m5.large", "ml.m5.xlarge"]}}, "0.250125"),
        ({"Tags": {"Key": "project", "Values": ["ml"]}}, "0.1734583333"),
        ({"Tags": {"Key": "project", "MatchOptions": ["ABSENT"]}}, "1.685"),
        ({"Not": {"Dimensions": {"Key": "PURCHASE_TYPE", "Values": ["Spot Instances"]}}}, "1.765125"),
        ({"And": [{"Dimensions": {"Key": "REGION", "Values": ["us-east-1"]}}, {"Tags": {"Key": "project", "Values": ["data"]}}]}, "0.0766666667"),
        ({"Or": [{"Tags": {"Key": "project", "Values": ["data"]}}, {"Dimensions": {"Key": "OPERATION", "Values": ["None"]}}]}, "0.0766666667"),
        ({"Dimensions": {"Key": "SERVICE", "Values": ["Amazon Simple Storage Service"]}}, "0"),
    ],
)  # fmt: skip
def test_get_cost_and_usage_filters(month: Any, expression: Any, amount: str) -> None:
    (result,) = cost(month, Filter=expression)
    assert result["Total"]["UnblendedCost"]["Amount"] == amount


def test_get_cost_and_usage_pages(month: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost_and_usage, "PAGE", 1)
    request = {
        "TimePeriod": PERIOD,
        "Granularity": "MONTHLY",
        "Metrics": ["UnblendedCost"],
        "GroupBy": [{"Type": "DIMENSION", "Key": "USAGE_TYPE"}],
    }
    found, answer = [], month.get_cost_and_usage(**request)
    while True:
        found += [group["Keys"][0] for result in answer["ResultsByTime"] for group in result["Groups"]]
        if not (token := answer.get("NextPageToken")):
            break
        answer = month.get_cost_and_usage(**request, NextPageToken=token)
    assert len(found) == 4
    assert found == sorted(found)
    assert refusal(month.get_cost_and_usage, **request, NextPageToken="nonsense")[0] == "InvalidNextTokenException"


def test_get_cost_and_usage_refuses_what_makes_no_sense(aws: Any) -> None:
    call = aws.client("ce").get_cost_and_usage
    good: dict[str, Any] = {"TimePeriod": PERIOD, "Granularity": "MONTHLY", "Metrics": ["UnblendedCost"]}
    backwards = {"Start": PERIOD["End"], "End": PERIOD["Start"]}
    assert refusal(call, **{**good, "TimePeriod": backwards}) == (
        "ValidationException",
        "Start date (and hour) should be before end date (and hour)",
    )
    ahead = {"Start": f"{NOW + timedelta(days=80):%Y-%m-%d}", "End": f"{NOW + timedelta(days=81):%Y-%m-%d}"}
    assert refusal(call, **{**good, "TimePeriod": ahead})[1].startswith("start date past the beginning of next month.")
    old = {"Start": "2020-01-01", "End": "2020-02-01"}
    hourly = {"Start": "2020-01-01T00:00:00Z", "End": "2020-01-01T01:00:00Z"}
    dimension, tag = {"Type": "DIMENSION", "Key": "SERVICE"}, {"Key": "a", "Values": ["b"]}
    for change in (
        {"TimePeriod": old},
        {"TimePeriod": hourly},
        {"TimePeriod": hourly, "Granularity": "HOURLY"},
        {"Granularity": "HOURLY"},
        {"Metrics": ["Money"]},
        {"GroupBy": [dimension] * 3},
        {"GroupBy": [{"Type": "COST_CATEGORY", "Key": "a"}]},
        {"GroupBy": [{"Type": "DIMENSION", "Key": "TENANCY"}]},
        {"Filter": {"Tags": tag, "Not": {"Tags": tag}}},
        {"Filter": {"CostCategories": tag}},
        {"Filter": {"Tags": {**tag, "MatchOptions": ["CONTAINS"]}}},
        {"Filter": {"Dimensions": {"Key": "SERVICE", "Values": []}}},
    ):
        assert refusal(call, **{**good, **change})[0] == "ValidationException", change


def test_get_cost_and_usage_tells_times_without_groups(month: Any) -> None:
    first, *_ = cost(month, Granularity="DAILY", GroupBy=[{"Type": "DIMENSION", "Key": "SERVICE"}])
    assert (first["Groups"], first["Total"]) == ([], {"UnblendedCost": {"Amount": "0", "Unit": "USD"}})


def test_get_cost_and_usage_of_another_account_is_empty(month: Any, other_aws: Any) -> None:
    (result,) = cost(other_aws.client("ce"))
    assert result["Total"]["UnblendedCost"]["Amount"] == "0"


def test_regions_and_unknown_prices(aws: Any, server: Any) -> None:
    used(server, aws.account, "far", at(3, "10:00:00"), 3600, types=["ml.m5.large"], region="eu-central-1")
    used(server, aws.account, "new", at(3, "10:00:00"), 3600, types=["ml.p6-b300.48xlarge"])
    found = cost(aws.client("ce"), ["UnblendedCost", "UsageQuantity"], GroupBy=[{"Type": "DIMENSION", "Key": "USAGE_TYPE"}])
    assert groups(found) == {("EUC1-Train:ml.m5.large",): "0.13777", ("USE1-Train:ml.p6-b300.48xlarge",): "0"}
    assert groups(found, "UsageQuantity") == {("EUC1-Train:ml.m5.large",): "1", ("USE1-Train:ml.p6-b300.48xlarge",): "1"}


def today() -> dict[str, Any]:
    now = datetime.now(UTC)
    period = {"Start": f"{now - timedelta(days=1):%Y-%m-%d}", "End": f"{now + timedelta(days=1):%Y-%m-%d}"}
    return {"TimePeriod": period, "Granularity": "DAILY"}


def spent(client: Any) -> tuple[Decimal, Decimal]:
    """Dollars and hours of today and yesterday."""
    results = cost(client, ["UnblendedCost", "UsageQuantity"], **today())
    assert results[-1]["Estimated"] is True
    dollars, hours = (
        sum(Decimal(result["Total"][name]["Amount"]) for result in results) for name in ("UnblendedCost", "UsageQuantity")
    )
    return Decimal(dollars), Decimal(hours)


def test_a_real_job_costs_its_billable_seconds_times_the_rate(aws: Any) -> None:
    lab = Lab(aws)
    job = lab.run("real", "sleep 1", Tags=[{"Key": "project", "Value": "real"}])
    dollars, hours = spent(aws.client("ce"))
    assert job["BillableTimeInSeconds"] >= 1
    assert abs(hours - Decimal(job["BillableTimeInSeconds"]) / 3600) < Decimal("1e-9")
    assert abs(dollars - Decimal(job["BillableTimeInSeconds"]) * Decimal("0.115") / 3600) < Decimal("1e-9")
    tagged = cost(aws.client("ce"), GroupBy=[{"Type": "TAG", "Key": "project"}], **today())
    assert {key for (key,) in groups(tagged)} == {"project$real"}


def test_the_bill_survives_the_death_of_the_server(tmp_path: Path) -> None:
    marker = f"7{tmp_path.stat().st_ino}"
    up = Up(tmp_path / "data")
    start(up, "lost", marker)
    describe = up.client("sagemaker").describe_training_job
    eventually(lambda: describe(TrainingJobName="lost")["SecondaryStatus"] == "Training")
    assert spent(up.client("ce")) == (0, 0), "not final yet"
    up.end(signal.SIGKILL)
    for _ in range(2):
        up = Up(tmp_path / "data")
        try:
            job = up.client("sagemaker").describe_training_job(TrainingJobName="lost")
            assert job["TrainingJobStatus"] == "Failed"
            dollars, _ = spent(up.client("ce"))
            assert abs(dollars - Decimal(job["BillableTimeInSeconds"]) * Decimal("0.115") / 3600) < Decimal("1e-9")
        finally:
            up.end(signal.SIGKILL)
