"""The Titanic project by the AWS CLI: each command as a person types it, the faulty ones with AWS's answers."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pilvi.compute.environments import Environments
from pilvi.core.config import Config
from pilvi.testing.server import Account

HANDLER = """
import json

def lambda_handler(event, context):
    features = json.loads(event["body"])["features"]
    return {"statusCode": 200, "body": json.dumps({"prediction": int(sum(features) > 100)})}
"""
LESSON_HANDLER = """
import json

def lambda_handler(event, context):
    return {"statusCode": 200, "body": json.dumps({"prediction": event["features"]})}
"""

Run = Callable[..., Any]


@pytest.fixture
def aws_cli(aws: Account, tmp_path: Path) -> Run:
    """Runs `aws ...` in an empty folder; gives what it printed, as JSON where it is."""

    def run(*command: str) -> Any:
        done = aws.cli(*command, cwd=tmp_path)
        assert done.returncode == 0, f"aws {' '.join(command)}\n{done.stderr}"
        return json.loads(done.stdout) if done.stdout.startswith(("{", "[")) else done.stdout

    return run


def test_configured_profile_finds_the_account(aws: Account, tmp_path: Path) -> None:
    config, credentials = tmp_path / "config", tmp_path / "credentials"
    environ = aws.environ() | {"AWS_CONFIG_FILE": str(config), "AWS_SHARED_CREDENTIALS_FILE": str(credentials)}
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        del environ[name]
    aws_program = aws.cli("--version").args[0]
    answers = f"{aws.access_key_id}\n{aws.secret}\nus-west-2\njson\n"
    subprocess.run([aws_program, "configure"], input=answers, env=environ, text=True, capture_output=True, check=True)
    done = subprocess.run([aws_program, "sts", "get-caller-identity"], env=environ, text=True, capture_output=True, check=True)
    assert json.loads(done.stdout)["Account"] == aws.account


def test_bucket_commands_right_and_wrong(aws: Account, aws_cli: Run) -> None:
    name = f"titanic-data-cli-{aws.account}"
    misspelt = aws.cli("s3api", "creat-bucket", "--bucket", name)
    assert misspelt.returncode in (2, 252)
    assert "maybe you meant" in misspelt.stderr.lower()
    nowhere = aws.cli("s3api", "create-bucket", "--bucket", name, "--region", "eu-east-1")
    assert nowhere.returncode != 0
    assert "AuthorizationHeaderMalformed" in nowhere.stderr
    constrained = aws.cli(
        "s3api", "create-bucket", "--bucket", name, "--create-bucket-configuration", "LocationConstraint=us-east-1"
    )
    assert "InvalidLocationConstraint" in constrained.stderr
    assert "The specified location-constraint is not valid" in constrained.stderr
    assert aws.client("s3").list_buckets()["Buckets"] == []
    assert aws_cli("s3api", "create-bucket", "--bucket", name)["Location"] == f"/{name}"
    europe = f"mdaclassdemo-{aws.account}"
    aws_cli(
        "s3api", "create-bucket", "--bucket", europe, "--region", "eu-central-1",
        "--create-bucket-configuration", "LocationConstraint=eu-central-1",
    )  # fmt: skip
    assert aws_cli("s3api", "get-bucket-location", "--bucket", europe)["LocationConstraint"] == "eu-central-1"


def test_upload_list_and_fetch_back(aws: Account, aws_cli: Run, titanic: Path, tmp_path: Path) -> None:
    name = f"titanic-cli-{aws.account}"
    (tmp_path / "model.pkl").write_bytes(bytes(range(256)) * 40_000)
    aws_cli("s3", "mb", f"s3://{name}")
    aws_cli("s3", "cp", str(titanic / "train.csv"), f"s3://{name}/train.csv")
    aws_cli("s3", "cp", "model.pkl", f"s3://{name}/model.pkl")
    listing = aws_cli("s3", "ls", f"s3://{name}")
    for file in (titanic / "train.csv", tmp_path / "model.pkl"):
        assert f"{file.stat().st_size} {file.name}" in listing
    aws_cli("s3", "cp", f"s3://{name}/model.pkl", "back.pkl")
    assert (tmp_path / "back.pkl").read_bytes() == (tmp_path / "model.pkl").read_bytes()
    aws_cli("s3", "sync", f"s3://{name}", "copy")
    assert (tmp_path / "copy" / "train.csv").read_bytes() == (titanic / "train.csv").read_bytes()
    aws_cli("s3", "rm", f"s3://{name}", "--recursive")
    aws_cli("s3", "rb", f"s3://{name}")


@pytest.mark.skipif(
    Environments(Config.runtimes_dir_default()).find("lambda-python") is None, reason="needs: pilvi runtimes install lambda-python"
)
def test_function_and_api(aws: Account, aws_cli: Run, tmp_path: Path) -> None:
    role = aws.role("LambdaExecutionRole", "lambda.amazonaws.com")
    (tmp_path / "lambda_file.py").write_text(LESSON_HANDLER)
    subprocess.run(["python3", "-m", "zipfile", "-c", "function.zip", "lambda_file.py"], cwd=tmp_path, check=True)
    function = aws_cli(
        "lambda", "create-function", "--function-name", "predictTitanic", "--runtime", "python3.9",
        "--handler", "lambda_file.lambda_handler", "--role", role, "--zip-file", "fileb://function.zip",
    )  # fmt: skip
    aws_cli("lambda", "wait", "function-active-v2", "--function-name", "predictTitanic")

    api = ["--rest-api-id", aws_cli("apigateway", "create-rest-api", "--name", "TitanicAPI")["id"]]
    root = aws_cli("apigateway", "get-resources", *api)["items"][0]["id"]
    resource = aws_cli("apigateway", "create-resource", *api, "--parent-id", root, "--path-part", "predict")["id"]
    method = [*api, "--resource-id", resource, "--http-method", "POST"]
    aws_cli("apigateway", "put-method", *method, "--authorization-type", "NONE")
    uri = f"arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/{function['FunctionArn']}/invocations"
    aws_cli("apigateway", "put-integration", *method, "--type", "AWS_PROXY", "--integration-http-method", "POST", "--uri", uri)
    aws_cli("apigateway", "create-deployment", *api, "--stage-name", "prod")

    def curl() -> tuple[int, Any]:
        url = f"{aws.endpoint}/_aws/execute-api/{api[1]}/prod/predict"
        body = '{"features": [3, 22, 1, 0, 7.25, 1, 0, 1]}'
        command = ["curl", "-s", "-w", "\n%{http_code}", "-X", "POST", url, "-H", "Content-Type: application/json", "-d", body]
        text, _, code = subprocess.run(command, capture_output=True, text=True, check=True).stdout.rpartition("\n")
        return int(code), json.loads(text)

    assert curl() == (500, {"message": "Internal server error"})
    aws_cli(
        "lambda", "add-permission", "--function-name", "predictTitanic", "--statement-id", "api",
        "--action", "lambda:InvokeFunction", "--principal", "apigateway.amazonaws.com",
    )  # fmt: skip
    assert curl() == (502, {"message": "Internal server error"})

    (tmp_path / "lambda_file.py").write_text(HANDLER)
    subprocess.run(["python3", "-m", "zipfile", "-c", "function.zip", "lambda_file.py"], cwd=tmp_path, check=True)
    aws_cli("lambda", "update-function-code", "--function-name", "predictTitanic", "--zip-file", "fileb://function.zip")
    aws_cli("lambda", "wait", "function-updated-v2", "--function-name", "predictTitanic")
    assert curl() == (200, {"prediction": 0})
    event = json.dumps({"body": json.dumps({"features": [200]})})
    aws_cli("lambda", "invoke", "--function-name", "predictTitanic", "--payload", event, "out.json")
    assert json.loads(json.loads((tmp_path / "out.json").read_text())["body"]) == {"prediction": 1}
