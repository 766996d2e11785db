"""Multipart uploads: parts in any order, checksums of both kinds, every refusal, boto3's transfers."""

from __future__ import annotations

import base64
import concurrent.futures
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from awscrt import checksums as crt
from boto3.s3.transfer import TransferConfig

from tests.services.s3.conftest import code_of, refused
from tests.services.s3.test_object import SUMS

MIB = 1 << 20
BODY = os.urandom(11 * MIB)
PARTS = [BODY[: 5 * MIB], BODY[5 * MIB : 10 * MIB], BODY[10 * MIB :]]


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def begin(s3: Any, bucket: str, key: str = "k", **more: Any) -> str:
    return str(s3.create_multipart_upload(Bucket=bucket, Key=key, **more)["UploadId"])


def upload(s3: Any, bucket: str, upload_id: str, number: int, body: bytes, **more: Any) -> dict[str, Any]:
    answer = s3.upload_part(Bucket=bucket, Key="k", UploadId=upload_id, PartNumber=number, Body=body, **more)
    kept = {name: value for name, value in answer.items() if name.startswith("Checksum") and name != "ChecksumType"}
    return {"PartNumber": number, "ETag": answer["ETag"], **kept}


def complete(s3: Any, bucket: str, upload_id: str, parts: list[dict[str, Any]], **more: Any) -> Any:
    return s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload_id, MultipartUpload={"Parts": parts}, **more)


def test_parts_out_of_order_assemble(s3: Any, server: Any, bucket: str) -> None:
    upload_id = begin(s3, bucket, Metadata={"a": "b"}, ContentType="x/y", Tagging="t=1")
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        parts = list(pool.map(lambda number: upload(s3, bucket, upload_id, number, PARTS[number - 1]), (3, 1, 2)))
    blobs = set(server.cloud.blobs.names())
    done = complete(s3, bucket, upload_id, sorted(parts, key=lambda part: part["PartNumber"]))
    assert set(server.cloud.blobs.names()) == blobs
    md5s = b"".join(hashlib.md5(part).digest() for part in PARTS)
    assert done["ETag"] == f'"{hashlib.md5(md5s).hexdigest()}-3"'
    got = s3.get_object(Bucket=bucket, Key="k")
    assert got["Body"].read() == BODY
    assert (got["ETag"], got["Metadata"], got["ContentType"], got["TagCount"]) == (done["ETag"], {"a": "b"}, "x/y", 1)
    for start, end in ((0, 3), (5 * MIB - 1, 5 * MIB + 1), (5 * MIB, 10 * MIB), (10 * MIB + 5, 11 * MIB)):
        ranged = s3.get_object(Bucket=bucket, Key="k", Range=f"bytes={start}-{end - 1}")
        assert ranged["Body"].read() == BODY[start:end]
    s3.delete_object(Bucket=bucket, Key="k")
    assert len(set(server.cloud.blobs.names()) & blobs) == len(blobs) - 3


def test_parts_may_be_skipped_and_replaced(s3: Any, server: Any, bucket: str) -> None:
    before = set(server.cloud.blobs.names())
    upload_id = begin(s3, bucket)
    upload(s3, bucket, upload_id, 2, b"old" * 50_000)
    parts = [upload(s3, bucket, upload_id, 2, PARTS[0]), upload(s3, bucket, upload_id, 9, b"tail")]
    upload(s3, bucket, upload_id, 5, b"left out" * 50_000)
    complete(s3, bucket, upload_id, parts)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == PARTS[0] + b"tail"
    assert len(set(server.cloud.blobs.names()) - before) == 1
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


