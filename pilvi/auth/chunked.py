"""Bodies in aws-chunked form: pieces with a size line each, signed piece by piece or not, trailers at the end.

    10000;chunk-signature=ad80c730...\\r\\n<65536 bytes>\\r\\n ... 0;chunk-signature=...\\r\\n
    x-amz-checksum-crc32c:sOO8/Q==\\r\\nx-amz-trailer-signature:...\\r\\n\\r\\n

`decoded` and `hashed` wrap a body stream; they hand bytes on as they come, so nobody may act on them before the stream has
ended without an error. What is signed depends on the declared x-amz-content-sha256 (`claim.streaming`).

Source: S3 API reference, "Signature calculations for the authorization header: transferring payload in multiple chunks" and
"... with trailing headers"; "Only the last chunk is allowed to have a size less than 8192 bytes" is its InvalidChunkSizeError.
"""

from __future__ import annotations

import asyncio
import hashlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from typing import Final, Literal

from pilvi.auth import canonical
from pilvi.auth.claim import STREAMING_MODES, Claim, Streaming
from pilvi.auth.errors import AuthError, Kind, service_error
from pilvi.auth.sigv4 import mismatch, payload_mismatch
from pilvi.core.errors import ServiceError
from pilvi.core.http import Request
from pilvi.core.streams import ByteStream, Piece

_THREAD_BYTES: Final = 256 << 10
"""Pieces from this size on are hashed in a worker thread, so that the event loop goes on."""
_LINE_BYTES: Final = 4096
_TRAILER_BYTES: Final = 16384
_LEAST_CHUNK: Final = 8192

_State = Literal["size", "data", "end", "trailer"]


class ChunkSigner:
    """The chain of signatures of one body; each covers the one before it."""

    __slots__ = ("_key", "_last", "_prefix", "claim")

    def __init__(self, claim: Claim, secret: str) -> None:
        self.claim = claim
        self._key = canonical.signing_key(secret, claim.date, claim.region, claim.service)
        self._last = claim.signature
        self._prefix = f"{claim.timestamp}\n{claim.scope}"

    def check_chunk(self, signature: str, digest: str) -> None:
        """SignatureDoesNotMatch unless this is the signature of a chunk of this SHA-256."""
        self._check(signature, f"AWS4-HMAC-SHA256-PAYLOAD\n{self._prefix}\n{self._last}\n{canonical.EMPTY_SHA256}\n{digest}")

    def check_trailer(self, signature: str, text: bytes) -> None:
        """The same for the trailers, a `name:value` line each."""
        self._check(signature, f"AWS4-HMAC-SHA256-TRAILER\n{self._prefix}\n{self._last}\n{hashlib.sha256(text).hexdigest()}")

    def _check(self, signature: str, to_sign: str) -> None:
        expected = canonical.mac(self._key, to_sign.encode()).hex()
        if not canonical.same(expected, signature):
            raise s3_error(mismatch(self.claim._replace(signature=signature), to_sign))
        self._last = expected


