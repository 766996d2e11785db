"""The Titanic project by boto3: upload, train, serve, with the lesson's slips and what AWS answers to them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from botocore.exceptions import ClientError, ParamValidationError

from pilvi.compute.environments import Environments
from pilvi.core.config import Config
from pilvi.testing.server import Account

DEMO = Path(__file__).parent.parent.parent / "demo"
sys.path.insert(0, str(DEMO))

from story.packages import function_archive, layer_archive, source_archive  # noqa: E402

IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3"
PASSENGER = [3, 22, 1, 0, 7.25, 1, 0, 1]
ENVIRONMENT = Environments(Config.runtimes_dir_default()).find("scikit-learn")

pytestmark = pytest.mark.skipif(
    ENVIRONMENT is None or Environments(Config.runtimes_dir_default()).find("lambda-python") is None,
    reason="needs: pilvi runtimes install scikit-learn lambda-python",
)


def code_of(refused: pytest.ExceptionInfo[ClientError]) -> str:
    return str(refused.value.response["Error"]["Code"])


@pytest.fixture(scope="module")
def layer_zip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """scikit-learn as a Lambda layer."""
    assert ENVIRONMENT is not None
    site = next(ENVIRONMENT.path.glob("lib/python3*/site-packages"))
    return layer_archive(site, tmp_path_factory.mktemp("layer") / "scikit-learn.zip")


def train(aws: Account, bucket: str) -> dict[str, Any]:
    role = aws.role(
        "SageMakerTitanic",
        "sagemaker.amazonaws.com",
        {
            "Version": "2012-10-17",
            "Statement": [
                {"Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject"], "Resource": f"arn:aws:s3:::{bucket}/*"},
                {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": f"arn:aws:s3:::{bucket}"},
            ],
        },
    )
    aws.client("s3").put_object(Bucket=bucket, Key="source/sourcedir.tar.gz", Body=source_archive(DEMO / "story/train.py"))
    sagemaker = aws.client("sagemaker")
    sagemaker.create_training_job(
        TrainingJobName="titanic",
        RoleArn=role,
        AlgorithmSpecification={
            "TrainingImage": IMAGE,
            "TrainingInputMode": "File",
            "MetricDefinitions": [{"Name": "validation:accuracy", "Regex": r"^accuracy=([0-9.]+);"}],
        },
        HyperParameters={
            "sagemaker_program": json.dumps("train.py"),
            "sagemaker_submit_directory": json.dumps(f"s3://{bucket}/source/sourcedir.tar.gz"),
            "max-iter": "500",
        },
        InputDataConfig=[
            {"ChannelName": "train", "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{bucket}/data/"}}}
        ],
        OutputDataConfig={"S3OutputPath": f"s3://{bucket}/models"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        StoppingCondition={"MaxRuntimeInSeconds": 600},
    )
    waiter = sagemaker.get_waiter("training_job_completed_or_stopped")
    waiter.wait(TrainingJobName="titanic", WaiterConfig={"Delay": 1, "MaxAttempts": 120})
    return dict(sagemaker.describe_training_job(TrainingJobName="titanic"))


def check_training(aws: Account, job: dict[str, Any]) -> None:
    assert job["TrainingJobStatus"] == "Completed"
    states = [transition["Status"] for transition in job["SecondaryStatusTransitions"]]
    assert states == sorted(set(states), key=states.index)
    assert states[0] == "Starting"
    assert states[-3:] == ["Training", "Uploading", "Completed"]
    accuracy = {metric["MetricName"]: metric["Value"] for metric in job["FinalMetricDataList"]}["validation:accuracy"]
    assert 0.75 < accuracy < 0.9
    logs = aws.client("logs")
    events = logs.filter_log_events(logGroupName="/aws/sagemaker/TrainingJobs", logStreamNamePrefix="titanic/")["events"]
    assert any("read 891 passengers" in event["message"] for event in events)


def publish_api(aws: Account, function_arn: str) -> tuple[str, str]:
    """(REST API id, URL of POST /predict)."""
    apigateway = aws.client("apigateway")
    api = apigateway.create_rest_api(name="TitanicAPI")["id"]
    root = apigateway.get_resources(restApiId=api)["items"][0]["id"]
    resource = apigateway.create_resource(restApiId=api, parentId=root, pathPart="predict")["id"]
    with pytest.raises(ParamValidationError):
        apigateway.create_deployment(restApiId=api, resourceId=resource, stageName="prod")
    apigateway.put_method(restApiId=api, resourceId=resource, httpMethod="POST", authorizationType="NONE")
    apigateway.put_integration(
        restApiId=api,
        resourceId=resource,
        httpMethod="POST",
        type="AWS_PROXY",
        integrationHttpMethod="POST",
        uri=f"arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/{function_arn}/invocations",
    )
    apigateway.create_deployment(restApiId=api, stageName="prod")
    return api, f"{aws.endpoint}/_aws/execute-api/{api}/prod/predict"


def test_titanic_by_boto3(aws: Account, titanic: Path, layer_zip: Path, new_account: Callable[[], Account]) -> None:
    s3, client = aws.client("s3"), aws.client("lambda")
    bucket = f"titanic-data-bucket-sdk-{aws.account}"

    with pytest.raises(ClientError) as refused:
        s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "us-east-1"})
    assert code_of(refused) == "InvalidLocationConstraint"
    s3.create_bucket(Bucket=bucket)
    s3.upload_file(str(titanic / "train.csv"), bucket, "data/train.csv")
    assert s3.head_object(Bucket=bucket, Key="data/train.csv")["ContentLength"] == (titanic / "train.csv").stat().st_size

    job = train(aws, bucket)
    check_training(aws, job)
    model_key = job["ModelArtifacts"]["S3ModelArtifacts"].removeprefix(f"s3://{bucket}/")
    assert model_key == "models/titanic/output/model.tar.gz"
    assert s3.head_object(Bucket=bucket, Key=model_key)["ContentLength"] > 0

    s3.upload_file(str(layer_zip), bucket, "layer.zip")
    layer = client.publish_layer_version(LayerName="scikit-learn", Content={"S3Bucket": bucket, "S3Key": "layer.zip"})

    role = aws.role("LambdaTitanic", "lambda.amazonaws.com")
    code = {"ZipFile": function_archive(DEMO / "story/lambda_file.py")}
    with pytest.raises(ClientError) as refused:
        client.create_function(FunctionName="PredictTitanic", Runtime="python3.9", Role=role, Code=code, Timeout=300)
    assert code_of(refused) == "InvalidParameterValueException"
    function = client.create_function(
        FunctionName="PredictTitanic",
        Runtime="python3.9",
        Role=role,
        Code=code,
        Handler="lambda_file.lambda_handler",
        Timeout=300,
        MemorySize=1024,
        Layers=[layer["LayerVersionArn"]],
        Environment={"Variables": {"BUCKET": bucket, "MODEL_KEY": model_key}},
    )
    client.get_waiter("function_active_v2").wait(FunctionName="PredictTitanic", WaiterConfig={"Delay": 1})

    def invoke() -> dict[str, Any]:
        event = {"body": json.dumps({"features": PASSENGER})}
        answer = client.invoke(FunctionName="PredictTitanic", Payload=json.dumps(event))
        return {"error": answer.get("FunctionError"), **json.loads(answer["Payload"].read())}

    iam = aws.client("iam")
    bare = f'{{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::{bucket}",}}'
    with pytest.raises(ClientError) as refused:
        iam.put_role_policy(RoleName="LambdaTitanic", PolicyName="read", PolicyDocument=bare)
    assert code_of(refused) == "MalformedPolicyDocument"
    assert invoke()["error"] == "Unhandled"
    for resource, works in ((f"arn:aws:s3:::{bucket}", False), (f"arn:aws:s3:::{bucket}/*", True)):
        policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": resource}]}
        iam.put_role_policy(RoleName="LambdaTitanic", PolicyName="read", PolicyDocument=json.dumps(policy))
        decision = iam.simulate_principal_policy(
            PolicySourceArn=role, ActionNames=["s3:GetObject"], ResourceArns=[f"arn:aws:s3:::{bucket}/{model_key}"]
        )["EvaluationResults"][0]["EvalDecision"]
        assert (decision == "allowed") is works
        answer = invoke()
        if works:
            assert json.loads(answer["body"]) == {"prediction": 0}
        else:
            assert "AccessDenied" in answer["errorMessage"]
            assert "s3:GetObject" in answer["errorMessage"]

    api, url = publish_api(aws, function["FunctionArn"])
    assert requests.post(url, json={"features": PASSENGER}, timeout=60).status_code == 500
    client.add_permission(
        FunctionName="PredictTitanic",
        StatementId="api",
        Action="lambda:InvokeFunction",
        Principal="apigateway.amazonaws.com",
        SourceArn=f"arn:aws:execute-api:us-east-1:{aws.account}:{api}/*/POST/predict",
    )
    answered = requests.post(url, json={"features": PASSENGER}, timeout=60)
    assert (answered.status_code, answered.json()) == (200, {"prediction": 0})
    wrong = requests.post(url, json={"features": [*PASSENGER, 0]}, timeout=60)
    assert (wrong.status_code, wrong.json()) == (502, {"message": "Internal server error"})
    stranger = new_account()
    with pytest.raises(ClientError) as refused:
        stranger.client("s3").get_object(Bucket=bucket, Key=model_key)
    assert code_of(refused) == "AccessDenied"
