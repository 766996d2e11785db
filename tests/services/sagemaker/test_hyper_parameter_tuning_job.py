"""Hyperparameter tuning jobs by boto3, with shell scripts as training programs."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pilvi.services.sagemaker import image
from pilvi.testing.server import Account, eventually

READ = "import json; h = json.load(open('/opt/ml/input/config/hyperparameters.json'));"
SQUARE = f"{READ} print('loss=%r' % ((float(h['x']) - 0.3) ** 2))"
IMAGE = "081325390199.dkr.ecr.us-east-1.amazonaws.com/test-program:1"
ENDED = ("Completed", "Failed", "Stopped")


def refusal(call: Any, **request: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**request)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


class Tuning:
    """One account's tuning jobs."""

    def __init__(self, lab: Any) -> None:
        self.lab = lab
        self.sagemaker = lab.sagemaker

    def definition(self, program: str = SQUARE, **changes: Any) -> dict[str, Any]:
        request = self.lab.request("unused")
        del request["TrainingJobName"]
        algorithm = {
            "TrainingImage": IMAGE,
            "TrainingInputMode": "File",
            "MetricDefinitions": [{"Name": "loss", "Regex": "loss=(\\S+)"}],
        }
        source = self.lab.put(f"code/{abs(hash(program))}/train.py", program)
        return {
            **request,
            "AlgorithmSpecification": algorithm,
            "StaticHyperParameters": {"fixed": "1"},
            "InputDataConfig": [self.lab.channel("code", source)],
            **changes,
        }

    def request(self, name: str, program: str = SQUARE, ranges: Any = None, most: int | None = 4, **changes: Any) -> dict[str, Any]:
        limits = {"MaxNumberOfTrainingJobs": most, "MaxParallelTrainingJobs": changes.pop("parallel", 2)}
        config = {
            "Strategy": changes.pop("strategy", "Random"),
            "HyperParameterTuningJobObjective": {"Type": changes.pop("direction", "Minimize"), "MetricName": "loss"},
            "ResourceLimits": {key: value for key, value in limits.items() if value is not None},
            "ParameterRanges": ranges or {"ContinuousParameterRanges": [continuous("x", 0, 1)]},
            **changes.pop("config", {}),
        }
        return {
            "HyperParameterTuningJobName": name,
            "HyperParameterTuningJobConfig": {key: value for key, value in config.items() if value is not None},
            "TrainingJobDefinition": self.definition(program, **changes.pop("definition", {})),
            **changes,
        }

    def start(self, name: str, *arguments: Any, **changes: Any) -> str:
        done = self.sagemaker.create_hyper_parameter_tuning_job(**self.request(name, *arguments, **changes))
        return str(done["HyperParameterTuningJobArn"])

    def describe(self, name: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
        return found

    def wait(self, name: str, within_s: float = 120.0) -> Mapping[str, Any]:
        def ended() -> Any:
            found = self.describe(name)
            return found if found["HyperParameterTuningJobStatus"] in ENDED else None

        found: Mapping[str, Any] = eventually(ended, within_s=within_s)
        return found

    def run(self, name: str, *arguments: Any, **changes: Any) -> Mapping[str, Any]:
        self.start(name, *arguments, **changes)
        return self.wait(name)

    def children(self, name: str, **more: Any) -> list[Any]:
        pages = self.sagemaker.get_paginator("list_training_jobs_for_hyper_parameter_tuning_job")
        found = pages.paginate(HyperParameterTuningJobName=name, **more)
        return [entry for page in found for entry in page["TrainingJobSummaries"]]

    def tried(self, name: str, parameter: str) -> list[str]:
        return [entry["TunedHyperParameters"][parameter] for entry in self.children(name)]


def continuous(name: str, low: float, high: float, **more: str) -> dict[str, str]:
    return {"Name": name, "MinValue": str(low), "MaxValue": str(high), **more}


def value_of(entry: Mapping[str, Any]) -> float:
    return float(entry["FinalHyperParameterTuningJobObjectiveMetric"]["Value"])


@pytest.fixture(scope="module", autouse=True)
def program_image() -> Iterator[None]:
    """Tuning jobs name no entry point, so there is an image whose own program is a script in the channel `code`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(image.RUNTIMES, "test-program", image.Runtime("", ("python3", "/opt/ml/input/data/code/train.py")))
        yield


@pytest.fixture(scope="module")
def tuning(lab: Any) -> Tuning:
    return Tuning(lab)


def test_create_hyper_parameter_tuning_job_runs_training_jobs(tuning: Tuning) -> None:
    arn = tuning.start("First")
    assert arn == f"arn:aws:sagemaker:us-east-1:{tuning.lab.aws.account}:hyper-parameter-tuning-job/first"
    done = tuning.wait("First")
    assert done["HyperParameterTuningJobStatus"] == "Completed"
    children = tuning.children("First")
    assert len(children) == 4
    best = min(children, key=value_of)
    assert done["BestTrainingJob"]["TrainingJobName"] == best["TrainingJobName"]
