"""Names of objects as files, and files as they go to S3."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

from pilvi.jobs.host import CACHE, Host
from pilvi.jobs.spec import JobSpec, Member
from pilvi.jobs.transfer import TransferFailed, _pack, _place, name_below, split_uri


@pytest.mark.parametrize(
    ("prefix", "key", "name"),
    [
        ("data/train/", "data/train/a/b.csv", "a/b.csv"),
        ("data/train", "data/train/a/b.csv", "a/b.csv"),
        ("data/train", "data/train_2.csv", "train_2.csv"),
        ("data/train.csv", "data/train.csv", "train.csv"),
        ("", "a/b.csv", "a/b.csv"),
        ("a", "abc/d", "abc/d"),
        ("train.csv", "train.csv", "train.csv"),
    ],
)
def test_name_below(prefix: str, key: str, name: str) -> None:
    assert name_below(prefix, key) == name


def test_split_uri() -> None:
    assert split_uri("s3://b/a/b c") == ("b", "a/b c")
    assert split_uri("s3://b") == ("b", "")


@pytest.mark.parametrize("name", ["../x", "a/../../x", "", ".."])
def test_a_key_does_not_lead_out_of_its_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(TransferFailed):
        _place(tmp_path, name, False)


def test_a_key_may_look_absolute(tmp_path: Path) -> None:
    assert _place(tmp_path, "/etc/passwd", False) == tmp_path / "etc" / "passwd"
    assert _place(tmp_path, "a/./b.gz", True) == tmp_path / "a" / "b"


def spec(id: str, *folders: str) -> JobSpec:
    names = dict.fromkeys(("kind", "account", "region", "service", "principal", "arn", "role_arn", "session_name", "runtime"), "x")
    return JobSpec(id=id, name=id, command=("true",), folders=folders, **names)


def test_a_file_of_several_names_is_packed_under_each(tmp_path: Path) -> None:
    for host in ("algo-1", "algo-2"):
        (tmp_path / host / "sub").mkdir(parents=True)
        (tmp_path / host / "a").write_text(host)
        os.link(tmp_path / host / "a", tmp_path / host / "sub" / f"also-{host}")
    _pack([tmp_path / "algo-1", tmp_path / "algo-2"], tmp_path / "model.tar.gz")
    with tarfile.open(tmp_path / "model.tar.gz") as archive:
        found = {member.name: file.read() for member in archive if (file := archive.extractfile(member)) is not None}
    assert found == {"a": b"algo-1", "sub/also-algo-1": b"algo-1", "sub/also-algo-2": b"algo-2"}


@pytest.mark.parametrize("path", ["/opt/ml/../../x", "/a/../../../../x", "../x", "/tmp/../x"])
def test_a_path_of_a_job_does_not_lead_out_of_its_folder(tmp_path: Path, path: str) -> None:
    with pytest.raises(TransferFailed, match="leads out"):
        Host(tmp_path, spec("a"), Member("algo-1")).outside(path)


def test_a_warm_pools_files_do_not_lie_under_what_a_job_brings(tmp_path: Path) -> None:
    """They may be links to anywhere, which nothing of the next job is to be written through."""
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "checkpoints").symlink_to(tmp_path)
    host = Host(tmp_path / "job", spec("a", f"/opt/ml/{CACHE}/checkpoints"), Member("algo-1"))
    host.prepare()
    host.inherit(kept)
    assert not host.outside(f"/opt/ml/{CACHE}/checkpoints").is_symlink()
    plain = Host(tmp_path / "other", spec("b"), Member("algo-1"))
    plain.prepare()
    plain.inherit(kept)
    assert (plain.outside(CACHE) / "checkpoints").is_symlink()
