"""Measures of quality, in plain numpy: starting scikit-learn costs a job a second."""

from __future__ import annotations

from typing import Any

import numpy as np


def accuracy(truth: Any, predicted: Any) -> float:
    return float(np.mean(np.asarray(truth) == np.asarray(predicted)))


def confusion(truth: Any, positive: Any) -> tuple[float, float, float, float]:
    """(true positives, false positives, true negatives, false negatives) of boolean arrays."""
    truth, positive = np.asarray(truth, bool), np.asarray(positive, bool)
    hits = float(np.sum(truth & positive))
    alarms = float(np.sum(~truth & positive))
    return hits, alarms, float(np.sum(~truth)) - alarms, float(np.sum(truth)) - hits


def precision(truth: Any, positive: Any) -> float:
    hits, alarms, _, _ = confusion(truth, positive)
    return _ratio(hits, hits + alarms)


def recall(truth: Any, positive: Any) -> float:
    hits, _, _, misses = confusion(truth, positive)
    return _ratio(hits, hits + misses)


def f_beta(truth: Any, positive: Any, beta: float = 1.0) -> float:
    hits, alarms, _, misses = confusion(truth, positive)
    return _ratio((1 + beta**2) * hits, (1 + beta**2) * hits + beta**2 * misses + alarms)


def roc_auc(truth: Any, scores: Any) -> float:
    """The chance that a positive stands above a negative; ties count half. NaN where there is one class only."""
    truth, scores = np.asarray(truth, bool), np.asarray(scores, np.float64)
    positives = int(truth.sum())
    negatives = len(truth) - positives
    if not positives or not negatives:
        return float("nan")
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return float((ranks[truth].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def log_loss(truth: Any, probability: Any) -> float:
    """Binary cross entropy."""
    p = np.clip(np.asarray(probability, np.float64), 1e-12, 1 - 1e-12)
    truth = np.asarray(truth, np.float64)
    return float(-np.mean(truth * np.log(p) + (1 - truth) * np.log1p(-p)))


def mse(truth: Any, predicted: Any) -> float:
    return float(np.mean((np.asarray(truth, np.float64) - np.asarray(predicted, np.float64)) ** 2))


def absolute_error(truth: Any, predicted: Any) -> float:
    return float(np.mean(np.abs(np.asarray(truth, np.float64) - np.asarray(predicted, np.float64))))


def r2(truth: Any, predicted: Any) -> float:
    truth = np.asarray(truth, np.float64)
    spread = float(np.mean((truth - truth.mean()) ** 2))
    return 1 - mse(truth, predicted) / spread if spread else float("nan")


def macro(truth: Any, predicted: Any, classes: int, measure: Any) -> float:
    """The mean over classes of a measure of (is this class, was said to be)."""
    truth, predicted = np.asarray(truth), np.asarray(predicted)
    return float(np.mean([measure(truth == number, predicted == number) for number in range(classes)]))


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