class Decoder:
    """Takes the body as it comes, gives what is inside; holds no more than a line back."""

    def __init__(
        self, mode: Streaming, length: int, trailer_names: tuple[str, ...] = (), signer: ChunkSigner | None = None
    ) -> None:
        self.length = length
        self.trailers: dict[str, str] = {}
        """Filled by `finish`."""
        self._names = trailer_names
        self._signer = signer
        self._has_signatures = mode in ("signed", "signed-trailer")
        self._has_trailers = mode != "signed"
        self._state: _State = "size"
        self._held = bytearray()
        self._left = 0
        self._is_last = False
        self._was_small = False
        self._given = 0
        self._signature = ""
        self._digest = hashlib.sha256()

    def feed(self, data: Piece) -> bytes:
        """What `data` brings. ServiceError as soon as something is wrong."""
        pieces: list[memoryview | bytes] = []
        view = memoryview(data)
        position = 0
        while position < len(data):
            if self._state == "data":
                piece = view[position : position + self._left]
                position += len(piece)
                self._take(piece)
                pieces.append(piece)
            elif self._state == "trailer":
                self._held += view[position:]
                position = len(data)
                if len(self._held) > _TRAILER_BYTES:
                    raise fault("malformed_trailer")
            else:
                position = self._read_line(data, position)
        return bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces)

    def _take(self, piece: memoryview) -> None:
        self._left -= len(piece)
        self._given += len(piece)
        if self._given > self.length:
            raise incomplete_body()
        if self._signer is not None:
            self._digest.update(piece)
        if not self._left:
            self._end_chunk()
            self._state = "end"

    def _read_line(self, data: Piece, position: int) -> int:
        """Collect a line up to its line feed, then act on it."""
        end = data.find(b"\n", position, position + _LINE_BYTES)
        if end < 0:
            self._held += data[position : position + _LINE_BYTES]
            if len(self._held) >= _LINE_BYTES:
                raise fault("malformed_chunks")
            return len(data)
        self._held += data[position:end]
        line = bytes(self._held).removesuffix(b"\r")
        self._held.clear()
        if self._state == "end":
            if line:
                raise fault("malformed_chunks")
            self._state = "size"
        else:
            self._read_size(line)
        return end + 1

    def _read_size(self, line: bytes) -> None:
        size, _, extension = line.decode("latin-1").partition(";")
        size = size.strip()
        if not size or len(size) > 16 or size.strip("0123456789abcdefABCDEF"):
            raise fault("malformed_chunks")
        self._left = int(size, 16)
        name, _, value = extension.strip().partition("=")
        if self._has_signatures and name != "chunk-signature":
            raise fault("malformed_chunks")
        self._signature = value.strip()
        if self._left:
            self._refuse_small_chunks()
            self._state = "data"
        else:
            self._is_last = True
            self._end_chunk()
            self._state = "trailer"

    def _refuse_small_chunks(self) -> None:
        if self._has_signatures and self._was_small:
            raise ServiceError("InvalidChunkSizeError", "Only the last chunk is allowed to have a size less than 8192 bytes", 403)
        self._was_small = self._left < _LEAST_CHUNK

    def _end_chunk(self) -> None:
        if self._signer is not None:
            self._signer.check_chunk(self._signature, self._digest.hexdigest())
            self._digest = hashlib.sha256()

    def finish(self) -> None:
        """The body has ended: is it whole, and do the trailers hold?"""
        if self._state != "trailer" or self._given != self.length:
            raise incomplete_body()
        lines = [line.strip() for line in self._held.decode("latin-1").split("\n")]
        found = [self._trailer(line) for line in lines if line]
        trailers = dict(found)
        signature = trailers.pop("x-amz-trailer-signature", None)
        if len(found) - (signature is not None) != len(trailers) or trailers.keys() != set(self._names):
            raise fault("malformed_trailer")
        if self._signer is not None and self._has_trailers:
            if signature is None:
                raise fault("malformed_trailer")
            text = "".join(f"{name}:{value}\n" for name, value in trailers.items())
            self._signer.check_trailer(signature, text.encode("latin-1"))
        self.trailers.update(trailers)

    def _trailer(self, line: str) -> tuple[str, str]:
        name, colon, value = line.partition(":")
        if not (self._has_trailers and colon and name):
            raise fault("malformed_trailer")
        return name.strip().lower(), value.strip()


def fault(kind: Kind, message: str = "") -> ServiceError:
    """A broken body. It shows while a handler reads, so it is S3's own error already: nobody else takes such bodies."""
    return s3_error(AuthError(kind, message))


def s3_error(error: AuthError) -> ServiceError:
    return service_error(error, "rest-xml", "s3")


def incomplete_body() -> ServiceError:
    """The body ended before, or went on after, what its headers said."""
    return fault("incomplete_body", "The request body terminated unexpectedly")


# -- streams ------------------------------------------------------------------------------------------------------------


def streaming_mode(request: Request) -> Streaming:
    """How the body of a request is chunked, '' when it is not."""
    declared = request.headers.get("x-amz-content-sha256", "")
    if declared in STREAMING_MODES:
        return STREAMING_MODES[declared]
    is_chunked = "aws-chunked" in request.headers.get("content-encoding", "") and "x-amz-decoded-content-length" in request.headers
    return "unsigned-trailer" if is_chunked else ""


