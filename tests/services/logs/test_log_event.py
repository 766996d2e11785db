"""Putting, getting and filtering events."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError

DAY_MS = 86_400_000
GROUP = {"logGroupName": "g"}
STREAM = {"logGroupName": "g", "logStreamName": "s"}


@pytest.fixture
def logs(aws):
    client = aws.client("logs")
    client.create_log_group(**GROUP)
    client.create_log_stream(**STREAM)
    return client


@pytest.fixture
def now():
    return int(time.time() * 1000)


def put(logs, events, stream="s"):
    return logs.put_log_events(
        logGroupName="g", logStreamName=stream, logEvents=[{"timestamp": at, "message": text} for at, text in events]
    )


def texts(page):
    return [event["message"] for event in page["events"]]


def everything(logs, **query):
    """All pages of FilterLogEvents, until no token comes."""
    found, token = [], {}
    while True:
        page = logs.filter_log_events(**GROUP, **query, **token)
        found += page["events"]
        if "nextToken" not in page:
            return found
        token = {"nextToken": page["nextToken"]}


# -- put ----------------------------------------------------------------------------------------------------------------


def test_put_log_events_are_read_back(logs, now):
    answer = put(logs, [(now - 1, "first"), (now, "zweite Zeile äöü \U0001f600")])
    assert answer["nextSequenceToken"]
    assert "rejectedLogEventsInfo" not in answer
    events = logs.get_log_events(**STREAM, startFromHead=True)["events"]
    assert [(e["timestamp"], e["message"]) for e in events] == [(now - 1, "first"), (now, "zweite Zeile äöü \U0001f600")]
    assert events[0]["ingestionTime"] >= now
    (stream,) = logs.describe_log_streams(**GROUP)["logStreams"]
    assert (stream["firstEventTimestamp"], stream["lastEventTimestamp"]) == (now - 1, now)
    assert stream["lastIngestionTime"] == events[0]["ingestionTime"]


def test_put_log_events_must_be_in_order(logs, now):
    with pytest.raises(ClientError) as raised:
        put(logs, [(now, "b"), (now - 1, "a")])
    error = raised.value.response["Error"]
    assert error["Code"] == "InvalidParameterException"
    assert error["Message"] == "Log events in a single PutLogEvents request must be in chronological order."


def test_put_log_events_names_what_is_missing(logs, now):
    with pytest.raises(ClientError, match="The specified log stream does not exist") as raised:
        put(logs, [(now, "m")], stream="none")
    assert raised.value.response["Error"]["Code"] == "ResourceNotFoundException"
    with pytest.raises(ClientError, match="The specified log group does not exist"):
        logs.put_log_events(logGroupName="none", logStreamName="s", logEvents=[{"timestamp": now, "message": "m"}])


def test_put_log_events_tells_what_it_rejects(logs, now):
    answer = put(logs, [(now - 15 * DAY_MS, "old"), (now - 1, "kept"), (now + 3 * 3_600_000, "new")])
    assert answer["rejectedLogEventsInfo"] == {"tooOldLogEventEndIndex": 1, "tooNewLogEventStartIndex": 2}
    assert texts(logs.get_log_events(**STREAM)) == ["kept"]


def test_put_log_events_older_than_the_retention_are_expired(logs, now):
    logs.put_retention_policy(**GROUP, retentionInDays=3)
    answer = put(logs, [(now - 3 * DAY_MS - 60_000, "expired")])
    assert answer["rejectedLogEventsInfo"] == {"expiredLogEventEndIndex": 1}
    assert texts(logs.get_log_events(**STREAM)) == []


def test_put_log_events_may_not_span_a_day(logs, now):
    with pytest.raises(ClientError, match="cannot span more than 24 hours"):
        put(logs, [(now - DAY_MS - 1, "a"), (now, "b")])


def test_put_log_events_limits_bytes(logs, now):
    put(logs, [(now, "x" * (1_048_576 - 26))])
    with pytest.raises(ClientError, match="Log event too large: 1048577 bytes exceeds limit of 1048576"):
        put(logs, [(now, "x" * (1_048_576 - 25))])
    with pytest.raises(ClientError, match="Upload too large: 1100026 bytes exceeds limit of 1048576"):
        put(logs, [(now, "x" * 549_987), (now, "y" * 549_987)])


def test_put_log_events_ignores_the_sequence_token(logs, now):
    logs.put_log_events(**STREAM, logEvents=[{"timestamp": now, "message": "a"}], sequenceToken="wrong")
    logs.put_log_events(**STREAM, logEvents=[{"timestamp": now, "message": "b"}], sequenceToken="wrong")
    assert texts(logs.get_log_events(**STREAM)) == ["a", "b"]


def test_put_log_events_from_many_threads_all_arrive(logs, now):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: put(logs, [(now, f"{n}:{k}") for k in range(5)]), range(40)))
    found = texts(logs.get_log_events(**STREAM, startFromHead=True))
    assert len(found) == 200
    for n in range(40):
        assert [text for text in found if text.startswith(f"{n}:")] == [f"{n}:{k}" for k in range(5)]


# -- get ----------------------------------------------------------------------------------------------------------------


def test_get_log_events_gives_the_tail_by_default(logs, now):
    put(logs, [(now + n, str(n)) for n in range(10)])
    assert texts(logs.get_log_events(**STREAM, limit=3)) == ["7", "8", "9"]
    assert texts(logs.get_log_events(**STREAM, limit=3, startFromHead=True)) == ["0", "1", "2"]


def test_get_log_events_forward_token_is_stable_at_the_end(logs, now):
    put(logs, [(now, str(n)) for n in range(7)])
    page = logs.get_log_events(**STREAM, startFromHead=True, limit=3)
    found = texts(page)
    while page["events"]:
        page = logs.get_log_events(**STREAM, startFromHead=True, limit=3, nextToken=page["nextForwardToken"])
        found += texts(page)
    assert found == [str(n) for n in range(7)]
    again = logs.get_log_events(**STREAM, startFromHead=True, nextToken=page["nextForwardToken"])
    assert again["events"] == []
    assert again["nextForwardToken"] == page["nextForwardToken"]
    put(logs, [(now, "same time, later")])
    assert texts(logs.get_log_events(**STREAM, startFromHead=True, nextToken=page["nextForwardToken"])) == ["same time, later"]


def test_get_log_events_backward_token_walks_to_the_head(logs, now):
    put(logs, [(now + n // 2, str(n)) for n in range(7)])
    page = logs.get_log_events(**STREAM, limit=3)
    found = texts(page)
    while page["events"]:
        page = logs.get_log_events(**STREAM, limit=3, nextToken=page["nextBackwardToken"])
        found = texts(page) + found
    assert found == [str(n) for n in range(7)]
    assert logs.get_log_events(**STREAM, nextToken=page["nextBackwardToken"])["nextBackwardToken"] == page["nextBackwardToken"]


def test_get_log_events_of_an_empty_stream_can_be_followed(logs, now):
    for head in (True, False):
        page = logs.get_log_events(**STREAM, startFromHead=head)
        assert page["events"] == []
        token = page["nextForwardToken"]
        assert logs.get_log_events(**STREAM, startFromHead=True, nextToken=token)["nextForwardToken"] == token
    put(logs, [(now, "first")])
    assert texts(logs.get_log_events(**STREAM, startFromHead=True, nextToken=token)) == ["first"]


def test_get_log_events_bounds_are_start_inclusive_end_exclusive(logs, now):
    put(logs, [(now + n, str(n)) for n in range(5)])
    for head in (True, False):
        assert texts(logs.get_log_events(**STREAM, startTime=now + 1, endTime=now + 3, startFromHead=head)) == ["1", "2"]


def test_get_log_events_puts_late_batches_in_their_place(logs, now):
    put(logs, [(now - 7_200_000, "a"), (now - 100, "f"), (now, "h")])
    put(logs, [(now - 3_600_000, "b"), (now - 3_500_000, "d"), (now - 50, "g")])
    put(logs, [(now - 3_550_000, "c"), (now - 1_800_000, "e"), (now, "i")])
    assert "".join(texts(logs.get_log_events(**STREAM, startFromHead=True))) == "abcdefghi"
    assert "".join(texts(logs.get_log_events(**STREAM))) == "abcdefghi"
    assert "".join(texts(logs.get_log_events(**STREAM, limit=4))) == "fghi"
    assert "".join(texts(logs.get_log_events(**STREAM, startTime=now - 3_520_000, endTime=now - 50))) == "def"


def test_get_log_events_page_ends_at_a_mebibyte(logs, now):
    for n in range(3):
        put(logs, [(now + n, str(n) * 500_000)])
    first = logs.get_log_events(**STREAM, startFromHead=True)
    assert [text[0] for text in texts(first)] == ["0", "1"]
    rest = logs.get_log_events(**STREAM, startFromHead=True, nextToken=first["nextForwardToken"])
    assert [text[0] for text in texts(rest)] == ["2"]


def test_get_log_events_by_identifier(aws, logs, now):
    put(logs, [(now, "m")])
    arn = f"arn:aws:logs:{aws.region}:{aws.account}:log-group:g"
    for identifier in ("g", arn):
        assert texts(logs.get_log_events(logGroupIdentifier=identifier, logStreamName="s")) == ["m"]
    with pytest.raises(ClientError) as raised:
        logs.get_log_events(logGroupIdentifier="g", logGroupName="g", logStreamName="s")
    assert raised.value.response["Error"]["Code"] == "InvalidParameterException"


def test_get_log_events_names_what_is_missing(logs):
    with pytest.raises(ClientError, match="The specified log stream does not exist"):
        logs.get_log_events(**GROUP, logStreamName="none")
    with pytest.raises(ClientError, match="The specified log group does not exist"):
        logs.get_log_events(logGroupName="none", logStreamName="s")
    with pytest.raises(ClientError, match="The specified nextToken is invalid"):
        logs.get_log_events(**STREAM, nextToken="f/1/s")


def test_get_log_events_hides_what_has_expired(logs, now):
    put(logs, [(now - 2 * DAY_MS, "old")])
    put(logs, [(now, "new")])
    before = logs.describe_log_groups()["logGroups"][0]["storedBytes"]
    logs.put_retention_policy(**GROUP, retentionInDays=1)
    assert texts(logs.get_log_events(**STREAM, startFromHead=True)) == ["new"]
    assert [e["message"] for e in everything(logs)] == ["new"]
    assert 0 < logs.describe_log_groups()["logGroups"][0]["storedBytes"] < before


# -- filter -------------------------------------------------------------------------------------------------------------


def test_filter_log_events_interleaves_a_thousand_events_of_two_streams(logs, now):
    logs.create_log_stream(**GROUP, logStreamName="t")
    put(logs, [(now + n, f"s{n}") for n in range(0, 1000, 2)])
    put(logs, [(now + n, f"t{n}") for n in range(1, 1000, 2)], stream="t")
    wanted = [f"{'st'[n % 2]}{n}" for n in range(1000)]
    assert [e["message"] for e in everything(logs)] == wanted
    assert [e["message"] for e in everything(logs, limit=77)] == wanted
    assert [e["message"] for e in everything(logs, limit=77, startFromHead=False)] == wanted[::-1]
    found = everything(logs, logStreamNames=["t"])
    assert {e["logStreamName"] for e in found} == {"t"}
    assert len(found) == 500


def test_filter_log_events_ids_are_stable_and_unique(logs, now):
    put(logs, [(now, "a"), (now, "b")])
    ids = [e["eventId"] for e in everything(logs)]
    assert len(set(ids)) == 2
    put(logs, [(now, "c")])
    assert [e["eventId"] for e in everything(logs, limit=1)][:2] == ids


def test_filter_log_events_bounds_are_inclusive(logs, now):
    put(logs, [(now + n, str(n)) for n in range(5)])
    assert [e["message"] for e in everything(logs, startTime=now + 1, endTime=now + 3)] == ["1", "2", "3"]


def test_filter_log_events_follows_like_aws_logs_tail(logs, now):
    put(logs, [(now, "a")])
    seen = {e["eventId"]: e["message"] for e in everything(logs, startTime=now)}
    put(logs, [(now, "b"), (now + 5, "c")])
    fresh = [e["message"] for e in everything(logs, startTime=now) if e["eventId"] not in seen]
    assert fresh == ["b", "c"]


def test_filter_log_events_by_prefix_and_pattern(logs, now):
    for name in ("AllTraffic/i-1", "AllTraffic/i-2", "other"):
        logs.create_log_stream(**GROUP, logStreamName=name)
        put(logs, [(now, f"{name} ok"), (now + 1, f"{name} ERROR")], stream=name)
    found = everything(logs, logStreamNamePrefix="AllTraffic/", filterPattern="ERROR")
    assert sorted(e["message"] for e in found) == ["AllTraffic/i-1 ERROR", "AllTraffic/i-2 ERROR"]
    with pytest.raises(ClientError, match="mutually exclusive"):
        logs.filter_log_events(**GROUP, logStreamNamePrefix="a", logStreamNames=["s"])
    with pytest.raises(ClientError, match="The specified log stream does not exist"):
        logs.filter_log_events(**GROUP, logStreamNames=["none"])
    with pytest.raises(ClientError, match="Invalid filter pattern"):
        logs.filter_log_events(**GROUP, filterPattern="{ $.a = }")


def test_filter_log_events_resumes_among_equal_times(logs, now):
    for name in "abc":
        logs.create_log_stream(**GROUP, logStreamName=name)
        put(logs, [(now, f"{name}{n}") for n in range(5)], stream=name)
    found = [e["message"] for e in everything(logs, limit=2)]
    assert sorted(found) == sorted(f"{name}{n}" for name in "abc" for n in range(5))
    backward = [e["message"] for e in everything(logs, limit=4, startFromHead=False)]
    assert backward == found[::-1]
