"""Signed URLs of both versions, Version 2 headers and signed forms, with botocore as the oracle."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import quote

import boto3
import pytest
from botocore.config import Config
from hypothesis import given
from hypothesis import strategies as st

from pilvi.auth.errors import AuthError
from pilvi.auth.presign import read_post_claim, verify_post_policy
from pilvi.auth.sigv4 import read_claim
from pilvi.core.http import Request

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00", exclude_categories=("Cs",)), min_size=1, max_size=12).filter(
    lambda text: not text.startswith("X-Amz-")
)


def kind_of(call):
    with pytest.raises(AuthError) as caught:
        call()
    return caught.value.kind


def changed(request, old, new):
    assert old in request.query
    return replace(request, query=request.query.replace(old, new))


# -- Version 4 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["s3-query", "crt-s3-query"])
@given(TEXT, st.dictionaries(TEXT, TEXT, max_size=3))
def test_v4_urls_are_accepted(oracle, how, key, pairs):
    query = "&".join(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in pairs.items())
    request = oracle.sign(how, "GET", "/b/" + quote(key, safe="/~") + ("?" + query if query else ""))
    claim = oracle.check(request)
    assert (claim.expires_s, claim.is_presigned, claim.kind) == (600, True, "query")


@pytest.mark.parametrize("how", ["v4-query", "crt-v4-query"])
@pytest.mark.parametrize("token", [None, "TO/KEN=="])
def test_v4_urls_of_other_services_are_accepted(oracle, how, token):
    request = oracle.sign(how, "GET", "/?Action=GetCallerIdentity&Version=2011-06-15", service="sts", token=token)
    assert oracle.check(request).session_token == (token or "")


def test_v4_url_lives_as_long_as_it_says(oracle):
    request = oracle.sign("s3-query", "GET", "/b/k")
    signed = oracle.now_of(read_claim(request))
    oracle.check(request, now=signed + 600)
    with pytest.raises(AuthError) as caught:
        oracle.check(request, now=signed + 601)
    assert caught.value.kind == "expired"
    assert caught.value.fields["X-Amz-Expires"] == "600"
    assert caught.value.fields["Expires"].endswith("Z")


def test_v4_url_is_not_valid_before_its_date(oracle):
    request = oracle.sign("s3-query", "GET", "/b/k")
    signed = oracle.now_of(read_claim(request))
    oracle.check(request, now=signed - 899)
    assert kind_of(lambda: oracle.check(request, now=signed - 901)) == "not_yet_valid"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "X-Amz-Expires=600",
            "X-Amz-Expires=604801",
            "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than 604800 seconds",
        ),
        ("X-Amz-Expires=600", "X-Amz-Expires=-1", "X-Amz-Expires must be non-negative"),
        ("X-Amz-Expires=600", "X-Amz-Expires=x", "X-Amz-Expires should be a number"),
        ("X-Amz-Expires=600", "x=1", "Query-string authentication version 4 requires the X-Amz-Algorithm"),
        ("X-Amz-Signature=", "Y=", "Query-string authentication version 4 requires the X-Amz-Algorithm"),
        ("X-Amz-Algorithm=AWS4-HMAC-SHA256", "X-Amz-Algorithm=AWS5", "X-Amz-Algorithm only supports"),
        ("aws4_request", "aws5_request", "Error parsing the X-Amz-Credential parameter; the Credential is mal-formed"),
        ("X-Amz-Date=", "X-Amz-Date=x", "X-Amz-Date must be in the ISO8601 Long Format"),
    ],
)
def test_malformed_v4_urls_are_refused(oracle, old, new, message):
    request = changed(oracle.sign("s3-query", "GET", "/b/k"), old, new)
    with pytest.raises(AuthError) as caught:
        read_claim(request)
    assert caught.value.kind == "malformed_query"
    assert caught.value.message.startswith(message)


@pytest.mark.parametrize(
    "tamper",
    [
        lambda r: replace(r, method="DELETE"),
        lambda r: replace(r, raw_path="/b/other"),
        lambda r: replace(r, query=r.query + "&versionId=1"),
        lambda r: changed(r, "X-Amz-Expires=600", "X-Amz-Expires=601"),
        lambda r: changed(r, "us-east-1", "us-east-2"),
        lambda r: replace(r, headers={"host": "evil"}),
    ],
)
def test_tampered_v4_urls_are_refused(oracle, tamper):
    request = tamper(oracle.sign("s3-query", "GET", "/b/k?versionId=0"))
    assert kind_of(lambda: oracle.check(request)) == "signature"


def test_v4_url_of_another_day_is_refused(oracle):
    request = oracle.sign("s3-query", "GET", "/b/k")
    claim = read_claim(request)
    assert kind_of(lambda: oracle.check(changed(request, f"%2F{claim.date}%2F", "%2F20200101%2F"))) == "scope_query"


def test_headers_added_to_a_url_must_have_been_signed(oracle):
    request = oracle.sign("s3-query", "PUT", "/b/k")
    request.headers["content-type"] = "text/plain"
    oracle.check(request)
    request.headers["x-amz-acl"] = "public-read"
    assert kind_of(lambda: oracle.check(request)) == "unsigned_headers"


def test_signed_headers_of_a_url_must_come_along(oracle):
    request = oracle.sign("s3-query", "PUT", "/b/k", {"x-amz-acl": "private"})
    oracle.check(request)
    request.headers["x-amz-acl"] = "public-read"
    assert kind_of(lambda: oracle.check(request)) == "signature"


def test_a_url_may_bind_the_body(oracle):
    request = oracle.sign("s3-query", "PUT", "/b/k?X-Amz-Content-Sha256=UNSIGNED-PAYLOAD")
    assert oracle.check(request).payload_hash == "UNSIGNED-PAYLOAD"
    request = oracle.sign("v4-query", "PUT", "/b/k", {"x-amz-content-sha256": "0" * 64})
    assert read_claim(request).payload_hash == "0" * 64


@pytest.mark.parametrize("version", [None, "s3v4"])
@pytest.mark.parametrize("style", ["path", "virtual"])
@pytest.mark.parametrize("operation", ["get_object", "put_object", "list_objects_v2"])
@pytest.mark.parametrize("token", [None, "TOKEN"])
def test_boto3s_own_urls_are_accepted(oracle, version, style, operation, token):
    """Version 2 is the default in us-east-1; it signs the bucket even when the host names it."""
    client = boto3.client(
        "s3",
        "us-east-1",
        endpoint_url="http://localhost:4566",
        aws_access_key_id=oracle.key,
        aws_secret_access_key=oracle.secret,
        aws_session_token=token,
        config=Config(signature_version=version, s3={"addressing_style": style}),
    )
    parameters = {"Bucket": "bkt"} if operation == "list_objects_v2" else {"Bucket": "bkt", "Key": "a key/ä.txt"}
    url = client.generate_presigned_url(operation, parameters)
    host, _, rest = url.removeprefix("http://").partition("/")
    path, _, query = rest.partition("?")
    method = "PUT" if operation == "put_object" else "GET"
    request = Request(method, "/" + path, query, {"host": host})
    bucket = host.partition(".")[0] if style == "virtual" else ""
    claim = oracle.check(request, host_bucket=bucket)
    assert claim.kind == ("query" if version else "v2-query")
    assert claim.session_token == (token or "")
    if claim.kind == "v2-query" and bucket:
        assert kind_of(lambda: oracle.check(request, host_bucket="other")) == "signature"


# -- Version 2 ----------------------------------------------------------------------------------------------------------


def test_v2_url_ends_when_it_says(oracle):
    request = oracle.sign("v2-query", "GET", "/b/k")
    ends = read_claim(request).expires_s
    oracle.check(request, now=float(ends))
    assert kind_of(lambda: oracle.check(request, now=ends + 1.0)) == "expired"


@pytest.mark.parametrize(
    "tamper",
    [
        lambda r: replace(r, method="PUT"),
        lambda r: replace(r, raw_path="/b/other"),
        lambda r: replace(r, query=r.query + "&acl"),
        lambda r: replace(r, query=r.query + "&retention"),
        lambda r: replace(r, query=r.query + "&x-amz-acl=public-read"),
        lambda r: replace(r, headers={**r.headers, "x-amz-acl": "public-read"}),
        lambda r: replace(r, headers={**r.headers, "content-type": "text/html"}),
    ],
)
def test_tampered_v2_urls_are_refused(oracle, tamper):
    request = oracle.sign("v2-query", "GET", "/b/k")
    with pytest.raises(AuthError) as caught:
        oracle.check(tamper(request))
    assert caught.value.kind == "signature"
    assert caught.value.fields["StringToSign"]


@pytest.mark.parametrize(
    "query",
    [
        "versionId=3",
        "response-content-type=a%2Fb&acl",
        "uploads",
        "other=1",
        "partNumber=1&uploadId=x",
    ],
)
@pytest.mark.parametrize("how", ["v2", "v2-query"])
def test_v2_signs_sub_resources(oracle, how, query):
    oracle.check(oracle.sign(how, "GET", "/b/k?" + query))


@pytest.mark.parametrize(("old", "new"), [("Signature=", "Signature=&S="), ("Expires=", "Expires=x"), ("Expires=", "Ends=")])
def test_malformed_v2_urls_are_refused(oracle, old, new):
    assert kind_of(lambda: read_claim(changed(oracle.sign("v2-query", "GET", "/b/k"), old, new))) == "missing_token"


def test_v2_header_is_accepted_and_checked(oracle):
    request = oracle.sign("v2", "PUT", "/b/k?acl", {"x-amz-acl": "private", "Content-Type": "text/plain"}, token="T")
    claim = oracle.check(request)
    assert (claim.kind, claim.session_token, claim.service) == ("v2-header", "T", "s3")
    signed = oracle.now_of(claim)
    assert kind_of(lambda: oracle.check(request, now=signed + 901)) == "skewed"
    assert kind_of(lambda: oracle.check(replace(request, method="GET"))) == "signature"
    assert kind_of(lambda: oracle.check(request, secret="x")) == "signature"


def test_v2_header_needs_a_date_and_a_plain_body(oracle):
    request = oracle.sign("v2", "GET", "/b/k")
    undated = replace(request, headers={name: value for name, value in request.headers.items() if name != "date"})
    assert kind_of(lambda: oracle.check(undated, now=0.0)) == "no_date"
    request.headers["x-amz-content-sha256"] = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
    assert kind_of(lambda: oracle.check(request)) == "bad_payload_hash"


# -- forms --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("version", "kind"), [(None, "v2-header"), ("s3v4", "header")])
@pytest.mark.parametrize("token", [None, "TOKEN"])
def test_signed_forms(oracle, version, kind, token):
    client = boto3.client(
        "s3",
        "us-east-1",
        aws_access_key_id=oracle.key,
        aws_secret_access_key=oracle.secret,
        aws_session_token=token,
        config=Config(signature_version=version),
    )
    made = client.generate_presigned_post("bkt", "key")["fields"]
    fields = {name.lower(): value for name, value in made.items()}
    claim = read_post_claim(fields)
    assert (claim.kind, claim.access_key_id, claim.session_token) == (kind, oracle.key, token or "")
    verify_post_policy(claim, fields["policy"], oracle.secret)
    assert kind_of(lambda: verify_post_policy(claim, fields["policy"] + "x", oracle.secret)) == "signature"
    assert kind_of(lambda: verify_post_policy(claim, fields["policy"], "other")) == "signature"


def test_unsigned_and_malformed_forms():
    assert read_post_claim({"key": "k"}) is None
    assert kind_of(lambda: read_post_claim({"x-amz-signature": "s", "x-amz-credential": "a/b"})) == "malformed"
