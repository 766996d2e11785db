"""Objects: bytes in and out, ranges, conditions, checksums, metadata, deletion."""

from __future__ import annotations

import base64
import concurrent.futures
import hashlib
import io
import os
import zlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from awscrt import checksums as crt

from pilvi.testing.server import Account
from tests.services.s3.conftest import code_of, refused

LARGE = os.urandom(5_000_000)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize("size", [0, 1, 1024, 32 << 10, (32 << 10) + 1, 1 << 20, 5_000_000])
def test_put_object_of_any_size_comes_back(s3: Any, bucket: str, size: int) -> None:
    body = LARGE[:size]
    put = s3.put_object(Bucket=bucket, Key="k", Body=body)
    got = s3.get_object(Bucket=bucket, Key="k")
    assert put["ETag"] == got["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
    assert got["ContentLength"] == size
    assert got["Body"].read() == body
    assert got["ContentType"] == "binary/octet-stream"
    assert got["ServerSideEncryption"] == "AES256"
    assert s3.head_object(Bucket=bucket, Key="k")["ContentLength"] == size


@pytest.mark.parametrize(
    "key", ["a b+c%20d", "täst/ключ/鍵", "a//b", "/lead", "trail/", "..", "a/../b", "?x=1&y", "#", "'\"<>&", "e\u0301", "~", "😀"]
)
def test_put_object_takes_any_key(s3: Any, bucket: str, key: str) -> None:
    s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == key.encode()
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]] == [key]
    s3.delete_object(Bucket=bucket, Key=key)
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_put_object_keeps_headers_and_metadata(s3: Any, bucket: str) -> None:
    expires = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    given = {
        "CacheControl": "max-age=5",
        "ContentDisposition": 'attachment; filename="a"',
        "ContentEncoding": "gzip",
        "ContentLanguage": "de",
        "ContentType": "text/csv",
        "WebsiteRedirectLocation": "/elsewhere",
        "StorageClass": "STANDARD_IA",
    }
    s3.put_object(Bucket=bucket, Key="k", Body=b"1", Expires=expires, Metadata={"Colour": "blue", "n": "1"}, **given)
    for answer in (s3.get_object(Bucket=bucket, Key="k"), s3.head_object(Bucket=bucket, Key="k")):
        assert {name: answer[name] for name in given} == given
        assert answer["Expires"] == expires
        assert answer["Metadata"] == {"colour": "blue", "n": "1"}


def test_put_object_strips_aws_chunked(raw: Any, s3: Any, bucket: str) -> None:
    assert raw("PUT", f"/{bucket}/k", headers={"Content-Encoding": "gzip,aws-chunked"}, data=b"1").status_code == 200
    assert s3.head_object(Bucket=bucket, Key="k")["ContentEncoding"] == "gzip"


def test_put_object_limits(s3: Any, bucket: str) -> None:
    assert refused(s3.put_object, Bucket=bucket, Key="k" * 1025)["Code"] == "KeyTooLongError"
    assert refused(s3.put_object, Bucket=bucket, Key="ä" * 513)["Code"] == "KeyTooLongError"
    s3.put_object(Bucket=bucket, Key="ä" * 512)
    assert refused(s3.put_object, Bucket=bucket, Key="k", Metadata={"a": "x" * 2048})["Code"] == "MetadataTooLarge"
    s3.put_object(Bucket=bucket, Key="k", Metadata={"a": "x" * 2047})


def test_put_object_refuses_what_is_not_built(s3: Any, bucket: str) -> None:
    put = {"Bucket": bucket, "Key": "k", "Body": b"1"}
    assert refused(s3.put_object, **put, ObjectLockLegalHoldStatus="ON")["Code"] == "InvalidRequest"
    assert refused(s3.put_object, **put, ACL="public-read")["Code"] == "AccessControlListNotSupported"
    assert refused(s3.put_object, **put, StorageClass="WARM")["Code"] == "InvalidStorageClass"
    s3.put_object(**put, ACL="bucket-owner-full-control")


