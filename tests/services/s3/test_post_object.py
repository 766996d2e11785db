"""Uploads by forms, as a browser sends them."""

from __future__ import annotations

import base64
import hmac
import html
import json
import os
from typing import Any

import pytest
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.httpsession import URLLib3Session

from pilvi.core.errors import ServiceError
from pilvi.services.s3.post_object import read_policy
from pilvi.testing.server import Account


def send(url: str, fields: dict[str, str], file: bytes | None, filename: str = "f.txt", content_type: str = "") -> Any:
    mark = "----formmark"
    parts = [f'--{mark}\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n'.encode() for k, v in fields.items()]
    if file is not None:
        kind = f"\r\nContent-Type: {content_type}" if content_type else ""
        head = f'--{mark}\r\nContent-Disposition: form-data; name="file"; filename="{filename}"{kind}\r\n\r\n'
        parts += [head.encode(), file, b"\r\n"]
    parts.append(f"--{mark}--\r\n".encode())
    headers = {"Content-Type": f"multipart/form-data; boundary={mark}"}
    return URLLib3Session().send(AWSRequest("POST", url, data=b"".join(parts), headers=headers).prepare())


@pytest.mark.parametrize("signature", ["s3", "s3v4"])
@pytest.mark.parametrize("size", [0, 10, 3_000_000])
def test_presigned_post_stores_the_file(aws: Account, s3: Any, bucket: str, signature: str, size: int) -> None:
    client = aws.client("s3", config=Config(signature_version=signature))
    body = b"\r\n--" + os.urandom(size) if size else b""
    post = client.generate_presigned_post(
        bucket,
        "up/${filename}",
        Fields={"x-amz-meta-colour": "blue", "success_action_status": "201"},
        Conditions=[{"x-amz-meta-colour": "blue"}, {"success_action_status": "201"}, ["content-length-range", 0, 5_000_000]],
    )
    answer = send(post["url"], post["fields"], body, "my cat.jpg", "image/jpeg")
    assert (answer.status_code, b"<Key>up/my cat.jpg</Key>" in answer.content) == (201, True)
    got = s3.get_object(Bucket=bucket, Key="up/my cat.jpg")
    assert (got["Body"].read(), got["Metadata"], got["ContentType"]) == (body, {"colour": "blue"}, "image/jpeg")


def test_post_object_answers_as_asked(s3: Any, bucket: str) -> None:
    post = s3.generate_presigned_post(bucket, "k")
    answer = send(post["url"], post["fields"], b"1")
    assert (answer.status_code, answer.content, bool(answer.headers["etag"])) == (204, b"", True)
    target = {"success_action_redirect": "http://example.com/done?x=1"}
    post = s3.generate_presigned_post(bucket, "k", Fields=target, Conditions=[target])
    answer = send(post["url"], post["fields"], b"1")
    assert answer.status_code == 303
    assert answer.headers["location"].startswith(f"http://example.com/done?x=1&bucket={bucket}&key=k&etag=%22")


def test_post_object_takes_tags_as_xml(s3: Any, bucket: str) -> None:
    document = "<Tagging><TagSet><Tag><Key>a</Key><Value>1 + 2</Value></Tag><Tag><Key>b</Key><Value/></Tag></TagSet></Tagging>"
    post = s3.generate_presigned_post(bucket, "k", Fields={"tagging": document}, Conditions=[["starts-with", "$tagging", ""]])
    assert send(post["url"], post["fields"], b"1").status_code == 204
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == [{"Key": "a", "Value": "1 + 2"}, {"Key": "b", "Value": ""}]
    for wrong in ("a=1", "<Tagging>", "<Other/>", "<Tagging><TagSet><Tag><Value>1</Value></Tag></TagSet></Tagging>"):
        answer = send(post["url"], {**post["fields"], "tagging": wrong}, b"2")
        assert (answer.status_code, b"<Code>MalformedXML</Code>" in answer.content) == (400, True)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"1"


@pytest.mark.parametrize("expiration", ["2035-01-01 00:00:00+00:00", "2035-01-01", "2035-01-01T00:00:00", ""])
def test_post_object_refuses_expirations_of_another_form(expiration: str) -> None:
    policy = base64.b64encode(json.dumps({"expiration": expiration, "conditions": []}).encode()).decode()
    with pytest.raises(ServiceError, match="Invalid 'expiration' value"):
        read_policy(policy)


