"""Who may do what, by the ARNs that AWS documents."""

from __future__ import annotations

import json
import time

import pytest
from botocore.exceptions import ClientError


@pytest.fixture
def user(aws):
    """Makes a client for a user with one policy statement."""

    def make(actions, resources):
        iam = aws.client("iam")
        iam.create_user(UserName="u")
        statement = {"Effect": "Allow", "Action": actions, "Resource": resources}
        iam.put_user_policy(
            UserName="u", PolicyName="p", PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        )
        key = iam.create_access_key(UserName="u")["AccessKey"]
        return aws.with_keys(key["AccessKeyId"], key["SecretAccessKey"]).client("logs")

    return make


@pytest.fixture
def arn(aws):
    return f"arn:aws:logs:{aws.region}:{aws.account}:log-group:g"


def events():
    return [{"timestamp": int(time.time() * 1000), "message": "m"}]


def denied(call, **params):
    with pytest.raises(ClientError) as raised:
        call(**params)
    assert raised.value.response["Error"]["Code"] == "AccessDeniedException"
    return raised.value.response["Error"]["Message"]


def test_a_group_arn_with_a_star_grants_all_of_it(user, arn):
    logs = user("logs:*", [f"{arn}:*"])
    logs.create_log_group(logGroupName="g")
    logs.create_log_stream(logGroupName="g", logStreamName="s")
    logs.put_log_events(logGroupName="g", logStreamName="s", logEvents=events())
    assert len(logs.filter_log_events(logGroupName="g")["events"]) == 1
    message = denied(logs.create_log_group, logGroupName="other")
    assert "is not authorized to perform: logs:CreateLogGroup on resource: " in message
    assert ":log-group:other:log-stream:" in message


def test_a_bare_group_arn_grants_no_events(aws, user, arn):
    aws.client("logs").create_log_group(logGroupName="g", tags={"a": "b"})
    logs = user("logs:*", [arn])
    denied(logs.create_log_stream, logGroupName="g", logStreamName="s")
    denied(logs.filter_log_events, logGroupName="g")
    assert logs.list_tags_for_resource(resourceArn=arn)["tags"] == {"a": "b"}


def test_a_stream_arn_grants_that_stream_alone(aws, user, arn):
    root = aws.client("logs")
    root.create_log_group(logGroupName="g")
    for name in ("mine", "other"):
        root.create_log_stream(logGroupName="g", logStreamName=name)
    logs = user(["logs:PutLogEvents", "logs:GetLogEvents"], [f"{arn}:log-stream:mine"])
    logs.put_log_events(logGroupName="g", logStreamName="mine", logEvents=events())
    assert len(logs.get_log_events(logGroupName="g", logStreamName="mine")["events"]) == 1
    assert ":log-stream:other" in denied(logs.put_log_events, logGroupName="g", logStreamName="other", logEvents=events())
    denied(logs.filter_log_events, logGroupName="g")


def test_tags_at_creation_need_their_own_permission(user, arn):
    logs = user("logs:CreateLogGroup", ["*"])
    denied(logs.create_log_group, logGroupName="g", tags={"a": "b"})
    logs.create_log_group(logGroupName="g")
