"""Cross-origin rules: the configuration, preflights, and what every answer tells a page of another origin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.awsrequest import AWSRequest
from botocore.httpsession import URLLib3Session

from pilvi.testing.server import Account
from tests.services.s3.conftest import refused

PAGE = "https://shop.example.com"
VARY = "Origin, Access-Control-Request-Headers, Access-Control-Request-Method"


def rule(**more: Any) -> dict[str, Any]:
    return {"AllowedOrigins": [PAGE], "AllowedMethods": ["GET", "PUT"], **more}


@pytest.fixture
def ruled(s3: Any, bucket: str) -> str:
    rules = [
        rule(AllowedHeaders=["x-amz-*", "content-type"], ExposeHeaders=["ETag", "x-amz-meta-a"], MaxAgeSeconds=3000),
        {"AllowedOrigins": ["http://*.example.org"], "AllowedMethods": ["GET"]},
        {"AllowedOrigins": ["*"], "AllowedMethods": ["HEAD"], "AllowedHeaders": ["*"]},
    ]
    s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": rules})
    return bucket


def preflight(aws: Account, path: str, origin: str = PAGE, method: str = "PUT", headers: str = "", host: str = "") -> Any:
    sent = {"Origin": origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": headers, "Host": host}
    sent = {name: value for name, value in sent.items() if value}
    return URLLib3Session().send(AWSRequest("OPTIONS", f"{aws.endpoint}{path}", headers=sent).prepare())


# -- the configuration ----------------------------------------------------------------------------------------------------


def test_put_bucket_cors_is_given_back(s3: Any, bucket: str) -> None:
    assert refused(s3.get_bucket_cors, Bucket=bucket) == {
        "Code": "NoSuchCORSConfiguration",
        "Message": "The CORS configuration does not exist",
        "BucketName": bucket,
        "Status": 404,
    }
    rules = [rule(ID="one", AllowedHeaders=["*"], ExposeHeaders=["ETag"], MaxAgeSeconds=5), rule(AllowedOrigins=["*"])]
    s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": rules})
    assert s3.get_bucket_cors(Bucket=bucket)["CORSRules"] == rules
    s3.delete_bucket_cors(Bucket=bucket)
    s3.delete_bucket_cors(Bucket=bucket)
    assert refused(s3.get_bucket_cors, Bucket=bucket)["Code"] == "NoSuchCORSConfiguration"


@pytest.mark.parametrize(
    ("rules", "code", "message"),
    [
        ([], "MalformedXML", ""),
        (
            [rule(AllowedMethods=["PATCH"])],
            "InvalidRequest",
            "Found unsupported HTTP method in CORS config. Unsupported method is PATCH",
        ),
        (
            [rule(AllowedOrigins=["http://*.*"])],
            "InvalidRequest",
            'AllowedOrigin "http://*.*" can not have more than one wildcard.',
        ),
        ([rule(AllowedHeaders=["x-*-*"])], "InvalidRequest", 'AllowedHeader "x-*-*" can not have more than one wildcard.'),
        (
            [rule(ExposeHeaders=["x-*"])],
            "InvalidRequest",
            'ExposeHeader "x-*" contains wildcard. We currently do not support wildcard for ExposeHeader.',
        ),
        ([rule()] * 101, "InvalidRequest", "The number of CORS rules should not exceed allowed limit of 100 rules."),
    ],
)
def test_put_bucket_cors_refuses(s3: Any, bucket: str, rules: list[Any], code: str, message: str) -> None:
    error = refused(s3.put_bucket_cors, Bucket=bucket, CORSConfiguration={"CORSRules": rules})
    assert (error["Code"], error["Status"]) == (code, 400)
    assert error["Message"] == message or not message
    assert refused(s3.get_bucket_cors, Bucket=bucket)["Code"] == "NoSuchCORSConfiguration"


def test_bucket_cors_needs_its_permission(aws: Account, ruled: str) -> None:
    nobody = aws.user(f"cors-{ruled}").client("s3")
    assert "s3:GetBucketCORS" in refused(nobody.get_bucket_cors, Bucket=ruled)["Message"]
    assert "s3:PutBucketCORS" in refused(nobody.delete_bucket_cors, Bucket=ruled)["Message"]


# -- preflights -----------------------------------------------------------------------------------------------------------


def test_preflight_from_an_allowed_origin(aws: Account, ruled: str) -> None:
    answer = preflight(aws, f"/{ruled}/some/key", headers="Content-Type, X-Amz-Date")
    assert (answer.status_code, answer.content) == (200, b"")
    told = {name.lower(): value for name, value in answer.headers.items() if name.lower().startswith(("access-", "vary"))}
    assert told == {
        "access-control-allow-origin": PAGE,
        "access-control-allow-methods": "GET, PUT",
        "access-control-allow-headers": "content-type, x-amz-date",
        "access-control-expose-headers": "ETag, x-amz-meta-a",
        "access-control-max-age": "3000",
        "access-control-allow-credentials": "true",
        "vary": VARY,
    }


def test_preflight_by_wildcards_and_in_virtual_hosted_style(aws: Account, ruled: str) -> None:
    assert (
        preflight(aws, f"/{ruled}/k", "http://a.example.org", "GET").headers["Access-Control-Allow-Origin"]
        == "http://a.example.org"
    )
    anyone = preflight(aws, f"/{ruled}", "null", "HEAD", "x-whatever")
    assert anyone.headers["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in anyone.headers
    assert preflight(aws, "/deep/key", host=f"{ruled}.s3.us-east-1.amazonaws.com").status_code == 200
    assert preflight(aws, "/deep/key", host=f"{ruled}.s3.localhost:4566").status_code == 200


@pytest.mark.parametrize(
    ("origin", "method", "headers"),
    [
        ("https://evil.example.com", "PUT", ""),
        (PAGE, "DELETE", ""),
        (PAGE, "PUT", "authorization"),
        ("http://example.org", "GET", ""),
    ],
)
def test_preflight_that_no_rule_allows(aws: Account, ruled: str, origin: str, method: str, headers: str) -> None:
    answer = preflight(aws, f"/{ruled}/k", origin, method, headers)
    assert answer.status_code == 403
    assert b"<Code>AccessForbidden</Code><Message>CORSResponse: This CORS request is not allowed. " in answer.content
    assert f"<Method>{method}</Method><ResourceType>OBJECT</ResourceType>".encode() in answer.content
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_preflight_without_rules_bucket_or_origin(aws: Account, bucket: str) -> None:
    answer = preflight(aws, f"/{bucket}")
    assert (answer.status_code, b"CORSResponse: CORS is not enabled for this bucket." in answer.content) == (403, True)
    assert b"<ResourceType>BUCKET</ResourceType>" in answer.content
    assert b"CORSResponse: Bucket not found" in preflight(aws, "/no-such-bucket-anywhere/k").content
    answer = preflight(aws, f"/{bucket}/k", origin="")
    assert (answer.status_code, b"Insufficient information. Origin request header needed." in answer.content) == (400, True)
    answer = preflight(aws, f"/{bucket}/k", method="PATCH")
    assert (answer.status_code, b"Invalid Access-Control-Request-Method: PATCH" in answer.content) == (400, True)


# -- every other request --------------------------------------------------------------------------------------------------


def test_answers_and_errors_tell_pages(s3: Any, ruled: str, raw: Callable[..., Any]) -> None:
    put = raw("PUT", f"/{ruled}/k", data=b"1", headers={"Origin": PAGE})
    assert (put.status_code, put.headers["Access-Control-Allow-Origin"], put.headers["Vary"]) == (200, PAGE, VARY)
    got = raw("GET", f"/{ruled}/k", headers={"Origin": "http://x.example.org"})
    assert (got.content, got.headers["Access-Control-Allow-Origin"]) == (b"1", "http://x.example.org")
    listed = raw("GET", f"/{ruled}?list-type=2", headers={"Origin": PAGE})
    assert listed.headers["Access-Control-Expose-Headers"] == "ETag, x-amz-meta-a"
    missing = raw("GET", f"/{ruled}/none", headers={"Origin": PAGE})
    assert (missing.status_code, missing.headers["Access-Control-Allow-Origin"]) == (404, PAGE)
    denied = raw("GET", f"/{ruled}/k", headers={"Origin": PAGE}, signed=False)
    assert (denied.status_code, denied.headers["Access-Control-Allow-Origin"]) == (403, PAGE)
    head = raw("HEAD", f"/{ruled}/k", headers={"Origin": "https://anybody.net"})
    assert (head.status_code, head.headers["Access-Control-Allow-Origin"]) == (200, "*")


def test_answers_to_others_say_nothing(ruled: str, raw: Callable[..., Any]) -> None:
    assert "Access-Control-Allow-Origin" not in raw("GET", f"/{ruled}/k", headers={"Origin": "https://evil.net"}).headers
    assert "Access-Control-Allow-Origin" not in raw("DELETE", f"/{ruled}/k", headers={"Origin": PAGE}).headers
    assert "Access-Control-Allow-Origin" not in raw("GET", f"/{ruled}/k").headers


def test_a_preflight_asks_for_a_hundred_headers_at_most(aws: Account, s3: Any, bucket: str) -> None:
    s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [rule(AllowedHeaders=["*"])]})
    assert preflight(aws, f"/{bucket}/k", headers=",".join(f"x-{number}" for number in range(100))).status_code == 200
    assert preflight(aws, f"/{bucket}/k", headers=",".join(f"x-{number}" for number in range(101))).status_code == 403
    wide = [rule(AllowedHeaders=[f"x-{number:0100}" for number in range(1000)])]
    assert refused(s3.put_bucket_cors, Bucket=bucket, CORSConfiguration={"CORSRules": wide})["Code"] == "MalformedXML"
