"""Scanning: findings come from the operator's advisories, and from nowhere else."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pilvi.images.advisories import debian_order, mending, python_order, read_advisories
from pilvi.images.packages import Package, packages_of
from pilvi.testing.server import TestServer, eventually
from tests.services.ecr.conftest import Image, digest, image_of, layer_of, push

ADVISORY = {
    "id": "GHSA-1",
    "aliases": ["CVE-2020-1"],
    "summary": "It reads too much.",
    "references": [{"type": "WEB", "url": "https://example.com/1"}],
    "database_specific": {"severity": "MODERATE"},
    "affected": [
        {
            "package": {"ecosystem": "PyPI", "name": "Old_Lib"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.0"}]}],
        }
    ],
}


def with_library(version: str) -> Image:
    """An image with a Python library."""
    metadata = f"Metadata-Version: 2.1\nName: old-lib\nVersion: {version}\n\nName: not-this\n".encode()
    layer = layer_of({f"usr/lib/python3/dist-packages/old_lib-{version}.dist-info/METADATA": metadata})
    rootfs = {"type": "layers", "diff_ids": [digest(gzip.decompress(layer))]}
    return Image(json.dumps({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs}).encode(), (layer,))


@pytest.fixture
def advised(tmp_path: Path) -> Iterator[Any]:
    """ECR on a server whose operator has brought an advisory."""
    (tmp_path / "advisories").mkdir()
    (tmp_path / "advisories" / "one.json").write_text(json.dumps([ADVISORY]))
    (tmp_path / "advisories" / "junk.json").write_text("{")
    with TestServer(tmp_path) as server:
        ecr = server.account("111122223333").client("ecr")
        ecr.create_repository(repositoryName="app")
        yield ecr


def findings(ecr: Any, tag: str) -> Any:
    def told() -> Any:
        return ecr.describe_image_scan_findings(repositoryName="app", imageId={"imageTag": tag})

    eventually(lambda: told()["imageScanStatus"]["status"] != "IN_PROGRESS")
    return told()


def test_start_image_scan_finds_an_old_library(advised: Any) -> None:
    push(advised, "app", with_library("1.9"), "old")
    push(advised, "app", with_library("2.0"), "new")
    for tag in ("old", "new"):
        started = advised.start_image_scan(repositoryName="app", imageId={"imageTag": tag})
        assert started["imageScanStatus"]["status"] == "IN_PROGRESS"
    found = findings(advised, "old")
    assert found["imageScanStatus"]["status"] == "COMPLETE"
    (one,) = found["imageScanFindings"]["findings"]
    assert (one["name"], one["severity"], one["uri"]) == ("CVE-2020-1", "MEDIUM", "https://example.com/1")
    attributes = {attribute["key"]: attribute["value"] for attribute in one["attributes"]}
    assert attributes == {"package_name": "old-lib", "package_version": "1.9", "fixed_in_version": "2.0"}
    assert found["imageScanFindings"]["findingSeverityCounts"] == {"MEDIUM": 1}
    assert findings(advised, "new")["imageScanFindings"]["findings"] == []
    (detail,) = advised.describe_images(repositoryName="app", imageIds=[{"imageTag": "old"}])["imageDetails"]
    assert detail["imageScanFindingsSummary"]["findingSeverityCounts"] == {"MEDIUM": 1}


def test_scan_on_push(advised: Any) -> None:
    advised.put_image_scanning_configuration(repositoryName="app", imageScanningConfiguration={"scanOnPush": True})
    push(advised, "app", with_library("1.0"), "v1")
    assert findings(advised, "v1")["imageScanFindings"]["findingSeverityCounts"] == {"MEDIUM": 1}


def test_without_advisories_scanning_is_refused(ecr: Any) -> None:
    ecr.put_image_scanning_configuration(repositoryName="app", imageScanningConfiguration={"scanOnPush": True})
    push(ecr, "app", image_of("one"), "v1")
    with pytest.raises(ClientError, match="no vulnerability advisories") as raised:
        ecr.start_image_scan(repositoryName="app", imageId={"imageTag": "v1"})
    assert raised.value.response["Error"]["Code"] == "ValidationException"
    told = ecr.describe_image_scan_findings(repositoryName="app", imageId={"imageTag": "v1"})
    assert told["imageScanStatus"]["status"] == "FAILED"
    assert "imageScanFindings" not in told
    ecr.put_image_scanning_configuration(repositoryName="app", imageScanningConfiguration={"scanOnPush": False})
    push(ecr, "app", image_of("two"), "v2")
    with pytest.raises(ClientError) as raised:
        ecr.describe_image_scan_findings(repositoryName="app", imageId={"imageTag": "v2"})
    assert raised.value.response["Error"]["Code"] == "ScanNotFoundException"


def test_packages_of_every_kind_are_known() -> None:
    status = b"Package: libssl3\nStatus: install ok installed\nSource: openssl (3.0)\nVersion: 3.0.1-1\n\nPackage: x\nStatus: deinstall ok config-files\nVersion: 1\n"
    low = layer_of(
        {
            "var/lib/dpkg/status": status,
            "lib/apk/db/installed": b"P:musl\nV:1.2.3-r1\no:musl\n\n",
            "a/b.dist-info/METADATA": b"Name: B.b\nVersion: 1\n",
        }
    )
    assert packages_of([[low]]) == [
        Package("Alpine", "musl", "1.2.3-r1"),
        Package("Debian", "openssl", "3.0.1-1"),
        Package("PyPI", "b-b", "1"),
    ]
    high = layer_of({"a/.wh.b.dist-info": b"", "lib/apk/.wh..wh..opq": b""})
    assert packages_of([[low], [high]]) == [Package("Debian", "openssl", "3.0.1-1")]


@pytest.mark.parametrize(
    ("order", "rising"),
    [
        (python_order, ["1.0.dev1", "1.0a1", "1.0b2", "1.0rc1", "1.0", "1.0.post1", "1.0.1", "1.2", "1.10", "2", "1!0.1"]),
        (debian_order, ["1.0~rc1-1", "1.0-1", "1.0-1+deb12u1", "1.0-1+deb12u2", "1.0-2", "1.0.1-1", "1.9-1", "1.10-1", "1:0.1-1"]),
    ],
)
def test_versions_stand_in_order(order: Any, rising: list[str]) -> None:
    assert sorted(sorted(rising), key=order) == rising


def test_versions_are_equal_in_other_words() -> None:
    assert python_order("1.0") == python_order("1.0.0") == python_order("v1")


def test_ranges_open_and_close(tmp_path: Path) -> None:
    events = [{"introduced": "1.0"}, {"fixed": "1.5"}, {"introduced": "2.0"}, {"last_affected": "2.2"}]
    affected = {"ranges": [{"type": "ECOSYSTEM", "events": events}], "versions": ["0.1"]}
    hits = {
        version: mending(affected, Package("PyPI", "x", version)) for version in ("0.1", "0.9", "1.0", "1.5", "2.1", "2.2", "2.3")
    }
    assert hits == {"0.1": "", "0.9": None, "1.0": "1.5", "1.5": None, "2.1": "", "2.2": "", "2.3": None}
    assert read_advisories(tmp_path) is None