def test_get_object_by_part(s3: Any, bucket: str) -> None:
    upload_id = begin(s3, bucket)
    complete(s3, bucket, upload_id, [upload(s3, bucket, upload_id, n + 1, part) for n, part in enumerate(PARTS)])
    for number, part in enumerate(PARTS, 1):
        got = s3.get_object(Bucket=bucket, Key="k", PartNumber=number)
        assert (got["Body"].read(), got["PartsCount"]) == (part, 3)
        head = s3.head_object(Bucket=bucket, Key="k", PartNumber=number)
        assert (head["ContentLength"], head["PartsCount"]) == (len(part), 3)
    assert refused(s3.get_object, Bucket=bucket, Key="k", PartNumber=4)["Code"] == "InvalidPartNumber"


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "SHA1", "SHA256"])
def test_composite_checksums(s3: Any, bucket: str, algorithm: str) -> None:
    upload_id = begin(s3, bucket, ChecksumAlgorithm=algorithm)
    parts = [upload(s3, bucket, upload_id, n + 1, part, ChecksumAlgorithm=algorithm) for n, part in enumerate(PARTS)]
    member = f"Checksum{algorithm}"
    assert [part[member] for part in parts] == [b64(SUMS[algorithm](part)) for part in PARTS]
    listed = s3.list_parts(Bucket=bucket, Key="k", UploadId=upload_id)
    assert [part[member] for part in listed["Parts"]] == [part[member] for part in parts]
    assert (listed["ChecksumAlgorithm"], listed["ChecksumType"]) == (algorithm, "COMPOSITE")
    wanted = b64(SUMS[algorithm](b"".join(SUMS[algorithm](part) for part in PARTS)))
    wrong = [{**part, member: parts[0][member]} for part in parts]
    assert refused(complete, s3=s3, bucket=bucket, upload_id=upload_id, parts=wrong)["Code"] == "InvalidPart"
    done = complete(s3, bucket, upload_id, parts)
    assert (done[member], done["ChecksumType"]) == (f"{wanted}-3", "COMPOSITE")
    assert s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")[member] == f"{wanted}-3"
    got = s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=["Checksum", "ObjectParts"], MaxParts=2)
    assert got["Checksum"] == {member: wanted, "ChecksumType": "COMPOSITE"}
    page = got["ObjectParts"]
    assert (page["TotalPartsCount"], page["IsTruncated"], page["NextPartNumberMarker"]) == (3, True, 2)
    assert [(part["PartNumber"], part["Size"], part[member]) for part in page["Parts"]] == [
        (part["PartNumber"], 5 * MIB, part[member]) for part in parts[:2]
    ]
    rest = s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=["ObjectParts"], PartNumberMarker=2)["ObjectParts"]
    assert ([part["PartNumber"] for part in rest["Parts"]], rest["IsTruncated"]) == ([3], False)


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME"])
def test_full_object_checksums(s3: Any, bucket: str, algorithm: str) -> None:
    upload_id = begin(s3, bucket, ChecksumAlgorithm=algorithm, ChecksumType="FULL_OBJECT")
    parts = [upload(s3, bucket, upload_id, n + 1, part, ChecksumAlgorithm=algorithm) for n, part in enumerate(PARTS)]
    member, wanted = f"Checksum{algorithm}", b64(SUMS[algorithm](BODY))
    wrong = {member: b64(SUMS[algorithm](b"other"))}
    assert refused(complete, s3=s3, bucket=bucket, upload_id=upload_id, parts=parts, **wrong)["Code"] == "BadDigest"
    done = complete(s3, bucket, upload_id, parts, **{member: wanted, "ChecksumType": "FULL_OBJECT"})
    assert (done[member], done["ChecksumType"]) == (wanted, "FULL_OBJECT")
    assert s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")[member] == wanted


def test_an_upload_without_algorithm_gets_crc64nvme(s3: Any, raw: Any, bucket: str) -> None:
    created = raw("POST", f"/{bucket}/k?uploads").content.decode()
    upload_id = created.partition("<UploadId>")[2].partition("<")[0]
    parts = [upload(s3, bucket, upload_id, n + 1, part) for n, part in enumerate(PARTS)]
    bare = [{"PartNumber": part["PartNumber"], "ETag": part["ETag"]} for part in parts]
    done = complete(s3, bucket, upload_id, bare)
    assert done["ChecksumCRC64NVME"] == b64(crt.crc64nvme(BODY).to_bytes(8, "big"))


