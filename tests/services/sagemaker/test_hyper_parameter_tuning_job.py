"""Hyperparameter tuning jobs by boto3, with shell scripts as training programs."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from pilvi.compute.environments import Environments
from pilvi.services.sagemaker import image
from pilvi.testing.refusal import refusal
from pilvi.testing.server import Account, eventually

READ = "import json; h = json.load(open('/opt/ml/input/config/hyperparameters.json'));"
SQUARE = f"{READ} print('loss=%r' % ((float(h['x']) - 0.3) ** 2))"
IMAGE = "081325390199.dkr.ecr.us-east-1.amazonaws.com/test-program:1"
ENDED = ("Completed", "Failed", "Stopped")


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
    assert done["BestTrainingJob"]["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] == value_of(best)
    assert done["TrainingJobStatusCounters"] == {
        "Completed": 4,
        "InProgress": 0,
        "RetryableError": 0,
        "NonRetryableError": 0,
        "Stopped": 0,
    }
    assert done["ObjectiveStatusCounters"] == {"Succeeded": 4, "Pending": 0, "Failed": 0}
    assert done["CreationTime"] < done["HyperParameterTuningEndTime"] <= done["LastModifiedTime"]
    assert done["ConsumedResources"]["RuntimeInSeconds"] >= 0
    assert "FailureReason" not in done
    assert "OverallBestTrainingJob" not in done
    assert done["TrainingJobDefinition"]["StaticHyperParameters"] == {"_tuning_objective_metric": "loss", "fixed": "1"}


def test_create_hyper_parameter_tuning_job_names_and_fills_its_training_jobs(tuning: Tuning) -> None:
    arn = tuning.start("Named", most=2, Tags=[{"Key": "team", "Value": "a"}])
    tuning.wait("Named")
    children = sorted(tuning.children("Named"), key=lambda entry: entry["TrainingJobName"])
    for number, child in enumerate(children, 1):
        assert re.fullmatch(rf"Named-00{number}-[0-9a-f]{{8}}", child["TrainingJobName"])
        job = tuning.lab.describe(child["TrainingJobName"])
        assert job["TuningJobArn"] == arn
        assert job["HyperParameters"] == {"_tuning_objective_metric": "loss", "fixed": "1", **child["TunedHyperParameters"]}
        assert job["ResourceConfig"]["InstanceCount"] == 1
        assert job["FinalMetricDataList"][0]["Value"] == pytest.approx(value_of(child))
        assert (child["TrainingJobStatus"], child["ObjectiveStatus"]) == ("Completed", "Succeeded")
        assert child["CreationTime"] <= child["TrainingStartTime"] <= child["TrainingEndTime"]
        tags = tuning.sagemaker.list_tags(ResourceArn=child["TrainingJobArn"])["Tags"]
        assert tags == tuning.sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "team", "Value": "a"}]


def test_create_hyper_parameter_tuning_job_tries_values_inside_the_ranges(tuning: Tuning) -> None:
    ranges = {
        "ContinuousParameterRanges": [
            continuous("x", 0.0001, 1, ScalingType="Logarithmic"),
            continuous("near", 0.1, 0.999, ScalingType="ReverseLogarithmic"),
        ],
        "IntegerParameterRanges": [{"Name": "n", "MinValue": "2", "MaxValue": "5"}],
        "CategoricalParameterRanges": [{"Name": "kind", "Values": ['"a"', '"b"']}],
    }
    tuning.run("ranges", SQUARE, ranges, parallel=6, most=6)
    for child in tuning.children("ranges"):
        tried = child["TunedHyperParameters"]
        assert 0.0001 <= float(tried["x"]) <= 1
        assert 0.1 <= float(tried["near"]) <= 0.999
        assert tried["n"] in ("2", "3", "4", "5")
        assert tried["kind"] in ('"a"', '"b"')


def test_create_hyper_parameter_tuning_job_repeats_the_draw_of_a_seed(tuning: Tuning) -> None:
    for name, seed in (("seed-a", 7), ("seed-b", 7), ("seed-c", 8)):
        tuning.start(name, most=2, config={"RandomSeed": seed})
    for name in ("seed-a", "seed-b", "seed-c"):
        tuning.wait(name)
    assert tuning.tried("seed-a", "x") == tuning.tried("seed-b", "x") != tuning.tried("seed-c", "x")


def test_create_hyper_parameter_tuning_job_searches_a_grid_once(tuning: Tuning) -> None:
    ranges = {
        "CategoricalParameterRanges": [
            {"Name": "x", "Values": ["0.1", "0.3", "0.5"]},
            {"Name": "b", "Values": ["p", "q", "r", "s"]},
        ]
    }
    done = tuning.run("grid", SQUARE, ranges, most=None, strategy="Grid", parallel=4)
    assert done["HyperParameterTuningJobConfig"]["ResourceLimits"] == {"MaxNumberOfTrainingJobs": 12, "MaxParallelTrainingJobs": 4}
    tried = {tuple(child["TunedHyperParameters"].values()) for child in tuning.children("grid")}
    assert len(tuning.children("grid")) == len(tried) == 12
    assert done["BestTrainingJob"]["TunedHyperParameters"]["x"] == "0.3"


def test_create_hyper_parameter_tuning_job_keeps_to_the_parallel_limit(tuning: Tuning) -> None:
    tuning.run("limited", f"import time; time.sleep(0.3); {SQUARE}", parallel=2, most=6)
    children = [tuning.lab.describe(child["TrainingJobName"]) for child in tuning.children("limited")]
    assert len(children) == 6
    for child in children:
        at = child["CreationTime"]
        assert sum(other["CreationTime"] <= at < other["TrainingEndTime"] for other in children) <= 2


def test_create_hyper_parameter_tuning_job_searches_with_a_model(tuning: Tuning) -> None:
    done = tuning.run("bayes", most=12, parallel=3, strategy="Bayesian", config={"RandomSeed": 1})
    assert done["TrainingJobStatusCounters"]["Completed"] == 12
    assert value_of(done["BestTrainingJob"]) == min(value_of(child) for child in tuning.children("bayes"))


EPOCHS = f"""{READ}
import time
for epoch in range(1, int(h.get('epochs', 6)) + 1):
    print('loss=%r' % (float(h['x']) * (1 + float(h['x'] > '5') * epoch)), flush=True)
    time.sleep(float(h['x']) > 5 and 0.7 or 0.02)
