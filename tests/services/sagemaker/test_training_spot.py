"""Managed spot training: interrupted on command, resumed from its checkpoints; retries after what is not the job's fault."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.httpsession import URLLib3Session

from pilvi.testing.server import eventually
from tests.services.sagemaker.conftest import PERMISSIONS, Lab
from tests.services.sagemaker.test_crash import Up

COUNT = """
cd ${DIR:-/opt/ml/checkpoints}
n=$(cat step 2>/dev/null || echo 0)
echo start $n
trap 'echo told; echo $n > step; exit 0' TERM
while [ $n -lt ${LAST:-30} ]; do n=$((n + 1)); echo $n > .step; mv .step step; sleep 0.1; done
echo end $n; cp step /opt/ml/model/
"""
SPOT: dict[str, Any] = {
    "EnableManagedSpotTraining": True,
    "StoppingCondition": {"MaxRuntimeInSeconds": 300, "MaxWaitTimeInSeconds": 300},
}


def ask(lab: Any, server: Any, name: str, secret: str = "") -> tuple[int, bytes]:
    """POST the interruption, signed by the account's root."""
    request = AWSRequest("POST", f"{server.endpoint}/_aws/spot/{name}", data=b"")
    SigV4Auth(Credentials(lab.aws.access_key_id, secret or lab.aws.secret), "sagemaker", "us-east-1").add_auth(request)
    answer = URLLib3Session().send(request.prepare())
    return answer.status_code, answer.content


def statuses(job: Any) -> list[str]:
    return [entry["Status"] for entry in job["SecondaryStatusTransitions"]]


def test_an_interrupted_job_resumes_from_its_checkpoint(lab: Any, server: Any) -> None:
    config = {"S3Uri": f"s3://{lab.bucket}/spot"}
    lab.start_file("spot", COUNT, CheckpointConfig=config, **SPOT)
    eventually(lambda: any(int(lab.get(key)) > 3 for key in lab.keys("spot/step")))
    status, message = ask(lab, server, "spot")
    assert (status, message) == (
        200,
        b'{"message": "Training job spot is interrupted. It starts again when its program has ended."}',
    )
    job = lab.wait("spot")
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Completed", "Completed"), job.get("FailureReason")
    way = ["Starting", "Downloading", "Training"]
    assert statuses(job) == [*way, "Interrupted", *way, "Uploading", "Completed"]
    lines = lab.lines("spot")
    first, second = (int(line.split()[1]) for line in lines if line.startswith("start"))
    assert (first, second >= 4, "told" in lines, lines[-1]) == (0, True, True, "end 30")
    assert lab.members("out/spot/output/model.tar.gz") == {"step": b"30\n"}
    assert job["BillableTimeInSeconds"] < job["TrainingTimeInSeconds"]
    assert ask(lab, server, "spot")[0] == 409, "it has ended"


def test_interruption_is_for_spot_jobs_and_their_owner(lab: Any, server: Any, other_aws: Any) -> None:
    lab.start("steady", "sleep 60")
    eventually(lambda: lab.describe("steady")["SecondaryStatus"] == "Training")
    assert ask(lab, server, "steady") == (
        409,
        b'{"message": "Training job steady is no managed spot training job, or it has no instance now."}',
    )
    assert ask(lab, server, "steady", secret="wrong")[0] == 403
    assert ask(Lab(other_aws), server, "steady")[0] == 400
    answer = URLLib3Session().send(AWSRequest("POST", f"{server.endpoint}/_aws/spot/steady", data=b"").prepare())
    assert answer.status_code == 403
    lab.sagemaker.stop_training_job(TrainingJobName="steady")


def test_stop_while_interrupted(lab: Any, server: Any) -> None:
    script = "trap '' TERM; echo ready; for i in $(seq 60); do sleep 0.05; done"
    lab.start("stubborn", script, **SPOT)
    lab.wait_for_line("stubborn", "ready")
    assert ask(lab, server, "stubborn")[0] == 200
    job = lab.describe("stubborn")
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("InProgress", "Interrupted")
    lab.sagemaker.stop_training_job(TrainingJobName="stubborn")
    assert lab.describe("stubborn")["TrainingJobStatus"] == "Stopping"
    assert lab.wait("stubborn")["SecondaryStatus"] == "Stopped"


