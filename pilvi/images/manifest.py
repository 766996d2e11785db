"""What a manifest says: Docker version 2 schema 2, OCI images and artifacts, and lists of images for several platforms.

    read_manifest(bytes, media type) -> Manifest(digest, references, children, ...)

Pure. Source: OCI Image Specification 1.1, "manifest" and "image-index"; Docker's "Image Manifest Version 2, Schema 2".
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pilvi.core.errors import Invalid

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
SINGLE = (OCI_MANIFEST, DOCKER_MANIFEST)
LISTS = (OCI_INDEX, DOCKER_LIST)

MOST_BYTES = 4 << 20
"""Source: the registry's advice on manifest sizes in the OCI Distribution Specification, "Pushing Manifests"."""

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a manifest points to."""

    digest: str
    size: int
    media_type: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What matters of a manifest to whoever keeps it."""

    digest: str
    media_type: str
    config: Descriptor | None
    layers: tuple[Descriptor, ...]
    children: tuple[Descriptor, ...]
    """Manifests of a list."""
    subject: str
    """The digest of the manifest this one tells something about (a signature, an SBOM); '' for none."""
    artifact_type: str

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        return (self.config, *self.layers) if self.config is not None else self.layers

    @property
    def size_bytes(self) -> int:
        """What a client that has nothing yet would download."""
        return sum(layer.size for layer in self.layers)


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def is_digest(text: str) -> bool:
    return DIGEST.fullmatch(text) is not None


def is_tag(text: str) -> bool:
    return TAG.fullmatch(text) is not None


def read_manifest(data: bytes, media_type: str = "") -> Manifest:
    """The manifest; Invalid, with the reason, when it is none. media_type: what its sender says it is, if anything."""
    try:
        content = json.loads(data)
    except ValueError:
        raise Invalid("Invalid JSON syntax") from None
    if not isinstance(content, dict) or content.get("schemaVersion") != 2:
        raise Invalid("unsupported manifest: only schema version 2 is understood")
    kind = str(content.get("mediaType") or media_type or _guess(content))
    if media_type and content.get("mediaType") and media_type != content["mediaType"]:
        raise Invalid(f"the manifest says it is {content['mediaType']}, its sender says {media_type}")
    if kind in LISTS:
        children = _descriptors(content.get("manifests"), "manifests")
        return Manifest(digest_of(data), kind, None, (), children, _subject(content), str(content.get("artifactType") or ""))
    if kind not in SINGLE:
        raise Invalid(f"unsupported manifest media type: {kind}")
    config = _descriptor(content.get("config"), "config")
    layers = _descriptors(content.get("layers"), "layers")
    artifact = str(content.get("artifactType") or config.media_type)
    return Manifest(digest_of(data), kind, config, layers, (), _subject(content), artifact)


def choose_platform(index: bytes, machine: str = "") -> str:
    """The digest of the image for this machine's architecture in a list; Invalid when there is none."""
    wanted = {"x86_64": "amd64", "aarch64": "arm64"}.get(machine or platform.machine(), machine or platform.machine())
    entries = [entry for entry in json.loads(index).get("manifests") or () if isinstance(entry, Mapping)]
    found = [entry for entry in entries if _platform(entry) == ("linux", wanted)]
    if not found:
        there = sorted({"/".join(_platform(entry)) for entry in entries})
        raise Invalid(f"no image for linux/{wanted} in the manifest list; there are: {', '.join(there) or 'none'}")
    return str(found[0]["digest"])


def _platform(entry: Mapping[str, Any]) -> tuple[str, str]:
    found = entry.get("platform") or {}
    return str(found.get("os") or "unknown"), str(found.get("architecture") or "unknown")


def _guess(content: Mapping[str, Any]) -> str:
    return OCI_INDEX if "manifests" in content else OCI_MANIFEST


def _subject(content: Mapping[str, Any]) -> str:
    return _descriptor(content["subject"], "subject").digest if content.get("subject") else ""


def _descriptors(entries: Any, name: str) -> tuple[Descriptor, ...]:
    if not isinstance(entries, Sequence) or isinstance(entries, str):
        raise Invalid(f"the manifest has no list of {name}")
    return tuple(_descriptor(entry, name) for entry in entries)


def _descriptor(entry: Any, name: str) -> Descriptor:
    if not isinstance(entry, Mapping) or not is_digest(str(entry.get("digest"))) or not isinstance(entry.get("size"), int):
        raise Invalid(f"the manifest's {name} names no digest and size")
    return Descriptor(entry["digest"], entry["size"], str(entry.get("mediaType") or ""))
