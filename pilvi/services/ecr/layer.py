"""Layers through the API: the steps a client takes to bring one, and where to fetch one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from pilvi.core.errors import AlreadyExists, Conflict, Invalid, NotFound, ServiceError
from pilvi.core.service import Context, Operations
from pilvi.images import layers
from pilvi.images.manifest import is_digest
from pilvi.images.password import sealed
from pilvi.services.ecr.errors import no_upload
from pilvi.services.ecr.repository import find_repository, in_registry

ops = Operations()

PART_BYTES = 10 << 20
"""What we advise. Source: the example answer of InitiateLayerUpload."""
LEAST_PART_BYTES = 5 << 20
"""Source: ECR API reference, LayerPartTooSmallException."""
URL_LIFE = timedelta(hours=1)


@ops
def batch_check_layer_availability(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Which layers the repository holds already.

    Errors: RepositoryNotFoundException. A word that is no digest is told under failures.
    """
    ctx = in_registry(ctx, req)
    find_repository(ctx, req["repositoryName"])
    found, failures = [], []
    for digest in req["layerDigests"]:
        layer = layers.find_layer(ctx, req["repositoryName"], digest) if is_digest(digest) else None
        if not is_digest(digest):
            reason = "Invalid layer digest format"
            failures.append({"layerDigest": digest, "failureCode": "InvalidLayerDigest", "failureReason": reason})
        elif layer is None:
            found.append({"layerDigest": digest, "layerAvailability": "UNAVAILABLE"})
        else:
            entry = {"layerDigest": digest, "layerAvailability": "AVAILABLE", "layerSize": layer["size"]}
            found.append({**entry, "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip"})
    return {"layers": found, "failures": failures}


@ops
def get_download_url_for_layer(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """An address of this server that gives the layer to whoever has it, for an hour.

    Errors: RepositoryNotFoundException. LayersNotFoundException - the repository does not hold it.
    """
    ctx = in_registry(ctx, req)
    name, digest = req["repositoryName"], req["layerDigest"]
    find_repository(ctx, name)
    if layers.find_layer(ctx, name, digest) is None:
        raise ServiceError(
            "LayersNotFoundException",
            f"The layer with digest '{digest}' does not exist in the repository with name '{name}' in the registry with id "
            f"'{ctx.account}'",
        )
    until = int((ctx.clock.real_now() + URL_LIFE).timestamp())
    place = {"account": ctx.account, "region": ctx.region, "repository": name, "layer": digest, "until": until}
    return {"downloadUrl": f"{ctx.cloud.endpoint}/v2/_layers/{sealed(ctx, place)}", "layerDigest": digest}


@ops
def initiate_layer_upload(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Begin to bring a layer.

    Errors: RepositoryNotFoundException.
    """
    ctx = in_registry(ctx, req)
    find_repository(ctx, req["repositoryName"])
    layers.sweep_uploads(ctx)
    return {"uploadId": layers.start_upload(ctx, req["repositoryName"]), "partSize": PART_BYTES}


@ops
def upload_layer_part(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Bring the next bytes of a layer; durable when this is answered.

    req: uploadId, partFirstByte (where the bytes begin: right behind what came before), partLastByte, layerPartBlob (20 MiB).
    Errors: RepositoryNotFoundException; UploadNotFoundException; InvalidLayerPartException - not the next bytes.
    """
    ctx = in_registry(ctx, req)
    name, id, data = req["repositoryName"], req["uploadId"], bytes(req["layerPartBlob"])
    find_repository(ctx, name)
    size = _size(ctx, name, id)
    first, last = req["partFirstByte"], req["partLastByte"]
    if first != size or last != first + len(data) - 1:
        raise _not_next(ctx, name, id, size)
    try:
        size = layers.append(ctx, name, id, (data,))
    except Conflict:
        raise _not_next(ctx, name, id, _size(ctx, name, id)) from None
    return {"registryId": ctx.account, "repositoryName": name, "uploadId": id, "lastByteReceived": size - 1}


@ops
def complete_layer_upload(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The bytes that came are a layer, if their digest is the one told.

    Errors: RepositoryNotFoundException; UploadNotFoundException; EmptyUploadException; InvalidLayerException - another digest;
    LayerPartTooSmallException - a part but the last has less than 5 MiB; LayerAlreadyExistsException.
    """
    ctx = in_registry(ctx, req)
    name, id = req["repositoryName"], req["uploadId"]
    find_repository(ctx, name)
    if _size(ctx, name, id) == 0:
        raise ServiceError("EmptyUploadException", "The specified layer upload does not contain any layer parts.")
    digest = req["layerDigests"][0]
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
    except NotFound:
        raise no_upload(ctx, name, id) from None


def _not_next(ctx: Context, name: str, id: str, size: int) -> ServiceError:
    return ServiceError(
        "InvalidLayerPartException",
        f"The layer part is not the next one: the upload has {size} bytes.",
        registryId=ctx.account,
        repositoryName=name,
        uploadId=id,
        lastValidByteReceived=size - 1,
    )
