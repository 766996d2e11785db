"""Training and tuning jobs that name an algorithm: they get its image, metrics and defaults, and are held to what it declares."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pilvi.core.arn import Arn
from pilvi.core.errors import Conflict, Invalid, NotFound, ServiceError
from pilvi.core.service import Context
from pilvi.jobs import LIVE, Status
from pilvi.services.sagemaker.job_kind import Record, failure_reason
from pilvi.services.sagemaker.tuning_choice import Search
from pilvi.services.sagemaker.tuning_range import Range

NOUN = "Algorithm"
_OURS = ("_tuning_objective_metric",)
"""Hyperparameters that SageMaker itself sets."""


def find_algorithm(ctx: Context, name_or_arn: str) -> Record:
    """The record of an algorithm; AWS's error when there is none in this account and Region."""
    name, arn = name_or_arn, Arn.parse(name_or_arn)
    if arn is not None:
        kind, _, name = arn.resource.partition("/")
        if (arn.service, arn.account, arn.region, kind) != ("sagemaker", ctx.account, ctx.region, "algorithm"):
            raise _missing(name_or_arn)
    record = ctx.records(NOUN).find(name.lower())
    if record is None:
        raise _missing(ctx.arn(f"algorithm/{name.lower()}"))
    return record


def status_of(ctx: Context, record: Record) -> tuple[str, str | None]:
    """AlgorithmStatus, and why validation failed."""
    if (known := record.get("_status")) is not None:
        return known, record.get("_reason")
    if (job_name := record.get("_validation")) is None:
        return "Completed", None
    try:
        job = ctx.jobs.get(ctx.records("TrainingJob").get(job_name.lower())["_job"])
    except NotFound:
        return "Failed", f"The training job {job_name} that validates the algorithm was deleted."
    if (status := Status(job["status"])) in LIVE:
        return "InProgress", None
    why = failure_reason(job) or f"The training job {job_name} that validates the algorithm was stopped."
    found = ("Completed", None) if status is Status.COMPLETED else ("Failed", why)
    _remember(ctx, record, *found)
    return found


def _remember(ctx: Context, record: Record, status: str, reason: str | None) -> None:
    """The outcome stays true when the training job is deleted later."""
    row = ctx.records(NOUN).row(record["AlgorithmName"].lower())
    if row is None or row.value.get("_validation") != record["_validation"]:
        return
    try:
        ctx.write(ctx.records(NOUN).revision(row.id, row.value | {"_status": status, "_reason": reason}, row.version))
    except Conflict:
        return  # somebody else remembered it, or the algorithm is gone


