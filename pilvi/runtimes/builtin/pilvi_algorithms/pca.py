"""Principal component analysis, by the whole covariance (regular) or a random sketch (randomized). Plain numpy.

Hosts share the work: each one adds its rows' sums (or its sketch) to the others'.

Source: SageMaker Developer Guide, "How PCA works" and "PCA hyperparameters". The artefact holds `mean`, `s` (singular values,
ascending) and `v` (d x components, the largest last), as AWS's does.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pilvi_algorithms.kit import CSV, RECORDIO, ChannelRule, ClientError, Run, choice, flag, integer, request_table, respond
from pilvi_algorithms.kit.table import Table
from pilvi_algorithms.mxnet_file import read_arrays, write_arrays

NAME = "PCA"
HYPERPARAMETERS = (
    integer("feature_dim", 1, required=True),
    integer("mini_batch_size", 1, required=True),
    integer("num_components", 1, required=True),
    choice("algorithm_mode", "regular", "randomized", default="regular"),
    integer("extra_components", -1, default=-1),
    flag("subtract_mean", default=True),
)
CHANNELS = tuple(ChannelRule(name, name == "train", (RECORDIO, CSV)) for name in ("train", "test"))
MODEL = "model_algo-1"
_BLOCK = 4096


@dataclass(frozen=True, slots=True)
class Model:
    mean: Any
    components: Any
    """d x n, the largest first."""


def train(run: Run) -> None:
    hp = run.hp
    table = run.table("train", 0)
    assert table is not None
    if table.width != hp["feature_dim"] and not (table.is_sparse and table.width < hp["feature_dim"]):
        raise ClientError(
            f"The value of feature_dim ({hp['feature_dim']}) does not match the {table.width} features of channel 'train'."
        )
    if hp["num_components"] > hp["feature_dim"]:
        raise ClientError(f"num_components ({hp['num_components']}) must not be greater than feature_dim ({hp['feature_dim']}).")
    if table.is_sparse:
        table.features.resize(len(table), hp["feature_dim"])
    began = time.time()
    count, mean = _mean(run, table)
    kept = min(hp["num_components"], int(count))
    if hp["algorithm_mode"] == "regular":
        values, vectors = _regular(run, table, mean, kept)
    else:
        values, vectors = _randomized(run, table, mean, kept)
    run.report.progress(1.0)
    run.report.throughput(len(table), time.time() - began)
    if run.cluster.is_leader:
        arrays = {"mean": mean[None, :], "s": values[::-1].copy(), "v": vectors[:, ::-1].copy()}
        (run.model_dir / MODEL).write_bytes(write_arrays(arrays))


def _blocks(table: Table, mean: Any) -> Any:
    """Centered rows, dense, some thousand at a time."""
    for start in range(0, len(table), _BLOCK):
        part = table.features[start : start + _BLOCK]
        yield (part.toarray() if table.is_sparse else part).astype(np.float64) - mean


def _mean(run: Run, table: Table) -> tuple[float, Any]:
    total = np.asarray(table.features.sum(axis=0, dtype=np.float64)).ravel()
    if not np.isfinite(total).all():
        raise ClientError("Channel 'train' has missing or infinite features.")
    count, total = run.cluster.sum([float(len(table)), total])
    return count, total / count if run.hp["subtract_mean"] else np.zeros_like(total)


def _regular(run: Run, table: Table, mean: Any, kept: int) -> tuple[Any, Any]:
    """Eigenvectors of the sum of outer products."""
    squares = sum((block.T @ block for block in _blocks(table, mean)), np.zeros((len(mean), len(mean))))
    values, vectors = np.linalg.eigh(run.cluster.sum(squares))
    return np.sqrt(np.maximum(values[::-1][:kept], 0)), _signed(vectors[:, ::-1][:, :kept])


def _randomized(run: Run, table: Table, mean: Any, kept: int) -> tuple[Any, Any]:
    """A random subspace, turned twice through the data towards their greatest spread, and the SVD within it."""
    extra = run.hp["extra_components"]
    # AWS's recommendation for -1: ten more, or as many again where components are few.
    extra = max(10, kept) if extra < 0 else extra
    size = min(kept + extra, len(mean))
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(len(mean), size)))[0]
    for _ in range(3):
        turned = sum((block.T @ (block @ basis) for block in _blocks(table, mean)), np.zeros((len(mean), size)))
        basis = np.linalg.qr(run.cluster.sum(turned))[0]
    inner = np.zeros((size, size))
    for block in _blocks(table, mean):
        part = block @ basis
        inner += part.T @ part
    values, vectors = np.linalg.eigh(run.cluster.sum(inner))
    return np.sqrt(np.maximum(values[::-1][:kept], 0)), _signed((basis @ vectors)[:, ::-1][:, :kept])


def _signed(vectors: Any) -> Any:
    """A direction has no sign of its own: the largest entry is positive, run after run."""
    largest = vectors[np.abs(vectors).argmax(axis=0), np.arange(vectors.shape[1])]
    return vectors * np.where(largest < 0, -1.0, 1.0)


def load(model_dir: Path) -> Model:
    arrays = read_arrays(next(iter(sorted(model_dir.glob("model_algo-*")))).read_bytes())
    mean, v = arrays.get("mean"), arrays["v"]
    return Model(np.zeros(v.shape[0], np.float32) if mean is None else mean.ravel(), v[:, ::-1])


def predict(model: Model, body: bytes, content_type: str, accept: str) -> tuple[bytes, str]:
    """`projection`: the coordinates along the components, the largest first."""
    table = request_table(body, content_type, width=model.components.shape[0])
    found = (table.dense() - model.mean) @ model.components
    return respond([{"projection": row.tolist()} for row in found], accept, wrapper="projections")
