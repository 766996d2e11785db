"""Linear learner: many linear models at once by stochastic gradient descent, of which the best is kept. Plain numpy.

All models (learning rate x weight decay x L1) are columns of one matrix, so a step for all of them is two matrix products. Features
and, for regression, labels are normalized; the saved weights are those of the raw data. Hosts train together: each takes batches
of its own rows, and gradients are added up.

Source: SageMaker Developer Guide, "How linear learner works" and "Linear learner hyperparameters".
Differs: the grids that `auto` stands for are ours. A mini batch is at most a sixteenth of the rows, but at least 32: on small data
AWS's default of 1,000 would leave a handful of steps. All rows calibrate and scale, whatever num_calibration_samples and
num_point_for_scaler say.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pilvi_algorithms import mxnet_file
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
    quality,
    real,
    request_table,
    respond,
    text,
)

NAME = "Linear Learner"
BINARY, MULTICLASS, REGRESSOR = "binary_classifier", "multiclass_classifier", "regressor"
REGRESSION_LOSSES = (
    "squared_loss",
    "absolute_loss",
    "eps_insensitive_squared_loss",
    "eps_insensitive_absolute_loss",
    "quantile_loss",
    "huber_loss",
)

HYPERPARAMETERS = (
    integer("feature_dim", 1, auto=True),
    choice("predictor_type", BINARY, MULTICLASS, REGRESSOR, required=True),
    integer("num_classes", 3, 1_000_000, required_when=("predictor_type", MULTICLASS)),
    integer("accuracy_top_k", 1, default=3),
    flag("balance_multiclass_weights", default=False),
    real("beta_1", 0, 1, auto=True, open_high=True),
    real("beta_2", 0, 1, auto=True, open_high=True),
    real("bias_lr_mult", 0, auto=True, open_low=True),
    real("bias_wd_mult", 0, auto=True),
    choice(
        "binary_classifier_model_selection_criteria",
        "accuracy",
        "f_beta",
        "f1",
        "precision_at_target_recall",
        "recall_at_target_precision",
        "cross_entropy_loss",
        "loss_function",
        default="accuracy",
    ),
    integer("early_stopping_patience", 1, default=3),
    real("early_stopping_tolerance", 0, default=0.001, open_low=True),
    integer("epochs", 1, default=15),
    real("f_beta", 0, default=1.0, open_low=True),
    real("huber_delta", 0, default=1.0),
    real("init_bias", default=0.0),
    choice("init_method", "uniform", "normal", default="uniform"),
    real("init_scale", 0, default=0.07, open_low=True),
    real("init_sigma", 0, default=0.01, open_low=True),
    real("l1", 0, auto=True),
    real("learning_rate", 0, auto=True, open_low=True),
    choice("loss", "auto", "logistic", "hinge_loss", "softmax_loss", *REGRESSION_LOSSES, default="auto"),
    real("loss_insensitivity", 0, default=0.01, open_low=True),
    real("lr_scheduler_factor", 0, 1, auto=True, open_low=True, open_high=True),
    real("lr_scheduler_minimum_lr", 0, auto=True, open_low=True),
    integer("lr_scheduler_step", 1, auto=True),
    real("margin", 0, default=1.0, open_low=True),
    integer("mini_batch_size", 1, default=1000),
    real("momentum", 0, 1, auto=True, open_high=True),
    flag("normalize_data", auto=True),
    flag("normalize_label", auto=True),
    integer("num_calibration_samples", 1, auto=True),
    integer("num_models", 1, auto=True),
    integer("num_point_for_scaler", 1, default=10_000),
    choice("optimizer", "auto", "sgd", "adam", "rmsprop", default="auto"),
    text("positive_example_weight_mult", default="1.0"),
    real("quantile", 0, 1, default=0.5, open_low=True, open_high=True),
    real("target_precision", 0, 1, default=0.8),
    real("target_recall", 0, 1, default=0.8),
    flag("unbias_data", auto=True),
    flag("unbias_label", auto=True),
    flag("use_bias", default=True),
    flag("use_lr_scheduler", default=True),
    real("wd", 0, auto=True),
)
CHANNELS = tuple(ChannelRule(name, name == "train", (RECORDIO, CSV)) for name in ("train", "validation", "test"))

MODEL = "model_algo-1"
_MOST_NUMBERS = 20_000_000
"""So many weights of all models together at most."""
_SMALLEST_BATCH, _BATCHES = 32, 16
_LOSS_NAMES = {"logistic": "binary_classification_cross_entropy", "softmax_loss": "multiclass_cross_entropy"}


@dataclass(slots=True)
class Scaling:
    """What normalizes features and labels, and takes it back."""

    mean: Any
    deviation: Any
    label_mean: float = 0.0
    label_deviation: float = 1.0

    def features(self, x: Any) -> Any:
        return (x - self.mean) / self.deviation if isinstance(x, np.ndarray) else x.multiply(1 / self.deviation).tocsr()

    def labels(self, y: Any) -> Any:
        return (y - self.label_mean) / self.label_deviation

    def raw(self, weights: Any, bias: Any) -> tuple[Any, Any]:
        """Weights (d x outputs) and bias for data as they come."""
        weights = weights / self.deviation[:, None] * self.label_deviation
        return weights, bias * self.label_deviation + self.label_mean - self.mean @ weights


# -- training -------------------------------------------------------------------------------------------------------------


def train(run: Run) -> None:
    hp = run.hp
    loss = loss_for(hp)
    table = run.table("train", 1)
    assert table is not None
    check(table, hp, "train")
    validation = run.whole_table("validation", 1)
    if validation is not None:
        check(validation, hp, "validation")
    scaling = _scaling(run, table, hp)
    models = Models(hp, loss, table.width, _positive_weight(run, table, hp), _class_weights(run, table, hp))
    run.report.say(f"Training {models.count} models in parallel with loss {loss} and optimizer {models.optimizer}.")
    best = _epochs(run, models, table, validation, scaling)
    if not run.cluster.is_leader:
        run.whole_table("test", 1)
        return
    judged = validation or table
    chosen = _selected(run, models, best, judged, scaling)
    _tell(run, chosen, validation, "validation")
    if (test := run.whole_table("test", 1)) is not None:
        check(test, hp, "test")
        _tell(run, chosen, test, "test")
    _tell(run, chosen, table, "train")
    save(run.model_dir / MODEL, chosen)


def loss_for(hp: dict[str, Any]) -> str:
    """The loss function. Raises ClientError where it does not fit the kind of prediction."""
    allowed = {BINARY: ("logistic", "hinge_loss"), MULTICLASS: ("softmax_loss",), REGRESSOR: REGRESSION_LOSSES}[
        hp["predictor_type"]
    ]
    if hp["loss"] == AUTO:
        return allowed[0]
    if hp["loss"] not in allowed:
        raise ClientError(
            "Invalid value for hyperparameter 'loss'",
            f"'{hp['loss']}' is not one of {list(allowed)} for predictor_type {hp['predictor_type']}",
            "ValidationError",
        )
    return str(hp["loss"])


def check(table: Table, hp: dict[str, Any], channel: str) -> None:
    """Whether labels and width are what the hyperparameters say. Raises ClientError."""
    if table.labels is None:
        raise ClientError(f"Channel '{channel}' has no labels.")
    if hp["feature_dim"] != AUTO and table.width != hp["feature_dim"]:
        raise ClientError(
            f"The value of feature_dim ({hp['feature_dim']}) does not match the {table.width} features of channel '{channel}'."
        )
    labels = table.labels
    if not np.isfinite(labels).all():
        raise ClientError(f"Channel '{channel}' has labels that are not numbers.")
    if hp["predictor_type"] == BINARY and not np.isin(labels, (0, 1)).all():
        raise ClientError(f"Labels of a binary_classifier must be 0 or 1; channel '{channel}' has {_first_not(labels, (0, 1))}.")
    if hp["predictor_type"] == MULTICLASS:
        whole = (labels == np.floor(labels)) & (labels >= 0) & (labels < hp["num_classes"])
        if not whole.all():
            raise ClientError(
                f"Labels of a multiclass_classifier must be integers from 0 to num_classes - 1 = {hp['num_classes'] - 1}; "
                f"channel '{channel}' has {labels[~whole][0]:g}."
            )
    if not table.is_sparse and not np.isfinite(table.features).all():
        raise ClientError(f"Channel '{channel}' has missing or infinite features. Linear learner does not take them.")


def _first_not(values: Any, allowed: tuple[int, ...]) -> str:
    return f"{values[~np.isin(values, allowed)][0]:g}"


def _scaling(run: Run, table: Table, hp: dict[str, Any]) -> Scaling:
    """Means and deviations over all hosts' rows."""
    x = table.features
    squares = x.multiply(x) if table.is_sparse else x.astype(np.float64) ** 2
    sums = [np.asarray(part.sum(axis=0), np.float64).ravel() for part in (x, squares)]
    y = table.labels.astype(np.float64)
    count, total, square, label, label_square = run.cluster.sum([len(table), *sums, y.sum(), (y**2).sum()])
    mean = total / count
    deviation = np.sqrt(np.maximum(square / count - mean**2, 0))
    deviation[deviation < 1e-8] = 1.0
    centers = not table.is_sparse if hp["unbias_data"] == AUTO else hp["unbias_data"] and not table.is_sparse
    if hp["normalize_data"] is False:
        deviation, centers = np.ones_like(mean), False
    scaling = Scaling((mean if centers else np.zeros_like(mean)).astype(np.float32), deviation.astype(np.float32))
    is_regression = hp["predictor_type"] == REGRESSOR
    if is_regression and hp["normalize_label"] is not False:
        if hp["unbias_label"] is not False:
            scaling.label_mean = float(label / count)
        scaling.label_deviation = float(np.sqrt(max(label_square / count - (label / count) ** 2, 0))) or 1.0
    return scaling


