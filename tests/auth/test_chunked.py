"""Bodies in aws-chunked form, cut at every boundary and tampered with in every place."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import io
import os

import pytest
from botocore.httpchecksum import AwsChunkedWrapper, Crc32Checksum
from hypothesis import given
from hypothesis import strategies as st

from pilvi.auth import canonical
from pilvi.auth.chunked import Decoder, decoded, hashed, streaming_mode
from pilvi.auth.sigv4 import read_claim
from pilvi.core.errors import ServiceError
from pilvi.core.http import Request
from pilvi.core.streams import ByteStream

SIGNED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
SIGNED_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"


def chunk_up(claim, secret, parts, trailers=None, end="\r\n"):
    """What a signing client sends, written by the book."""
    key = canonical.signing_key(secret, claim.date, claim.region, claim.service)
    last = claim.signature
    out = []
    for part in [*parts, b""]:
        digest = hashlib.sha256(part).hexdigest()
        text = f"AWS4-HMAC-SHA256-PAYLOAD\n{claim.timestamp}\n{claim.scope}\n{last}\n{canonical.EMPTY_SHA256}\n{digest}"
        last = hmac.new(key, text.encode(), "sha256").hexdigest()
        out.append(f"{len(part):x};chunk-signature={last}\r\n".encode() + part + (b"\r\n" if part else b""))
    if trailers is not None:
        lines = "".join(f"{name}:{value}\n" for name, value in trailers.items())
        text = f"AWS4-HMAC-SHA256-TRAILER\n{claim.timestamp}\n{claim.scope}\n{last}\n{hashlib.sha256(lines.encode()).hexdigest()}"
        signature = hmac.new(key, text.encode(), "sha256").hexdigest()
        out.append(lines.replace("\n", end).encode() + f"x-amz-trailer-signature:{signature}\r\n".encode())
    return b"".join(out) + b"\r\n"


def request_for(oracle, mode, length, trailer=None):
    headers = {"x-amz-decoded-content-length": str(length), "content-encoding": "aws-chunked"}
    if trailer:
        headers["x-amz-trailer"] = trailer
    return oracle.sign("s3", "PUT", "/b/k", headers, b"", payload=mode)


def in_pieces(body, size):
    async def pieces():
        for position in range(0, len(body), size):
            yield body[position : position + size]

    return ByteStream(source=pieces(), length=len(body))


def read(stream):
    return asyncio.run(stream.read())


def fails(call):
    with pytest.raises(ServiceError) as caught:
        call()
    return caught.value.code


# -- signed -------------------------------------------------------------------------------------------------------------


def signed_body(oracle, parts):
    request = request_for(oracle, SIGNED, sum(map(len, parts)))
    claim = oracle.check(request)
    return request, claim, chunk_up(claim, oracle.secret, parts)


@pytest.mark.parametrize("parts", [[], [b"x"], [b"a" * 8192, b"b"], [os.urandom(8192), os.urandom(9000), os.urandom(100)]])
@pytest.mark.parametrize("size", [1, 7, 4096, 1 << 20])
def test_signed_chunks_come_out_whole(oracle, parts, size):
    request, claim, body = signed_body(oracle, parts)
    stream = decoded(in_pieces(body, size), request, claim, oracle.secret)
    assert stream.length == sum(map(len, parts))
    assert read(stream) == b"".join(parts)
    assert stream.trailers == {}


def test_signed_chunks_cut_at_every_boundary(oracle):
    parts = [b"x" * 8192, b"tail"]
    request, claim, body = signed_body(oracle, parts)
    interesting = [*range(120), *range(8190, len(body))]
    for cut in interesting:

        async def pieces(cut=cut):
            yield body[:cut]
            yield body[cut:]

        stream = decoded(ByteStream(source=pieces()), request, claim, oracle.secret)
        assert read(stream) == b"".join(parts)


def test_body_in_memory_is_decoded_at_once(oracle):
    request, claim, body = signed_body(oracle, [b"hello"])
    assert decoded(ByteStream(body), request, claim, oracle.secret).data == b"hello"


def test_large_pieces_go_through_a_thread(oracle):
    parts = [os.urandom(1 << 20)]
    request, claim, body = signed_body(oracle, parts)
    assert read(decoded(ByteStream(body), request, claim, oracle.secret)) == parts[0]
    assert read(decoded(in_pieces(body, 600_000), request, claim, oracle.secret)) == parts[0]


@given(st.data())
def test_any_changed_byte_is_noticed(oracle, data):
    parts = [b"x" * 8192, b"tail"]
    request, claim, body = signed_body(oracle, parts)
    where = data.draw(st.one_of(st.integers(0, 100), st.integers(8180, len(body) - 5)))
    changed = bytearray(body)
    changed[where] ^= data.draw(st.sampled_from([1, 2, 4, 8, 16]))
    same_meaning = bytes(changed).lower() == body.lower() or changed[where] in b"\r\n\t "
    try:
        result = read(decoded(in_pieces(bytes(changed), 1000), request, claim, oracle.secret))
    except ServiceError:
        return
    assert result == b"".join(parts)
    assert same_meaning or body[where] in b"\r\n"


def test_wrong_secret_is_refused(oracle):
    request, claim, body = signed_body(oracle, [b"hello"])
    with pytest.raises(ServiceError) as caught:
        decoded(ByteStream(body), request, claim, "other")
    assert caught.value.code == "SignatureDoesNotMatch"
    assert caught.value.fields["StringToSign"].startswith("AWS4-HMAC-SHA256-PAYLOAD\n")


def test_without_a_secret_nothing_is_checked(oracle):
    """A server that lets unknown keys in has no secret to check with."""
    request, claim, body = signed_body(oracle, [b"hello"])
    assert decoded(ByteStream(body.replace(b"chunk-signature=", b"chunk-signature=0")), request, claim, None).data == b"hello"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda body: body[:-20], "IncompleteBody"),
        (lambda body: b"", "IncompleteBody"),
        (lambda body: body[:30], "IncompleteBody"),
        (lambda body: body + b"more: x", "MalformedTrailerError"),
        (lambda body: body.replace(b"chunk-signature", b"chunk-signatur", 1), "InvalidRequest"),
        (lambda body: b"zz" + body, "InvalidRequest"),
        (lambda body: b"\r\n" + body, "InvalidRequest"),
        (lambda body: b"f" * 17 + body, "InvalidRequest"),
        (lambda body: b"1" * 5000 + body, "InvalidRequest"),
        (lambda body: body.replace(b"hello\r\n", b"helloX\r\n"), "InvalidRequest"),
        (lambda body: body.replace(b"hello", b"jello"), "SignatureDoesNotMatch"),
    ],
)
@pytest.mark.parametrize("size", [3, 1 << 16])
def test_broken_bodies_are_refused(oracle, change, fault, size):
    request, claim, body = signed_body(oracle, [b"hello"])
    assert fails(lambda: read(decoded(in_pieces(change(body), size), request, claim, oracle.secret))) == fault


def test_length_must_be_as_declared(oracle):
    for wrong in (4, 6):
        request = request_for(oracle, SIGNED, wrong)
        claim = oracle.check(request)
        body = chunk_up(claim, oracle.secret, [b"hello"])
        assert (
            fails(lambda body=body, request=request, claim=claim: decoded(ByteStream(body), request, claim, oracle.secret))
            == "IncompleteBody"
        )


@pytest.mark.parametrize("length", ["", "x", "-1", "9" * 30])
def test_declared_length_is_needed(oracle, length):
    request = request_for(oracle, SIGNED, length)
    assert fails(lambda: decoded(ByteStream(b""), request, oracle.check(request), oracle.secret)) == "MissingContentLength"


def test_only_the_last_chunk_may_be_small(oracle):
    request, claim, body = signed_body(oracle, [b"a" * 100, b"b"])
    assert fails(lambda: decoded(ByteStream(body), request, claim, oracle.secret)) == "InvalidChunkSizeError"


# -- trailers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["\r\n", "\n", "\n\r\n"])
@pytest.mark.parametrize("size", [1, 13, 1 << 20])
def test_signed_trailers(oracle, end, size):
    request = request_for(oracle, SIGNED_TRAILER, 5, "x-amz-checksum-crc32c")
    claim = oracle.check(request)
    body = chunk_up(claim, oracle.secret, [b"hello"], {"x-amz-checksum-crc32c": "sOO8/Q=="}, end)
    stream = decoded(in_pieces(body, size), request, claim, oracle.secret)
    assert stream.trailer_names == ("x-amz-checksum-crc32c",)
    assert read(stream) == b"hello"
    assert stream.trailers == {"x-amz-checksum-crc32c": "sOO8/Q=="}


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (b"sOO8", b"sOO9", "SignatureDoesNotMatch"),
        (b"x-amz-trailer-signature:", b"x-amz-trailer-signature:0", "SignatureDoesNotMatch"),
        (b"x-amz-trailer-signature:", b"x-other:", "MalformedTrailerError"),
        (b"x-amz-checksum-crc32c:", b"x-amz-checksum-crc32:", "MalformedTrailerError"),
        (b"x-amz-checksum-crc32c:", b"x-amz-checksum-crc32c", "MalformedTrailerError"),
        (b"x-amz-checksum-crc32c:", b"x-amz-checksum-crc32c:1\r\nx-amz-checksum-crc32c:", "MalformedTrailerError"),
    ],
)
def test_broken_signed_trailers_are_refused(oracle, old, new, fault):
    request = request_for(oracle, SIGNED_TRAILER, 5, "x-amz-checksum-crc32c")
    claim = oracle.check(request)
    body = chunk_up(claim, oracle.secret, [b"hello"], {"x-amz-checksum-crc32c": "sOO8/Q=="})
    assert old in body
    assert fails(lambda: decoded(ByteStream(body.replace(old, new)), request, claim, oracle.secret)) == fault


def test_signed_trailers_need_their_signature(oracle):
    request = request_for(oracle, SIGNED_TRAILER, 5)
    claim = oracle.check(request)
    body = chunk_up(claim, oracle.secret, [b"hello"])
    assert fails(lambda: decoded(ByteStream(body), request, claim, oracle.secret)) == "MalformedTrailerError"


@pytest.mark.parametrize("size", [1, 100, 1 << 20])
@pytest.mark.parametrize("chunk", [3, 1 << 16])
def test_what_botocore_sends_over_tls(oracle, size, chunk):
    payload = b"some payload"
    wrapper = AwsChunkedWrapper(
        io.BytesIO(payload), checksum_cls=Crc32Checksum, checksum_name="x-amz-checksum-crc32", chunk_size=chunk
    )
    request = request_for(oracle, UNSIGNED_TRAILER, len(payload), "x-amz-checksum-crc32")
    stream = decoded(in_pieces(wrapper.read(), size), request, oracle.check(request), oracle.secret)
    assert (stream.length, stream.trailer_names) == (len(payload), ("x-amz-checksum-crc32",))
    assert read(stream) == payload
    assert list(stream.trailers) == ["x-amz-checksum-crc32"]


@given(st.binary(max_size=300), st.integers(1, 50), st.integers(1, 80))
def test_unsigned_chunks_of_any_size_in_pieces_of_any_size(payload, chunk, size):
    body = (
        b"".join(b"%x\r\n%s\r\n" % (len(payload[i : i + chunk]), payload[i : i + chunk]) for i in range(0, len(payload), chunk))
        + b"0\r\n\r\n"
    )
    decoder = Decoder("unsigned-trailer", len(payload))
    out = b"".join(decoder.feed(body[i : i + size]) for i in range(0, len(body), size))
    decoder.finish()
    assert out == payload


def test_missing_and_endless_trailers_are_refused(oracle):
    request = request_for(oracle, UNSIGNED_TRAILER, 0, "x-amz-checksum-crc32")
    claim = oracle.check(request)
    assert fails(lambda: decoded(ByteStream(b"0\r\n\r\n"), request, claim, None)) == "MalformedTrailerError"
    assert fails(lambda: decoded(ByteStream(b"0\r\n" + b"a:b\r\n" * 5000), request, claim, None)) == "MalformedTrailerError"


def test_memory_is_bounded_while_a_large_chunk_passes():
    decoder = Decoder("unsigned-trailer", 1 << 30)
    decoder.feed(b"40000000\r\n")
    piece = bytes(1 << 16)
    for _ in range(64):
        assert len(decoder.feed(piece)) == len(piece)
    assert not decoder._held


# -- which bodies are chunked -------------------------------------------------------------------------------------------


def test_plain_bodies_pass_untouched(oracle):
    request = oracle.sign("s3", "PUT", "/b/k", {}, b"x")
    stream = ByteStream(b"x")
    assert decoded(stream, request, read_claim(request), oracle.secret) is stream


def test_unsigned_callers_may_send_chunks():
    headers = {"x-amz-content-sha256": UNSIGNED_TRAILER, "x-amz-decoded-content-length": "1"}
    assert decoded(ByteStream(b"1\r\nx\r\n0\r\n\r\n"), Request("PUT", "/", "", headers), None, None).data == b"x"
    headers = {"content-encoding": "gzip, aws-chunked", "x-amz-decoded-content-length": "1"}
    assert streaming_mode(Request("PUT", "/", "", headers)) == "unsigned-trailer"
    assert streaming_mode(Request("PUT", "/", "", {})) == ""


def test_closing_reaches_the_source(oracle):
    closed = []

    class Source:
        def __aiter__(self):
            return self

        async def __anext__(self):
            return b"0"

        async def aclose(self):
            closed.append(True)

    async def run(wrap):
        await wrap(ByteStream(source=Source())).close()

    request = request_for(oracle, UNSIGNED_TRAILER, 5)
    asyncio.run(run(lambda stream: decoded(stream, request, oracle.check(request), None)))
    asyncio.run(run(lambda stream: hashed(stream, "0" * 64)))
    assert closed == [True, True]


# -- hashed -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 10, 1 << 20])
@pytest.mark.parametrize("length", [0, 10, 700_000])
def test_hashed_hands_on_the_bytes(size, length):
    body = os.urandom(length)
    size = max(size, length // 8 or 1)
    expected = hashlib.sha256(body).hexdigest()
    stream = hashed(in_pieces(body, size), expected)
    assert stream.length == length
    assert read(stream) == body
    assert read(hashed(ByteStream(body), expected)) == body


def test_hashed_refuses_other_bytes():
    other = hashlib.sha256(b"other").hexdigest()
    assert fails(lambda: hashed(ByteStream(b"x"), other)) == "XAmzContentSHA256Mismatch"
    assert fails(lambda: read(hashed(in_pieces(b"xyz", 1), other))) == "XAmzContentSHA256Mismatch"
    assert fails(lambda: read(hashed(in_pieces(b"", 1), other))) == "XAmzContentSHA256Mismatch"


@pytest.mark.parametrize("signed", [b"hello world", b"other"])
def test_hashed_may_be_kept_by_hand(signed):
    stream = hashed(in_pieces(b"hello world", 4), hashlib.sha256(signed).hexdigest())
    promise = stream.promise
    assert promise is not None

    def keep():
        promise.update(read(promise.stream))
        promise.keep()

    if signed == b"hello world":
        keep()
    else:
        assert fails(keep) == "XAmzContentSHA256Mismatch"
