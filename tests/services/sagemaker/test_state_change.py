"""What EventBridge hears of SageMaker: each state of a job, as Describe shows it, and a function that it starts."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pilvi.testing.server import Account, TestServer, eventually

FUNCTION = """
import json

def handler(event, context):
    print("HEARD", event["detail"]["TrainingJobName"], event["detail"]["TrainingJobStatus"])
"""


class Ear:
    """A queue that gets every event of SageMaker."""

    def __init__(self, aws: Account) -> None:
        self.sqs = aws.client("sqs")
        self.url = self.sqs.create_queue(QueueName="ear")["QueueUrl"]
        arn = f"arn:aws:sqs:us-east-1:{aws.account}:ear"
        statement = {
            "Effect": "Allow",
            "Principal": {"Service": "events.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": arn,
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        self.sqs.set_queue_attributes(QueueUrl=self.url, Attributes={"Policy": policy})
        events = aws.client("events")
        events.put_rule(Name="ear", EventPattern='{"source": ["aws.sagemaker"]}')
        events.put_targets(Rule="ear", Targets=[{"Id": "q", "Arn": arn}])
        self.heard: list[dict[str, Any]] = []

    def of(self, detail_type: str, until: str) -> list[dict[str, Any]]:
        """What was heard of one type, once a status was heard; oldest first."""
        member = {
            "Hyper": "HyperParameterTuningJobStatus",
            "Notebook": "NotebookInstanceStatus",
            "Processing": "ProcessingJobStatus",
        }
        name = next((value for key, value in member.items() if key in detail_type), "TrainingJobStatus")

        def look() -> bool:
            for message in self.sqs.receive_message(QueueUrl=self.url, MaxNumberOfMessages=10).get("Messages", ()):
                self.heard.append(json.loads(message["Body"]))
                self.sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
            return any(event["detail"].get(name) == until for event in self.heard if event["detail-type"] == detail_type)

        eventually(look, within_s=60)
        found = [event for event in self.heard if event["detail-type"] == detail_type]
        return sorted(found, key=lambda event: (event["time"], event["detail"].get("LastModifiedTime") or 0))


@pytest.fixture
def ear(fresh_lab: Any) -> Ear:
    return Ear(fresh_lab.aws)


def secondary(events: list[dict[str, Any]]) -> set[tuple[str, str]]:
    return {(event["detail"]["TrainingJobStatus"], event["detail"]["SecondaryStatus"]) for event in events}


def test_a_training_job_tells_each_of_its_states(fresh_lab: Any, ear: Ear) -> None:
    arn = fresh_lab.start(
        "told", "echo out > /opt/ml/model/m", HyperParameters={"depth": "3"}, Tags=[{"Key": "team", "Value": "ml"}]
    )
    events = ear.of("SageMaker Training Job State Change", "Completed")
    assert {("InProgress", "Starting"), ("InProgress", "Training"), ("Completed", "Completed")} <= secondary(events)
    last = next(event for event in events if event["detail"]["TrainingJobStatus"] == "Completed")
    assert (last["source"], last["account"], last["resources"]) == ("aws.sagemaker", fresh_lab.aws.account, [arn])
    detail: Mapping[str, Any] = last["detail"]
    described = fresh_lab.describe("told")
    assert detail["TrainingJobArn"] == arn
    assert detail["HyperParameters"] == {"depth": "3"}
    assert detail["ModelArtifacts"] == described["ModelArtifacts"]
    assert datetime.fromtimestamp(detail["CreationTime"] / 1000, UTC) == described["CreationTime"].astimezone(UTC)
    assert detail["Tags"] == {"team": "ml"}
    assert "FailureReason" not in detail
    assert not [name for name in detail if name.startswith("_")]


def test_a_failed_training_job_tells_why(fresh_lab: Any, ear: Ear) -> None:
    fresh_lab.start("failing", "exit 3")
    last = ear.of("SageMaker Training Job State Change", "Failed")[-1]
    assert last["detail"]["FailureReason"].startswith("AlgorithmError")


def test_a_training_state_change_starts_a_function(fresh_lab: Any) -> None:
    aws = fresh_lab.aws
    logging = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "logs:*", "Resource": "*"}]}
    role = aws.role("listener", "lambda.amazonaws.com", logging)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("index.py", FUNCTION)
    lambda_, events = aws.client("lambda"), aws.client("events")
    function = lambda_.create_function(
        FunctionName="listener", Runtime="python3.11", Handler="index.handler", Role=role, Code={"ZipFile": buffer.getvalue()}
    )["FunctionArn"]
    pattern = {"source": ["aws.sagemaker"], "detail-type": ["SageMaker Training Job State Change"]}
    pattern |= {"detail": {"TrainingJobStatus": ["Completed", "Failed"]}}  # type: ignore[dict-item]
    rule = events.put_rule(Name="ended", EventPattern=json.dumps(pattern))["RuleArn"]
    lambda_.add_permission(
        FunctionName="listener", StatementId="e", Action="lambda:InvokeFunction", Principal="events.amazonaws.com", SourceArn=rule
    )
    events.put_targets(Rule="ended", Targets=[{"Id": "f", "Arn": function}])
    fresh_lab.start("wakes", "true")

    def heard() -> list[str]:
        try:
            found = aws.client("logs").filter_log_events(logGroupName="/aws/lambda/listener")["events"]
        except aws.client("logs").exceptions.ResourceNotFoundException:
            return []
        return [event["message"].strip() for event in found if event["message"].startswith("HEARD")]

    assert eventually(heard, within_s=60) == ["HEARD wakes Completed"]


def test_a_processing_job_tells_its_states(fresh_lab: Any, ear: Ear) -> None:
    fresh_lab.sagemaker.create_processing_job(
        ProcessingJobName="steps",
        RoleArn=fresh_lab.role,
        AppSpecification={
            "ImageUri": "081325390199.dkr.ecr.us-east-1.amazonaws.com/sagemaker-base-python:1.0",
            "ContainerEntrypoint": ["/bin/true"],
        },
        ProcessingResources={"ClusterConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 10}},
    )
    events = ear.of("SageMaker Processing Job State Change", "Completed")
    assert [event["detail"]["ProcessingJobStatus"] for event in events] == ["InProgress", "Completed"]


def test_a_tuning_job_tells_its_states(fresh_lab: Any, ear: Ear) -> None:
    definition = fresh_lab.request("unused")
    del definition["TrainingJobName"]
    definition["AlgorithmSpecification"] = {
        "TrainingImage": "081325390199.dkr.ecr.us-east-1.amazonaws.com/sagemaker-base-python:1.0",
        "TrainingInputMode": "File",
        "MetricDefinitions": [{"Name": "loss", "Regex": "loss=(\\S+)"}],
    }
    definition["InputDataConfig"] = [fresh_lab.channel("code", fresh_lab.put("code/train.py", "print('loss=1')"))]
    fresh_lab.sagemaker.create_hyper_parameter_tuning_job(
        HyperParameterTuningJobName="tune",
        HyperParameterTuningJobConfig={
            "Strategy": "Random",
            "HyperParameterTuningJobObjective": {"Type": "Minimize", "MetricName": "loss"},
            "ResourceLimits": {"MaxNumberOfTrainingJobs": 1, "MaxParallelTrainingJobs": 1},
            "ParameterRanges": {"ContinuousParameterRanges": [{"Name": "x", "MinValue": "0", "MaxValue": "1"}]},
        },
        TrainingJobDefinition=definition,
    )
    # The bare image has no program to train with: what matters here is that the end is told, and why.
    events = ear.of("SageMaker HyperParameter Tuning Job State Change", "Failed")
    assert [event["detail"]["HyperParameterTuningJobStatus"] for event in events] == ["InProgress", "Failed"]
    assert events[-1]["detail"]["FailureReason"]
    assert events[-1]["detail"]["TrainingJobStatusCounters"]["NonRetryableError"] == 1


def test_a_notebook_instance_tells_its_states(tmp_path: Path) -> None:
    with TestServer(tmp_path / "data", runtimes_dir=tmp_path / "runtimes") as server:
        aws = server.account("720000000999")
        ear = Ear(aws)
        role = aws.role("Notebooks", "sagemaker.amazonaws.com")
        aws.client("sagemaker").create_notebook_instance(NotebookInstanceName="n", InstanceType="ml.t2.medium", RoleArn=role)
        events = ear.of("SageMaker Notebook Instance State Change", "Failed")
        assert [event["detail"]["NotebookInstanceStatus"] for event in events] == ["Pending", "Failed"]
        assert events[1]["detail"]["FailureReason"]
        assert events[1]["resources"] == [f"arn:aws:sagemaker:us-east-1:{aws.account}:notebook-instance/n"]
