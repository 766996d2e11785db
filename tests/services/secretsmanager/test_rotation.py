"""Rotation by a function, now and by the clock; a client that reads again keeps working."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pilvi.core.errors import Invalid
from pilvi.services.secretsmanager.expression import next_time
from pilvi.services.secretsmanager.rotation import _begun
from pilvi.testing.server import Account, TestServer, eventually

Earn = Callable[..., tuple[str, str]]
Days = Callable[[float], None]

# A database is another secret here: its value is the password that it takes.
FUNCTION = """
import json, os, boto3

def handler(event, context):
    sm = boto3.client("secretsmanager")
    arn, token, step = event["SecretId"], event["ClientRequestToken"], event["Step"]
    if step == "createSecret":
        password = sm.get_random_password(ExcludePunctuation=True)["RandomPassword"]
        try:
            sm.get_secret_value(SecretId=arn, VersionId=token, VersionStage="AWSPENDING")
        except sm.exceptions.ResourceNotFoundException:
            sm.put_secret_value(SecretId=arn, ClientRequestToken=token, SecretString=password, VersionStages=["AWSPENDING"])
    elif step == "setSecret":
        if os.environ.get("BROKEN"):
            raise RuntimeError("the database is away")
        pending = sm.get_secret_value(SecretId=arn, VersionId=token, VersionStage="AWSPENDING")["SecretString"]
        sm.put_secret_value(SecretId="database", SecretString=pending)
    elif step == "testSecret":
        pending = sm.get_secret_value(SecretId=arn, VersionId=token, VersionStage="AWSPENDING")["SecretString"]
        assert sm.get_secret_value(SecretId="database")["SecretString"] == pending
    else:
        stages = sm.describe_secret(SecretId=arn)["VersionIdsToStages"]
        current = next(version for version, labels in stages.items() if "AWSCURRENT" in labels)
        if current != token:
            sm.update_secret_version_stage(
                SecretId=arn, VersionStage="AWSCURRENT", MoveToVersionId=token, RemoveFromVersionId=current
            )