# -- checksums ------------------------------------------------------------------------------------------------------------

SUMS = {
    "CRC32": lambda data: zlib.crc32(data).to_bytes(4, "big"),
    "CRC32C": lambda data: crt.crc32c(data).to_bytes(4, "big"),
    "CRC64NVME": lambda data: crt.crc64nvme(data).to_bytes(8, "big"),
    "SHA1": lambda data: hashlib.sha1(data).digest(),
    "SHA256": lambda data: hashlib.sha256(data).digest(),
    "SHA512": lambda data: hashlib.sha512(data).digest(),
    "MD5": lambda data: hashlib.md5(data).digest(),
    "XXHASH64": lambda data: crt.XXHash.compute_xxhash64(data),
    "XXHASH3": lambda data: crt.XXHash.compute_xxhash3_64(data),
    "XXHASH128": lambda data: crt.XXHash.compute_xxhash3_128(data),
}


@pytest.mark.parametrize("algorithm", SUMS)
@pytest.mark.parametrize("size", [10, 3_000_000])
def test_put_object_verifies_checksums(raw: Any, s3: Any, bucket: str, algorithm: str, size: int) -> None:
    body = LARGE[:size]
    right = b64(SUMS[algorithm](body))
    wrong = b64(SUMS[algorithm](body + b"!"))
    header = f"x-amz-checksum-{algorithm.lower()}"
    refusal = raw("PUT", f"/{bucket}/k", headers={header: wrong}, data=body)
    assert (refusal.status_code, b"<Code>BadDigest</Code>" in refusal.content) == (400, True)
    assert refused(s3.head_object, Bucket=bucket, Key="k")["Status"] == 404
    assert raw("PUT", f"/{bucket}/k", headers={header: "bm9uc2Vuc2U="}, data=body).status_code == 400
    kept = raw("PUT", f"/{bucket}/k", headers={header: right}, data=body)
    assert (kept.status_code, kept.headers[header], kept.headers["x-amz-checksum-type"]) == (200, right, "FULL_OBJECT")
    shown = raw("HEAD", f"/{bucket}/k", headers={"x-amz-checksum-mode": "ENABLED"})
    assert (shown.headers[header], shown.headers["x-amz-checksum-type"]) == (right, "FULL_OBJECT")
    assert header not in raw("HEAD", f"/{bucket}/k").headers


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"])
def test_put_object_with_boto3s_checksums(s3: Any, bucket: str, algorithm: str) -> None:
    put = s3.put_object(Bucket=bucket, Key="k", Body=LARGE, ChecksumAlgorithm=algorithm)
    assert put[f"Checksum{algorithm}"] == b64(SUMS[algorithm](LARGE))
    assert s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")["Body"].read() == LARGE


def test_put_object_without_checksum_gets_crc64nvme(raw: Any, bucket: str) -> None:
    answer = raw("PUT", f"/{bucket}/k", data=b"plain")
    assert answer.headers["x-amz-checksum-crc64nvme"] == b64(SUMS["CRC64NVME"](b"plain"))


def test_put_object_refuses_two_checksums(raw: Any, bucket: str) -> None:
    headers = {f"x-amz-checksum-{name.lower()}": b64(SUMS[name](b"1")) for name in ("CRC32", "SHA1")}
    assert b"Multiple checksum Types" in raw("PUT", f"/{bucket}/k", headers=headers, data=b"1").content


@pytest.mark.parametrize("size", [10, 3_000_000])
def test_put_object_verifies_content_md5(raw: Any, bucket: str, size: int) -> None:
    body = LARGE[:size]
    good = b64(hashlib.md5(body).digest())
    assert raw("PUT", f"/{bucket}/k", headers={"Content-MD5": good}, data=body).status_code == 200
    wrong = raw("PUT", f"/{bucket}/k", headers={"Content-MD5": b64(hashlib.md5(b"other").digest())}, data=body)
    assert (wrong.status_code, b"<Code>BadDigest</Code>" in wrong.content) == (400, True)
    bad = raw("PUT", f"/{bucket}/k", headers={"Content-MD5": "bm8="}, data=body)
    assert b"<Code>InvalidDigest</Code>" in bad.content


