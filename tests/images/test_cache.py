"""Unpacked images: shared, bounded, gone with their images, whole or not there."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from pilvi.core.errors import Invalid
from pilvi.images.cache import Cache
from pilvi.images.config import read_config
from tests.images.test_unpack import layer


def lease(cache: Cache, name: str, content: bytes = b"1", key: str = "a"):
    count = 1 if key == "a" else 2
    return cache.lease(name, [""] * count, lambda: [[layer(("f", content))]] * count)


def test_a_tree_is_made_once_and_goes_with_its_last_image(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    one = lease(cache, "one")
    two = lease(cache, "two")
    assert one.folder == two.folder
    assert (one.folder / "f").read_bytes() == b"1"
    cache.forget(["one"])
    assert one.folder.exists()
    cache.forget(["two"])
    assert one.folder.exists()
    one.end()
    one.end()
    assert two.folder.exists()
    two.end()
    assert list(tmp_path.iterdir()) == []


def test_a_crash_leaves_nothing_that_counts(tmp_path: Path) -> None:
    (tmp_path / "half" / "rootfs").mkdir(parents=True)
    cache = Cache(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(Invalid):
        cache.lease("bad", [""], lambda: [[b"no archive" * 100]])
    assert list(tmp_path.iterdir()) == []


def test_the_longest_unused_go_when_there_are_too_many(tmp_path: Path) -> None:
    cache = Cache(tmp_path, most_bytes=15)
    first = lease(cache, "one", b"x" * 10)
    first.end()
    assert first.folder.exists()
    second = lease(cache, "two", b"x" * 10, key="b")
    assert not first.folder.exists()
    assert second.folder.exists()
    third = lease(cache, "one", b"x" * 10)
    assert third.folder.exists()
    assert second.folder.exists()


def test_knowing_what_is_in_an_image_is_not_having_it(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    private = layer(("key", b"private"))
    diff_id = f"sha256:{hashlib.sha256(private).hexdigest()}"
    mine = cache.lease("mine", [diff_id], lambda: [[private]], ["sha256:mine"])
    with pytest.raises(Invalid, match="the image's configuration says"):
        cache.lease("theirs", [diff_id], lambda: [[layer(("f", b"1"))]], ["sha256:theirs"])
    assert (mine.folder / "key").read_bytes() == b"private"


def test_a_configuration_without_digests_is_refused() -> None:
    with pytest.raises(Invalid, match="no digest"):
        read_config(b'{"rootfs": {"diff_ids": [""]}}')
