"""Log streams."""

from __future__ import annotations

import time

import pytest
from botocore.exceptions import ClientError


@pytest.fixture
def logs(aws):
    client = aws.client("logs")
    client.create_log_group(logGroupName="g")
    return client


def names(found):
    return [stream["logStreamName"] for stream in found["logStreams"]]


def test_create_log_stream_describes_it(aws, logs):
    logs.create_log_stream(logGroupName="g", logStreamName="job/algo-1-1700000000")
    (stream,) = logs.describe_log_streams(logGroupName="g", logStreamNamePrefix="job/", orderBy="LogStreamName", limit=1)[
        "logStreams"
    ]
    assert stream["arn"] == f"arn:aws:logs:{aws.region}:{aws.account}:log-group:g:log-stream:job/algo-1-1700000000"
    assert stream["storedBytes"] == 0
    assert "lastEventTimestamp" not in stream


def test_create_log_stream_twice_is_refused(logs):
    logs.create_log_stream(logGroupName="g", logStreamName="s")
    with pytest.raises(ClientError, match="The specified log stream already exists") as raised:
        logs.create_log_stream(logGroupName="g", logStreamName="s")
    assert raised.value.response["Error"]["Code"] == "ResourceAlreadyExistsException"


def test_create_log_stream_needs_its_group(logs):
    with pytest.raises(ClientError, match="The specified log group does not exist") as raised:
        logs.create_log_stream(logGroupName="none", logStreamName="s")
    assert raised.value.response["Error"]["Code"] == "ResourceNotFoundException"


def test_describe_log_streams_by_name_pages_both_ways(logs):
    wanted = [f"s{n:02d}" for n in range(7)]
    for name in wanted:
        logs.create_log_stream(logGroupName="g", logStreamName=name)
    pages = logs.get_paginator("describe_log_streams").paginate(logGroupName="g", PaginationConfig={"PageSize": 3})
    assert [name for page in pages for name in names(page)] == wanted
    pages = logs.get_paginator("describe_log_streams").paginate(logGroupName="g", descending=True, PaginationConfig={"PageSize": 3})
    assert [name for page in pages for name in names(page)] == wanted[::-1]


def test_describe_log_streams_by_time_puts_the_last_event_first(logs):
    now = int(time.time() * 1000)
    for name, age in (("a", 300), ("b", 100), ("c", 200), ("d", None)):
        logs.create_log_stream(logGroupName="g", logStreamName=name)
        if age:
            logs.put_log_events(logGroupName="g", logStreamName=name, logEvents=[{"timestamp": now - age, "message": "m"}])
    query = {"logGroupName": "g", "orderBy": "LastEventTime", "descending": True}
    first = logs.describe_log_streams(**query, limit=3)
    assert names(first) == ["b", "c", "a"]
    assert names(logs.describe_log_streams(**query, limit=3, nextToken=first["nextToken"])) == ["d"]
    assert names(logs.describe_log_streams(logGroupName="g", orderBy="LastEventTime")) == ["d", "a", "c", "b"]
    with pytest.raises(ClientError, match="Cannot order by LastEventTime with a logStreamNamePrefix"):
        logs.describe_log_streams(**query, logStreamNamePrefix="a")


def test_delete_log_stream_removes_its_events(logs):
    logs.create_log_stream(logGroupName="g", logStreamName="s")
    logs.put_log_events(logGroupName="g", logStreamName="s", logEvents=[{"timestamp": int(time.time() * 1000), "message": "m"}])
    assert logs.describe_log_groups(logGroupNamePrefix="g")["logGroups"][0]["storedBytes"] > 0
    logs.delete_log_stream(logGroupName="g", logStreamName="s")
    assert logs.describe_log_groups(logGroupNamePrefix="g")["logGroups"][0]["storedBytes"] == 0
    with pytest.raises(ClientError, match="The specified log stream does not exist"):
        logs.delete_log_stream(logGroupName="g", logStreamName="s")
    logs.create_log_stream(logGroupName="g", logStreamName="s")
    assert logs.get_log_events(logGroupName="g", logStreamName="s")["events"] == []
