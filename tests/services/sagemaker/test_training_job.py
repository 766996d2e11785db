"""Training jobs by boto3, with shell scripts in the bare interpreter's runtime; script mode is in test_script_mode.py."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.config import Config

from pilvi.testing.refusal import refusal
from pilvi.testing.server import Account, eventually


def statuses(job: Any) -> list[str]:
    return [entry["Status"] for entry in job["SecondaryStatusTransitions"]]


# -- create and describe --------------------------------------------------------------------------------------------------


def test_create_training_job_runs_the_program(lab: Any) -> None:
    uri = lab.put("in/data.csv", "1,2\n")
    script = "cp /opt/ml/input/data/train/data.csv /opt/ml/model/copy.csv; echo more > /opt/ml/output/data/more; echo done"
    arn = lab.start("First-Job", script, InputDataConfig=[lab.channel("train", uri)])
    assert arn == f"arn:aws:sagemaker:us-east-1:{lab.aws.account}:training-job/first-job"
    job = lab.wait("First-Job")
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Completed", "Completed")
    assert statuses(job) == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    assert [entry["StatusMessage"] for entry in job["SecondaryStatusTransitions"]][-2:] == [
        "Uploading generated training model",
        "Training job completed",
    ]
    assert job["ModelArtifacts"]["S3ModelArtifacts"] == f"s3://{lab.bucket}/out/First-Job/output/model.tar.gz"
    assert lab.members("out/First-Job/output/model.tar.gz") == {"copy.csv": b"1,2\n"}
    assert lab.members("out/First-Job/output/output.tar.gz") == {"more": b"more\n"}
    assert lab.lines("First-Job") == ["done"]


def test_describe_training_job_carries_what_clients_need(lab: Any) -> None:
    job = lab.run("described", "exit 0")
    assert job["OutputDataConfig"]["KmsKeyId"] == ""
    assert job["AlgorithmSpecification"]["MetricDefinitions"] == []
    assert job["ResourceConfig"]["InstanceCount"] == 1
    assert job["StoppingCondition"] == {"MaxRuntimeInSeconds": 300}
    assert (job["EnableNetworkIsolation"], job["EnableManagedSpotTraining"]) == (False, False)
    assert job["ProfilingStatus"] == "Disabled"
    assert job["BillableTimeInSeconds"] == job["TrainingTimeInSeconds"] >= 1
    assert job["CreationTime"] <= job["TrainingStartTime"] <= job["TrainingEndTime"] <= job["LastModifiedTime"]
    assert "FailureReason" not in job
    assert "InputDataConfig" not in job
    assert "Tags" not in job


def test_describe_training_job_knows_no_other_account(lab: Any, other_aws: Account) -> None:
    lab.run("mine", "exit 0")
    assert lab.describe("MINE")["TrainingJobName"] == "mine", "names differ by more than case"
    expected = ("ValidationException", "Requested resource not found.")
    assert refusal(other_aws.client("sagemaker").describe_training_job, TrainingJobName="mine") == expected
    assert refusal(lab.aws.client("sagemaker", "eu-west-1").describe_training_job, TrainingJobName="mine") == expected
    assert refusal(lab.sagemaker.describe_training_job, TrainingJobName="none") == expected


def test_create_training_job_gives_the_program_its_layout(lab: Any) -> None:
    script = """
