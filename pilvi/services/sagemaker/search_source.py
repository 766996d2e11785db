"""What Search finds: for each resource type its properties and all there are of it, as Describe gives them, with their tags.

The next resource type: a row in SOURCES, with the member names of its shape in AWS's model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pilvi.core.errors import Invalid, NotFound, ServiceError
from pilvi.core.service import Context
from pilvi.services.sagemaker import hyper_parameter_tuning_job, training_job
from pilvi.services.sagemaker.job_kind import Record
from pilvi.services.sagemaker.tag import tags_of

_OPEN = ("HyperParameters.", "Metrics.", "Tags.")
"""Properties named by their users."""


@dataclass(frozen=True, slots=True)
class Source:
    """One resource type."""

    member: str
    """Of a search result, and the table's name."""
    properties: frozenset[str]
    describe: Callable[[Context, Record], Mapping[str, Any]]

    @property
    def name(self) -> str:
        return f"{self.member}Name"

    def entities(self, ctx: Context) -> Iterator[Record]:
        for record in ctx.records(self.member).all():
            try:
                found = dict(self.describe(ctx, record))
            except (NotFound, ServiceError):
                continue  # it was deleted in between
            yield {**found, "Tags": tags_of(ctx, found[f"{self.member}Arn"])}

    def check_property(self, name: str) -> None:
        """Invalid unless the resource can have it."""
        if name.startswith(_OPEN) or name.split(".", 1)[0] in self.properties:
            return
        raise Invalid(f"Unknown property name: {name}. It is not a property of {self.member}.")


def source_of(resource: str) -> Source:
    if (source := SOURCES.get(resource)) is None:
        raise Invalid(f"Search over the resource {resource} is not supported by this server yet.")
    return source


def _training_job(ctx: Context, record: Record) -> Mapping[str, Any]:
    return training_job.described(record, ctx.jobs.get(record["_job"]))


# Source: the shapes TrainingJob and HyperParameterTuningJobSearchEntity of the service model.
SOURCES = {
    "TrainingJob": Source(
        "TrainingJob",
        frozenset(
            [
                "TrainingJobName",
                "TrainingJobArn",
                "TuningJobArn",
                "LabelingJobArn",
                "AutoMLJobArn",
                "ModelArtifacts",
                "TrainingJobStatus",
                "SecondaryStatus",
                "FailureReason",
                "HyperParameters",
                "AlgorithmSpecification",
                "RoleArn",
                "InputDataConfig",
                "OutputDataConfig",
                "ResourceConfig",
                "WarmPoolStatus",
                "VpcConfig",
                "StoppingCondition",
                "CreationTime",
                "TrainingStartTime",
                "TrainingEndTime",
                "LastModifiedTime",
                "SecondaryStatusTransitions",
                "FinalMetricDataList",
                "EnableNetworkIsolation",
                "EnableInterContainerTrafficEncryption",
                "EnableManagedSpotTraining",
                "CheckpointConfig",
                "TrainingTimeInSeconds",
                "BillableTimeInSeconds",
                "DebugHookConfig",
                "ExperimentConfig",
                "DebugRuleConfigurations",
                "TensorBoardOutputConfig",
                "DebugRuleEvaluationStatuses",
                "OutputModelPackageArn",
                "ModelPackageConfig",
                "ProfilerConfig",
                "Environment",
                "RetryStrategy",
                "Tags",
            ]
        ),
        _training_job,
    ),
    "HyperParameterTuningJob": Source(
        "HyperParameterTuningJob",
        frozenset(
            [
                "HyperParameterTuningJobName",
                "HyperParameterTuningJobArn",
                "HyperParameterTuningJobConfig",
                "TrainingJobDefinition",
                "TrainingJobDefinitions",
                "HyperParameterTuningJobStatus",
                "CreationTime",
                "HyperParameterTuningEndTime",
                "LastModifiedTime",
                "TrainingJobStatusCounters",
                "ObjectiveStatusCounters",
                "BestTrainingJob",
                "OverallBestTrainingJob",
                "WarmStartConfig",
                "FailureReason",
                "TuningJobCompletionDetails",
                "ConsumedResources",
                "Tags",
            ]
        ),
        hyper_parameter_tuning_job.described,
    ),
}
