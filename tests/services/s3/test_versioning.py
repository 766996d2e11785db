"""Versioning: every version readable, delete markers, null versions, and what becomes current after a deletion."""

from __future__ import annotations

import concurrent.futures
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.services.s3.conftest import refused


def put(s3: Any, bucket: str, body: bytes, key: str = "k") -> str:
    return str(s3.put_object(Bucket=bucket, Key=key, Body=body).get("VersionId", "null"))


def get(s3: Any, bucket: str, **more: Any) -> bytes:
    return bytes(s3.get_object(Bucket=bucket, Key="k", **more)["Body"].read())


def test_put_bucket_versioning_has_three_states(s3: Any, bucket: str) -> None:
    assert "Status" not in s3.get_bucket_versioning(Bucket=bucket)
    for status in ("Enabled", "Suspended", "Enabled"):
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": status})
        assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == status
    error = refused(s3.put_bucket_versioning, Bucket=bucket, VersioningConfiguration={"Status": "On"})
    assert error["Code"] == "MalformedXML"
    configuration = {"Status": "Enabled", "MFADelete": "Enabled"}
    assert refused(s3.put_bucket_versioning, Bucket=bucket, VersioningConfiguration=configuration)["Code"] == "AccessDenied"


def test_every_version_can_be_read(s3: Any, versioned: str) -> None:
    versions = [put(s3, versioned, body) for body in (b"1", b"2" * 100_000, b"3")]
    assert len(set(versions)) == 3
    assert [get(s3, versioned, VersionId=version)[:1] for version in versions] == [b"1", b"2", b"3"]
    assert get(s3, versioned) == b"3"
    assert s3.head_object(Bucket=versioned, Key="k")["VersionId"] == versions[2]
    error = refused(s3.get_object, Bucket=versioned, Key="k", VersionId="0" * 32)
    assert (error["Code"], error["Status"]) == ("NoSuchVersion", 404)
    assert refused(s3.get_object, Bucket=versioned, Key="k", VersionId="bad")["Code"] == "InvalidArgument"


def test_delete_marker_hides_and_its_deletion_shows(s3: Any, versioned: str, raw: Any) -> None:
    put(s3, versioned, b"1")
    deleted = s3.delete_object(Bucket=versioned, Key="k")
    assert deleted["DeleteMarker"] is True
    error = refused(s3.get_object, Bucket=versioned, Key="k")
    assert error["Code"] == "NoSuchKey"
    answer = raw("GET", f"/{versioned}/k")
    assert (answer.headers["x-amz-delete-marker"], answer.headers["x-amz-version-id"]) == ("true", deleted["VersionId"])
    error = refused(s3.get_object, Bucket=versioned, Key="k", VersionId=deleted["VersionId"])
    assert (error["Code"], error["Status"]) == ("MethodNotAllowed", 405)
    assert "Contents" not in s3.list_objects_v2(Bucket=versioned)
    again = s3.delete_object(Bucket=versioned, Key="k")
    for marker in (again, deleted):
        undone = s3.delete_object(Bucket=versioned, Key="k", VersionId=marker["VersionId"])
        assert (undone["DeleteMarker"], undone["VersionId"]) == (True, marker["VersionId"])
    assert get(s3, versioned) == b"1"


def test_deleting_the_current_version_brings_back_the_one_before(s3: Any, server: Any, versioned: str) -> None:
    blobs = set(server.cloud.blobs.names())
    versions = [put(s3, versioned, bytes([number]) * 50_000) for number in range(3)]
    s3.delete_object(Bucket=versioned, Key="k", VersionId=versions[1])
    s3.delete_object(Bucket=versioned, Key="k", VersionId=versions[2])
    assert get(s3, versioned) == bytes([0]) * 50_000
    s3.delete_object(Bucket=versioned, Key="k", VersionId=versions[0])
    assert refused(s3.get_object, Bucket=versioned, Key="k")["Code"] == "NoSuchKey"
    assert set(server.cloud.blobs.names()) == blobs
    s3.delete_bucket(Bucket=versioned)


def test_objects_from_before_versioning_are_the_null_version(s3: Any, bucket: str) -> None:
    put(s3, bucket, b"old")
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    assert s3.head_object(Bucket=bucket, Key="k")["VersionId"] == "null"
    new = put(s3, bucket, b"new")
    assert (get(s3, bucket, VersionId="null"), get(s3, bucket)) == (b"old", b"new")
    s3.delete_object(Bucket=bucket, Key="k", VersionId=new)
    assert get(s3, bucket) == b"old"


def test_suspended_versioning_replaces_the_null_version_only(s3: Any, versioned: str) -> None:
    kept = put(s3, versioned, b"kept")
    s3.put_bucket_versioning(Bucket=versioned, VersioningConfiguration={"Status": "Suspended"})
    assert put(s3, versioned, b"n1") == "null"
    put(s3, versioned, b"n2")
    assert (get(s3, versioned, VersionId=kept), get(s3, versioned, VersionId="null")) == (b"kept", b"n2")
    s3.put_bucket_versioning(Bucket=versioned, VersioningConfiguration={"Status": "Enabled"})
    put(s3, versioned, b"later")
    s3.put_bucket_versioning(Bucket=versioned, VersioningConfiguration={"Status": "Suspended"})
    put(s3, versioned, b"n3")
    listed = s3.list_object_versions(Bucket=versioned)["Versions"]
    assert [version["VersionId"] for version in listed].count("null") == 1
    assert (len(listed), get(s3, versioned, VersionId="null")) == (3, b"n3")
    assert s3.delete_object(Bucket=versioned, Key="k")["VersionId"] == "null"
    assert refused(s3.get_object, Bucket=versioned, Key="k")["Code"] == "NoSuchKey"
    assert get(s3, versioned, VersionId=kept) == b"kept"


