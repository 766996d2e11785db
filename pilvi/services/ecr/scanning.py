"""Image scanning: what is asked for is kept, and what cannot be known is said.

A scan compares an image's packages with advisories, and this server has none. So no scan ever completes here: it is refused or
fails with that reason, and no list of findings, empty or not, is ever given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import ServiceError
from pilvi.core.service import Context, Operations
from pilvi.images import store
from pilvi.services.ecr.errors import no_image
from pilvi.services.ecr.repository import find_repository, in_registry

ops = Operations()

NO_ADVISORIES = "This server has no vulnerability advisories to compare packages with, so images cannot be scanned."


def status_after_push(repository: Mapping[str, Any]) -> dict[str, str] | None:
    """What became of the scan that a repository wants for each push."""
    if not repository["imageScanningConfiguration"]["scanOnPush"]:
        return None
    return {"status": "FAILED", "description": NO_ADVISORIES}


@ops
def start_image_scan(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Refused: there is nothing to scan with.

    Errors: RepositoryNotFoundException; ImageNotFoundException; ValidationException - always, for an image that is there.
    Differs: no image is scanned.
    """
    _image(ctx, req)
    raise ServiceError("ValidationException", NO_ADVISORIES)


@ops
def describe_image_scan_findings(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The findings of the last scan.

    Errors: RepositoryNotFoundException; ImageNotFoundException; ScanNotFoundException - the image was not scanned.
    Differs: no image is scanned, so there are never findings; a scan wanted by a push is told as failed.
    """
    registry, image = _image(ctx, req)
    if image.get("scan") is None:
        digest, name = image["digest"], req["repositoryName"]
        raise ServiceError(
            "ScanNotFoundException",
            f"Image scan does not exist for the image with '{{imageDigest:'{digest}'}}' in the repository with name '{name}' in the "
            f"registry with id '{registry.account}'",
        )
    return {
        "registryId": registry.account,
        "repositoryName": req["repositoryName"],
        "imageId": {"imageDigest": image["digest"]},
        "imageScanStatus": image["scan"],
    }


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


def _image(ctx: Context, req: Mapping[str, Any]) -> tuple[Context, Mapping[str, Any]]:
    ctx = in_registry(ctx, req)
    find_repository(ctx, req["repositoryName"])
    id = req["imageId"]
    image = store.find_image(ctx, req["repositoryName"], digest=id.get("imageDigest") or "", tag=id.get("imageTag") or "")
    if image is None:
        raise no_image(ctx, req["repositoryName"], dict(id))
    return ctx, image
