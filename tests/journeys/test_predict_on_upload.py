"""Predictions when data arrives: a function that runs for uploads only, told by unmodified clients."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pilvi.compute.environments import Environments
from pilvi.core.config import Config
from pilvi.testing.server import Account, TestServer, eventually

DEMO = Path(__file__).parent.parent.parent / "demo"
sys.path.insert(0, str(DEMO))

from uploads import predict_on_upload  # noqa: E402
from uploads.cloud import Cloud  # noqa: E402

pytestmark = pytest.mark.skipif(
    Environments(Config.runtimes_dir_default()).find("lambda-python") is None, reason="needs: pilvi runtimes install lambda-python"
)


@pytest.fixture(scope="module")
def story(timed: TestServer, titanic: Path) -> tuple[Cloud, str, list[str]]:
    """Two uploads, one after the other."""
    account: Account = timed.account("200100000007")
    cloud = Cloud(account.client, lambda seconds: timed.cloud.advance_clock(seconds))
    bucket = predict_on_upload.prepare(cloud)
    data = (titanic / "test.csv").read_bytes()
    return cloud, bucket, [predict_on_upload.upload(cloud, bucket, f"{turn}.csv", data) for turn in range(2)]


def test_a_csv_becomes_predictions(story: tuple[Cloud, str, list[str]], titanic: Path) -> None:
    passengers = list(csv.DictReader((titanic / "test.csv").read_text().splitlines()))
    first, second = story[2]
    rows = list(csv.DictReader(io.StringIO(first)))
    assert first == second
    assert [row["PassengerId"] for row in rows] == [passenger["PassengerId"] for passenger in passengers]
    assert {row["Survived"] for row in rows} == {"0", "1"}
    assert all((float(row["Chance"]) > 0.5) == (row["Survived"] == "1") for row in rows if row["Chance"] != "0.5000")


def test_a_cold_start_and_the_limits_are_in_the_report(story: tuple[Cloud, str, list[str]]) -> None:
    cloud = story[0]
    cold, warm = eventually(lambda: len(found := predict_on_upload.reports(cloud)) == 2 and found)
    assert cold["Init Duration"] > 0
    assert "Init Duration" not in warm
    assert cold["Billed Duration"] >= cold["Duration"] > 0
    assert (cold["Memory Size"], warm["Memory Size"]) == (256, 256)
    assert 0 < warm["Max Memory Used"] <= 256
    assert len(cloud.lines("predict-on-upload", "loading")) == 1


def test_a_run_longer_than_its_limit_ends(story: tuple[Cloud, str, list[str]]) -> None:
    cloud = story[0]
    lam: Any = cloud.client("lambda")
    role = lam.get_function(FunctionName="predict-on-upload")["Configuration"]["Role"]
    cloud.function("too-long", role, "sleeping_handler.py", Timeout=1)
    answer = lam.invoke(FunctionName="too-long", LogType="Tail")
    assert answer["FunctionError"] == "Unhandled"
    assert b"Task timed out after 1.00 seconds" in answer["Payload"].read()


def test_nothing_is_used_between_uploads(
    story: tuple[Cloud, str, list[str]], timed: TestServer, passes: Callable[[float], None]
) -> None:
    cloud, bucket, _ = story
    begin = timed.cloud.clock.now()
    passes(4 * 3600)
    predict_on_upload.upload(cloud, bucket, "late.csv", b"PassengerId,Pclass,Age,SibSp,Fare\n1,3,22,1,7.25\n")
    passes(3600)
    by_hour = [
        predict_on_upload.gigabyte_seconds(cloud, begin.replace(minute=0) + timedelta(hours=passed), 1) for passed in range(6)
    ]
    assert by_hour[0] > 0
    assert by_hour[1:4] == [0, 0, 0]
    assert by_hour[4] > 0
