"""Folders and large files through the tools that move them: the AWS CLI, rclone, s3cmd, boto3's transfers through a server that dies."""

from __future__ import annotations

import hashlib
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

from pilvi.testing.server import Account
from pilvi.testing.up import Up

MIB = 2**20
FILES = 2000
FEW = 60
LARGE_MIB = 64


@pytest.fixture
def bucket(aws: Account) -> str:
    name = f"moved-{aws.account}"
    aws.client("s3").create_bucket(Bucket=name)
    return name


def folder_of(where: Path, count: int) -> Path:
    """Files of many sizes in folders of a hundred, with names that need care on the way."""
    for number in range(count):
        path = where / f"part {number // 100:02}" / f"käse+{number:04} &%41.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(hashlib.sha256(str(number).encode()).digest() * (number % 7))
    (where / "large.bin").write_bytes(bytes(range(256)) * (20 * MIB // 256))
    return where


def content_of(where: Path) -> Mapping[str, str]:
    return {
        str(path.relative_to(where)): hashlib.sha256(path.read_bytes()).hexdigest() for path in where.rglob("*") if path.is_file()
    }


def found_tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed; Debian has it as a package of this name")
    return found


def keys_of(aws: Account, bucket: str) -> set[str]:
    pages = aws.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return {found["Key"] for page in pages for found in page.get("Contents", ())}


def done_well(command: list[str], environ: Mapping[str, str]) -> str:
    done = subprocess.run(command, env=dict(environ), capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout + done.stderr


# -- folders ---------------------------------------------------------------------------------------------------------------


def test_cli_syncs_two_thousand_files_both_ways(aws: Account, bucket: str, tmp_path: Path) -> None:
    here, there = folder_of(tmp_path / "here", FILES), tmp_path / "there"

    def sync(*arguments: str) -> str:
        return done_well(
            [shutil.which("aws") or "aws", "s3", "sync", *map(str, arguments), "--no-progress"],
            {**aws.environ(), "LC_ALL": "C.UTF-8", "PYTHONUTF8": "1"},
        )

    sync(str(here), f"s3://{bucket}/tree")
    assert len(keys_of(aws, bucket)) == FILES + 1
    assert sync(str(here), f"s3://{bucket}/tree") == "", "the second sync has nothing to do"
    sync(f"s3://{bucket}/tree", str(there))
    assert content_of(there) == content_of(here)
    (here / "part 00" / "new").write_text("new")
    shutil.rmtree(here / "part 01")
    told = sync(str(here), f"s3://{bucket}/tree", "--delete")
    assert told.count("upload:") == 1
    assert told.count("delete:") == 100
    sync(f"s3://{bucket}/tree", str(there), "--delete")
    assert content_of(there) == content_of(here)


def test_rclone_syncs_checks_and_moves(aws: Account, bucket: str, tmp_path: Path) -> None:
    here, there = folder_of(tmp_path / "here", FEW), tmp_path / "there"
    environ = aws.environ() | {
        "RCLONE_CONFIG": str(tmp_path / "none.conf"),
        "RCLONE_CONFIG_CLOUD_TYPE": "s3",
        "RCLONE_CONFIG_CLOUD_PROVIDER": "Other",
        "RCLONE_CONFIG_CLOUD_ENV_AUTH": "true",
        "RCLONE_CONFIG_CLOUD_REGION": aws.region,
        "RCLONE_CONFIG_CLOUD_ENDPOINT": aws.endpoint,
        "RCLONE_S3_UPLOAD_CUTOFF": "5M",
        "RCLONE_S3_CHUNK_SIZE": "5M",
    }

    def rclone(*arguments: str) -> str:
        return done_well([found_tool("rclone"), *arguments], environ)

    rclone("sync", str(here), f"cloud:{bucket}/tree")
    assert "0 differences found" in rclone("check", "--download", str(here), f"cloud:{bucket}/tree")
    assert "0 differences found" in rclone("check", str(here), f"cloud:{bucket}/tree")
    rclone("sync", f"cloud:{bucket}/tree", str(there))
    assert content_of(there) == content_of(here)
    rclone("moveto", f"cloud:{bucket}/tree/large.bin", f"cloud:{bucket}/other/large.bin")
    assert "large.bin" in rclone("lsf", f"cloud:{bucket}/other").splitlines()
    rclone("purge", f"cloud:{bucket}/tree")
    assert keys_of(aws, bucket) == {"other/large.bin"}


def test_s3cmd_makes_syncs_signs_and_removes(aws: Account, bucket: str, tmp_path: Path) -> None:
    here, there = folder_of(tmp_path / "here", FEW), tmp_path / "there"
    there.mkdir()
    host = aws.endpoint.removeprefix("http://")
    settings = tmp_path / "s3cfg"
    settings.write_text(
        f"[default]\naccess_key = {aws.access_key_id}\nsecret_key = {aws.secret}\nhost_base = {host}\nhost_bucket = {host}\n"
        f"use_https = False\nbucket_location = {aws.region}\nmultipart_chunk_size_mb = 5\n"
    )

    def s3cmd(*arguments: str) -> str:
        environ = {**aws.environ(), "LC_ALL": "C.UTF-8", "PYTHONUTF8": "1", "PYTHONWARNINGS": "ignore"}
        return done_well([found_tool("s3cmd"), "--no-progress", "-c", str(settings), *arguments], environ)

    s3cmd("mb", f"s3://{bucket}-more")
    assert f"s3://{bucket}-more" in s3cmd("ls")
    s3cmd("sync", f"{here}/", f"s3://{bucket}/tree/")
    assert len(keys_of(aws, bucket)) == FEW + 1
    s3cmd("sync", f"s3://{bucket}/tree/", f"{there}/")
    assert content_of(there) == content_of(here)
    # s3cmd 2.3 sends a list of access with every copy; AWS too takes it only where lists are on.
    aws.client("s3").put_bucket_ownership_controls(
        Bucket=f"{bucket}-more", OwnershipControls={"Rules": [{"ObjectOwnership": "BucketOwnerPreferred"}]}
    )
    s3cmd("cp", f"s3://{bucket}/tree/large.bin", f"s3://{bucket}-more/large.bin")
    assert "20971520" in s3cmd("info", f"s3://{bucket}-more/large.bin")
    s3cmd("setlifecycle", _lifecycle(tmp_path), f"s3://{bucket}")
    assert aws.client("s3").get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"][0]["ID"] == "old"
    s3cmd("del", "--recursive", "--force", f"s3://{bucket}/tree/")
    s3cmd("rb", "--recursive", "--force", f"s3://{bucket}-more")
    assert keys_of(aws, bucket) == set()
    assert f"{bucket}-more" not in s3cmd("ls")


def _lifecycle(where: Path) -> str:
    rule = "<ID>old</ID><Filter><Prefix>logs/</Prefix></Filter><Status>Enabled</Status><Expiration><Days>30</Days></Expiration>"
    path = where / "lifecycle.xml"
    path.write_text(f"<LifecycleConfiguration><Rule>{rule}</Rule></LifecycleConfiguration>")
    return str(path)


# -- one large file, and a server that is killed -------------------------------------------------------------------------------


def test_transfers_outlive_kills_of_the_server(up: Callable[..., Up], tmp_path: Path) -> None:
    move_through_kills(up, tmp_path, LARGE_MIB, kills=1)


def move_through_kills(up: Callable[..., Up], where: Path, size_mib: int, kills: int) -> None:
    """Up and down with boto3's transfers and retries; the server is killed and started again in the middle, `kills` times a way."""
    port = free_port()
    servers = [up("--port", str(port))]
    source, target = where / "source", where / "target"
    with source.open("wb") as file:
        for number in range(size_mib):
            file.write(hashlib.sha256(str(number).encode()).digest() * (MIB // 32))
    retrying = Config(retries={"mode": "standard", "total_max_attempts": 12}, connect_timeout=5, read_timeout=60)
    s3 = servers[0].root.client("s3", config=retrying)
    s3.create_bucket(Bucket="large-files")
    transfers = TransferConfig(max_concurrency=4, num_download_attempts=12)

    def move(begin: Callable[[Callable[[int], None]], None]) -> None:
        pause = Pause([size_mib * MIB * (number + 1) // (kills + 2) for number in range(kills)])
        with ThreadPoolExecutor(1) as pool:
            moving = pool.submit(begin, pause)
            for _ in range(kills):
                assert pause.reached.acquire(timeout=240)
                servers[-1].kill()
                pause.go_on.release()
                servers.append(up("--port", str(port)))
            moving.result(240)

    move(lambda told: s3.upload_file(str(source), "large-files", "large", Config=transfers, Callback=told))
    move(lambda told: s3.download_file("large-files", "large", str(target), Config=transfers, Callback=told))
    assert sha256_of(target) == sha256_of(source)
    assert s3.head_object(Bucket="large-files", Key="large")["ContentLength"] == size_mib * MIB
    assert "Uploads" not in s3.list_multipart_uploads(Bucket="large-files")


class Pause:
    """A transfer's progress. At each mark it holds the transfer until somebody has killed the server."""

    def __init__(self, marks: list[int]) -> None:
        self._marks = marks
        self._moved = 0
        self._lock = threading.Lock()
        self.reached, self.go_on = threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self, moved: int) -> None:
        with self._lock:
            self._moved += moved
            if self._marks and self._moved >= self._marks[0]:
                del self._marks[0]
                self.reached.release()
                assert self.go_on.acquire(timeout=60)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
