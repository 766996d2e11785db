"""Names of objects as files."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilvi.jobs.transfer import TransferFailed, _place, name_below, split_uri


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