def test_a_spot_job_waits_no_longer_than_it_may(lab: Any) -> None:
    stopping = {"MaxRuntimeInSeconds": 1, "MaxWaitTimeInSeconds": 1}
    job = lab.run("impatient", "sleep 60", EnableManagedSpotTraining=True, StoppingCondition=stopping)
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "MaxWaitTimeExceeded")


def test_checkpoints_outside_opt_ml(lab: Any) -> None:
    for number, place in enumerate(("/checkpoints/deep", "/tmp/points")):
        lab.put(f"elsewhere{number}/step", "28")
        config = {"S3Uri": f"s3://{lab.bucket}/elsewhere{number}", "LocalPath": place}
        job = lab.run_file(f"elsewhere-{number}", COUNT, CheckpointConfig=config, Environment={"DIR": place})
        assert lab.lines(f"elsewhere-{number}") == ["start 28", "end 30"], job
        assert lab.get(f"elsewhere{number}/step") == b"30\n"


def test_links_in_a_checkpoint_folder_lead_nowhere(lab: Any) -> None:
    script = "cd /opt/ml/checkpoints; ln -s /etc/passwd stolen; mkdir d; ln -s /etc d/etc; mkfifo p; echo x > fine; sleep 2.5"
    config = {"S3Uri": f"s3://{lab.bucket}/links"}
    assert lab.run("links", script, CheckpointConfig=config)["TrainingJobStatus"] == "Completed"
    assert lab.keys("links/") == ["links/fine"]


class UpLab(Lab):
    """The same account on a server that dies and comes back."""

    def __init__(self, up: Up) -> None:
        self.sagemaker, self.s3, self.logs = up.client("sagemaker"), up.client("s3"), up.client("logs")
        self.bucket = "lab"


def up_lab(up: Up) -> UpLab:
    """With a role and a bucket."""
    trust = {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}
    iam = up.client("iam")
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    role = iam.create_role(RoleName="r", AssumeRolePolicyDocument=document)["Role"]["Arn"]
    iam.put_role_policy(RoleName="r", PolicyName="p", PolicyDocument=json.dumps(PERMISSIONS))
    lab = UpLab(up)
    lab.role = role
    lab.s3.create_bucket(Bucket="lab")
    return lab


@pytest.mark.parametrize("kind", ["spot", "retry"])
def test_a_job_goes_on_after_the_server_died(tmp_path: Path, kind: str) -> None:
    up = Up(tmp_path / "data")
    lab = up_lab(up)
    more = SPOT if kind == "spot" else {"RetryStrategy": {"MaximumRetryAttempts": 1}}
    lab.start_file("survivor", COUNT, CheckpointConfig={"S3Uri": "s3://lab/points"}, **more)
    eventually(lambda: any(int(lab.get(key)) > 3 for key in lab.keys("points/step")))
    up.end(signal.SIGKILL)
    again = Up(tmp_path / "data")
    try:
        lab = UpLab(again)
        job = lab.wait("survivor")
        assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
        assert ("Interrupted" if kind == "spot" else "Restarting") in statuses(job)
        assert lab.members("out/survivor/output/model.tar.gz") == {"step": b"30\n"}
        assert max(int(line.split()[1]) for line in lab.lines("survivor") if line.startswith("start")) >= 4
        eventually(lambda: not list((tmp_path / "data" / "jobs").glob("*")))
    finally:
        again.end(signal.SIGTERM)


def test_the_command_interrupts(tmp_path: Path) -> None:
    up = Up(tmp_path / "data")

    def interrupt(name: str) -> tuple[int, str]:
        command = [str(Path(sys.executable).with_name("pilvi")), "spot", "interrupt", name, "--data-dir", str(tmp_path / "data")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout or done.stderr

    try:
        lab = up_lab(up)
        assert interrupt("none") == (1, "pilvi: Requested resource not found.\n")
        lab.start("taken", "echo ready; trap 'exit 0' TERM; while true; do sleep 0.05; done", **SPOT)
        lab.wait_for_line("taken", "ready")
        assert interrupt("taken") == (0, "Training job taken is interrupted. It starts again when its program has ended.\n")
        eventually(lambda: lab.lines("taken").count("ready") == 2)
        lab.sagemaker.stop_training_job(TrainingJobName="taken")
        assert lab.wait("taken")["TrainingJobStatus"] == "Stopped"
    finally:
        up.end(signal.SIGTERM)
