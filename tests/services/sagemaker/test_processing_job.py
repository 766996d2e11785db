"""Processing jobs by boto3, with shell scripts in the bare interpreter's runtime."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from typing import Any

import pytest

from pilvi.testing.refusal import refusal
from pilvi.testing.server import Account, eventually

BASE_IMAGE = "081325390199.dkr.ecr.us-east-1.amazonaws.com/sagemaker-base-python:1.0"
GROUP = "/aws/sagemaker/ProcessingJobs"


class Desk:
    """Short requests for processing jobs of a lab."""

    def __init__(self, lab: Any) -> None:
        self.lab = lab
        self.sagemaker = lab.sagemaker

    def request(self, name: str, script: str = "true", **changes: Any) -> dict[str, Any]:
        """A request whose program is a shell script."""
        request = {
            "ProcessingJobName": name,
            "AppSpecification": {
                "ImageUri": BASE_IMAGE,
                "ContainerEntrypoint": ["/bin/bash", "-c"],
                "ContainerArguments": [script.strip().replace("\n", "; ")],
            },
            "RoleArn": self.lab.role,
            "ProcessingResources": {"ClusterConfig": {"InstanceType": "ml.t3.medium", "InstanceCount": 1, "VolumeSizeInGB": 1}},
        }
        return {key: value for key, value in {**request, **changes}.items() if value is not None}

    def input(self, name: str, uri: str, path: str = "", **changes: Any) -> dict[str, Any]:
        s3 = {"S3Uri": uri, "LocalPath": path or f"/opt/ml/processing/input/{name}", "S3DataType": "S3Prefix", **changes}
        return {"InputName": name, "S3Input": s3}

    def output(self, name: str, path: str = "", mode: str = "EndOfJob", **changes: Any) -> dict[str, Any]:
        """To `done/<name>` in the lab's bucket."""
        uri = f"s3://{self.lab.bucket}/done/{name}"
        s3 = {"S3Uri": uri, "LocalPath": path or f"/opt/ml/processing/{name}", "S3UploadMode": mode}
        return {"OutputName": name, "S3Output": s3, **changes}

    def start(self, name: str, script: str = "true", **changes: Any) -> str:
        return str(self.sagemaker.create_processing_job(**self.request(name, script, **changes))["ProcessingJobArn"])

    def describe(self, name: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.sagemaker.describe_processing_job(ProcessingJobName=name)
        return found

    def wait(self, name: str) -> Mapping[str, Any]:
        def ended() -> Any:
            found = self.describe(name)
            return found if found["ProcessingJobStatus"] in ("Completed", "Failed", "Stopped") else None

        found: Mapping[str, Any] = eventually(ended, within_s=120)
        return found

    def run(self, name: str, script: str = "true", **changes: Any) -> Mapping[str, Any]:
        self.start(name, script, **changes)
        return self.wait(name)

    def lines(self, name: str) -> list[str]:
        """Everything the job said."""
        try:
            events = self.lab.logs.filter_log_events(logGroupName=GROUP, logStreamNamePrefix=f"{name}/")["events"]
        except self.lab.logs.exceptions.ResourceNotFoundException:
            return []
        return [event["message"] for event in events]

    def refusal(self, name: str = "refused", script: str = "true", **changes: Any) -> tuple[str, str]:
        return refusal(self.sagemaker.create_processing_job, **self.request(name, script, **changes))


@pytest.fixture(scope="module")
def desk(lab: Any) -> Desk:
    return Desk(lab)


# -- create and describe --------------------------------------------------------------------------------------------------


def test_create_processing_job_reads_and_writes(desk: Desk) -> None:
    uri = desk.lab.put("first/all.csv", "1,a\n2,b\n3,c\n4,d\n")
    script = """
cd /opt/ml/processing
head -3 input/data/all.csv > train/part.csv
mkdir test/deep; tail -1 input/data/all.csv > test/deep/part.csv
ln -s /etc/passwd test/link
echo split
"""
    outputs = {"Outputs": [desk.output("train"), desk.output("test")]}
    arn = desk.start("First-Split", script, ProcessingInputs=[desk.input("data", uri)], ProcessingOutputConfig=outputs)
    assert arn == f"arn:aws:sagemaker:us-east-1:{desk.lab.aws.account}:processing-job/first-split"
    job = desk.wait("First-Split")
    assert job["ProcessingJobStatus"] == "Completed"
    assert desk.lab.get("done/train/part.csv") == b"1,a\n2,b\n3,c\n"
    assert desk.lab.keys("done/test") == ["done/test/deep/part.csv"], "links are not followed"
    assert desk.lines("First-Split") == ["split"]


def test_describe_processing_job_fills_in_what_aws_fills_in(desk: Desk) -> None:
    source = desk.input("data", desk.lab.put("fill/a", "x"))
    experiment = {"ExperimentName": "e", "TrialName": "t"}
    job = desk.run("described", ProcessingInputs=[source], ExperimentConfig=experiment, Environment={"A": "b"})
    s3 = {"S3InputMode": "File", "S3DataDistributionType": "FullyReplicated", "S3CompressionType": "None"}
    assert job["ProcessingInputs"] == [{**source, "AppManaged": False, "S3Input": {**source["S3Input"], **s3}}]
    assert job["StoppingCondition"] == {"MaxRuntimeInSeconds": 86400}
    assert (job["ExperimentConfig"], job["Environment"]) == (experiment, {"A": "b"})
    assert job["CreationTime"] <= job["ProcessingStartTime"] <= job["ProcessingEndTime"] <= job["LastModifiedTime"]
    assert not {"FailureReason", "ExitMessage", "Tags"} & job.keys()


def test_describe_processing_job_knows_no_other_account(desk: Desk, other_aws: Account) -> None:
    desk.run("mine")
    code, text = "ValidationException", "Could not find requested job with name: "
    assert refusal(other_aws.client("sagemaker").describe_processing_job, ProcessingJobName="mine") == (code, f"{text}mine")
    assert refusal(desk.sagemaker.describe_processing_job, ProcessingJobName="none") == (code, f"{text}none")


def test_create_processing_job_gives_the_program_its_layout(desk: Desk) -> None:
    script = """
cat /opt/ml/config/processingjobconfig.json; echo; cat /opt/ml/config/resourceconfig.json; echo
echo $GREETING $AWS_REGION; ls -d /opt/ml/processing/out
"""
    source = desk.input("data", desk.lab.put("layout/a", "x"))
    arn = desk.start(
        "layout",
        script,
        ProcessingInputs=[source],
        ProcessingOutputConfig={"Outputs": [desk.output("out")]},
        Environment={"GREETING": "hi"},
    )
    desk.wait("layout")
    lines = desk.lines("layout")
    config = json.loads(lines[0])
    assert (config["ProcessingJobArn"], config["ProcessingJobName"]) == (arn, "layout")
    assert config["ProcessingInputs"][0]["S3Input"]["S3InputMode"] == "File"
    assert config["ProcessingResources"]["ClusterConfig"]["InstanceType"] == "ml.t3.medium"
    assert config["AppSpecification"]["ContainerEntrypoint"] == ["/bin/bash", "-c"]
    assert json.loads(lines[1]) == {"current_host": "algo-1", "hosts": ["algo-1"]}
    assert lines[2] == "hi us-east-1"


def test_create_processing_job_reads_manifests_and_gzip(desk: Desk) -> None:
    for name in ("one", "two"):
        desk.lab.put(f"m/{name}.csv", f"{name}\n")
    desk.lab.put("z/packed.csv.gz", gzip.compress(b"packed\n"))
    manifest = desk.lab.put("list.manifest", json.dumps([{"prefix": f"s3://{desk.lab.bucket}/m/"}, "two.csv"]))
    inputs = [
        desk.input("listed", manifest, S3DataType="ManifestFile"),
        desk.input("packed", f"s3://{desk.lab.bucket}/z", S3CompressionType="Gzip"),
    ]
    desk.run("kinds", "cd /opt/ml/processing/input; find . -type f | sort; cat packed/*", ProcessingInputs=inputs)
    assert desk.lines("kinds") == ["./listed/two.csv", "./packed/packed.csv", "packed"]


def test_create_processing_job_puts_one_input_inside_another(desk: Desk) -> None:
    inputs = [
        desk.input("code", desk.lab.put("nest/code/run.sh", "ls -R /opt/ml/processing/input"), "/opt/ml/processing/input/code"),
        desk.input("data", desk.lab.put("nest/data.csv", "1"), "/opt/ml/processing/input"),
    ]
    app = {"ImageUri": BASE_IMAGE, "ContainerEntrypoint": ["/bin/bash", "/opt/ml/processing/input/code/run.sh"]}
    desk.run("nested", AppSpecification=app, ProcessingInputs=inputs)
    assert {"data.csv", "code", "run.sh"} <= set(desk.lines("nested"))


def test_create_processing_job_leaves_what_the_program_manages_itself(desk: Desk) -> None:
    own_input = {"InputName": "own", "AppManaged": True, "S3Input": {"S3Uri": "s3://no-such-bucket/x", "S3DataType": "S3Prefix"}}
    own_output = {
        "OutputName": "out",
        "AppManaged": True,
        "S3Output": {"S3Uri": "s3://no-such-bucket/y", "S3UploadMode": "EndOfJob"},
    }
    job = desk.run("managed", ProcessingInputs=[own_input], ProcessingOutputConfig={"Outputs": [own_output]})
    assert job["ProcessingJobStatus"] == "Completed"


def test_create_processing_job_writes_outside_opt_ml(desk: Desk) -> None:
    job = desk.run("elsewhere", "echo 1 > /data/out/a", ProcessingOutputConfig={"Outputs": [desk.output("else", "/data/out")]})
    assert job["ProcessingJobStatus"] == "Completed"
    assert desk.lab.keys("done/else") == ["done/else/a"]
    for path in ("/usr/local/x", "/tmp", "relative", "/"):
        assert "must be the absolute path" in desk.refusal(ProcessingOutputConfig={"Outputs": [desk.output("a", path)]})[1]


def test_several_hosts_share_the_objects(desk: Desk) -> None:
    for number in range(5):
        desk.lab.put(f"shards/part-{number}.csv", str(number))
    desk.lab.put("common/all.csv", "x")
    inputs = [
        desk.input("part", f"s3://{desk.lab.bucket}/shards/", S3DataDistributionType="ShardedByS3Key"),
        desk.input("common", f"s3://{desk.lab.bucket}/common/"),
    ]
    script = """
host=$(hostname)
cd /opt/ml/processing; ls input/part input/common > seen/$host; printf "$host." > /opt/ml/output/message; echo at $(hostname); cat /opt/ml/config/resourceconfig.json
"""
    cluster = {"InstanceType": "ml.t3.medium", "InstanceCount": 2, "VolumeSizeInGB": 1}
    job = desk.run(
        "two-hosts",
        script,
        ProcessingInputs=inputs,
        ProcessingOutputConfig={"Outputs": [desk.output("seen")]},
        ProcessingResources={"ClusterConfig": cluster},
    )
    if "no namespaces" in job.get("FailureReason", ""):
        pytest.skip("this machine has no namespaces")
    assert (job["ProcessingJobStatus"], job["ExitMessage"]) == ("Completed", "algo-1.algo-2.")
    assert desk.lab.keys("done/seen") == ["done/seen/algo-1", "done/seen/algo-2"]
    first, second = ({line for line in desk.lab.get(key).decode().split() if "part-" in line} for key in desk.lab.keys("done/seen"))
    assert not first & second
    assert first | second == {f"part-{number}.csv" for number in range(5)}
    assert all(b"all.csv" in desk.lab.get(key) for key in desk.lab.keys("done/seen"))
    streams = desk.lab.logs.describe_log_streams(logGroupName=GROUP, logStreamNamePrefix="two-hosts/")["logStreams"]
    assert sorted(stream["logStreamName"].split("/")[1][:6] for stream in streams) == ["algo-1", "algo-2"]
    assert {"at algo-1", "at algo-2"} <= set(desk.lines("two-hosts"))


def test_create_processing_job_takes_the_first_preference(desk: Desk) -> None:
    preferences = [{"InstanceType": "ml.m5.large", "InstanceCount": 1}, {"InstanceType": "ml.t3.large", "InstanceCount": 1}]
    job = desk.run("preferred", ProcessingResources={"ClusterConfig": {"VolumeSizeInGB": 1, "InstancePreferences": preferences}})
    cluster = job["ProcessingResources"]["ClusterConfig"]
    assert (cluster["SelectedInstanceType"], cluster["SelectedInstanceCount"]) == ("ml.m5.large", 1)


def test_continuous_output_is_there_while_the_program_runs(desk: Desk) -> None:
    outputs = {"Outputs": [desk.output("live", mode="Continuous")]}
    desk.start("live", "echo 1 > /opt/ml/processing/live/first; sleep 600", ProcessingOutputConfig=outputs)
    eventually(lambda: desk.lab.keys("done/live") == ["done/live/first"])
    assert desk.describe("live")["ProcessingJobStatus"] == "InProgress"
    desk.sagemaker.stop_processing_job(ProcessingJobName="live")
    desk.wait("live")
    outputs = {"Outputs": [desk.output("bad", mode="Continuous")]}
    desk.run("live-bad", "echo 1 > /opt/ml/processing/bad/a; exit 1", ProcessingOutputConfig=outputs)
    assert desk.lab.keys("done/bad") == ["done/bad/a"]


def test_pipe_mode_streams_the_objects(desk: Desk) -> None:
    desk.lab.put("pipe/a", "1\n")
    desk.lab.put("pipe/b", "2\n")
    source = desk.input("in", f"s3://{desk.lab.bucket}/pipe/", S3InputMode="Pipe")
    desk.run("piped", "cat /opt/ml/processing/input/in_0; cat /opt/ml/processing/input/in_1 | wc -l", ProcessingInputs=[source])
    assert desk.lines("piped") == ["1", "2", "2"]


# -- endings --------------------------------------------------------------------------------------------------------------


def test_exit_message_is_what_the_program_left(desk: Desk) -> None:
    job = desk.run("message", "printf 'rows: 5 \\xc3\\xa4' > /opt/ml/output/message")
    assert (job["ProcessingJobStatus"], job["ExitMessage"]) == ("Completed", "rows: 5 ä")
    job = desk.run("long-message", "head -c 5000 /dev/zero | tr '\\0' 'x' > /opt/ml/output/message")
    assert job["ExitMessage"] == "x" * 1024


def test_failure_reason_sends_to_the_log_where_the_exception_is(desk: Desk) -> None:
    script = "echo bad column > /opt/ml/output/message; python3 -c 'raise ValueError(\"no such column\")'"
    job = desk.run("raises", script, ProcessingOutputConfig={"Outputs": [desk.output("never")]})
    assert job["ProcessingJobStatus"] == "Failed"
    assert job["FailureReason"] == "AlgorithmError: See job logs for more information, exit code: 1"
    assert job["ExitMessage"] == "bad column\n"
    found = desk.lab.logs.filter_log_events(logGroupName=GROUP, logStreamNamePrefix="raises/", filterPattern="ValueError")["events"]
    assert [event["message"] for event in found] == ["ValueError: no such column"]


def test_a_missing_object_fails_the_job(desk: Desk) -> None:
    job = desk.run("no-data", ProcessingInputs=[desk.input("data", f"s3://{desk.lab.bucket}/nothing/here")])
    assert job["ProcessingJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("ClientError: Data download failed:")


def test_stop_processing_job_keeps_outputs(desk: Desk) -> None:
    script = "cd /opt/ml/processing/half; trap 'echo end > b; exit 0' TERM; echo begun | tee a; sleep 600 & wait"
    desk.start("half", script, ProcessingOutputConfig={"Outputs": [desk.output("half")]})
    eventually(lambda: "begun" in desk.lines("half"))
    desk.sagemaker.stop_processing_job(ProcessingJobName="half")
    job = desk.wait("half")
    assert job["ProcessingJobStatus"] == "Stopped"
    assert "FailureReason" not in job
    assert desk.lab.keys("done/half") == ["done/half/a", "done/half/b"]
    expected = ("ValidationException", "The request was rejected because the processing job is in status Stopped.")
    assert refusal(desk.sagemaker.stop_processing_job, ProcessingJobName="half") == expected


def test_create_processing_job_ends_at_its_time_limit(desk: Desk) -> None:
    job = desk.run("slow", "exec sleep 600", StoppingCondition={"MaxRuntimeInSeconds": 1})
    assert job["ProcessingJobStatus"] == "Stopped"


def test_network_isolation_reaches_nothing_and_has_no_credentials(desk: Desk) -> None:
    script = 'echo "keys:$AWS_ACCESS_KEY_ID$AWS_CONTAINER_CREDENTIALS_FULL_URI"; cat /proc/net/dev | grep -c eth'
    job = desk.run("isolated", script, NetworkConfig={"EnableNetworkIsolation": True})
    if job["ProcessingJobStatus"] == "Completed" or desk.lines("isolated"):
        assert desk.lines("isolated")[:2] == ["keys:", "0"]
    else:
        assert "no namespaces" in job["FailureReason"]


# -- list and delete ------------------------------------------------------------------------------------------------------


def test_list_processing_jobs_pages_and_filters(fresh_lab: Any) -> None:
    desk = Desk(fresh_lab)
    for number in range(3):
        desk.start(f"job-{number}")
    for number in range(3):
        desk.wait(f"job-{number}")
    pages = desk.sagemaker.get_paginator("list_processing_jobs").paginate(
        SortBy="Name", SortOrder="Descending", PaginationConfig={"PageSize": 2}
    )
    names = [[job["ProcessingJobName"] for job in page["ProcessingJobSummaries"]] for page in pages]
    assert names == [["job-2", "job-1"], ["job-0"]]
    found = desk.sagemaker.list_processing_jobs(NameContains="JOB-1", StatusEquals="Completed")["ProcessingJobSummaries"]
    assert [job["ProcessingJobName"] for job in found] == ["job-1"]
    assert desk.sagemaker.list_processing_jobs(StatusEquals="Failed")["ProcessingJobSummaries"] == []


def test_delete_processing_job_frees_the_name(desk: Desk) -> None:
    desk.start("again", "sleep 600", Tags=[{"Key": "a", "Value": "b"}])
    arn = desk.describe("again")["ProcessingJobArn"]
    assert desk.sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "a", "Value": "b"}]
    assert refusal(desk.sagemaker.delete_processing_job, ProcessingJobName="again")[0] == "ResourceInUse"
    desk.sagemaker.stop_processing_job(ProcessingJobName="again")
    desk.wait("again")
    desk.sagemaker.delete_processing_job(ProcessingJobName="again")
    assert refusal(desk.sagemaker.delete_processing_job, ProcessingJobName="again")[0] == "ResourceNotFound"
    assert desk.run("again")["ProcessingJobStatus"] == "Completed"


