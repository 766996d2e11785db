"""Algorithms by boto3: declared once, held to by the training and tuning jobs that name them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pilvi.services.sagemaker import image
from pilvi.testing.refusal import refusal
from pilvi.testing.server import Account, eventually

IMAGE = "081325390199.dkr.ecr.us-east-1.amazonaws.com/test-program:1"
PROGRAM = "import json; h = json.load(open('/opt/ml/input/config/hyperparameters.json')); print(h); print('loss=%s' % h['rate'])"


@pytest.fixture(scope="module", autouse=True)
def program_image() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(image.RUNTIMES, "test-program", image.Runtime("", ("python3", "/opt/ml/input/data/code/train.py")))
        yield


def parameter(name: str, kind: str, *ends: str, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"Name": name, "Type": kind, **more}
    if kind == "Categorical" and ends:
        found["Range"] = {"CategoricalParameterRangeSpecification": {"Values": list(ends)}}
    elif ends:
        found["Range"] = {f"{kind}ParameterRangeSpecification": {"MinValue": ends[0], "MaxValue": ends[1]}}
    return found


def specification(**changes: Any) -> dict[str, Any]:
    return {
        "TrainingImage": IMAGE,
        "SupportedTrainingInstanceTypes": ["ml.m5.large"],
        "TrainingChannels": [
            {"Name": "code", "IsRequired": True, "SupportedContentTypes": ["text/x-python"], "SupportedInputModes": ["File"]},
            {"Name": "extra", "SupportedContentTypes": ["text/csv"], "SupportedInputModes": ["File", "FastFile"]},
        ],
        "SupportedHyperParameters": [
            parameter("rate", "Continuous", "0", "1", IsTunable=True, IsRequired=True),
            parameter("depth", "Integer", "1", "9", IsTunable=True, DefaultValue="3"),
            parameter("kind", "Categorical", "a", "b", IsTunable=True),
            parameter("note", "FreeText"),
        ],
        "MetricDefinitions": [{"Name": "loss", "Regex": "loss=(\\S+)"}],
        "SupportedTuningJobObjectiveMetrics": [{"Type": "Minimize", "MetricName": "loss"}],
        **changes,
    }


class Shop:
    def __init__(self, lab: Any) -> None:
        self.lab = lab
        self.sagemaker = lab.sagemaker
        self.source = lab.put("code/train.py", PROGRAM)

    def channel(self, name: str = "code", **changes: Any) -> dict[str, Any]:
        found: dict[str, Any] = self.lab.channel(name, self.source, **{"ContentType": "text/x-python", **changes})
        return found

    def training(self, name: str, algorithm: str = "shop", **changes: Any) -> dict[str, Any]:
        request = self.lab.request(name, HyperParameters={"rate": "0.5"}, InputDataConfig=[self.channel()])
        request["AlgorithmSpecification"] = {"AlgorithmName": algorithm, "TrainingInputMode": "File"}
        return {**request, **changes}

    def tuning(self, name: str, ranges: Any, objective: str = "Minimize") -> dict[str, Any]:
        definition = self.training("unused")
        del definition["TrainingJobName"], definition["HyperParameters"]
        return {
            "HyperParameterTuningJobName": name,
            "HyperParameterTuningJobConfig": {
                "Strategy": "Random",
                "HyperParameterTuningJobObjective": {"Type": objective, "MetricName": "loss"},
                "ResourceLimits": {"MaxNumberOfTrainingJobs": 2, "MaxParallelTrainingJobs": 2},
                "ParameterRanges": ranges,
            },
            "TrainingJobDefinition": definition,
        }


@pytest.fixture(scope="module")
def shop(lab: Any) -> Shop:
    found = Shop(lab)
    found.sagemaker.create_algorithm(AlgorithmName="shop", TrainingSpecification=specification())
    return found


def test_create_algorithm_keeps_the_declaration(shop: Shop) -> None:
    tags = [{"Key": "team", "Value": "a"}]
    done = shop.sagemaker.create_algorithm(
        AlgorithmName="Kept", AlgorithmDescription="mine", TrainingSpecification=specification(), Tags=tags
    )
    arn = f"arn:aws:sagemaker:us-east-1:{shop.lab.aws.account}:algorithm/kept"
    assert done["AlgorithmArn"] == arn
    for name in ("Kept", arn):
        found = shop.sagemaker.describe_algorithm(AlgorithmName=name)
        assert found["TrainingSpecification"] == specification()
        assert (found["AlgorithmName"], found["AlgorithmDescription"]) == ("Kept", "mine")
        assert found["AlgorithmStatus"] == "Completed"
        assert found["AlgorithmStatusDetails"] == {"ValidationStatuses": [], "ImageScanStatuses": []}
    assert shop.sagemaker.list_tags(ResourceArn=arn)["Tags"] == tags
    code, message = refusal(shop.sagemaker.create_algorithm, AlgorithmName="kept", TrainingSpecification=specification())
    assert (code, message) == ("ValidationException", f"Algorithm already exists: {arn}")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"SupportedHyperParameters": [parameter("a", "Integer", "1", "2")] * 2}, "must be unique"),
        ({"SupportedHyperParameters": [parameter("a", "Integer", "1", "2.5")]}, "2.5 is not an integer"),
        ({"SupportedHyperParameters": [parameter("a", "Integer", "3", "2")]}, "greater than"),
        ({"SupportedHyperParameters": [parameter("a", "Integer", IsTunable=True)]}, "must have a range"),
        ({"SupportedHyperParameters": [parameter("a", "Continuous", "0", "1", DefaultValue="7")]}, "does not lie between"),
        ({"SupportedHyperParameters": [parameter("a", "Continuous", "0", "1") | {"Type": "FreeText"}]}, "does not fit its type"),
        (
            {"MetricDefinitions": [{"Name": "m", "Regex": "("}], "SupportedTuningJobObjectiveMetrics": []},
            "Invalid regular expression",
        ),
        ({"SupportedTuningJobObjectiveMetrics": [{"Type": "Minimize", "MetricName": "x"}]}, "among the metric definitions"),
        ({"SupportedTrainingInstanceTypes": []}, "SupportedTrainingInstanceTypes"),
        ({"TrainingImage": "nowhere/else:1"}, "Cannot find repository"),
        ({"TrainingImageDigest": "sha256:" + "0" * 64}, "not supported"),
    ],
)
def test_create_algorithm_refuses_contradictions(shop: Shop, changes: dict[str, Any], words: str) -> None:
    code, message = refusal(shop.sagemaker.create_algorithm, AlgorithmName="bad", TrainingSpecification=specification(**changes))
    assert code == "ValidationException"
    assert words in message


def validation(shop: Shop, rate: str) -> dict[str, Any]:
    request = shop.training("unused", HyperParameters={"rate": rate})
    members = ("HyperParameters", "InputDataConfig", "OutputDataConfig", "ResourceConfig", "StoppingCondition")
    profile = {
        "ProfileName": "first",
        "TrainingJobDefinition": {"TrainingInputMode": "File", **{member: request[member] for member in members}},
    }
    return {"ValidationRole": shop.lab.role, "ValidationProfiles": [profile]}


def test_create_algorithm_runs_its_validation(shop: Shop) -> None:
    shop.sagemaker.create_algorithm(
        AlgorithmName="proven", TrainingSpecification=specification(), ValidationSpecification=validation(shop, "0.5")
    )

    def ended(name: str) -> Any:
        found = shop.sagemaker.describe_algorithm(AlgorithmName=name)
        return found if found["AlgorithmStatus"] != "InProgress" else None

    found = eventually(lambda: ended("proven"))
    assert found["AlgorithmStatus"] == "Completed"
    assert found["AlgorithmStatusDetails"]["ValidationStatuses"] == [{"Name": "first", "Status": "Completed"}]
    (job,) = shop.sagemaker.list_training_jobs(NameContains="proven-validation")["TrainingJobSummaries"]
    shop.sagemaker.delete_training_job(TrainingJobName=job["TrainingJobName"])
    assert ended("proven")["AlgorithmStatus"] == "Completed"

    bad = validation(shop, "0.5")
    bad["ValidationProfiles"][0]["TrainingJobDefinition"]["HyperParameters"] = {"other": "1"}
    shop.sagemaker.create_algorithm(AlgorithmName="unproven", TrainingSpecification=specification(), ValidationSpecification=bad)
    found = eventually(lambda: ended("unproven"))
    assert found["AlgorithmStatus"] == "Failed"
    assert found["AlgorithmStatusDetails"]["ValidationStatuses"][0]["FailureReason"].startswith("AlgorithmError")
    _, message = refusal(shop.sagemaker.create_training_job, **shop.training("unusable", "unproven"))
    assert "its status is Failed" in message


def test_create_algorithm_refuses_validation_that_is_not_built(shop: Shop) -> None:
    asked = validation(shop, "0.5")
    asked["ValidationProfiles"][0]["TransformJobDefinition"] = {
        "TransformInput": {"DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": shop.source}}},
        "TransformOutput": {"S3OutputPath": shop.source},
        "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
    }
    create = shop.sagemaker.create_algorithm
    _, message = refusal(create, AlgorithmName="b", TrainingSpecification=specification(), ValidationSpecification=asked)
    assert "TransformJobDefinition" in message
    assert (
        "CertifyForMarketplace"
        in refusal(create, AlgorithmName="b", TrainingSpecification=specification(), CertifyForMarketplace=True)[1]
    )


def test_describe_algorithm_knows_no_other(shop: Shop, other_aws: Account) -> None:
    arn = f"arn:aws:sagemaker:us-east-1:{other_aws.account}:algorithm/shop"
    expected = ("ValidationException", f"Algorithm does not exist: {arn}")
    assert refusal(other_aws.client("sagemaker").describe_algorithm, AlgorithmName="shop") == expected
    assert refusal(shop.sagemaker.describe_algorithm, AlgorithmName=arn)[0] == "ValidationException"


def test_list_algorithms_pages_and_delete_algorithm_forgets(fresh_lab: Any) -> None:
    sagemaker = fresh_lab.sagemaker
    for name in ("one", "two", "three"):
        sagemaker.create_algorithm(AlgorithmName=name, TrainingSpecification=specification())
    pages = sagemaker.get_paginator("list_algorithms")

    def names(**more: Any) -> list[str]:
        found = pages.paginate(PaginationConfig={"PageSize": 2}, **more)
        return [entry["AlgorithmName"] for page in found for entry in page["AlgorithmSummaryList"]]

    assert names() == ["one", "two", "three"]
    assert names(SortBy="Name", SortOrder="Descending") == ["two", "three", "one"]
    assert names(NameContains="t") == ["two", "three"]
    sagemaker.delete_algorithm(AlgorithmName="two")
    assert names() == ["one", "three"]
    assert refusal(sagemaker.delete_algorithm, AlgorithmName="two")[0] == "ValidationException"


# -- in use ----------------------------------------------------------------------------------------------------------------


def test_create_training_job_runs_an_algorithm(shop: Shop) -> None:
    shop.sagemaker.create_training_job(**shop.training("by-name"))
    job = shop.lab.wait("by-name")
    assert job["TrainingJobStatus"] == "Completed"
    assert job["HyperParameters"] == {"rate": "0.5", "depth": "3"}
    assert job["AlgorithmSpecification"]["AlgorithmName"] == "shop"
    assert job["AlgorithmSpecification"]["MetricDefinitions"] == specification()["MetricDefinitions"]
    assert "TrainingImage" not in job["AlgorithmSpecification"]
    assert job["FinalMetricDataList"][0]["MetricName"] == "loss"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"HyperParameters": {}}, "rate is required"),
        ({"HyperParameters": {"rate": "2"}}, "does not lie between 0 and 1"),
        ({"HyperParameters": {"rate": "0.1", "kind": "c"}}, "not one of a, b"),
        ({"HyperParameters": {"rate": "0.1", "depth": "1.5"}}, "not an integer"),
        ({"HyperParameters": {"rate": "0.1", "other": "1"}}, "other is not supported"),
        ({"InputDataConfig": None}, "channels code are required"),
        ({"ResourceConfig": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 1}}, "ml.m5.xlarge is not supported"),
        ({"ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 2, "VolumeSizeInGB": 1}}, "distributed training"),
        ({"AlgorithmSpecification": {"AlgorithmName": "none", "TrainingInputMode": "File"}}, "Algorithm does not exist"),
        ({"AlgorithmSpecification": {"AlgorithmName": "shop", "TrainingImage": IMAGE, "TrainingInputMode": "File"}}, "both"),
        ({"AlgorithmSpecification": {"AlgorithmName": "shop", "TrainingInputMode": "Pipe"}}, "input mode Pipe"),
        ({"AlgorithmSpecification": {"AlgorithmName": "shop", "TrainingInputMode": "File", "MetricDefinitions": [{"Name": "m", "Regex": "x"}]}}, "defines its metrics itself"),
    ],
)  # fmt: skip
def test_create_training_job_holds_to_the_algorithm(shop: Shop, changes: dict[str, Any], words: str) -> None:
    request = {key: value for key, value in shop.training("held", **changes).items() if value is not None}
    code, message = refusal(shop.sagemaker.create_training_job, **request)
    assert code == "ValidationException"
    assert words in message


def test_create_training_job_holds_to_the_channels(shop: Shop) -> None:
    create = shop.sagemaker.create_training_job
    channels = {
        "channels more are not": [shop.channel(), shop.channel("more")],
        "content type text/csv": [shop.channel(ContentType="text/csv")],
        "compression type Gzip": [shop.channel(CompressionType="Gzip")],
    }
    for words, given in channels.items():
        assert words in refusal(create, **shop.training("held", InputDataConfig=given))[1]


def test_tuning_accepts_the_declared_ranges(shop: Shop) -> None:
    ranges = {
        "ContinuousParameterRanges": [{"Name": "rate", "MinValue": "0.2", "MaxValue": "0.4"}],
        "IntegerParameterRanges": [{"Name": "depth", "MinValue": "2", "MaxValue": "9"}],
        "CategoricalParameterRanges": [{"Name": "kind", "Values": ["a", "b"]}],
    }
    shop.sagemaker.create_hyper_parameter_tuning_job(**shop.tuning("declared", ranges))
    describe = shop.sagemaker.describe_hyper_parameter_tuning_job
    done = eventually(
        lambda: (
            found
            if (found := describe(HyperParameterTuningJobName="declared"))["HyperParameterTuningJobStatus"] != "InProgress"
            else None
        )
    )
    assert done["HyperParameterTuningJobStatus"] == "Completed"
    assert done["BestTrainingJob"]["FinalHyperParameterTuningJobObjectiveMetric"]["MetricName"] == "loss"


@pytest.mark.parametrize(
    ("ranges", "words"),
    [
        ({"ContinuousParameterRanges": [{"Name": "rate", "MinValue": "0.5", "MaxValue": "2"}]}, "2.0 does not lie between"),
        ({"ContinuousParameterRanges": [{"Name": "other", "MinValue": "0", "MaxValue": "1"}]}, "not tunable"),
        ({"ContinuousParameterRanges": [{"Name": "depth", "MinValue": "1", "MaxValue": "2"}]}, "it must be Integer"),
        ({"CategoricalParameterRanges": [{"Name": "kind", "Values": ["a", "z"]}]}, "z is not one of"),
        ({"CategoricalParameterRanges": [{"Name": "note", "Values": ["a"]}]}, "not tunable"),
    ],
)
def test_tuning_refuses_other_ranges(shop: Shop, ranges: Any, words: str) -> None:
    code, message = refusal(shop.sagemaker.create_hyper_parameter_tuning_job, **shop.tuning("undeclared", ranges))
    assert code == "ValidationException"
    assert words in message


def test_tuning_refuses_other_objectives(shop: Shop) -> None:
    ranges = {"ContinuousParameterRanges": [{"Name": "rate", "MinValue": "0", "MaxValue": "1"}]}
    request = shop.tuning("undeclared", ranges, "Maximize")
    assert "Supported objectives: Minimize loss" in refusal(shop.sagemaker.create_hyper_parameter_tuning_job, **request)[1]
