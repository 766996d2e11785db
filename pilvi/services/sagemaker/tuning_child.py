"""A tuning job's training job definitions: what each searches, and the CreateTrainingJob request of one trial."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.services.sagemaker.job_kind import Record
from pilvi.services.sagemaker.tuning_choice import Search
from pilvi.services.sagemaker.tuning_range import ranges_of
from pilvi.services.sagemaker.tuning_trial import Objective

OBJECTIVE_PARAMETER = "_tuning_objective_metric"
"""Tells the training program which metric it is judged by."""

_TAKEN_OVER = (
    "RoleArn",
    "InputDataConfig",
    "VpcConfig",
    "OutputDataConfig",
    "StoppingCondition",
    "EnableNetworkIsolation",
    "EnableInterContainerTrafficEncryption",
    "EnableManagedSpotTraining",
    "CheckpointConfig",
    "RetryStrategy",
    "Environment",
)


def definitions_of(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The one definition, or all of several."""
    if (single := record.get("TrainingJobDefinition")) is not None:
        return [single]
    return list(record.get("TrainingJobDefinitions") or ())


def filled_in(record: Mapping[str, Any]) -> Record:
    """The definitions as Describe tells them: the objective's name among the static hyperparameters, and the machines of a trial.

    The SDK, which asks for HyperParameterTuningResourceConfig, reads ResourceConfig when it attaches to a tuning job.
    """
    found = []
    for definition, search in zip(definitions_of(record), searches_of(record), strict=True):
        static = {OBJECTIVE_PARAMETER: search.objective.metric, **search.static}
        more = {"ResourceConfig": resources} if (resources := resources_of(definition)) is not None else {}
        found.append({**definition, "StaticHyperParameters": static, **more})
    return {"TrainingJobDefinition": found[0]} if record.get("TrainingJobDefinition") else {"TrainingJobDefinitions": found}


def searches_of(record: Mapping[str, Any]) -> tuple[Search, ...]:
    return tuple(_search_of(record["HyperParameterTuningJobConfig"], definition) for definition in definitions_of(record))


def objectives_of(record: Mapping[str, Any]) -> tuple[Objective, ...]:
    config = record["HyperParameterTuningJobConfig"]
    return tuple(objective_of(config, definition) for definition in definitions_of(record))


def _search_of(config: Mapping[str, Any], definition: Mapping[str, Any]) -> Search:
    """Ranges and objective stand in the definition where there are several, else in the tuning job's configuration."""
    ranges = definition.get("HyperParameterRanges") or config.get("ParameterRanges")
    return Search(ranges_of(ranges), objective_of(config, definition), definition.get("StaticHyperParameters") or {})


def objective_of(config: Mapping[str, Any], definition: Mapping[str, Any]) -> Objective:
    found = definition.get("TuningObjective") or config["HyperParameterTuningJobObjective"]
    return Objective(found["MetricName"], found["Type"] == "Maximize")


def training_request(name: str, definition: Mapping[str, Any], search: Search, values: Mapping[str, str]) -> Record:
    """What CreateTrainingJob is asked for a trial."""
    return {
        "TrainingJobName": name,
        "HyperParameters": {**search.static, **values},
        "AlgorithmSpecification": dict(definition["AlgorithmSpecification"]),
        "ResourceConfig": resources_of(definition),
        **{member: definition[member] for member in _TAKEN_OVER if definition.get(member) is not None},
    }


def resources_of(definition: Mapping[str, Any]) -> Record | None:
    """The machines of each trial. Of several configurations the first one, which AWS prefers too."""
    flexible = definition.get("HyperParameterTuningResourceConfig")
    if flexible is None:
        return dict(definition["ResourceConfig"]) if definition.get("ResourceConfig") else None
    kept = {
        name: flexible[name] for name in ("InstanceType", "InstanceCount", "VolumeSizeInGB", "VolumeKmsKeyId") if name in flexible
    }
    return {**kept, **flexible["InstanceConfigs"][0]} if flexible.get("InstanceConfigs") else kept
