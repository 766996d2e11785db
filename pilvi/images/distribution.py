"""The registry protocol every container client speaks, over the images of a service.

    /v2/                                        am I let in
    /v2/NAME/manifests/REFERENCE                get, head, put, delete
    /v2/NAME/blobs/DIGEST                       get (ranges too), head
    /v2/NAME/blobs/uploads/ [ID]                start (or mount, or all at once), append, ask, finish, cancel
    /v2/NAME/tags/list   /v2/_catalog   /v2/NAME/referrers/DIGEST

What a registry is to whom is the Shelf's business: who calls, what they may, what a push means. Source: OCI Distribution
Specification 1.1; its error codes; Docker's token authentication.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol
from urllib.parse import parse_qs, quote, unquote

from pilvi.core.errors import AlreadyExists, Conflict, Denied, Invalid, NotFound, PilviError, ServiceError
from pilvi.core.http import Request, Response
from pilvi.core.service import Context
from pilvi.core.streams import ByteStream
from pilvi.images import layers, store
from pilvi.images.manifest import LISTS, MOST_BYTES, is_digest, is_tag

_PATH = re.compile(
    r"/v2/(?P<name>.+?)/(?:manifests/(?P<reference>[^/]+)|blobs/uploads/(?P<upload>[^/]*)|blobs/(?P<digest>[^/]+)"
    r"|tags/(?P<tags>list)|referrers/(?P<subject>[^/]+))"
)
_VERSION = ("Docker-Distribution-Api-Version", "registry/2.0")
_JSON = "application/json"
_PAGE = 1000


class Refused(Exception):
    """An answer that ends a request: status, the specification's error code, words, further headers."""

    def __init__(self, status: int, code: str, message: str, *headers: tuple[str, str]) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, headers


class Shelf(Protocol):
    """One service's images, as the protocol needs them. Every method may raise Refused or a PilviError."""

    def open(self, ctx: Context, request: Request, name: str) -> tuple[Context, str]:
        """The caller's context where the images lie, and the repository a name on the wire means ('' for none)."""

    def allow(self, ctx: Context, repository: str, *operations: str) -> None:
        """Denied unless the caller may do each; NotFound when there is no such repository. For threads."""

    def find_image(self, ctx: Context, repository: str, *, digest: str, tag: str) -> Mapping[str, Any] | None:
        """The image to pull. For threads."""

    def repositories(self, ctx: Context) -> list[str]: ...


class Distribution:
    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    async def answer(self, ctx: Context, request: Request) -> Response:
        try:
            return await self._answered(ctx, request)
        except Refused as refusal:
            return failure(refusal.status, refusal.code, refusal.message, *refusal.headers)
        except PilviError as error:
            return failure(*_told(error))

    async def _answered(self, ctx: Context, request: Request) -> Response:
        path = unquote(request.raw_path)
        if path.rstrip("/") == "/v2":
            self._shelf.open(ctx, request, "")
            return Response(200, [_VERSION, ("Content-Type", _JSON)], b"{}")
        if path == "/v2/_catalog":
            caller, _ = self._shelf.open(ctx, request, "")
            return await asyncio.to_thread(self._catalog, caller, request)
        match = _PATH.fullmatch(path)
        if match is None:
            raise Refused(404, "UNSUPPORTED", "The registry has nothing at this address.")
        caller, repository = self._shelf.open(ctx, request, match["name"])
        return await _Visit(self._shelf, caller, request, repository, match["name"]).answer(match)

    def _catalog(self, ctx: Context, request: Request) -> Response:
        return _listing(request, "/v2/_catalog", "repositories", self._shelf.repositories(ctx), {})


