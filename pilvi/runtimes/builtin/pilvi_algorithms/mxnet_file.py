"""MXNet's artefacts, which linear learner leaves in `model_algo-1`: a stored zip of symbol, parameters, and what belongs to them.

Source: the published layout of NDArray lists (magic 0x112; per array 0xF993FAC9) and models that AWS's users unpack.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

_LIST_MAGIC = 0x112
_ARRAY_MAGIC = 0xF993FAC9
_TYPES: dict[int, Any] = {0: np.dtype("<f4"), 1: np.dtype("<f8"), 4: np.dtype("<i4"), 6: np.dtype("<i8")}


def write_arrays(arrays: Mapping[str, Any]) -> bytes:
    """An NDArray list of float32 arrays with their names."""
    out = [struct.pack("<QQQ", _LIST_MAGIC, 0, len(arrays))]
    for array in arrays.values():
        values = np.ascontiguousarray(array, "<f4")
        out.append(struct.pack(f"<IiI{values.ndim}q", _ARRAY_MAGIC, 0, values.ndim, *values.shape))
        out.append(struct.pack("<iii", 1, 0, 0))  # cpu, device 0, float32
        out.append(values.tobytes())
    out.append(struct.pack("<Q", len(arrays)))
    out += [struct.pack("<Q", len(name.encode())) + name.encode() for name in arrays]
    return b"".join(out)


def read_arrays(data: bytes) -> dict[str, Any]:
    """The arrays of an NDArray list by their names."""
    stream = io.BytesIO(data)

    def take(form: str) -> tuple[Any, ...]:
        return struct.unpack("<" + form, stream.read(struct.calcsize("<" + form)))

    magic, _, count = take("QQQ")
    if magic != _LIST_MAGIC:
        raise ValueError("this is no NDArray list")
    arrays = []
    for _ in range(count):
        _, _, rank = take("IiI")
        shape = take(f"{rank}q")
        *_, kind = take("iii")
        dtype = _TYPES[kind]
        size = int(np.prod(shape)) * dtype.itemsize
        arrays.append(np.frombuffer(stream.read(size), dtype).reshape(shape))
    (names,) = take("Q")
    return {stream.read(take("Q")[0]).decode(): arrays[number] for number in range(names)}


def write_model(path: Path, arrays: Mapping[str, Any], symbol: Mapping[str, Any] | None, more: Mapping[str, Any]) -> None:
    """One zip, nothing compressed: mx-mod-symbol.json, mx-mod-0000.params, additional-params.json, manifest.json."""
    manifest = {"names": ["mx-mod"], "format": "mxnet", "epoch": 0}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        if symbol is not None:
            archive.writestr("mx-mod-symbol.json", json.dumps(symbol))
        archive.writestr("mx-mod-0000.params", write_arrays(arrays))
        archive.writestr("additional-params.json", json.dumps(more))
        archive.writestr("manifest.json", json.dumps(manifest))


def read_model(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(arrays by name, additional parameters)"""
    with zipfile.ZipFile(path) as archive:
        more = json.loads(archive.read("additional-params.json")) if "additional-params.json" in archive.namelist() else {}
        return read_arrays(archive.read("mx-mod-0000.params")), more


def fully_connected(outputs: int, head: str) -> dict[str, Any]:
    """The graph data -> fc0 -> head (sigmoid, SoftmaxOutput or nothing), as MXNet writes graphs."""
    nodes: list[dict[str, Any]] = [{"op": "null", "name": name, "inputs": []} for name in ("data", "fc0_weight", "fc0_bias")]
    nodes.append(
        {"op": "FullyConnected", "name": "fc0", "attrs": {"num_hidden": str(outputs)}, "inputs": [[0, 0, 0], [1, 0, 0], [2, 0, 0]]}
    )
    if head:
        nodes.append({"op": head, "name": "output", "inputs": [[3, 0, 0]]})
    return {
        "nodes": nodes,
        "arg_nodes": [0, 1, 2],
        "node_row_ptr": list(range(len(nodes) + 1)),
        "heads": [[len(nodes) - 1, 0, 0]],
        "attrs": {"mxnet_version": ["int", 10200]},
    }
