"""What CreateHyperParameterTuningJob refuses before anything runs, in AWS's words where they are known.

Limits: SageMaker Developer Guide, "Resource Limits for Automatic Model Tuning".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pilvi.core.errors import Invalid, LimitExceeded
from pilvi.core.service import Context
from pilvi.services.sagemaker.algorithm_use import applied, check_search
from pilvi.services.sagemaker.builtin_algorithms import builtin_for, check_tuning, with_metrics
from pilvi.services.sagemaker.job_kind import Record, duplicates
from pilvi.services.sagemaker.training_check import check_request, check_surroundings
from pilvi.services.sagemaker.tuning_child import definitions_of, filled_in, searches_of, training_request
from pilvi.services.sagemaker.tuning_choice import Search, drawn
from pilvi.services.sagemaker.tuning_model import check_installed
from pilvi.services.sagemaker.tuning_range import combinations

MOST_RANGES = 30
MOST_PARALLEL = 100
MOST_JOBS = 750
MOST_RANDOM_JOBS = 10_000
MOST_EPOCHS = 20_000
_EPOCHS = ("epochs", "numepochs", "n-epochs", "n_epochs", "num_epochs")
_MODELLED = ("Bayesian", "Hyperband")


def completed(ctx: Context, req: Mapping[str, Any]) -> Record:
    """The request with what AWS fills in. Invalid when its parts do not fit together."""
    _check_definitions(req)
    record = {key: value for key, value in req.items() if key != "Tags"}
    config: Record = {"TrainingJobEarlyStoppingType": "Off", **req["HyperParameterTuningJobConfig"]}
    record["HyperParameterTuningJobConfig"] = config
    if req.get("Autotune"):
        _autotune(config)
    searches = searches_of(record)
    _check_searches(searches)
    _check_resources(definitions_of(record))
    _check_auto(record)
    strategy = config["Strategy"]
    if strategy in _MODELLED:
        check_installed()
    config["ResourceLimits"] = _limits(config, searches)
    if strategy == "Hyperband":
        config["StrategyConfig"] = {"HyperbandStrategyConfig": _hyperband(config, searches)}
    elif config.get("StrategyConfig"):
        raise Invalid("StrategyConfig can be given with the Hyperband strategy only.")
    if config["TrainingJobEarlyStoppingType"] == "Auto" and strategy == "Hyperband":
        raise Invalid("TrainingJobEarlyStoppingType must be Off with the Hyperband strategy, which stops training jobs by itself.")
    _check_objectives(ctx, definitions_of(record), searches)
    return record | filled_in(record)


def check_children(ctx: Context, record: Mapping[str, Any]) -> None:
    """A first trial of each definition would be taken as a training job."""
    name = f"{record['HyperParameterTuningJobName']}-001-00000000"
    for definition, search in zip(definitions_of(record), searches_of(record), strict=True):
        algorithm = definition["AlgorithmSpecification"].get("AlgorithmName")
        if algorithm:
            check_search(ctx, algorithm, search)
        request = applied(ctx, training_request(name, definition, search, drawn(search.ranges, 0, 1)))
        check_request(ctx, request)
        if not algorithm:
            with_metrics(request, account=ctx.account)
        check_surroundings(ctx, request, ctx.arn(f"training-job/{name.lower()}"))


def most_jobs(config: Mapping[str, Any]) -> int:
    """How many training jobs a tuning job may start, where it does not say that itself."""
    return int(config["ResourceLimits"].get("MaxNumberOfTrainingJobs") or _quota(config["Strategy"]))


# -- parts -----------------------------------------------------------------------------------------------------------------


def _check_definitions(req: Mapping[str, Any]) -> None:
    config, several = req["HyperParameterTuningJobConfig"], req.get("TrainingJobDefinitions")
    if bool(req.get("TrainingJobDefinition")) == bool(several):
        raise Invalid("You must specify either TrainingJobDefinition or TrainingJobDefinitions, and not both.")
    if not several:
        if not (config.get("HyperParameterTuningJobObjective") or req["TrainingJobDefinition"].get("TuningObjective")):
            raise Invalid("A HyperParameterTuningJobObjective is required: an objective metric and its type.")
        return
    for member in ("HyperParameterTuningJobObjective", "ParameterRanges"):
        if config.get(member):
            raise Invalid(f"{member} cannot be specified together with TrainingJobDefinitions: each definition has its own.")
    for definition in several:
        for member in ("DefinitionName", "TuningObjective", "HyperParameterRanges"):
            if not definition.get(member):
                raise Invalid(f"Each of TrainingJobDefinitions must have a {member}.")
    if twice := duplicates([definition["DefinitionName"] for definition in several]):
        raise Invalid(f"Training job definition names must be unique: {', '.join(twice)}.")
    if len({definition["TuningObjective"]["Type"] for definition in several}) > 1:
        raise Invalid("The objectives of all training job definitions must have the same type, so that one can be the best.")


def _check_resources(definitions: Sequence[Mapping[str, Any]]) -> None:
    for definition in definitions:
        flexible = definition.get("HyperParameterTuningResourceConfig") or {}
        if flexible and definition.get("ResourceConfig"):
            raise Invalid("You must specify either ResourceConfig or HyperParameterTuningResourceConfig, and not both.")
        if flexible.get("InstanceConfigs") and any(
            flexible.get(name) for name in ("InstanceType", "InstanceCount", "VolumeSizeInGB")
        ):
            raise Invalid("InstanceType, InstanceCount and VolumeSizeInGB cannot be specified together with InstanceConfigs.")


def _check_searches(searches: Sequence[Search]) -> None:
    for search in searches:
        names = [entry.name for entry in search.ranges]
        if not names:
            raise Invalid("You must specify at least one hyperparameter range to search.")
        if len(names) > MOST_RANGES:
            raise LimitExceeded(
                f"The account-level service limit 'Number of hyperparameters that can be searched' is {MOST_RANGES}; "
                f"this request searches {len(names)}."
            )
        if twice := duplicates(names):
            raise Invalid(f"Hyperparameter names must be unique across the ranges: {', '.join(twice)}.")
        if both := sorted(set(names) & set(search.static)):
            raise Invalid(f"Hyperparameters cannot be static and searched at the same time: {', '.join(both)}.")


def _check_auto(record: Mapping[str, Any]) -> None:
    config = record["HyperParameterTuningJobConfig"]
    spoken = [config.get("ParameterRanges"), *(entry.get("HyperParameterRanges") for entry in definitions_of(record))]
    if any((ranges or {}).get("AutoParameters") for ranges in spoken) and not record.get("Autotune"):
        raise Invalid("AutoParameters can be given with Autotune only.")


# Source: "Use Autotune": it chooses limits and completion criteria that are not given.
def _autotune(config: Record) -> None:
    limits = config["ResourceLimits"]
    if limits.get("MaxNumberOfTrainingJobs") is None and config["Strategy"] != "Grid":
        config["ResourceLimits"] = {"MaxNumberOfTrainingJobs": 50, **limits}
    if config["Strategy"] not in ("Grid", "Hyperband") and config.get("TuningJobCompletionCriteria") is None:
        config["TuningJobCompletionCriteria"] = {"ConvergenceDetected": {"CompleteOnConvergence": "Enabled"}}


def _limits(config: Mapping[str, Any], searches: Sequence[Search]) -> Record:
    limits, strategy = dict(config["ResourceLimits"]), config["Strategy"]
    most = _quota(strategy)
    wanted = limits.get("MaxNumberOfTrainingJobs")
    if strategy == "Grid":
        size = _grid_size(searches)
        if wanted is not None and wanted != size:
            raise Invalid(
                f"MaxNumberOfTrainingJobs must be left out for Grid search, or be the number of all combinations: {size}, not {wanted}."
            )
        wanted = limits["MaxNumberOfTrainingJobs"] = size
    if wanted is None:
        if limits.get("MaxRuntimeInSeconds") is None and not config.get("TuningJobCompletionCriteria"):
            raise Invalid("Specify MaxNumberOfTrainingJobs, MaxRuntimeInSeconds or TuningJobCompletionCriteria.")
    elif wanted > most:
        raise _over("Number of training jobs per hyperparameter tuning job", most, wanted)
    if limits["MaxParallelTrainingJobs"] > MOST_PARALLEL:
        raise _over(
            "Number of parallel training jobs per hyperparameter tuning job", MOST_PARALLEL, limits["MaxParallelTrainingJobs"]
        )
    return limits


def _quota(strategy: str) -> int:
    return MOST_RANDOM_JOBS if strategy == "Random" else MOST_JOBS


def _grid_size(searches: Sequence[Search]) -> int:
    for search in searches:
        if any(entry.kind != "Categorical" for entry in search.ranges):
            raise Invalid("Grid search supports categorical hyperparameter ranges only.")
    return sum(combinations(search.ranges) for search in searches)


def _hyperband(config: Mapping[str, Any], searches: Sequence[Search]) -> Record:
    given = (config.get("StrategyConfig") or {}).get("HyperbandStrategyConfig") or {}
    longest = given.get("MaxResource")
    if longest is None:
        static = [search.static[name] for search in searches for name in _EPOCHS if name in search.static]
        longest = int(static[0]) if static and static[0].isdigit() else None
    if longest is None:
        raise Invalid(
            "MaxResource of HyperbandStrategyConfig is missing, and none of the static hyperparameters "
            f"{', '.join(_EPOCHS)} tells the number of epochs."
        )
    shortest = given.get("MinResource", 1)
    if longest > MOST_EPOCHS:
        raise Invalid(f"MaxResource of HyperbandStrategyConfig must be at most {MOST_EPOCHS}, not {longest}.")
    if shortest > longest:
        raise Invalid(f"MinResource {shortest} of HyperbandStrategyConfig must not be greater than MaxResource {longest}.")
    return {"MinResource": shortest, "MaxResource": longest}


def _check_objectives(ctx: Context, definitions: Sequence[Mapping[str, Any]], searches: Sequence[Search]) -> None:
    for definition, search in zip(definitions, searches, strict=True):
        algorithm = definition["AlgorithmSpecification"]
        metrics = [metric["Name"] for metric in algorithm.get("MetricDefinitions") or ()]
        if search.objective.metric in metrics or algorithm.get("AlgorithmName"):
            continue
        image = algorithm.get("TrainingImage")
        if image is not None and (repository := builtin_for(image, search.static, account=ctx.account)):
            check_tuning(repository, search.objective.metric, search.objective.kind, {entry.name for entry in search.ranges})
            continue
        raise Invalid(
            "A metric is required for this hyperparameter tuning job objective. Provide a metric in the metric definitions."
        )


def _over(what: str, most: int, wanted: int) -> LimitExceeded:
    return LimitExceeded(
        f"The account-level service limit '{what}' is {most}, with current utilization of 0 and a request delta of {wanted}. "
        "Please use AWS Service Quotas to request an increase for this quota."
    )
