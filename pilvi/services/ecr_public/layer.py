"""Layers of public repositories through the API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import AlreadyExists, Conflict, Invalid, NotFound, ServiceError
from pilvi.core.service import Context, Operations
from pilvi.images import layers
from pilvi.images.manifest import is_digest
from pilvi.services.ecr_public.repository import find_repository, here

ops = Operations()

PART_BYTES = 10 << 20
LEAST_PART_BYTES = 5 << 20
"""Source: ECR Public API reference, LayerPartTooSmallException."""


@ops
def batch_check_layer_availability(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Which layers the repository holds already.

    Errors: RepositoryNotFoundException. A word that is no digest is told under failures.
    """
    ctx = here(ctx, req)
    find_repository(ctx, req["repositoryName"])
    found, failures = [], []
    for digest in req["layerDigests"]:
        if not is_digest(digest):
            reason = "Invalid layer digest format"
            failures.append({"layerDigest": digest, "failureCode": "InvalidLayerDigest", "failureReason": reason})
        elif (layer := layers.find_layer(ctx, req["repositoryName"], digest)) is None:
            found.append({"layerDigest": digest, "layerAvailability": "UNAVAILABLE"})
        else:
            found.append({"layerDigest": digest, "layerAvailability": "AVAILABLE", "layerSize": layer["size"]})
    return {"layers": found, "failures": failures}


@ops
def initiate_layer_upload(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Begin to bring a layer.

    Errors: RepositoryNotFoundException.
    """
    ctx = here(ctx, req)
    find_repository(ctx, req["repositoryName"])
    layers.sweep_uploads(ctx)
    return {"uploadId": layers.start_upload(ctx, req["repositoryName"]), "partSize": PART_BYTES}


@ops
def upload_layer_part(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Bring the next bytes of a layer; durable when this is answered.

    Errors: RepositoryNotFoundException; UploadNotFoundException; InvalidLayerPartException - not the next bytes.
    """
    ctx = here(ctx, req)
    name, id, data = req["repositoryName"], req["uploadId"], bytes(req["layerPartBlob"])
    find_repository(ctx, name)
    size, first = _size(ctx, name, id), req["partFirstByte"]
    if first != size or req["partLastByte"] != first + len(data) - 1:
        raise _not_next(ctx, name, id, size)
    try:
        size = layers.append(ctx, name, id, (data,))
    except Conflict:
        raise _not_next(ctx, name, id, _size(ctx, name, id)) from None
    return {"registryId": ctx.account, "repositoryName": name, "uploadId": id, "lastByteReceived": size - 1}


@ops
def complete_layer_upload(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The bytes that came are a layer, if their digest is the one told.

    Errors: as ECR's CompleteLayerUpload.
    """
    ctx = here(ctx, req)
    name, id, digest = req["repositoryName"], req["uploadId"], req["layerDigests"][0]
    find_repository(ctx, name)
    if _size(ctx, name, id) == 0:
        raise ServiceError("EmptyUploadException", "The specified layer upload does not contain any layer parts.")
    try:
        layers.complete(ctx, name, id, digest, smallest_part=LEAST_PART_BYTES)
    except AlreadyExists as error:
        raise ServiceError("LayerAlreadyExistsException", error.message) from None
    except layers.DigestMismatch as error:
        raise ServiceError("InvalidLayerException", error.message) from None
    except Invalid as error:
        raise ServiceError("LayerPartTooSmallException", error.message) from None
    return {"registryId": ctx.account, "repositoryName": name, "uploadId": id, "layerDigest": digest}


def _size(ctx: Context, name: str, id: str) -> int:
    try:
        return int(layers.find_upload(ctx, name, id)["size"])
    except NotFound as error:
        raise ServiceError("UploadNotFoundException", error.message) from None


def _not_next(ctx: Context, name: str, id: str, size: int) -> ServiceError:
    return ServiceError(
        "InvalidLayerPartException",
        f"The layer part is not the next one: the upload has {size} bytes.",
        registryId=ctx.account,
        repositoryName=name,
        uploadId=id,
        lastValidByteReceived=size - 1,
    )
