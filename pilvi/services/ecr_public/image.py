"""Images of public repositories through the API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import Invalid, NotFound, ServiceError
from pilvi.core.paging import decode_token, encode_token
from pilvi.core.service import Context, Operations
from pilvi.images import store
from pilvi.images.manifest import read_manifest
from pilvi.services.ecr_public.repository import Record, find_repository, here

ops = Operations()


@ops
def put_image(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Keep a manifest whose layers were brought before, and point a tag at it; tags of public images may always be moved.

    Errors: as ECR's PutImage, but for immutable tags.
    """
    ctx = here(ctx, req)
    name, tag = req["repositoryName"], req.get("imageTag") or ""
    find_repository(ctx, name)
    data = req["imageManifest"].encode()
    try:
        manifest = read_manifest(data, req.get("imageManifestMediaType") or "")
    except Invalid as error:
        raise ServiceError("InvalidParameterException", f"Invalid parameter at 'ImageManifest': '{error.message}'") from None
    if req.get("imageDigest") and req["imageDigest"] != manifest.digest:
        raise ServiceError("ImageDigestDoesNotMatchException", "The image digest is not that of the manifest.")
    try:
        image = store.put_image(ctx, name, manifest, data, tag, may_move=lambda _tag: True, facts={"pulled": None})
    except store.SameImage:
        raise ServiceError("ImageAlreadyExistsException", f"Image with digest '{manifest.digest}' already exists") from None
    except (store.LayersMissing, store.ImagesMissing) as error:
        code = "LayersNotFoundException" if isinstance(error, store.LayersMissing) else "ReferencedImagesNotFoundException"
        raise ServiceError(code, f"Not in the repository: {', '.join(error.fields['digests'])}") from None
    id = {"imageDigest": image["digest"]} | ({"imageTag": tag} if tag else {})
    found = {"registryId": ctx.account, "repositoryName": name, "imageId": id, "imageManifest": req["imageManifest"]}
    return {"image": {**found, "imageManifestMediaType": image["mediaType"]}}


@ops
def batch_delete_image(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Take tags away, or images with all their tags; an image goes with its last tag.

    Errors: RepositoryNotFoundException. What is not there, or in a list, is told under failures.
    """
    ctx = here(ctx, req)
    name = req["repositoryName"]
    find_repository(ctx, name)
    gone: list[dict[str, str]] = []
    failures: list[Record] = []
    for id in req["imageIds"]:
        tag, digest = id.get("imageTag") or "", id.get("imageDigest") or ""
        try:
            image = store.untag(ctx, name, tag) if tag else store.delete_image(ctx, name, digest)
            gone += [{"imageDigest": image["digest"], "imageTag": tag} for tag in ([tag] if tag else image["tags"])] or [
                {"imageDigest": digest}
            ]
        except (NotFound, store.InList) as error:
            code = "ImageNotFound" if isinstance(error, NotFound) else "ImageReferencedByManifestList"
            reason = "Requested image not found" if isinstance(error, NotFound) else "Requested image referenced by manifest list"
            failures.append({"imageId": id, "failureCode": code, "failureReason": reason})
    return {"imageIds": gone, "failures": failures}


@ops
def describe_images(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is known of images: size, tags, when they were pushed.

    Errors: RepositoryNotFoundException; ImageNotFoundException - one of imageIds is not there.
    """
    ctx = here(ctx, req)
    name = req["repositoryName"]
    find_repository(ctx, name)
    if ids := req.get("imageIds"):
        return {"imageDetails": [_detail(ctx, _find(ctx, name, id)) for id in ids]}
    found, more = _paged(store.images_of(ctx, name), req)
    return {"imageDetails": [_detail(ctx, image) for image in found], "nextToken": more}


@ops
def describe_image_tags(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Every tag with its image.

    Errors: RepositoryNotFoundException.
    """
    ctx = here(ctx, req)
    name = req["repositoryName"]
    find_repository(ctx, name)
    entries = [
        {"digest": tag, "detail": {"imageTag": tag, "createdAt": image["pushed"], "imageDetail": _detail(ctx, image)}}
        for image in store.images_of(ctx, name)
        for tag in image["tags"]
    ]
    found, more = _paged(entries, req)
    return {"imageTagDetails": [entry["detail"] for entry in found], "nextToken": more}


def _find(ctx: Context, name: str, id: Mapping[str, str]) -> Record:
    image = store.find_image(ctx, name, digest=id.get("imageDigest") or "", tag=id.get("imageTag") or "")
    if image is None:
        raise ServiceError("ImageNotFoundException", f"The image does not exist within the repository with name '{name}'")
    return image


def _paged(entries: list[Record], req: Mapping[str, Any]) -> tuple[list[Record], str | None]:
    after, size = decode_token(req.get("nextToken")), req.get("maxResults") or 100
    rest = sorted((entry for entry in entries if entry["digest"] > after), key=lambda entry: str(entry["digest"]))
    return rest[:size], encode_token(rest[size - 1]["digest"]) if len(rest) > size else None


def _detail(ctx: Context, image: Mapping[str, Any]) -> Record:
    return {
        "registryId": ctx.account,
        "repositoryName": image["repository"],
        "imageDigest": image["digest"],
        "imageTags": image["tags"] or None,
        "imageSizeInBytes": image["size"],
        "imagePushedAt": image["pushed"],
        "imageManifestMediaType": image["mediaType"],
        "artifactMediaType": image["artifactType"] or None,
    }
