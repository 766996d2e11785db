"""`pilvi bill` against a server of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

from pilvi.cli.bill import lines
from pilvi.testing.server import eventually
from tests.services.sagemaker.test_crash import Up, start


def bill(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("pilvi")), "bill", "--data-dir", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_bill_shows_what_runs_and_what_it_came_to(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    up = Up(folder)
    try:
        sagemaker = up.client("sagemaker")
        start(up, "long", f"8{tmp_path.stat().st_ino}")
        eventually(lambda: sagemaker.describe_training_job(TrainingJobName="long")["SecondaryStatus"] == "Training")
        shown = json.loads(bill(folder, "--json").stdout)
        assert shown["usd"] == "0.00"
        (running,) = shown["running"]
        assert running["resource"].endswith(":training-job/long")
        assert (running["usd_per_hour"], running["instances"], running["is_on_bill"]) == ("0.115", 1, False)
        assert "training-job/long  USE1-Train:ml.m5.large x 1" in bill(folder).stdout
        up.client("sagemaker").stop_training_job(TrainingJobName="long")
        up.end(signal.SIGKILL)
        up = Up(folder)
        job = up.client("sagemaker").describe_training_job(TrainingJobName="long")
        shown = json.loads(bill(folder, "--json").stdout)
        (service,) = shown["services"]
        (usage,) = service["usage"]
        assert (service["service"], usage["usage_type"], usage["price"]) == ("Amazon SageMaker", "USE1-Train:ml.m5.large", "0.115")
        assert shown["running"] == []
        exact = Decimal(job["BillableTimeInSeconds"]) * Decimal("0.115") / 3600
        assert abs(Decimal(shown["usd_exact"]) - exact) < Decimal("1e-9")
        assert bill(folder, "--month", "2026-13").stderr == "pilvi: 2026-13 is no month: write it as 2026-11.\n"
        assert "lies ahead" in bill(folder, "--month", "2999-01").stderr
    finally:
        up.end(signal.SIGTERM)


def test_marks_are_explained() -> None:
    usage: dict[str, Any] = {"usage_type": "T", "purchase": "Spot Instances", "quantity": "1", "unit": "Hrs", "usd": "0.10"}
    shown = "\n".join(
        lines(
            {
                "month": "2026-11",
                "account": "1",
                "is_running_month": False,
                "usd": "0.10",
                "services": [
                    {
                        "service": "S",
                        "usd": "0.10",
                        "usage": [{**usage, "price": "0.1", "is_estimated": True}, {**usage, "price": None, "is_estimated": False}],
                    }
                ],
                "running": [],
            }
        )
    )
    assert "  T  spot  1.0000 Hrs  ~0.1 an hour" in shown
    assert "no price known" in shown
    assert shown.endswith("? nothing is asked where no price is known")
