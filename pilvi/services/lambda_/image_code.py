"""Functions whose code is a container image in ECR: which image is meant, and that Lambda may have it.

An image is resolved to its digest when the function is created or updated, and pulled by Lambda itself when a worker starts. A repository of
another account must let Lambda in.

Source: Lambda developer guide, "Create a Lambda function using a container image", "Amazon ECR permissions".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from pilvi.core.errors import Invalid, PilviError, ServiceError
from pilvi.jobs.image import Reference, check, find_manifest, read_reference
from pilvi.services.lambda_.names import FunctionRef, invalid
from pilvi.services.lambda_.package import Package
from pilvi.services.lambda_.role import SERVICE

if TYPE_CHECKING:
    from pilvi.core.service import Context

_OF_ZIPS: Final = ("Runtime", "Handler", "Layers")
_OVERRIDES: Final = ("EntryPoint", "Command", "WorkingDirectory")


def image_package(ctx: Context, ref: FunctionRef, uri: str) -> tuple[Package, dict[str, Any]]:
    """What stands in place of a zip, and what the record says of the image."""
    try:
        reference = read_reference(uri)
    except Invalid as error:
        raise invalid(f"Source image {uri} is not valid. Provide a valid source image.") from error
    if reference.region != ref.region:
        raise invalid(f"Source image {uri} is not in the Region of the function.")
    inside = ctx.as_service(SERVICE, source_arn=ref.arn)
    _let_in(inside, uri)
    manifest, _ = find_manifest(inside, reference)
    digest = manifest.digest
    if not reference.digest:
        digest = _pushed_digest(inside, reference) or manifest.digest
    resolved = f"{uri.partition('/')[0]}/{reference.repository}@{digest}"
    return Package("", 0, digest.partition(":")[2], 0), {"_image": uri, "_resolved": resolved}


def image_config(req: Mapping[str, Any]) -> dict[str, Any] | None:
    """What of the image is overridden; None for nothing."""
    given = req.get("ImageConfig") or {}
    found = {name: given[name] for name in _OVERRIDES if given.get(name)}
    return {"ImageConfig": found} if found else None


def check_no_zip_settings(req: Mapping[str, Any]) -> None:
    for member in _OF_ZIPS:
        if req.get(member):
            raise invalid(f"{member} is not supported for functions created with container images.")


def code_of_image(record: Mapping[str, Any]) -> dict[str, Any]:
    """GetFunction's Code."""
    return {"RepositoryType": "ECR", "ImageUri": record["_image"], "ResolvedImageUri": record["_resolved"]}


def _let_in(inside: Context, uri: str) -> None:
    """Lambda may pull: in its own account it may, of another's the repository's policy says so."""
    try:
        check(inside, uri)
    except PilviError as error:
        is_missing = isinstance(error, Invalid) or (isinstance(error, ServiceError) and error.code.endswith("NotFoundException"))
        if is_missing:
            raise invalid(f"Source image {uri} does not exist. Provide a valid source image.") from error
        raise ServiceError(
            "AccessDeniedException", "Lambda does not have permission to access the ECR image. Check the ECR permissions.", 403
        ) from error


def _pushed_digest(inside: Context, reference: Reference) -> str:
    """The digest behind a tag, of a list where one was pushed."""
    answer = inside.at(inside.account, reference.region).call(
        "ecr", "BatchGetImage", registryId=reference.account, repositoryName=reference.repository, imageIds=[reference.image_id]
    )
    images = answer.get("images") or ()
    return str(images[0]["imageId"].get("imageDigest", "")) if images else ""
