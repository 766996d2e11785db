"""kill -9 of the server and of workers while endpoints answer: they come back, in service or honestly failed, and nothing is left over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from pilvi.testing.server import eventually
from pilvi.testing.up import Up
from tests.services.sagemaker_runtime.conftest import Desk


def test_endpoints_after_kill_9(tmp_path: Path) -> None:
    up = Up(tmp_path)
    try:
        desk = Desk(up.root)
        desk.endpoint("stays", desk.variant(desk.model("stays"), InitialInstanceCount=1))
        desk.config("half", desk.variant("stays"))
        desk.sagemaker.create_endpoint(EndpointName="half", EndpointConfigName="half")
        desk.config("better", desk.variant(desk.model("better", 5.0)))
        desk.sagemaker.update_endpoint(EndpointName="stays", EndpointConfigName="better")
        up.kill()
        up = Up(tmp_path)
        root = up.root
        sagemaker, runtime = root.client("sagemaker"), root.client("sagemaker-runtime")

        def status(name: str) -> Any:
            return sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"]

        def answer(name: str) -> Any:
            try:
                return json.loads(
                    runtime.invoke_endpoint(EndpointName=name, Body="[1]", ContentType="application/json")["Body"].read()
                )
            except (ClientError, BotoCoreError):
                return None

        eventually(lambda: status("stays") == status("half") == "InService", within_s=60)
        assert answer("stays") == [5.0]
        assert sagemaker.describe_endpoint(EndpointName="stays")["EndpointConfigName"] == "better"
        assert answer("half") == [2.0]
        sagemaker.delete_endpoint(EndpointName="half")
        up.kill()
        up = Up(tmp_path)
        sagemaker, runtime = up.root.client("sagemaker"), up.root.client("sagemaker-runtime")
        eventually(lambda: [one["EndpointName"] for one in sagemaker.list_endpoints()["Endpoints"]] == ["stays"], within_s=60)
        eventually(lambda: status("stays") == "InService", within_s=60)
        assert answer("stays") == [5.0]
        (folder,) = (tmp_path / "endpoints").iterdir()
        assert len(list(folder.glob("*/*/instances/*"))) == 1
    finally:
        up.stop()
