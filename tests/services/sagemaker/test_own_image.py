"""Own containers: a four-line image is built without Docker, pushed, and trains; what an image may and may not do."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pilvi.cli import images
from pilvi.images.archive import read_archive
from pilvi.images.build import Image
from pilvi.testing.server import Account, TestServer, eventually
from tests.services.ecr.conftest import image_of, push
from tests.services.sagemaker.conftest import Lab

TRAIN = """\
import json, os, sys
print("arguments", sys.argv[1:], "user", os.getuid(), "in", os.getcwd(), os.environ["COLOUR"], os.environ["TRAINING_JOB_NAME"])
parameters = json.load(open("/opt/ml/input/config/hyperparameters.json"))
with open("/built.txt") as built, open("/opt/ml/model/model.txt", "w") as model:
    model.write(built.read() + parameters.get("epochs", ""))
if parameters.get("import"):
    __import__(parameters["import"])
if parameters.get("look"):
    print("there:", [path for path in parameters["look"].split(",") if os.path.exists(path)])
if parameters.get("write"):
    assert not os.path.exists(parameters["write"])
    open(parameters["write"], "w").write("mine")
    open("/built.txt", "a").write("changed")
"""
DOCKERFILE = """\
FROM python:3.11-slim
COPY train.py /app/train.py
RUN echo built here > /built.txt
ENTRYPOINT ["python3", "/app/train.py"]
"""
ALONE = (
    "import os; assert 'AWS_SECRET_ACCESS_KEY' not in os.environ; "
    "names = [line.split(':')[0].strip() for line in open('/proc/net/dev') if ':' in line]; assert names == ['lo'], names"
)
PULL = {"Effect": "Allow", "Action": ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"], "Resource": "*"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image as a file, built where no registry is."""
    folder = tmp_path_factory.mktemp("image")
    (folder / "Dockerfile").write_text(DOCKERFILE.replace("ENTRYPOINT", "ENV COLOUR=blue\nWORKDIR /work\nENTRYPOINT"))
    (folder / "train.py").write_text(TRAIN)

    def nowhere() -> images.Target:
        raise images.Invalid("there is no registry")

    said: list[str] = []
    assert images.build(nowhere, folder, ["app:v1"], output=folder / "app.tar", say=said.append) == 0
    return folder / "app.tar"


@pytest.fixture
def uri(lab: Lab, built: Path) -> str:
    """The image in the account's registry."""
    aws = lab.aws
    target = images.Target(aws.endpoint, aws.region, aws.access_key_id, aws.secret, None)
    said: list[str] = []
    assert images.push(target, built, "app:v1", said.append) == 0
    document = {"Version": "2012-10-17", "Statement": [PULL]}
    aws.client("iam").put_role_policy(RoleName="Trainer", PolicyName="pull", PolicyDocument=json.dumps(document))
    return f"{aws.account}.dkr.ecr.us-east-1.amazonaws.com/app:v1"


def train(lab: Lab, uri: str, name: str, algorithm: Any = None, **hyperparameters: str) -> Any:
    lab.start(name, algorithm={"TrainingImage": uri, **(algorithm or {})}, HyperParameters=hyperparameters)
    return lab.wait(name)


def test_own_image_trains(lab: Lab, uri: str) -> None:
    job = train(lab, uri, "own", epochs="3")
    assert job["TrainingJobStatus"] == "Completed", (job.get("FailureReason"), lab.lines("own"))
    assert lab.members("out/own/output/model.tar.gz") == {"model.txt": b"built here\n3"}
    assert "arguments ['train'] user 0 in /work blue own" in lab.lines("own")


def test_own_image_is_all_that_its_program_sees(lab: Lab, uri: str, server: Any) -> None:
    here = [str(Path(__file__).parent), str(server.config.data_dir), os.path.expanduser("~/.bashrc"), "/etc/shadow", "/var/log"]
    job = train(lab, uri, "look", look=",".join([*here, "/app/train.py"]))
    assert job["TrainingJobStatus"] == "Completed"
    assert any("there: ['/app/train.py']" in line for line in lab.lines("look"))


def test_own_image_stays_as_it_was(lab: Lab, uri: str) -> None:
    for name in ("first", "second"):
        job = train(lab, uri, name, write="/app/written")
        assert job["TrainingJobStatus"] == "Completed", lab.lines(name)
        assert lab.members(f"out/{name}/output/model.tar.gz") == {"model.txt": b"built here\n"}