# -- refusals -------------------------------------------------------------------------------------------------------------


def test_create_processing_job_refuses_a_taken_name(desk: Desk) -> None:
    desk.run("taken")
    code, message = desk.refusal("TAKEN")
    assert code == "ResourceInUse"
    assert "already exists" in message


def test_create_processing_job_refuses_a_role_that_does_not_trust_it(desk: Desk) -> None:
    code, message = desk.refusal(RoleArn=f"arn:aws:iam::{desk.lab.aws.account}:role/Nobody")
    assert code == "ValidationException"
    assert message.startswith("Could not assume role")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"AppSpecification": {"ImageUri": BASE_IMAGE}}, "please give a ContainerEntrypoint"),
        ({"ProcessingResources": {"ClusterConfig": {"VolumeSizeInGB": 1}}}, "clusterConfig.instanceType"),
    ],
)
def test_create_processing_job_refuses_what_is_incomplete(desk: Desk, changes: Any, words: str) -> None:
    code, message = desk.refusal(**changes)
    assert code == "ValidationException"
    assert words in message


def test_create_processing_job_refuses_paths_it_cannot_use(desk: Desk) -> None:
    uri = f"s3://{desk.lab.bucket}/x"
    assert "must begin with /opt/ml/processing/" in desk.refusal(ProcessingInputs=[desk.input("a", uri, "/data")])[1]
    assert "must begin with" in desk.refusal(ProcessingInputs=[desk.input("a", uri, "/opt/ml/processing/../config")])[1]
    twice = [desk.input("a", uri, "/opt/ml/processing/x"), desk.input("b", uri, "/opt/ml/processing/x/")]
    assert "must be unique" in desk.refusal(ProcessingInputs=twice)[1]
    same = [desk.input("a", uri), desk.input("a", uri)]
    assert "names must be unique" in desk.refusal(ProcessingInputs=same)[1]
    ours = {"Outputs": [desk.output("a", "/opt/ml/config/x")]}
    assert "is kept for" in desk.refusal(ProcessingOutputConfig=ours)[1]


def test_create_processing_job_refuses_what_is_not_built(desk: Desk) -> None:
    athena = {
        "Catalog": "c", "Database": "d", "QueryString": "select 1", "OutputS3Uri": "s3://b/k", "OutputFormat": "PARQUET",
    }  # fmt: skip
    data_set = {"InputName": "a", "DatasetDefinition": {"AthenaDatasetDefinition": athena, "LocalPath": "/opt/ml/processing/a"}}
    features = {"OutputName": "a", "FeatureStoreOutput": {"FeatureGroupName": "g"}}
    two = {"ClusterConfig": {"InstanceType": "ml.t3.medium", "InstanceCount": 2, "VolumeSizeInGB": 1}}
    for changes in (
        {"NetworkConfig": {"EnableNetworkIsolation": True}, "ProcessingResources": two},
        {"ProcessingInputs": [data_set]},
        {"ProcessingOutputConfig": {"Outputs": [features]}},
    ):
        code, message = desk.refusal(**changes)
        assert code == "ValidationException"
        assert "is not supported by this server yet" in message
