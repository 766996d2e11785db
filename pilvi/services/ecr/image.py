"""Images through the API: manifests put, got, listed, described and deleted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pilvi.core.errors import Invalid, NotFound, ServiceError
from pilvi.core.paging import decode_token, encode_token
from pilvi.core.service import Context, Operations
from pilvi.images import store
from pilvi.images.manifest import is_digest, is_tag, read_manifest
from pilvi.services.ecr import errors, replication
from pilvi.services.ecr.expiry import evaluate_if_due
from pilvi.services.ecr.image_action import telling, wake
from pilvi.services.ecr.pull_through import fetched
from pilvi.services.ecr.repository import Record, find_repository, in_registry, may_move
from pilvi.services.ecr.scanning import scan_after_push, scan_status

ops = Operations()


@ops
def put_image(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Keep a manifest whose layers were brought before, and point a tag at it.

    req: imageManifest (4 MiB), imageManifestMediaType, imageTag, imageDigest (refused when the manifest has another).
    Errors: RepositoryNotFoundException; InvalidParameterException - no manifest; ImageDigestDoesNotMatchException;
    LayersNotFoundException, ReferencedImagesNotFoundException - what it names is not here; ImageAlreadyExistsException - this
    image has this tag; ImageTagAlreadyExistsException - the tag is another image's and may not be moved.
    """
    ctx = in_registry(ctx, req)
    name, tag = req["repositoryName"], req.get("imageTag") or ""
    repository = find_repository(ctx, name)
    data = req["imageManifest"].encode()
    try:
        manifest = read_manifest(data, req.get("imageManifestMediaType") or "")
    except Invalid as error:
        raise errors.bad_parameter("ImageManifest", error.message) from None
    if tag and not is_tag(tag):
        raise errors.bad_parameter("imageTag", "must satisfy regular expression '[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}'")
    if (wanted := req.get("imageDigest")) and wanted != manifest.digest:
        raise ServiceError("ImageDigestDoesNotMatchException", f"The image digest {wanted} is not that of the manifest.")
    facts = {"pulled": None, "layers": [layer.digest for layer in manifest.layers]}
    try:
        told = telling(ctx, name, manifest.digest, "PUSH", [tag] if tag else ())
        image = store.put_image(ctx, name, manifest, data, tag, *told, may_move=lambda tag: may_move(repository, tag), facts=facts)
    except store.SameImage:
        raise errors.image_exists(ctx, name, manifest.digest, tag) from None
    except store.TagTaken:
        raise errors.tag_taken(name, tag) from None
    except store.LayersMissing as error:
        raise errors.missing(ctx, "LayersNotFoundException", "Layers", name, error.fields["digests"]) from None
    except store.ImagesMissing as error:
        raise errors.missing(ctx, "ReferencedImagesNotFoundException", "Images", name, error.fields["digests"]) from None
    wake(ctx)
    replication.replicate(ctx, repository, image, tag)
    scan_after_push(ctx, repository, image)
    return {"image": _image(ctx, image, tag)}


