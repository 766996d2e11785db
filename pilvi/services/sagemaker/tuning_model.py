"""Settings proposed by a model of the results so far: Optuna's tree-structured Parzen estimator, over positions in the ranges.

Optuna comes with the extra `pilvi[tuning]` and is imported at the first proposal.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.util import find_spec
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Any

from pilvi.core.errors import Invalid
from pilvi.services.sagemaker.tuning_range import Range
from pilvi.services.sagemaker.tuning_trial import Trial

if TYPE_CHECKING:
    from pilvi.services.sagemaker.tuning_choice import Prior, Search

FIRST_DRAWS = 5
"""So many results there must be before the model is asked; until then settings are drawn."""


def check_installed() -> None:
    """Invalid where Optuna is missing."""
    if find_spec("optuna") is None:
        raise Invalid(
            "The strategies Bayesian and Hyperband need Optuna, which is not installed on this server. Install it with: pip install 'pilvi[tuning]'. "
            "Random and Grid work without it."
        )


def proposed(search: Search, trials: Sequence[Trial], prior: Prior, seed: str) -> dict[str, str]:
    """The next setting. Trials that run count as if they brought something bad, so that no two try the same place."""
    check_installed()
    import optuna
    from optuna.distributions import CategoricalDistribution, FloatDistribution
    from optuna.trial import TrialState, create_trial

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    tuned = [entry for entry in search.ranges if entry.low < entry.high or len(entry.values) > 1]
    spaces: dict[str, Any] = {
        entry.name: CategoricalDistribution(entry.values) if entry.kind == "Categorical" else FloatDistribution(0.0, 1.0)
        for entry in tuned
    }
    sampler = optuna.samplers.TPESampler(
        n_startup_trials=FIRST_DRAWS,
        multivariate=True,
        constant_liar=True,
        seed=int(hashlib.sha256(seed.encode()).hexdigest()[:8], 16),
    )
    study = optuna.create_study(sampler=sampler, direction="maximize" if search.objective.is_maximized else "minimize")
    for values, result, is_live in _observations(search, trials, prior):
        if (params := _params(tuned, values)) is None or (result is None and not is_live):
            continue
        state = TrialState.COMPLETE if result is not None else TrialState.RUNNING
        study.add_trial(create_trial(state=state, params=params, distributions=spaces, value=result))
    asked = study.ask(spaces)
    return {entry.name: _value(entry, asked.params.get(entry.name)) for entry in search.ranges}


def _value(entry: Range, place: Any) -> str:
    if place is None:
        return entry.value(0.0)
    return str(place) if entry.kind == "Categorical" else entry.value(place)


def _params(ranges: Sequence[Range], values: dict[str, str]) -> dict[str, Any] | None:
    """A setting in the model's terms; None when it lies outside of what is searched."""
    found: dict[str, Any] = {}
    for entry in ranges:
        value = values.get(entry.name)
        position = None if value is None else entry.position(value)
        if position is None:
            return None
        found[entry.name] = value if entry.kind == "Categorical" else position
    return found


def _observations(search: Search, trials: Sequence[Trial], prior: Prior) -> list[tuple[dict[str, str], float | None, bool]]:
    """(setting, result or None, whether it runs): what earlier tuning jobs found, then this one's."""
    earlier = [({**search.static, **entry.values}, entry.result, False) for entry in prior.known]
    results = [trial.result for trial in trials]
    if prior.is_transfer:
        scaled = iter(standardized([result for result in results if result is not None]))
        results = [None if result is None else next(scaled) for result in results]
    return [*earlier, *((dict(trial.values), result, trial.is_live) for trial, result in zip(trials, results, strict=True))]


def standardized(results: Sequence[float]) -> list[float]:
    """Results on a common scale, so that those over other data can stand beside each other: mean 0, deviation 1."""
    spread = pstdev(results) if len(results) > 1 else 0.0
    middle = fmean(results) if results else 0.0
    return [(result - middle) / spread if spread else 0.0 for result in results]
