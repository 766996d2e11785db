"""Notebook instances on the bill: while they are InService, final with their stop, not paid for while no server runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pilvi.compute.environments import Environments
from pilvi.core.config import Config
from pilvi.metering.running import running
from pilvi.testing.server import Account, TestServer
from pilvi.testing.up import Up
from tests.services.sagemaker.test_notebook_jupyter import PERMISSIONS, Desk
from tests.services.sagemaker.test_studio_jupyter import Studio

ENVIRONMENT = Environments(Config.runtimes_dir_default()).find("notebook")
pytestmark = pytest.mark.skipif(ENVIRONMENT is None, reason="needs: pilvi runtimes install notebook")


def desk_of(aws: Account) -> Desk:
    desk = Desk(aws, "metered")
    role = aws.role("Metered", "sagemaker.amazonaws.com", PERMISSIONS)
    desk.sagemaker.create_notebook_instance(NotebookInstanceName="metered", InstanceType="ml.t3.medium", RoleArn=role)
    desk.wait("InService")
    return desk


def usage(aws: Account) -> dict[str, tuple[float, float]]:
    """Usage type -> dollars, hours."""
    now = datetime.now(UTC)
    period = {"Start": f"{now - timedelta(days=1):%Y-%m-%d}", "End": f"{now + timedelta(days=1):%Y-%m-%d}"}
    answer = aws.client("ce").get_cost_and_usage(
        TimePeriod=period,
        Granularity="DAILY",
        Metrics=["UnblendedCost", "UsageQuantity"],
        GroupBy=[{"Type": "DIMENSION", "Key": "USAGE_TYPE"}],
    )
    found: dict[str, tuple[float, float]] = {}
    for result in answer["ResultsByTime"]:
        for group in result["Groups"]:
            dollars, hours = found.get(group["Keys"][0], (0.0, 0.0))
            amounts: dict[str, Any] = group["Metrics"]
            found[group["Keys"][0]] = (
                dollars + float(amounts["UnblendedCost"]["Amount"]),
                hours + float(amounts["UsageQuantity"]["Amount"]),
            )
    return found


def test_a_notebook_counts_while_it_is_in_service(server: TestServer, aws: Account) -> None:
    desk = desk_of(aws)
    (meter,) = running(server.cloud.store, aws.account)
    assert meter.meter.usage == "Notebk:ml.t3.medium"
    desk.sagemaker.stop_notebook_instance(NotebookInstanceName="metered")
    stopped = desk.wait("Stopped")
    assert list(running(server.cloud.store, aws.account)) == []
    ((name, (dollars, hours)),) = usage(aws).items()
    assert name == "USE1-Notebk:ml.t3.medium"
    most = (stopped["LastModifiedTime"] - meter.since).total_seconds() + 1
    assert 1 <= round(hours * 3600) <= most
    assert dollars == pytest.approx(hours * 0.05, abs=1e-9)


def test_a_notebook_is_not_paid_for_while_no_server_runs(tmp_path: Path) -> None:
    first = Up(tmp_path / "data")
    try:
        desk_of(first.root)
        before = usage(first.root)
    finally:
        first.kill()
    second = Up(tmp_path / "data")
    try:
        desk = Desk(second.root, "metered")
        assert desk.describe()["NotebookInstanceStatus"] == "Pending"
        assert usage(second.root) == before
        desk.wait("InService")
        desk.sagemaker.stop_notebook_instance(NotebookInstanceName="metered")
        desk.wait("Stopped")
        assert usage(second.root).keys() == before.keys()
        assert sum(hours for _, hours in usage(second.root).values()) > sum(hours for _, hours in before.values())
    finally:
        second.stop()


def apps_running(server: TestServer, aws: Account) -> list[Any]:
    """What runs of Studio; the key of its volumes counts as well."""
    return [found for found in running(server.cloud.store, aws.account) if found.meter.usage.startswith("Studio:")]


def test_a_studio_app_counts_until_it_is_deleted(server: TestServer, aws: Account) -> None:
    studio = Studio(aws)
    studio.start("private", InstanceType="ml.m5.large")
    studio.wait("private", "InService")
    (meter,) = apps_running(server, aws)
    assert (meter.meter.usage, meter.meter.instance_type) == ("Studio:JupyterLab-ml.m5.large", "ml.m5.large")
    studio.sagemaker.delete_app(**studio.where("private"))
    studio.wait("private", "Deleted")
    assert apps_running(server, aws) == []
    dollars, hours = usage(aws)["USE1-Studio:JupyterLab-ml.m5.large"]
    assert dollars == pytest.approx(hours * 0.115, abs=1e-9)
    assert hours > 0