def trailing(body: bytes, header: str, value: str, chunk: int = 65536) -> bytes:
    pieces = [body[start : start + chunk] for start in range(0, len(body), chunk)]
    framed = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return framed + b"0\r\n" + f"{header}:{value}\r\n\r\n".encode()


@pytest.mark.parametrize("size", [0, 100, 3_000_000])
@pytest.mark.parametrize("algorithm", ["CRC32", "CRC64NVME", "SHA256"])
def test_put_object_with_trailing_checksum(aws: Account, s3: Any, bucket: str, size: int, algorithm: str) -> None:
    """The form of the C++ SDK (pyarrow), and of every SDK over TLS."""
    body, header = LARGE[:size], f"x-amz-checksum-{algorithm.lower()}"

    def put(value: str) -> Any:
        return send_chunked(aws, f"/{bucket}/k", trailing(body, header, value), len(body), header)

    assert put(b64(SUMS[algorithm](body + b"!"))).status_code == 400
    assert refused(s3.head_object, Bucket=bucket, Key="k")["Status"] == 404
    answer = put(b64(SUMS[algorithm](body)))
    assert (answer.status_code, answer.content) == (200, b"")
    got = s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert got["Body"].read() == body
    assert got[f"Checksum{algorithm}"] == b64(SUMS[algorithm](body))
    assert "ContentEncoding" not in got


def send_chunked(aws: Account, path: str, data: bytes, length: int, trailer: str) -> Any:
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials
    from botocore.httpsession import URLLib3Session

    headers = {
        "Content-Encoding": "aws-chunked",
        "X-Amz-Decoded-Content-Length": str(length),
        "X-Amz-Trailer": trailer,
        "X-Amz-Content-SHA256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
    }
    request = AWSRequest("PUT", f"{aws.endpoint}{path}", headers=headers, data=data)

    class Auth(S3SigV4Auth):
        def payload(self, request: Any) -> str:
            return "STREAMING-UNSIGNED-PAYLOAD-TRAILER"

    Auth(Credentials(aws.access_key_id, aws.secret), "s3", aws.region).add_auth(request)
    return URLLib3Session().send(request.prepare())


def test_put_object_that_fails_leaves_nothing(server: Any, raw: Any, bucket: str) -> None:
    before = set(server.cloud.blobs.names())
    assert raw("PUT", f"/{bucket}/k", headers={"x-amz-checksum-crc32": "AAAAAA=="}, data=LARGE).status_code == 400
    assert set(server.cloud.blobs.names()) == before


def test_plaintext_is_nowhere_on_the_disk(server: Any, s3: Any, bucket: str) -> None:
    small, large = b"a-very-telling-secret-phrase", b"another-very-telling-phrase" * 5000
    s3.put_object(Bucket=bucket, Key="small", Body=small)
    s3.put_object(Bucket=bucket, Key="large", Body=large)
    for path in server.config.data_dir.rglob("*"):
        if path.is_file():
            held = path.read_bytes()
            assert small not in held
            assert b"another-very-telling-phrase" not in held


# -- reading --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1000, 3_000_000])
@pytest.mark.parametrize(
    ("header", "start", "end"),
    [("0-0", 0, 1), ("0-99", 0, 100), ("100-", 100, None), ("-7", -7, None), ("990-5000000", 990, None), ("-9999999", 0, None)],
)
def test_get_object_gives_ranges(s3: Any, bucket: str, size: int, header: str, start: int, end: int | None) -> None:
    body = LARGE[:size]
    s3.put_object(Bucket=bucket, Key="k", Body=body)
    got = s3.get_object(Bucket=bucket, Key="k", Range=f"bytes={header}", ChecksumMode="ENABLED")
    wanted = body[start:end]
    assert got["Body"].read() == wanted
    assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
    first = body.index(wanted)
    assert got["ContentRange"] == f"bytes {first}-{first + len(wanted) - 1}/{size}"
    assert "ChecksumCRC32" not in got
    head = s3.head_object(Bucket=bucket, Key="k", Range=f"bytes={header}")
    assert (head["ContentLength"], head["ContentRange"]) == (len(wanted), got["ContentRange"])