class _Visit:
    """One request to one repository."""

    def __init__(self, shelf: Shelf, ctx: Context, request: Request, repository: str, written: str) -> None:
        self.shelf, self.ctx, self.request, self.repository = shelf, ctx, request, repository
        self.base = f"/v2/{quote(written)}"
        """Addresses we give out keep the name as the client wrote it."""
        self.query = {name: values[-1] for name, values in parse_qs(request.query, keep_blank_values=True).items()}

    async def answer(self, match: re.Match[str]) -> Response:
        if match["upload"] is not None:
            return await self._uploads(match["upload"])
        if match["reference"] is not None and self.request.method == "PUT":
            return await self._put_manifest(match["reference"])
        method = "GET" if self.request.method == "HEAD" else self.request.method
        acts: Mapping[tuple[str, str], Callable[[str], Response]] = {
            ("GET", "reference"): self._get_manifest,
            ("DELETE", "reference"): self._delete_manifest,
            ("GET", "digest"): self._get_blob,
            ("GET", "tags"): self._list_tags,
            ("GET", "subject"): self._list_referrers,
        }
        for (wanted, part), act in acts.items():
            if method == wanted and match[part] is not None:
                return await asyncio.to_thread(act, match[part])
        raise Refused(405, "UNSUPPORTED", "The operation is unsupported.")

    def _allow(self, *operations: str) -> None:
        self.shelf.allow(self.ctx, self.repository, *operations)

    # -- manifests ----------------------------------------------------------------------------------------------------

    def _get_manifest(self, reference: str) -> Response:
        self._allow("BatchGetImage")
        digest, tag = _split(reference)
        image = self.shelf.find_image(self.ctx, self.repository, digest=digest, tag=tag)
        if image is None:
            raise Refused(404, "MANIFEST_UNKNOWN", "Requested image not found")
        headers = [("Content-Type", image["mediaType"]), ("Docker-Content-Digest", image["digest"]), _VERSION]
        return self._body(headers, ByteStream(bytes(image["manifest"])))

    async def _put_manifest(self, reference: str) -> Response:
        digest, tag = _split(reference)
        data = await _whole(self.request.body, MOST_BYTES)
        kind = self.request.header("content-type").partition(";")[0].strip()
        wanted = {
            "repositoryName": self.repository,
            "imageManifest": data.decode(errors="replace"),
            "imageManifestMediaType": kind,
            "imageTag": tag,
            "imageDigest": digest,
        }
        try:
            put = await self.ctx.acall(self.ctx.service, "PutImage", **{name: value for name, value in wanted.items() if value})
            made = put["image"]["imageId"]["imageDigest"]
        except ServiceError as error:
            if error.code != "ImageAlreadyExistsException":
                raise
            made = digest or await asyncio.to_thread(self._digest_of, tag)
        headers = [("Location", f"{self.base}/manifests/{made}"), ("Docker-Content-Digest", made), _VERSION]
        if subject := _subject_in(data):
            headers.append(("OCI-Subject", subject))
        return Response(201, headers, b"")

    def _digest_of(self, tag: str) -> str:
        image = store.find_image(self.ctx, self.repository, tag=tag)
        return "" if image is None else str(image["digest"])

    def _delete_manifest(self, reference: str) -> Response:
        digest, tag = _split(reference)
        image = {"imageDigest": digest} if digest else {"imageTag": tag}
        answer = self.ctx.call(self.ctx.service, "BatchDeleteImage", repositoryName=self.repository, imageIds=[image])
        if failures := answer["failures"]:
            code = failures[0]["failureCode"]
            raise Refused(404 if code == "ImageNotFound" else 409, "MANIFEST_UNKNOWN", failures[0]["failureReason"])
        return Response(202, [_VERSION], b"")

    # -- blobs --------------------------------------------------------------------------------------------------------

    def _get_blob(self, digest: str) -> Response:
        self._allow("BatchCheckLayerAvailability" if self.request.method == "HEAD" else "GetDownloadUrlForLayer")
        layer = layers.find_layer(self.ctx, self.repository, digest)
        if layer is None:
            raise Refused(404, "BLOB_UNKNOWN", "blob unknown to registry")
        headers = [("Content-Type", "application/octet-stream"), ("Docker-Content-Digest", digest), _VERSION]
        headers.append(("Accept-Ranges", "bytes"))
        start, end = _range_of(self.request, layer["size"])
        if (start, end) == (0, layer["size"]):
            return self._body(headers, layers.open_layer(self.ctx, layer))
        headers.append(("Content-Range", f"bytes {start}-{end - 1}/{layer['size']}"))
        return self._body(headers, layers.open_layer(self.ctx, layer, start, end), 206)

    def _body(self, headers: list[tuple[str, str]], body: ByteStream, status: int = 200) -> Response:
        headers = [*headers, ("Content-Length", str(body.length))]
        return Response(status, headers, b"" if self.request.method == "HEAD" else body)

    # -- uploads ------------------------------------------------------------------------------------------------------

    async def _uploads(self, id: str) -> Response:
        acts: Mapping[tuple[str, bool], Callable[[str], Awaitable[Response]]] = {
            ("POST", False): self._start,
            ("PATCH", True): self._append,
            ("PUT", True): self._finish,
            ("GET", True): self._status,
            ("DELETE", True): self._cancel,
        }
        act = acts.get((self.request.method, bool(id)))
        if act is None:
            raise Refused(405, "UNSUPPORTED", "The operation is unsupported.")
        return await act(id)

    async def _start(self, _id: str) -> Response:
        await asyncio.to_thread(self._allow, "InitiateLayerUpload")
        wanted = self.query.get("mount", "")
        if is_digest(wanted) and await asyncio.to_thread(self._mount, wanted, self.query.get("from", "")):
            return self._created(wanted)
        await asyncio.to_thread(layers.sweep_uploads, self.ctx)
        id = await asyncio.to_thread(layers.start_upload, self.ctx, self.repository)
        if "digest" in self.query:
            return await self._finish(id)
        return self._progress(202, id, 0)

    def _mount(self, digest: str, source: str) -> bool:
        """Take a layer over from a repository the caller may pull from; else the client uploads it, as the specification says."""
        if layers.find_layer(self.ctx, self.repository, digest) is not None:
            return True
        try:
            there, repository = self.shelf.open(self.ctx, self.request, source)
            self.shelf.allow(there, repository, "BatchCheckLayerAvailability", "GetDownloadUrlForLayer")
        except (PilviError, Refused):
            return False
        with layers.changing(self.ctx):
            if there.account != self.ctx.account or layers.find_layer(there, repository, digest) is None:
                return False
            self.ctx.write(*layers.holding(self.ctx, self.repository, [digest]))
        return True

    async def _append(self, id: str) -> Response:
        await asyncio.to_thread(self._allow, "UploadLayerPart")
        size = await asyncio.to_thread(self._size, id)
        if (found := re.match(r"(?:bytes )?(\d+)-\d+", self.request.header("content-range"))) and int(found[1]) != size:
            raise Refused(416, "BLOB_UPLOAD_INVALID", f"The upload goes on at byte {size}.", *self._place(id, size))
        return self._progress(202, id, await layers.append_stream(self.ctx, self.repository, id, self.request.body))

    async def _finish(self, id: str) -> Response:
        await asyncio.to_thread(self._allow, "UploadLayerPart", "CompleteLayerUpload")
        await asyncio.to_thread(self._size, id)
        digest = self.query.get("digest", "")
        await layers.append_stream(self.ctx, self.repository, id, self.request.body)
        try:
            await asyncio.to_thread(layers.complete, self.ctx, self.repository, id, digest)
        except layers.DigestMismatch as error:
            raise Refused(400, "DIGEST_INVALID", error.message) from None
        except AlreadyExists:
            pass
        return self._created(digest)

    async def _status(self, id: str) -> Response:
        await asyncio.to_thread(self._allow, "UploadLayerPart")
        return self._progress(204, id, await asyncio.to_thread(self._size, id))

    async def _cancel(self, id: str) -> Response:
        await asyncio.to_thread(self._allow, "UploadLayerPart")
        await asyncio.to_thread(self._size, id)
        await asyncio.to_thread(layers.cancel, self.ctx, self.repository, id)
        return Response(204, [_VERSION], b"")

    def _size(self, id: str) -> int:
        try:
            return int(layers.find_upload(self.ctx, self.repository, id)["size"])
        except NotFound:
            raise Refused(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry") from None

    def _place(self, id: str, size: int) -> tuple[tuple[str, str], ...]:
        range_ = ("Range", f"0-{max(0, size - 1)}")
        return (("Location", f"{self.base}/blobs/uploads/{id}"), range_, ("Docker-Upload-UUID", id), _VERSION)

    def _progress(self, status: int, id: str, size: int) -> Response:
        return Response(status, list(self._place(id, size)), b"")

    def _created(self, digest: str) -> Response:
        headers = [("Location", f"{self.base}/blobs/{digest}"), ("Docker-Content-Digest", digest), _VERSION]
        return Response(201, headers, b"")

    # -- lists --------------------------------------------------------------------------------------------------------

    def _list_tags(self, _list: str) -> Response:
        self._allow("ListImages")
        tags = store.tags_of(self.ctx, self.repository)
        return _listing(self.request, f"{self.base}/tags/list", "tags", tags, {"name": self.repository})

    def _list_referrers(self, subject: str) -> Response:
        self._allow("BatchGetImage")
        wanted = self.query.get("artifactType")
        found = [image for image in store.images_of(self.ctx, self.repository) if image["subject"] == subject]
        entries = [
            {
                "mediaType": image["mediaType"],
                "digest": image["digest"],
                "size": len(image["manifest"]),
                "artifactType": image["artifactType"],
                "annotations": json.loads(image["manifest"]).get("annotations") or {},
            }
            for image in found
            if not wanted or image["artifactType"] == wanted
        ]
        index = {"schemaVersion": 2, "mediaType": LISTS[0], "manifests": entries}
        headers = [("Content-Type", LISTS[0]), _VERSION]
        if wanted:
            headers.append(("OCI-Filters-Applied", "artifactType"))
        return self._body(headers, ByteStream(json.dumps(index).encode()))


def failure(status: int, code: str, message: str, *headers: tuple[str, str]) -> Response:
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
    return Response(status, [("Content-Type", _JSON), _VERSION, *headers], body)


def _told(error: PilviError) -> tuple[int, str, str]:
    """An error of the service in the protocol's words."""
    code = error.code if isinstance(error, ServiceError) else ""
    if code == "RepositoryNotFoundException" or isinstance(error, NotFound):
        return 404, "NAME_UNKNOWN", error.message
    if code.startswith("AccessDenied") or isinstance(error, Denied):
        return 403, "DENIED", error.message
    if code == "ImageTagAlreadyExistsException":
        return 400, "TAG_INVALID", error.message
    if code in ("LayersNotFoundException", "ReferencedImagesNotFoundException"):
        return 404, "MANIFEST_BLOB_UNKNOWN", error.message
    if code == "ImageDigestDoesNotMatchException":
        return 400, "DIGEST_INVALID", error.message
    if isinstance(error, Conflict):
        return 416, "BLOB_UPLOAD_INVALID", error.message
    if isinstance(error, ServiceError) and error.status is not None and error.status >= 500:
        return error.status, "UNKNOWN", error.message
    return 400, "MANIFEST_INVALID" if isinstance(error, (ServiceError, Invalid)) else "UNKNOWN", error.message


def _split(reference: str) -> tuple[str, str]:
    """(digest, tag), one of them ''."""
    if is_digest(reference):
        return reference, ""
    if not is_tag(reference):
        raise Refused(404, "MANIFEST_UNKNOWN", "Requested image not found")
    return "", reference


def _subject_in(data: bytes) -> str:
    subject = json.loads(data).get("subject") or {}
    return str(subject.get("digest") or "")


async def _whole(body: ByteStream, most: int) -> bytes:
    data = bytearray()
    async for piece in body:
        data += piece
        if len(data) > most:
            raise Refused(413, "MANIFEST_INVALID", f"A manifest has at most {most} bytes.")
    return bytes(data)


def _range_of(request: Request, size: int) -> tuple[int, int]:
    """Which bytes are asked for."""
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", request.header("range"))
    if found is None or found[0] == "bytes=-":
        return 0, size
    first = int(found[1]) if found[1] else max(0, size - int(found[2]))
    last = min(int(found[2]), size - 1) if found[1] and found[2] else size - 1
    if first >= size or first > last:
        raise Refused(416, "SIZE_INVALID", "The range lies outside the blob.", ("Content-Range", f"bytes */{size}"))
    return first, last + 1


def _listing(request: Request, path: str, noun: str, names: list[str], more: Mapping[str, Any]) -> Response:
    """One page of names, and in a Link header where the next one begins."""
    query = {name: values[-1] for name, values in parse_qs(request.query).items()}
    try:
        count = min(int(query.get("n") or _PAGE), _PAGE)
    except ValueError:
        raise Refused(400, "PAGINATION_NUMBER_INVALID", "n is a number of results.") from None
    rest = sorted(name for name in names if name > query.get("last", ""))
    headers = [("Content-Type", _JSON), _VERSION]
    if count and len(rest) > count:
        headers.append(("Link", f'<{path}?last={quote(rest[count - 1])}&n={count}>; rel="next"'))
    body = json.dumps({**more, noun: rest[:count]}).encode()
    return Response(200, headers, b"" if request.method == "HEAD" else body)
