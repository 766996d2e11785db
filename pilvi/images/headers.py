"""Tar headers of strangers: what one may take of the server's memory and time.

Headers that stand before a file and tell more about it (pax records, GNU's long names) are read whole by tarfile, however large they say
they are, and lists of the holes in sparse files have no bound at all. No builder of images writes either: they are refused. So are pax
records that are none: tarfile looks for them with patterns that take forever on what was made for that (CVE-2024-6232).
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from typing import Any, NoReturn

from pilvi.core.errors import Invalid

MOST_BYTES = 1 << 20
"""Of what is told about one file: Linux's own bound on all extended attributes of a file is 64 KiB for each, and one name is 4 KiB."""

_LONG_NUMBER = re.compile(rb"\d{256}")
_NO_HEADER = "a layer has a header that tells nothing sensible of a file"
_TELLING = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


class BoundedInfo(tarfile.TarInfo):
    """A member whose headers have a bound; for `tarfile.open(tarinfo=BoundedInfo)`."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> BoundedInfo:
        found = super().frombuf(buf, encoding, errors)
        if found.type in _TELLING and found.size > MOST_BYTES:
            raise Invalid(f"a layer has a header of {found.size} bytes; at most {MOST_BYTES} are read")
        if found.type == tarfile.GNUTYPE_SPARSE:
            _refuse_sparse()
        return found

    # tarfile's own hook for a header of pax records, here with a look at them first.
    def _proc_pax(self, archive: Any) -> tarfile.TarInfo:
        stream = archive.fileobj
        data = stream.read(-(-self.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE)
        _check_records(data, self.size)
        archive.fileobj = _Again(data, stream)
        try:
            found: tarfile.TarInfo = super()._proc_pax(archive)  # type: ignore[misc]
        finally:
            archive.fileobj = stream
        return found

    # tarfile's own hook for what pax records call sparse; it would read the list of holes from the file's data.
    def _proc_gnusparse_10(self, *_: Any) -> NoReturn:
        _refuse_sparse()


def members_of(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Every member of a stream, in order; none is remembered."""
    for member in archive:
        yield member
        archive.members.clear()  # type: ignore[attr-defined]


class _Again:
    """A stream whose last piece is read once more."""

    def __init__(self, data: bytes, stream: Any) -> None:
        self._data = data
        self._stream = stream

    def read(self, size: int) -> bytes:
        data, self._data = self._data, b""
        return data or bytes(self._stream.read(size))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _check_records(data: bytes, size: int) -> None:
    """Pax records, one behind the other: '<length> <keyword>=<value>' and an end of line."""
    if _LONG_NUMBER.search(data):
        raise Invalid(_NO_HEADER)
    position = 0
    while position < min(size, len(data)) and data[position]:
        space = data.find(b" ", position, position + 8)
        number = data[position:space]
        end = position + int(number) if space > 0 and number.isdigit() else 0
        if end <= space or data[end - 1 : end] != b"\n" or data.find(b"=", space, end) < 0:
            raise Invalid(_NO_HEADER)
        position = end


def _refuse_sparse() -> NoReturn:
    raise Invalid("a layer has a sparse file, which is not understood; push the image without")
