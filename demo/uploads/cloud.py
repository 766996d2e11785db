"""What both stories do again and again, by boto3 alone: functions, their roles, who starts them, and waiting."""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
BASIC = {"Effect": "Allow", "Action": ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"], "Resource": "*"}


class Cloud:
    """One account. client: makes boto3's clients; waits: lets seconds pass (a test moves the clock instead)."""

    def __init__(self, client: Callable[[str], Any], waits: Callable[[float], None] = time.sleep) -> None:
        self.client = client
        self.waits = waits
        self.account: str = client("sts").get_caller_identity()["Account"]

    def role(self, name: str, *statements: Mapping[str, Any]) -> str:
        """A role that functions may take."""
        iam = self.client("iam")
        trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
        arn: str = iam.create_role(RoleName=name, AssumeRolePolicyDocument=policy(trust))["Role"]["Arn"]
        iam.put_role_policy(RoleName=name, PolicyName="does", PolicyDocument=policy(BASIC, *statements))
        return arn

    def function(self, name: str, role: str, handler: str, variables: Mapping[str, str] | None = None, **settings: Any) -> str:
        """A function made of one file of this folder."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("app.py", (HERE / handler).read_text())
        arn: str = self.client("lambda").create_function(
            FunctionName=name,
            Runtime="python3.11",
            Handler="app.lambda_handler",
            Role=role,
            Code={"ZipFile": buffer.getvalue()},
            Environment={"Variables": dict(variables or {})},
            **{"Timeout": 30, "MemorySize": 256, **settings},
        )["FunctionArn"]
        return arn

    def starts(self, bucket: str, *functions: tuple[str, str, str]) -> None:
        """Let uploads start functions: (function ARN, prefix, suffix) of their keys."""
        for arn, _, _ in functions:
            self.client("lambda").add_permission(
                FunctionName=arn,
                StatementId=f"s3-{bucket}",
                Action="lambda:InvokeFunction",
                Principal="s3.amazonaws.com",
                SourceArn=f"arn:aws:s3:::{bucket}",
                SourceAccount=self.account,
            )
        told = [
            {
                "LambdaFunctionArn": arn,
                "Events": ["s3:ObjectCreated:*"],
                "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": prefix}, {"Name": "suffix", "Value": suffix}]}},
            }
            for arn, prefix, suffix in functions
        ]
        self.client("s3").put_bucket_notification_configuration(
            Bucket=bucket, NotificationConfiguration={"LambdaFunctionConfigurations": told}
        )

    def keys(self, bucket: str, prefix: str = "") -> list[str]:
        found = self.client("s3").list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
        return [one["Key"] for one in found]

    def lines(self, function: str, pattern: str = "") -> list[str]:
        """What the function's log says."""
        logs = self.client("logs")
        try:
            found = logs.filter_log_events(logGroupName=f"/aws/lambda/{function}", filterPattern=pattern)["events"]
        except logs.exceptions.ResourceNotFoundException:
            return []
        return [event["message"] for event in found]

    def metric(self, function: str, name: str, within_s: float = 180.0) -> float:
        """The sum of a function's metric, once CloudWatch has it: it hears of functions every minute."""
        cloudwatch = self.client("cloudwatch")
        for _ in range(int(within_s // 20)):
            now = cloudwatch.get_metric_statistics(
                Namespace="AWS/Lambda",
                MetricName=name,
                Dimensions=[{"Name": "FunctionName", "Value": function}],
                StartTime="2020-01-01T00:00:00Z",
                EndTime="2037-01-01T00:00:00Z",
                Period=86_400 * 30,
                Statistics=["Sum"],
            )["Datapoints"]
            if total := sum(point["Sum"] for point in now):
                return float(total)
            self.waits(20.0)
        return 0.0


def policy(*statements: Mapping[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def on_objects(bucket: str, *actions: str) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": [f"s3:{action}" for action in actions], "Resource": f"arn:aws:s3:::{bucket}/*"}


def eventually(found: Callable[[], Any], within_s: float = 60.0) -> Any:
    """Ask until the answer is true."""
    ends = time.monotonic() + within_s
    while not (answer := found()):
        if time.monotonic() > ends:
            raise SystemExit(f"still {answer!r} after {within_s:.0f} s")
        time.sleep(0.1)
    return answer


def say(*words: object) -> None:
    print(*words, flush=True)


__all__: Sequence[str] = ("Cloud", "eventually", "on_objects", "policy", "say")
