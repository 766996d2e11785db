"""`make demo`: the Titanic survival project, told by unmodified clients against a cloud that starts here and now.

boto3, the AWS CLI, pandas and curl are the users; nothing in this file knows how the cloud works inside.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import boto3
import pandas as pd
from botocore.exceptions import ClientError

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
sys.path.insert(0, str(HERE))

from story.packages import function_archive, layer_archive, source_archive  # noqa: E402

BUCKET = "titanic-data-demo"
TRAIN_IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3"
PASSENGER = [3, 22, 1, 0, 7.25, 1, 0, 1]
"""Mr. Owen Harris Braund: Pclass, Age, SibSp, Parch, Fare, Sex_male, Embarked_Q, Embarked_S."""

STEPS = 9
_numbers = itertools.count(1)
_begin = time.monotonic()


def step(title: str) -> None:
    print(f"\n[{next(_numbers)}/{STEPS}] {title}   ({time.monotonic() - _begin:.1f} s)", flush=True)


def say(text: str) -> None:
    print(f"      {text}", flush=True)


def run(*command: str, env: dict[str, str] | None = None, check: bool = True) -> str:
    """Run a program as a person would, showing the command."""
    say(f"$ {' '.join(command)}")
    done = subprocess.run(command, env=env or os.environ.copy(), capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise SystemExit(f"{done.stdout}{done.stderr}\nthe command above failed with exit status {done.returncode}")
    return (done.stdout + done.stderr).strip()


class Cloud:
    """A `pilvi up` of our own, ended when the story is."""

    def __init__(self, data_dir: Path, port: int) -> None:
        self.data_dir = data_dir
        self.process = subprocess.Popen(
            [str(BIN / "pilvi"), "up", "--data-dir", str(data_dir), "--port", str(port)], stdout=subprocess.PIPE, text=True
        )
        begin = time.monotonic()
        line = self.process.stdout.readline() if self.process.stdout else ""
        if not line.startswith("ready"):
            raise SystemExit("the cloud did not start; see the line above")
        say(f"{line.strip().split('  keys:')[0]}   (after {time.monotonic() - begin:.2f} s)")

    def __enter__(self) -> Cloud:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


def adopt_environment(data_dir: Path) -> None:
    """What `eval "$(pilvi env)"` does in a shell."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    for line in run(str(BIN / "pilvi"), "env", "--data-dir", str(data_dir)).splitlines():
        if line.startswith("export "):
            name, _, value = line.removeprefix("export ").partition("=")
            os.environ[name] = value.strip("'")
    os.environ |= {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull, "AWS_PAGER": ""}
    os.environ["PATH"] = f"{BIN}:{os.environ['PATH']}"


def upload() -> None:
    s3 = boto3.client("s3")
    try:
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "us-east-1"})
    except ClientError as refused:
        say(
            f"create_bucket with LocationConstraint us-east-1, as the lesson has it: {refused.response['Error']['Code']} (as on AWS)"
        )
    s3.create_bucket(Bucket=BUCKET)
    s3.upload_file(str(HERE / "data/titanic/train.csv"), BUCKET, "data/train.csv")
    say(run("aws", "s3", "ls", f"s3://{BUCKET}/data/"))


def look() -> None:
    table = pd.read_csv(f"s3://{BUCKET}/data/train.csv")
    say(f'pd.read_csv("s3://{BUCKET}/data/train.csv"): {len(table)} rows x {len(table.columns)} columns')
    for line in table.groupby("Sex")["Survived"].mean().map("{:.0%} survived".format).to_string().splitlines()[1:]:
        say(f"  {line}")


