"""Buckets as websites: the configuration, and what browsers get on the website host."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from botocore.awsrequest import AWSRequest
from botocore.httpsession import URLLib3Session

from pilvi.testing.server import Account
from tests.services.s3.conftest import refused

PAGES = {"IndexDocument": {"Suffix": "index.html"}}
Get = Callable[..., Any]


@pytest.fixture
def get(aws: Account) -> Get:
    """`get("/path", host="bucket.s3-website.localhost")`: what a browser would get, redirects not followed."""
    session = URLLib3Session()

    def fetch(path: str, bucket: str, *, suffix: str = "s3-website.localhost", method: str = "GET", **headers: str) -> Any:
        sent = {
            "Host": f"{bucket}.{suffix}" if bucket else suffix,
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        return session.send(AWSRequest(method, f"{aws.endpoint}{path}", headers=sent).prepare())

    return fetch


def publish(s3: Any, bucket: str, *actions: str) -> None:
    statement = {"Effect": "Allow", "Principal": "*", "Action": ["s3:GetObject"], "Resource": f"arn:aws:s3:::{bucket}/*"}
    more = {"Effect": "Allow", "Principal": "*", "Action": list(actions), "Resource": f"arn:aws:s3:::{bucket}"}
    s3.delete_public_access_block(Bucket=bucket)
    policy = {"Version": "2012-10-17", "Statement": [statement, more] if actions else [statement]}
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))


@pytest.fixture
def site(s3: Any, bucket: str) -> str:
    """A public website of three pages, whose missing pages are 404s."""
    s3.put_bucket_website(Bucket=bucket, WebsiteConfiguration={**PAGES, "ErrorDocument": {"Key": "oh/no.html"}})
    for key, text in (("index.html", "home"), ("docs/index.html", "docs"), ("oh/no.html", "sorry"), ("a b+ü.html", "odd")):
        s3.put_object(Bucket=bucket, Key=key, Body=text, ContentType="text/html", CacheControl="no-cache", Metadata={"a": "1"})
    publish(s3, bucket, "s3:ListBucket")
    return bucket


# -- the configuration ----------------------------------------------------------------------------------------------------


def test_put_bucket_website_is_given_back(s3: Any, bucket: str) -> None:
    error = refused(s3.get_bucket_website, Bucket=bucket)
    assert (error["Code"], error["Status"]) == ("NoSuchWebsiteConfiguration", 404)
    rules = [
        {
            "Condition": {"KeyPrefixEquals": "old/", "HttpErrorCodeReturnedEquals": "404"},
            "Redirect": {"ReplaceKeyPrefixWith": "new/"},
        },
        {"Redirect": {"HostName": "example.com", "Protocol": "https", "HttpRedirectCode": "307", "ReplaceKeyWith": "x"}},
    ]
    given = {**PAGES, "ErrorDocument": {"Key": "e.html"}, "RoutingRules": rules}
    s3.put_bucket_website(Bucket=bucket, WebsiteConfiguration=given)
    answer = s3.get_bucket_website(Bucket=bucket)
    assert {name: answer[name] for name in given} == given
    s3.put_bucket_website(Bucket=bucket, WebsiteConfiguration={"RedirectAllRequestsTo": {"HostName": "example.com"}})
    answer = s3.get_bucket_website(Bucket=bucket)
    assert (answer["RedirectAllRequestsTo"], "IndexDocument" in answer) == ({"HostName": "example.com"}, False)
    s3.delete_bucket_website(Bucket=bucket)
    s3.delete_bucket_website(Bucket=bucket)
    assert refused(s3.get_bucket_website, Bucket=bucket)["Code"] == "NoSuchWebsiteConfiguration"


def redirecting(redirect: dict[str, str], **condition: str) -> dict[str, Any]:
    rule: dict[str, Any] = {"Redirect": redirect}
    return {**PAGES, "RoutingRules": [{**rule, "Condition": condition} if condition else rule]}


@pytest.mark.parametrize(
    ("configuration", "code", "message"),
    [
        ({}, "InvalidArgument", "A value for IndexDocument Suffix must be provided if RedirectAllRequestsTo is empty"),
        ({"IndexDocument": {"Suffix": "a/b"}}, "InvalidArgument", "The IndexDocument Suffix is not well formed"),
        ({"IndexDocument": {"Suffix": ""}}, "InvalidArgument", "The IndexDocument Suffix is not well formed"),
        (
            {**PAGES, "RedirectAllRequestsTo": {"HostName": "a"}},
            "InvalidArgument",
            "RedirectAllRequestsTo cannot be provided in conjunction with other Routing Rules.",
        ),
        (
            {"RedirectAllRequestsTo": {"HostName": "a", "Protocol": "ftp"}},
            "InvalidRequest",
            "Invalid protocol, protocol can be http or https.",
        ),
        ({**PAGES, "RoutingRules": []}, "MalformedXML", "The XML you provided was not well-formed"),
        (
            redirecting({"ReplaceKeyWith": "a", "ReplaceKeyPrefixWith": "b"}),
            "InvalidRequest",
            "You can only define ReplaceKeyPrefix or",
        ),
        (redirecting({"HttpRedirectCode": "200"}), "InvalidRequest", "The provided HTTP redirect code (200) is not valid."),
        (
            redirecting({"ReplaceKeyWith": "a"}, HttpErrorCodeReturnedEquals="200"),
            "InvalidRequest",
            "The provided HTTP error code (200) is not valid. Valid codes are 4XX or 5XX.",
        ),
        ({**PAGES, "RoutingRules": [{"Redirect": {"ReplaceKeyWith": "a"}}] * 51}, "InvalidRequest", "51 routing rules provided"),
    ],
)
def test_put_bucket_website_refuses(s3: Any, bucket: str, configuration: Any, code: str, message: str) -> None:
    error = refused(s3.put_bucket_website, Bucket=bucket, WebsiteConfiguration=configuration)
    assert (error["Code"], error["Status"]) == (code, 400)
    assert error["Message"].startswith(message)


def test_put_object_refuses_other_redirects(s3: Any, bucket: str) -> None:
    error = refused(s3.put_object, Bucket=bucket, Key="k", WebsiteRedirectLocation="ftp://x")
    assert (error["Code"], error["Status"]) == ("InvalidRedirectLocation", 400)


# -- pages ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "suffix",
    [
        "s3-website-us-east-1.amazonaws.com",
        "s3-website.us-east-1.amazonaws.com",
        "s3-website.localhost:4566",
        "s3-website-us-east-1.localhost:4566",
        "s3-website.us-east-1.localhost",
    ],
)
def test_every_form_of_the_host_serves_the_index(get: Get, site: str, suffix: str) -> None:
    answer = get("/", site, suffix=suffix)
    assert (answer.status_code, answer.content, answer.headers["Content-Type"]) == (200, b"home", "text/html")
    assert (answer.headers["Cache-Control"], answer.headers["x-amz-meta-a"]) == ("no-cache", "1")


def test_pages_and_folders(get: Get, site: str) -> None:
    assert get("/docs/", site).content == b"docs"
    assert get("/docs/index.html?utm=1", site).content == b"docs"
    assert get("/a%20b+%C3%BC.html", site).content == b"odd"
    folder = get("/docs", site)
    assert (folder.status_code, folder.headers["Location"], folder.headers["x-amz-error-code"]) == (302, "/docs/", "Found")


def test_a_missing_page_gets_the_error_document_with_its_status(get: Get, site: str) -> None:
    answer = get("/nothing.html", site)
    assert (answer.status_code, answer.content) == (404, b"sorry")
    assert answer.headers["x-amz-error-code"] == "NoSuchKey"
    assert answer.headers["x-amz-error-detail-Key"] == "nothing.html"
    head = get("/nothing.html", site, method="HEAD")
    assert (head.status_code, head.content, head.headers["Content-Length"]) == (404, b"", "5")
    assert get("/empty/", site).status_code == 404


def test_head_ranges_and_conditions(get: Get, s3: Any, site: str) -> None:
    head = get("/", site, method="HEAD")
    assert (head.status_code, head.content, head.headers["Content-Length"]) == (200, b"", "4")
    part = get("/", site, Range="bytes=1-2")
    assert (part.status_code, part.content, part.headers["Content-Range"]) == (206, b"om", "bytes 1-2/4")
    etag = s3.head_object(Bucket=site, Key="index.html")["ETag"]
    same = get("/", site, If_None_Match=etag)
    assert (same.status_code, same.content, same.headers["ETag"]) == (304, b"", etag)
    assert get("/", site, If_Modified_Since=head.headers["Last-Modified"]).status_code == 304
    assert get("/", site, If_Modified_Since="some day").status_code == 200
    assert get("/", site, If_Match='"other"').status_code == 412
    assert get("/", site, Range="bytes=9-").status_code == 416


def test_other_methods_are_refused(get: Get, site: str) -> None:
    for method in ("POST", "PUT", "DELETE"):
        answer = get("/", site, method=method)
        assert (answer.status_code, b"<li>Code: MethodNotAllowed</li>" in answer.content) == (405, True)


def test_a_private_site_shows_nothing(get: Get, s3: Any, bucket: str) -> None:
    s3.put_bucket_website(Bucket=bucket, WebsiteConfiguration={**PAGES, "ErrorDocument": {"Key": "e.html"}})
    s3.put_object(Bucket=bucket, Key="index.html", Body=b"secret")
    answer = get("/", bucket)
    assert (answer.status_code, answer.headers["Content-Type"]) == (403, "text/html; charset=utf-8")
    assert b"<h1>403 Forbidden</h1>" in answer.content
    assert b"<li>Code: AccessDenied</li>" in answer.content
    assert b"An Error Occurred While Attempting to Retrieve a Custom Error Document" in answer.content
    assert b"secret" not in answer.content
    publish(s3, bucket)
    assert get("/", bucket).content == b"secret"
    assert get("/missing", bucket).status_code == 403  # who may not list does not learn what is missing


def test_no_bucket_no_website_wrong_region(get: Get, aws: Account, s3: Any, site: str, bucket: str) -> None:
    answer = get("/<b>", "no-such-bucket-here")
    assert (answer.status_code, b"<li>Code: NoSuchBucket</li>" in answer.content) == (404, True)
    assert b"<li>BucketName: no-such-bucket-here</li>" in answer.content
    s3.delete_bucket_website(Bucket=site)
    answer = get("/", site)
    assert (answer.status_code, b"<li>Code: NoSuchWebsiteConfiguration</li>" in answer.content) == (404, True)
    answer = get("/", site, suffix="s3-website.eu-central-1.amazonaws.com")
    assert (answer.status_code, b"<li>Code: IncorrectEndpoint</li>" in answer.content) == (400, True)
    bare = get("/", "", suffix="s3-website.us-east-1.amazonaws.com")
    assert (bare.status_code, bare.headers["Location"]) == (301, "https://aws.amazon.com/s3/")


def test_error_pages_escape_what_they_show(get: Get, s3: Any, site: str) -> None:
    s3.put_bucket_website(Bucket=site, WebsiteConfiguration=PAGES)
    answer = get("/%3Cscript%3Ealert(1)%3C/script%3E%0D%0AX:y", site)
    assert b"<li>Key: &lt;script&gt;alert(1)" in answer.content
    assert "\n" not in answer.headers["x-amz-error-detail-Key"]


# -- redirects ------------------------------------------------------------------------------------------------------------


def test_redirect_all_requests(get: Get, s3: Any, site: str) -> None:
    target = {"HostName": "example.com", "Protocol": "https"}
    s3.put_bucket_website(Bucket=site, WebsiteConfiguration={"RedirectAllRequestsTo": target})
    answer = get("/a%20b?c=d", site)
    assert (answer.status_code, answer.headers["Location"]) == (301, "https://example.com/a%20b?c=d")


def test_routing_rules_by_prefix_and_by_error(get: Get, s3: Any, site: str) -> None:
    rules = [
        {"Condition": {"KeyPrefixEquals": "old/"}, "Redirect": {"ReplaceKeyPrefixWith": "docs/", "HttpRedirectCode": "302"}},
        {"Condition": {"KeyPrefixEquals": "gone"}, "Redirect": {"ReplaceKeyWith": "oh/no.html", "HostName": "example.com"}},
        {"Condition": {"HttpErrorCodeReturnedEquals": "404"}, "Redirect": {"Protocol": "https", "ReplaceKeyPrefixWith": "#!/"}},
    ]
    s3.put_bucket_website(Bucket=site, WebsiteConfiguration={**PAGES, "RoutingRules": rules})
    moved = get("/old/index.html", site)
    assert (moved.status_code, moved.headers["Location"]) == (302, f"http://{site}.s3-website.localhost/docs/index.html")
    assert get("/gone/away", site).headers["Location"] == "http://example.com/oh/no.html"
    lost = get("/app/page", site)
    assert (lost.status_code, lost.headers["Location"]) == (301, f"https://{site}.s3-website.localhost/#!/app/page")
    assert get("/docs/", site).status_code == 200


def test_an_object_says_where_it_went(get: Get, s3: Any, site: str) -> None:
    s3.put_object(Bucket=site, Key="moved.html", WebsiteRedirectLocation="/docs/")
    answer = get("/moved.html", site)
    assert (answer.status_code, answer.headers["Location"], answer.content) == (301, "/docs/", b"")
    assert s3.get_object(Bucket=site, Key="moved.html")["WebsiteRedirectLocation"] == "/docs/"


def test_websites_answer_pages_of_other_origins(get: Get, s3: Any, site: str) -> None:
    rules = [{"AllowedOrigins": ["https://a.example"], "AllowedMethods": ["GET"]}]
    s3.put_bucket_cors(Bucket=site, CORSConfiguration={"CORSRules": rules})
    assert get("/", site, Origin="https://a.example").headers["Access-Control-Allow-Origin"] == "https://a.example"
    asked = get("/", site, method="OPTIONS", Origin="https://a.example", Access_Control_Request_Method="GET")
    assert (asked.status_code, asked.headers["Access-Control-Allow-Methods"]) == (200, "GET")