def test_create_multipart_upload_refuses_impossible_checksums(s3: Any, bucket: str) -> None:
    for algorithm, kind in (("SHA256", "FULL_OBJECT"), ("CRC64NVME", "COMPOSITE")):
        error = refused(begin, s3=s3, bucket=bucket, ChecksumAlgorithm=algorithm, ChecksumType=kind)
        assert error["Code"] == "InvalidRequest"
    error = refused(begin, s3=s3, bucket=bucket, ChecksumAlgorithm="CRC99")
    assert error["Code"] == "InvalidRequest"


def test_upload_part_refuses_another_checksum(s3: Any, bucket: str) -> None:
    upload_id = begin(s3, bucket, ChecksumAlgorithm="SHA256")
    error = refused(upload, s3=s3, bucket=bucket, upload_id=upload_id, number=1, body=b"1", ChecksumAlgorithm="CRC32")
    assert error["Message"] == "Checksum Type mismatch occurred, expected checksum Type: sha256, actual checksum Type: crc32"


def test_upload_part_refusals(s3: Any, bucket: str) -> None:
    upload_id = begin(s3, bucket)
    for number in (0, 10_001):
        error = refused(upload, s3=s3, bucket=bucket, upload_id=upload_id, number=number, body=b"1")
        assert error["Code"] == "InvalidArgument"
    assert refused(upload, s3=s3, bucket=bucket, upload_id="nonsense", number=1, body=b"1")["Code"] == "NoSuchUpload"
    error = refused(upload, s3=s3, bucket=bucket, upload_id=upload_id, number=1, body=b"1", ChecksumCRC32="AAAAAA==")
    assert error["Code"] == "BadDigest"


def test_complete_multipart_upload_refusals(s3: Any, bucket: str) -> None:
    upload_id = begin(s3, bucket)
    parts = [upload(s3, bucket, upload_id, 1, b"small"), upload(s3, bucket, upload_id, 2, b"last")]

    def fail(parts: list[dict[str, Any]], **more: Any) -> str:
        return str(refused(complete, s3=s3, bucket=bucket, upload_id=upload_id, parts=parts, **more)["Code"])

    assert fail(parts[::-1]) == "InvalidPartOrder"
    assert fail([parts[0], parts[0]]) == "InvalidPartOrder"
    assert fail([{"PartNumber": 3, "ETag": parts[0]["ETag"]}]) == "InvalidPart"
    assert fail([{"PartNumber": 1, "ETag": parts[1]["ETag"]}]) == "InvalidPart"
    assert fail(parts) == "EntityTooSmall"
    assert fail([]) == "MalformedXML"
    assert fail(parts[1:], MpuObjectSize=5) == "InvalidRequest"
    s3.put_object(Bucket=bucket, Key="k", Body=b"there")
    assert fail(parts[1:], IfNoneMatch="*") == "PreconditionFailed"
    complete(s3, bucket, upload_id, parts[1:], MpuObjectSize=4)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"last"


def test_complete_multipart_upload_again_answers_the_same(s3: Any, bucket: str) -> None:
    upload_id = begin(s3, bucket)
    parts = [upload(s3, bucket, upload_id, 1, b"all")]
    first, second = (complete(s3, bucket, upload_id, parts) for _ in range(2))
    assert first["ETag"] == second["ETag"]
    assert refused(upload, s3=s3, bucket=bucket, upload_id=upload_id, number=1, body=b"1")["Code"] == "NoSuchUpload"
    s3.put_object(Bucket=bucket, Key="k", Body=b"other")
    assert refused(complete, s3=s3, bucket=bucket, upload_id=upload_id, parts=parts)["Code"] == "NoSuchUpload"


def test_complete_multipart_upload_answers_in_the_right_root(raw: Any, s3: Any, bucket: str) -> None:
    upload_id = begin(s3, bucket)
    etag = upload(s3, bucket, upload_id, 1, b"all")["ETag"]
    body = f"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part></CompleteMultipartUpload>"
    answer = raw("POST", f"/{bucket}/k?uploadId={upload_id}", data=body.encode())
    assert answer.status_code == 200
    assert b"<CompleteMultipartUploadResult " in answer.content