def decoded(stream: ByteStream, request: Request, claim: Claim | None, secret: str | None) -> ByteStream:
    """The body without its chunk framing; the same stream when it has none.

    Chunk and trailer signatures are checked where the claim's mode has them and a secret is given. `.length` is the
    decoded length, `.trailer_names` what was announced, `.trailers` their values once the stream has ended.
    Errors (while reading): SignatureDoesNotMatch, IncompleteBody, MalformedTrailerError, InvalidChunkSizeError.
    """
    mode = claim.streaming if claim is not None and claim.streaming else streaming_mode(request)
    if not mode:
        return stream
    signer = ChunkSigner(claim, secret) if claim is not None and secret is not None and mode != "unsigned-trailer" else None
    names = tuple(name.strip().lower() for name in request.headers.get("x-amz-trailer", "").split(",") if name.strip())
    decoder = Decoder(mode, _decoded_length(request), names, signer)
    if stream.data is not None and len(stream.data) < _THREAD_BYTES:
        result = ByteStream(decoder.feed(stream.data))
        decoder.finish()
    else:
        result = ByteStream(source=_Decoding(stream, decoder), length=decoder.length)
    result.trailers = decoder.trailers
    result.trailer_names = names
    return result


def _decoded_length(request: Request) -> int:
    text = request.headers.get("x-amz-decoded-content-length", "")
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise ServiceError("MissingContentLength", "You must provide the Content-Length HTTP header.", 411)
    return int(text)


def hashed(stream: ByteStream, expected_sha256: str) -> ByteStream:
    """The same bytes; XAmzContentSHA256Mismatch at their end unless they have this SHA-256 (lower-case hexadecimal)."""
    if stream.data is not None and len(stream.data) < _THREAD_BYTES:
        _check_hash(hashlib.sha256(stream.data).hexdigest(), expected_sha256)
        return stream
    promised = ByteStream(source=_Hashing(stream, expected_sha256), length=stream.length)
    promised.promise = _Promise(stream, expected_sha256)
    return promised


def _check_hash(computed: str, expected: str) -> None:
    if not canonical.same(computed, expected):
        raise s3_error(payload_mismatch(expected, computed))


class _Promise:
    """The same for whoever hashes by hand."""

    def __init__(self, stream: ByteStream, expected: str) -> None:
        self.stream = stream
        self._expected = expected
        self._digest = hashlib.sha256()
        self.update = self._digest.update

    def keep(self) -> None:
        _check_hash(self._digest.hexdigest(), self._expected)


class _Through(ABC):
    """An async iterator over a stream that closes what lies behind it."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._chunks = aiter(stream)

    def __aiter__(self) -> AsyncIterator[Piece]:
        return self

    @abstractmethod
    async def __anext__(self) -> Piece: ...

    async def aclose(self) -> None:
        await self._chunks.aclose()  # type: ignore[attr-defined]
        await self._stream.close()


class _Decoding(_Through):
    def __init__(self, stream: ByteStream, decoder: Decoder) -> None:
        super().__init__(stream)
        self._decoder = decoder

    async def __anext__(self) -> Piece:
        feed = self._decoder.feed
        async for chunk in self._chunks:
            piece = feed(chunk) if len(chunk) < _THREAD_BYTES else await asyncio.to_thread(feed, chunk)
            if piece:
                return piece
        self._decoder.finish()
        raise StopAsyncIteration


class _Hashing(_Through):
    def __init__(self, stream: ByteStream, expected: str) -> None:
        super().__init__(stream)
        self._expected = expected
        self._digest = hashlib.sha256()

    async def __anext__(self) -> Piece:
        async for chunk in self._chunks:
            if len(chunk) < _THREAD_BYTES:
                self._digest.update(chunk)
            else:
                await asyncio.to_thread(self._digest.update, chunk)
            return chunk
        _check_hash(self._digest.hexdigest(), self._expected)
        raise StopAsyncIteration