def applied(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """A CreateTrainingJob request with its algorithm put in: image, metrics and defaults. Invalid where it breaks the declaration."""
    asked = req["AlgorithmSpecification"]
    if not asked.get("AlgorithmName"):
        return req
    if asked.get("TrainingImage"):
        raise Invalid("You cannot specify both a TrainingImage and an AlgorithmName in AlgorithmSpecification.")
    if asked.get("MetricDefinitions"):
        raise Invalid("You cannot specify MetricDefinitions for an algorithm: it defines its metrics itself.")
    training = _usable(ctx, asked["AlgorithmName"])
    parameters = _with_defaults(training.get("SupportedHyperParameters") or (), req.get("HyperParameters") or {})
    _check_resources(training, req.get("ResourceConfig") or {})
    _check_channels(training["TrainingChannels"], req)
    algorithm = {key: value for key, value in asked.items() if key != "AlgorithmName"}
    algorithm |= {"TrainingImage": training["TrainingImage"], "MetricDefinitions": training.get("MetricDefinitions") or []}
    return {**req, "AlgorithmSpecification": algorithm, "HyperParameters": parameters}


def named(record: Record, asked: Mapping[str, Any]) -> Record:
    """A training job's record that tells the algorithm as it was asked for, in place of its image."""
    if (name := asked["AlgorithmSpecification"].get("AlgorithmName")) is None:
        return record
    algorithm = {key: value for key, value in record["AlgorithmSpecification"].items() if key != "TrainingImage"}
    return {**record, "AlgorithmSpecification": {"AlgorithmName": name, **algorithm}}


def check_search(ctx: Context, name_or_arn: str, search: Search) -> None:
    """Tuning searches tunable hyperparameters within the declared ranges, for an objective that the algorithm offers."""
    training = _usable(ctx, name_or_arn)
    declared = {entry["Name"]: entry for entry in training.get("SupportedHyperParameters") or ()}
    for entry in search.ranges:
        parameter = declared.get(entry.name)
        if parameter is None or not parameter.get("IsTunable"):
            raise Invalid(f"The hyperparameter {entry.name} is not tunable by the algorithm {name_or_arn}.")
        if (problem := _range_problem(entry, parameter)) is not None:
            raise Invalid(f"The range of hyperparameter {entry.name} is not supported by the algorithm {name_or_arn}: {problem}")
    offered = [(entry["MetricName"], entry["Type"]) for entry in training.get("SupportedTuningJobObjectiveMetrics") or ()]
    if (search.objective.metric, search.objective.kind) not in offered:
        told = ", ".join(f"{kind} {metric}" for metric, kind in offered) or "none"
        raise Invalid(
            f"The objective {search.objective.kind} {search.objective.metric} is not supported by the algorithm {name_or_arn}. "
            f"Supported objectives: {told}."
        )


def problem_with(value: str, parameter: Mapping[str, Any]) -> str | None:
    """Why a value does not fit a declared hyperparameter; None when it does."""
    kind = parameter["Type"]
    if kind == "FreeText":
        return None
    spec = (parameter.get("Range") or {}).get(f"{kind}ParameterRangeSpecification")
    if kind == "Categorical":
        return f"{value} is not one of {', '.join(spec['Values'])}." if spec and value not in spec["Values"] else None
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or (kind == "Integer" and number != int(number)):
        return f"{value} is not {'an integer' if kind == 'Integer' else 'a number'}."
    if spec and not float(spec["MinValue"]) <= number <= float(spec["MaxValue"]):
        return f"{value} does not lie between {spec['MinValue']} and {spec['MaxValue']}."
    return None


# -- private ---------------------------------------------------------------------------------------------------------------


def _usable(ctx: Context, name_or_arn: str) -> Record:
    """The training specification of an algorithm that may be used."""
    record = find_algorithm(ctx, name_or_arn)
    if (status := status_of(ctx, record)[0]) != "Completed":
        raise Invalid(f"The algorithm {record['AlgorithmArn']} cannot be used: its status is {status}, not Completed.")
    training: Record = record["TrainingSpecification"]
    return training


def _with_defaults(declared: Sequence[Mapping[str, Any]], given: Mapping[str, str]) -> dict[str, str]:
    known = {entry["Name"]: entry for entry in declared}
    for name, value in given.items():
        if name in _OURS:
            continue
        if name not in known:
            raise Invalid(f"The hyperparameter {name} is not supported by the algorithm.")
        if (problem := problem_with(value, known[name])) is not None:
            raise Invalid(f"The value of hyperparameter {name} is not valid: {problem}")
    found = dict(given)
    for name, entry in known.items():
        if name not in found and entry.get("DefaultValue") is not None:
            found[name] = entry["DefaultValue"]
        elif name not in found and entry.get("IsRequired"):
            raise Invalid(f"The hyperparameter {name} is required by the algorithm.")
    return found


def _check_resources(training: Mapping[str, Any], resources: Mapping[str, Any]) -> None:
    groups = resources.get("InstanceGroups") or [resources]
    supported = training["SupportedTrainingInstanceTypes"]
    for group in groups:
        if (kind := group.get("InstanceType")) is not None and kind not in supported:
            raise Invalid(f"The instance type {kind} is not supported by the algorithm. Supported: {', '.join(supported)}.")
    if sum(group.get("InstanceCount") or 0 for group in groups) > 1 and not training.get("SupportsDistributedTraining"):
        raise Invalid("The algorithm does not support distributed training: use one instance.")


def _check_channels(declared: Sequence[Mapping[str, Any]], req: Mapping[str, Any]) -> None:
    known = {entry["Name"]: entry for entry in declared}
    given = {channel["ChannelName"]: channel for channel in req.get("InputDataConfig") or ()}
    if unknown := sorted(given.keys() - known.keys()):
        raise Invalid(f"The channels {', '.join(unknown)} are not supported by the algorithm.")
    if missing := sorted(name for name, entry in known.items() if entry.get("IsRequired") and name not in given):
        raise Invalid(f"The channels {', '.join(missing)} are required by the algorithm.")
    for name, channel in given.items():
        spec = known[name]
        mode = channel.get("InputMode") or req["AlgorithmSpecification"]["TrainingInputMode"]
        compression = channel.get("CompressionType") or "None"
        wanted = (
            ("input mode", mode, spec["SupportedInputModes"]),
            ("content type", channel.get("ContentType"), spec["SupportedContentTypes"]),
            ("compression type", compression, [*(spec.get("SupportedCompressionTypes") or ()), "None"]),
        )
        for what, value, supported in wanted:
            if value is not None and supported and value not in supported:
                raise Invalid(f"The {what} {value} of channel {name} is not supported by the algorithm.")


def _range_problem(entry: Range, parameter: Mapping[str, Any]) -> str | None:
    if entry.kind != parameter["Type"]:
        return f"it must be {parameter['Type']}, not {entry.kind}."
    ends = entry.values if entry.kind == "Categorical" else (_spoken(entry, entry.low), _spoken(entry, entry.high))
    return next((problem for value in ends if (problem := problem_with(value, parameter)) is not None), None)


def _spoken(entry: Range, number: float) -> str:
    return str(int(number)) if entry.kind == "Integer" else repr(number)


def _missing(arn: str) -> ServiceError:
    return ServiceError("ValidationException", f"Algorithm does not exist: {arn}")
