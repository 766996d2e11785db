"""Archives made to fill the server's memory are refused, and what comes of little is unpacked little by little."""

from __future__ import annotations

import gzip
import io
import tarfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilvi.core.errors import Invalid
from pilvi.images.headers import MOST_BYTES
from pilvi.images.packages import packages_of
from pilvi.images.unpack import Plain, Tree


def header(kind: bytes, size: int, name: str = "x") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.USTAR_FORMAT if kind == tarfile.REGTYPE else tarfile.GNU_FORMAT)


def file_with(pax: dict[str, str], content: bytes = b"") -> bytes:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("file")
        info.pax_headers, info.size = pax, len(content)
        archive.addfile(info, io.BytesIO(content))
    return plain.getvalue()


@pytest.mark.parametrize(
    "kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK]
)
@pytest.mark.parametrize("before", [b"", header(tarfile.REGTYPE, 0, "first")])
def test_a_giant_header_is_refused_before_it_is_read(tmp_path: Path, kind: bytes, before: bytes) -> None:
    asked: list[int] = []

    def endless() -> Iterator[bytes]:
        yield before + header(kind, 8 << 30)
        while True:
            asked.append(1)
            yield bytes(1 << 20)

    with pytest.raises(Invalid, match="a layer has a header of 8589934592 bytes"):
        Tree(tmp_path / "tree").add_layer(endless())
    with pytest.raises(Invalid):
        packages_of([endless()])
    assert len(asked) < 10


def test_headers_of_an_ordinary_size_are_read(tmp_path: Path) -> None:
    tree = Tree(tmp_path / "tree")
    tree.add_layer([file_with({"SCHILY.xattr.user.note": "x" * (MOST_BYTES - 1000)}, b"content")])
    assert (tree.folder / "file").read_bytes() == b"content"


@pytest.mark.parametrize(
    "data", [header(tarfile.GNUTYPE_SPARSE, 0), file_with({"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}, b"9999999\n")]
)
def test_sparse_files_are_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(Invalid, match="sparse"):
        Tree(tmp_path / "tree").add_layer([data])


@pytest.mark.parametrize("records", [b"9" * (1 << 20), b"2 " * (1 << 19), b"30 a=b\n", b"8 ab=cd\n6 abc\n", b"1 a=b\n", b"x a=b\n"])
def test_records_that_are_none_are_refused_at_once(tmp_path: Path, records: bytes) -> None:
    data = header(tarfile.XHDTYPE, len(records)) + records + bytes(-len(records) % 512) + header(tarfile.REGTYPE, 0)
    with pytest.raises(Invalid, match="nothing sensible"):
        Tree(tmp_path / "tree").add_layer([data])


def test_a_chain_of_headers_ends(tmp_path: Path) -> None:
    with pytest.raises(Invalid):
        Tree(tmp_path / "tree").add_layer([(header(tarfile.GNUTYPE_LONGNAME, 5) + b"name\0".ljust(512, b"\0")) * 20_000])


def test_many_members_are_not_remembered(tmp_path: Path) -> None:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for number in range(500):
            info = tarfile.TarInfo("file")
            info.pax_headers = {"SCHILY.xattr.user.note": f"{number:03}x" * 15_000}
            archive.addfile(info)
    data = gzip.compress(plain.getvalue(), 1)
    del plain
    tracemalloc.start()
    try:
        Tree(tmp_path / "tree").add_layer([data])
        assert tracemalloc.get_traced_memory()[1] < 12 << 20
    finally:
        tracemalloc.stop()


def test_a_little_that_unpacks_to_very_much_comes_in_parts() -> None:
    bomb = gzip.compress(bytes(256 << 20), 9)
    tracemalloc.start()
    try:
        plain = Plain(iter([bomb]))
        total = 0
        while data := plain.read(1 << 16):
            total += len(data)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
    assert total == 256 << 20


def test_several_compressed_parts_are_one_archive() -> None:
    parts = [gzip.compress(b"one"), gzip.compress(b"two") + gzip.compress(b"three"), b"rubbish"]
    assert Plain(iter(parts)).read(100) == b"onetwothree"
