"""Version 4 in headers, with botocore's signers as the oracle."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilvi.auth import canonical
from pilvi.auth.errors import AuthError
from pilvi.auth.sigv4 import known_region, read_claim, unknown_region, verify, wrong_service
from pilvi.core.http import Request

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00", exclude_categories=("Cs",)), max_size=20)
NAMES = st.text("abcdefghijklmnopqrstuvwxyz-_0123456789", min_size=1, max_size=12)
VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)


def with_headers(request, **headers):
    changed = {**request.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return replace(request, headers={name: value for name, value in changed.items() if value is not None})


def kind_of(call):
    with pytest.raises(AuthError) as caught:
        call()
    return caught.value.kind


# -- what botocore signs is accepted ------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["s3", "crt-s3"])
@given(st.lists(TEXT, max_size=4), st.lists(st.tuples(TEXT, TEXT), max_size=4), st.dictionaries(NAMES, VALUES, max_size=3))
def test_s3_accepts_whatever_botocore_signs(oracle, how, segments, pairs, headers):
    path = "/b/" + quote("/".join(segments), safe="/~")
    query = "&".join(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in pairs)
    request = oracle.sign(
        "s3", "PUT", path + ("?" + query if query else ""), {f"x-amz-meta-{n}": v for n, v in headers.items()}, b"body"
    )
    assert oracle.check(request).service == "s3"


@pytest.mark.parametrize("how", ["v4", "crt-v4"])
@given(st.lists(TEXT, max_size=4), st.lists(st.tuples(TEXT, TEXT), max_size=4), st.binary(max_size=50))
def test_other_services_accept_whatever_botocore_signs(oracle, how, segments, pairs, body):
    path = "/" + quote("/".join(segments), safe="/~")
    query = "&".join(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in pairs)
    request = oracle.sign(how, "POST", path + ("?" + query if query else ""), {"X-Amz-Target": "A.B"}, body, service="lambda")
    oracle.check(request, body_hash=hashlib.sha256(body).hexdigest())


@pytest.mark.parametrize("path", ["/a/../b", "//", "/a//b/", "/./x", "/..", "/a/./", "/a%2Fb", "/%2E%2E/x"])
def test_dots_and_slashes_are_kept_for_s3_and_removed_for_others(oracle, path):
    for crt in ("", "crt-"):
        oracle.check(oracle.sign(crt + "s3", "GET", path))
        oracle.check(oracle.sign(crt + "v4", "GET", path, service="execute-api"))


@pytest.mark.parametrize(
    "path", ["/b/a~b", "/b/a%7Eb", "/b/a%2fb", "/b/a+b", "/b/a(b)!*'", "/b/a%28b%29", "/b/é", "/b/a:b@c=d,e;f"]
)
@pytest.mark.parametrize(("how", "service"), [("s3", "s3"), ("v4", "lambda"), ("crt-s3", "s3"), ("crt-v4", "lambda")])
def test_paths_that_clients_spell_differently_are_accepted(oracle, path, how, service):
    oracle.check(oracle.sign(how, "GET", path, service=service))


@pytest.mark.parametrize(
    "query",
    [
        "a=b+c",
        "a=b%20c",
        "a",
        "a=",
        "a&a=1&a=0",
        "b=1&a=2",
        "a=b=c",
        "a-b=1&a=2",
        "a=%7e",
        "uploads",
        "a=1&&b=2",
        "prefix=a/b",
        "é=1",
    ],
)
@pytest.mark.parametrize(("how", "service"), [("s3", "s3"), ("v4", "lambda"), ("crt-s3", "s3"), ("crt-v4", "lambda")])
def test_queries_that_clients_spell_differently_are_accepted(oracle, query, how, service):
    if "+" in query and how.startswith("crt"):
        return  # signed as %2B, which AWS refuses too: it reads a plus as a space
    oracle.check(oracle.sign(how, "GET", "/b/k?" + query, service=service))


def test_a_plus_never_stands_for_a_signed_percent_2b(oracle):
    signed = oracle.sign("s3", "GET", "/b?prefix=a%2Bb")
    assert kind_of(lambda: oracle.check(replace(signed, query="prefix=a+b"))) == "signature"


def test_a_plus_that_means_a_space_is_accepted(oracle):
    signed = oracle.sign("s3", "GET", "/b?prefix=a%20b")
    oracle.check(replace(signed, query="prefix=a+b"))


@pytest.mark.parametrize("value", ["a  b", " a", "a\tb", "a   b  c ", "ä", "日本"])
def test_white_space_and_letters_in_headers_are_folded_as_signed(oracle, value):
    oracle.check(oracle.sign("s3", "PUT", "/b/k", {"x-amz-meta-x": value}))


def test_session_token_is_read(oracle):
    claim = oracle.check(oracle.sign("s3", token="TOKEN"))
    assert claim.session_token == "TOKEN"
    assert claim.access_key_id == oracle.key
    assert claim.scope.endswith("/us-east-1/s3/aws4_request")
    assert not claim.is_presigned


def test_now_may_be_an_instant(oracle):
    request = oracle.sign("s3")
    oracle.check(request, now=datetime.fromtimestamp(oracle.now_of(read_claim(request)), UTC))


def test_date_header_serves_when_there_is_no_amz_date(oracle):
    request = oracle.sign("v4", "GET", "/", {"Date": "x"}, service="sts")
    assert "x-amz-date" not in request.headers
    assert len(oracle.check(request).timestamp) == 16


@pytest.mark.parametrize("spacing", [", ", ",", " , ", ",  ", " "])
def test_header_spacing_is_free(oracle, spacing):
    request = oracle.sign("s3")
    oracle.check(with_headers(request, authorization=request.headers["authorization"].replace(", ", spacing)))


# -- what is not signed is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tamper",
    [
        lambda r: replace(r, method="PUT"),
        lambda r: replace(r, raw_path="/b/other"),
        lambda r: replace(r, raw_path="/b//k"),
        lambda r: replace(r, query="list-type=1"),
        lambda r: replace(r, query="list-type=2&prefix=x"),
        lambda r: replace(r, query=""),
        lambda r: with_headers(r, host="evil:4566"),
        lambda r: with_headers(r, x_amz_meta_x="b"),
        lambda r: with_headers(r, x_amz_content_sha256="0" * 64),
        lambda r: with_headers(
            r, authorization=r.headers["authorization"][:-1] + ("0" if r.headers["authorization"][-1] != "0" else "1")
        ),
        lambda r: with_headers(r, authorization=r.headers["authorization"].replace("us-east-1", "us-east-2")),
        lambda r: with_headers(r, authorization=r.headers["authorization"].replace("Signature=", "Signature=é")),
    ],
)
def test_tampered_requests_are_refused(oracle, tamper):
    request = oracle.sign("s3", "GET", "/b/k?list-type=2", {"x-amz-meta-x": "a"})
    assert kind_of(lambda: oracle.check(tamper(request))) == "signature"


@given(st.data())
def test_any_change_of_a_signed_part_is_refused(oracle, data):
    request = oracle.sign("s3", "GET", "/bucket/key?prefix=abc", {"x-amz-meta-m": "value"})
    part = data.draw(st.sampled_from(["path", "prefix", "meta", "signature"]))
    letter = st.sampled_from("abcdefxyz0123456789")
    if part == "path":
        changed = replace(request, raw_path="/bucket/" + data.draw(st.text(letter, max_size=6).filter(lambda t: t != "key")))
    elif part == "prefix":
        changed = replace(request, query="prefix=" + data.draw(st.text(letter, max_size=6).filter(lambda t: t != "abc")))
    elif part == "meta":
        changed = with_headers(request, x_amz_meta_m=data.draw(st.text(letter, max_size=6).filter(lambda t: t != "value")))
    else:
        head, _, signature = request.headers["authorization"].rpartition("=")
        changed = with_headers(
            request, authorization=f"{head}={data.draw(st.text(letter, min_size=1, max_size=64).filter(lambda t: t != signature))}"
        )
    assert kind_of(lambda: oracle.check(changed)) == "signature"


def test_wrong_secret_is_refused_and_told_what_was_signed(oracle):
    request = oracle.sign("s3", "GET", "/b/k")
    with pytest.raises(AuthError) as caught:
        oracle.check(request, secret="other")
    fields = caught.value.fields
    assert fields["AWSAccessKeyId"] == oracle.key
    assert fields["StringToSign"].startswith("AWS4-HMAC-SHA256\n")
    assert fields["StringToSignBytes"].startswith("41 57 53 34")
    assert fields["CanonicalRequest"].startswith("GET\n/b/k\n\n")
    assert len(fields["SignatureProvided"]) == 64
    assert "signature" in str(caught.value)


def test_body_of_other_services_is_signed(oracle):
    request = oracle.sign("v4", "POST", "/", {}, b"Action=x", service="sts")
    assert kind_of(lambda: oracle.check(request, body_hash=hashlib.sha256(b"Action=y").hexdigest())) == "signature"
    assert kind_of(lambda: oracle.check(request)) == "signature"


def test_declared_hash_must_be_the_bodys(oracle):
    request = oracle.sign("s3", "PUT", "/b/k", {}, b"one")
    oracle.check(request, body_hash=hashlib.sha256(b"one").hexdigest())
    with pytest.raises(AuthError) as caught:
        oracle.check(request, body_hash=hashlib.sha256(b"two").hexdigest())
    assert caught.value.kind == "payload_mismatch"
    assert caught.value.fields["S3ComputedContentSHA256"] == hashlib.sha256(b"two").hexdigest()


def test_unsigned_payload_is_accepted(oracle):
    oracle.check(oracle.sign("s3", "PUT", "/b/k", {}, b"one", payload="UNSIGNED-PAYLOAD"))
    oracle.check(oracle.sign("v4", "POST", "/x", {}, b"one", payload="UNSIGNED-PAYLOAD", service="lex"), body_hash="0" * 64)


def test_s3_wants_the_payload_hash(oracle):
    request = oracle.sign("v4", "GET", "/b/k")
    assert kind_of(lambda: oracle.check(request)) == "no_payload_hash"


@pytest.mark.parametrize("payload", ["x", "A" * 64, "g" * 64, "STREAMING-ODD"])
def test_payload_hash_must_be_one(oracle, payload):
    request = oracle.sign("s3", "PUT", "/b/k", {}, b"", payload=payload)
    assert kind_of(lambda: oracle.check(request)) == "bad_payload_hash"


@pytest.mark.parametrize(
    ("payload", "mode"),
    [
        ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "signed"),
        ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", "signed-trailer"),
        ("STREAMING-UNSIGNED-PAYLOAD-TRAILER", "unsigned-trailer"),
    ],
)
def test_streaming_modes_are_told(oracle, payload, mode):
    assert oracle.check(oracle.sign("s3", "PUT", "/b/k", {}, b"", payload=payload)).streaming == mode


# -- time ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("away", [-899, 0, 899])
def test_clocks_may_differ_by_fifteen_minutes(oracle, away):
    request = oracle.sign("s3")
    oracle.check(request, now=oracle.now_of(read_claim(request)) + away)


@pytest.mark.parametrize(("away", "words"), [(901, "Signature expired: "), (-901, "Signature not yet current: ")])
def test_clocks_further_apart_are_refused(oracle, away, words):
    request = oracle.sign("s3")
    with pytest.raises(AuthError) as caught:
        oracle.check(request, now=oracle.now_of(read_claim(request)) + away)
    assert caught.value.kind == "skewed"
    assert caught.value.fields["MaxAllowedSkewMilliseconds"] == "900000"
    assert caught.value.plain.startswith(words)


@pytest.mark.parametrize(
    "stamp", [None, "", "yesterday", "20260101T000000", "20269901T000000Z", "2026010aT000000Z", "²0260101T000000Z"]
)
def test_a_date_is_needed(oracle, stamp):
    request = with_headers(oracle.sign("s3"), x_amz_date=stamp)
    assert kind_of(lambda: oracle.check(request, now=0.0)) == "no_date"


def test_scope_is_of_the_same_day(oracle):
    request = oracle.sign("s3")
    day = request.headers["x-amz-date"][:8]
    other = with_headers(request, authorization=request.headers["authorization"].replace(f"/{day}/", "/20200101/"))
    assert kind_of(lambda: oracle.check(other)) == "scope"


# -- which headers must be signed ---------------------------------------------------------------------------------------


def test_s3_wants_every_amz_header_signed(oracle):
    request = with_headers(oracle.sign("s3", "PUT", "/b/k"), x_amz_acl="public-read")
    with pytest.raises(AuthError) as caught:
        oracle.check(request)
    assert (caught.value.kind, caught.value.fields["HeadersNotSigned"]) == ("unsigned_headers", "x-amz-acl")


def test_unsigned_user_agent_does_not_matter(oracle):
    oracle.check(with_headers(oracle.sign("s3"), user_agent="x", accept_encoding="identity"))


def test_the_target_is_signed(oracle):
    request = with_headers(oracle.sign("v4", "POST", "/", service="sagemaker"), x_amz_target="SageMaker.DeleteModel")
    with pytest.raises(AuthError) as caught:
        oracle.check(request)
    assert caught.value.kind == "unsigned_headers"
    assert "x-amz-target" in caught.value.plain


def test_the_host_is_signed(oracle):
    request = oracle.sign("v4", "GET", "/", service="sts")
    request = with_headers(request, authorization=request.headers["authorization"].replace("host;", ""))
    with pytest.raises(AuthError) as caught:
        oracle.check(request)
    assert caught.value.plain == "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization."


def test_a_signed_header_that_did_not_arrive_is_a_mismatch(oracle):
    request = with_headers(oracle.sign("s3", "PUT", "/b/k", {"content-md5": "x"}), content_md5=None)
    assert kind_of(lambda: oracle.check(request)) == "signature"


# -- claims that make no sense ------------------------------------------------------------------------------------------


def test_an_unsigned_request_has_no_claim():
    assert read_claim(Request("GET", "/", "", {"host": "h"})) is None
    assert read_claim(Request("GET", "/", "a=b", {"host": "h", "authorization": "Bearer x"})) is None
    assert read_claim(Request("GET", "/", "X-Amz-Other=b", {"host": "h"})) is None


@pytest.mark.parametrize(
    ("header", "kind"),
    [
        ("AWS4-HMAC-SHA256", "malformed"),
        ("AWS4-HMAC-SHA256 Credential=a/b/c/d/aws4_request, SignedHeaders=host", "malformed"),
        ("AWS4-HMAC-SHA256 Credential=a/b/c/aws4_request, SignedHeaders=host, Signature=x", "malformed"),
        ("AWS4-HMAC-SHA256 Credential=/20260101/r/s/aws4_request, SignedHeaders=host, Signature=x", "malformed"),
        ("AWS4-HMAC-SHA256 Credential=a/20260101/r/s/aws5_request, SignedHeaders=host, Signature=x", "scope"),
        ("AWS4-ECDSA-P256-SHA256 Credential=a/20260101/s/aws4_request, SignedHeaders=host, Signature=x", "unsupported"),
        ("AWS4-HMAC-SHA256 Region=x, Signature=x", "malformed"),
        ("AWS ", "unsupported"),
        ("AWS key", "unsupported"),
    ],
)
def test_malformed_headers_are_refused(header, kind):
    assert kind_of(lambda: read_claim(Request("GET", "/", "", {"authorization": header}))) == kind


def test_the_words_for_a_credential_of_too_many_parts():
    header = "AWS4-HMAC-SHA256 Credential=a/b/c/d/e/aws4_request, SignedHeaders=host, Signature=x"
    with pytest.raises(AuthError) as caught:
        read_claim(Request("GET", "/", "", {"authorization": header}))
    assert caught.value.message.startswith("The authorization header is malformed; the Credential is mal-formed;")
    assert caught.value.plain.endswith("got 'a/b/c/d/e/aws4_request'")
    assert caught.value.service == "e"


@pytest.mark.parametrize(
    ("rest", "service"),
    [
        ("a/d/r/sts/aws4_request, SignedHeaders=host", "sts"),
        ("a/d/r/sts/aws5_request, SignedHeaders=host, Signature=x", "sts"),
        ("a/b, SignedHeaders=host, Signature=x", ""),
    ],
)
def test_a_malformed_claim_still_tells_its_service(rest, service):
    with pytest.raises(AuthError) as caught:
        read_claim(Request("GET", "/", "", {"authorization": "AWS4-HMAC-SHA256 Credential=" + rest}))
    assert caught.value.service == service


def test_a_header_and_a_query_are_one_too_many(oracle):
    request = replace(oracle.sign("s3"), query="X-Amz-Algorithm=AWS4-HMAC-SHA256")
    assert kind_of(lambda: read_claim(request)) == "several"


def test_the_aws_published_example_is_accepted():
    """Source: S3 API reference, "Examples: Signature Calculations", GET Object."""
    request = Request(
        "GET",
        "/test.txt",
        "",
        {
            "host": "examplebucket.s3.amazonaws.com",
            "range": "bytes=0-9",
            "x-amz-content-sha256": canonical.EMPTY_SHA256,
            "x-amz-date": "20130524T000000Z",
            "authorization": "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
            "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,"
            "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        },
    )
    verify(read_claim(request), request, "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", now=1369353600.0)


# -- scopes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("region", "known"),
    [("us-east-1", True), ("eu-north-1", True), ("cn-north-1", True), ("eu-east-1", False), ("aws-global", False), ("", False)],
)
def test_known_region(region, known):
    assert known_region(region) is known


def test_faults_of_the_scope_are_worded_for_header_and_query(oracle):
    header, query = read_claim(oracle.sign("s3")), read_claim(oracle.sign("s3-query"))
    assert (
        unknown_region(header, "eu-west-1").message
        == "The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-west-1'"
    )
    assert (
        unknown_region(query, "eu-west-1").message
        == "Error parsing the X-Amz-Credential parameter; the region 'us-east-1' is wrong; expecting 'eu-west-1'"
    )
    assert unknown_region(query, "eu-west-1").plain == "Credential should be scoped to a valid region, not 'us-east-1'. "
    assert wrong_service(header, "ec2").plain == "Credential should be scoped to correct service: 'ec2'. "


def test_s3_paths_outside_latin_letters():
    assert canonical.wire_bytes("日") == "日".encode()
    assert canonical.s3_path("") == "/"
    assert canonical.other_path("/a/b/") == "/a/b/"
    assert canonical.query("") == ""


def test_http_dates():
    assert canonical.stamp_of_http_date("Fri, 24 May 2013 00:00:00 GMT") == "20130524T000000Z"
    assert canonical.stamp_of_http_date("2013-05-24T00:00:00Z") == "20130524T000000Z"
    assert canonical.stamp_of_http_date("20130524T000000Z") == "20130524T000000Z"
    assert canonical.stamp_of_http_date("Fri, 24 May 2013 00:00:00 -0000") == "20130524T000000Z"
    assert canonical.stamp_of_http_date("nonsense") == ""
    assert canonical.stamp_of_http_date("0001-01-01T00:00:00+23:00") == ""
    assert canonical.stamp_of_http_date("Fri, 24 May 2013 00:00:00 +99999999999999999999") == ""


WORDS = st.sampled_from(
    [
        "AWS4-HMAC-SHA256 ",
        "AWS ",
        "Credential=",
        "SignedHeaders=",
        "Signature=",
        "a/20260101/us-east-1/s3/aws4_request",
        "host",
        ";",
        ",",
        ":",
        "/",
        "%",
        "\udc80",
    ]
)
NOISE = st.lists(WORDS | TEXT, max_size=8).map("".join)
PARAMETERS = st.sampled_from(
    [
        "X-Amz-Algorithm",
        "X-Amz-Credential",
        "X-Amz-Signature",
        "X-Amz-Date",
        "X-Amz-SignedHeaders",
        "X-Amz-Expires",
        "AWSAccessKeyId",
        "Signature",
        "Expires",
    ]
)
VALID = {
    "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
    "X-Amz-Credential": "a/20260101/us-east-1/s3/aws4_request",
    "X-Amz-Date": "20260101T000000Z",
    "X-Amz-SignedHeaders": "host",
    "X-Amz-Expires": "60",
    "Expires": "9" * 5000,
}


@given(
    NOISE,
    st.dictionaries(st.sampled_from(["x-amz-date", "date", "x-amz-content-sha256", "host"]), NOISE),
    NOISE,
    st.dictionaries(PARAMETERS, NOISE | st.just("")),
)
def test_whatever_arrives_is_accepted_or_refused(authorization, headers, path, parameters):
    query = "&".join(f"{name}={value or VALID.get(name, 'x')}" for name, value in parameters.items())
    for request in (
        Request("GET", "/" + path, "", {**headers, "authorization": authorization}),
        Request("GET", "/" + path, query, headers),
    ):
        with contextlib.suppress(AuthError):
            claim = read_claim(request)
            if claim is not None:
                verify(claim, request, "secret", now=1767225600.0, host_bucket="b")