def test_post_object_refusals(s3: Any, bucket: str, aws: Account) -> None:
    post = s3.generate_presigned_post(bucket, "k", Conditions=[["content-length-range", 2, 5]])

    def code(fields: dict[str, str], file: bytes | None = b"123") -> tuple[int, str]:
        answer = send(post["url"], fields, file)
        return answer.status_code, answer.content.decode().partition("<Code>")[2].partition("<")[0]

    fields = post["fields"]
    assert code({**fields, "key": "other"}) == (403, "AccessDenied")
    assert code({**fields, "x-amz-meta-extra": "1"}) == (403, "AccessDenied")
    assert code(fields, b"1") == (400, "EntityTooSmall")
    assert code(fields, b"123456") == (400, "EntityTooLarge")
    assert code(fields, None) == (400, "InvalidArgument")
    assert code({**fields, "policy": fields["policy"][:-4] + "AAAA"}) == (403, "SignatureDoesNotMatch")
    assert code({"key": "k"}) == (403, "AccessDenied")
    assert code({name: value for name, value in fields.items() if name != "key"}) == (400, "InvalidArgument")
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    expired = s3.generate_presigned_post(bucket, "k", ExpiresIn=-5)
    assert code(expired["fields"]) == (403, "AccessDenied")
    assert code(fields) == (204, "")


def test_post_object_needs_the_signers_permission(aws: Account, bucket: str) -> None:
    post = aws.user("nobody").client("s3").generate_presigned_post(bucket, "k")
    assert send(post["url"], post["fields"], b"1").status_code == 403


# -- what a policy may say ------------------------------------------------------------------------------------------------


def signed(aws: Account, bucket: str, policy: object, **fields: str) -> dict[str, str]:
    """A form's fields under any policy text, signed as Version 2 does."""
    text = policy if isinstance(policy, str) else base64.b64encode(json.dumps(policy).encode()).decode()
    signature = base64.b64encode(hmac.digest(aws.secret.encode(), text.encode(), "sha1")).decode()
    return {"key": "k", "AWSAccessKeyId": aws.access_key_id, "policy": text, "signature": signature, **fields}


def told(aws: Account, bucket: str, fields: dict[str, str], file: bytes | None = b"123") -> tuple[int, str, str]:
    answer = send(f"{aws.endpoint}/{bucket}", fields, file)
    text = answer.content.decode()
    return answer.status_code, *(html.unescape(text.partition(f"<{name}>")[2].partition("<")[0]) for name in ("Code", "Message"))


LATER = "2099-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("policy", "status", "message"),
    [
        ("no base 64!", 400, "Invalid Policy: Invalid JSON."),
        (base64.b64encode(b"{").decode(), 400, "Invalid Policy: Invalid JSON."),
        ([], 400, "Invalid Policy: Invalid JSON."),
        ({"conditions": []}, 400, "Invalid Policy: Policy missing expiration."),
        ({"expiration": LATER}, 400, "Invalid Policy: Policy missing conditions."),
        ({"EXPIRATION": LATER, "conditions": []}, 400, "Invalid Policy: Policy missing expiration."),
        ({"expiration": "soon", "conditions": []}, 400, "Invalid Policy: Invalid 'expiration' value: 'soon'"),
        ({"expiration": LATER, "conditions": {}}, 400, "Invalid Policy: Invalid 'conditions' value: must be a List."),
        (
            {"expiration": LATER, "conditions": [{}]},
            400,
            "Invalid Policy: Invalid Simple-Condition: Simple-Conditions must have exactly one property specified.",
        ),
        ({"expiration": "2001-01-01T00:00:00Z", "conditions": []}, 403, "Invalid according to Policy: Policy expired."),
        ({"expiration": LATER, "conditions": [{"bucket": "BUCKET"}]}, 403, "Invalid according to Policy: Extra input fields: key"),
        ({"expiration": LATER, "conditions": [{"key": "k"}]}, 403, "Invalid according to Policy: Extra input fields: bucket"),
        (
            {"expiration": LATER, "conditions": [{"bucket": "BUCKET"}, ["starts-with", "$key", "up/"]]},
            403,
            'Invalid according to Policy: Policy Condition failed: ["starts-with", "$key", "up/"]',
        ),
        (
            {"expiration": LATER, "conditions": [["starts-with", "$bucket", ""], {"key": "k"}]},
            403,
            'Invalid according to Policy: Policy Condition failed: ["starts-with", "$bucket", ""]',
        ),
        (
            {"expiration": LATER, "conditions": [{"bucket": "BUCKET"}, ["ends-with", "$key", "k"]]},
            403,
            'Invalid according to Policy: Policy Condition failed: ["ends-with", "$key", "k"]',
        ),
        (
            {"expiration": LATER, "conditions": [{"bucket": "BUCKET"}, {"key": "k"}, ["eq", "$x-amz-meta-a", "1"]]},
            403,
            'Invalid according to Policy: Policy Condition failed: ["eq", "$x-amz-meta-a", "1"]',
        ),
        (
            {"expiration": LATER, "conditions": [{"bucket": "BUCKET"}, {"key": "k"}, ["content-length-range", 0]]},
            400,
            "Invalid Policy: Invalid content-length-range condition: must be two non-negative integers.",
        ),
        (
            {"expiration": LATER, "conditions": [{"bucket": "BUCKET"}, {"key": "k"}, ["content-length-range", -1, 0]]},
            400,
            "Invalid Policy: Invalid content-length-range condition: must be two non-negative integers.",
        ),
        ({"expiration": LATER, "conditions": [["eq", "$bucket", "BUCKET"], ["EQ", "$Key", "k"]]}, 204, ""),
        ({"expiration": LATER, "conditions": [{"bucket": "BUCKET"}, ["starts-with", "$key", ""]]}, 204, ""),
    ],
)
def test_post_object_reads_policies_as_written(aws: Account, bucket: str, policy: object, status: int, message: str) -> None:
    filled = json.loads(json.dumps(policy).replace("BUCKET", bucket))
    code = {400: "InvalidPolicyDocument", 403: "AccessDenied", 204: ""}[status]
    assert told(aws, bucket, signed(aws, bucket, filled)) == (status, code, message)