def test_abort_multipart_upload_leaves_nothing(s3: Any, server: Any, bucket: str) -> None:
    before = set(server.cloud.blobs.names()), set(server.cloud.store.body_names())
    upload_id = begin(s3, bucket)
    upload(s3, bucket, upload_id, 1, b"1")
    upload(s3, bucket, upload_id, 2, b"2" * 100_000)
    s3.abort_multipart_upload(Bucket=bucket, Key="k", UploadId=upload_id)
    assert (set(server.cloud.blobs.names()), set(server.cloud.store.body_names())) == before
    error = refused(s3.abort_multipart_upload, Bucket=bucket, Key="k", UploadId=upload_id)
    assert (error["Code"], error["Status"]) == ("NoSuchUpload", 404)
    assert refused(s3.list_parts, Bucket=bucket, Key="k", UploadId=upload_id)["Code"] == "NoSuchUpload"


def test_list_parts_pages_to_the_end(s3: Any, bucket: str) -> None:
    upload_id = begin(s3, bucket)
    for number in (1, 2, 5, 10_000):
        upload(s3, bucket, upload_id, number, b"1" * number)
    pages = list(
        s3.get_paginator("list_parts").paginate(Bucket=bucket, Key="k", UploadId=upload_id, PaginationConfig={"PageSize": 3})
    )
    assert [[part["PartNumber"] for part in page["Parts"]] for page in pages] == [[1, 2, 5], [10_000]]
    assert pages[0]["Parts"][2]["Size"] == 5


def test_upload_part_copy(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="source +", Body=BODY)
    upload_id = begin(s3, bucket)

    def copy(number: int, **more: Any) -> Any:
        return s3.upload_part_copy(
            Bucket=bucket, Key="k", UploadId=upload_id, PartNumber=number, CopySource={"Bucket": bucket, "Key": "source +"}, **more
        )

    parts = [
        {"PartNumber": 1, "ETag": copy(1)["CopyPartResult"]["ETag"]},
        {"PartNumber": 2, "ETag": copy(2, CopySourceRange="bytes=100-199")["CopyPartResult"]["ETag"]},
    ]
    assert parts[0]["ETag"] == f'"{hashlib.md5(BODY).hexdigest()}"'
    for header in ("bytes=0-99999999", "bytes=5-", "bytes=9-3"):
        assert refused(copy, number=3, CopySourceRange=header)["Code"] == "InvalidArgument"
    assert refused(copy, number=3, CopySourceIfMatch='"x"')["Code"] == "PreconditionFailed"
    complete(s3, bucket, upload_id, parts)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == BODY + BODY[100:200]


def test_uploading_while_aborting_leaves_nothing(s3: Any, server: Any, bucket: str) -> None:
    before = set(server.cloud.blobs.names())
    upload_id = begin(s3, bucket)

    def put(number: int) -> str:
        return code_of(upload, s3=s3, bucket=bucket, upload_id=upload_id, number=number, body=b"x" * 300_000)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(put, number) for number in range(1, 9)]
        pool.submit(s3.abort_multipart_upload, Bucket=bucket, Key="k", UploadId=upload_id).result()
        assert {future.result() for future in waiting} <= {"", "NoSuchUpload"}
    assert set(server.cloud.blobs.names()) == before


def test_boto3_transfers(s3: Any, bucket: str, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(BODY)
    small = TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB, max_concurrency=4)
    s3.upload_file(str(source), bucket, "k", ExtraArgs={"Metadata": {"m": "1"}}, Config=small)
    assert s3.head_object(Bucket=bucket, Key="k")["ETag"].endswith('-3"')
    s3.download_file(bucket, "k", str(target), Config=small)
    assert target.read_bytes() == BODY
    s3.copy({"Bucket": bucket, "Key": "k"}, bucket, "copy", Config=small)
    assert s3.get_object(Bucket=bucket, Key="copy")["Body"].read() == BODY
