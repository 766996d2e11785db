"""Zips: what is accepted, and that unpacking stays in its folder."""

from __future__ import annotations

import io
import os
import stat
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pilvi.core.errors import ServiceError
from pilvi.services.lambda_.package import check_zip
from pilvi.services.lambda_.unpacked import Unpacked, unpack
from pilvi.testing.virtual_clock import VirtualClock


def archive(*entries: tuple[str, bytes, int]) -> io.BytesIO:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content, mode in entries:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            file.writestr(info, content)
    buffer.seek(0)
    return buffer


FILE, LINK = stat.S_IFREG | 0o644, stat.S_IFLNK | 0o777


def test_unpack_keeps_modes_and_harmless_links(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    unpack(
        archive(
            ("lib/a.so.1", b"x", FILE),
            ("lib/a.so", b"a.so.1", LINK),
            ("run", b"#!", stat.S_IFREG | 0o700),
            ("private", b"", stat.S_IFREG | 0o400),
        ),
        root,
    )
    assert os.readlink(root / "lib/a.so") == "a.so.1"
    assert stat.S_IMODE((root / "run").stat().st_mode) == 0o755
    assert stat.S_IMODE((root / "private").stat().st_mode) == 0o644


@pytest.mark.parametrize("target", ["/etc/passwd", "../../outside", "..", "a/../../x"])
def test_unpack_leaves_links_out_that_leave_the_folder(tmp_path, target):
    root = tmp_path / "root"
    root.mkdir()
    unpack(archive(("link", target.encode(), LINK)), root)
    assert list(root.iterdir()) == []


def test_unpack_never_writes_through_a_link_of_an_earlier_package(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "victim").mkdir()
    unpack(archive(("a/b/c/up", b"../../../z", LINK), ("a/b/c/over", b"up/../../../victim", LINK)), root)
    unpack(archive(("a/b/c/over/file", b"x", FILE), ("a/b/c/up/file", b"x", FILE)), root)
    assert list((tmp_path / "victim").iterdir()) == []
    assert (root / "a/b/c/over/file").read_bytes() == b"x"


@pytest.mark.parametrize(
    "entries",
    [
        (("../x", b"", FILE),),
        (("a/../../x", b"", FILE),),
        (("/x", b"", FILE),),
        (("..\\x", b"", FILE),),
        (("a", b"", FILE), ("a/b", b"", FILE)),
    ],
)
def test_check_zip_refuses_names_that_leave_or_clash(entries):
    with pytest.raises(ServiceError, match="Could not unzip"):
        check_zip(archive(*entries))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.text(max_size=20), st.binary(max_size=50), st.sampled_from([FILE, LINK])), max_size=6))
def test_whatever_is_in_a_zip_stays_inside(tmp_path_factory, entries):
    import warnings

    base = tmp_path_factory.mktemp("zip")
    root = base / "root"
    root.mkdir()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = archive(*entries)
        check_zip(data)
        unpack(data, root)
    except (ServiceError, ValueError, OSError):
        return
    assert [path.name for path in base.iterdir()] == ["root"]
    for path in root.rglob("*"):
        assert not path.is_symlink() or not os.path.isabs(os.readlink(path))


class Blobs:
    """As much of the port as unpacking needs."""

    def __init__(self, **data: bytes) -> None:
        self.data = data
        self.reads = 0

    def size(self, name: str) -> int:
        return len(self.data[name])

    def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        self.reads += 1
        return self.data[name][start:end]


def test_working_copies_are_shared_and_go_when_cold(tmp_path: Path):
    clock = VirtualClock()
    blobs = Blobs(one=archive(("f", b"1", FILE), ("g", b"1", FILE)).getvalue(), two=archive(("f", b"2", FILE)).getvalue())
    copies = Unpacked(tmp_path / "copies", blobs, clock)  # type: ignore[arg-type]
    first = copies.hold(("one", "two"))
    assert ((first / "f").read_bytes(), (first / "g").read_bytes()) == (b"2", b"1")
    reads = blobs.reads
    assert copies.hold(("one", "two")) == first
    assert blobs.reads == reads
    copies.release(("one", "two"))
    clock.advance(3600)
    copies.sweep()
    assert first.exists()
    copies.release(("one", "two"))
    copies.sweep()
    assert first.exists()
    clock.advance(3600)
    copies.sweep()
    assert list((tmp_path / "copies").iterdir()) == []
    assert copies.is_empty()
    assert (copies.hold(("one", "two")) / "g").exists()
    copies.close()


def test_working_copies_of_an_earlier_server_go_at_start(tmp_path: Path):
    (tmp_path / "copies" / "old").mkdir(parents=True)
    Unpacked(tmp_path / "copies", Blobs(), VirtualClock())  # type: ignore[arg-type]
    assert not (tmp_path / "copies" / "old").exists()
