"""The AWS CLI against buckets and objects."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pilvi.testing.server import Account


@pytest.fixture
def aws(new_account: Callable[[], Account]) -> Account:
    """A fresh account for every test."""
    return new_account()


def test_cli_copies_syncs_and_removes(aws: Account, tmp_path: Path, name: str) -> None:
    def run(*words: str) -> str:
        done = aws.cli("s3", *words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    source, target = tmp_path / "source", tmp_path / "target"
    (source / "sub").mkdir(parents=True)
    big = os.urandom(9_000_000)
    (source / "big.bin").write_bytes(big)
    (source / "sub" / "täst.csv").write_text("a,b\n")
    run("mb", f"s3://{name}")
    run("sync", "source", f"s3://{name}/data")
    listing = run("ls", f"s3://{name}/data/", "--recursive")
    assert "data/big.bin" in listing
    assert "data/sub/täst.csv" in listing
    assert aws.client("s3").head_object(Bucket=name, Key="data/sub/täst.csv")["ContentType"] == "text/csv"
    run("sync", f"s3://{name}/data", "target")
    assert (target / "big.bin").read_bytes() == big
    run("mv", f"s3://{name}/data/big.bin", f"s3://{name}/moved.bin")
    assert aws.client("s3").head_object(Bucket=name, Key="moved.bin")["ContentLength"] == len(big)
    run("rb", f"s3://{name}", "--force")
    assert run("ls") == ""


def test_cli_tells_refusals(aws: Account, name: str) -> None:
    constraint = ("--create-bucket-configuration", "LocationConstraint=us-east-1")
    done = aws.cli("s3api", "create-bucket", "--bucket", name, *constraint)
    assert "(InvalidLocationConstraint)" in done.stderr
    assert "The specified location-constraint is not valid" in done.stderr
    done = aws.cli("s3api", "create-bucket", "--bucket", name, "--region", "eu-east-1")
    assert done.returncode != 0
    assert aws.client("s3").list_buckets()["Buckets"] == []