"""


def test_create_hyper_parameter_tuning_job_stops_a_diverging_training_job(tuning: Tuning) -> None:
    ranges = {"CategoricalParameterRanges": [{"Name": "x", "Values": ["1", "2", "3", "9"]}]}
    config = {"TrainingJobEarlyStoppingType": "Auto"}
    definition = {"StaticHyperParameters": {"epochs": "60"}}
    done = tuning.run("early", EPOCHS, ranges, most=None, strategy="Grid", parallel=1, config=config, definition=definition)
    by_value = {child["TunedHyperParameters"]["x"]: child for child in tuning.children("early")}
    assert [by_value[x]["TrainingJobStatus"] for x in "1239"] == ["Completed", "Completed", "Completed", "Stopped"]
    assert by_value["9"]["ObjectiveStatus"] == "Succeeded"
    assert done["TrainingJobStatusCounters"]["Stopped"] == 1
    assert done["BestTrainingJob"]["TunedHyperParameters"] == {"x": "1"}


def test_create_hyper_parameter_tuning_job_spends_less_with_hyperband(tuning: Tuning) -> None:
    program = f"""{READ}
import time
for epoch in range(1, 28):
    print('epoch', epoch, 'loss=%r' % (float(h['x']) + 1 / epoch), flush=True)
    time.sleep(0.2)
