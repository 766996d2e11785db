"""K nearest neighbours: sample, reduce dimensions, keep the points, compare. Plain numpy.

The index holds `sample_size` points drawn evenly from all hosts' rows; faiss.Flat compares with every one. With faiss.IVFFlat and
faiss.IVFPQ a coarse k-means puts points into lists, of which a query reads the nearest `faiss_index_ivf_...` ones.

Source: SageMaker Developer Guide, "How the k-NN algorithm works" and "k-NN hyperparameters".
Differs: IVFPQ keeps whole points rather than codes, so answers are those of IVFFlat and the model is larger.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
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
    accept_type,
    choice,
    integer,
    quality,
    request_table,
    respond,
)
from pilvi_algorithms.kmeans import _nearest, _plus_plus, checked, lloyd

NAME = "AWS/KNN"
HYPERPARAMETERS = (
    integer("feature_dim", 1, required=True),
    integer("k", 1, required=True),
    choice("predictor_type", "classifier", "regressor", required=True),
    integer("sample_size", 1, required=True),
    integer("dimension_reduction_target", 1),
    choice("dimension_reduction_type", "sign", "fjlt"),
    integer("faiss_index_ivf_nlists", 1, auto=True),
    integer("faiss_index_pq_m", 1),
    choice("index_metric", "COSINE", "INNER_PRODUCT", "L2", default="L2"),
    choice("index_type", "faiss.Flat", "faiss.IVFFlat", "faiss.IVFPQ", default="faiss.Flat"),
    integer("mini_batch_size", 1, default=5000),
    integer("iteration_size", 1),
)
CHANNELS = tuple(ChannelRule(name, name == "train", (RECORDIO, CSV)) for name in ("train", "test"))
MODEL = "model_algo-1"
_PROBED = 8
"""So many of the nearest lists a query reads (all where there are fewer)."""


@dataclass(slots=True)
class Model:
    points: Any
    """n x d after reduction (and of length one for COSINE), float32."""
    labels: Any
    k: int
    predictor_type: str
    metric: str
    width: int
    """Features of a request."""
    projection: Any = None
    """What reduces dimensions: width x d, or None."""
    centers: Any = None
    lists: Any = None
    """The list of each point, where there are lists."""

    def reduced(self, rows: Any) -> Any:
        found = rows if self.projection is None else (rows @ self.projection).astype(np.float32)
        if self.metric == "COSINE":
            found = found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
        return found

    def neighbours(self, rows: Any, k: int | None = None) -> tuple[Any, Any]:
        """(distances, numbers of points) of each row's nearest, the nearest first: squared L2, or the negative product."""
        rows, k = self.reduced(rows), min(k or self.k, len(self.points))
        distances, numbers = np.empty((len(rows), k), np.float32), np.empty((len(rows), k), np.int64)
        block = max(1, 8_000_000 // len(self.points))
        for start in range(0, len(rows), block):
            part = slice(start, start + block)
            d = self._distances(rows[part])
            near = np.argpartition(d, k - 1, axis=1)[:, :k]
            values = np.take_along_axis(d, near, axis=1)
            # Equally near points in their own order, so that answers do not change from run to run.
            order = np.lexsort((near, values), axis=1)
            distances[part], numbers[part] = np.take_along_axis(values, order, axis=1), np.take_along_axis(near, order, axis=1)
        return distances, numbers

    def _distances(self, rows: Any) -> Any:
        products = rows @ self.points.T
        if self.metric == "L2":
            found = (rows**2).sum(axis=1)[:, None] + (self.points**2).sum(axis=1) - 2 * products
            found = np.maximum(found, 0)
        else:
            found = -products
        if self.centers is not None and len(self.centers) > _PROBED:
            far = ((rows[:, None, :] - self.centers) ** 2).sum(axis=2)
            probed = np.argpartition(far, _PROBED - 1, axis=1)[:, :_PROBED]
            is_read = np.zeros(far.shape, bool)
            np.put_along_axis(is_read, probed, True, axis=1)
            found = np.where(is_read[:, self.lists], found, np.inf)
        return found

    def predict(self, numbers: Any) -> Any:
        """The commonest label of the neighbours (the nearest's of equally common ones), or their mean."""
        labels = self.labels[numbers]
        if self.predictor_type == "regressor":
            return labels.mean(axis=1)
        same = (labels[:, :, None] == labels[:, None, :]).sum(axis=2)
        return labels[np.arange(len(labels)), same.argmax(axis=1)]


def train(run: Run) -> None:
    hp = run.hp
    _check(hp)
    table = run.table("train", 1)
    assert table is not None
    sample = run.cluster.gather(_share(run, table))
    test = run.whole_table("test", 1)
    if sample is None:
        return
    rows, labels = (np.concatenate(column) for column in zip(*sample, strict=True))
    if len(rows) < hp["k"]:
        raise ClientError(f"k ({hp['k']}) must not be greater than the {len(rows)} points of the index.")
    model = Model(np.zeros((0, 0), np.float32), labels, hp["k"], hp["predictor_type"], hp["index_metric"], hp["feature_dim"])
    model.projection = _projection(hp)
    model.points = model.reduced(rows)
    if hp["index_type"] != "faiss.Flat":
        model.centers, model.lists = _lists(model.points, hp["faiss_index_ivf_nlists"])
    run.report.say(f"The index holds {len(rows)} points of {model.points.shape[1]} dimensions.")
    run.report.progress(1.0)
    if test is not None:
        _tell(run, model, test)
    save(run.model_dir / MODEL, model)


def _check(hp: dict[str, Any]) -> None:
    target = hp["dimension_reduction_target"]
    if hp["dimension_reduction_type"] is not None and target is None:
        raise ClientError("dimension_reduction_target must be set when dimension_reduction_type is.")
    if target is not None and not 0 < target < hp["feature_dim"]:
        raise ClientError(
            f"dimension_reduction_target ({target}) must be greater than 0 and less than feature_dim ({hp['feature_dim']})."
        )
    parts = hp["faiss_index_pq_m"]
    if hp["index_type"] == "faiss.IVFPQ" and parts is not None and (target or hp["feature_dim"]) % parts:
        raise ClientError(f"faiss_index_pq_m ({parts}) must divide the dimension of the index ({target or hp['feature_dim']}).")


def _share(run: Run, table: Table) -> tuple[Any, Any]:
    """This host's part of the sample: as many of `sample_size` as it has of all rows."""
    rows = checked(table, run.hp["feature_dim"], "train")
    if table.labels is None:
        raise ClientError("Channel 'train' has no labels.")
    total = int(run.cluster.sum(len(rows)))
    wanted = min(len(rows), -(-run.hp["sample_size"] * len(rows) // total))
    chosen = np.random.default_rng(run.cluster.rank).permutation(len(rows))[:wanted]
    chosen.sort()
    return rows[chosen], table.labels[chosen]


def _projection(hp: dict[str, Any]) -> Any:
    """Random signs, or a fast Johnson-Lindenstrauss transform (signs, a Hadamard turn, a sample) written out as a matrix."""
    if hp["dimension_reduction_type"] is None:
        return None
    width, target, generator = hp["feature_dim"], hp["dimension_reduction_target"], np.random.default_rng(0)
    if hp["dimension_reduction_type"] == "sign":
        return (generator.choice((-1.0, 1.0), (width, target)) / np.sqrt(target)).astype(np.float32)
    size = 1 << (width - 1).bit_length()
    turn = np.ones((1, 1))
    while len(turn) < size:
        turn = np.block([[turn, turn], [turn, -turn]])
    signs = generator.choice((-1.0, 1.0), width)
    columns = generator.choice(size, target, replace=False)
    return (signs[:, None] * turn[:width][:, columns] / np.sqrt(target)).astype(np.float32)


def _lists(points: Any, wanted: Any) -> tuple[Any, Any]:
    count = int(np.sqrt(len(points))) if wanted == AUTO else wanted
    count = max(1, min(count, len(points)))
    generator = np.random.default_rng(0)
    some = points[generator.permutation(len(points))[: count * 256]]
    weights = np.ones(len(some))
    centers, _ = lloyd(some, weights, _plus_plus(some, weights, count, generator), 20, 1e-3)
    return centers.astype(np.float32), _nearest(points, centers)[0]


def _tell(run: Run, model: Model, test: Table) -> None:
    if test.labels is None:
        raise ClientError("Channel 'test' has no labels.")
    predicted = model.predict(model.neighbours(checked(test, model.width, "test"))[1])
    if model.predictor_type == "classifier":
        name, value = "accuracy", quality.accuracy(test.labels, predicted)
    else:
        name, value = "mse", quality.mse(test.labels, predicted)
    run.report.score("test", name, value)


def save(path: Path, model: Model) -> None:
    arrays = {
        "points": model.points,
        "labels": model.labels,
        "projection": model.projection,
        "centers": model.centers,
        "lists": model.lists,
    }
    about = {"k": model.k, "predictor_type": model.predictor_type, "metric": model.metric, "width": model.width}
    with path.open("wb") as file:
        np.savez(file, about=np.array(json.dumps(about)), **{name: array for name, array in arrays.items() if array is not None})


def load(model_dir: Path) -> Model:
    with np.load(next(iter(sorted(model_dir.glob("model_algo-*")))), allow_pickle=False) as found:
        about = json.loads(str(found["about"]))
        more = {name: found[name] for name in ("projection", "centers", "lists") if name in found}
        return Model(found["points"], found["labels"], about["k"], about["predictor_type"], about["metric"], about["width"], **more)


def predict(model: Model, body: bytes, content_type: str, accept: str) -> tuple[bytes, str]:
    """`predicted_label`; with `verbose=true` also distances and labels of the neighbours, the nearest first."""
    table = request_table(body, content_type, width=model.width)
    distances, numbers = model.neighbours(table.dense())
    predicted = model.predict(numbers)
    if not accept_type(accept).is_set("verbose"):
        return respond([{"predicted_label": float(label)} for label in predicted], accept)
    shown = np.sqrt(distances) if model.metric == "L2" else -distances
    return respond(
        [
            {"predicted_label": float(label), "distances": far.tolist(), "labels": model.labels[near].tolist()}
            for label, far, near in zip(predicted, shown, numbers, strict=True)
        ],
        accept,
    )
