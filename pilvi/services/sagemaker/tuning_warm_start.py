"""Warm start: what a tuning job takes over from up to five earlier ones.

Source: SageMaker Developer Guide, "Run a Warm Start Hyperparameter Tuning Job"; API reference, HyperParameterTuningJobWarmStartConfig.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pilvi.core.errors import Invalid, ServiceError
from pilvi.core.service import Context
from pilvi.services.sagemaker.job_kind import Record, duplicates
from pilvi.services.sagemaker.tuning_child import definitions_of, objectives_of, searches_of
from pilvi.services.sagemaker.tuning_choice import Known, Prior
from pilvi.services.sagemaker.tuning_model import standardized
from pilvi.services.sagemaker.tuning_trial import NOUN, Objective, Trial, best_of, from_record, prefix

TUNING_JOB = "HyperParameterTuningJob"
_IDENTICAL = "IdenticalDataAndAlgorithm"


def missing(name: str) -> ServiceError:
    """Source: as users of AWS report it."""
    return ServiceError("ResourceNotFound", f"Amazon SageMaker can't find a tuning job called {name}. Type another name.")


def check_parents(ctx: Context, record: Mapping[str, Any]) -> None:
    """Invalid where the parents cannot be built upon."""
    if (config := record.get("WarmStartConfig")) is None:
        return
    if (strategy := record["HyperParameterTuningJobConfig"]["Strategy"]) in ("Grid", "Hyperband"):
        raise Invalid(f"Warm start is not supported with the {strategy} strategy.")
    if record.get("TrainingJobDefinitions"):
        raise Invalid("Warm start is not supported with several training job definitions.")
    names = parent_names(record)
    if twice := duplicates(names):
        raise Invalid(f"Parent hyperparameter tuning jobs must be unique: {', '.join(twice)}.")
    for name in names:
        parent = ctx.records(TUNING_JOB).find(name.lower())
        if parent is None:
            raise missing(name)
        if (status := parent[f"{TUNING_JOB}Status"]) in ("InProgress", "Stopping"):
            raise Invalid(f"The parent hyperparameter tuning job {name} has not ended yet: its status is {status}.")
        if len(definitions_of(parent)) > 1:
            raise Invalid(f"The parent hyperparameter tuning job {name} has several training job definitions.")
        _check_parent(record, parent, name, is_identical=config["WarmStartType"] == _IDENTICAL)


def _check_parent(record: Mapping[str, Any], parent: Mapping[str, Any], name: str, *, is_identical: bool) -> None:
    (mine,), (theirs,) = searches_of(record), searches_of(parent)
    if mine.objective != theirs.objective:
        raise Invalid(f"The objective metric must be the same as that of the parent hyperparameter tuning job {name}.")
    if not is_identical:
        return
    (own,), (other,) = definitions_of(record), definitions_of(parent)
    image = own["AlgorithmSpecification"].get("TrainingImage"), own["AlgorithmSpecification"].get("AlgorithmName")
    if image != (other["AlgorithmSpecification"].get("TrainingImage"), other["AlgorithmSpecification"].get("AlgorithmName")):
        raise Invalid(f"The training image must be the same as that of the parent hyperparameter tuning job {name}.")
    if _data(own) != _data(other):
        raise Invalid(f"The input data must be the same as that of the parent hyperparameter tuning job {name}.")
    if len(mine.ranges) + len(mine.static) != len(theirs.ranges) + len(theirs.static):
        raise Invalid(
            "The total number of static and tunable hyperparameters must be the same as in the parent hyperparameter tuning job "
            f"{name}."
        )


def _data(definition: Mapping[str, Any]) -> dict[str, Any]:
    return {channel["ChannelName"]: channel["DataSource"] for channel in definition.get("InputDataConfig") or ()}


def prior_of(ctx: Context, record: Mapping[str, Any]) -> Prior:
    """What the parents found out, as far as they are still there."""
    if (config := record.get("WarmStartConfig")) is None:
        return Prior()
    is_transfer = config["WarmStartType"] != _IDENTICAL
    known: list[Known] = []
    for _, parent, trials in _parents(ctx, record):
        static = searches_of(parent)[0].static
        found = [Known({**static, **trial.values}, trial.result) for trial in trials if trial.result is not None]
        if is_transfer:
            scaled = standardized([entry.result for entry in found])
            found = [Known(entry.values, result) for entry, result in zip(found, scaled, strict=True)]
        known += found
    return Prior(tuple(known), is_transfer)


def overall_best(
    ctx: Context, record: Mapping[str, Any], own: Trial | None, objectives: Sequence[Objective]
) -> tuple[Trial, str] | None:
    """The best of this tuning job and its parents, with the name of whose it is; only for identical data and algorithm."""
    if (record.get("WarmStartConfig") or {}).get("WarmStartType") != _IDENTICAL:
        return None
    found = (own, str(record[f"{TUNING_JOB}Name"])) if own is not None else None
    for name, parent, trials in _parents(ctx, record):
        best = best_of(trials, objectives_of(parent))
        if best is not None and best.result is not None and _is_better(best.result, found, objectives[0]):
            found = best, name
    return found


def _is_better(result: float, found: tuple[Trial, str] | None, objective: Objective) -> bool:
    return found is None or found[0].result is None or objective.is_better(result, found[0].result)


def parent_names(record: Mapping[str, Any]) -> list[str]:
    config = record.get("WarmStartConfig") or {}
    found = [entry.get(f"{TUNING_JOB}Name") for entry in config.get("ParentHyperParameterTuningJobs") or ()]
    if not all(found):
        raise Invalid(f"Each parent hyperparameter tuning job needs a {TUNING_JOB}Name.")
    return [str(name) for name in found]


def _parents(ctx: Context, record: Mapping[str, Any]) -> list[tuple[str, Record, list[Trial]]]:
    found = ((name, ctx.records(TUNING_JOB).find(name.lower())) for name in parent_names(record))
    trials = ctx.records(NOUN)
    return [
        (name, parent, [from_record(row) for row in trials.all(prefix=prefix(name))])
        for name, parent in found
        if parent is not None
    ]
