"""The story of versioning and recovery: upload, enable versioning, upload again, delete, look, take the delete marker away."""

from __future__ import annotations

from collections.abc import Callable

from pilvi.testing.up import Up


def test_a_deleted_picture_is_recovered(up: Callable[..., Up]) -> None:
    s3 = up().root.client("s3")
    s3.create_bucket(Bucket="versioning-demo")
    assert "Status" not in s3.get_bucket_versioning(Bucket="versioning-demo")
    s3.put_object(Bucket="versioning-demo", Key="home.JPG", Body=b"first picture")
    s3.put_bucket_versioning(Bucket="versioning-demo", VersioningConfiguration={"Status": "Enabled"})
    assert s3.get_bucket_versioning(Bucket="versioning-demo")["Status"] == "Enabled"
    second = s3.put_object(Bucket="versioning-demo", Key="home.JPG", Body=b"second picture")["VersionId"]
    marker = s3.delete_object(Bucket="versioning-demo", Key="home.JPG")
    assert marker["DeleteMarker"] is True
    assert "Contents" not in s3.list_objects_v2(Bucket="versioning-demo")

    shown = s3.list_object_versions(Bucket="versioning-demo")
    rows = [("marker", item["VersionId"], item["IsLatest"]) for item in shown["DeleteMarkers"]]
    rows += [("version", item["VersionId"], item["IsLatest"]) for item in shown["Versions"]]
    assert rows == [("marker", marker["VersionId"], True), ("version", second, False), ("version", "null", False)]

    s3.delete_object(Bucket="versioning-demo", Key="home.JPG", VersionId=marker["VersionId"])
    assert s3.get_object(Bucket="versioning-demo", Key="home.JPG")["Body"].read() == b"second picture"
    first = s3.get_object(Bucket="versioning-demo", Key="home.JPG", VersionId="null")
    assert first["Body"].read() == b"first picture"