"""


def function_of(account: Account, *, lets_in: bool = True, **environment: str) -> str:
    """The rotation function; gives its ARN."""
    allow = {"Effect": "Allow", "Action": "secretsmanager:*", "Resource": "*"}
    role = account.role("rotator", "lambda.amazonaws.com", {"Version": "2012-10-17", "Statement": [allow]})
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("index.py", FUNCTION)
    client = account.client("lambda")
    made = client.create_function(
        FunctionName="rotate",
        Runtime="python3.11",
        Handler="index.handler",
        Role=role,
        Timeout=60,
        Code={"ZipFile": buffer.getvalue()},
        Environment={"Variables": environment},
    )
    if lets_in:
        client.add_permission(
            FunctionName="rotate", StatementId="s", Action="lambda:InvokeFunction", Principal="secretsmanager.amazonaws.com"
        )
    return str(made["FunctionArn"])


def rotated(sm: Any, after: Any = None) -> bool:
    seen = sm.describe_secret(SecretId="app")
    return seen.get("LastRotatedDate") not in (None, after)


def test_a_password_changes_and_a_client_that_reads_again_keeps_working(later_aws: Account, days_pass: Days) -> None:
    sm = later_aws.client("secretsmanager")
    sm.create_secret(Name="database", SecretString="first")
    old = sm.create_secret(Name="app", SecretString="first")["VersionId"]
    sm.replicate_secret_to_regions(SecretId="app", AddReplicaRegions=[{"Region": "eu-west-1"}])
    far = later_aws.client("secretsmanager", region="eu-west-1")
    answer = sm.rotate_secret(
        SecretId="app", RotationLambdaARN=function_of(later_aws), RotationRules={"AutomaticallyAfterDays": 30}
    )
    eventually(lambda: rotated(sm))
    seen = sm.describe_secret(SecretId="app")
    assert (seen["RotationEnabled"], seen["RotationRules"]) == (True, {"AutomaticallyAfterDays": 30})
    assert seen["VersionIdsToStages"] == {old: ["AWSPREVIOUS"], answer["VersionId"]: ["AWSCURRENT"]}
    assert timedelta(days=29) < seen["NextRotationDate"] - seen["LastRotatedDate"] <= timedelta(days=30)
    password = sm.get_secret_value(SecretId="app")["SecretString"]
    assert password != "first"
    assert sm.get_secret_value(SecretId="database")["SecretString"] == password
    # The replica follows, under the same suffix.
    assert far.get_secret_value(SecretId="app")["SecretString"] == password
    assert far.describe_secret(SecretId="app")["ARN"][-7:] == seen["ARN"][-7:]
    days_pass(31)
    again = sm.describe_secret(SecretId="app")
    assert again["LastRotatedDate"] > seen["LastRotatedDate"]
    assert (
        sm.get_secret_value(SecretId="app")["SecretString"] == sm.get_secret_value(SecretId="database")["SecretString"] != password
    )
    sm.cancel_rotate_secret(SecretId="app")
    days_pass(31)
    assert sm.describe_secret(SecretId="app")["LastRotatedDate"] == again["LastRotatedDate"]
    assert sm.describe_secret(SecretId="app")["RotationEnabled"] is False


def test_a_rotation_that_fails_leaves_the_secret_as_it_was(later_aws: Account, days_pass: Days, error_of: Earn) -> None:
    sm = later_aws.client("secretsmanager")
    sm.create_secret(Name="database", SecretString="first")
    sm.create_secret(Name="app", SecretString="first")
    function = function_of(later_aws, BROKEN="yes")
    token = sm.rotate_secret(SecretId="app", RotationLambdaARN=function)["VersionId"]

    def has_pending_value() -> bool:
        versions = sm.list_secret_version_ids(SecretId="app")["Versions"]
        return any(entry["VersionId"] == token and "KmsKeyIds" in entry for entry in versions)

    eventually(has_pending_value)
    assert sm.get_secret_value(SecretId="app")["SecretString"] == "first"
    code, message = error_of(sm.rotate_secret, SecretId="app")
    assert (code, message) == (
        "InvalidRequestException",
        "A previous rotation isn't complete. That rotation will be reattempted.",
    )
    later_aws.client("lambda").update_function_configuration(FunctionName="rotate", Environment={"Variables": {}})
    eventually(
        lambda: later_aws.client("lambda").get_function_configuration(FunctionName="rotate")["LastUpdateStatus"] == "Successful"
    )
    eventually(lambda: _after_an_hour(days_pass, sm))
    assert sm.get_secret_value(SecretId="app")["VersionId"] == token


def _after_an_hour(days_pass: Days, sm: Any) -> bool:
    days_pass(1 / 24)
    return rotated(sm)


def test_a_rotation_that_a_dead_server_left_goes_on(tmp_path: Path) -> None:
    account = "640000000001"
    with TestServer(tmp_path) as server:
        sm = server.account(account).client("secretsmanager")
        sm.create_secret(Name="database", SecretString="first")
        arn = sm.create_secret(Name="app", SecretString="first")["ARN"]
        function = function_of(server.account(account))
        rows = server.cloud.rows(account, "us-east-1", "secretsmanager", "Secret")
        begun = {"RotationEnabled": True, "RotationLambdaARN": function}
        rows.update("app", lambda secret: _begun(secret | begun, "t" * 32, server.cloud.clock.now()))
    with TestServer(tmp_path) as server:
        sm = server.account(account).client("secretsmanager")
        eventually(lambda: rotated(sm))
        assert sm.get_secret_value(SecretId=arn)["VersionId"] == "t" * 32


def test_rotate_secret_refuses(aws: Account, error_of: Earn, server: TestServer) -> None:
    sm = aws.client("secretsmanager")
    sm.create_secret(Name="app", SecretString="x")
    code, message = error_of(sm.rotate_secret, SecretId="app")
    assert (code, message) == ("InvalidRequestException", "No Lambda rotation function ARN is associated with this secret.")
    function = function_of(aws, lets_in=False)
    code, message = error_of(sm.rotate_secret, SecretId="app", RotationLambdaARN=function)
    assert code == "AccessDeniedException"
    assert "cannot invoke the specified Lambda function" in message
    both = {"AutomaticallyAfterDays": 1, "ScheduleExpression": "rate(1 day)"}
    for rules in (both, {"ScheduleExpression": "rate(1 hour)"}, {"ScheduleExpression": "sometimes"}):
        assert error_of(sm.rotate_secret, SecretId="app", RotationLambdaARN=function, RotationRules=rules)[0] == (
            "InvalidParameterException"
        )
    assert "RotationEnabled" not in sm.describe_secret(SecretId="app")


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("rate(10 days)", datetime(2026, 1, 11, 10, 30, tzinfo=UTC)),
        ("rate(4 hours)", datetime(2026, 1, 1, 14, 30, tzinfo=UTC)),
        ("cron(0 16 * * ? *)", datetime(2026, 1, 1, 16, tzinfo=UTC)),
        ("cron(0 8 1 * ? *)", datetime(2026, 2, 1, 8, tzinfo=UTC)),
        ("cron(0 0 L * ? *)", datetime(2026, 1, 31, tzinfo=UTC)),
        ("cron(0 8/8 ? * MON *)", datetime(2026, 1, 5, 8, tzinfo=UTC)),
        ("cron(0 10 ? 2/3 MON#1 *)", datetime(2026, 2, 2, 10, tzinfo=UTC)),
        ("cron(0 10 ? * FRIL *)", datetime(2026, 1, 30, 10, tzinfo=UTC)),
        ("cron(0 12 1,15 JAN-MAR ? 2026)", datetime(2026, 1, 1, 12, tzinfo=UTC)),
    ],
)
def test_schedule_expressions(expression: str, expected: datetime) -> None:
    assert next_time({"ScheduleExpression": expression}, datetime(2026, 1, 1, 10, 30, tzinfo=UTC)) == expected


@pytest.mark.parametrize(
    "expression", ["", "rate(1000 days)", "cron(5 * * * ? *)", "cron(0 * * * * *)", "cron(0 25 * * ? *)", "cron(0 x * * ? *)"]
)
def test_schedule_expressions_that_cannot_be(expression: str) -> None:
    with pytest.raises(Invalid):
        next_time({"ScheduleExpression": expression}, datetime(2026, 1, 1, tzinfo=UTC))


def test_whoever_chooses_a_function_may_invoke_it(aws: Account, error_of: Earn) -> None:
    function = function_of(aws)
    aws.client("secretsmanager").create_secret(Name="s", SecretString="1")
    allow = {"Effect": "Allow", "Action": "secretsmanager:*", "Resource": "*"}
    user = aws.user("secretary", {"Version": "2012-10-17", "Statement": [allow]}).client("secretsmanager")
    request = {"SecretId": "s", "RotateImmediately": False, "RotationRules": {"AutomaticallyAfterDays": 9}}
    code, message = error_of(user.rotate_secret, RotationLambdaARN=function, **request)
    assert (code, "lambda:InvokeFunction" in message) == ("AccessDeniedException", True)
    aws.client("secretsmanager").rotate_secret(RotationLambdaARN=function, **request)
    user.rotate_secret(**request)
