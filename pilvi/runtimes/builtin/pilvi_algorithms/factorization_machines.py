"""Factorization machines: linear weights and pairwise interactions of rank `num_factors`, for sparse data. Plain numpy and scipy.

    score(x) = w0 + w.x + (|x V|^2 - x^2 V^2) / 2       (Rendle, "Factorization machines", ICDM 2010)

Learned by Adam on mini batches; a batch moves only the rows of V whose features it has. The first host trains on all hosts' data.

Source: SageMaker Developer Guide, "Factorization machines hyperparameters". The artefact has AWS's arrays v, w1_weight and w1_bias.
Differs: a mini batch is at most a sixteenth of the rows, but at least 32; there is no symbol file beside the arrays.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pilvi_algorithms.kit import (
    CSV,
    RECORDIO,
    ChannelRule,
    ClientError,
    Run,
    Table,
    choice,
    integer,
    quality,
    real,
    request_table,
    respond,
)
from pilvi_algorithms.mxnet_file import read_model, write_model

NAME = "factorization-machines"
BINARY, REGRESSOR = "binary_classifier", "regressor"
_INIT = tuple(
    declared
    for part, sigma in (("bias", 0.01), ("linear", 0.01), ("factors", 0.001))
    for declared in (
        choice(f"{part}_init_method", "uniform", "normal", "constant", default="normal"),
        real(f"{part}_init_scale", 0),
        real(f"{part}_init_sigma", 0, default=sigma),
        real(f"{part}_init_value"),
    )
)
HYPERPARAMETERS = (
    integer("feature_dim", 1, required=True),
    integer("num_factors", 1, required=True),
    choice("predictor_type", BINARY, REGRESSOR, required=True),
    *_INIT,
    real("bias_lr", 0, default=0.1),
    real("bias_wd", 0, default=0.01),
    real("linear_lr", 0, default=0.001),
    real("linear_wd", 0, default=0.001),
    real("factors_lr", 0, default=0.0001),
    real("factors_wd", 0, default=0.00001),
    real("clip_gradient"),
    integer("epochs", 1, default=1),
    real("eps"),
    integer("mini_batch_size", 1, default=1000),
    real("rescale_grad"),
)
CHANNELS = tuple(ChannelRule(name, name == "train", (RECORDIO, CSV)) for name in ("train", "test"))
MODEL = "model_algo-1"
_SMALLEST_BATCH, _BATCHES = 32, 16


@dataclass(slots=True)
class Model:
    predictor_type: str
    bias: float
    linear: Any
    """d"""
    factors: Any
    """d x num_factors"""

    @property
    def width(self) -> int:
        return len(self.linear)

    def raw(self, x: Any) -> Any:
        through = np.asarray(x @ self.factors)
        squares = np.asarray(_squared(x) @ self.factors**2)
        return self.bias + np.asarray(x @ self.linear) + (through**2 - squares).sum(axis=1) / 2

    def scores(self, x: Any) -> Any:
        return _sigmoid(self.raw(x)) if self.predictor_type == BINARY else self.raw(x)


@dataclass(slots=True)
class Adam:
    """One array's optimizer; rows that a batch does not touch stay as they are."""

    rate: float
    decay: float
    epsilon: float
    first: Any
    second: Any
    steps: Any = field(init=False)

    def __post_init__(self) -> None:
        self.steps = np.zeros(self.first.shape[:1] or (1,))

    def move(self, values: Any, rows: Any, slope: Any) -> None:
        slope = slope + self.decay * values[rows]
        self.steps[rows] += 1
        self.first[rows] = 0.9 * self.first[rows] + 0.1 * slope
        self.second[rows] = 0.999 * self.second[rows] + 0.001 * slope**2
        count = self.steps[rows].reshape((-1,) + (1,) * (values.ndim - 1))
        values[rows] -= (
            self.rate * (self.first[rows] / (1 - 0.9**count)) / (np.sqrt(self.second[rows] / (1 - 0.999**count)) + self.epsilon)
        )


