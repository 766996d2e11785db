"""Instances of endpoints: several of them, weights, what dies comes back, updates lose no request."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections import Counter
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pilvi.testing.server import eventually
from tests.services.sagemaker_runtime.conftest import Desk


def test_variants_share_requests_by_weight(desk: Desk) -> None:
    first, second = desk.model("ab-one", 1.0), desk.model("ab-two", 10.0)
    variants = [desk.variant(first, "one", InitialVariantWeight=9), desk.variant(second, "two", InitialVariantWeight=1)]
    desk.endpoint("ab", *variants)

    def asked(**more: Any) -> str:
        answer = desk.runtime.invoke_endpoint(EndpointName="ab", Body="[1]", ContentType="application/json", **more)
        assert json.loads(answer["Body"].read()) == [1.0 if answer["InvokedProductionVariant"] == "one" else 10.0]
        return str(answer["InvokedProductionVariant"])

    assert Counter(asked() for _ in range(100)) == {"one": 90, "two": 10}
    assert {asked(TargetVariant="two") for _ in range(5)} == {"two"}
    weights = [{"VariantName": "one", "DesiredWeight": 1}, {"VariantName": "two", "DesiredWeight": 3}]
    desk.sagemaker.update_endpoint_weights_and_capacities(EndpointName="ab", DesiredWeightsAndCapacities=weights)
    found = {one["VariantName"]: one["CurrentWeight"] for one in desk.settled("ab")["ProductionVariants"]}
    assert found == {"one": 1.0, "two": 3.0}
    assert Counter(asked() for _ in range(40)) == {"one": 10, "two": 30}
    desk.remove("ab")


def test_instances_are_programs_that_come_back(desk: Desk, server: Any) -> None:
    desk.endpoint("two", desk.variant(desk.model("two"), InitialInstanceCount=2))
    assert desk.describe("two")["ProductionVariants"][0]["CurrentInstanceCount"] == 2
    assert len({desk.ask("two", '{"pid": 1}') for _ in range(4)}) <= 2
    live = next(one for place, one in server.cloud.memory["sagemaker-endpoints"].live.items() if place.name == "two")
    (variant,) = live.deployments[0].variants.values()
    before = {instance.id for instance in variant.instances}
    os.kill(next(iter(variant.instances)).servers[0].pid, signal.SIGKILL)
    for _ in range(50):
        assert json.loads(desk.ask("two")) == [2.0, 4.0]
    eventually(lambda: variant.current == 2 and {instance.id for instance in variant.instances} != before)
    wanted = [{"VariantName": "AllTraffic", "DesiredInstanceCount": 1}]
    desk.sagemaker.update_endpoint_weights_and_capacities(EndpointName="two", DesiredWeightsAndCapacities=wanted)
    assert desk.settled("two")["ProductionVariants"][0]["CurrentInstanceCount"] == 1
    desk.remove("two")


def test_update_endpoint_loses_no_request(desk: Desk) -> None:
    desk.endpoint("updated", desk.variant(desk.model("updated-old", 1.0)))
    desk.config("updated-new", desk.variant(desk.model("updated-new", 5.0)))
    seen: list[Any] = []
    is_over = threading.Event()

    def asking() -> None:
        client = desk.aws.session.client("sagemaker-runtime", endpoint_url=desk.aws.endpoint)
        while not is_over.is_set():
            try:
                answer = client.invoke_endpoint(EndpointName="updated", Body="[1]", ContentType="application/json")
                seen.append(json.loads(answer["Body"].read())[0])
            except ClientError as error:
                seen.append(error)

    threads = [threading.Thread(target=asking) for _ in range(2)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(seen) > 20)
    desk.sagemaker.update_endpoint(EndpointName="updated", EndpointConfigName="updated-new")
    with pytest.raises(ClientError, match="Cannot update in-progress endpoint"):
        desk.sagemaker.update_endpoint(EndpointName="updated", EndpointConfigName="updated-new")
    found = desk.settled("updated")
    count = len(seen)
    eventually(lambda: len(seen) > count + 20)
    is_over.set()
    for thread in threads:
        thread.join()
    assert set(seen) == {1.0, 5.0}
    assert seen == sorted(seen)
    assert (found["EndpointConfigName"], found["EndpointStatus"]) == ("updated-new", "InService")
    desk.remove("updated")


def test_update_endpoint_to_a_broken_model_keeps_the_old_one(desk: Desk) -> None:
    desk.endpoint("kept", desk.variant(desk.model("kept")))
    broken = desk.model("kept-broken", script="def model_fn(model_dir):\n    raise ValueError('no such luck')\n")
    desk.config("kept-broken", desk.variant(broken))
    desk.sagemaker.update_endpoint(EndpointName="kept", EndpointConfigName="kept-broken")
    found = desk.settled("kept")
    assert (found["EndpointStatus"], found["EndpointConfigName"]) == ("InService", "kept")
    assert "did not pass the ping health check" in found["FailureReason"]
    assert json.loads(desk.ask("kept")) == [2.0, 4.0]
    desk.remove("kept")
