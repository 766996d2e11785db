"""Image scanning: packages of an image beside the advisories that the operator has put on the disk.

Without advisories nothing is known, and that is said: a scan is refused, or fails with that reason; no list of findings, empty or
not, is ever given then. Advisories are files in OSV's format in `advisories/` of the data directory (pilvi.images.advisories).
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import Invalid, PilviError, ServiceError
from pilvi.core.paging import decode_token, encode_token
from pilvi.core.service import Context, Operations
from pilvi.images import layers, store
from pilvi.images.advisories import Advisories, Finding, read_advisories
from pilvi.images.packages import UNREADABLE, packages_of
from pilvi.services.ecr.errors import no_image
from pilvi.services.ecr.repository import Record, find_repository, in_registry

ops = Operations()
log = logging.getLogger("pilvi.ecr")

NO_ADVISORIES = (
    "This server has no vulnerability advisories to compare packages with, so images cannot be scanned. "
    "Put files in OSV's format into the folder advisories of the data directory."
)
LOST = "The server stopped during the scan."


@ops
def start_image_scan(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Compare an image's packages with the advisories on the disk.

    Errors: RepositoryNotFoundException; ImageNotFoundException; UnsupportedImageTypeException - a list of images;
    ValidationException - there are no advisories.
    Differs: packages of Debian, Alpine and Python are known; advisories are the operator's files; releases of Debian and Alpine
    are not told apart.
    """
    registry, image = _image(ctx, req)
    if _advisories(ctx) is None:
        raise ServiceError("ValidationException", NO_ADVISORIES)
    if image["children"]:
        raise ServiceError("UnsupportedImageTypeException", "A list of images is not scanned; its images are.")
    begin_scan(registry, image)
    return {
        "registryId": registry.account,
        "repositoryName": req["repositoryName"],
        "imageId": {"imageDigest": image["digest"]},
        "imageScanStatus": {"status": "IN_PROGRESS"},
    }