def _positive_weight(run: Run, table: Table, hp: dict[str, Any]) -> float:
    given = hp["positive_example_weight_mult"].strip().lower()
    if given in ("balanced", AUTO) and hp["predictor_type"] == BINARY:
        positives, count = run.cluster.sum([float(table.labels.sum()), float(len(table))])
        return float((count - positives) / positives) if positives else 1.0
    try:
        return 1.0 if given in ("balanced", AUTO) else float(given)
    except ValueError:
        raise ClientError(
            "Invalid value for hyperparameter 'positive_example_weight_mult'",
            f"'{given}' is not of type 'number'",
            "ValidationError",
        ) from None


def _class_weights(run: Run, table: Table, hp: dict[str, Any]) -> Any:
    if hp["predictor_type"] != MULTICLASS or not hp["balance_multiclass_weights"]:
        return None
    counts = run.cluster.sum(np.bincount(table.labels.astype(int), minlength=hp["num_classes"]).astype(float))
    return (counts.sum() / (len(counts) * np.maximum(counts, 1))).astype(np.float32)


def _epochs(run: Run, models: Models, table: Table, validation: Table | None, scaling: Scaling) -> Any:
    """Train until it gets no better; the loss of every model on the data that decide."""
    hp, report = run.hp, run.report
    rows, most = len(table), max(run.cluster.broadcast(run.cluster.gather(len(table))))
    batch = min(hp["mini_batch_size"], max(_SMALLEST_BATCH, most // _BATCHES), most)
    if batch < hp["mini_batch_size"]:
        report.say(f"Batches of {batch} rows instead of mini_batch_size {hp['mini_batch_size']}: the data have {most} rows.")
    steps = math.ceil(most / batch)
    models.plan(steps * hp["epochs"])
    features, labels = scaling.features(table.features), scaling.labels(table.labels).astype(np.float32)
    held_out = None if validation is None else (scaling.features(validation.features), scaling.labels(validation.labels))
    generator = np.random.default_rng(run.cluster.rank)
    names = f"{_LOSS_NAMES.get(models.loss, models.loss)}_objective"
    best_so_far, since, judged = math.inf, 0, np.full(models.count, math.inf)
    for epoch in range(hp["epochs"]):
        began, total = time.time(), np.zeros(models.count)
        for chosen in _batches(rows, batch, steps, generator):
            total += models.step(features[chosen], labels[chosen], run.cluster)
        told = total / steps
        judged = told if held_out is None else models.losses(*held_out)
        best = int(np.nanargmin(np.where(np.isfinite(judged), judged, math.inf)))
        for number in range(models.count):
            report.metrics({f"train_{names}": float(told[number])}, epoch=epoch, model=number)
        report.quality("train", names, float(told[best]), epoch=epoch)
        if held_out is not None:
            report.quality("validation", names, float(judged[best]), epoch=epoch)
        report.say(
            f"#early_stopping_criteria_metric: host={report.host}, epoch={epoch}, criteria={names}, value={float(judged[best])}"
        )
        report.progress((epoch + 1) / hp["epochs"])
        report.throughput(rows, time.time() - began)
        worst_allowed = best_so_far - abs(best_so_far) * hp["early_stopping_tolerance"] if math.isfinite(best_so_far) else math.inf
        since = 0 if judged[best] < worst_allowed else since + 1
        best_so_far = min(best_so_far, float(judged[best]))
        if run.cluster.broadcast(since >= hp["early_stopping_patience"] or run.is_stopping):
            report.say(f"Stopping after epoch {epoch}: " + ("asked to." if run.is_stopping else "the loss gets no better."))
            break
    return judged


def _batches(rows: int, size: int, steps: int, generator: Any) -> Iterator[Any]:
    """So many batches of shuffled rows; a host with fewer rows than the others takes some twice."""
    order = generator.permutation(rows)
    needed = steps * size
    if needed > rows and steps > 1:
        order = np.concatenate([order] * (needed // rows + 1))[: max(needed, rows)] if rows < (steps - 1) * size + 1 else order
    for step in range(steps):
        yield np.sort(order[step * size : (step + 1) * size])


class Models:
    """All models as columns: weights d x (count * outputs)."""

    def __init__(self, hp: dict[str, Any], loss: str, width: int, positive_weight: float, class_weights: Any) -> None:
        self.hp, self.loss = hp, loss
        self.outputs = hp["num_classes"] if hp["predictor_type"] == MULTICLASS else 1
        self.grid = _grid(hp, width * self.outputs)
        self.count = len(self.grid)
        self.optimizer = "adam" if hp["optimizer"] == AUTO else hp["optimizer"]
        generator = np.random.default_rng(0)
        shape = (width, self.count * self.outputs)
        if hp["init_method"] == "uniform":
            self.weights = generator.uniform(-hp["init_scale"], hp["init_scale"], shape).astype(np.float32)
        else:
            self.weights = generator.normal(0, hp["init_sigma"], shape).astype(np.float32)
        self.bias = np.full(shape[1], hp["init_bias"] if hp["use_bias"] else 0, np.float32)
        self._rate, self._decay, self._l1 = (
            np.repeat(np.array(column, np.float32), self.outputs) for column in zip(*self.grid, strict=True)
        )
        self._moments = [np.zeros_like(part) for part in (self.weights, self.weights, self.bias, self.bias)]
        self._positive_weight, self._class_weights = positive_weight, class_weights
        self._steps, self._planned = 0, 1

    def plan(self, steps: int) -> None:
        self._planned = max(steps, 1)

    def outputs_of(self, x: Any) -> Any:
        """n x count x outputs"""
        return np.asarray(x @ self.weights + self.bias).reshape(x.shape[0], self.count, self.outputs)

    def losses(self, x: Any, y: Any) -> Any:
        """The mean loss of every model."""
        total = np.zeros(self.count)
        for start in range(0, x.shape[0], 4096):
            part = slice(start, start + 4096)
            total += self._loss(self.outputs_of(x[part]), y[part])[0]
        return total / x.shape[0]

    def step(self, x: Any, y: Any, cluster: Any) -> Any:
        """One batch, on all hosts together; the mean loss of every model before it."""
        losses, slope = self._loss(self.outputs_of(x), y)
        slope = slope.reshape(len(y), -1).astype(np.float32)
        parts = [losses, np.asarray(x.T @ slope), slope.sum(axis=0), len(y)]
        losses, weights, bias, count = cluster.sum(parts)
        self._move(weights / count + self._decay * self.weights, bias / count + self._bias_decay() * self.bias)
        return losses / count

    def _bias_decay(self) -> Any:
        return self._decay * (0 if self.hp["bias_wd_mult"] == AUTO else self.hp["bias_wd_mult"])

    def _loss(self, z: Any, y: Any) -> tuple[Any, Any]:
        """(sum of losses by model, slope by output): z is n x count x outputs, y is n."""
        if self.loss == "softmax_loss":
            return self._softmax(z, y.astype(int))
        z, y = z[:, :, 0], y[:, None]
        if self.loss == "logistic":
            weight = np.where(y > 0, self._positive_weight, 1.0)
            value = weight * (np.logaddexp(0, z) - y * z)
            slope = weight * (_sigmoid(z) - y)
        elif self.loss == "hinge_loss":
            weight, sign = np.where(y > 0, self._positive_weight, 1.0), 2 * y - 1
            short = self.hp["margin"] - sign * z
            value, slope = weight * np.maximum(short, 0), weight * np.where(short > 0, -sign, 0)
        else:
            value, slope = self._regression(z - y)
        return value.sum(axis=0), slope[:, :, None]

    def _softmax(self, z: Any, y: Any) -> tuple[Any, Any]:
        shifted = z - z.max(axis=2, keepdims=True)
        p = np.exp(shifted)
        p /= p.sum(axis=2, keepdims=True)
        rows = np.arange(len(y))
        weight = np.ones(len(y), np.float32) if self._class_weights is None else self._class_weights[y]
        value = -np.log(np.maximum(p[rows, :, y], 1e-30)) * weight[:, None]
        p[rows, :, y] -= 1
        return value.sum(axis=0), p * weight[:, None, None]

    def _regression(self, error: Any) -> tuple[Any, Any]:
        size, sign, hp = np.abs(error), np.sign(error), self.hp
        if self.loss == "squared_loss":
            return error**2, 2 * error
        if self.loss == "absolute_loss":
            return size, sign
        if self.loss == "quantile_loss":
            slope = np.where(error > 0, 1 - hp["quantile"], -hp["quantile"])
            return slope * error, slope
        if self.loss == "huber_loss":
            delta = hp["huber_delta"]
            near = size <= delta
            return np.where(near, error**2 / 2, delta * (size - delta / 2)), np.where(near, error, delta * sign)
        beyond = np.maximum(size - hp["loss_insensitivity"], 0)
        if self.loss == "eps_insensitive_squared_loss":
            return beyond**2, 2 * beyond * sign
        return beyond, np.where(beyond > 0, sign, 0)

    def _move(self, weights: Any, bias: Any) -> None:
        """One step of the optimizer with this step's rate."""
        self._steps += 1
        rate = self._rate * self._schedule()
        first, second, bias_first, bias_second = self._moments
        self.weights -= rate * self._direction(weights, first, second)
        shrink = rate * self._l1
        if shrink.any():
            self.weights = np.sign(self.weights) * np.maximum(np.abs(self.weights) - shrink, 0)
        if self.hp["use_bias"]:
            faster = 10.0 if self.hp["bias_lr_mult"] == AUTO else self.hp["bias_lr_mult"]
            # A rate above one is of no use to an optimizer whose steps have a length of their own.
            self.bias -= np.minimum(rate * faster, np.maximum(rate, 0.1)) * self._direction(bias, bias_first, bias_second)

    def _direction(self, slope: Any, first: Any, second: Any) -> Any:
        hp = self.hp
        if self.optimizer == "sgd":
            first *= 0.9 if hp["momentum"] == AUTO else hp["momentum"]
            first += slope
            return np.clip(first, -10, 10)
        beta_1 = 0.9 if hp["beta_1"] == AUTO else hp["beta_1"]
        beta_2 = (0.999 if self.optimizer == "adam" else 0.9) if hp["beta_2"] == AUTO else hp["beta_2"]
        second *= beta_2
        second += (1 - beta_2) * slope**2
        if self.optimizer == "rmsprop":
            return slope / (np.sqrt(second) + 1e-6)
        first *= beta_1
        first += (1 - beta_1) * slope
        return first / (1 - beta_1**self._steps) / (np.sqrt(second / (1 - beta_2**self._steps)) + 1e-8)

    def _schedule(self) -> Any:
        """What the rate is multiplied by: AWS's staircase where given, else down to a hundredth along a cosine."""
        hp = self.hp
        if not hp["use_lr_scheduler"]:
            return 1.0
        if hp["lr_scheduler_factor"] == AUTO and hp["lr_scheduler_step"] == AUTO:
            return 0.01 + 0.99 * (1 + math.cos(math.pi * min(self._steps / self._planned, 1))) / 2
        factor = 0.99 if hp["lr_scheduler_factor"] == AUTO else hp["lr_scheduler_factor"]
        step = 100 if hp["lr_scheduler_step"] == AUTO else hp["lr_scheduler_step"]
        least = 1e-5 if hp["lr_scheduler_minimum_lr"] == AUTO else hp["lr_scheduler_minimum_lr"]
        return np.maximum(factor ** (self._steps // step), np.minimum(least / self._rate, 1))


def _grid(hp: dict[str, Any], size: int) -> list[tuple[float, float, float]]:
    """(learning rate, weight decay, L1) of each model; what is given is not varied."""
    rates = (0.1, 0.02, 0.5, 0.005) if hp["learning_rate"] == AUTO else (hp["learning_rate"],)
    decays = (0.0, 1e-4, 1e-2) if hp["wd"] == AUTO else (hp["wd"],)
    ones = (0.0, 1e-5, 1e-3) if hp["l1"] == AUTO else (hp["l1"],)
    grid = [
        (rate, decay, one)
        for decay in decays
        for one in ones
        if not (decay and one and hp["wd"] == hp["l1"] == AUTO)
        for rate in rates
    ]
    wanted = 32 if hp["num_models"] == AUTO else hp["num_models"]
    grid = (grid * math.ceil(wanted / len(grid)))[:wanted] if hp["num_models"] != AUTO else grid[:wanted]
    return grid[: max(1, _MOST_NUMBERS // size)]


# -- the best model -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Linear:
    """One model on raw data."""

    predictor_type: str
    loss: str
    weights: Any
    """d x outputs"""
    bias: Any
    threshold: float = 0.5
    f_beta: float = 1.0
    top_k: int = 3

    @property
    def width(self) -> int:
        return int(self.weights.shape[0])

    def scores(self, x: Any) -> Any:
        """n probabilities, margins or values; n x classes probabilities."""
        z = np.asarray(x @ self.weights + self.bias)
        if self.predictor_type == MULTICLASS:
            p = np.exp(z - z.max(axis=1, keepdims=True))
            return p / p.sum(axis=1, keepdims=True)
        return _sigmoid(z[:, 0]) if self.loss == "logistic" else z[:, 0]


def _selected(run: Run, models: Models, losses: Any, table: Table, scaling: Scaling) -> Linear:
    """The best model: by the criteria on the data that decide for binary classifiers, by loss for the others."""
    hp = run.hp
    candidates = []
    for number in np.argsort(np.where(np.isfinite(losses), losses, math.inf), kind="stable"):
        columns = slice(number * models.outputs, (number + 1) * models.outputs)
        weights, bias = scaling.raw(models.weights[:, columns], models.bias[columns])
        candidates.append(Linear(hp["predictor_type"], models.loss, weights, bias, f_beta=hp["f_beta"], top_k=hp["accuracy_top_k"]))
    best = candidates[0]
    if hp["predictor_type"] != BINARY:
        return best
    neutral = 0.5 if models.loss == "logistic" else 0.0
    criteria = hp["binary_classifier_model_selection_criteria"]
    if criteria in ("loss_function", "cross_entropy_loss"):
        best.threshold = neutral
        return best
    most = -math.inf
    for candidate in candidates:
        value, candidate.threshold = calibrated(table.labels > 0, candidate.scores(table.features), criteria, hp, neutral)
        if value > most + 1e-9:
            most, best = value, candidate
    run.report.say(f"Selected model by {criteria} {most:.6f}, threshold {best.threshold:.6f}.")
    return best


def calibrated(truth: Any, scores: Any, criteria: str, hp: dict[str, Any], neutral: float = 0.5) -> tuple[float, float]:
    """(the criteria's best value, the threshold where it is): every place between two scores is tried."""
    order = np.argsort(-scores, kind="stable")
    ranked, sorted_scores = truth[order].astype(np.float64), scores[order]
    ends = np.append(np.flatnonzero(np.diff(sorted_scores)), len(ranked) - 1)
    hits = np.cumsum(ranked)[ends]
    said = ends + 1.0
    positives, count = ranked.sum(), len(ranked)
    precision, recall = hits / said, hits / max(positives, 1)
    if criteria == "accuracy":
        value = (count - positives - (said - hits) + hits) / count
    elif criteria in ("f_beta", "f1"):
        beta = 1.0 if criteria == "f1" else hp["f_beta"]
        value = (1 + beta**2) * hits / (said + beta**2 * positives)
    elif criteria == "precision_at_target_recall":
        value = np.where(recall >= hp["target_recall"], precision, -1)
    else:
        value = np.where(precision >= hp["target_precision"], recall, -1)
    best_value = value.max()
    places = np.flatnonzero(value >= best_value - 1e-12)
    following = np.append(sorted_scores, sorted_scores[-1] - 1e-6)[ends + 1]
    thresholds = (sorted_scores[ends] + following) / 2
    # Of equally good thresholds the most usual one.
    chosen = places[np.argmin(np.abs(thresholds[places] - neutral))]
    return float(best_value), float(thresholds[chosen])


def _tell(run: Run, model: Linear, table: Table | None, part: str) -> None:
    if table is None:
        return
    for name, value in measures(model, table).items():
        run.report.score(part, name, value)
        if name.endswith("_objective"):
            run.report.quality(part, name, value)


def measures(model: Linear, table: Table) -> dict[str, float]:
    """How good a model is on labelled rows."""
    scores, y = model.scores(table.features), table.labels
    if model.predictor_type == REGRESSOR:
        mse = quality.mse(y, scores)
        return {
            "mse": mse,
            "rmse": math.sqrt(mse),
            "absolute_loss": quality.absolute_error(y, scores),
            "r2": quality.r2(y, scores),
        } | {f"{model.loss}_objective": mse if model.loss == "squared_loss" else quality.absolute_error(y, scores)}
    if model.predictor_type == BINARY:
        said, truth = scores >= model.threshold, y > 0
        found = {
            "binary_classification_accuracy": quality.accuracy(truth, said),
            f"binary_f_{model.f_beta:.3f}": quality.f_beta(truth, said, model.f_beta),
            "precision": quality.precision(truth, said),
            "recall": quality.recall(truth, said),
            "roc_auc_score": quality.roc_auc(truth, scores),
        }
        if model.loss == "logistic":
            found["binary_classification_cross_entropy_objective"] = quality.log_loss(truth, scores)
        return found
    classes, said = scores.shape[1], scores.argmax(axis=1)
    top = np.argsort(-scores, axis=1)[:, : model.top_k]
    truth = y.astype(int)
    return {
        "multiclass_cross_entropy_objective": float(-np.mean(np.log(np.maximum(scores[np.arange(len(y)), truth], 1e-30)))),
        "multiclass_accuracy": quality.accuracy(truth, said),
        f"multiclass_top_k_accuracy_{model.top_k}": float(np.mean((top == truth[:, None]).any(axis=1))),
        f"macro_f_{model.f_beta:.3f}": quality.macro(truth, said, classes, lambda a, b: quality.f_beta(a, b, model.f_beta)),
        "macro_precision": quality.macro(truth, said, classes, quality.precision),
        "macro_recall": quality.macro(truth, said, classes, quality.recall),
    }


# -- the artefact and inference -------------------------------------------------------------------------------------------


def save(path: Path, model: Linear) -> None:
    head = {BINARY: "sigmoid" if model.loss == "logistic" else "", MULTICLASS: "SoftmaxActivation", REGRESSOR: ""}[
        model.predictor_type
    ]
    mxnet_file.write_model(
        path,
        {"arg:fc0_weight": model.weights.T, "arg:fc0_bias": model.bias},
        mxnet_file.fully_connected(model.weights.shape[1], head),
        {
            "threshold": model.threshold,
            "loss_type": model.loss,
            "predictor_type": model.predictor_type,
            "metrics_params": {"accuracy_top_k": model.top_k, "f_beta": model.f_beta},
        },
    )


def load(model_dir: Path) -> Linear:
    arrays, more = mxnet_file.read_model(next(iter(sorted(model_dir.glob("model_algo-*")))))
    weights, bias = arrays["arg:fc0_weight"].T, arrays["arg:fc0_bias"]
    metrics = more.get("metrics_params") or {}
    metrics = json.loads(metrics) if isinstance(metrics, str) else metrics
    return Linear(
        more.get("predictor_type", REGRESSOR),
        more.get("loss_type", "logistic"),
        weights,
        bias,
        float(more.get("threshold", 0.5)),
        float(metrics.get("f_beta", 1.0)),
        int(metrics.get("accuracy_top_k", 3)),
    )


def predict(model: Linear, body: bytes, content_type: str, accept: str) -> tuple[bytes, str]:
    """`score` and, for classifiers, `predicted_label`; a multiclass score is a list."""
    table = request_table(body, content_type, width=model.width)
    scores = model.scores(table.features)
    if model.predictor_type == REGRESSOR:
        return respond([{"score": float(score)} for score in scores], accept)
    labels = scores.argmax(axis=1) if model.predictor_type == MULTICLASS else (scores >= model.threshold)
    return respond(
        [{"score": score.tolist(), "predicted_label": int(label)} for score, label in zip(scores, labels, strict=True)], accept
    )


def _sigmoid(z: Any) -> Any:
    return 0.5 * (1 + np.tanh(0.5 * z))