"""
    config = {"StrategyConfig": {"HyperbandStrategyConfig": {"MinResource": 1, "MaxResource": 27}}, "RandomSeed": 3}
    done = tuning.run("band", program, most=6, parallel=2, strategy="Hyperband", config=config)
    children = tuning.children("band")
    stopped = [child for child in children if child["TrainingJobStatus"] == "Stopped"]
    assert stopped
    epochs = [sum("loss=" in line for line in tuning.lab.lines(child["TrainingJobName"])) for child in children]
    assert sum(epochs) < 27 * len(children)
    assert max(epochs) == 27, "the best one goes to its end"
    assert done["BestTrainingJob"]["TrainingJobStatus"] == "Completed"


def test_create_hyper_parameter_tuning_job_starts_warm(tuning: Tuning) -> None:
    parent = tuning.request("parent", most=20, parallel=4, config={"RandomSeed": 2})
    tuning.sagemaker.create_hyper_parameter_tuning_job(**parent)
    best = tuning.wait("parent")["BestTrainingJob"]
    warm = {
        "ParentHyperParameterTuningJobs": [{"HyperParameterTuningJobName": "parent"}],
        "WarmStartType": "IdenticalDataAndAlgorithm",
    }
    done = tuning.run("child", most=4, parallel=2, strategy="Bayesian", WarmStartConfig=warm, config={"RandomSeed": 4})
    assert all(abs(float(x) - 0.3) < 0.3 for x in tuning.tried("child", "x")[:3])
    overall = done["OverallBestTrainingJob"]
    assert value_of(overall) == min(value_of(best), value_of(done["BestTrainingJob"]))
    assert overall["TuningJobName"] in ("parent", "child")
    transfer = warm | {"WarmStartType": "TransferLearning"}
    other = tuning.run("moved", most=2, strategy="Bayesian", WarmStartConfig=transfer, config={"RandomSeed": 4})
    assert "OverallBestTrainingJob" not in other


def test_create_hyper_parameter_tuning_job_lets_definitions_compete(tuning: Tuning) -> None:
    objective = {"Type": "Minimize", "MetricName": "loss"}
    definitions = [
        tuning.definition(
            f"{READ} print('loss=%r' % (float(h['x']) + {shift}))",
            DefinitionName=name,
            TuningObjective=objective,
            HyperParameterRanges={"ContinuousParameterRanges": [continuous("x", 0, 1)]},
        )
        for name, shift in (("plain", 10), ("better", 0))
    ]
    tuning.sagemaker.create_hyper_parameter_tuning_job(
        HyperParameterTuningJobName="several",
        HyperParameterTuningJobConfig={
            "Strategy": "Random",
            "ResourceLimits": {"MaxNumberOfTrainingJobs": 4, "MaxParallelTrainingJobs": 2},
        },
        TrainingJobDefinitions=definitions,
    )
    done = tuning.wait("several")
    names = [child["TrainingJobDefinitionName"] for child in tuning.children("several")]
    assert sorted(names) == ["better", "better", "plain", "plain"]
    assert done["BestTrainingJob"]["TrainingJobDefinitionName"] == "better"
    assert done["BestTrainingJob"]["FinalHyperParameterTuningJobObjectiveMetric"]["Type"] == "Minimize"
    assert len(done["TrainingJobDefinitions"]) == 2


def test_create_hyper_parameter_tuning_job_ends_at_its_target(tuning: Tuning) -> None:
    criteria = {"TuningJobCompletionCriteria": {"TargetObjectiveMetricValue": 1.0}}
    done = tuning.run("target", most=50, parallel=1, config=criteria)
    assert done["HyperParameterTuningJobStatus"] == "Completed"
    assert len(tuning.children("target")) == 1


def test_create_hyper_parameter_tuning_job_ends_when_nothing_improves(tuning: Tuning) -> None:
    criteria = {"TuningJobCompletionCriteria": {"BestObjectiveNotImproving": {"MaxNumberOfTrainingJobsNotImproving": 3}}}
    done = tuning.run("flat", "print('loss=1.0')", most=50, parallel=1, config=criteria)
    assert done["HyperParameterTuningJobStatus"] == "Completed"
    assert len(tuning.children("flat")) == 4
    assert done["TuningJobCompletionDetails"]["NumberOfTrainingJobsObjectiveNotImproving"] == 3


def test_create_hyper_parameter_tuning_job_keeps_to_its_run_time(tuning: Tuning, server: Any) -> None:
    config = {"ResourceLimits": {"MaxParallelTrainingJobs": 1, "MaxRuntimeInSeconds": 120}}
    tuning.start("timed", f"import time; print('loss=2', flush=True); time.sleep(600); {SQUARE}", config=config)
    eventually(lambda: tuning.describe("timed").get("BestTrainingJob") or tuning.children("timed"))
    rows = server.cloud.rows(tuning.lab.aws.account, "us-east-1", "sagemaker", "HyperParameterTuningJob")
    rows.update("timed", lambda value: value | {"CreationTime": value["CreationTime"].replace(year=2020)})
    done = tuning.wait("timed")
    assert done["HyperParameterTuningJobStatus"] in ("Completed", "Failed")
    assert done["TrainingJobStatusCounters"]["Stopped"] == 1


def test_create_hyper_parameter_tuning_job_gives_up_after_five_failures(tuning: Tuning) -> None:
    done = tuning.run("broken", "raise SystemExit(3)", most=30, parallel=1)
    assert done["HyperParameterTuningJobStatus"] == "Failed"
    assert done["FailureReason"].startswith("No training job succeeded after 5 attempts.")
    assert done["TrainingJobStatusCounters"]["NonRetryableError"] == 5
    child = tuning.children("broken")[0]
    assert child["FailureReason"].startswith("AlgorithmError")
    assert child["ObjectiveStatus"] == "Failed"


def test_create_hyper_parameter_tuning_job_needs_the_objective_to_be_told(tuning: Tuning) -> None:
    done = tuning.run("silent", "print('nothing')", most=3, parallel=1)
    assert done["HyperParameterTuningJobStatus"] == "Failed"
    assert "No objective metrics found after running 3 training jobs" in done["FailureReason"]


def test_create_hyper_parameter_tuning_job_goes_on_beside_failures(tuning: Tuning) -> None:
    ranges = {"CategoricalParameterRanges": [{"Name": "x", "Values": ["word", "0.5"]}]}
    done = tuning.run("mixed", SQUARE, ranges, most=None, strategy="Grid", parallel=1)
    assert done["HyperParameterTuningJobStatus"] == "Completed"
    assert done["ObjectiveStatusCounters"] == {"Succeeded": 1, "Pending": 0, "Failed": 1}


def test_create_hyper_parameter_tuning_job_fails_when_its_role_goes(tuning: Tuning) -> None:
    role = tuning.lab.aws.role("Leaving", "sagemaker.amazonaws.com")
    iam = tuning.lab.aws.client("iam")
    policy = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}'
    iam.put_role_policy(RoleName="Leaving", PolicyName="p", PolicyDocument=policy)
    tuning.start("roleless", f"import time; time.sleep(2); {SQUARE}", parallel=1, definition={"RoleArn": role})
    iam.delete_role_policy(RoleName="Leaving", PolicyName="p")
    iam.delete_role(RoleName="Leaving")
    done = tuning.wait("roleless")
    assert done["HyperParameterTuningJobStatus"] == "Failed"
    assert "Could not assume role" in done["FailureReason"] or "No training job succeeded" in done["FailureReason"]


def test_create_hyper_parameter_tuning_job_on_spot_capacity(tuning: Tuning, server: Any) -> None:
    program = """
