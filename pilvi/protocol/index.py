"""What routing must know of every service, read from the first lines of each model and kept in a file.

Reading 434 heads costs about a tenth of a second, the kept file a few milliseconds; whole models are read when used.
"""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import botocore
import msgspec

DATA = Path(botocore.__file__).parent / "data"
_HEAD_BYTES = 8192
_FORMAT = 2


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One service, as its model's metadata describes it."""

    name: str
    """As botocore names it."""
    folder: str
    """The version's folder: api versions are dates."""
    api_version: str
    signing_name: str
    endpoint_prefix: str
    target_prefix: str
    service_id: str
    protocol: str
    """The one botocore takes first."""
    protocols: tuple[str, ...]
    is_global: bool
    """One endpoint for all Regions."""


class _Kept(msgspec.Struct):
    botocore: str
    format: int
    entries: list[Entry]


def load_index(cache_dir: Path | None) -> list[Entry]:
    """The index, from the cache when it fits the installed botocore."""
    if cache_dir is None:
        return build_index()
    path = cache_dir / f"service-index-{botocore.__version__}.json"
    kept = _read(path)
    if kept is not None:
        return kept
    entries = build_index()
    _keep(path, entries)
    return entries


def _read(path: Path) -> list[Entry] | None:
    try:
        kept = msgspec.json.decode(path.read_bytes(), type=_Kept)
    except (OSError, msgspec.DecodeError):
        return None
    return kept.entries if (kept.botocore, kept.format) == (botocore.__version__, _FORMAT) else None


def _keep(path: Path, entries: list[Entry]) -> None:
    """Whole or not at all; a directory that cannot be written only costs time at the next start."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(f".{os.getpid()}")
        draft.write_bytes(msgspec.json.encode(_Kept(botocore.__version__, _FORMAT, entries)))
        draft.replace(path)
    except OSError:
        return


def build_index() -> list[Entry]:
    """Read every model's metadata."""
    names = sorted(folder.name for folder in os.scandir(DATA) if folder.is_dir())
    everywhere = _global_endpoints()
    found = [_entry(name, everywhere) for name in names]
    return [entry for entry in found if entry is not None]


def _global_endpoints() -> set[str]:
    """Endpoint prefixes that have one endpoint per partition. Source: botocore's endpoints data."""
    data = msgspec.json.decode(_read_json(DATA / "endpoints.json"))
    services: Mapping[str, Any] = data["partitions"][0]["services"]
    return {name for name, service in services.items() if service.get("isRegionalized") is False}


def _read_json(path: Path) -> bytes:
    packed = path.with_name(path.name + ".gz")
    return gzip.decompress(packed.read_bytes()) if packed.exists() else path.read_bytes()


def newest_version(name: str) -> str | None:
    """The folder of the newest API version, as botocore's loader takes it."""
    versions = [folder for folder in os.listdir(DATA / name) if _model_path(name, folder).parent.is_dir()]
    for version in sorted(versions, reverse=True):
        path = _model_path(name, version)
        if path.exists() or path.with_name(path.name + ".gz").exists():
            return version
    return None


def _model_path(name: str, version: str) -> Path:
    return DATA / name / version / "service-2.json"


def _entry(name: str, everywhere: Iterable[str]) -> Entry | None:
    version = newest_version(name)
    if version is None:
        return None
    metadata = _metadata(_model_path(name, version))
    prefix = metadata["endpointPrefix"]
    return Entry(
        name,
        version,
        metadata["apiVersion"],
        metadata.get("signingName", prefix),
        prefix,
        metadata.get("targetPrefix", ""),
        metadata["serviceId"],
        metadata["protocol"],
        tuple(metadata.get("protocols") or [metadata["protocol"]]),
        prefix in everywhere,
    )


def _metadata(path: Path) -> dict[str, Any]:
    """The `metadata` object, from the head of the file where it stands there."""
    head = _head(path).decode("utf-8", "ignore")
    start = head.find('"metadata"')
    try:
        found: dict[str, Any] = json.JSONDecoder().raw_decode(head, head.index("{", start))[0] if start >= 0 else {}
    except ValueError:
        found = {}
    if not found:
        found = msgspec.json.decode(_read_json(path))["metadata"]
    return found


def _head(path: Path) -> bytes:
    packed = path.with_name(path.name + ".gz")
    try:
        with packed.open("rb") as file:
            return zlib.decompressobj(wbits=31).decompress(file.read(_HEAD_BYTES), _HEAD_BYTES)
    except FileNotFoundError:
        with path.open("rb") as file:
            return file.read(_HEAD_BYTES)


def load_model(entry: Entry) -> dict[str, Any]:
    """A whole model, its prose removed, with the additions botocore's `sdk-extras` make."""
    model: dict[str, Any] = msgspec.json.decode(_read_json(_model_path(entry.name, entry.folder)))
    extras = DATA / entry.name / entry.folder / "service-2.sdk-extras.json"
    if extras.exists():
        _merge(model, msgspec.json.decode(extras.read_bytes()).get("merge", {}))
    _drop_prose(model)
    return model


def _merge(base: dict[str, Any], extra: Mapping[str, Any]) -> None:
    for key, value in extra.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            _merge(base[key], value)
        else:
            base[key] = value


def _drop_prose(model: dict[str, Any]) -> None:
    """Documentation is most of a model's memory and none of its meaning."""
    for key in ("documentation", "examples"):
        model.pop(key, None)
    for shape in model["shapes"].values():
        shape.pop("documentation", None)
        for member in shape.get("members", {}).values():
            member.pop("documentation", None)
        for key in ("member", "key", "value"):
            if key in shape:
                shape[key].pop("documentation", None)
    for operation in model["operations"].values():
        operation.pop("documentation", None)
        for key in ("input", "output"):
            if key in operation:
                operation[key].pop("documentation", None)
