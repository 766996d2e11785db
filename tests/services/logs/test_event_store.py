"""What lies on the disk: sealed, bounded, and gone after a removal, even one that was cut short."""

from __future__ import annotations

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pilvi.services.logs import event_store


@pytest.fixture
def logs(aws):
    client = aws.client("logs")
    client.create_log_group(logGroupName="g")
    client.create_log_stream(logGroupName="g", logStreamName="s")
    return client


@pytest.fixture
def now():
    return int(time.time() * 1000)


def put(logs, events, stream="s"):
    logs.put_log_events(
        logGroupName="g", logStreamName=stream, logEvents=[{"timestamp": at, "message": text} for at, text in events]
    )


def context(server, aws):
    return server.cloud.context(server.cloud.identities.root(aws.account), "logs", region=aws.region)


def test_messages_are_sealed(server, logs, now):
    secret = "plaintext-that-must-not-be-found-7391"
    put(logs, [(now, secret)] * 3)
    files = [path for path in server.config.data_dir.rglob("*") if path.is_file()]
    assert files
    assert not any(secret.encode() in path.read_bytes() for path in files)


def test_a_removal_cut_short_is_finished_later(server, aws, logs, now):
    put(logs, [(now - 3_000_000, "a"), (now, "b")])
    ctx = context(server, aws)
    group = ctx.records("LogGroup").row("g")
    stream = ctx.records("LogStream").scan()[0].value
    batches = ctx.records("LogBatch").scan(prefix=stream["_uid"])
    assert len(batches) == 2
    # What delete_log_group writes first; then the power goes.
    ctx.write(ctx.records("LogGroup").deletion("g"), event_store.removal_of_group(ctx, group.value["_uid"]))
    assert logs.describe_log_groups()["logGroups"] == []
    logs.create_log_group(logGroupName="g")
    for noun in ("LogStream", "LogBatch", "Removed"):
        assert ctx.records(noun).scan() == []
    assert not set(ctx.store.body_names()) & {batch.value["body"] for batch in batches}


def test_a_put_racing_a_removal_leaves_nothing(server, aws, logs, now):
    ctx = context(server, aws)
    group = ctx.records("LogGroup").row("g")
    stream = ctx.records("LogStream").scan()[0]
    logs.delete_log_group(logGroupName="g")
    with pytest.raises(event_store.Conflict):
        event_store.append(ctx, group, stream, [{"timestamp": now, "message": "late"}])
    assert ctx.records("LogBatch").scan() == []


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.lists(st.integers(0, 3_000_000), min_size=1, max_size=6).map(sorted), min_size=1, max_size=6),
    st.integers(1, 5),
    st.integers(0, 3_000_000),
)
def test_every_way_of_reading_agrees(server, aws, logs, now, batches, limit, since):
    """Whatever order batches came in: both directions, by pages or whole, from any time."""
    name = f"stream-{time.monotonic_ns()}"
    logs.create_log_stream(logGroupName="g", logStreamName=name)
    base, expected = now - 4_000_000, []
    for number, batch in enumerate(batches):
        put(logs, [(base + at, f"{number}.{index}") for index, at in enumerate(batch)], name)
        expected += [(base + at, number, index) for index, at in enumerate(batch)]
    wanted = [f"{number}.{index}" for at, number, index in sorted(expected) if at >= base + since]
    query = {"logGroupName": "g", "logStreamName": name, "startTime": base + since}

    def pages(token_name, **first):
        page = logs.get_log_events(**query, limit=limit, **first)
        while page["events"]:
            yield [event["message"] for event in page["events"]]
            page = logs.get_log_events(**query, limit=limit, startFromHead=True, nextToken=page[token_name])

    assert [text for page in pages("nextForwardToken", startFromHead=True) for text in page] == wanted
    backward = list(pages("nextBackwardToken"))
    assert [text for page in reversed(backward) for text in page] == wanted
    found = logs.filter_log_events(logGroupName="g", logStreamNames=[name], startTime=base + since)["events"]
    assert [event["message"] for event in found] == wanted
    last = logs.filter_log_events(logGroupName="g", logStreamNames=[name], startTime=base + since, startFromHead=False)["events"]
    assert [event["message"] for event in last] == wanted[::-1]
