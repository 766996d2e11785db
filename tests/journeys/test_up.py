"""The product's face: up, env, status, one server to a directory, a clean end, strict and open mode."""

from __future__ import annotations

import json
import re
import stat
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pilvi.testing.server import Account
from pilvi.testing.up import PILVI, Up

Start = Callable[..., Up]


def ask(url: str, method: str = "GET") -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=10) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def test_the_ready_line_names_endpoint_data_and_keys(up: Start, tmp_path: Path) -> None:
    line = up().ready_line
    assert re.search(r"endpoint http://127\.0\.0\.1:\d+ ", line)
    assert str(tmp_path / "data") in line
    assert "pilvi env --data-dir" in line


def test_as_many_files_are_open_as_the_user_may_have(up: Start) -> None:
    limits = Path(f"/proc/{up().process.pid}/limits").read_text()
    found = re.search(r"Max open files +(\d+) +(\d+|unlimited)", limits)
    assert found is not None
    soft, hard = found.groups()
    assert int(soft) >= 65_536 or soft == hard


def test_env_points_a_shell_to_the_cloud(up: Start) -> None:
    server = up()
    script = f'eval "$({PILVI} env --data-dir {server.data_dir})" && aws sts get-caller-identity --query Account --output text'
    done = subprocess.run(
        ["bash", "-c", script],
        env=server.root.environ() | {"PATH": f"{Path(PILVI).parent}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "123456789012"), done.stderr
    assert server.exports["AWS_DISABLE_HOST_PREFIX_INJECTION"] == "true"
    assert server.exports["AWS_DEFAULT_REGION"] == "us-east-1"
    assert Path(server.exports["SAGEMAKER_ADMIN_CONFIG_OVERRIDE"]).exists()


def test_health_status_and_a_clean_end(up: Start) -> None:
    server = up()
    code, health = ask(f"{server.endpoint}/_pilvi/health")
    assert (code, health["status"], health["jobs"]) == (200, "ready", {"running": 0, "waiting": 0})
    status = subprocess.run(
        [PILVI, "status", "--json", "--data-dir", str(server.data_dir)], capture_output=True, text=True, check=False
    )
    assert json.loads(status.stdout)["status"] == "ready"
    assert server.stop() == 0
    status = subprocess.run([PILVI, "status", "--data-dir", str(server.data_dir)], capture_output=True, text=True, check=False)
    assert status.returncode == 1
    assert status.stdout.startswith("stopped")


def test_a_second_server_on_the_directory_is_refused(up: Start) -> None:
    server = up()
    second = subprocess.run(
        [PILVI, "up", "--data-dir", str(server.data_dir), "--port", "0"], capture_output=True, text=True, timeout=30, check=False
    )
    assert second.returncode == 1
    assert "in use by another server" in second.stderr
    assert str(server.process.pid) in second.stderr


def test_a_taken_port_is_refused_with_a_clear_line(up: Start, tmp_path: Path) -> None:
    port = up().endpoint.rpartition(":")[2]
    second = subprocess.run(
        [PILVI, "up", "--data-dir", str(tmp_path / "other"), "--port", port],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert second.returncode == 1
    assert "choose --port" in second.stderr


def test_state_survives_a_restart(up: Start) -> None:
    first = up()
    first.root.client("s3").create_bucket(Bucket="kept-bucket")
    first.root.client("s3").put_object(Bucket="kept-bucket", Key="k", Body=b"kept", Metadata={"a": "b"})
    first.root.client("iam").create_user(UserName="kept")
    first.stop()
    second = up()
    assert second.root.access_key_id == first.root.access_key_id
    assert second.root.client("s3").get_object(Bucket="kept-bucket", Key="k")["Body"].read() == b"kept"
    assert [user["UserName"] for user in second.root.client("iam").list_users()["Users"]] == ["kept"]


def test_strict_mode_refuses_unknown_keys_and_reset(up: Start) -> None:
    server = up()
    stranger = Account(server.endpoint, "", "test", "test")
    with pytest.raises(ClientError) as refused:
        stranger.client("sts").get_caller_identity()
    assert refused.value.response["Error"]["Code"] == "InvalidClientTokenId"
    assert ask(f"{server.endpoint}/_pilvi/reset", "POST")[0] == 403


def test_open_mode_takes_any_key_and_resets(up: Start) -> None:
    server = up("--auth", "open")
    anyone = Account(server.endpoint, "", "test", "test")
    named = Account(server.endpoint, "", "222222222222", "whatever")
    assert anyone.client("sts").get_caller_identity()["Arn"] == "arn:aws:iam::123456789012:root"
    assert named.client("sts").get_caller_identity()["Account"] == "222222222222"
    anyone.client("s3").create_bucket(Bucket="short-lived")
    named.client("s3").create_bucket(Bucket="also-short-lived")
    anyone.client("s3").put_object(Bucket="short-lived", Key="k", Body=b"x" * 200_000)
    assert [bucket["Name"] for bucket in named.client("s3").list_buckets()["Buckets"]] == ["also-short-lived"]
    assert ask(f"{server.endpoint}/_pilvi/reset", "POST") == (200, {"status": "empty"})
    assert anyone.client("s3").list_buckets()["Buckets"] == []
    assert [path for path in (server.data_dir / "blobs").rglob("*") if path.is_file()] == []


def test_nothing_of_an_object_or_a_secret_is_readable_on_the_disk(up: Start) -> None:
    server = up()
    s3 = server.root.client("s3")
    s3.create_bucket(Bucket="sealed-bucket")
    marker = b"a-known-plaintext-that-nobody-may-find"
    s3.put_object(Bucket="sealed-bucket", Key="small", Body=marker)
    s3.put_object(Bucket="sealed-bucket", Key="large", Body=marker * 50_000)
    secret = server.root.secret.encode()
    server.stop()
    for path in server.data_dir.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert marker not in data, path
            assert secret not in data, path
    assert stat.S_IMODE((server.data_dir / "keys" / "master.key").stat().st_mode) == 0o600
    assert stat.S_IMODE(server.data_dir.stat().st_mode) == 0o700


def test_every_request_leaves_one_audit_record(up: Start) -> None:
    server = up()
    server.root.client("s3").create_bucket(Bucket="audited-bucket")
    with pytest.raises(ClientError):
        server.root.client("s3").head_object(Bucket="audited-bucket", Key="missing")
    server.stop()
    records = [json.loads(line) for path in (server.data_dir / "audit").glob("*.jsonl") for line in path.read_text().splitlines()]
    rows = [(record["eventName"], record["userIdentity"]["arn"], record.get("errorCode")) for record in records]
    arn = "arn:aws:iam::123456789012:root"
    assert rows == [("CreateBucket", arn, None), ("HeadObject", arn, "NoSuchKey")]
    assert records[0]["resources"] == [{"ARN": "arn:aws:s3:::audited-bucket"}]
    assert server.root.secret not in json.dumps(records)


def test_what_is_not_built_says_so(up: Start) -> None:
    server = up()
    with pytest.raises(ClientError) as refused:
        server.root.client("dynamodb").list_tables()
    assert refused.value.response["Error"]["Code"] == "NotImplemented"
    assert "dynamodb:ListTables" in refused.value.response["Error"]["Message"]


def test_coverage_lists_every_operation_of_every_service() -> None:
    done = subprocess.run([PILVI, "coverage", "--json"], capture_output=True, text=True, timeout=120, check=True)
    services = json.loads(done.stdout)
    assert services["s3"]["GetObject"] == "executes"
    assert services["dynamodb"]["ListTables"] == "absent"
    assert {depth for operations in services.values() for depth in operations.values()} <= {"executes", "records", "absent"}
