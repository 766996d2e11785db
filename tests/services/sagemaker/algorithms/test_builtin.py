"""Training jobs on the images of built-in algorithms, from CreateTrainingJob to the model in S3."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pilvi.compute.environments import Environments
from pilvi.core.errors import Invalid
from pilvi.services.sagemaker.builtin_algorithms import BUILTINS, check_tuning

REGISTRIES = {
    "xgboost": "811284229777",
    "sagemaker-xgboost": "683313688378",
    "kmeans": "382416733822",
    "linear-learner": "382416733822",
}
NUMBERS = [(number % 7, number % 11, (number * 37) % 100) for number in range(400)]
XGBOOST = {"num_round": "5", "objective": "binary:logistic", "eval_metric": "auc"}


def image(repository: str) -> str:
    tag = "1.7-1" if repository == "sagemaker-xgboost" else "1"
    return f"{REGISTRIES[repository]}.dkr.ecr.us-east-1.amazonaws.com/{repository}:{tag}"


def labelled() -> str:
    return "".join(f"{int(c > 50)},{a},{b},{c}\n" for a, b, c in NUMBERS)


@pytest.fixture(scope="session")
def algorithms(server: Any) -> None:
    if Environments(server.config.runtimes_dir).find("algorithms") is None:
        pytest.skip("the runtime is not installed: pilvi runtimes install algorithms")


def run(
    lab: Any, name: str, repository: str, hyperparameters: Mapping[str, str], channels: list[Any], **more: Any
) -> Mapping[str, Any]:
    algorithm = {"TrainingImage": image(repository), "TrainingInputMode": more.pop("mode", "File")}
    found: Mapping[str, Any] = lab.run(
        name, algorithm=algorithm, HyperParameters=dict(hyperparameters), InputDataConfig=channels, **more
    )
    return found


@pytest.mark.usefixtures("algorithms")
def test_create_training_job_trains_xgboost(lab: Any) -> None:
    channels = [
        lab.channel(name, lab.put(f"xgb/{name}/rows.csv", labelled()), ContentType="text/csv") for name in ("train", "validation")
    ]
    found = run(lab, "xgb", "sagemaker-xgboost", XGBOOST, channels)
    assert found["TrainingJobStatus"] == "Completed", found.get("FailureReason")
    assert {metric["MetricName"]: metric["Value"] for metric in found["FinalMetricDataList"]} == {
        "train:auc": 1.0,
        "validation:auc": 1.0,
    }
    definitions = {entry["Name"]: entry["Regex"] for entry in found["AlgorithmSpecification"]["MetricDefinitions"]}
    assert definitions["validation:auc"] == r".*\[[0-9]+\].*#011validation-auc:([-+0-9.eE]+)"
    assert list(lab.members("out/xgb/output/model.tar.gz")) == ["xgboost-model"]
    assert sum("#011validation-auc:" in line for line in lab.lines("xgb")) == 5


@pytest.mark.usefixtures("algorithms")
def test_create_training_job_without_content_type_tells_what_to_mend(lab: Any) -> None:
    found = run(lab, "xgb-libsvm", "xgboost", XGBOOST, [lab.channel("train", lab.put("xgb/plain/rows.csv", labelled()))])
    assert found["TrainingJobStatus"] == "Failed"
    assert found["FailureReason"].startswith("ClientError: First line '0,0,0,0...' of file 'rows.csv' is not 'LIBSVM' format.")
    assert "set it to text/csv" in found["FailureReason"]


@pytest.mark.usefixtures("algorithms")
def test_create_training_job_without_required_hyperparameters_fails_as_documented(lab: Any) -> None:
    channel = lab.channel("train", lab.put("km/rows.csv", "1,2\n"), ContentType="text/csv;label_size=0")
    found = run(lab, "no-k", "kmeans", {}, [channel])
    assert found["FailureReason"].startswith(
        "ClientError: No value(s) were specified for 'k', 'feature_dim' which are required hyperparameter(s) (caused by ValidationError)"
    )
    assert found["FailureReason"].endswith(", exit code: 2")


@pytest.mark.usefixtures("algorithms")
def test_create_training_job_reads_pipes(lab: Any) -> None:
    for number in range(2):
        lab.put(
            f"ll/pipe/{number}.csv", "".join(f"{3 * a - b + 1},{a},{b}\n" for a, b, _ in NUMBERS[number * 200 : number * 200 + 200])
        )
    channel = lab.channel("train", f"s3://{lab.bucket}/ll/pipe/", ContentType="text/csv")
    found = run(lab, "ll-pipe", "linear-learner", {"predictor_type": "regressor", "num_models": "4"}, [channel], mode="Pipe")
    assert found["TrainingJobStatus"] == "Completed", found.get("FailureReason")
    assert {metric["MetricName"] for metric in found["FinalMetricDataList"]} >= {
        "train:objective_loss",
        "train:progress",
        "train:throughput",
    }
    assert list(lab.members("out/ll-pipe/output/model.tar.gz")) == ["model_algo-1"]


@pytest.mark.usefixtures("algorithms")
def test_create_training_job_trains_on_several_instances(lab: Any) -> None:
    """Sharded data: each host sees its half, one model comes out."""
    for number in range(2):
        lab.put(f"km/halves/{number}.csv", "".join(f"{number * 10 + a % 2 / 10},{b % 2 / 10}\n" for a, b, _ in NUMBERS[:200]))
    channel = lab.channel("train", f"s3://{lab.bucket}/km/halves/", ContentType="text/csv;label_size=0")
    channel["DataSource"]["S3DataSource"]["S3DataDistributionType"] = "ShardedByS3Key"
    resources = {"InstanceType": "ml.m5.large", "InstanceCount": 2, "VolumeSizeInGB": 10}
    found = run(lab, "km-two", "kmeans", {"k": "2", "feature_dim": "2"}, [channel], ResourceConfig=resources)
    assert found["TrainingJobStatus"] == "Completed", (found.get("FailureReason"), lab.lines("km-two"))
    assert list(lab.members("out/km-two/output/model.tar.gz")) == ["model_algo-1"]
    train = next(metric["Value"] for metric in found["FinalMetricDataList"] if metric["MetricName"] == "train:msd")
    assert train < 1


def test_create_training_job_refuses_other_metrics_of_builtins(lab: Any) -> None:
    definition = {
        "TrainingImage": image("kmeans"),
        "TrainingInputMode": "File",
        "MetricDefinitions": [{"Name": "a", "Regex": "a=(.)"}],
    }
    channel = lab.channel("train", lab.put("km/rows.csv", "1,2\n"))
    with pytest.raises(ClientError) as caught:
        lab.start("km-metrics", algorithm=definition, InputDataConfig=[channel])
    assert "You can't override the metric definitions for Amazon SageMaker algorithms." in caught.value.response["Error"]["Message"]


# -- the table ------------------------------------------------------------------------------------------------------------

LINES = {
    "xgboost": ["[0]#011train-auc:0.9#011validation-auc:0.8"],
    "kmeans": ["[11/22/2026 INFO 7] #quality_metric: host=algo-1, test msd <loss>=5.3"],
    "linear-learner": [
        "#quality_metric: host=algo-1, validation binary_classification_cross_entropy_objective <loss>=0.1",
        "#quality_metric: host=algo-1, validation binary_f_1.000 <score>=0.9",
        "#progress_metric: host=algo-1, completed 6.667 % of epochs",
    ],
    "forecasting-deepar": ["#test_score (algo-1, RMSE): 24.8"],
    "object-detection": ["#quality_metric: host=algo-1, epoch=0, validation mAP <score>=(0.05)"],
}


@pytest.mark.parametrize("repository", sorted(LINES))
def test_metrics_are_found_in_their_lines(repository: str) -> None:
    for line in LINES[repository]:
        found = [match[1] for metric in BUILTINS[repository].metrics if (match := re.search(metric.regex, line))]
        assert found
        assert all(float(value) > 0 for value in found)


def test_every_metric_is_well_formed() -> None:
    for builtin in BUILTINS.values():
        names = [metric.name for metric in builtin.metrics]
        assert len(names) == len(set(names))
        assert all(re.compile(metric.regex).groups == 1 for metric in builtin.metrics)


def test_check_tuning_holds_to_the_algorithm() -> None:
    check_tuning("xgboost", "validation:auc", "Maximize", {"eta", "max_depth"})
    check_tuning("somebodys-image", "anything", "Maximize", {"x"})
    for objective, goal, tuned, words in (
        ("validation:nonsense", "Maximize", {"eta"}, "Choose a valid objective metric."),
        ("validation:auc", "Minimize", {"eta"}, "Choose a valid objective metric type."),
        ("validation:auc", "Maximize", {"eta", "seed"}, "untunable hyperparameters: [seed]"),
    ):
        with pytest.raises(Invalid, match=re.escape(words)):
            check_tuning("xgboost", objective, goal, tuned)
