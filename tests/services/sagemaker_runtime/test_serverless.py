"""Serverless endpoints: a program a request, refusals beyond the limit, nothing left when nobody asks."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pilvi.testing.server import Account, TestServer, eventually
from tests.services.sagemaker_runtime.conftest import Desk


def serverless(desk: Desk, name: str, **config: Any) -> None:
    settings = {"MemorySizeInMB": 1024, "MaxConcurrency": 2, **config}
    desk.endpoint(name, {"VariantName": "AllTraffic", "ModelName": desk.model(name), "ServerlessConfig": settings})


def test_serverless_answers_up_to_its_concurrency(desk: Desk) -> None:
    serverless(desk, "burst")
    (variant,) = desk.describe("burst")["ProductionVariants"]
    assert variant["CurrentServerlessConfig"] == {"MemorySizeInMB": 1024, "MaxConcurrency": 2}
    seen: list[str] = []

    def ask() -> None:
        try:
            desk.ask("burst", '{"sleep": 1}')
            seen.append("answered")
        except ClientError as error:
            seen.append(error.response["Error"]["Code"])

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == ["ThrottlingException", "ThrottlingException", "answered", "answered"]
    desk.remove("burst")


@pytest.fixture
def later_desk(later_aws: Account) -> Desk:
    return Desk(later_aws)


def test_serverless_scales_to_zero_and_costs_only_its_work(
    later_desk: Desk, timed: TestServer, passes: Callable[[float], None]
) -> None:
    desk = later_desk
    serverless(desk, "idle")
    live = next(one for place, one in timed.cloud.memory["sagemaker-endpoints"].live.items() if place.name == "idle")
    (variant,) = live.deployments[0].variants.values()
    first = json.loads(desk.ask("idle", '{"pid": 1}'))
    assert json.loads(desk.ask("idle", '{"pid": 1}')) == first

    def is_empty() -> bool:
        passes(120)
        return not variant.instances

    eventually(is_empty, every_s=1.0)
    assert json.loads(desk.ask("idle")) == [2.0, 4.0]
    assert len(variant.instances) == 1
    passes(60)
    found = desk.aws.client("cloudwatch").list_metrics(Namespace="AWS/SageMaker")["Metrics"]
    assert {"Invocations", "ModelLatency", "ModelSetupTime"} <= {metric["MetricName"] for metric in found}