def test_get_object_range_of_the_whole_is_206(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"12345")
    got = s3.get_object(Bucket=bucket, Key="k", Range="bytes=0-4")
    assert (got["ResponseMetadata"]["HTTPStatusCode"], got["ContentRange"]) == (206, "bytes 0-4/5")


@pytest.mark.parametrize("header", ["bytes=5-", "bytes=5-9", "bytes=-0"])
def test_get_object_range_beyond_the_end(s3: Any, bucket: str, header: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"12345")
    error = refused(s3.get_object, Bucket=bucket, Key="k", Range=header)
    assert (error["Code"], error["Status"], error["ActualObjectSize"]) == ("InvalidRange", 416, "5")


@pytest.mark.parametrize("header", ["bytes=0-1,3-4", "bytes=3-1", "bytes=x", "lines=1-2", "bytes=-"])
def test_get_object_range_that_makes_no_sense_gives_the_whole(s3: Any, bucket: str, header: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"12345")
    got = s3.get_object(Bucket=bucket, Key="k", Range=header)
    assert (got["ResponseMetadata"]["HTTPStatusCode"], got["Body"].read()) == (200, b"12345")


def test_get_object_missing(s3: Any, bucket: str) -> None:
    error = refused(s3.get_object, Bucket=bucket, Key="a/b")
    assert (error["Code"], error["Message"], error["Status"], error["Key"]) == (
        "NoSuchKey",
        "The specified key does not exist.",
        404,
        "a/b",
    )
    error = refused(s3.head_object, Bucket=bucket, Key="a/b")
    assert (error["Code"], error["Message"], error["Status"]) == ("404", "Not Found", 404)


def test_get_object_conditions(s3: Any, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"1")["ETag"]
    now = s3.head_object(Bucket=bucket, Key="k")["LastModified"]
    before, after = now - timedelta(hours=1), now + timedelta(hours=1)
    for call in (s3.get_object, s3.head_object):
        here = {"Bucket": bucket, "Key": "k"}
        call(**here, IfMatch=etag)
        call(**here, IfMatch="*")
        call(**here, IfNoneMatch='"other"')
        call(**here, IfModifiedSince=before)
        call(**here, IfUnmodifiedSince=now)
        call(**here, IfMatch=etag, IfUnmodifiedSince=before)
        assert refused(call, **here, IfMatch='"other"')["Status"] == 412
        assert refused(call, **here, IfUnmodifiedSince=before)["Status"] == 412
        assert refused(call, **here, IfNoneMatch=etag)["Status"] == 304
        assert refused(call, **here, IfNoneMatch="*")["Status"] == 304
        assert refused(call, **here, IfModifiedSince=now)["Status"] == 304
        assert refused(call, **here, IfNoneMatch=etag, IfModifiedSince=before)["Status"] == 304
        assert refused(call, **here, IfModifiedSince=after)["Status"] == 304
    error = refused(s3.get_object, Bucket=bucket, Key="k", IfMatch='"other"')
    assert (error["Code"], error["Condition"]) == ("PreconditionFailed", "If-Match")


def test_get_object_not_modified_has_an_etag_and_no_body(raw: Any, s3: Any, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"1")["ETag"]
    answer = raw("GET", f"/{bucket}/k", headers={"If-None-Match": etag})
    assert (answer.status_code, answer.headers["etag"], answer.content) == (304, etag, b"")


