"""The codecs on their own: CBOR, XML, forms, headers, timestamps."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from urllib.parse import urlencode

import pytest
from botocore.parsers import RpcV2CBORParser
from hypothesis import given, settings
from hypothesis import strategies as st

from pilvi.core.listed import Listed, ListedRow
from pilvi.core.streams import ByteStream
from pilvi.protocol import cbor, query, rest, scalars, xml
from pilvi.protocol.s3_listing import ListingWriter
from pilvi.protocol.shapes import Malformed, Shape

XML_TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff") | st.sampled_from("\t\n\r"))
CBOR_TREES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
INSTANTS = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)).map(
    lambda t: t.replace(microsecond=t.microsecond // 1000 * 1000, tzinfo=UTC)
)


@given(CBOR_TREES)
def test_cbor_returns_what_it_took(tree: Any) -> None:
    assert cbor.loads(cbor.dumps(tree)) == tree


@given(st.dictionaries(st.text(), CBOR_TREES.filter(lambda tree: tree is not None), max_size=4))
def test_cbor_is_what_botocore_reads(tree: dict[str, Any]) -> None:
    assert without_null(RpcV2CBORParser()._initial_body_parse(cbor.dumps(tree))) == without_null(tree)


def without_null(tree: Any) -> Any:
    """botocore drops null members of maps."""
    if isinstance(tree, dict):
        return {key: without_null(item) for key, item in tree.items() if item is not None}
    return [without_null(item) for item in tree] if isinstance(tree, list) else tree


@settings(max_examples=300)
@given(st.binary(max_size=60))
def test_cbor_refuses_or_reads_anything(data: bytes) -> None:
    try:
        cbor.loads(data)
    except Malformed:
        return


@pytest.mark.parametrize(
    ("data", "value"),
    [
        ("bf6161015fff", None),
        ("bf616101ff", {"a": 1}),
        ("9f0102ff", [1, 2]),
        ("5f41614162ff", b"ab"),
        ("7f61616162ff", "ab"),
        ("f97e00", math.nan),
        ("fa3fc00000", 1.5),
        ("c11a514b67b0", datetime(2013, 3, 21, 20, 4, tzinfo=UTC)),
        ("c249010000000000000000", 2**64),
        ("1c", None),
        ("ff", None),
        ("a1016161", None),
        ("0101", None),
    ],
)
def test_cbor_reads_the_rfcs_examples(data: str, value: Any) -> None:
    if value is None:
        with pytest.raises(Malformed):
            cbor.loads(bytes.fromhex(data))
    else:
        found = cbor.loads(bytes.fromhex(data))
        assert found == value or (found != found and value != value)


def test_cbor_refuses_deep_nesting() -> None:
    with pytest.raises(Malformed):
        cbor.loads(b"\x81" * 100_000 + b"\x00")


@given(XML_TEXT)
def test_xml_text_returns_what_it_took(text: str) -> None:
    assert (xml.parse(xml.element("a", text).encode()).text or "") == text


@given(XML_TEXT)
def test_xml_attributes_return_what_they_took(text: str) -> None:
    assert xml.parse(f'<a b="{xml.escape_attribute(text)}"/>'.encode()).attrib["b"] == text


@pytest.mark.parametrize(
    "body", [b"", b"<a>", b"<a/><b/>", b"<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>", b"\xff\xfe", b"<a>\x00</a>"]
)
def test_xml_refuses(body: bytes) -> None:
    with pytest.raises(Malformed):
        xml.parse(body)


@given(st.dictionaries(st.text(min_size=1).filter(lambda name: "." not in name), st.text(), max_size=5))
def test_forms_return_what_they_took(form: dict[str, str]) -> None:
    form = {name: value for name, value in form.items() if not (name + value).encode("utf-8", "surrogatepass").isspace()}
    assert query.parse_form(urlencode(form, errors="surrogatepass").encode()) == {
        name.encode("utf-8", "surrogatepass").decode("utf-8", "replace"): value.encode("utf-8", "surrogatepass").decode(
            "utf-8", "replace"
        )
        for name, value in form.items()
    }


def test_forms_refuse_what_would_take_too_long() -> None:
    with pytest.raises(Malformed):
        query.branch_of({".".join("a" * 100): "x"})


@given(INSTANTS)
def test_timestamps_return_what_they_took(instant: datetime) -> None:
    for write in (scalars.iso8601, scalars.iso8601_millis, scalars.epoch):
        assert scalars.parse_timestamp(write(instant)) == instant
    assert scalars.parse_timestamp(scalars.rfc822(instant)) == instant.replace(microsecond=0)


def test_timestamps_of_other_zones_are_written_in_utc() -> None:
    instant = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2)))
    assert scalars.iso8601(instant) == "2026-01-02T01:04:05Z"
    assert scalars.iso8601_millis(instant) == "2026-01-02T01:04:05.000Z"
    assert scalars.rfc822(instant) == "Fri, 02 Jan 2026 01:04:05 GMT"
    assert scalars.epoch(instant) == 1767315845


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", None, True, "1e300", {}])
def test_timestamps_refuse(text: Any) -> None:
    with pytest.raises(Malformed):
        scalars.parse_timestamp(text)


@pytest.mark.parametrize(
    ("text", "items"), [("", []), ("a, b", ["a", "b"]), ('"b,c", "\\"d\\"",a', ["b,c", '"d"', "a"]), ("a,,b", ["a", "", "b"])]
)
def test_split_header_reads_lists(text: str, items: list[str]) -> None:
    assert rest.split_header(text) == items


def test_headers_cannot_hold_line_breaks() -> None:
    shape = Shape(
        {"S": {"type": "string"}, "R": {"type": "structure", "members": {"A": {"shape": "S", "location": "header"}}}},
        {"shape": "R"},
    )
    headers: list[tuple[str, str]] = []
    rest.headers_writer(shape)({"A": "x\r\nSet-Cookie: y"}, headers)
    assert headers == [("A", "x  Set-Cookie: y")]


def test_blobs_are_written_from_streams() -> None:
    assert scalars.write_blob(ByteStream(sync=iter([b"a", b"b"]))) == "YWI="


LISTING = st.lists(
    st.fixed_dictionaries(
        {"Key": XML_TEXT},
        optional={
            "LastModified": INSTANTS,
            "ETag": st.just('"0123"'),
            "Size": st.integers(0, 2**45),
            "StorageClass": st.sampled_from(["STANDARD", "GLACIER"]),
            "ChecksumAlgorithm": st.lists(st.sampled_from(["CRC32", "SHA256"]), max_size=2),
            "ChecksumType": st.sampled_from(["FULL_OBJECT"]),
            "Owner": st.fixed_dictionaries({"ID": st.text("abc", min_size=1)}),
            "RestoreStatus": st.fixed_dictionaries({"IsRestoreInProgress": st.booleans()}),
        },
    ),
    max_size=5,
)


@given(LISTING)
def test_listing_says_what_the_general_writer_says(objects: list[dict[str, Any]]) -> None:
    shape = listing_shape()
    fast, general = ListingWriter().content(shape), xml.XmlWriter(millis=True).content(shape)
    assert tree(fast({"Contents": objects})) == tree(general({"Contents": objects}))


ROWS = st.lists(
    st.tuples(
        XML_TEXT,
        st.integers(0, 4_000_000_000),
        st.just("d41d8cd98f00b204e9800998ecf8427e"),
        st.integers(0, 1 << 42),
        st.sampled_from(["CRC32", "SHA256"]),
        st.sampled_from(["COMPOSITE", "FULL_OBJECT"]),
        st.sampled_from(["STANDARD", "GLACIER"]),
    ),
    max_size=3,
)


@given(ROWS)
def test_plain_rows_say_what_their_dictionaries_say(rows: list[ListedRow]) -> None:
    general = xml.XmlWriter(millis=True).content(listing_shape())
    listed = Listed(rows)
    assert len(listed) == len(rows)
    assert [*listed] == listed[:]
    assert tree(ListingWriter().content(listing_shape())({"Contents": listed})) == tree(general({"Contents": [*listed]}))


_shapes: list[Shape] = []


def listing_shape() -> Shape:
    if not _shapes:
        from pilvi.protocol.models import Models

        operation = Models().service("s3").operation("ListObjectsV2")
        assert operation is not None
        assert operation.output is not None
        _shapes.append(operation.output)
    return _shapes[0]


def tree(content: str) -> Any:
    """Elements as sets: their order means nothing."""
    root = xml.parse(f"<r>{content}</r>".encode())

    def items(node: Any) -> Any:
        return (node.tag, node.text, sorted((items(child) for child in node), key=repr))

    return [items(child) for child in root]
