"""Images in one file: what `docker save`, `skopeo copy ... oci-archive:` and `podman save` write, read; and the OCI form, written."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pilvi.core.errors import Invalid
from pilvi.images.build import Image
from pilvi.images.diff import EPOCH, LEVEL, Entry, Layer, tree_entries
from pilvi.images.manifest import LISTS, OCI_INDEX, OCI_MANIFEST, choose_platform, digest_of, is_digest, read_manifest
from pilvi.images.unpack import Tree


def read_archive(path: Path, work: Path) -> Image:
    """The image in a file; Invalid when there is none. work: an empty folder for its parts."""
    folder = work / "archive"
    try:
        with path.open("rb") as file:
            Tree(folder).add_layer(iter(lambda: file.read(1 << 20), b""))
    except OSError as error:
        raise Invalid(f"{path}: {error.strerror}") from None
    if (folder / "index.json").exists():
        return _read_oci(folder)
    if (folder / "manifest.json").exists():
        return _read_docker(folder, work)
    raise Invalid(f"{path} holds no image: neither index.json nor manifest.json is in it")


def write_archive(image: Image, path: Path, tag: str, work: Path) -> None:
    """An OCI archive of one image."""
    folder = work / "layout"
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    manifest, config = image.manifest_bytes(), image.config_bytes()
    for data in (manifest, config):
        (blobs / digest_of(data).removeprefix("sha256:")).write_bytes(data)
    for layer in image.layers:
        shutil.copyfile(layer.path, blobs / layer.digest.removeprefix("sha256:"))
    entry: dict[str, Any] = {"mediaType": OCI_MANIFEST, "digest": digest_of(manifest), "size": len(manifest)}
    entry["annotations"] = {"org.opencontainers.image.ref.name": tag}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    with tarfile.open(path, "w") as archive:
        for member in sorted(tree_entries(folder), key=lambda entry: entry.path):
            _add(archive, member)


def _add(archive: tarfile.TarFile, entry: Entry) -> None:
    info = tarfile.TarInfo(entry.path)
    info.mtime = EPOCH
    assert entry.source is not None
    if entry.source.is_dir():
        info.type, info.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(info)
        return
    info.size = entry.source.stat().st_size
    with entry.source.open("rb") as file:
        archive.addfile(info, file)


def _read_oci(folder: Path) -> Image:
    index = _inside(folder, "index.json").read_bytes()
    entries = json.loads(index).get("manifests") or []
    if not entries:
        raise Invalid("the archive's index names no image")
    data = _blob(folder, str(entries[0]["digest"])).read_bytes()
    manifest = read_manifest(data, str(entries[0].get("mediaType") or ""))
    if manifest.media_type in LISTS:
        data = _blob(folder, choose_platform(data)).read_bytes()
        manifest = read_manifest(data)
    if manifest.config is None:
        raise Invalid("the archive holds a list of lists")
    config: Mapping[str, Any] = json.loads(_blob(folder, manifest.config.digest).read_bytes())
    diff_ids = config["rootfs"]["diff_ids"]
    if len(diff_ids) != len(manifest.layers):
        raise Invalid("the image's configuration and its manifest name different numbers of layers")
    layers = [
        Layer(_blob(folder, layer.digest), layer.digest, str(diff_id), layer.size)
        for layer, diff_id in zip(manifest.layers, diff_ids, strict=True)
    ]
    return Image(config, tuple(layers))


def _read_docker(folder: Path, work: Path) -> Image:
    """docker save: layers as plain archives, to be compressed."""
    entry = json.loads(_inside(folder, "manifest.json").read_bytes())[0]
    config: Mapping[str, Any] = json.loads(_inside(folder, entry["Config"]).read_bytes())
    layers = []
    for number, name in enumerate(entry["Layers"]):
        tree = work / f"repack-{number}"
        layers.append(_compressed(_inside(folder, name), tree.with_suffix(".tar.gz")))
    found = [layer.diff_id for layer in layers]
    if found != list(config["rootfs"]["diff_ids"]):
        raise Invalid("the archive's layers are not those that its configuration names")
    return Image(config, tuple(layers))


def _compressed(source: Path, target: Path) -> Layer:
    inner = hashlib.sha256()
    with source.open("rb") as file, target.open("wb") as out, gzip.GzipFile("", "wb", LEVEL, out, mtime=0) as zipped:
        while piece := file.read(1 << 20):
            inner.update(piece)
            zipped.write(piece)
    data_digest = hashlib.sha256()
    with target.open("rb") as file:
        while piece := file.read(1 << 20):
            data_digest.update(piece)
    return Layer(target, f"sha256:{data_digest.hexdigest()}", f"sha256:{inner.hexdigest()}", target.stat().st_size)


def _blob(folder: Path, digest: str) -> Path:
    if not is_digest(digest):
        raise Invalid(f"{digest} is no digest")
    return _inside(folder, f"blobs/sha256/{digest.removeprefix('sha256:')}")


def _inside(folder: Path, name: str) -> Path:
    place = (folder / name).resolve()
    if not place.is_relative_to(folder.resolve()) or not place.is_file():
        raise Invalid(f"the archive has no {name}")
    return place
