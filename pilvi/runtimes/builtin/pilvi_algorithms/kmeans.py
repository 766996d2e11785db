"""K-means: many centers found in a stream of batches, reduced to k by Lloyd's algorithm. Plain numpy.

As AWS's: K = k x extra_center_factor centers learn from mini batches with counts as their inertia (`half_life_time_size` lets old
points fade); at the end weighted Lloyd runs (`local_lloyd_*`) bring K to k. Every host learns from its own rows; the first host gathers
all hosts' centers with their weights and reduces them together, which is AWS's way too.

Source: SageMaker Developer Guide, "How k-means clustering works" and "K-means hyperparameters".
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from pilvi_algorithms.kit import (
    AUTO,
    CSV,
    RECORDIO,
    ChannelRule,
    ClientError,
    Run,
    Table,
    choice,
    flag,
    integer,
    json_value,
    real,
    request_table,
    respond,
)
from pilvi_algorithms.mxnet_file import read_arrays, write_arrays

NAME = "AWS/KMeansWebscale"
HYPERPARAMETERS = (
    integer("k", 2, required=True),
    integer("feature_dim", 1, required=True),
    integer("epochs", 1, default=1),
    json_value("eval_metrics", default=["msd"]),
    integer("extra_center_factor", 1, auto=True),
    integer("half_life_time_size", 0, default=0),
    choice("init_method", "random", "kmeans++", default="random"),
    choice("local_lloyd_init_method", "random", "kmeans++", default="kmeans++"),
    integer("local_lloyd_max_iter", 1, default=300),
    integer("local_lloyd_num_trials", 1, auto=True),
    real("local_lloyd_tol", 0, default=0.0001),
    integer("mini_batch_size", 1, default=5000),
    flag("force_dense", default=True),  # the SDK sends it; rows are dense here anyway
)
CHANNELS = tuple(ChannelRule(name, name == "train", (RECORDIO, CSV)) for name in ("train", "test"))
MODEL = "model_algo-1"


def train(run: Run) -> None:
    hp = run.hp
    if wrong := [name for name in hp["eval_metrics"] if name not in ("msd", "ssd")]:
        raise ClientError(
            "Invalid value for hyperparameter 'eval_metrics'", f"'{wrong[0]}' is not one of ['msd', 'ssd']", "ValidationError"
        )
    table = run.table("train", 0)
    assert table is not None
    rows = checked(table, hp["feature_dim"], "train")
    if int(run.cluster.sum(len(rows))) < hp["k"]:
        raise ClientError(f"The training data have {len(rows)} rows, fewer than k = {hp['k']}.")
    generator = np.random.default_rng(run.cluster.rank)
    centers, weights = _streamed(run, rows, _extra(hp, len(rows)), generator)
    parts = run.cluster.gather((centers, weights))
    test = run.whole_table("test", 0)
    if parts is None:
        return
    centers, weights = (np.concatenate(column) for column in zip(*parts, strict=True))
    centers = _reduced(centers, weights, hp, np.random.default_rng(0))
    run.report.quality("train", "msd", float(np.mean(_nearest(rows, centers)[1])))
    if test is not None:
        distances = _nearest(checked(test, hp["feature_dim"], "test"), centers)[1]
        found = {"msd": float(distances.mean()), "ssd": float(distances.sum())}
        for name in hp["eval_metrics"]:
            run.report.say(f"#test_score ({run.report.host}) : ({name!r}, {found[name]})")
            run.report.quality("test", name, found[name])
    (run.model_dir / MODEL).write_bytes(write_arrays({"centers": centers.astype(np.float32)}))


def checked(table: Table, width: int, channel: str) -> Any:
    """Dense rows of the promised width."""
    if table.width > width or (table.width < width and not table.is_sparse):
        raise ClientError(f"The value of feature_dim ({width}) does not match the {table.width} features of channel '{channel}'.")
    if table.is_sparse:
        table.features.resize(len(table), width)
    rows = table.dense().astype(np.float32, copy=False)
    if not np.isfinite(rows).all():
        raise ClientError(f"Channel '{channel}' has missing or infinite features.")
    return rows


def _extra(hp: dict[str, Any], rows: int) -> int:
    """How many centers the stream has. auto: enough for the reduction to choose, never more than rows."""
    factor = hp["extra_center_factor"]
    if factor == AUTO:
        factor = max(1, min(50, 4000 // hp["k"], rows // (4 * hp["k"])))
    return int(min(rows, max(hp["k"], hp["k"] * factor))) if rows >= hp["k"] else rows


def _streamed(run: Run, rows: Any, count: int, generator: Any) -> tuple[Any, Any]:
    """(centers, weights) after all epochs of mini batches."""
    hp, report = run.hp, run.report
    batch = min(hp["mini_batch_size"], len(rows))
    first = rows[generator.choice(len(rows), min(len(rows), max(batch, count)), replace=False)]
    centers = _plus_plus(first, np.ones(len(first)), count, generator) if hp["init_method"] == "kmeans++" else first[:count].copy()
    centers = centers.astype(np.float64)
    weights = np.zeros(count)
    fade = 0.5 ** (batch / hp["half_life_time_size"]) if hp["half_life_time_size"] else 1.0
    for epoch in range(hp["epochs"]):
        began, total = time.time(), 0.0
        order = generator.permutation(len(rows))
        for start in range(0, len(rows), batch):
            points = rows[order[start : start + batch]]
            closest, distances = _nearest(points, centers)
            total += float(distances.sum())
            weights *= fade
            sums, counts = _sums(points, closest, np.ones(len(points)), count)
            moved = counts > 0
            weights[moved] += counts[moved]
            centers[moved] += (sums[moved] - counts[moved, None] * centers[moved]) / weights[moved, None]
            if run.is_stopping:
                break
        report.metrics({"train_msd": total / len(rows)}, epoch=epoch)
        report.quality("train", "msd", total / len(rows), epoch=epoch)
        report.progress((epoch + 1) / hp["epochs"])
        report.throughput(len(rows), time.time() - began)
        if run.is_stopping:
            break
    used = weights > 0
    return centers[used], weights[used]


def _reduced(centers: Any, weights: Any, hp: dict[str, Any], generator: Any) -> Any:
    """The best k of several weighted Lloyd runs."""
    k = hp["k"]
    if len(centers) <= k:
        spare = centers[generator.integers(len(centers), size=k - len(centers))]
        return np.concatenate([centers, spare])
    trials = hp["local_lloyd_num_trials"] if hp["local_lloyd_num_trials"] != AUTO else 10
    best, least = centers[:k], np.inf
    for _ in range(trials):
        if hp["local_lloyd_init_method"] == "kmeans++":
            found = _plus_plus(centers, weights, k, generator)
        else:
            found = centers[generator.choice(len(centers), k, replace=False)]
        found, cost = lloyd(centers, weights, found, hp["local_lloyd_max_iter"], hp["local_lloyd_tol"])
        if cost < least:
            best, least = found, cost
    return best


def lloyd(points: Any, weights: Any, centers: Any, most: int, tolerance: float) -> tuple[Any, float]:
    """(centers, weighted sum of squared distances) when they gain less than `tolerance` of the cost."""
    last = np.inf
    for _ in range(most):
        closest, distances = _nearest(points, centers)
        cost = float((weights * distances).sum())
        sums, counts = _sums(points, closest, weights, len(centers))
        moved = counts > 0
        centers = centers.copy()
        centers[moved] = sums[moved] / counts[moved, None]
        # A center nobody is nearest to takes the point that stands worst.
        for empty in np.flatnonzero(~moved):
            worst = int(np.argmax(weights * distances))
            centers[empty], distances[worst] = points[worst], 0
        if last - cost <= tolerance * max(cost, 1e-12):
            break
        last = cost
    return centers, cost


def _plus_plus(points: Any, weights: Any, count: int, generator: Any) -> Any:
    """Each next center with a chance that grows with its squared distance from those there are."""
    chosen = [int(generator.choice(len(points), p=weights / weights.sum()))]
    distances = ((points - points[chosen[0]]) ** 2).sum(axis=1)
    while len(chosen) < count:
        chance = weights * distances
        total = chance.sum()
        next_one = int(generator.choice(len(points), p=chance / total)) if total > 0 else int(generator.integers(len(points)))
        chosen.append(next_one)
        distances = np.minimum(distances, ((points - points[next_one]) ** 2).sum(axis=1))
    return np.asarray(points[chosen], np.float64)


def _sums(points: Any, closest: Any, weights: Any, count: int) -> tuple[Any, Any]:
    """(sum of points, sum of weights) by center."""
    order = np.argsort(closest, kind="stable")
    counts = np.bincount(closest, weights, minlength=count)
    starts = np.searchsorted(closest[order], np.arange(count))
    padded = np.concatenate([points[order] * weights[order, None], np.zeros((1, points.shape[1]))])
    sums = np.add.reduceat(padded, starts, axis=0)
    sums[counts == 0] = 0
    return sums, counts


def _nearest(rows: Any, centers: Any) -> tuple[Any, Any]:
    """(number of the nearest center, squared distance to it), a block of rows at a time."""
    squares = (centers**2).sum(axis=1)
    closest, distances = np.empty(len(rows), np.int64), np.empty(len(rows))
    block = max(1, 4_000_000 // max(1, len(centers)))
    for start in range(0, len(rows), block):
        part = rows[start : start + block]
        d = squares - 2 * (part @ centers.T)
        closest[start : start + block] = d.argmin(axis=1)
        exact = part - centers[closest[start : start + block]]
        distances[start : start + block] = np.einsum("ij,ij->i", exact, exact)
    return closest, distances


def load(model_dir: Path) -> Any:
    """The centers, k x d."""
    return next(iter(read_arrays(next(iter(sorted(model_dir.glob("model_algo-*")))).read_bytes()).values()))


def predict(model: Any, body: bytes, content_type: str, accept: str) -> tuple[bytes, str]:
    """The nearest center's number and the distance to it (not squared)."""
    table = request_table(body, content_type, width=model.shape[1])
    closest, distances = _nearest(table.dense(), model)
    return respond(
        [
            {"closest_cluster": float(number), "distance_to_cluster": float(distance)}
            for number, distance in zip(closest, np.sqrt(distances), strict=True)
        ],
        accept,
    )
