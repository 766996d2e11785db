"""The clock and its tasks in real processes: several workers, and a server that is killed in the middle of a run."""

from __future__ import annotations

import json
import subprocess
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pilvi.testing.server import eventually
from pilvi.testing.up import PILVI, Up


def advance(up: Up, by: str) -> dict[str, object]:
    command = [PILVI, "clock", "advance", by, "--json", "--data-dir", str(up.data_dir)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    told: dict[str, object] = json.loads(done.stdout)
    return told


def test_workers_see_the_clock_that_was_moved(tmp_path: Path) -> None:
    up = Up(tmp_path, "--workers", "3")
    try:
        s3 = up.root.client("s3")
        s3.create_bucket(Bucket="workers")
        s3.put_object(Bucket="workers", Key="a", Body=b"x", StorageClass="GLACIER")
        s3.restore_object(Bucket="workers", Key="a", RestoreRequest={"Days": 1})
        assert advance(up, "5h")["ahead_s"] == 18_000
        # New connections land on any of the processes, and each reads by the same clock.
        for _ in range(12):
            client = up.root.client("s3", use_ssl=False)
            assert client.get_object(Bucket="workers", Key="a")["Body"].read() == b"x"
    finally:
        up.stop()


def test_a_run_that_was_killed_is_done_after_the_restart(tmp_path: Path) -> None:
    up = Up(tmp_path)
    s3 = up.root.client("s3")
    s3.create_bucket(Bucket="killed")
    rule = {"ID": "r", "Status": "Enabled", "Filter": {"Prefix": "old/"}, "Expiration": {"Days": 1}}
    s3.put_bucket_lifecycle_configuration(Bucket="killed", LifecycleConfiguration={"Rules": [rule]})
    for number in range(60):
        s3.put_object(Bucket="killed", Key=f"{'old' if number % 2 else 'new'}/{number:02}", Body=b"x" * 40_000)
    moving = threading.Thread(
        target=lambda: subprocess.run([PILVI, "clock", "advance", "3d", "--data-dir", str(tmp_path)], check=False)
    )
    moving.start()
    eventually(lambda: ahead(up) > 0, every_s=0.001)
    up.kill()
    moving.join()
    again = Up(tmp_path)
    try:
        assert ahead(again) == timedelta(days=3).total_seconds()
        s3 = again.root.client("s3")

        def left() -> list[str]:
            return [entry["Key"] for entry in s3.list_objects_v2(Bucket="killed")["Contents"]]

        eventually(lambda: left() == [f"new/{number:02}" for number in range(0, 60, 2)])
        assert all(len(s3.get_object(Bucket="killed", Key=key)["Body"].read()) == 40_000 for key in left())
        assert s3.head_object(Bucket="killed", Key="new/00")["LastModified"] < datetime.now(UTC) + timedelta(days=1)
    finally:
        again.stop()


def ahead(up: Up) -> float:
    import urllib.request

    with urllib.request.urlopen(f"{up.endpoint}/_pilvi/clock", timeout=10) as answer:
        return float(json.loads(answer.read())["ahead_s"])
