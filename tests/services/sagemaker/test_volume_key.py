"""KMS keys of jobs and notebook instances: what they seal, who must be allowed to use them, and how that ends when they are not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pilvi.testing.refusal import refusal
from pilvi.testing.server import eventually
from tests.services.sagemaker.conftest import Lab

ONE = {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1}
NO_KMS = [{"Effect": "Allow", "Action": ["s3:*", "logs:*"], "Resource": "*"}]


@pytest.fixture(scope="module")
def key(lab: Lab) -> str:
    """A key that IAM policies of the account decide over."""
    return str(lab.aws.client("kms").create_key()["KeyMetadata"]["Arn"])


@pytest.fixture(scope="module")
def sealer(lab: Lab) -> str:
    """A role that may use keys."""
    allowed = [*NO_KMS, {"Effect": "Allow", "Action": ["kms:GenerateDataKey", "kms:Decrypt"], "Resource": "*"}]
    return lab.aws.role("Sealer", "sagemaker.amazonaws.com", {"Version": "2012-10-17", "Statement": allowed})


def head(lab: Lab, name: str) -> Any:
    return lab.s3.head_object(Bucket=lab.bucket, Key=name)


# -- what comes out and what goes in ----------------------------------------------------------------------------------------


def test_create_training_job_seals_all_its_output_under_the_key(lab: Lab, key: str, sealer: str) -> None:
    output = {"S3OutputPath": f"s3://{lab.bucket}/sealed", "KmsKeyId": key}
    script = "echo made > /opt/ml/model/m; echo seen > /opt/ml/output/data/d; echo kept > /opt/ml/checkpoints/c"
    checkpoints = {"S3Uri": f"s3://{lab.bucket}/sealed/points"}
    job = lab.run("sealed", script, OutputDataConfig=output, RoleArn=sealer, CheckpointConfig=checkpoints)
    assert job["TrainingJobStatus"] == "Completed", job["FailureReason"]
    assert job["OutputDataConfig"]["KmsKeyId"] == key
    for name in ("sealed/sealed/output/model.tar.gz", "sealed/sealed/output/output.tar.gz", "sealed/points/c"):
        assert (head(lab, name)["ServerSideEncryption"], head(lab, name)["SSEKMSKeyId"]) == ("aws:kms", key)
    assert lab.members("sealed/sealed/output/model.tar.gz") == {"m": b"made\n"}


def test_a_job_whose_role_may_not_use_the_key_fails_and_says_so(lab: Lab, key: str) -> None:
    output = {"S3OutputPath": f"s3://{lab.bucket}/denied", "KmsKeyId": key}
    job = lab.run("denied", "echo made > /opt/ml/model/m", OutputDataConfig=output)
    assert job["TrainingJobStatus"] == "Failed"
    assert "Failed to upload data to" in job["FailureReason"]
    assert "AccessDenied" in job["FailureReason"]
    assert "kms:GenerateDataKey" in job["FailureReason"]
    assert lab.keys("denied/") == []


def test_a_job_whose_key_is_not_there_fails_and_says_so(lab: Lab, sealer: str) -> None:
    output = {"S3OutputPath": f"s3://{lab.bucket}/missing", "KmsKeyId": "alias/nobodys"}
    job = lab.run("missing", "true", OutputDataConfig=output, RoleArn=sealer)
    assert job["TrainingJobStatus"] == "Failed"
    assert "alias/nobodys" in job["FailureReason"]


def test_data_under_a_key_is_read_with_the_roles_permission(lab: Lab, key: str, sealer: str) -> None:
    sealed = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": key}
    lab.s3.put_object(Bucket=lab.bucket, Key="secret/rows.csv", Body=b"1,2\n", **sealed)
    channel = lab.channel("train", f"s3://{lab.bucket}/secret/")
    read = 'test "$(cat /opt/ml/input/data/train/rows.csv)" = 1,2'
    assert lab.run("reads", read, InputDataConfig=[channel], RoleArn=sealer)["TrainingJobStatus"] == "Completed"
    job = lab.run("cannot-read", read, InputDataConfig=[channel])
    assert job["TrainingJobStatus"] == "Failed"
    assert "Failed to download data from S3 bucket" in job["FailureReason"]
    assert "kms:Decrypt" in job["FailureReason"]


def test_create_processing_job_seals_its_outputs_under_the_key(lab: Lab, key: str, sealer: str) -> None:
    def output(name: str, mode: str) -> dict[str, Any]:
        s3 = {"S3Uri": f"s3://{lab.bucket}/done/{name}", "LocalPath": f"/opt/ml/processing/{name}", "S3UploadMode": mode}
        return {"OutputName": name, "S3Output": s3}

    script = "echo 1 > /opt/ml/processing/end/f; echo 2 > /opt/ml/processing/on/f"
    request = {
        "AppSpecification": {
            "ImageUri": "081325390199.dkr.ecr.us-east-1.amazonaws.com/sagemaker-base-python:1.0",
            "ContainerEntrypoint": ["/bin/bash", "-c"],
            "ContainerArguments": [script],
        },
        "ProcessingResources": {"ClusterConfig": ONE},
        "ProcessingOutputConfig": {"KmsKeyId": key, "Outputs": [output("end", "EndOfJob"), output("on", "Continuous")]},
    }

    def ended(name: str) -> Any:
        found = lab.sagemaker.describe_processing_job(ProcessingJobName=name)
        return found if found["ProcessingJobStatus"] in ("Completed", "Failed") else None

    lab.sagemaker.create_processing_job(ProcessingJobName="sealed", RoleArn=sealer, **request)
    assert eventually(lambda: ended("sealed"), within_s=60)["ProcessingJobStatus"] == "Completed"
    assert {head(lab, f"done/{name}/f")["SSEKMSKeyId"] for name in ("end", "on")} == {key}
    lab.sagemaker.create_processing_job(ProcessingJobName="denied", RoleArn=lab.role, **request)
    job = eventually(lambda: ended("denied"), within_s=60)
    assert job["ProcessingJobStatus"] == "Failed"
    assert "kms:GenerateDataKey" in job["FailureReason"]


# -- volumes ------------------------------------------------------------------------------------------------------------------


def test_a_volumes_key_must_be_one_that_the_caller_or_the_role_may_grant(lab: Lab, key: str) -> None:
    resources = {**ONE, "VolumeKmsKeyId": key}
    job = lab.run("volume", "true", ResourceConfig=resources)
    assert job["TrainingJobStatus"] == "Completed"
    assert f"it is not encrypted under {key}." in " ".join(lab.lines("volume"))
    trainer = [{"Effect": "Allow", "Action": ["sagemaker:*", "iam:PassRole"], "Resource": "*"}]
    user = lab.aws.user("Without", {"Version": "2012-10-17", "Statement": trainer}).client("sagemaker")
    code, message = refusal(user.create_training_job, **lab.request("no-grant", "true", ResourceConfig=resources))
    assert (code, "kms:CreateGrant" in message) == ("ValidationException", True)
    granting = [*NO_KMS, {"Effect": "Allow", "Action": "kms:CreateGrant", "Resource": "*"}]
    role = lab.aws.role("Granter", "sagemaker.amazonaws.com", {"Version": "2012-10-17", "Statement": granting})
    user.create_training_job(**lab.request("role-grants", "true", ResourceConfig=resources, RoleArn=role))
    assert lab.wait("role-grants")["TrainingJobStatus"] == "Completed"


def test_a_volumes_key_must_be_there_and_enabled(lab: Lab) -> None:
    kms = lab.aws.client("kms")
    off = kms.create_key()["KeyMetadata"]["KeyId"]
    kms.disable_key(KeyId=off)
    for name, words in ((off, "is disabled"), ("00000000-0000-0000-0000-000000000000", "does not exist")):
        resources = {**ONE, "VolumeKmsKeyId": name}
        code, message = refusal(lab.sagemaker.create_training_job, **lab.request("off", "true", ResourceConfig=resources))
        assert code == "ValidationException"
        assert words in message
        with pytest.raises(ClientError, match=words):
            lab.sagemaker.create_processing_job(
                ProcessingJobName="off",
                AppSpecification={"ImageUri": lab.request("x", "true")["AlgorithmSpecification"]["TrainingImage"], "ContainerEntrypoint": ["true"]},
                RoleArn=lab.role,
                ProcessingResources={"ClusterConfig": resources},
            )  # fmt: skip


def test_a_notebook_instance_keeps_a_grant_on_its_key_until_it_is_deleted(lab: Lab) -> None:
    kms = lab.aws.client("kms")
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    params = {"InstanceType": "ml.t3.medium", "RoleArn": lab.role, "KmsKeyId": key}

    def status(name: str) -> str:
        return str(lab.sagemaker.describe_notebook_instance(NotebookInstanceName=name)["NotebookInstanceStatus"])

    arn = lab.sagemaker.create_notebook_instance(NotebookInstanceName="book", **params)["NotebookInstanceArn"]
    assert refusal(lab.sagemaker.create_notebook_instance, NotebookInstanceName="book", **params)[0] == "ValidationException"
    (grant,) = kms.list_grants(KeyId=key)["Grants"]
    assert grant["GranteeServicePrincipal"] == "sagemaker.amazonaws.com"
    assert json.dumps(grant["Constraints"]) == json.dumps({"EncryptionContextEquals": {"aws:sagemaker:arn": arn}})
    eventually(lambda: status("book") in ("Failed", "InService"), within_s=60)
    if status("book") == "InService":
        lab.sagemaker.stop_notebook_instance(NotebookInstanceName="book")
        eventually(lambda: status("book") == "Stopped", within_s=60)
    kms.disable_key(KeyId=key)
    lab.sagemaker.start_notebook_instance(NotebookInstanceName="book")
    eventually(lambda: status("book") == "Failed")
    assert "is disabled" in lab.sagemaker.describe_notebook_instance(NotebookInstanceName="book")["FailureReason"]
    assert refusal(lab.sagemaker.create_notebook_instance, NotebookInstanceName="other", **params)[0] == "ValidationException"
    kms.enable_key(KeyId=key)
    lab.sagemaker.delete_notebook_instance(NotebookInstanceName="book")
    eventually(lambda: kms.list_grants(KeyId=key)["Grants"] == [])