def test_get_object_overrides_headers(s3: Any, bucket: str, raw: Any) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"1", ContentType="a/b")
    got = s3.get_object(
        Bucket=bucket, Key="k", ResponseContentType="c/d", ResponseContentDisposition="inline", ResponseCacheControl="no-cache"
    )
    assert (got["ContentType"], got["ContentDisposition"], got["CacheControl"]) == ("c/d", "inline", "no-cache")


def test_get_object_by_part_of_a_whole_object(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"12345")
    got = s3.get_object(Bucket=bucket, Key="k", PartNumber=1)
    assert (got["ResponseMetadata"]["HTTPStatusCode"], got["Body"].read()) == (206, b"12345")
    assert refused(s3.get_object, Bucket=bucket, Key="k", PartNumber=2)["Code"] == "InvalidPartNumber"
    assert refused(s3.get_object, Bucket=bucket, Key="k", PartNumber=1, Range="bytes=0-1")["Code"] == "InvalidRequest"


def test_get_object_attributes(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"12345", ChecksumAlgorithm="SHA256")
    wanted = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"]
    got = s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=wanted)
    assert got["ETag"] == hashlib.md5(b"12345").hexdigest()
    assert got["Checksum"] == {"ChecksumSHA256": b64(hashlib.sha256(b"12345").digest()), "ChecksumType": "FULL_OBJECT"}
    assert (got["ObjectSize"], got["StorageClass"]) == (5, "STANDARD")
    assert "ObjectParts" not in got
    assert refused(s3.get_object_attributes, Bucket=bucket, Key="x", ObjectAttributes=["ETag"])["Code"] == "NoSuchKey"


def test_virtual_hosted_style_reads_the_same_object(aws: Account, s3: Any, bucket: str) -> None:
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials
    from botocore.httpsession import URLLib3Session

    s3.put_object(Bucket=bucket, Key="images/mycat.jpg", Body=b"meow")
    for host in (f"{bucket}.s3.amazonaws.com", f"{bucket}.s3.us-east-1.amazonaws.com", f"{bucket}.localhost"):
        request = AWSRequest("GET", f"{aws.endpoint}/images/mycat.jpg", headers={"Host": host})
        S3SigV4Auth(Credentials(aws.access_key_id, aws.secret), "s3", aws.region).add_auth(request)
        assert URLLib3Session().send(request.prepare()).content == b"meow"


# -- concurrency ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [10, 100_000])
def test_put_object_if_none_match_lets_one_win(s3: Any, bucket: str, size: int) -> None:
    def put(number: int) -> str:
        return code_of(s3.put_object, Bucket=bucket, Key="k", Body=bytes([number]) * size, IfNoneMatch="*")

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(put, range(8)))
    assert sorted(outcomes) == ["", *["PreconditionFailed"] * 7]
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == bytes([outcomes.index("")]) * size


def test_put_object_if_match(s3: Any, bucket: str) -> None:
    assert refused(s3.put_object, Bucket=bucket, Key="k", Body=b"1", IfMatch='"x"')["Code"] == "NoSuchKey"
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"1")["ETag"]
    s3.put_object(Bucket=bucket, Key="k", Body=b"2", IfMatch=etag)
    assert refused(s3.put_object, Bucket=bucket, Key="k", Body=b"3", IfMatch=etag)["Code"] == "PreconditionFailed"
    assert refused(s3.put_object, Bucket=bucket, Key="k", Body=b"3", IfNoneMatch=etag)["Code"] == "NotImplemented"


@pytest.mark.parametrize("size", [100, 200_000])
def test_writers_and_readers_of_one_key_see_whole_objects(server: Any, s3: Any, bucket: str, size: int) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"0" * size)

    def put(number: int) -> None:
        s3.put_object(Bucket=bucket, Key="k", Body=b"%d" % (number % 10) * size)

    def get(_: int) -> None:
        got = s3.get_object(Bucket=bucket, Key="k")
        body = got["Body"].read()
        assert body == body[:1] * size
        assert got["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'

    before = len(list(server.cloud.blobs.names()))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(put if number % 2 else get, number) for number in range(60)]:
            future.result()
    assert len(list(server.cloud.blobs.names())) == before


