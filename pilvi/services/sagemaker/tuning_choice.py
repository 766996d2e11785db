"""Which values the next trial tries. A choice follows from the request, the seed and the trials so far, and from nothing else:
after a restart the same trial is chosen again.

    Random      the n-th draw of the seed, whatever the trials before it brought
    Grid        the n-th combination
    Bayesian    a model of the results so far (tuning_model.py)
    Hyperband   the same model; tuning_rule.py ends the weak trials
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pilvi.services.sagemaker.tuning_range import Range, combination, combinations
from pilvi.services.sagemaker.tuning_trial import Objective, Trial


@dataclass(frozen=True, slots=True)
class Search:
    """What one training job definition searches."""

    ranges: tuple[Range, ...]
    objective: Objective
    static: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Known:
    """What an earlier tuning job found out: a setting and its result."""

    values: Mapping[str, str]
    result: float


@dataclass(frozen=True, slots=True)
class Prior:
    """What is known before the first trial, from the parents of a warm start."""

    known: tuple[Known, ...] = ()
    is_transfer: bool = False
    """The parents had other data or another algorithm: their results are on a scale of their own (deviations from their mean)."""


def definition_of(strategy: str, searches: Sequence[Search], number: int) -> int:
    """Which definition the trial of this number (from 1) belongs to: they take turns; a grid's are searched one after the other."""
    if strategy != "Grid":
        return (number - 1) % len(searches)
    left = number - 1
    for index, search in enumerate(searches):
        if left < combinations(search.ranges):
            return index
        left -= combinations(search.ranges)
    raise IndexError(number)


def choose(
    strategy: str, searches: Sequence[Search], number: int, seed: int, trials: Sequence[Trial], prior: Prior
) -> dict[str, str]:
    """The values of the trial of this number."""
    index = definition_of(strategy, searches, number)
    search = searches[index]
    if strategy == "Grid":
        before = sum(combinations(other.ranges) for other in searches[:index])
        return combination(search.ranges, number - 1 - before)
    if strategy == "Random":
        return drawn(search.ranges, seed, number)
    from pilvi.services.sagemaker.tuning_model import proposed

    own = [trial for trial in trials if trial.definition == index]
    return proposed(search, own, prior, f"{seed}/{number}")


def drawn(ranges: Sequence[Range], seed: int, number: int) -> dict[str, str]:
    """The draw of this number: every hyperparameter anywhere on its scale, independent of the others."""
    return {entry.name: entry.value(uniform(f"{seed}/{number}/{entry.name}")) for entry in ranges}


def uniform(text: str) -> float:
    """A number in [0, 1) that this text always gives, spread evenly over texts."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / (1 << 48)
