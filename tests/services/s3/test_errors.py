"""S3's error codes, one provocation each: code, status, members of the XML, and nothing is changed by it.

Source: Amazon S3 API Reference, "Error responses", list of error codes. Codes of access, Select, POST forms, locks, storage classes,
replication and signatures are provoked in the files of those subjects.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pilvi.testing.server import Account

MIB = 2**20
Send = Callable[..., Any]


class Place:
    """A bucket with an object and an upload, and what a refusal must leave as it is."""

    def __init__(self, s3: Any, bucket: str) -> None:
        self.s3, self.bucket = s3, bucket
        self.path = f"/{bucket}"
        self.etag = s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789", Tagging="a=1")["ETag"]
        self.upload = s3.create_multipart_upload(Bucket=bucket, Key="u")["UploadId"]
        self.parts = [
            {
                "PartNumber": number,
                "ETag": s3.upload_part(Bucket=bucket, Key="u", UploadId=self.upload, PartNumber=number, Body=b"x")["ETag"],
            }
            for number in (1, 2)
        ]

    def state(self) -> list[Any]:
        """Everything a client can see of the bucket: its settings, versions, tags, uploads and parts."""
        told: list[Any] = []
        for name in sorted(READS):
            try:
                answer = getattr(self.s3, name)(Bucket=self.bucket, **READS[name](self))
            except ClientError as error:
                answer = error.response["Error"]["Code"]
            told.append(
                (
                    name,
                    {key: value for key, value in answer.items() if key != "ResponseMetadata"}
                    if isinstance(answer, dict)
                    else answer,
                )
            )
        told.append(self.s3.get_object(Bucket=self.bucket, Key="k")["Body"].read())
        told.append(sorted(found["Name"] for found in self.s3.list_buckets()["Buckets"]))
        return told


READS: dict[str, Callable[[Place], Mapping[str, Any]]] = {
    **dict.fromkeys(
        (
            "list_object_versions",
            "list_multipart_uploads",
            "get_bucket_acl",
            "get_bucket_cors",
            "get_bucket_encryption",
            "get_bucket_lifecycle_configuration",
            "get_bucket_ownership_controls",
            "get_bucket_policy",
            "get_bucket_tagging",
            "get_bucket_versioning",
            "get_bucket_website",
            "get_public_access_block",
        ),
        lambda _: {},
    ),
    "get_object_tagging": lambda _: {"Key": "k"},
    "list_parts": lambda place: {"Key": "u", "UploadId": place.upload},
}


@pytest.fixture
def place(s3: Any, bucket: str) -> Place:
    return Place(s3, bucket)


def lifecycle(**rule: Any) -> dict[str, Any]:
    return {"LifecycleConfiguration": {"Rules": [{"Status": "Enabled", "Filter": {}, **rule}]}}


# operation, its arguments (made from the place), code, status, members of the XML beside Code and Message
CALLS: list[tuple[str, Callable[[Place], Mapping[str, Any]], str, int, Mapping[str, str]]] = [
    # what is not there
    ("get_object", lambda p: {"Key": "none"}, "NoSuchKey", 404, {"Key": "none"}),
    ("get_object", lambda p: {"Key": "k", "VersionId": "0" * 32}, "NoSuchVersion", 404, {"Key": "k", "VersionId": "0" * 32}),
    ("get_object", lambda p: {"Key": "k", "Bucket": "no-such-bucket-at-all"}, "NoSuchBucket", 404, {"BucketName": "no-such-bucket-at-all"}),
    ("get_object_attributes", lambda p: {"Key": "none", "ObjectAttributes": ["ETag"]}, "NoSuchKey", 404, {"Key": "none"}),
    ("copy_object", lambda p: {"Key": "new", "CopySource": f"{p.bucket}/none"}, "NoSuchKey", 404, {}),
    ("put_object_tagging", lambda p: {"Key": "none", "Tagging": {"TagSet": []}}, "NoSuchKey", 404, {"Key": "none"}),
    ("upload_part", lambda p: {"Key": "u", "UploadId": "none", "PartNumber": 1, "Body": b"y"}, "NoSuchUpload", 404, {"UploadId": "none"}),
    ("abort_multipart_upload", lambda p: {"Key": "u", "UploadId": "none"}, "NoSuchUpload", 404, {"UploadId": "none"}),
    ("list_parts", lambda p: {"Key": "other", "UploadId": p.upload}, "NoSuchUpload", 404, {}),
    ("get_bucket_policy", lambda p: {}, "NoSuchBucketPolicy", 404, {}),
    ("get_bucket_policy_status", lambda p: {}, "NoSuchBucketPolicy", 404, {}),
    ("get_bucket_cors", lambda p: {}, "NoSuchCORSConfiguration", 404, {}),
    ("get_bucket_tagging", lambda p: {}, "NoSuchTagSet", 404, {}),
    ("get_bucket_website", lambda p: {}, "NoSuchWebsiteConfiguration", 404, {}),
    ("get_bucket_lifecycle_configuration", lambda p: {}, "NoSuchLifecycleConfiguration", 404, {}),
    ("get_bucket_replication", lambda p: {}, "ReplicationConfigurationNotFoundError", 404, {}),
    ("get_object_lock_configuration", lambda p: {}, "ObjectLockConfigurationNotFoundError", 404, {}),
    # conditions
    ("get_object", lambda p: {"Key": "k", "IfMatch": '"no"'}, "PreconditionFailed", 412, {"Condition": "If-Match"}),
    ("put_object", lambda p: {"Key": "k", "Body": b"y", "IfNoneMatch": "*"}, "PreconditionFailed", 412, {"Condition": "If-None-Match"}),
    ("put_object", lambda p: {"Key": "k", "Body": b"y", "IfMatch": '"no"'}, "PreconditionFailed", 412, {"Condition": "If-Match"}),
    ("put_object", lambda p: {"Key": "k", "Body": b"y", "IfNoneMatch": '"no"'}, "NotImplemented", 501, {}),
    ("put_object", lambda p: {"Key": "none", "Body": b"y", "IfMatch": '"no"'}, "NoSuchKey", 404, {}),
    ("copy_object", lambda p: {"Key": "c", "CopySource": f"{p.bucket}/k", "CopySourceIfMatch": '"no"'}, "PreconditionFailed", 412, {}),
    ("get_object", lambda p: {"Key": "k", "Range": "bytes=10-"}, "InvalidRange", 416, {"RangeRequested": "bytes=10-", "ActualObjectSize": "10"}),
    ("get_object", lambda p: {"Key": "k", "PartNumber": 2}, "InvalidPartNumber", 416, {}),
    # objects
    ("put_object", lambda p: {"Key": "x" * 1025, "Body": b""}, "KeyTooLongError", 400, {"MaxSizeAllowed": "1024", "Size": "1025"}),
    ("put_object", lambda p: {"Key": "n", "Metadata": {"a": "x" * 2048}}, "MetadataTooLarge", 400, {"MaxSizeAllowed": "2048"}),
    ("put_object", lambda p: {"Key": "n", "StorageClass": "NONE"}, "InvalidStorageClass", 400, {}),
    ("put_object", lambda p: {"Key": "n", "ServerSideEncryption": "DES"}, "InvalidArgument", 400, {"ArgumentName": "x-amz-server-side-encryption"}),
    ("put_object", lambda p: {"Key": "n", "ACL": "public-read"}, "AccessControlListNotSupported", 400, {}),
    ("put_object", lambda p: {"Key": "n", "Tagging": "a=1&a=2"}, "InvalidTag", 400, {}),
    ("put_object", lambda p: {"Key": "n", "ContentMD5": "bm8="}, "InvalidDigest", 400, {"Content-MD5": "bm8="}),
    ("put_object", lambda p: {"Key": "n", "ContentMD5": "1B2M2Y8AsgTpgAmY7PhCfg==", "Body": b"y"}, "BadDigest", 400, {}),
    ("put_object", lambda p: {"Key": "n", "ChecksumCRC32": "AAAAAA==", "Body": b"y"}, "BadDigest", 400, {}),
    ("put_object", lambda p: {"Key": "n", "ChecksumSHA256": "bad", "Body": b"y"}, "InvalidRequest", 400, {}),
    ("put_object", lambda p: {"Key": "n", "ExpectedBucketOwner": "999999999999"}, "AccessDenied", 403, {}),
    ("put_object", lambda p: {"Key": "n", "WebsiteRedirectLocation": "nowhere"}, "InvalidRedirectLocation", 400, {}),
    ("copy_object", lambda p: {"Key": "k", "CopySource": f"{p.bucket}/k"}, "InvalidRequest", 400, {}),
    ("copy_object", lambda p: {"Key": "n", "CopySource": "nonsense"}, "InvalidArgument", 400, {"ArgumentName": "x-amz-copy-source"}),
    ("restore_object", lambda p: {"Key": "k", "RestoreRequest": {"Days": 1}}, "InvalidObjectState", 403, {}),
    ("put_object_acl", lambda p: {"Key": "k", "ACL": "public-read"}, "AccessControlListNotSupported", 400, {}),
    ("get_object_torrent", lambda p: {"Key": "k"}, "MethodNotAllowed", 405, {}),
    ("put_object_legal_hold", lambda p: {"Key": "k", "LegalHold": {"Status": "ON"}}, "InvalidRequest", 400, {}),
    ("delete_objects", lambda p: {"Delete": {"Objects": [{"Key": str(n)} for n in range(1001)]}}, "MalformedXML", 400, {}),
    # multipart uploads
    ("upload_part", lambda p: {"Key": "u", "UploadId": p.upload, "PartNumber": 10001, "Body": b"y"}, "InvalidArgument", 400, {"ArgumentName": "partNumber"}),
    ("upload_part_copy", lambda p: {"Key": "u", "UploadId": p.upload, "PartNumber": 3, "CopySource": f"{p.bucket}/k", "CopySourceRange": "bytes=0-99"}, "InvalidArgument", 400, {"ArgumentName": "x-amz-copy-source-range"}),
    ("complete_multipart_upload", lambda p: {"Key": "u", "UploadId": p.upload, "MultipartUpload": {"Parts": p.parts}}, "EntityTooSmall", 400, {"ProposedSize": "1", "MinSizeAllowed": str(5 * MIB), "PartNumber": "1"}),
    ("complete_multipart_upload", lambda p: {"Key": "u", "UploadId": p.upload, "MultipartUpload": {"Parts": p.parts[::-1]}}, "InvalidPartOrder", 400, {}),
    ("complete_multipart_upload", lambda p: {"Key": "u", "UploadId": p.upload, "MultipartUpload": {"Parts": [{"PartNumber": 9, "ETag": "no"}]}}, "InvalidPart", 400, {"PartNumber": "9"}),
    ("complete_multipart_upload", lambda p: {"Key": "u", "UploadId": p.upload, "MultipartUpload": {"Parts": []}}, "MalformedXML", 400, {}),
    # buckets
    ("create_bucket", lambda p: {"Bucket": "NotAName"}, "InvalidBucketName", 400, {"BucketName": "NotAName"}),
    ("create_bucket", lambda p: {"Bucket": "a-new-bucket-1", "CreateBucketConfiguration": {"LocationConstraint": "moon-1"}}, "InvalidLocationConstraint", 400, {}),
    ("delete_bucket", lambda p: {}, "BucketNotEmpty", 409, {"BucketName": ""}),
    ("put_bucket_versioning", lambda p: {"VersioningConfiguration": {"Status": "Maybe"}}, "MalformedXML", 400, {}),
    ("put_bucket_policy", lambda p: {"Policy": "{"}, "MalformedPolicy", 400, {}),
    ("put_bucket_policy", lambda p: {"Policy": json.dumps({"Version": "2012-10-17", "Statement": []})}, "MalformedPolicy", 400, {}),
    ("put_bucket_tagging", lambda p: {"Tagging": {"TagSet": [{"Key": "aws:a", "Value": "1"}]}}, "InvalidTag", 400, {}),
    ("put_bucket_acl", lambda p: {"ACL": "public-read"}, "AccessControlListNotSupported", 400, {}),
    ("put_bucket_cors", lambda p: {"CORSConfiguration": {"CORSRules": [{"AllowedMethods": ["PATCH"], "AllowedOrigins": ["*"]}]}}, "InvalidRequest", 400, {}),
    ("put_bucket_lifecycle_configuration", lambda p: lifecycle(Expiration={"Days": 0}), "InvalidArgument", 400, {}),
    ("put_bucket_lifecycle_configuration", lambda p: lifecycle(), "InvalidRequest", 400, {}),
    ("put_bucket_website", lambda p: {"WebsiteConfiguration": {"IndexDocument": {"Suffix": "a/b"}}}, "InvalidArgument", 400, {}),
    ("put_bucket_ownership_controls", lambda p: {"OwnershipControls": {"Rules": [{"ObjectOwnership": "Nobody"}]}}, "MalformedXML", 400, {}),
    ("put_object_lock_configuration", lambda p: {"ObjectLockConfiguration": {"ObjectLockEnabled": "Enabled"}}, "InvalidBucketState", 409, {}),
    ("list_objects_v2", lambda p: {"ContinuationToken": "none"}, "InvalidArgument", 400, {}),
    ("list_objects_v2", lambda p: {"MaxKeys": -1}, "InvalidArgument", 400, {"ArgumentValue": "-1"}),
    ("list_object_versions", lambda p: {"VersionIdMarker": "v"}, "InvalidArgument", 400, {"ArgumentName": "version-id-marker"}),
]  # fmt: skip


def ids(rows: list[Any]) -> list[str]:
    return [f"{number}-{row[0]}-{row[2]}" for number, row in enumerate(rows)]


@pytest.mark.parametrize(("operation", "arguments", "code", "status", "members"), CALLS, ids=ids(CALLS))
def test_refusals_have_their_code_and_change_nothing(
    place: Place,
    loose: Any,
    operation: str,
    arguments: Callable[[Place], Mapping[str, Any]],
    code: str,
    status: int,
    members: Mapping[str, str],
) -> None:
    before = place.state()
    with pytest.raises(ClientError) as caught:
        getattr(loose, operation)(**{"Bucket": place.bucket, **arguments(place)})
    error: Mapping[str, Any] = caught.value.response["Error"]
    assert (error["Code"], caught.value.response["ResponseMetadata"]["HTTPStatusCode"]) == (code, status)
    assert error["Message"]
    for name, value in members.items():
        assert error[name] == (value or place.bucket)
    assert place.state() == before


@pytest.fixture(scope="module")
def loose(aws: Account) -> Any:
    """A client that sends what it is given, right or wrong."""
    from botocore.config import Config

    quick = Config(retries={"total_max_attempts": 1}, parameter_validation=False, inject_host_prefix=False)
    client = aws.client("s3", config=quick)
    for event in ("before-parameter-build.s3", "before-parameter-build.s3.ListObjectsV2"):
        client.meta.events.unregister(event, _validate_bucket_name())
    return client


def _validate_bucket_name() -> Any:
    from botocore.handlers import validate_bucket_name

    return validate_bucket_name


# -- what no client says ----------------------------------------------------------------------------------------------------

BAD_XML = b"<Tagging><TagSet>"
RAW: list[tuple[str, str, dict[str, str], bytes, str, int, Mapping[str, str]]] = [
    ("GET", "?max-keys=many", {}, b"", "InvalidArgument", 400, {"ArgumentName": "max-keys", "ArgumentValue": "many"}),
    ("GET", "?list-type=2&max-keys=", {}, b"", "InvalidArgument", 400, {"ArgumentName": "max-keys"}),
    ("GET", "?uploads&max-uploads=x", {}, b"", "InvalidArgument", 400, {"ArgumentName": "max-uploads"}),
    ("GET", "/k?partNumber=x", {}, b"", "InvalidArgument", 400, {"ArgumentName": "partNumber"}),
    ("GET", "?encoding-type=base64", {}, b"", "InvalidArgument", 400, {"ArgumentName": "encoding-type"}),
    ("GET", "/k", {"x-amz-server-side-encryption": "AES256"}, b"", "InvalidArgument", 400, {"ArgumentName": "x-amz-server-side-encryption"}),
    ("PUT", "/n", {"Content-MD5": ""}, b"y", "InvalidDigest", 400, {}),
    ("PUT", "?tagging", {}, BAD_XML, "MalformedXML", 400, {}),
    ("PUT", "?versioning", {}, b"", "MissingRequestBodyError", 400, {}),
    ("PUT", "?cors", {}, b"\xff\xfe", "MalformedXML", 400, {}),
    ("POST", "/u?uploadId={upload}", {}, b"<CompleteMultipartUpload><Part>", "MalformedXML", 400, {}),
    ("POST", "?delete", {}, b"not xml", "MalformedXML", 400, {}),
    ("PATCH", "/k", {}, b"", "MethodNotAllowed", 405, {}),
    ("PUT", "/n", {"x-amz-acl": "public-ready"}, b"", "InvalidArgument", 400, {"ArgumentName": "x-amz-acl"}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "rest", "headers", "body", "code", "status", "members"), RAW, ids=[f"{row[0]}-{row[1]}-{row[4]}" for row in RAW]
)
def test_requests_that_no_client_sends_are_refused(
    place: Place,
    raw: Send,
    method: str,
    rest: str,
    headers: dict[str, str],
    body: bytes,
    code: str,
    status: int,
    members: Mapping[str, str],
) -> None:
    before = place.state()
    answer = raw(method, place.path + rest.format(upload=place.upload), headers=headers, data=body)
    text = answer.content.decode()
    assert (re.findall("<Code>(.*?)</Code>", text), answer.status_code) == ([code], status), text
    assert answer.headers["Content-Type"] == "application/xml"
    assert "<Message>" in text
    for name in ("RequestId", "HostId"):
        assert re.search(f"<{name}>.+</{name}>", text)
    for name, value in members.items():
        assert f"<{name}>{value}</{name}>" in text
    assert place.state() == before