def test_a_slow_reader_finishes_an_object_that_is_replaced(server: Any, s3: Any, bucket: str) -> None:
    body = os.urandom(30_000_000)
    s3.put_object(Bucket=bucket, Key="k", Body=body)
    stream = s3.get_object(Bucket=bucket, Key="k")["Body"]
    first = stream.read(10)
    s3.put_object(Bucket=bucket, Key="k", Body=b"new")
    s3.delete_object(Bucket=bucket, Key="k")
    assert first + stream.read() == body


def test_write_then_list_is_consistent(s3: Any, bucket: str) -> None:
    for number in range(100):
        s3.put_object(Bucket=bucket, Key=f"k{number:03}", Body=b"1")
        assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == number + 1


# -- deleting -------------------------------------------------------------------------------------------------------------


def test_delete_object_gives_its_bytes_back(server: Any, s3: Any, bucket: str) -> None:
    before = set(server.cloud.blobs.names()), set(server.cloud.store.body_names())
    for size in (0, 100, 100_000):
        s3.put_object(Bucket=bucket, Key="k", Body=LARGE[:size])
        s3.put_object(Bucket=bucket, Key="k", Body=LARGE[:size])
        s3.delete_object(Bucket=bucket, Key="k")
    assert (set(server.cloud.blobs.names()), set(server.cloud.store.body_names())) == before
    s3.delete_object(Bucket=bucket, Key="k")


def test_delete_object_if_match(s3: Any, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"1")["ETag"]
    assert refused(s3.delete_object, Bucket=bucket, Key="k", IfMatch='"x"')["Code"] == "PreconditionFailed"
    s3.delete_object(Bucket=bucket, Key="k", IfMatch=etag)
    assert refused(s3.delete_object, Bucket=bucket, Key="k", IfMatch="*")["Code"] == "PreconditionFailed"


def test_delete_objects_deletes_what_is_there_and_what_is_not(s3: Any, bucket: str) -> None:
    for number in range(10):
        s3.put_object(Bucket=bucket, Key=f"k {number}&<", Body=b"1")
    keys = [f"k {number}&<" for number in range(10)] + ["never"]
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in keys]})
    assert [entry["Key"] for entry in answer["Deleted"]] == keys
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    s3.put_object(Bucket=bucket, Key="q", Body=b"1")
    quiet = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "q"}, {"Key": "q"}], "Quiet": True})
    assert "Deleted" not in quiet
    assert "Errors" not in quiet


def test_delete_objects_limits_and_errors(s3: Any, bucket: str) -> None:
    too_many = [{"Key": str(number)} for number in range(1001)]
    assert refused(s3.delete_objects, Bucket=bucket, Delete={"Objects": too_many})["Code"] == "MalformedXML"
    s3.put_object(Bucket=bucket, Key="a", Body=b"1")
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "a", "ETag": "x"}, {"Key": "b"}]})
    assert [(entry["Key"], entry["Code"]) for entry in answer["Errors"]] == [("a", "PreconditionFailed")]
    assert [entry["Key"] for entry in answer["Deleted"]] == ["b"]


# -- from inside ----------------------------------------------------------------------------------------------------------


def test_in_process_callers_put_and_get(server: Any, aws: Account, bucket: str) -> None:
    ctx = server.cloud.context(server.cloud.identities.root(aws.account), "lambda")
    for size in (10, 3_000_000):
        ctx.call("s3", "PutObject", Bucket=bucket, Key="bytes", Body=LARGE[:size])
        ctx.call("s3", "PutObject", Bucket=bucket, Key="file", Body=io.BytesIO(LARGE[:size]))
        for key in ("bytes", "file"):
            got = ctx.call("s3", "GetObject", Bucket=bucket, Key=key)
            assert got["ContentLength"] == size
            assert got["Body"].read_now() == LARGE[:size]