def role(name: str, service: str) -> str:
    iam = boto3.client("iam")
    trust = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}],
    }
    try:
        return str(iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"])
    except iam.exceptions.EntityAlreadyExistsException:
        return str(iam.get_role(RoleName=name)["Role"]["Arn"])


def allow(role_name: str, actions: list[str], resources: list[str]) -> None:
    document = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": actions, "Resource": resources}]}
    boto3.client("iam").put_role_policy(RoleName=role_name, PolicyName="titanic", PolicyDocument=json.dumps(document))


def train(role_arn: str) -> str:
    """Run the training job, its log as it comes; gives the model's key."""
    s3, sagemaker, logs = boto3.client("s3"), boto3.client("sagemaker"), boto3.client("logs")
    job = f"titanic-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"
    s3.put_object(Bucket=BUCKET, Key=f"{job}/source/sourcedir.tar.gz", Body=source_archive(HERE / "story/train.py"))
    sagemaker.create_training_job(
        TrainingJobName=job,
        RoleArn=role_arn,
        AlgorithmSpecification={
            "TrainingImage": TRAIN_IMAGE,
            "TrainingInputMode": "File",
            "MetricDefinitions": [
                {"Name": "train:accuracy", "Regex": r"train_accuracy=([0-9.]+);"},
                {"Name": "validation:accuracy", "Regex": r"^accuracy=([0-9.]+);"},
            ],
        },
        HyperParameters={
            "sagemaker_program": json.dumps("train.py"),
            "sagemaker_submit_directory": json.dumps(f"s3://{BUCKET}/{job}/source/sourcedir.tar.gz"),
            "sagemaker_container_log_level": "30",
            "max-iter": "500",
        },
        InputDataConfig=[
            {
                "ChannelName": "train",
                "DataSource": {
                    "S3DataSource": {
                        "S3DataType": "S3Prefix",
                        "S3Uri": f"s3://{BUCKET}/data/",
                        "S3DataDistributionType": "FullyReplicated",
                    }
                },
            }
        ],
        OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/models"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        StoppingCondition={"MaxRuntimeInSeconds": 600},
    )
    described = follow(sagemaker, logs, job)
    if described["TrainingJobStatus"] != "Completed":
        raise SystemExit(f"the training job ended {described['TrainingJobStatus']}: {described.get('FailureReason')}")
    for metric in described["FinalMetricDataList"]:
        say(f"metric {metric['MetricName']} = {metric['Value']:.4f}")
    uri = described["ModelArtifacts"]["S3ModelArtifacts"]
    say(f"model {uri}   (billable {described['BillableTimeInSeconds']} s)")
    return str(uri.removeprefix(f"s3://{BUCKET}/"))


def follow(sagemaker: Any, logs: Any, job: str) -> dict[str, Any]:
    """Print states and log lines as they come until the job has ended."""
    group, token, state, stream = "/aws/sagemaker/TrainingJobs", None, "", None
    while True:
        described: dict[str, Any] = sagemaker.describe_training_job(TrainingJobName=job)
        if described["SecondaryStatus"] != state:
            state = described["SecondaryStatus"]
            say(f"{job}: {state}")
        try:
            if stream is None:
                streams = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{job}/")["logStreams"]
                stream = streams[0]["logStreamName"] if streams else None
            if stream is not None:
                more = {"nextToken": token} if token else {}
                page = logs.get_log_events(logGroupName=group, logStreamName=stream, startFromHead=True, **more)
                token = page["nextForwardToken"]
                for event in page["events"]:
                    say(f"  | {event['message'][:110]}")
        except logs.exceptions.ResourceNotFoundException:
            pass
        if described["TrainingJobStatus"] in ("Completed", "Failed", "Stopped"):
            return described
        time.sleep(0.3)


def publish_layer(runtimes: Path) -> str:
    """scikit-learn as a layer, uploaded once."""
    client, s3 = boto3.client("lambda"), boto3.client("s3")
    known = client.list_layer_versions(LayerName="scikit-learn")["LayerVersions"]
    if known:
        say(f"layer {known[0]['LayerVersionArn']} is there already")
        return str(known[0]["LayerVersionArn"])
    target = Path(os.environ["PILVI_DEMO_DIR"]) / "scikit-learn-layer.zip"
    site = next(runtimes.glob("lib/python3*/site-packages"))
    size_mb = layer_archive(site, target).stat().st_size / 1e6
    say(f"packed {size_mb:.0f} MB: too large to send with the call, so it goes through S3, as on AWS")
    s3.upload_file(str(target), BUCKET, "layers/scikit-learn.zip")
    target.unlink()
    layer = client.publish_layer_version(
        LayerName="scikit-learn",
        Content={"S3Bucket": BUCKET, "S3Key": "layers/scikit-learn.zip"},
        CompatibleRuntimes=["python3.11"],
    )
    say(f"layer {layer['LayerVersionArn']}")
    return str(layer["LayerVersionArn"])


def deploy_function(role_arn: str, layer: str, model_key: str) -> str:
    client = boto3.client("lambda")
    code = function_archive(HERE / "story/lambda_file.py")
    settings: dict[str, Any] = {
        "Handler": "lambda_file.lambda_handler",
        "Timeout": 60,
        "MemorySize": 1024,
        "Layers": [layer],
        "Environment": {"Variables": {"BUCKET": BUCKET, "MODEL_KEY": model_key}},
    }
    try:
        client.create_function(
            FunctionName="predictTitanic", Runtime="python3.11", Role=role_arn, Code={"ZipFile": code}, **settings
        )
    except client.exceptions.ResourceConflictException:
        client.update_function_code(FunctionName="predictTitanic", ZipFile=code)
        client.get_waiter("function_updated_v2").wait(FunctionName="predictTitanic")
        client.update_function_configuration(FunctionName="predictTitanic", **settings)
    client.get_waiter("function_active_v2").wait(FunctionName="predictTitanic", WaiterConfig={"Delay": 1})
    client.get_waiter("function_updated_v2").wait(FunctionName="predictTitanic", WaiterConfig={"Delay": 1})
    return str(client.get_function_configuration(FunctionName="predictTitanic")["FunctionArn"])


def invoke() -> str:
    event = {"body": json.dumps({"features": PASSENGER})}
    answer = boto3.client("lambda").invoke(FunctionName="predictTitanic", Payload=json.dumps(event))
    payload = json.loads(answer["Payload"].read())
    if answer.get("FunctionError"):
        return f"{payload['errorType']}: {payload['errorMessage']}"
    return str(payload["body"])


def publish_api(function_arn: str) -> str:
    """The six API Gateway calls and the permission, by the AWS CLI; gives the API's id."""
    for api in json.loads(run("aws", "apigateway", "get-rest-apis"))["items"]:
        if api["name"] == "TitanicAPI":
            run("aws", "apigateway", "delete-rest-api", "--rest-api-id", api["id"])
    api = json.loads(run("aws", "apigateway", "create-rest-api", "--name", "TitanicAPI"))["id"]
    at = ["--rest-api-id", api]
    root = json.loads(run("aws", "apigateway", "get-resources", *at))["items"][0]["id"]
    made = run("aws", "apigateway", "create-resource", *at, "--parent-id", root, "--path-part", "predict")
    method = [*at, "--resource-id", json.loads(made)["id"], "--http-method", "POST"]
    run("aws", "apigateway", "put-method", *method, "--authorization-type", "NONE")
    uri = f"arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/{function_arn}/invocations"
    run("aws", "apigateway", "put-integration", *method, "--type", "AWS_PROXY", "--integration-http-method", "POST", "--uri", uri)
    run("aws", "apigateway", "create-deployment", *at, "--stage-name", "prod")
    account = function_arn.split(":")[4]
    source = f"arn:aws:execute-api:us-east-1:{account}:{api}/*/POST/predict"
    permission = ["--function-name", "predictTitanic", "--statement-id", f"api-{api}", "--action", "lambda:InvokeFunction"]
    run("aws", "lambda", "add-permission", *permission, "--principal", "apigateway.amazonaws.com", "--source-arn", source)
    return str(api)


def predict_by_curl(api: str) -> str:
    url = f"{os.environ['AWS_ENDPOINT_URL']}/_aws/execute-api/{api}/prod/predict"
    body = json.dumps({"features": PASSENGER})
    return run("curl", "-s", "-X", "POST", url, "-H", "Content-Type: application/json", "-d", body)


def runtime_folder(runtimes_dir: Path, name: str) -> Path:
    """Where an environment is installed; installs it when it is missing."""
    from pilvi.compute.environments import Environments

    found = Environments(runtimes_dir).find(name)
    if found is None:
        say(f"the runtime {name} is missing: pilvi runtimes install {name} (once)")
        subprocess.run([str(BIN / "pilvi"), "runtimes", "install", "--runtimes-dir", str(runtimes_dir), name], check=True)
        found = Environments(runtimes_dir).find(name)
    if found is None:
        raise SystemExit(f"the runtime {name} could not be installed; see above")
    return found.path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, default=Path(".pilvi/demo"))
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    arguments = parser.parse_args()
    data_dir = arguments.data_dir.absolute()
    os.environ["PILVI_DEMO_DIR"] = str(data_dir)

    print("The Titanic survival project, on your own cloud: unmodified AWS clients, real work, no account.")
    step("Bring the cloud up")
    runtimes_dir = Path(os.environ.get("PILVI_RUNTIMES_DIR") or Path(sys.prefix) / "pilvi-runtimes")
    sklearn = runtime_folder(runtimes_dir, "scikit-learn")
    runtime_folder(runtimes_dir, "lambda-python")
    with Cloud(data_dir, arguments.port):
        adopt_environment(data_dir)
        step("Who am I? (AWS CLI)")
        say(run("aws", "sts", "get-caller-identity", "--output", "text"))

        step("Create a bucket and upload train.csv (boto3)")
        upload()

        step("Read it with pandas")
        look()

        step("Train scikit-learn's LogisticRegression as a SageMaker job (script mode)")
        trainer = role("SageMakerTitanic", "sagemaker.amazonaws.com")
        objects, bucket = f"arn:aws:s3:::{BUCKET}/*", f"arn:aws:s3:::{BUCKET}"
        allow("SageMakerTitanic", ["s3:GetObject", "s3:PutObject", "s3:ListBucket"], [objects, bucket])
        model_key = train(trainer)

        step("Publish scikit-learn as a Lambda layer")
        layer = publish_layer(sklearn)

        step("A Lambda function loads the model under its own role")
        caller = role("LambdaTitanic", "lambda.amazonaws.com")
        allow("LambdaTitanic", ["logs:*"], ["*"])
        function_arn = deploy_function(caller, layer, model_key)
        say(f"without s3:GetObject: {invoke()}")
        allow("LambdaTitanic", ["logs:*", "s3:GetObject"], ["*"])
        say(f"with s3:GetObject:    {invoke()}")

        step("Put API Gateway in front (AWS CLI)")
        api = publish_api(function_arn)

        step("Ask it (curl): would Mr. Braund, 22, third class, have survived?")
        answer = predict_by_curl(api)
        say(answer)
        if json.loads(answer) not in ({"prediction": 0}, {"prediction": 1}):
            raise SystemExit("that is no prediction")

    relative = os.path.relpath(data_dir)
    print(f"""
Done in {time.monotonic() - _begin:.1f} s: the API answered {answer}

Everything is kept in {relative}. To go on:
  .venv/bin/pilvi up --data-dir {relative} --port 4566 &
  eval "$(.venv/bin/pilvi env --data-dir {relative})"
  .venv/bin/aws s3 ls s3://{BUCKET} --recursive
  .venv/bin/aws logs filter-log-events --log-group-name /aws/lambda/predictTitanic
  curl -X POST $AWS_ENDPOINT_URL/_aws/execute-api/{api}/prod/predict -H 'Content-Type: application/json' -d '{{"features": {PASSENGER}}}'
""")


if __name__ == "__main__":
    main()