def train(run: Run) -> None:
    hp, report = run.hp, run.report
    table = run.whole_table("train", 1)
    test = run.whole_table("test", 1)
    if not run.cluster.is_leader:
        return
    assert table is not None
    check(table, hp, "train")
    x, y = table.features, table.labels.astype(np.float64)
    rows = len(table)
    batch = min(hp["mini_batch_size"], max(_SMALLEST_BATCH, rows // _BATCHES), rows)
    if batch < hp["mini_batch_size"]:
        report.say(f"Batches of {batch} rows instead of mini_batch_size {hp['mini_batch_size']}: the data have {rows} rows.")
    generator = np.random.default_rng(0)
    model = Model(
        hp["predictor_type"],
        float(_start(hp, "bias", (1,), generator)[0]),
        _start(hp, "linear", (hp["feature_dim"],), generator),
        _start(hp, "factors", (hp["feature_dim"], hp["num_factors"]), generator),
    )
    learner = Learner(model, hp)
    for epoch in range(hp["epochs"]):
        began, raw, order = time.time(), np.empty(rows), generator.permutation(rows)
        for start in range(0, rows, batch):
            chosen = order[start : start + batch]
            raw[chosen] = learner.step(x[chosen], y[chosen])
            if run.is_stopping:
                break
        found = measures(model.predictor_type, y, raw)
        report.metrics({f"train_{name}": value for name, value in found.items()}, epoch=epoch)
        for name, value in found.items():
            report.quality("train", name, value, epoch=epoch, kind=_kind(name))
        report.progress((epoch + 1) / hp["epochs"])
        report.throughput(rows, time.time() - began)
        if run.is_stopping:
            break
    if test is not None:
        check(test, hp, "test")
        for name, value in measures(model.predictor_type, test.labels, model.raw(test.features)).items():
            report.say(f"#test_score ({report.host}) : ({name!r}, {value})")
            report.quality("test", name, value, kind=_kind(name))
    save(run.model_dir / MODEL, model)


def check(table: Table, hp: dict[str, Any], channel: str) -> None:
    """Whether rows and labels are what the hyperparameters say. Raises ClientError."""
    width = hp["feature_dim"]
    if table.width > width or (table.width < width and not table.is_sparse):
        raise ClientError(f"The value of feature_dim ({width}) does not match the {table.width} features of channel '{channel}'.")
    if table.is_sparse:
        table.features.resize(len(table), width)
    if table.labels is None:
        raise ClientError(f"Channel '{channel}' has no labels.")
    if hp["predictor_type"] == BINARY and not np.isin(table.labels, (0, 1)).all():
        raise ClientError(f"Labels of a binary_classifier must be 0 or 1 in channel '{channel}'.")


def _start(hp: dict[str, Any], part: str, shape: tuple[int, ...], generator: Any) -> Any:
    method = hp[f"{part}_init_method"]
    if method == "normal":
        return generator.normal(0, hp[f"{part}_init_sigma"], shape)
    if method == "uniform":
        scale = hp[f"{part}_init_scale"] if hp[f"{part}_init_scale"] is not None else 0.001
        return generator.uniform(-scale, scale, shape)
    return np.full(shape, hp[f"{part}_init_value"] or 0.0)


class Learner:
    def __init__(self, model: Model, hp: dict[str, Any]) -> None:
        self.model, self._clip = model, hp["clip_gradient"]
        self._scale = hp["rescale_grad"] or 1.0
        self._bias = np.array([model.bias])
        epsilon = hp["eps"] or 1e-8

        def adam(part: str, like: Any) -> Adam:
            return Adam(hp[f"{part}_lr"], hp[f"{part}_wd"], epsilon, np.zeros_like(like), np.zeros_like(like))

        self._adams = adam("bias", self._bias), adam("linear", model.linear), adam("factors", model.factors)

    def step(self, x: Any, y: Any) -> Any:
        """One batch; what the model said before it."""
        model = self.model
        if isinstance(x, np.ndarray):
            columns = np.arange(x.shape[1])
        else:
            columns = np.unique(x.indices)
            x = x[:, columns]
        through = np.asarray(x @ model.factors[columns])
        squared = _squared(x)
        raw = model.bias + np.asarray(x @ model.linear[columns])
        raw += (through**2 - np.asarray(squared @ model.factors[columns] ** 2)).sum(axis=1) / 2
        error = (_sigmoid(raw) - y if model.predictor_type == BINARY else 2 * (raw - y)) / len(y)
        slopes = [
            np.array([error.sum()]),
            np.asarray(x.T @ error),
            np.asarray(x.T @ (error[:, None] * through)) - np.asarray(squared.T @ error)[:, None] * model.factors[columns],
        ]
        values = self._bias, model.linear, model.factors
        for adam, value, rows, slope in zip(self._adams, values, ([0], columns, columns), slopes, strict=True):
            slope = slope * self._scale
            adam.move(value, rows, slope if self._clip is None else np.clip(slope, -self._clip, self._clip))
        model.bias = float(self._bias[0])
        return raw


def measures(predictor_type: str, truth: Any, raw: Any) -> dict[str, float]:
    if predictor_type == REGRESSOR:
        mse = quality.mse(truth, raw)
        return {"rmse": math.sqrt(mse), "mse": mse, "absolute_loss": quality.absolute_error(truth, raw)}
    said = raw >= 0
    return {
        "binary_classification_accuracy": quality.accuracy(truth > 0, said),
        "binary_classification_cross_entropy": quality.log_loss(truth, _sigmoid(raw)),
        "binary_f_1.000": quality.f_beta(truth > 0, said),
    }


def _kind(name: str) -> str:
    return "score" if name in ("binary_classification_accuracy", "binary_f_1.000") else "loss"


def save(path: Path, model: Model) -> None:
    arrays = {"arg:v": model.factors, "arg:w1_weight": model.linear[:, None], "arg:w1_bias": np.array([model.bias])}
    write_model(path, arrays, None, {"predictor_type": model.predictor_type})


def load(model_dir: Path) -> Model:
    arrays, more = read_model(next(iter(sorted(model_dir.glob("model_algo-*")))))
    return Model(more["predictor_type"], float(arrays["arg:w1_bias"][0]), arrays["arg:w1_weight"].ravel(), arrays["arg:v"])


def predict(model: Model, body: bytes, content_type: str, accept: str) -> tuple[bytes, str]:
    """`score`, and `predicted_label` for classifiers."""
    table = request_table(body, content_type, width=model.width)
    scores = model.scores(table.features)
    if model.predictor_type == REGRESSOR:
        return respond([{"score": float(score)} for score in scores], accept)
    return respond([{"score": float(score), "predicted_label": float(score >= 0.5)} for score in scores], accept)


def _squared(x: Any) -> Any:
    return x**2 if isinstance(x, np.ndarray) else x.multiply(x).tocsr()


def _sigmoid(z: Any) -> Any:
    return 0.5 * (1 + np.tanh(0.5 * z))
