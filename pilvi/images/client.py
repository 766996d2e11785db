"""A container client of our own: brings images to a registry and fetches them, by the protocol of distribution.py."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pilvi.core.errors import Invalid, Unavailable
from pilvi.images.build import Image
from pilvi.images.diff import Layer
from pilvi.images.manifest import LISTS, OCI_MANIFEST, SINGLE, choose_platform, digest_of, read_manifest

_PIECE = 1 << 20
_TIMEOUT_S = 300


class Registry:
    """One registry, as one caller. password: user:password as GetAuthorizationToken gives it."""

    def __init__(self, endpoint: str, password: str = "") -> None:
        parts = urlsplit(endpoint)
        self._host = parts.netloc
        self._is_secure = parts.scheme == "https"
        self._headers = {"Authorization": f"Basic {base64.b64encode(password.encode()).decode()}"} if password else {}

    def push(self, repository: str, tag: str, image: Image) -> str:
        """Bring an image; what is there already is not sent again. Gives its digest."""
        for layer in image.layers:
            if not self._has(repository, layer.digest):
                with layer.path.open("rb") as file:
                    self._upload(repository, layer.digest, file, layer.size)
        config, manifest = image.config_bytes(), image.manifest_bytes()
        if not self._has(repository, digest_of(config)):
            self._upload(repository, digest_of(config), config, len(config))
        self._ask("PUT", f"/v2/{repository}/manifests/{tag}", 201, manifest, {"Content-Type": OCI_MANIFEST})
        return digest_of(manifest)

    def pull(self, repository: str, reference: str, folder: Path) -> Image:
        """Fetch an image for this machine into a folder."""
        data = self._manifest(repository, reference)
        manifest = read_manifest(data)
        if manifest.media_type in LISTS:
            data = self._manifest(repository, choose_platform(data))
            manifest = read_manifest(data)
        if manifest.config is None:
            raise Invalid(f"{repository}:{reference} is a list of lists")
        config: Mapping[str, Any] = json.loads(self._ask("GET", f"/v2/{repository}/blobs/{manifest.config.digest}", 200))
        diff_ids = config["rootfs"]["diff_ids"]
        layers = []
        for layer, diff_id in zip(manifest.layers, diff_ids, strict=True):
            place = folder / layer.digest.removeprefix("sha256:")
            if not place.exists():
                self._fetch(f"/v2/{repository}/blobs/{layer.digest}", place)
            layers.append(Layer(place, layer.digest, str(diff_id), layer.size))
        return Image(config, tuple(layers))

    def _manifest(self, repository: str, reference: str) -> bytes:
        return self._ask("GET", f"/v2/{repository}/manifests/{reference}", 200, headers={"Accept": ", ".join((*SINGLE, *LISTS))})

    def _has(self, repository: str, digest: str) -> bool:
        with _Answer(self, "HEAD", f"/v2/{repository}/blobs/{digest}") as answer:
            return answer.status == 200

    def _upload(self, repository: str, digest: str, body: Any, size: int) -> None:
        with _Answer(self, "POST", f"/v2/{repository}/blobs/uploads/") as answer:
            answer.expect(202)
            place = answer.header("Location")
        self._ask("PATCH", place, 202, body, {"Content-Length": str(size), "Content-Type": "application/octet-stream"})
        self._ask("PUT", f"{place}?digest={digest}", 201, b"")

    def _fetch(self, path: str, place: Path) -> None:
        fresh = place.with_suffix(".part")
        with _Answer(self, "GET", path) as answer, fresh.open("wb") as file:
            answer.expect(200)
            for piece in answer.pieces():
                file.write(piece)
        fresh.replace(place)

    def _ask(self, method: str, path: str, status: int, body: Any = None, headers: Mapping[str, str] | None = None) -> bytes:
        with _Answer(self, method, path, body, headers) as answer:
            answer.expect(status)
            return b"".join(answer.pieces())

    def connect(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._is_secure else http.client.HTTPConnection
        return kind(self._host, timeout=_TIMEOUT_S)

    @property
    def headers(self) -> Mapping[str, str]:
        return self._headers


class _Answer:
    """One request and what came of it."""

    def __init__(
        self, registry: Registry, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> None:
        self._connection = registry.connect()
        try:
            self._connection.request(method, path, body, {**registry.headers, **(headers or {})})
            self._response = self._connection.getresponse()
        except OSError as error:
            self._connection.close()
            raise Unavailable(f"the registry does not answer: {error}") from error
        self.status = self._response.status

    def __enter__(self) -> _Answer:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def header(self, name: str) -> str:
        return self._response.headers.get(name, "")

    def pieces(self) -> Iterator[bytes]:
        while piece := self._response.read(_PIECE):
            yield piece

    def expect(self, status: int) -> None:
        """Invalid, in the registry's words, when it says something else."""
        if self.status == status:
            return
        data = self._response.read()
        try:
            message = "; ".join(f"{error['code']}: {error['message']}" for error in json.loads(data)["errors"])
        except (ValueError, KeyError, TypeError):
            message = data.decode(errors="replace")[:500]
        raise Invalid(f"the registry answers {self.status} {message}")