cd /opt/ml/input/config; for name in hyperparameters resourceconfig inputdataconfig; do cat $name.json; echo; done
hostname; cd -; echo $TRAINING_JOB_NAME $TRAINING_JOB_ARN $GREETING; touch /tmp/x
getent hosts algo-1 >/dev/null && echo resolves; id -un
"""
    channels = [
        lab.channel("code", lab.put("layout/run.sh", script)),
        lab.channel("train", lab.put("layout/a", "x"), ContentType="text/csv", InputMode="FastFile"),
    ]
    parameters = {"depth": "3", "s": '"x"'}
    algorithm = {"ContainerEntrypoint": ["/bin/bash", "/opt/ml/input/data/code/run.sh"]}
    lab.run("layout", algorithm=algorithm, HyperParameters=parameters, Environment={"GREETING": "hi"}, InputDataConfig=channels)
    lines = lab.lines("layout")
    assert json.loads(lines[0]) == parameters
    resources = json.loads(lines[1])
    assert (resources["current_host"], resources["hosts"], resources["network_interface_name"]) == ("algo-1", ["algo-1"], "lo")
    assert resources["current_instance_type"] == "ml.m5.large"
    train = {
        "ContentType": "text/csv",
        "TrainingInputMode": "FastFile",
        "S3DistributionType": "FullyReplicated",
        "RecordWrapperType": "None",
    }
    assert json.loads(lines[2])["train"] == train
    assert f"layout arn:aws:sagemaker:us-east-1:{lab.aws.account}:training-job/layout hi" in lines
    if lines[3] == "algo-1":
        assert lines[4] == "/opt/ml"
        assert lines[6:] == ["resolves", "user"]


def test_create_training_job_passes_entry_point_and_arguments(lab: Any) -> None:
    algorithm = {"ContainerEntrypoint": ["/usr/bin/printf", "%s|"], "ContainerArguments": ["a b", "", "$HOME"]}
    lab.run("arguments", algorithm=algorithm)
    assert lab.lines("arguments") == ["a b||$HOME|"]


def test_create_training_job_places_objects_by_prefix(lab: Any) -> None:
    for key in ("p/train/a.csv", "p/train/deep/b.csv", "p/train_more.csv", "p/train/", "q/one.csv"):
        lab.put(key, key)
    base = f"s3://{lab.bucket}"
    channels = [
        lab.channel("folder", f"{base}/p/train/"),
        lab.channel("plain", f"{base}/p/train"),
        lab.channel("single", f"{base}/q/one.csv"),
    ]
    lab.run("prefixes", "cd /opt/ml/input/data; find . -type f | sort", InputDataConfig=channels)
    assert lab.lines("prefixes") == [
        "./folder/a.csv",
        "./folder/deep/b.csv",
        "./plain/a.csv",
        "./plain/deep/b.csv",
        "./plain/train_more.csv",
        "./single/one.csv",
    ]


def test_create_training_job_reads_manifests_and_gzip(lab: Any) -> None:
    lab.put("m/one.csv", "1\n")
    lab.put("m/two.csv", "2\n")
    lab.put("z/packed.csv.gz", gzip.compress(b"packed\n") + gzip.compress(b"twice\n"))
    manifest = lab.put("list.manifest", json.dumps([{"prefix": f"s3://{lab.bucket}/m/"}, "two.csv"]))
    channels = [
        lab.channel("listed", manifest, kind="ManifestFile"),
        lab.channel("packed", f"s3://{lab.bucket}/z", CompressionType="Gzip"),
    ]
    lab.run("kinds", "cd /opt/ml/input/data; find . -type f | sort; cat packed/*", InputDataConfig=channels)
    assert lab.lines("kinds") == ["./listed/two.csv", "./packed/packed.csv", "packed", "twice"]


def test_create_training_job_keeps_checkpoints(lab: Any) -> None:
    lab.put("points/old", "1")
    config = {"S3Uri": f"s3://{lab.bucket}/points"}
    lab.run("points", "cd /opt/ml/checkpoints; cat old; echo 2 > new; exit 3", CheckpointConfig=config)
    assert lab.lines("points") == ["1"]
    assert lab.get("points/new") == b"2\n"
    assert lab.describe("points")["CheckpointConfig"] == {**config, "LocalPath": "/opt/ml/checkpoints"}


def test_create_training_job_leaves_the_model_unpacked_when_asked(lab: Any) -> None:
    output = {"S3OutputPath": f"s3://{lab.bucket}/out/", "CompressionType": "NONE"}
    job = lab.run("plain", "mkdir /opt/ml/model/d; echo m > /opt/ml/model/d/m", OutputDataConfig=output)
    assert job["ModelArtifacts"]["S3ModelArtifacts"] == f"s3://{lab.bucket}/out/plain/output/model/"
    assert lab.keys("out/plain") == ["out/plain/output/model/d/m"]


def test_metrics_are_the_last_numbers_found(lab: Any) -> None:
    metrics = [
        {"Name": "loss", "Regex": "loss=([0-9.e-]+)"},
        {"Name": "tab", "Regex": "#011v:(\\S+)"},
        {"Name": "never", "Regex": "no(x)"},
    ]
    script = "echo loss=0.5; echo 'loss=2.5e-1 x' >&2; echo loss=bad; printf '[1]\\tv:0.25\\n'"
    job = lab.run("metrics", script, algorithm={"MetricDefinitions": metrics})
    assert {metric["MetricName"]: metric["Value"] for metric in job["FinalMetricDataList"]} == {"loss": 0.25, "tab": 0.25}
    assert all(job["CreationTime"] <= metric["Timestamp"] for metric in job["FinalMetricDataList"])


def test_logs_and_metrics_come_while_it_runs(lab: Any) -> None:
    lab.start("live", "echo loss=0.5; sleep 600", algorithm={"MetricDefinitions": [{"Name": "loss", "Regex": "loss=([0-9.]+)"}]})
    lab.wait_for_line("live", "loss=0.5")
    job = lab.describe("live")
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("InProgress", "Training")
    assert job["FinalMetricDataList"][0]["Value"] == 0.5
    assert "TrainingEndTime" not in job
    assert job["ModelArtifacts"]["S3ModelArtifacts"].endswith("/out/live/output/model.tar.gz")
    group = lab.logs.describe_log_streams(logGroupName="/aws/sagemaker/TrainingJobs", logStreamNamePrefix="live/")
    assert group["logStreams"][0]["logStreamName"].startswith("live/algo-1-")
    lab.sagemaker.stop_training_job(TrainingJobName="live")
    lab.wait("live")


# -- failure --------------------------------------------------------------------------------------------------------------


def test_failing_program_fails_the_job(lab: Any) -> None:
    script = (
        "echo model > /opt/ml/model/m; echo out > /opt/ml/output/data/o; printf 'the data is bad' > /opt/ml/output/failure; exit 7"
    )
    job = lab.run("failing", script)
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Failed", "Failed")
    assert job["FailureReason"] == "AlgorithmError: the data is bad, exit code: 7"
    assert statuses(job)[-2:] == ["Uploading", "Failed"]
    assert lab.keys("out/failing") == ["out/failing/output/output.tar.gz"]


def test_failure_text_is_cut_at_1024_characters(lab: Any) -> None:
    job = lab.run("wordy", "head -c 5000 /dev/zero | tr '\\0' x > /opt/ml/output/failure; kill -9 $$")
    assert job["FailureReason"] == f"AlgorithmError: {'x' * 1024}, exit code: 137"


def test_missing_program_fails_the_job(lab: Any) -> None:
    job = lab.run("no-train")
    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("AlgorithmError: ")
    assert ", exit code: 1" in job["FailureReason"]
    assert "train" in lab.lines("no-train")[0]


def test_data_the_role_cannot_read_fails_the_job(lab: Any) -> None:
    uri = lab.put("in/a", "x")
    allow = [{"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "*"}]
    role = lab.aws.role("Lister", "sagemaker.amazonaws.com", {"Version": "2012-10-17", "Statement": allow})
    job = lab.run("unread", "exit 0", RoleArn=role, InputDataConfig=[lab.channel("train", uri)])
    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("ClientError: Data download failed:")
    assert (
        f'assumed-role/Lister/SageMaker is not authorized to perform: s3:GetObject on resource: "arn:aws:s3:::{lab.bucket}/in/a"'
        in job["FailureReason"]
    )
    assert lab.lines("unread") == []


def test_model_the_role_cannot_write_fails_the_job(lab: Any) -> None:
    role = lab.aws.role("Reader", "sagemaker.amazonaws.com")
    job = lab.run("unwritten", "echo x > /opt/ml/model/x", RoleArn=role)
    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("ClientError: Artifact upload failed:")
    assert "s3:PutObject" in job["FailureReason"]


def test_links_do_not_lead_out_of_the_job(lab: Any) -> None:
    script = "cd /opt/ml; ln -s /etc/passwd model/link; rm -r output/data; ln -s / output/data; ln -s /etc/hostname output/failure; exit 1"
    job = lab.run("links", script)
    assert "root:" not in job["FailureReason"]
    assert lab.keys("out/links") == []


def test_program_sees_neither_the_data_directory_nor_the_server(lab: Any, server: Any) -> None:
    script = f"ls {server.config.data_dir} && echo seen; cat /proc/*/environ | tr '\\0' '\\n' | grep -c PYTEST; ls /root /home && echo seen"
    if server.cloud.compute.isolation == "none":
        pytest.skip("no namespaces, no privacy")
    lab.run("spy", script)
    assert "seen" not in lab.lines("spy")
    assert "0" in lab.lines("spy")


def test_network_isolation_leaves_no_way_out(lab: Any, server: Any) -> None:
    if server.cloud.compute.isolation == "none":
        pytest.skip("no namespaces")
    port = lab.aws.endpoint.rsplit(":", 1)[1]
    script = (
        f"(exec 3<>/dev/tcp/127.0.0.1/{port}) 2>/dev/null && echo reached || echo alone; env | grep -c -E 'SECRET|TOKEN|ENDPOINT'"
    )
    uri = lab.put("alone/a", "data")
    job = lab.run("alone", script, EnableNetworkIsolation=True, InputDataConfig=[lab.channel("train", uri)])
    assert lab.lines("alone") == ["alone", "0"]
    assert job["EnableNetworkIsolation"] is True
    lab.run("reaching", script)
    assert lab.lines("reaching") == ["reached", "3"]


# -- stop and time --------------------------------------------------------------------------------------------------------


def test_stop_training_job_keeps_what_there_is(lab: Any) -> None:
    lab.start("stopped", "trap 'echo late > /opt/ml/model/late; exit 9' TERM; echo ready; while :; do sleep 0.1; done")
    lab.wait_for_line("stopped", "ready")
    lab.sagemaker.stop_training_job(TrainingJobName="stopped")
    job = lab.wait("stopped")
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "Stopped")
    assert statuses(job)[-4:] == ["Training", "Stopping", "Uploading", "Stopped"]
    assert lab.members("out/stopped/output/model.tar.gz") == {"late": b"late\n"}
    assert "FailureReason" not in job
    expected = ("ValidationException", "The request was rejected because the training job is in status Stopped.")
    assert refusal(lab.sagemaker.stop_training_job, TrainingJobName="stopped") == expected


def test_stop_training_job_says_stopping_meanwhile(lab: Any) -> None:
    lab.start("slow", "trap 'sleep 2; exit' TERM; echo ready; while :; do sleep 0.1; done")
    lab.wait_for_line("slow", "ready")
    lab.sagemaker.stop_training_job(TrainingJobName="slow")
    job = lab.describe("slow")
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopping", "Stopping")
    assert refusal(lab.sagemaker.delete_training_job, TrainingJobName="slow")[0] == "ResourceInUse"


def test_stop_training_job_wants_one(lab: Any) -> None:
    assert refusal(lab.sagemaker.stop_training_job, TrainingJobName="none") == (
        "ValidationException",
        "Requested resource not found.",
    )


def test_max_runtime_stops_the_job(lab: Any) -> None:
    job = lab.run("timed", "echo x > /opt/ml/model/x; sleep 600", StoppingCondition={"MaxRuntimeInSeconds": 1})
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "MaxRuntimeExceeded")
    assert lab.members("out/timed/output/model.tar.gz") == {"x": b"x\n"}


# -- refusals -------------------------------------------------------------------------------------------------------------


def test_create_training_job_refuses_a_taken_name(lab: Any) -> None:
    arn = lab.start("taken", "exit 0")
    code, message = refusal(lab.sagemaker.create_training_job, **lab.request("Taken", "exit 0"))
    assert code == "ResourceInUse"
    assert message == (
        "Training job names must be unique within an AWS account and region, and a training job with this name already exists "
        f"({arn})"
    )


def test_create_training_job_wants_a_role_that_trusts_sagemaker(lab: Any) -> None:
    stranger = lab.aws.role("Stranger", "lambda.amazonaws.com")
    for role in (stranger, stranger.replace("Stranger", "Missing")):
        code, message = refusal(lab.sagemaker.create_training_job, **lab.request("x", "exit 0", RoleArn=role))
        assert code == "ValidationException"
        assert message == (
            f"Could not assume role {role}. Please ensure that the role exists and allows principal 'sagemaker.amazonaws.com' "
            "to assume the role."
        )


def test_create_training_job_wants_the_right_to_pass_the_role(lab: Any) -> None:
    allow = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sagemaker:*", "Resource": "*"}]}
    user = lab.aws.user("ann", allow)
    code, message = refusal(user.client("sagemaker").create_training_job, **lab.request("x", "exit 0"))
    assert code == "AccessDeniedException"
    assert message.replace('"', "") == (
        f"User: arn:aws:iam::{lab.aws.account}:user/ann is not authorized to perform: iam:PassRole on resource: {lab.role} "
        "because no identity-based policy allows the iam:PassRole action"
    )
    condition = {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}
    passing = {"Effect": "Allow", "Action": "iam:PassRole", "Resource": lab.role, "Condition": condition}
    able = lab.aws.user("bob", {**allow, "Statement": [*allow["Statement"], passing]})  # type: ignore[list-item]
    able.client("sagemaker").create_training_job(**lab.request("by-bob", "exit 0"))
    assert lab.wait("by-bob")["TrainingJobStatus"] == "Completed"


def test_create_training_job_wants_objects(lab: Any) -> None:
    uri = f"s3://{lab.bucket}/nothing"
    code, message = refusal(
        lab.sagemaker.create_training_job, **lab.request("x", "exit 0", InputDataConfig=[lab.channel("train", uri)])
    )
    assert code == "ValidationException"
    assert message.startswith(f'No S3 objects found under S3 URL "{uri}" given in input data source. Please ensure that the bucket')


def _channel(mode: str = "File", **changes: Any) -> dict[str, Any]:
    """A request's one channel; members that Channel itself has go there, others into its source."""
    outer = {key: changes.pop(key) for key in list(changes) if key in ("RecordWrapperType", "CompressionType")}
    source = {"S3DataType": "S3Prefix", "S3Uri": "s3://b/x", **changes}
    return {"InputDataConfig": [{"ChannelName": "c", "DataSource": {"S3DataSource": source}, "InputMode": mode, **outer}]}


