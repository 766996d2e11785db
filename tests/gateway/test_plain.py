"""Heads read in one pass: whatever is taken, llhttp reads the same; whatever is rare, is not taken."""

from __future__ import annotations

from typing import Any

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilvi.gateway.http1 import lower_name
from pilvi.gateway.plain import HEADERS, read_plain

GET = b"GET /bucket/key HTTP/1.1\r\nHost: localhost:4566\r\nUser-Agent: Boto3/1.0 md/x#y\r\n\r\n"
PUT = b"PUT /bucket/key HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody"


class Parsed:
    """What llhttp makes of the same bytes."""

    def __init__(self, data: bytes) -> None:
        self.url = b""
        self.headers: dict[str, str] = {}
        self.body = b""
        self.messages = 0
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(data)
        self.method = self._parser.get_method().decode()
        self.keeps = self._parser.should_keep_alive()

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        assert lower_name(name) not in self.headers
        self.headers[lower_name(name)] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.messages += 1


def test_a_plain_request_is_read() -> None:
    plain = read_plain(GET)
    assert plain is not None
    assert (plain.method, plain.path, plain.body) == ("GET", "/bucket/key", b"")
    assert plain.headers == {"host": "localhost:4566", "user-agent": "Boto3/1.0 md/x#y"}


def test_a_body_is_what_was_declared() -> None:
    plain = read_plain(PUT)
    assert plain is not None
    assert plain.body == b"body"
    assert read_plain(PUT[:-1]) is None
    assert read_plain(PUT + b"x") is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"GET", b"POST"),
        (b"GET ", b"GET  "),
        (b"GET ", b" GET "),
        (b"HTTP/1.1", b"HTTP/1.0"),
        (b"/bucket/key", b"/bucket/key?acl"),
        (b"/bucket/key", b"/bucket/key#part"),
        (b"/bucket/key", b"http://host/bucket/key"),
        (b"/bucket/key", b"/bucket/k\x7fy"),
        (b"/bucket/key", b"/bucket/k\xc3\xa4y"),
        (b"Host: localhost:4566", b"Host:localhost:4566"),
        (b"Host: localhost:4566", b"Host : localhost:4566"),
        (b"Host: localhost:4566", b"Host:  localhost:4566"),
        (b"Host: localhost:4566", b"Host: localhost:4566 "),
        (b"Host: localhost:4566", b"Host: a\r\nHost: b"),
        (b"Host: localhost:4566", b"Host: a\r\nhost: a"),
        (b"Host: localhost:4566", b"Host: a\nRange: bytes=0-1"),
        (b"Host: localhost:4566", b"Host: a\rRange: bytes=0-1"),
        (b"Host: localhost:4566", b"Host: a\r\n folded"),
        (b"Host: localhost:4566", b"Host: a\tb"),
        (b"Host: localhost:4566", b"Host: a\0b"),
        (b"Host: localhost:4566", b"Authorization: a\nb"),
        (b"Host: localhost:4566", b"Authorization: a\rb"),
        (b"Host: localhost:4566", b"Host: a\r\nOrigin: b"),
        (b"Host: localhost:4566", b"Host: a\r\nTransfer-Encoding: chunked"),
        (b"Host: localhost:4566", b"Host: a\r\nX-Amz-Copy-Source: b"),
        (b"Host: localhost:4566", b"Host: a\r\nConnection: close"),
        (b"Host: localhost:4566", b"Host: a\r\nExpect: 100-continue"),
        (b"Host: localhost:4566", b"Host: a\r\nContent-Length: 3"),
        (b"\r\n\r\n", b"\n\n"),
        (b"\r\n\r\n", b"\r\n\r\nGET / HTTP/1.1\r\n\r\n"),
        (b"\r\n\r\n", b"\r\n"),
    ],
)
def test_what_is_rare_is_left_to_the_parser(old: bytes, new: bytes) -> None:
    assert read_plain(GET) is not None
    assert read_plain(GET.replace(old, new, 1)) is None


@pytest.mark.parametrize("length", [b"+4", b"4 ", b"04x", b"-4", b"4,4", b"0x4", b"99999999", b""])
def test_lengths_are_digits(length: bytes) -> None:
    assert read_plain(PUT.replace(b"Length: 4", b"Length: " + length)) is None


def test_a_head_that_is_too_long_is_left_to_the_parser() -> None:
    assert read_plain(GET.replace(b"key", b"k" * 9000)) is None


def test_names_are_known_however_they_are_spelt() -> None:
    for name in sorted(HEADERS - {"expect", "connection", "content-length"}):
        for spelt in (name, name.title(), name.upper()):
            plain = read_plain(f"GET /b/k HTTP/1.1\r\n{spelt}: value\r\n\r\n".encode())
            assert plain is not None
            assert plain.headers == {name: "value"}


_texts = st.text(alphabet=st.characters(min_codepoint=0, max_codepoint=255), max_size=12)
_lines = st.tuples(
    st.one_of(st.sampled_from(sorted(HEADERS)), _texts), st.sampled_from([": ", ":", " : ", ":\t"]), st.one_of(_texts, st.just("4"))
)


@given(
    st.sampled_from(["GET", "PUT", "DELETE", "HEAD", "POST", "get"]),
    st.one_of(st.just("/b/k"), _texts.map(lambda text: f"/{text}")),
    st.lists(_lines, max_size=4),
    st.sampled_from(["\r\n", "\n", "\r"]),
    st.sampled_from([b"", b"body"]),
)
def test_whatever_is_taken_llhttp_reads_the_same(method: str, path: str, lines: list[Any], end: str, body: bytes) -> None:
    head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{name}{colon}{value}{end}" for name, colon, value in lines)
    data = head.encode("latin-1") + b"\r\n" + body
    plain = read_plain(data)
    if plain is None:
        return
    if not plain.headers.get("authorization", "").isprintable():
        return  # which is looked through by whoever believes in it
    parsed = Parsed(data)
    assert (parsed.method, parsed.url.decode(), parsed.headers) == (plain.method, plain.path, plain.headers)
    assert (parsed.body, parsed.messages, parsed.keeps) == (plain.body, 1, True)