def test_delete_objects_with_versions(s3: Any, versioned: str) -> None:
    version = put(s3, versioned, b"1")
    answer = s3.delete_objects(Bucket=versioned, Delete={"Objects": [{"Key": "k"}, {"Key": "k", "VersionId": version}]})
    assert answer["Deleted"][0]["DeleteMarker"] is True
    assert answer["Deleted"][1] == {"Key": "k", "VersionId": version}
    marker = answer["Deleted"][0]["DeleteMarkerVersionId"]
    answer = s3.delete_objects(Bucket=versioned, Delete={"Objects": [{"Key": "k", "VersionId": marker}]})
    assert answer["Deleted"] == [{"Key": "k", "VersionId": marker, "DeleteMarker": True, "DeleteMarkerVersionId": marker}]
    assert "Versions" not in s3.list_object_versions(Bucket=versioned)


def test_tags_of_a_version(s3: Any, versioned: str) -> None:
    first = put(s3, versioned, b"1")
    second = put(s3, versioned, b"2")
    s3.put_object_tagging(Bucket=versioned, Key="k", VersionId=first, Tagging={"TagSet": [{"Key": "a", "Value": "1"}]})
    answer = s3.get_object_tagging(Bucket=versioned, Key="k", VersionId=first)
    assert (answer["TagSet"], answer["VersionId"]) == ([{"Key": "a", "Value": "1"}], first)
    assert s3.get_object_tagging(Bucket=versioned, Key="k")["VersionId"] == second
    assert s3.get_object_tagging(Bucket=versioned, Key="k")["TagSet"] == []


def test_concurrent_writers_keep_every_version(s3: Any, versioned: str) -> None:
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda number: put(s3, versioned, b"%d" % number), range(20)))
    listed = s3.list_object_versions(Bucket=versioned)["Versions"]
    assert sorted(version["VersionId"] for version in listed) == sorted(made)
    assert [version["IsLatest"] for version in listed] == [True] + [False] * 19
    assert {get(s3, versioned, VersionId=version) for version in made} == {b"%d" % number for number in range(20)}


steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.just(0)),
        st.tuples(st.just("delete"), st.just(0)),
        st.tuples(st.just("delete_version"), st.integers(0, 5)),
        st.tuples(st.just("state"), st.integers(0, 1)),
    ),
    max_size=12,
)


class Model:
    """What S3 promises about one key, as a list of (version id, body or None for a marker), newest first."""

    def __init__(self) -> None:
        self.state = ""
        self.versions: list[tuple[str, bytes | None]] = []

    def add(self, version: str, body: bytes | None) -> None:
        if version == "null":
            self.remove("null")
        self.versions.insert(0, (version, body))

    def remove(self, version: str) -> None:
        self.versions = [entry for entry in self.versions if entry[0] != version]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(steps)
def test_any_history_is_as_s3_promises(s3: Any, aws: Any, script: list[tuple[str, int]]) -> None:
    bucket = f"h{abs(hash(tuple(script))) % 10**12}-{aws.account}-{next(_histories)}"
    s3.create_bucket(Bucket=bucket)
    model = Model()
    for number, (step, choice) in enumerate(script):
        body = b"%d" % number
        if step == "put":
            model.add(put(s3, bucket, body), body)
        elif step == "delete":
            answer = s3.delete_object(Bucket=bucket, Key="k")
            if model.state:
                model.add(answer["VersionId"], None)
            else:
                model.remove("null")
        elif step == "delete_version" and model.versions:
            version = model.versions[choice % len(model.versions)][0]
            s3.delete_object(Bucket=bucket, Key="k", VersionId=version)
            model.remove(version)
        elif step == "state":
            model.state = ("Enabled", "Suspended")[choice]
            s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": model.state})
        compare(s3, bucket, model)


def compare(s3: Any, bucket: str, model: Model) -> None:
    listed = s3.list_object_versions(Bucket=bucket)
    objects = [entry["VersionId"] for entry in listed.get("Versions", [])]
    markers = [entry["VersionId"] for entry in listed.get("DeleteMarkers", [])]
    assert objects == [version for version, body in model.versions if body is not None]
    assert markers == [version for version, body in model.versions if body is None]
    for version, body in model.versions:
        if body is not None:
            assert get(s3, bucket, VersionId=version) == body
    current = model.versions[0][1] if model.versions else None
    if current is None:
        assert refused(s3.get_object, Bucket=bucket, Key="k")["Code"] == "NoSuchKey"
        assert "Contents" not in s3.list_objects_v2(Bucket=bucket)
    else:
        assert get(s3, bucket) == current


_histories = iter(range(10**9))


def test_delete_object_of_all_versions_at_once_leaves_none(s3: Any, versioned: str) -> None:
    for _ in range(15):
        with concurrent.futures.ThreadPoolExecutor(5) as pool:
            made = pool.map(lambda number: s3.put_object(Bucket=versioned, Key="k", Body=b"%d" % number)["VersionId"], range(5))
            list(pool.map(lambda version: s3.delete_object(Bucket=versioned, Key="k", VersionId=version), list(made)))
        assert "Versions" not in s3.list_object_versions(Bucket=versioned)
