"""kill -9 again and again in the middle of ten jobs of all kinds: each is in an honest state after it, or runs where it should."""

from __future__ import annotations

import io
import json
import tarfile
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pilvi.cli import images
from pilvi.compute.environments import Environments
from pilvi.core.config import Config
from pilvi.testing.server import Account, eventually
from pilvi.testing.up import Up

BASE = "081325390199.dkr.ecr.us-east-1.amazonaws.com/sagemaker-base-python:1.0"
SKLEARN = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.4-2-cpu-py3"
LOST = "InternalServerError: the server stopped while the job was running"
ENDLESS = "echo ready; trap '' TERM; setsid sleep 7000 & sleep 7000"
"""Ends by force alone, and leaves a child in a session of its own."""
COUNT = (
    "cd /opt/ml/checkpoints; n=$(cat step 2>/dev/null || echo 0); echo start $n; echo ready; "
    "while [ $n -lt 40 ]; do n=$((n + 1)); echo $n > .step; mv .step step; sleep 0.1; done; cp step /opt/ml/model/"
)
SCRIPT = "import time\nprint('ready', flush=True)\ntime.sleep(7000)\n"
TRIAL = """
import argparse, time
parser = argparse.ArgumentParser()
parser.add_argument("--rate", type=float)
print("ready\\nloss=%r" % abs(parser.parse_known_args()[0].rate - 0.3), flush=True)
time.sleep(1)
"""
DOCKERFILE = 'FROM python:3.11-slim\nCOPY train.py /app/train.py\nENTRYPOINT ["python3", "/app/train.py"]\n'
LIVE = ("InProgress", "Stopping")
FOUND = Environments(Config.runtimes_dir_default())
pytestmark = pytest.mark.skipif(
    FOUND.find("scikit-learn") is None or FOUND.find("notebook") is None,
    reason="needs: pilvi runtimes install scikit-learn notebook",
)


def archive_of(**files: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name + ".py")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return buffer.getvalue()