def test_post_object_wants_all_fields_of_a_signature(aws: Account, bucket: str) -> None:
    fields = signed(aws, bucket, {"expiration": LATER, "conditions": [{"bucket": bucket}, {"key": "k"}]})
    for name in ("AWSAccessKeyId", "signature", "policy"):
        less = {field: value for field, value in fields.items() if field != name}
        status, code, message = told(aws, bucket, less)
        assert (status, code) == (400, "InvalidArgument")
        assert f"'{name.replace('signature', 'Signature')}'" in message
    assert told(aws, bucket, {**fields, "AWSAccessKeyId": "AKIAUNKNOWN"})[:2] == (403, "InvalidAccessKeyId")
    post = aws.client("s3", config=Config(signature_version="s3v4")).generate_presigned_post(bucket, "k")
    less = {field: value for field, value in post["fields"].items() if field != "x-amz-date"}
    assert told(aws, bucket, less)[:2] == (400, "InvalidArgument")
    other = {**post["fields"], "x-amz-algorithm": "AWS4-ROT13"}
    assert told(aws, bucket, other)[:2] == (400, "InvalidArgument")


def test_post_object_redirects_by_the_old_name_and_ignores_odd_status(s3: Any, bucket: str) -> None:
    old = {"redirect": "http://example.com/old"}
    post = s3.generate_presigned_post(bucket, "k", Fields=old, Conditions=[["starts-with", "$redirect", "http://example.com/"]])
    answer = send(post["url"], post["fields"], b"1")
    assert (answer.status_code, answer.headers["location"].partition("?")[0]) == (303, "http://example.com/old")
    odd = {"success_action_status": "404", "success_action_redirect": "nowhere"}
    post = s3.generate_presigned_post(bucket, "k", Fields=odd, Conditions=[{name: value} for name, value in odd.items()])
    assert send(post["url"], post["fields"], b"1").status_code == 204


def test_post_object_carries_an_acl_where_lists_count(s3: Any, name: str) -> None:
    s3.create_bucket(Bucket=name, ObjectOwnership="ObjectWriter")
    post = s3.generate_presigned_post(name, "k", Fields={"acl": "public-read"}, Conditions=[{"acl": "public-read"}])
    assert send(post["url"], post["fields"], b"1").status_code == 403
    s3.delete_public_access_block(Bucket=name)
    assert send(post["url"], post["fields"], b"1").status_code == 204
    assert len(s3.get_object_acl(Bucket=name, Key="k")["Grants"]) == 2


def test_a_policy_may_want_forms_only(aws: Account, s3: Any, bucket: str) -> None:
    deny = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:PutObject",
        "Resource": f"arn:aws:s3:::{bucket}/*",
        "Condition": {"StringNotEquals": {"s3:authType": "POST"}},
    }
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [deny]}))
    with pytest.raises(s3.exceptions.ClientError, match="AccessDenied"):
        s3.put_object(Bucket=bucket, Key="k")
    post = s3.generate_presigned_post(bucket, "k")
    assert send(post["url"], post["fields"], b"1").status_code == 204
