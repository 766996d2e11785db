"""Small images made by hand, and a registry client of the tests' own."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from pilvi.testing.server import Account

OCI = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def layer_of(files: Mapping[str, bytes]) -> bytes:
    """A compressed archive of these files."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return gzip.compress(plain.getvalue(), mtime=0)


@dataclass(frozen=True)
class Image:
    config: bytes
    layers: tuple[bytes, ...]

    @property
    def blobs(self) -> tuple[bytes, ...]:
        return (self.config, *self.layers)

    @property
    def manifest(self) -> bytes:
        content = {
            "schemaVersion": 2,
            "mediaType": OCI,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": digest(self.config),
                "size": len(self.config),
            },
            "layers": [
                {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest(layer), "size": len(layer)}
                for layer in self.layers
            ],
        }
        return json.dumps(content).encode()

    @property
    def digest(self) -> str:
        return digest(self.manifest)


def image_of(text: str) -> Image:
    """An image of one file; other text is another image."""
    layer = layer_of({"text": text.encode()})
    rootfs = {"type": "layers", "diff_ids": [digest(gzip.decompress(layer))]}
    config = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs}
    return Image(json.dumps(config).encode(), (layer,))


def upload(ecr: Any, repository: str, data: bytes) -> str:
    """A layer through the API, in parts."""
    start = ecr.initiate_layer_upload(repositoryName=repository)
    for first in range(0, len(data), start["partSize"]):
        part = data[first : first + start["partSize"]]
        ecr.upload_layer_part(
            repositoryName=repository,
            uploadId=start["uploadId"],
            partFirstByte=first,
            partLastByte=first + len(part) - 1,
            layerPartBlob=part,
        )
    done = ecr.complete_layer_upload(repositoryName=repository, uploadId=start["uploadId"], layerDigests=[digest(data)])
    return str(done["layerDigest"])


def push(ecr: Any, repository: str, image: Image, tag: str = "") -> Any:
    """An image through the API; layers that are there are not sent again."""
    wanted = [digest(blob) for blob in image.blobs]
    found = ecr.batch_check_layer_availability(repositoryName=repository, layerDigests=wanted)["layers"]
    there = {layer["layerDigest"] for layer in found if layer["layerAvailability"] == "AVAILABLE"}
    for blob in image.blobs:
        if digest(blob) not in there:
            upload(ecr, repository, blob)
    more = {"imageTag": tag} if tag else {}
    return ecr.put_image(repositoryName=repository, imageManifest=image.manifest.decode(), imageManifestMediaType=OCI, **more)[
        "image"
    ]


@dataclass
class Answer:
    status: int
    headers: Any
    body: bytes

    @property
    def error(self) -> str:
        return str(json.loads(self.body)["errors"][0]["code"])


@dataclass
class Wire:
    """The registry protocol, request by request."""

    endpoint: str
    authorization: str = ""
    host: str = ""

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.authorization:
            sent["Authorization"] = self.authorization
        if self.host:
            sent["Host"] = self.host
        url = path if path.startswith("http") else f"{self.endpoint}{path}"
        request = urllib.request.Request(url, data=body, headers=sent, method=method)
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
                return Answer(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.headers, error.read())

    def push_blob(self, repository: str, data: bytes) -> Answer:
        place = self.ask("POST", f"/v2/{repository}/blobs/uploads/", b"").headers["Location"]
        return self.ask("PUT", f"{place}?digest={digest(data)}", data)

    def push(self, repository: str, image: Image, tag: str) -> Answer:
        for blob in image.blobs:
            assert self.push_blob(repository, blob).status == 201
        return self.ask("PUT", f"/v2/{repository}/manifests/{tag}", image.manifest, Content_Type=OCI)


def login(account: Account, region: str = "", host: str = "") -> Wire:
    """Somebody with a token."""
    token = account.client("ecr", region).get_authorization_token()["authorizationData"][0]["authorizationToken"]
    return Wire(account.endpoint, f"Basic {token}", host)


def basic(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


@pytest.fixture
def ecr(aws: Account) -> Any:
    """A client with a repository called app."""
    client = aws.client("ecr")
    client.create_repository(repositoryName="app")
    return client