REFUSED: list[tuple[dict[str, Any], str]] = [
    (_channel(S3DataType="AugmentedManifestFile", AttributeNames=["a"]), "AugmentedManifestFile can only be used"),
    (_channel("Pipe", S3DataType="AugmentedManifestFile"), "AttributeNames must be given"),
    (_channel(AttributeNames=["a"]), "AttributeNames can only be used"),
    (_channel(RecordWrapperType="RecordIO"), "RecordIO can only be used"),
    (_channel(InstanceGroupNames=["gpus"]), "instance groups that ResourceConfig does not have: gpus"),
    (
        {
            "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 2, "VolumeSizeInGB": 1},
            "EnableNetworkIsolation": True,
        },
        "more than one instance",
    ),
    ({"CheckpointConfig": {"S3Uri": "s3://b/x", "LocalPath": "/usr/lib"}}, "cannot be used"),
    ({"CheckpointConfig": {"S3Uri": "s3://b/x", "LocalPath": "//usr/lib"}}, "cannot be used"),
    ({"CheckpointConfig": {"S3Uri": "s3://b/x", "LocalPath": "/opt//ml/"}}, "cannot be used"),
    ({"InfraCheckConfig": {"EnableInfraCheck": True}}, "InfraCheckConfig"),
    ({"algorithm": {"TrainingImageConfig": {"TrainingRepositoryAccessMode": "Vpc"}}}, "TrainingImageConfig"),
    (
        {"ResourceConfig": {"InstancePreferences": [{"InstanceType": "ml.m5.large", "InstanceCount": 1}], "VolumeSizeInGB": 1}},
        "InstancePreferences in ResourceConfig",
    ),
    ({"algorithm": {"TrainingImage": "123456789012.dkr.ecr.us-east-1.amazonaws.com/mine:1"}}, "Cannot find repository: mine"),
    ({"algorithm": {"MetricDefinitions": [{"Name": "m", "Regex": "("}]}}, "Invalid regular expression"),
    (
        {"ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 0, "VolumeSizeInGB": 1}},
        "greater than or equal to 1",
    ),
    ({"ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1}}, "resourceConfig.volumeSizeInGB"),
    (
        {"ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "SelectedInstanceCount": 1, "VolumeSizeInGB": 1}},
        "SelectedInstanceCount is read-only",
    ),
    ({"ResourceConfig": None}, "Value null at 'resourceConfig'"),
    ({"StoppingCondition": None}, "Value null at 'stoppingCondition'"),
    ({"EnableManagedSpotTraining": True}, "Invalid MaxWaitTimeInSeconds"),
    ({"DebugRuleConfigurations": [{"RuleConfigurationName": "r", "RuleEvaluatorImage": "i"}]}, "DebugRuleConfigurations"),
]


def test_create_training_job_refuses_what_makes_no_sense_or_is_not_built(fresh_lab: Any) -> None:
    for changes, words in REFUSED:
        code, message = refusal(fresh_lab.sagemaker.create_training_job, **fresh_lab.request("refused", "exit 0", **changes))
        assert code == "ValidationException"
        assert words in message
    assert fresh_lab.sagemaker.list_training_jobs()["TrainingJobSummaries"] == []


def test_describe_training_job_waits_for_the_end_of_a_short_job_where_the_client_would_not_ask_again(lab: Any) -> None:
    config = Config(user_agent_extra="lib/AWS-SageMaker-Python-SDK#2.257.7")
    sdk = lab.aws.client("sagemaker", config=config)
    sdk.create_training_job(**lab.request("short", "sleep 0.5"))
    assert sdk.describe_training_job(TrainingJobName="short")["TrainingJobStatus"] == "Completed"
    lab.start("long", "sleep 60")
    assert lab.describe("long")["TrainingJobStatus"] == "InProgress"
    lab.sagemaker.stop_training_job(TrainingJobName="long")


def test_create_training_job_brings_tensorboard_files_while_it_runs(lab: Any) -> None:
    script = "mkdir -p /opt/ml/output/tensorboard/run; cd /opt/ml/output/tensorboard/run; echo 1 > events; while [ ! -e go ]; do sleep 0.1; done"
    lab.start("board", script, TensorBoardOutputConfig={"S3OutputPath": f"s3://{lab.bucket}/boards"})
    eventually(lambda: lab.keys("boards/") == ["boards/board/tensorboard-output/run/events"])
    assert lab.describe("board")["SecondaryStatus"] == "Training"
    lab.sagemaker.stop_training_job(TrainingJobName="board")


# -- list and delete ------------------------------------------------------------------------------------------------------


def test_list_training_jobs_pages_to_the_end(fresh_lab: Any) -> None:
    names = [f"job-{number}" for number in range(5)]
    for name in names:
        fresh_lab.run(name, "exit 0")
    pages = [
        [job["TrainingJobName"] for job in page["TrainingJobSummaries"]]
        for page in fresh_lab.sagemaker.get_paginator("list_training_jobs").paginate(PaginationConfig={"PageSize": 2})
    ]
    assert pages == [["job-0", "job-1"], ["job-2", "job-3"], ["job-4"]]
    down = fresh_lab.sagemaker.get_paginator("list_training_jobs").paginate(SortBy="Name", SortOrder="Descending", MaxResults=2)
    assert [job["TrainingJobName"] for page in down for job in page["TrainingJobSummaries"]] == names[::-1]
    assert refusal(fresh_lab.sagemaker.list_training_jobs, NextToken="strange")[0] == "ValidationException"


def test_list_training_jobs_filters(fresh_lab: Any, other_aws: Account) -> None:
    fresh_lab.run("good-one", "exit 0")
    fresh_lab.run("bad-one", "exit 1")

    def names(**filters: Any) -> list[str]:
        return [
            job["TrainingJobName"]
            for job in fresh_lab.sagemaker.list_training_jobs(SortBy="Name", **filters)["TrainingJobSummaries"]
        ]

    assert names() == ["bad-one", "good-one"]
    assert names(StatusEquals="Failed") == ["bad-one"]
    assert names(NameContains="GOOD") == ["good-one"]
    later = datetime.now(UTC) + timedelta(hours=1)
    assert names(CreationTimeAfter=later) == []
    assert names(CreationTimeBefore=later, LastModifiedTimeBefore=later) == ["bad-one", "good-one"]
    assert other_aws.client("sagemaker").list_training_jobs()["TrainingJobSummaries"] == []
    entry = fresh_lab.sagemaker.list_training_jobs(StatusEquals="Failed")["TrainingJobSummaries"][0]
    assert {"TrainingJobArn", "CreationTime", "LastModifiedTime", "TrainingEndTime", "TrainingJobStatus"} <= entry.keys()


def test_list_training_jobs_finds_those_from_before_the_index(fresh_lab: Any, server: Any) -> None:
    for number in range(4):
        fresh_lab.run(f"old-{number}", "exit 0")
    index = server.cloud.rows(fresh_lab.aws.account, "us-east-1", "sagemaker", "TrainingJobByTime")
    for row in index.scan():
        index.delete(row.id)

    def names(**request: Any) -> list[str]:
        found = fresh_lab.sagemaker.list_training_jobs(**request)["TrainingJobSummaries"]
        return [job["TrainingJobName"] for job in found]

    assert names() == [f"old-{number}" for number in range(4)]
    times = [fresh_lab.describe(f"old-{number}")["CreationTime"] for number in range(4)]
    assert names(CreationTimeAfter=times[2] + timedelta(milliseconds=1)) == ["old-3"]
    assert names(CreationTimeBefore=times[1] - timedelta(milliseconds=1), SortOrder="Descending") == ["old-0"]
    pages = fresh_lab.sagemaker.get_paginator("list_training_jobs").paginate(SortOrder="Descending", MaxResults=1)
    found = [job["TrainingJobName"] for page in pages for job in page["TrainingJobSummaries"]]
    assert found == ["old-3", "old-2", "old-1", "old-0"]
    fresh_lab.sagemaker.delete_training_job(TrainingJobName="old-2")
    assert names(NameContains="LD-") == ["old-0", "old-1", "old-3"]


def test_delete_training_job_frees_the_name(lab: Any) -> None:
    lab.run("again", "exit 0", Tags=[{"Key": "a", "Value": "1"}])
    lab.sagemaker.delete_training_job(TrainingJobName="again")
    assert refusal(lab.sagemaker.describe_training_job, TrainingJobName="again")[0] == "ValidationException"
    assert refusal(lab.sagemaker.delete_training_job, TrainingJobName="again")[0] == "ResourceNotFound"
    arn = lab.start("again", "exit 0")
    assert lab.sagemaker.list_tags(ResourceArn=arn)["Tags"] == []
    assert lab.wait("again")["TrainingJobStatus"] == "Completed"


def test_work_folder_goes_with_the_job(lab: Any, server: Any) -> None:
    lab.run("tidy", "echo x > /opt/ml/model/x")
    eventually(lambda: lab.aws.account and not _has_work_of(server, "tidy"))


def _has_work_of(server: Any, name: str) -> bool:
    from pilvi.jobs.record import JOBS

    folders = list((server.config.data_dir / "jobs").glob("*"))
    return any(
        (row := server.cloud.store.get(JOBS, path.name)) is not None and row.value["spec"]["name"] == name for path in folders
    )