class Hall:
    """All kinds of jobs of one account, on whatever server there is at the moment."""

    def __init__(self, root: Account) -> None:
        self.at(root)
        actions = ["s3:*", "logs:*", "cloudwatch:*", "ecr:*"]
        document = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": actions, "Resource": "*"}]}
        self.role = root.role("Worker", "sagemaker.amazonaws.com", document)
        root.client("s3").create_bucket(Bucket="hall")
        self.put("sourcedir.tar.gz", archive_of(train=SCRIPT, trial=TRIAL))
        self.put("stream/part", "x" * 100)

    def at(self, root: Account) -> None:
        self.root, self.sagemaker, self.logs = root, root.client("sagemaker"), root.client("logs")

    def put(self, key: str, body: str | bytes) -> None:
        self.root.client("s3").put_object(Bucket="hall", Key=key, Body=body)

    def keys(self, prefix: str) -> list[str]:
        found = self.root.client("s3").list_objects_v2(Bucket="hall", Prefix=prefix)
        return [entry["Key"] for entry in found.get("Contents", ())]

    def get(self, key: str) -> bytes:
        return bytes(self.root.client("s3").get_object(Bucket="hall", Key=key)["Body"].read())

    # -- making -------------------------------------------------------------------------------------------------------

    def training(self, script: str = "", count: int = 1, **changes: Any) -> dict[str, Any]:
        """A training job but for its name; its program is a shell script in the bare runtime."""
        algorithm = {"TrainingImage": BASE, "TrainingInputMode": "File"}
        entry = {"ContainerEntrypoint": ["/bin/bash", "-c"], "ContainerArguments": [script]} if script else {}
        return {
            "AlgorithmSpecification": {**algorithm, **entry, **changes.pop("algorithm", {})},
            "RoleArn": self.role,
            "OutputDataConfig": {"S3OutputPath": "s3://hall/out"},
            "ResourceConfig": {
                "InstanceType": "ml.m5.large",
                "InstanceCount": count,
                "VolumeSizeInGB": 1,
                **changes.pop("resources", {}),
            },
            "StoppingCondition": {"MaxRuntimeInSeconds": 600},
            **changes,
        }

    def scripted(self, program: str, **algorithm: Any) -> dict[str, Any]:
        """A training job in script mode."""
        more = {"TrainingImage": SKLEARN, **algorithm}
        words = {"sagemaker_program": json.dumps(program), "sagemaker_submit_directory": json.dumps("s3://hall/sourcedir.tar.gz")}
        return self.training(algorithm=more, HyperParameters=words)

    def train(self, name: str, request: Mapping[str, Any]) -> None:
        self.sagemaker.create_training_job(TrainingJobName=name, **request)

    def process(self, name: str, count: int) -> None:
        self.sagemaker.create_processing_job(
            ProcessingJobName=name,
            AppSpecification={"ImageUri": BASE, "ContainerEntrypoint": ["/bin/bash", "-c"], "ContainerArguments": [ENDLESS]},
            RoleArn=self.role,
            ProcessingResources={"ClusterConfig": {"InstanceType": "ml.t3.medium", "InstanceCount": count, "VolumeSizeInGB": 1}},
        )

    def tune(self, name: str) -> None:
        request = self.scripted("trial.py", MetricDefinitions=[{"Name": "loss", "Regex": "loss=(\\S+)"}])
        request["StaticHyperParameters"] = request.pop("HyperParameters")
        self.sagemaker.create_hyper_parameter_tuning_job(
            HyperParameterTuningJobName=name,
            HyperParameterTuningJobConfig={
                "Strategy": "Random",
                "HyperParameterTuningJobObjective": {"Type": "Minimize", "MetricName": "loss"},
                "ResourceLimits": {"MaxNumberOfTrainingJobs": 5, "MaxParallelTrainingJobs": 2},
                "ParameterRanges": {"ContinuousParameterRanges": [{"Name": "rate", "MinValue": "0", "MaxValue": "1"}]},
            },
            TrainingJobDefinition=request,
        )

    def image(self, folder: Path) -> str:
        """An image of the account's own, built without Docker."""
        folder.mkdir()
        (folder / "Dockerfile").write_text(DOCKERFILE)
        (folder / "train.py").write_text(SCRIPT)
        target = images.Target(self.root.endpoint, "us-east-1", self.root.access_key_id, self.root.secret, None)
        assert images.build(lambda: target, folder, ["own:v1"], say=lambda _line: None) == 0
        return f"{self.root.account}.dkr.ecr.us-east-1.amazonaws.com/own:v1"

    # -- looking ------------------------------------------------------------------------------------------------------

    def job(self, name: str) -> Any:
        if name.startswith("processing"):
            return self.sagemaker.describe_processing_job(ProcessingJobName=name)
        return self.sagemaker.describe_training_job(TrainingJobName=name)

    def status(self, name: str) -> str:
        found = self.job(name)
        return str(found.get("TrainingJobStatus") or found["ProcessingJobStatus"])

    def lines(self, name: str) -> list[str]:
        group = f"/aws/sagemaker/{'Processing' if name.startswith('processing') else 'Training'}Jobs"
        try:
            streams = self.logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{name}/")["logStreams"]
        except self.logs.exceptions.ResourceNotFoundException:
            return []
        names = [stream["logStreamName"] for stream in streams]
        read = self.logs.get_log_events
        return [e["message"] for n in names for e in read(logGroupName=group, logStreamName=n, startFromHead=True)["events"]]

    def trials(self, name: str) -> list[Any]:
        read = self.sagemaker.list_training_jobs_for_hyper_parameter_tuning_job
        return list(read(HyperParameterTuningJobName=name, MaxResults=100)["TrainingJobSummaries"])

    def tuning(self) -> Any:
        return self.sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName="tuning")

    def notebook(self) -> Any:
        return self.sagemaker.describe_notebook_instance(NotebookInstanceName="notebook")


def family(pid: int) -> Iterator[tuple[int, str]]:
    """Every process below one, as (pid, start time): what a kill of that one has to end."""
    born: dict[int, str] = {}
    below: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        born[int(path.parent.name)] = fields[19]
        below.setdefault(int(fields[1]), []).append(int(path.parent.name))
    todo = list(below.get(pid, ()))
    while todo:
        found = todo.pop()
        yield found, born[found]
        todo += below.get(found, ())