def test_own_image_without_a_library_shows_its_traceback(lab: Lab, uri: str) -> None:
    job = train(lab, uri, "missing", **{"import": "pandas_is_not_here"})
    assert (job["TrainingJobStatus"], job["FailureReason"]) == ("Failed", "AlgorithmError: , exit code: 1")
    assert any("No module named 'pandas_is_not_here'" in line for line in lab.lines("missing"))


def test_own_image_runs_another_entry_point(lab: Lab, uri: str) -> None:
    entry = {"ContainerEntrypoint": ["/bin/sh", "-c"], "ContainerArguments": ["cat /built.txt; cat /etc/hosts; id -u"]}
    assert train(lab, uri, "entry", entry)["TrainingJobStatus"] == "Completed"
    lines = lab.lines("entry")
    assert "built here" in lines
    assert any(line.endswith("algo-1") for line in lines)


def test_own_image_is_named_by_digest_and_processes(lab: Lab, uri: str) -> None:
    ecr = lab.aws.client("ecr")
    (found,) = ecr.describe_images(repositoryName="app")["imageDetails"]
    lab.sagemaker.create_processing_job(
        ProcessingJobName="process",
        AppSpecification={
            "ImageUri": f"{uri.removesuffix(':v1')}@{found['imageDigest']}",
            "ContainerEntrypoint": ["/bin/sh", "-c", "cp /built.txt /opt/ml/processing/out/"],
        },
        ProcessingOutputConfig={
            "Outputs": [
                {
                    "OutputName": "out",
                    "S3Output": {
                        "S3Uri": f"s3://{lab.bucket}/processed",
                        "LocalPath": "/opt/ml/processing/out",
                        "S3UploadMode": "EndOfJob",
                    },
                }
            ]
        },
        ProcessingResources={"ClusterConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 5}},
        RoleArn=lab.role,
    )
    describe = lab.sagemaker.describe_processing_job
    eventually(lambda: describe(ProcessingJobName="process")["ProcessingJobStatus"] in ("Completed", "Failed"))
    assert describe(ProcessingJobName="process").get("FailureReason") is None
    assert lab.get("processed/built.txt") == b"built here\n"


def test_images_that_cannot_be_had_are_refused(lab: Lab, uri: str) -> None:
    for wrong, words in (
        (uri.replace(":v1", ":v2"), "Requested image .* not found"),
        (uri.replace("/app", "/nope"), "Cannot find repository: nope in registry ID: .* pull permissions for SageMaker"),
    ):
        with pytest.raises(ClientError, match=words):
            lab.start("refused", algorithm={"TrainingImage": wrong})
    lab.aws.client("iam").delete_role_policy(RoleName="Trainer", PolicyName="pull")
    with pytest.raises(ClientError, match="proper pull permissions"):
        lab.start("refused", algorithm={"TrainingImage": uri})


def test_another_accounts_image_runs_where_its_repository_lets_the_role_in(
    lab: Lab, uri: str, built: Path, other_aws: Account
) -> None:
    """Under the name of one of AWS's own: what runs is theirs."""
    target = images.Target(other_aws.endpoint, other_aws.region, other_aws.access_key_id, other_aws.secret, None)
    assert images.push(target, built, "pytorch-training:v1", lambda _line: None) == 0
    theirs = f"{other_aws.account}.dkr.ecr.us-east-1.amazonaws.com/pytorch-training:v1"
    with pytest.raises(ClientError, match=f"Cannot find repository: pytorch-training in registry ID: {other_aws.account}"):
        lab.start("theirs", algorithm={"TrainingImage": theirs})
    statement = {**PULL, "Principal": {"AWS": f"arn:aws:iam::{lab.aws.account}:root"}}
    del statement["Resource"]
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    other_aws.client("ecr").set_repository_policy(repositoryName="pytorch-training", policyText=policy)
    job = train(lab, theirs, "theirs", epochs="7")
    assert job["TrainingJobStatus"] == "Completed", (job.get("FailureReason"), lab.lines("theirs"))
    assert lab.members("out/theirs/output/model.tar.gz") == {"model.txt": b"built here\n7"}


def test_deleted_images_leave_nothing_behind(lab: Lab, uri: str, server: Any) -> None:
    assert train(lab, uri, "last")["TrainingJobStatus"] == "Completed"
    ecr = lab.aws.client("ecr")
    ecr.delete_repository(repositoryName="app", force=True)
    folder = server.config.data_dir / "images"
    account = lab.aws.account
    eventually(
        lambda: not any(account in (place / "images").read_text() for place in folder.glob("*") if (place / "images").exists())
    )
    with pytest.raises(ClientError, match="Cannot find repository"):
        lab.start("gone", algorithm={"TrainingImage": uri})


def test_built_images_come_back_from_the_registry(lab: Lab, uri: str, built: Path, tmp_path: Path) -> None:
    aws = lab.aws
    target = images.Target(aws.endpoint, aws.region, aws.access_key_id, aws.secret, None)
    said: list[str] = []
    assert images.save(target, "app:v1", tmp_path / "back.tar", said.append) == 0
    assert images.show(target, said.append) == 0
    assert any(line.startswith("app:v1 ") for line in said)

    def of(path: Path, name: str) -> Image:
        (tmp_path / name).mkdir()
        return read_archive(path, tmp_path / name)

    assert of(tmp_path / "back.tar", "a").manifest_bytes() == of(built, "b").manifest_bytes()


def test_own_image_runs_on_several_hosts(lab: Lab, uri: str) -> None:
    entry = {
        "ContainerEntrypoint": ["/bin/sh", "-c"],
        "ContainerArguments": [
            "hostname; test ! -e /mine && echo x > /mine; cp /opt/ml/input/config/resourceconfig.json /opt/ml/model/$(hostname)"
        ],
    }
    several = {"InstanceType": "ml.m5.large", "InstanceCount": 2, "VolumeSizeInGB": 5}
    lab.start("several", algorithm={"TrainingImage": uri, **entry}, ResourceConfig=several)
    assert lab.wait("several")["TrainingJobStatus"] == "Completed", lab.lines("several")
    assert sorted(lab.members("out/several/output/model.tar.gz")) == ["algo-1", "algo-2"]


def test_own_image_without_a_network_has_no_keys(lab: Lab, uri: str) -> None:
    entry = {"ContainerEntrypoint": ["python3", "-c"], "ContainerArguments": [ALONE]}
    lab.start("alone", algorithm={"TrainingImage": uri, **entry}, EnableNetworkIsolation=True)
    assert lab.wait("alone")["TrainingJobStatus"] == "Completed", lab.lines("alone")


def test_an_image_of_another_user_runs_as_them(lab: Lab, uri: str, built: Path, tmp_path: Path) -> None:
    with (tmp_path / "Dockerfile").open("w") as file:
        file.write("FROM app:v1\nUSER 1001:1002\nWORKDIR /home/them\n")
    aws = lab.aws
    target = images.Target(aws.endpoint, aws.region, aws.access_key_id, aws.secret, None)
    assert images.build(lambda: target, tmp_path, ["them:v1"], say=lambda _line: None) == 0
    entry = {"ContainerEntrypoint": ["/bin/sh", "-c"], "ContainerArguments": ["id -u; id -g; pwd; echo ok > file; cat file"]}
    assert train(lab, uri.replace("/app", "/them"), "them", entry)["TrainingJobStatus"] == "Completed", lab.lines("them")
    assert lab.lines("them")[-4:] == ["1001", "1002", "/home/them", "ok"]


def test_a_machine_without_namespaces_says_so(tmp_path: Path) -> None:
    with TestServer(tmp_path, isolation="none") as server:
        lab = Lab(server.account("111122223333"))
        lab.aws.client("ecr").create_repository(repositoryName="app")
        push(lab.aws.client("ecr"), "app", image_of("one"), "v1")
        document = {"Version": "2012-10-17", "Statement": [PULL]}
        lab.aws.client("iam").put_role_policy(RoleName="Trainer", PolicyName="pull", PolicyDocument=json.dumps(document))
        job = train(lab, "111122223333.dkr.ecr.us-east-1.amazonaws.com/app:v1", "refused")
        assert job["TrainingJobStatus"] == "Failed"
        assert job["FailureReason"] == "ClientError: This machine has no namespaces, so a container image cannot be run here."
