"""What CreateAlgorithm refuses: declarations that contradict themselves, and validation that is not built."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pilvi.core.errors import Invalid
from pilvi.core.service import Context
from pilvi.services.sagemaker.algorithm_use import problem_with
from pilvi.services.sagemaker.image import runtime_for
from pilvi.services.sagemaker.job_kind import Record, duplicates

_NOT_BUILT = "is not supported by this server yet."


def check_declaration(ctx: Context, req: Mapping[str, Any]) -> None:
    if req.get("CertifyForMarketplace"):
        raise Invalid(f"CertifyForMarketplace {_NOT_BUILT}")
    training = req["TrainingSpecification"]
    runtime_for(training["TrainingImage"], account=ctx.account)
    for member in ("TrainingImageDigest", "AdditionalS3DataSource"):
        if training.get(member):
            raise Invalid(f"{member} in TrainingSpecification {_NOT_BUILT}")
    parameters = training.get("SupportedHyperParameters") or ()
    for what, names in (
        ("Hyperparameter", [entry["Name"] for entry in parameters]),
        ("Channel", [entry["Name"] for entry in training["TrainingChannels"]]),
        ("Metric", [entry["Name"] for entry in training.get("MetricDefinitions") or ()]),
    ):
        if twice := duplicates(names):
            raise Invalid(f"{what} names must be unique: {', '.join(twice)}.")
    if not training["SupportedTrainingInstanceTypes"]:
        raise Invalid("At least one of SupportedTrainingInstanceTypes is required.")
    for parameter in parameters:
        _check_parameter(parameter)
    _check_metrics(training.get("MetricDefinitions") or (), training.get("SupportedTuningJobObjectiveMetrics") or ())


def _check_parameter(parameter: Mapping[str, Any]) -> None:
    name, kind = parameter["Name"], parameter["Type"]
    given = [member for member, value in (parameter.get("Range") or {}).items() if value]
    wanted = f"{kind}ParameterRangeSpecification"
    if any(member != wanted for member in given):
        raise Invalid(f"The range of hyperparameter {name} does not fit its type {kind}.")
    if parameter.get("IsTunable") and not given:
        raise Invalid(f"The hyperparameter {name} is tunable and must have a range.")
    if given and kind in ("Integer", "Continuous"):
        low, high = (parameter["Range"][wanted][member] for member in ("MinValue", "MaxValue"))
        for value in (low, high):
            if (problem := problem_with(value, {"Type": kind})) is not None:
                raise Invalid(f"The range of hyperparameter {name} is not valid: {problem}")
        if float(low) > float(high):
            raise Invalid(f"The range of hyperparameter {name} is not valid: MinValue {low} is greater than MaxValue {high}.")
    default = parameter.get("DefaultValue")
    if default is not None and (problem := problem_with(default, parameter)) is not None:
        raise Invalid(f"The default value of hyperparameter {name} is not valid: {problem}")


def _check_metrics(definitions: Sequence[Mapping[str, Any]], objectives: Sequence[Mapping[str, Any]]) -> None:
    for definition in definitions:
        try:
            re.compile(definition["Regex"])
        except re.error as error:
            raise Invalid(f"Invalid regular expression for metric {definition['Name']}: {error}.") from error
    names = {definition["Name"] for definition in definitions}
    if unknown := [objective["MetricName"] for objective in objectives if objective["MetricName"] not in names]:
        raise Invalid(f"Tuning job objective metrics must be among the metric definitions: {', '.join(unknown)}.")


def check_validation(record: Mapping[str, Any]) -> None:
    (profile,) = record["ValidationSpecification"]["ValidationProfiles"]
    if profile.get("TransformJobDefinition"):
        raise Invalid(f"TransformJobDefinition in ValidationProfiles {_NOT_BUILT}")


def validation_request(record: Mapping[str, Any], job_name: str) -> Record:
    """The training job that shows whether the algorithm works."""
    (profile,) = record["ValidationSpecification"]["ValidationProfiles"]
    definition, training = profile["TrainingJobDefinition"], record["TrainingSpecification"]
    return {
        "TrainingJobName": job_name,
        "AlgorithmSpecification": {
            "TrainingImage": training["TrainingImage"],
            "TrainingInputMode": definition["TrainingInputMode"],
            "MetricDefinitions": training.get("MetricDefinitions") or [],
        },
        "RoleArn": record["ValidationSpecification"]["ValidationRole"],
        **{
            member: definition[member]
            for member in ("HyperParameters", "InputDataConfig", "OutputDataConfig", "ResourceConfig", "StoppingCondition")
            if member in definition
        },
    }
