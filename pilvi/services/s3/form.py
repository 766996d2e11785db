"""multipart/form-data as it arrives: the fields before the file at once, the file itself as a stream.

Source: RFC 7578; S3 API Reference, "POST Object": the file is the last field, what follows it is ignored.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import NamedTuple

from pilvi.core.errors import ServiceError
from pilvi.core.streams import ByteStream, Piece

FIELDS_BYTES = 20_000
"""All fields before the file together."""
_BOUNDARY = re.compile(r'boundary="?([^";,]+)"?', re.IGNORECASE)
_NAME = re.compile(r'[;\s]name="([^"]*)"', re.IGNORECASE)
_FILENAME = re.compile(r'[;\s]filename="((?:[^"\\]|\\.)*)"', re.IGNORECASE)


class Form(NamedTuple):
    fields: dict[str, str]
    """By name in lower case."""
    filename: str
    content_type: str
    """Of the file's part, '' when it tells none."""
    file: ByteStream


async def read_form(content_type: str, body: ByteStream) -> Form:
    """The form up to its file.

    Errors: MalformedPOSTRequest; MaxPostPreDataLengthExceededError - the fields are longer than 20 KB;
    InvalidArgument - there is no file.
    """
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise malformed()
    pieces = _Pieces(aiter(body))
    mark = b"\r\n--" + found[1].encode()
    pieces.rest = b"\r\n"
    await pieces.until(mark, FIELDS_BYTES)
    fields: dict[str, str] = {}
    used = 0
    while (await pieces.exactly(2)) != b"--":
        head = (await pieces.until(b"\r\n\r\n", FIELDS_BYTES)).decode("utf-8", "replace")
        name = _NAME.search(head)
        if name is None:
            raise malformed()
        if name[1].lower() == "file":
            filename = _FILENAME.search(head)
            return Form(fields, filename[1] if filename else "", type_in(head), ByteStream(source=pieces.before(mark)))
        value = await pieces.until(mark, FIELDS_BYTES)
        used += len(head) + len(value)
        if used > FIELDS_BYTES:
            raise too_long()
        fields[name[1].lower()] = value.decode("utf-8", "replace")
    raise ServiceError(
        "InvalidArgument", "POST requires exactly one file upload per request.", 400, ArgumentName="file", ArgumentValue="0"
    )


def type_in(head: str) -> str:
    for line in head.split("\r\n"):
        name, _, value = line.partition(":")
        if name.strip().lower() == "content-type":
            return value.strip()
    return ""


class _Pieces:
    """Bytes as they come, with what was read too far kept for later."""

    def __init__(self, source: AsyncIterator[Piece]) -> None:
        self._source = source
        self.rest = b""

    async def more(self) -> None:
        piece = await anext(self._source, b"")
        if not piece:
            raise malformed()
        self.rest += piece

    async def exactly(self, count: int) -> bytes:
        while len(self.rest) < count:
            await self.more()
        taken, self.rest = self.rest[:count], self.rest[count:]
        return taken

    async def until(self, mark: bytes, limit: int) -> bytes:
        """What lies before a mark, which is taken away too."""
        while (cut := self.rest.find(mark)) < 0:
            if len(self.rest) > limit + len(mark):
                raise too_long()
            await self.more()
        taken, self.rest = self.rest[:cut], self.rest[cut + len(mark) :]
        return taken

    async def before(self, mark: bytes) -> AsyncIterator[Piece]:
        """The same without holding it; the rest of the request is read and dropped."""
        while (cut := self.rest.find(mark)) < 0:
            safe = len(self.rest) - len(mark)
            if safe > 0:
                piece, self.rest = self.rest[:safe], self.rest[safe:]
                yield piece
            await self.more()
        if cut:
            yield self.rest[:cut]
        self.rest = b""
        async for _ in self._source:
            pass


def malformed() -> ServiceError:
    return ServiceError("MalformedPOSTRequest", "The body of your POST request is not well-formed multipart/form-data.", 400)


def too_long() -> ServiceError:
    return ServiceError(
        "MaxPostPreDataLengthExceededError",
        "Your POST request fields preceding the upload file was too large.",
        400,
        MaxPostPreDataLengthBytes=str(FIELDS_BYTES),
    )