@ops
def batch_get_image(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Manifests by digest or tag.

    req: imageIds (at most 100), acceptedMediaTypes.
    Errors: RepositoryNotFoundException. Images that are not there are told under failures.
    """
    ctx, name = _opened(ctx, req)
    images: list[Record] = []
    failures: list[Record] = []
    for id in req["imageIds"]:
        image = _fetched(ctx, name, id) or _wanted(ctx, name, id, failures)
        if image is not None:
            store.note_pull(ctx, image)
            images.append(_image(ctx, image, id.get("imageTag") or ""))
    return {"images": images, "failures": failures}


@ops
def batch_delete_image(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Take tags away, or images with all their tags; an image goes with its last tag. Layers nothing needs any more go too.

    req: imageIds (at most 100).
    Errors: RepositoryNotFoundException. Images that are not there, or that a list refers to, are told under failures.
    """
    ctx, name = _opened(ctx, req)
    gone: list[dict[str, str]] = []
    failures: list[Record] = []
    # Lists first: what they refer to may then go in the same call.
    found = [(id, image) for id in req["imageIds"] if (image := _wanted(ctx, name, id, failures)) is not None]
    for id, image in sorted(found, key=lambda pair: not pair[1]["children"]):
        tag, digest = id.get("imageTag") or "", image["digest"]
        try:
            if tag:
                store.untag(ctx, name, tag, *telling(ctx, name, digest, "DELETE", [tag]))
                gone.append({"imageDigest": digest, "imageTag": tag})
            else:
                image = store.delete_image(ctx, name, digest, *telling(ctx, name, digest, "DELETE", image["tags"]))
                gone += [{"imageDigest": digest, "imageTag": tag} for tag in image["tags"]] or [{"imageDigest": digest}]
        except store.InList as error:
            reason = f"Requested image referenced by manifest list: [{', '.join(error.fields['lists'])}]"
            failures.append(_failure(id, "ImageReferencedByManifestList", reason))
        except NotFound:
            failures.append(_failure(id, "ImageNotFound", "Requested image not found"))
    wake(ctx)
    return {"imageIds": gone, "failures": failures}


@ops
def describe_images(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is known of images: size, tags, when they were pushed and pulled.

    req: imageIds (at most 100), or filter.tagStatus (TAGGED, UNTAGGED, ANY), maxResults (1-1000), nextToken.
    Errors: RepositoryNotFoundException; ImageNotFoundException - one of imageIds is not there.
    """
    ctx, name = _opened(ctx, req)
    if ids := req.get("imageIds"):
        return {"imageDetails": [_detail(ctx, find_image(ctx, name, id)) for id in ids]}
    found, more = paged(store.images_of(ctx, name), req, _chosen(req))
    return {"imageDetails": [_detail(ctx, image) for image in found], "nextToken": more}


@ops
def list_images(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Digests and tags: an entry for each tag, and for each image without one.

    req: filter.tagStatus, maxResults (1-1000), nextToken.
    Errors: RepositoryNotFoundException.
    """
    ctx, name = _opened(ctx, req)
    chosen = _chosen(req)
    entries = [
        {"digest": f"{image['digest']} {tag}", "id": {"imageDigest": image["digest"]} | ({"imageTag": tag} if tag else {})}
        for image in store.images_of(ctx, name)
        if chosen(image)
        for tag in image["tags"] or [""]
    ]
    found, more = paged(entries, req)
    return {"imageIds": [entry["id"] for entry in found], "nextToken": more}


@ops
def list_image_referrers(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """What was pushed about an image: signatures, bills of material.

    req: subjectId.imageDigest, filter.artifactTypes, maxResults (1-50), nextToken.
    Errors: RepositoryNotFoundException.
    """
    ctx, name = _opened(ctx, req)
    kinds = (req.get("filter") or {}).get("artifactTypes")
    subject = req["subjectId"]["imageDigest"]
    found, more = paged(
        store.images_of(ctx, name),
        {"maxResults": req.get("maxResults") or 50, "nextToken": req.get("nextToken")},
        lambda image: image["subject"] == subject and (not kinds or image["artifactType"] in kinds),
    )
    referrers = [
        {
            "digest": image["digest"],
            "mediaType": image["mediaType"],
            "artifactType": image["artifactType"],
            "size": len(image["manifest"]),
            "artifactStatus": "ACTIVE",
        }
        for image in found
    ]
    return {"referrers": referrers, "nextToken": more}


# -- for the other nouns --------------------------------------------------------------------------------------------------


def find_image(ctx: Context, name: str, id: Mapping[str, str] | None) -> Record:
    """The image of an id; ImageNotFoundException when there is none."""
    id = dict(id or {})
    image = store.find_image(ctx, name, digest=id.get("imageDigest") or "", tag=id.get("imageTag") or "")
    if image is None:
        raise errors.no_image(ctx, name, id)
    return image


def paged(
    entries: Sequence[Record], req: Mapping[str, Any], chosen: Callable[[Record], bool] = lambda _: True
) -> tuple[list[Record], str | None]:
    """One page of entries that have a `digest` to stand in order by, and the token of the next."""
    after, size = decode_token(req.get("nextToken")), req.get("maxResults") or 100
    rest = [entry for entry in entries if entry["digest"] > after and chosen(entry)]
    rest.sort(key=lambda entry: str(entry["digest"]))
    return rest[:size], encode_token(rest[size - 1]["digest"]) if len(rest) > size else None


def _opened(ctx: Context, req: Mapping[str, Any]) -> tuple[Context, str]:
    """The registry's context and the repository's name, once what has expired there is gone."""
    ctx, name = in_registry(ctx, req), req["repositoryName"]
    find_repository(ctx, name)
    evaluate_if_due(ctx, name)
    return ctx, name


def _chosen(req: Mapping[str, Any]) -> Callable[[Record], bool]:
    wanted = (req.get("filter") or {}).get("tagStatus") or "ANY"
    return lambda image: wanted == "ANY" or bool(image["tags"]) == (wanted == "TAGGED")


def _wanted(ctx: Context, name: str, id: Mapping[str, str], failures: list[Record]) -> Record | None:
    """The image of an id, or what is wrong with the id among the failures."""
    digest, tag = id.get("imageDigest") or "", id.get("imageTag") or ""
    if not digest and not tag:
        reason = "Invalid request parameters: both tag and digest cannot be null"
        failures.append(_failure(id, "MissingDigestAndTag", reason))
    elif digest and not is_digest(digest):
        failures.append(_failure(id, "InvalidImageDigest", "Invalid request parameters: image digest should satisfy the regex"))
    elif (image := store.find_image(ctx, name, digest=digest, tag=tag)) is not None:
        return image
    elif digest and tag and store.find_image(ctx, name, tag=tag) is not None:
        failures.append(_failure(id, "ImageTagDoesNotMatchDigest", "Requested image tag does not match the digest"))
    else:
        failures.append(_failure(id, "ImageNotFound", "Requested image not found"))
    return None


def _fetched(ctx: Context, name: str, id: Mapping[str, str]) -> Record | None:
    """An image that is not here yet, if a pull-through cache rule brings it."""
    digest, tag = id.get("imageDigest") or "", id.get("imageTag") or ""
    if not (digest or tag) or store.find_image(ctx, name, digest=digest, tag=tag) is not None:
        return None
    return fetched(ctx, name, digest=digest, tag=tag)


def _failure(id: Mapping[str, str], code: str, reason: str) -> Record:
    return {"imageId": dict(id), "failureCode": code, "failureReason": reason}


def _image(ctx: Context, image: Mapping[str, Any], tag: str) -> Record:
    return {
        "registryId": ctx.account,
        "repositoryName": image["repository"],
        "imageId": {"imageDigest": image["digest"]} | ({"imageTag": tag} if tag else {}),
        "imageManifest": bytes(image["manifest"]).decode(),
        "imageManifestMediaType": image["mediaType"],
    }


def _detail(ctx: Context, image: Mapping[str, Any]) -> Record:
    return {
        "registryId": ctx.account,
        "repositoryName": image["repository"],
        "imageDigest": image["digest"],
        "imageTags": image["tags"] or None,
        "imageSizeInBytes": image["size"] or sum(_sizes(ctx, image)),
        "imagePushedAt": image["pushed"],
        "imageManifestMediaType": image["mediaType"],
        "artifactMediaType": image["artifactType"] or None,
        "lastRecordedPullTime": image.get("pulled"),
        "subjectManifestDigest": image["subject"] or None,
        "imageScanStatus": scan_status(ctx, image),
        "imageScanFindingsSummary": _summary(image),
    }


def _summary(image: Mapping[str, Any]) -> Record | None:
    found = image.get("findings")
    return {name: value for name, value in found.items() if name != "findings"} if found else None


def _sizes(ctx: Context, image: Mapping[str, Any]) -> list[int]:
    """The sizes of the images in a list."""
    found = (store.find_image(ctx, image["repository"], digest=digest) for digest in image["children"])
    return [child["size"] for child in found if child is not None]
