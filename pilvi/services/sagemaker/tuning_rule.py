"""When a trial is stopped before its end, and when a whole tuning job is done. Pure functions over trials.

Source: SageMaker Developer Guide, "Stop Training Jobs Early", "Completion criteria", "How Hyperparameter Tuning Works";
API reference, HyperbandStrategyConfig, TuningJobCompletionCriteria.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from statistics import median
from typing import Any

from pilvi.services.sagemaker.tuning_trial import Objective, Trial

FEWEST_ATTEMPTS = 5
"""So many training jobs may fail, or say nothing, before a tuning job gives up."""
FEWEST_BEFORE = 3
"""A median of fewer completed trials says nothing. AWS does not tell its number."""
CONVERGED_AFTER = 20
"""So many trials in a row without an improvement of more than 1 % count as convergence. AWS's own criteria are not public."""
_IMPROVEMENT = 0.01
_REDUCTION = 3
"""Of the trials that reach a rung, one in so many goes on, as in the Hyperband paper."""


# -- one trial -------------------------------------------------------------------------------------------------------------


def is_worse_than_median(trial: Trial, others: Sequence[Trial], objective: Objective) -> bool:
    """AWS's early stopping: at the latest epoch, worse than the median of the completed trials' running averages up to there."""
    if not (epoch := len(trial.points)):
        return False
    averages = [
        sum(other.points[:epoch]) / epoch
        for other in others
        if other.status == "Completed" and other.definition == trial.definition and len(other.points) >= epoch
    ]
    return len(averages) >= FEWEST_BEFORE and objective.is_better(median(averages), trial.points[-1])


@dataclass(frozen=True, slots=True)
class Hyperband:
    """Trials run until they reach a rung; there the worse ones end, the better third goes on to three times as many epochs.

    Rungs of one bracket stand at start, 3 x start, 9 x start ... short of max_epochs. Brackets differ in where they start,
    so that configurations that are slow to show what they can are not all lost; small brackets of late starts are rarer.
    """

    min_epochs: int
    max_epochs: int

    def rungs(self, number: int) -> tuple[int, ...]:
        """Those of the trial's bracket."""
        start = self.min_epochs * _REDUCTION ** self.bracket(number)
        found = []
        while start < self.max_epochs:
            found.append(start)
            start *= _REDUCTION
        return tuple(found)

    def bracket(self, number: int) -> int:
        """Trials take turns, and each bracket gets about as many epochs as any other: earlier starts have more trials."""
        shares = self._shares()
        place = (number - 1) % sum(shares)
        return next(bracket for bracket, end in enumerate(accumulate(shares)) if place < end)

    def is_over(self, trial: Trial, others: Sequence[Trial], objective: Objective) -> bool:
        """Whether the trial ends here: it goes on beyond its epochs, or is not among the best of the last rung it passed."""
        if len(trial.points) > self.max_epochs:
            return True
        rung = max((rung for rung in self.rungs(trial.number) if rung <= len(trial.points)), default=0)
        if not rung:
            return False
        peers = [other for other in others if other.definition == trial.definition and other.number != trial.number]
        there = [
            other.points[rung - 1]
            for other in peers
            if len(other.points) >= rung and self.bracket(other.number) == self.bracket(trial.number)
        ]
        better = sum(objective.is_better(value, trial.points[rung - 1]) for value in there)
        return better >= max(1, (len(there) + 1) // _REDUCTION)

    def _shares(self) -> tuple[int, ...]:
        steps, epochs = 0, self.min_epochs * _REDUCTION
        while epochs <= self.max_epochs:
            steps, epochs = steps + 1, epochs * _REDUCTION
        return tuple(_REDUCTION ** (steps - bracket) for bracket in range(steps + 1))


def hyperband_of(config: Mapping[str, Any]) -> Hyperband:
    found = config["StrategyConfig"]["HyperbandStrategyConfig"]
    return Hyperband(found["MinResource"], found["MaxResource"])


# -- the whole job ---------------------------------------------------------------------------------------------------------


def not_improving(trials: Sequence[Trial], objectives: Sequence[Objective]) -> int:
    """How many trials in a row, to the latest, have not bettered the best before them by more than 1 %."""
    return next(reversed([count for _, count in _counted(trials, objectives)]), 0)


def converged_at(trials: Sequence[Trial], objectives: Sequence[Objective]) -> datetime | None:
    """When convergence was seen first."""
    return next((trial.ended for trial, count in _counted(trials, objectives) if count >= CONVERGED_AFTER), None)


def _counted(trials: Sequence[Trial], objectives: Sequence[Objective]) -> Iterator[tuple[Trial, int]]:
    """Each trial with a result as it ended, and how many in a row had not bettered the best by then."""
    best: float | None = None
    count = 0
    for trial in in_order_of_end(trials):
        value = trial.result
        if value is None:
            continue
        is_better = best is None or objectives[trial.definition].is_better(value, best)
        count = 0 if best is None or (is_better and abs(value - best) > _IMPROVEMENT * abs(best)) else count + 1
        best = value if is_better else best
        yield trial, count


def is_satisfied(criteria: Mapping[str, Any], trials: Sequence[Trial], objectives: Sequence[Objective], best: Trial | None) -> bool:
    """Whether a completion criterion is met."""
    target = criteria.get("TargetObjectiveMetricValue")
    reached = best.result if best is not None else None
    if (
        best is not None
        and reached is not None
        and target is not None
        and not objectives[best.definition].is_better(target, reached)
    ):
        return True
    most = (criteria.get("BestObjectiveNotImproving") or {}).get("MaxNumberOfTrainingJobsNotImproving")
    if most is not None and not_improving(trials, objectives) >= most:
        return True
    is_wanted = (criteria.get("ConvergenceDetected") or {}).get("CompleteOnConvergence") == "Enabled"
    return is_wanted and converged_at(trials, objectives) is not None


# Source: both texts as users of AWS report them.
def why_hopeless(trials: Sequence[Trial], most: int) -> str | None:
    """Why a tuning job fails: none of its trials brought anything. Those that this server lost do not count."""
    ended = [trial for trial in trials if not trial.is_live and not trial.is_retryable]
    attempts = min(FEWEST_ATTEMPTS, most)
    if len(ended) < attempts or any(trial.result is not None for trial in ended):
        return None
    failed = sum(trial.status == "Failed" for trial in ended)
    if failed == len(ended):
        return f"No training job succeeded after {failed} attempts. Please take a look at the training job failures to get more details."
    if any(trial.status == "Completed" for trial in ended):
        return (
            f"No objective metrics found after running {len(ended)} training jobs. Please ensure that the custom algorithm is emitting "
            "the objective metric as defined by the regular expression provided."
        )
    return None


def in_order_of_end(trials: Sequence[Trial]) -> list[Trial]:
    return sorted((trial for trial in trials if trial.ended is not None), key=lambda trial: (trial.ended, trial.number))