import os, time
if os.path.exists('/opt/ml/checkpoints/seen'):
    time.sleep(1.5)
    print('loss=0.5')
else:
    open('/opt/ml/checkpoints/seen', 'w').write('1')
    print('first', flush=True)
    time.sleep(600)
"""
    definition = {
        "EnableManagedSpotTraining": True,
        "StoppingCondition": {"MaxRuntimeInSeconds": 300, "MaxWaitTimeInSeconds": 600},
        "CheckpointConfig": {"S3Uri": f"s3://{tuning.lab.bucket}/spot-points"},
    }
    tuning.start("spot", program, most=1, parallel=1, definition=definition)
    name = eventually(lambda: tuning.children("spot"))[0]["TrainingJobName"]
    tuning.lab.wait_for_line(name, "first")
    row = server.cloud.rows(tuning.lab.aws.account, "us-east-1", "sagemaker", "TrainingJob").get(name.lower())
    server.cloud.jobs.interrupt(row["_job"])
    done = tuning.wait("spot")
    assert done["HyperParameterTuningJobStatus"] == "Completed"
    assert [child["TrainingJobName"] for child in tuning.children("spot")] == [name]
    job = tuning.lab.describe(name)
    assert job["TrainingJobStatus"] == "Completed"
    assert job["BillableTimeInSeconds"] < job["TrainingTimeInSeconds"]


def test_create_hyper_parameter_tuning_job_has_keys_that_its_creator_may_grant(tuning: Tuning) -> None:
    lab = tuning.lab
    key = lab.aws.client("kms").create_key()["KeyMetadata"]["Arn"]
    allowed = [{"Effect": "Allow", "Action": ["s3:*", "logs:*", "kms:GenerateDataKey"], "Resource": "*"}]
    definition = {
        "RoleArn": lab.aws.role("Sealer", "sagemaker.amazonaws.com", {"Version": "2012-10-17", "Statement": allowed}),
        "OutputDataConfig": {"S3OutputPath": f"s3://{lab.bucket}/sealed", "KmsKeyId": key},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1, "VolumeKmsKeyId": key},
    }
    tuning.start("sealed", SQUARE, most=1, parallel=1, definition=definition)
    done = tuning.wait("sealed")
    assert done["HyperParameterTuningJobStatus"] == "Completed", done.get("FailureReason")
    assert {lab.s3.head_object(Bucket=lab.bucket, Key=model)["SSEKMSKeyId"] for model in lab.keys("sealed/")} == {key}


def test_create_hyper_parameter_tuning_job_with_autotune(tuning: Tuning) -> None:
    config = {"ParameterRanges": {"AutoParameters": [{"Name": "x", "ValueHint": "0.2"}]}}
    done = tuning.run("auto", most=3, config=config, Autotune={"Mode": "Enabled"})
    assert all(0.02 <= float(x) <= 1 for x in tuning.tried("auto", "x"))
    criteria = done["HyperParameterTuningJobConfig"]["TuningJobCompletionCriteria"]
    assert criteria == {"ConvergenceDetected": {"CompleteOnConvergence": "Enabled"}}


@pytest.mark.parametrize("is_list", [False, True])
def test_create_hyper_parameter_tuning_job_takes_flexible_machines(tuning: Tuning, is_list: bool) -> None:
    machine = {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 2}
    flexible = {"InstanceConfigs": [machine, machine | {"InstanceType": "ml.m5.xlarge"}]} if is_list else machine
    request = tuning.request(f"flexible-{is_list}", most=1)
    del request["TrainingJobDefinition"]["ResourceConfig"]
    request["TrainingJobDefinition"]["HyperParameterTuningResourceConfig"] = flexible
    tuning.sagemaker.create_hyper_parameter_tuning_job(**request)
    done = tuning.wait(f"flexible-{is_list}")
    assert done["TrainingJobDefinition"]["ResourceConfig"] == machine
    assert tuning.lab.describe(done["BestTrainingJob"]["TrainingJobName"])["ResourceConfig"] == machine


XGBOOST = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1.7-1"


def xgboost(tuning: Tuning, name: str, metric: str = "validation:auc", **changes: Any) -> dict[str, Any]:
    rows = "".join(f"{int((n * 37) % 100 > 50)},{n % 7},{(n * 37) % 100}\n" for n in range(300))
    channels = [
        tuning.lab.channel(channel, tuning.lab.put(f"rows/{channel}", rows), ContentType="text/csv")
        for channel in ("train", "validation")
    ]
    ranges = {
        "ContinuousParameterRanges": [continuous("eta", 0.01, 0.5, ScalingType="Logarithmic")],
        "IntegerParameterRanges": [{"Name": "max_depth", "MinValue": "1", "MaxValue": "4"}],
    }
    objective = {"Type": "Maximize", "MetricName": metric}
    definition = {
        "AlgorithmSpecification": {"TrainingImage": XGBOOST, "TrainingInputMode": "File"},
        "StaticHyperParameters": {"num_round": "3", "objective": "binary:logistic", "eval_metric": "auc"},
        "InputDataConfig": channels,
        **changes,
    }
    config = {"HyperParameterTuningJobObjective": objective}
    return tuning.request(name, SQUARE, ranges, 3, strategy="Bayesian", config=config, definition=definition)


def test_create_hyper_parameter_tuning_job_tunes_a_built_in_algorithm(tuning: Tuning, server: Any) -> None:
    if Environments(server.config.runtimes_dir).find("algorithms") is None:
        pytest.skip("the runtime is not installed: pilvi runtimes install algorithms")
    tuning.sagemaker.create_hyper_parameter_tuning_job(**xgboost(tuning, "boosted"))
    done = tuning.wait("boosted")
    assert done["HyperParameterTuningJobStatus"] == "Completed", done.get("FailureReason")
    best = done["BestTrainingJob"]
    assert best["FinalHyperParameterTuningJobObjectiveMetric"]["MetricName"] == "validation:auc"
    assert value_of(best) == max(value_of(child) for child in tuning.children("boosted")) > 0.9


def test_create_hyper_parameter_tuning_job_holds_to_the_built_in_algorithm(tuning: Tuning) -> None:
    create = tuning.sagemaker.create_hyper_parameter_tuning_job
    assert "valid for the [sagemaker-xgboost] algorithm" in refusal(create, **xgboost(tuning, "refused", "validation:nothing"))[1]
    own = {"Name": "m", "Regex": "x"}
    request = xgboost(tuning, "refused", "test:msd")
    definition = request["TrainingJobDefinition"]
    definition["AlgorithmSpecification"] = {
        "TrainingImage": "382416733822.dkr.ecr.us-east-1.amazonaws.com/kmeans:1",
        "TrainingInputMode": "File",
        "MetricDefinitions": [own],
    }
    ranges = {"IntegerParameterRanges": [{"Name": "mini_batch_size", "MinValue": "100", "MaxValue": "200"}]}
    request["HyperParameterTuningJobConfig"]["ParameterRanges"] = ranges
    request["HyperParameterTuningJobConfig"]["HyperParameterTuningJobObjective"]["Type"] = "Minimize"
    assert "override the metric definitions" in refusal(create, **request)[1]


# -- what is refused -------------------------------------------------------------------------------------------------------


def test_create_hyper_parameter_tuning_job_refuses_names(tuning: Tuning) -> None:
    tuning.run("taken", most=1)
    code, message = refusal(tuning.sagemaker.create_hyper_parameter_tuning_job, **tuning.request("Taken", most=1))
    assert code == "ResourceInUse"
    assert message == "A hyperparameter tuning job with the name, Taken, already exists. Choose a different name."
    code, message = refusal(tuning.sagemaker.create_hyper_parameter_tuning_job, **tuning.request("n" * 33))
    assert code == "ValidationException"
    assert "32" in message


CATEGORIES = {"CategoricalParameterRanges": [{"Name": "x", "Values": ["1", "2"]}]}


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"config": {"HyperParameterTuningJobObjective": {"Type": "Minimize", "MetricName": "else"}}}, None, "A metric is required"),
        ({"config": {"HyperParameterTuningJobObjective": None}}, None, "objective"),
        ({"ranges": {"ContinuousParameterRanges": []}}, None, "at least one"),
        ({"ranges": {"ContinuousParameterRanges": [continuous("x", 0, 1)] * 2}}, None, "unique"),
        ({"ranges": {"ContinuousParameterRanges": [continuous("fixed", 0, 1)]}}, None, "static and searched"),
        ({"ranges": {"ContinuousParameterRanges": [continuous("x", 2, 1)]}}, None, "less than or equal"),
        ({"strategy": "Grid"}, None, "categorical"),
        ({"strategy": "Grid", "ranges": CATEGORIES, "most": 3}, None, "number of all combinations: 2"),
        ({"strategy": "Hyperband"}, None, "MaxResource"),
        ({"strategy": "Hyperband", "config": {"TrainingJobEarlyStoppingType": "Auto", "StrategyConfig": {"HyperbandStrategyConfig": {"MaxResource": 3}}}}, None, "must be Off"),
        ({"strategy": "Hyperband", "config": {"StrategyConfig": {"HyperbandStrategyConfig": {"MinResource": 4, "MaxResource": 3}}}}, None, "MinResource 4"),
        ({"strategy": "Hyperband", "config": {"StrategyConfig": {"HyperbandStrategyConfig": {"MaxResource": 30000}}}}, None, "20000"),
        ({"config": {"StrategyConfig": {"HyperbandStrategyConfig": {"MaxResource": 3}}}}, None, "Hyperband strategy only"),
        ({"most": None}, None, "Specify MaxNumberOfTrainingJobs"),
        ({"most": 751, "strategy": "Bayesian"}, "ResourceLimitExceeded", "750"),
        ({"parallel": 101, "most": 200}, "ResourceLimitExceeded", "100"),
        ({"ranges": {"AutoParameters": [{"Name": "x", "ValueHint": "1"}]}}, None, "Autotune"),
        ({"TrainingJobDefinition": None}, None, "either TrainingJobDefinition or"),
        ({"definition": {"RoleArn": "arn:aws:iam::{account}:role/none"}}, None, "Could not assume role"),
        ({"definition": {"ResourceConfig": None}}, None, "resourceConfig"),
        ({"definition": {"HyperParameterTuningResourceConfig": {"InstanceCount": 1}}}, None, "and not both"),
        ({"definition": {"ResourceConfig": None, "HyperParameterTuningResourceConfig": {"InstanceCount": 1, "InstanceConfigs": [{"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1}]}}}, None, "together with InstanceConfigs"),
        ({"WarmStartConfig": {"ParentHyperParameterTuningJobs": [{"HyperParameterTuningJobName": "none"}], "WarmStartType": "TransferLearning"}}, "ResourceNotFound", "Amazon SageMaker can't find a tuning job called none. Type another name."),
    ],
)  # fmt: skip
def test_create_hyper_parameter_tuning_job_refuses(tuning: Tuning, changes: dict[str, Any], code: str | None, words: str) -> None:
    request = tuning.request("refused", SQUARE, changes.pop("ranges", None), changes.pop("most", 4), **changes)
    definition = request.get("TrainingJobDefinition") or {}
    definition = {key: value for key, value in definition.items() if value is not None}
    if "{account}" in definition.get("RoleArn", ""):
        definition["RoleArn"] = definition["RoleArn"].format(account=tuning.lab.aws.account)
    request["TrainingJobDefinition"] = definition or None
    request = {key: value for key, value in request.items() if value is not None}
    said, message = refusal(tuning.sagemaker.create_hyper_parameter_tuning_job, **request)
    assert said == (code or "ValidationException")
    assert words in message


def test_create_hyper_parameter_tuning_job_refuses_definitions_that_do_not_fit(tuning: Tuning) -> None:
    good = tuning.definition(
        DefinitionName="one",
        TuningObjective={"Type": "Minimize", "MetricName": "loss"},
        HyperParameterRanges={"ContinuousParameterRanges": [continuous("x", 0, 1)]},
    )
    request = tuning.request("refused")
    del request["TrainingJobDefinition"]
    create, config = tuning.sagemaker.create_hyper_parameter_tuning_job, request["HyperParameterTuningJobConfig"]

    def said(*definitions: Any) -> str:
        return refusal(create, **request, TrainingJobDefinitions=list(definitions))[1]

    assert "HyperParameterTuningJobObjective cannot be specified" in said(good)
    del config["HyperParameterTuningJobObjective"]
    assert "ParameterRanges cannot be specified" in said(good)
    del config["ParameterRanges"]
    assert "must be unique" in said(good, good)
    assert "must have a DefinitionName" in said({key: value for key, value in good.items() if key != "DefinitionName"})
    assert "same type" in said(
        good, good | {"DefinitionName": "two", "TuningObjective": {"Type": "Maximize", "MetricName": "loss"}}
    )


def test_create_hyper_parameter_tuning_job_refuses_parents_that_do_not_fit(tuning: Tuning) -> None:
    tuning.run("elder", most=1)
    create = tuning.sagemaker.create_hyper_parameter_tuning_job

    def said(kind: str = "IdenticalDataAndAlgorithm", **changes: Any) -> str:
        warm = {"ParentHyperParameterTuningJobs": [{"HyperParameterTuningJobName": "elder"}], "WarmStartType": kind}
        return refusal(create, **tuning.request("refused", WarmStartConfig=warm, **changes))[1]

    assert "not supported with the Grid strategy" in said(strategy="Grid", ranges=CATEGORIES, most=None)
    assert "objective metric must be the same" in said(direction="Maximize")
    assert "input data must be the same" in said(program="print('loss=1')")
    assert "total number of static and tunable" in said(definition={"StaticHyperParameters": {"fixed": "1", "more": "2"}})
    tuning.start("busy", "import time; time.sleep(600)", most=1)
    warm = {"ParentHyperParameterTuningJobs": [{"HyperParameterTuningJobName": "busy"}], "WarmStartType": "TransferLearning"}
    assert "has not ended yet" in refusal(create, **tuning.request("refused", WarmStartConfig=warm))[1]
    tuning.sagemaker.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName="busy")
    tuning.wait("busy")


def test_create_hyper_parameter_tuning_job_needs_leave_to_pass_the_roles(tuning: Tuning) -> None:
    leave = {"Effect": "Allow", "Action": "sagemaker:*", "Resource": "*"}
    user = tuning.lab.aws.user("Tuner", {"Version": "2012-10-17", "Statement": [leave]})
    code, message = refusal(user.client("sagemaker").create_hyper_parameter_tuning_job, **tuning.request("unallowed"))
    assert code == "AccessDeniedException"
    assert "iam:PassRole" in message


# -- the other operations --------------------------------------------------------------------------------------------------


def test_describe_hyper_parameter_tuning_job_knows_no_other(tuning: Tuning, other_aws: Account) -> None:
    tuning.run("mine", most=1)
    missing = ("ResourceNotFound", "Amazon SageMaker can't find a tuning job called mine. Type another name.")
    for name in (
        "describe_hyper_parameter_tuning_job",
        "stop_hyper_parameter_tuning_job",
        "list_training_jobs_for_hyper_parameter_tuning_job",
    ):
        assert refusal(getattr(other_aws.client("sagemaker"), name), HyperParameterTuningJobName="mine") == missing
    assert tuning.describe("MINE")["HyperParameterTuningJobName"] == "mine"


def test_list_hyper_parameter_tuning_jobs_filters_sorts_and_pages(fresh_lab: Any) -> None:
    tuning = Tuning(fresh_lab)
    assert tuning.sagemaker.list_hyper_parameter_tuning_jobs()["HyperParameterTuningJobSummaries"] == []
    for name in ("b-one", "a-two", "c-three"):
        tuning.run(name, most=1)
    pages = tuning.sagemaker.get_paginator("list_hyper_parameter_tuning_jobs")

    def names(**more: Any) -> list[str]:
        found = pages.paginate(PaginationConfig={"PageSize": 2}, **more)
        return [entry["HyperParameterTuningJobName"] for page in found for entry in page["HyperParameterTuningJobSummaries"]]

    assert names() == ["a-two", "b-one", "c-three"]
    assert names(SortOrder="Descending") == ["c-three", "b-one", "a-two"]
    assert names(SortBy="CreationTime") == ["b-one", "a-two", "c-three"]
    assert names(NameContains="o") == ["a-two", "b-one"]
    assert names(StatusEquals="Failed") == []
    (entry,) = tuning.sagemaker.list_hyper_parameter_tuning_jobs(NameContains="three")["HyperParameterTuningJobSummaries"]
    assert entry["Strategy"] == "Random"
    assert entry["ResourceLimits"]["MaxNumberOfTrainingJobs"] == 1
    assert entry["TrainingJobStatusCounters"]["Completed"] == 1


def test_list_training_jobs_for_hyper_parameter_tuning_job_sorts_and_pages(tuning: Tuning) -> None:
    ranges = {"CategoricalParameterRanges": [{"Name": "x", "Values": ["word", "0.9", "0.3", "0.5"]}]}
    tuning.run("sorted", SQUARE, ranges, most=None, strategy="Grid", parallel=1)
    numbers = [child["TrainingJobName"][7:10] for child in tuning.children("sorted", PaginationConfig={"PageSize": 3})]
    assert numbers == ["001", "002", "003", "004"]
    by_value = [child["TunedHyperParameters"]["x"] for child in tuning.children("sorted", SortBy="FinalObjectiveMetricValue")]
    assert by_value == ["0.3", "0.5", "0.9"]
    worst = tuning.children("sorted", SortBy="FinalObjectiveMetricValue", SortOrder="Descending", MaxResults=1)
    assert worst[0]["TunedHyperParameters"]["x"] == "0.9"
    assert [child["TunedHyperParameters"]["x"] for child in tuning.children("sorted", StatusEquals="Failed")] == ["word"]
    ask = tuning.sagemaker.list_training_jobs_for_hyper_parameter_tuning_job
    assert refusal(ask, HyperParameterTuningJobName="sorted", NextToken="MTp4") == ("ValidationException", "Invalid NextToken.")
    assert len(tuning.children("sorted", SortBy="Status")) == len(tuning.children("sorted", SortBy="CreationTime")) == 4


def test_stop_hyper_parameter_tuning_job_ends_its_training_jobs(tuning: Tuning) -> None:
    tuning.start("stopped", "import time; print('loss=1', flush=True); time.sleep(600)", most=10, parallel=2)
    eventually(lambda: len(tuning.children("stopped")) == 2)
    tuning.sagemaker.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName="stopped")
    assert tuning.describe("stopped")["HyperParameterTuningJobStatus"] in ("Stopping", "Stopped")
    done = tuning.wait("stopped")
    assert done["HyperParameterTuningJobStatus"] == "Stopped"
    assert done["TrainingJobStatusCounters"]["Stopped"] == 2
    code, message = refusal(tuning.sagemaker.stop_hyper_parameter_tuning_job, HyperParameterTuningJobName="stopped")
    assert code == "ValidationException"
    assert "in status Stopped" in message


def test_delete_hyper_parameter_tuning_job_leaves_the_training_jobs(tuning: Tuning) -> None:
    tuning.run("gone", most=1)
    (child,) = tuning.children("gone")
    tuning.sagemaker.delete_hyper_parameter_tuning_job(HyperParameterTuningJobName="gone")
    assert (
        refusal(tuning.sagemaker.describe_hyper_parameter_tuning_job, HyperParameterTuningJobName="gone")[0] == "ResourceNotFound"
    )
    assert tuning.lab.describe(child["TrainingJobName"])["TrainingJobStatus"] == "Completed"
    tuning.sagemaker.delete_hyper_parameter_tuning_job(HyperParameterTuningJobName="gone")
    tuning.run("gone", most=1)
    assert len(tuning.children("gone")) == 1
    tuning.start("running", "import time; time.sleep(600)", most=1)
    assert refusal(tuning.sagemaker.delete_hyper_parameter_tuning_job, HyperParameterTuningJobName="running")[0] == "ResourceInUse"
    tuning.sagemaker.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName="running")


def test_create_hyper_parameter_tuning_job_takes_a_name_that_has_just_become_free(tuning: Tuning) -> None:
    for _ in range(5):
        assert tuning.run("again", most=1)["HyperParameterTuningJobStatus"] == "Completed"
        tuning.sagemaker.delete_hyper_parameter_tuning_job(HyperParameterTuningJobName="again")


def test_a_tuning_job_remembers_deleted_training_jobs(tuning: Tuning) -> None:
    tuning.run("kept", most=2)
    before = tuning.children("kept")
    for child in before:
        tuning.sagemaker.delete_training_job(TrainingJobName=child["TrainingJobName"])
    assert tuning.children("kept") == before


def test_no_thread_is_left_when_no_tuning_job_runs(tuning: Tuning, server: Any) -> None:
    tuning.run("last", most=1)
    control = server.cloud.memory["sagemaker-tuning"]
    eventually(lambda: not [place for place in control._threads if place.name == "last"])
    assert math.isfinite(value_of(tuning.describe("last")["BestTrainingJob"]))
