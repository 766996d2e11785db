"""Presigned URLs at their edges: what is missing, too long, too late, of the wrong Region or Version."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import botocore.auth
import botocore.crt.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.httpsession import URLLib3Session

from pilvi.testing.server import Account


def fetch(url: str, method: str = "GET", data: bytes = b"") -> tuple[int, str, dict[str, str]]:
    """Status, body, and the plain elements of an error."""
    answer = URLLib3Session().send(AWSRequest(method, url, data=data).prepare())
    text = answer.content.decode()
    names = ("Code", "Message", "Expires", "ServerTime", "X-Amz-Expires")
    return answer.status_code, text, {name: text.partition(f"<{name}>")[2].partition("<")[0] for name in names}


def presigned(
    aws: Account, bucket: str, *, signature: str = "s3v4", region: str = "us-east-1", seconds: int = 60, **more: Any
) -> str:
    client = aws.session.client("s3", region, endpoint_url=aws.endpoint, config=Config(signature_version=signature))
    return str(client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "k", **more}, ExpiresIn=seconds))


def changed(url: str, **parameters: str | None) -> str:
    """The URL with parameters (dashes as underscores) set, or taken away by None."""
    kept = dict(parse_qsl(urlsplit(url).query))
    for name, value in parameters.items():
        name = name.replace("_", "-")
        if value is None:
            del kept[name]
        else:
            kept[name] = value
    return f"{url.partition('?')[0]}?{urlencode(kept)}"


@pytest.fixture
def stored(s3: Any, bucket: str) -> str:
    s3.put_object(Bucket=bucket, Key="k", Body=b"1")
    return bucket


@pytest.mark.parametrize("signature", ["s3", "s3v4"])
def test_an_expired_url_says_when_it_ended(aws: Account, stored: str, signature: str, monkeypatch: pytest.MonkeyPatch) -> None:
    past = datetime.now(UTC) - timedelta(hours=1)
    monkeypatch.setattr(botocore.auth.time, "time", past.timestamp)
    for module in (botocore.auth, botocore.crt.auth):
        monkeypatch.setattr(module, "get_current_datetime", lambda *_, **__: past.replace(tzinfo=None))
    url = presigned(aws, stored, signature=signature)
    monkeypatch.undo()
    status, _, error = fetch(url)
    assert (status, error["Code"], error["Message"]) == (403, "AccessDenied", "Request has expired")
    ended = past + timedelta(seconds=60)
    assert abs(datetime.fromisoformat(error["Expires"]) - ended) < timedelta(seconds=2)
    assert datetime.fromisoformat(error["ServerTime"]) > ended
    assert error["X-Amz-Expires"] == ("60" if signature == "s3v4" else "")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"X_Amz_Expires": "604801"}, "X-Amz-Expires must be less than a week (in seconds)"),
        ({"X_Amz_Expires": "-1"}, "X-Amz-Expires must be non-negative"),
        ({"X_Amz_Expires": "soon"}, "X-Amz-Expires should be a number"),
        ({"X_Amz_Expires": None}, "Query-string authentication version 4 requires the X-Amz-Algorithm"),
        ({"X_Amz_Signature": None}, "Query-string authentication version 4 requires the X-Amz-Algorithm"),
        ({"X_Amz_Algorithm": "AWS4-HMAC-SHA1"}, "X-Amz-Algorithm only supports"),
        ({"X_Amz_Credential": "nobody"}, "Error parsing the X-Amz-Credential parameter"),
        ({"X_Amz_Date": "yesterday"}, "X-Amz-Date must be in the ISO8601 Long Format"),
    ],
)
def test_parameters_that_make_no_sense(aws: Account, stored: str, changes: dict[str, str | None], message: str) -> None:
    status, _, error = fetch(changed(presigned(aws, stored), **changes))
    assert (status, error["Code"]) == (400, "AuthorizationQueryParametersError")
    assert error["Message"].replace("&quot;", '"').startswith(message)


def test_a_week_is_the_longest_life(aws: Account, stored: str) -> None:
    assert fetch(presigned(aws, stored, seconds=604800))[0] == 200
    assert fetch(presigned(aws, stored, seconds=604801))[0] == 400


def test_what_is_signed_may_not_be_changed(aws: Account, stored: str) -> None:
    url = presigned(aws, stored)
    status, _, error = fetch(changed(url, X_Amz_Expires="61"))
    assert (status, error["Code"]) == (403, "SignatureDoesNotMatch")
    assert fetch(url, "PUT", b"2")[2]["Code"] == "SignatureDoesNotMatch"
    assert fetch(f"{url}&versionId=null")[2]["Code"] == "SignatureDoesNotMatch"
    assert fetch(changed(url, X_Amz_Credential=f"AKIAUNKNOWN/{datetime.now(UTC):%Y%m%d}/us-east-1/s3/aws4_request"))[2]["Code"] == (
        "InvalidAccessKeyId"
    )


def test_a_url_of_another_region_is_told_where_to_go(aws: Account, stored: str) -> None:
    status, _, error = fetch(presigned(aws, stored, region="eu-west-1"))
    assert (status, error["Code"]) == (400, "AuthorizationHeaderMalformed")
    assert "the region 'eu-west-1' is wrong; expecting 'us-east-1'" in error["Message"].replace("&#39;", "'").replace("&apos;", "'")


def test_the_old_signature_counts_in_old_regions_only(aws: Account, stored: str, name: str) -> None:
    assert fetch(presigned(aws, stored, signature="s3"))[0] == 200
    young = aws.client("s3", "eu-central-1")
    young.create_bucket(Bucket=f"{name}-young", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    young.put_object(Bucket=f"{name}-young", Key="k", Body=b"1")
    assert fetch(presigned(aws, f"{name}-young", region="eu-central-1"))[0] == 200
    status, _, error = fetch(presigned(aws, f"{name}-young", signature="s3", region="eu-central-1"))
    assert (status, error["Code"]) == (400, "InvalidRequest")
    assert error["Message"] == "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256."