@ops
def describe_image_scan_findings(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The findings of the last scan.

    req: imageId, maxResults (1-1000), nextToken.
    Errors: RepositoryNotFoundException; ImageNotFoundException; ScanNotFoundException - the image was not scanned.
    """
    registry, image = _image(ctx, req)
    status = scan_status(registry, image)
    if status is None:
        digest, name = image["digest"], req["repositoryName"]
        raise ServiceError(
            "ScanNotFoundException",
            f"Image scan does not exist for the image with '{{imageDigest:'{digest}'}}' in the repository with name '{name}' in the "
            f"registry with id '{registry.account}'",
        )
    answer = {
        "registryId": registry.account,
        "repositoryName": req["repositoryName"],
        "imageId": {"imageDigest": image["digest"]},
        "imageScanStatus": status,
    }
    if status["status"] != "COMPLETE":
        return answer
    found = image["findings"]
    start, size = int(decode_token(req.get("nextToken")) or 0), req.get("maxResults") or 100
    more = encode_token(str(start + size)) if start + size < len(found["findings"]) else None
    return {**answer, "imageScanFindings": {**found, "findings": found["findings"][start : start + size]}, "nextToken": more}


def scan_after_push(ctx: Context, repository: Mapping[str, Any], image: Record) -> None:
    """The scan that a repository wants for each push, or why it cannot be."""
    if not repository["imageScanningConfiguration"]["scanOnPush"] or image["children"]:
        return
    if _advisories(ctx) is None:
        _keep(ctx, image, {"scan": {"status": "FAILED", "description": NO_ADVISORIES}})
    else:
        begin_scan(ctx, image)


def begin_scan(ctx: Context, image: Record) -> None:
    """In a thread of its own: large images take a while."""
    running: set[str] = ctx.cloud.memory.setdefault("ecr:scans", set())
    running.add(_place(ctx, image))
    _keep(ctx, image, {"scan": {"status": "IN_PROGRESS"}})
    threading.Thread(target=_scan, args=(ctx, image, running), name="pilvi-scan", daemon=True).start()


def scan_status(ctx: Context, image: Mapping[str, Any]) -> dict[str, str] | None:
    """What became of an image's scan; one that a crash ended has failed."""
    status: dict[str, str] | None = image.get("scan")
    is_running = _place(ctx, image) in ctx.cloud.memory.get("ecr:scans", ())
    if status is not None and status["status"] == "IN_PROGRESS" and not is_running:
        return {"status": "FAILED", "description": LOST}
    return status


def _scan(ctx: Context, image: Record, running: set[str]) -> None:
    try:
        _keep(ctx, image, _result(ctx, image))
    except (PilviError, *UNREADABLE) as error:
        _keep(ctx, image, {"scan": {"status": "FAILED", "description": str(error)}})
    except Exception:  # a scan must end, and honestly
        log.exception("the scan of %s failed", image["digest"])
        _keep(ctx, image, {"scan": {"status": "FAILED", "description": "The scan failed."}})
    finally:
        running.discard(_place(ctx, image))


def _result(ctx: Context, image: Record) -> Record:
    advisories = _advisories(ctx)
    if advisories is None:
        raise Invalid(NO_ADVISORIES)
    found = [layer for digest in image["layers"] if (layer := layers.layer_rows(ctx).find(digest)) is not None]
    findings = advisories.findings(packages_of(layers.read_layer(ctx, layer) for layer in found))
    result = {
        "imageScanCompletedAt": ctx.clock.now(),
        "vulnerabilitySourceUpdatedAt": advisories.updated,
        "findingSeverityCounts": dict(Counter(finding.severity for finding in findings)),
        "findings": [_told(finding) for finding in findings],
    }
    return {"scan": {"status": "COMPLETE", "description": "The scan was completed successfully."}, "findings": result}


def _told(finding: Finding) -> Record:
    attributes = {"package_name": finding.package.name, "package_version": finding.package.version}
    if finding.fixed:
        attributes["fixed_in_version"] = finding.fixed
    return {
        "name": finding.id,
        "description": finding.summary,
        "uri": finding.uri,
        "severity": finding.severity,
        "attributes": [{"key": key, "value": value} for key, value in attributes.items()],
    }


def _keep(ctx: Context, image: Record, members: Record) -> None:
    with layers.changing(ctx):
        id = store.image_id(image["repository"], image["digest"])
        if (found := ctx.records("Image").find(id)) is not None:
            ctx.records("Image").put(id, {**found, **members})


def _advisories(ctx: Context) -> Advisories | None:
    return read_advisories(ctx.config.data_dir / "advisories")


def _place(ctx: Context, image: Mapping[str, Any]) -> str:
    return f"{ctx.account}/{ctx.region}/{image['repository']}@{image['digest']}"


@ops.recording
def put_registry_scanning_configuration(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Keep which repositories are to be scanned.

    req: scanType (BASIC), rules.
    Errors: ValidationException - enhanced scanning, which is Inspector's.
    """
    if req.get("scanType") == "ENHANCED":
        raise ServiceError("ValidationException", "Enhanced scanning is not built.")
    config = {"scanType": "BASIC", "rules": req.get("rules") or []}
    ctx.records("RegistryScanning").put("configuration", config)
    return {"registryScanningConfiguration": config}


@ops
def get_registry_scanning_configuration(ctx: Context, _req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Which repositories are to be scanned."""
    config = ctx.records("RegistryScanning").find("configuration") or {"scanType": "BASIC", "rules": []}
    return {"registryId": ctx.account, "scanningConfiguration": config}


@ops
def batch_get_repository_scanning_configuration(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """How each of some repositories is to be scanned; those that are not there are told under failures."""
    found, failures = [], []
    for name in req["repositoryNames"]:
        record = ctx.records("Repository").find(name)
        if record is None:
            reason = f"The repository with name '{name}' does not exist."
            failures.append({"repositoryName": name, "failureCode": "REPOSITORY_NOT_FOUND", "failureReason": reason})
            continue
        on_push = record["imageScanningConfiguration"]["scanOnPush"]
        found.append(
            {
                "repositoryArn": record["repositoryArn"],
                "repositoryName": name,
                "scanOnPush": on_push,
                "scanFrequency": "SCAN_ON_PUSH" if on_push else "MANUAL",
                "appliedScanFilters": [],
            }
        )
    return {"scanningConfigurations": found, "failures": failures}


def _image(ctx: Context, req: Mapping[str, Any]) -> tuple[Context, Record]:
    ctx = in_registry(ctx, req)
    find_repository(ctx, req["repositoryName"])
    id = req["imageId"]
    image = store.find_image(ctx, req["repositoryName"], digest=id.get("imageDigest") or "", tag=id.get("imageTag") or "")
    if image is None:
        raise no_image(ctx, req["repositoryName"], dict(id))
    return ctx, image