def is_alive(process: tuple[int, str]) -> bool:
    try:
        fields = Path(f"/proc/{process[0]}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return fields[19] == process[1] and fields[0] != "Z"


def kill(server: Up) -> None:
    """kill -9, and nothing that it started lives on."""
    started = set(family(server.process.pid))
    server.kill()
    eventually(lambda: not any(map(is_alive, started)))


def set_up(hall: Hall, folder: Path) -> list[str]:
    """Ten jobs of all kinds beside a notebook; gives those that never end by themselves."""
    hall.sagemaker.create_notebook_instance(NotebookInstanceName="notebook", InstanceType="ml.t2.medium", RoleArn=hall.role)
    uri = hall.image(folder)
    pool = {"KeepAlivePeriodInSeconds": 600}
    hall.train("pooled", hall.training("exit 0", resources=pool))
    eventually(lambda: hall.job("pooled").get("WarmPoolStatus") == {"Status": "Available"})
    hall.train("pool-heir", hall.training(ENDLESS, resources=pool))
    spot: dict[str, Any] = {
        "EnableManagedSpotTraining": True,
        "StoppingCondition": {"MaxRuntimeInSeconds": 600, "MaxWaitTimeInSeconds": 600},
    }
    hall.train("spot", hall.training(COUNT, CheckpointConfig={"S3Uri": "s3://hall/points"}, **spot))
    hall.train("plain", hall.scripted("train.py"))
    hall.train("own", hall.training(algorithm={"TrainingImage": uri}))
    hall.train("pair", hall.training(ENDLESS, count=2))
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://hall/stream/"}}
    channel = {"ChannelName": "train", "DataSource": source, "InputMode": "Pipe"}
    hall.train("piped", hall.training(f"head -c 5 /opt/ml/input/data/train_0; echo; {ENDLESS}", InputDataConfig=[channel]))
    hall.process("processing", 1)
    hall.process("processing-pair", 2)
    hall.train("queued", hall.training("echo word > /opt/ml/model/word"))
    hall.tune("tuning")
    return ["pool-heir", "plain", "own", "pair", "piped", "processing", "processing-pair"]


def test_kill_again_and_again_in_the_middle_of_jobs_of_all_kinds(up: Callable[..., Up], tmp_path: Path) -> None:
    server = up()
    hall = Hall(server.root)
    living = set_up(hall, tmp_path / "image")
    eventually(lambda: hall.notebook()["NotebookInstanceStatus"] == "InService", within_s=60)
    pooled = hall.job("pooled")["WarmPoolStatus"]
    assert (pooled["Status"], pooled["ReusedByJob"]) == ("Reused", "pool-heir")
    eventually(lambda: "ready" in hall.lines("pool-heir") and any(int(hall.get(key)) > 3 for key in hall.keys("points/step")))

    while living:  # as many kills as this machine needs to have run all of them
        caught = eventually(lambda names=living: {name for name in names if "ready" in hall.lines(name)})  # type: ignore[misc]
        kill(server)
        server = up()
        hall.at(server.root)
        ended = {name for name in living if hall.status(name) not in LIVE}
        assert caught <= ended, "those that had begun without a word yet are among them"
        for name in ended:
            found = hall.job(name)
            assert (hall.status(name), found["FailureReason"]) == ("Failed", LOST)
            assert found.get("TrainingEndTime") or found["ProcessingEndTime"]
        living = [name for name in living if name not in ended]

    eventually(lambda: [trial["TrainingJobStatus"] for trial in hall.trials("tuning")].count("InProgress") == 2, within_s=60)
    eventually(lambda: any("ready" in hall.lines(trial["TrainingJobName"]) for trial in hall.trials("tuning")))
    before = {trial["TrainingJobName"]: trial["TunedHyperParameters"] for trial in hall.trials("tuning")}
    kill(server)
    server = up()
    hall.at(server.root)

    spot = eventually(lambda: hall.status("spot") not in LIVE and hall.job("spot"))
    assert spot["TrainingJobStatus"] == "Completed", spot.get("FailureReason")
    assert "Interrupted" in {entry["Status"] for entry in spot["SecondaryStatusTransitions"]}
    begun = [int(line.split()[1]) for line in hall.lines("spot") if line.startswith("start ")]
    assert begun[0] == 0
    assert begun[1] > 3, "from its checkpoint"
    assert begun == sorted(begun)
    assert hall.status("queued") == "Completed"
    assert hall.keys("out/queued/") == ["out/queued/output/model.tar.gz"]

    tuning = eventually(lambda: (found := hall.tuning())["HyperParameterTuningJobStatus"] not in LIVE and found, within_s=60)
    assert tuning["HyperParameterTuningJobStatus"] == "Completed"
    trials = hall.trials("tuning")
    assert sorted(trial["TrainingJobName"].split("-")[1] for trial in trials) == ["001", "002", "003", "004", "005"]
    assert before.items() <= {trial["TrainingJobName"]: trial["TunedHyperParameters"] for trial in trials}.items()
    assert tuning["TrainingJobStatusCounters"]["Completed"] >= 3
    for trial in trials:
        at = trial["CreationTime"]
        assert sum(other["CreationTime"] <= at < other["TrainingEndTime"] for other in trials) <= 2

    eventually(lambda: hall.notebook()["NotebookInstanceStatus"] == "InService", within_s=60)
    assert urllib.request.urlopen(f"http://{hall.notebook()['Url']}/api", timeout=20).status == 200
    assert hall.job("pooled")["WarmPoolStatus"]["Status"] == "Reused"
    for folder in ("jobs", "pools"):
        eventually(lambda folder=folder: not list((server.data_dir / folder).glob("*")))  # type: ignore[misc]
    assert server.stop() == 0
