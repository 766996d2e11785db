"""Uploads by forms, as a browser sends them."""

from __future__ import annotations

import os
from typing import Any

import pytest
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.httpsession import URLLib3Session

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
