"""The product's clock: moved, persisted, seen by every process; and what becomes due by it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from pilvi.cli.main import main
from pilvi.core.clock import ProductClock, seconds_to, span_text
from pilvi.core.errors import Invalid
from pilvi.schedules.offset import Follower, move, read_offset
from pilvi.storage.records.memory import MemoryRecords
from pilvi.testing.server import Account, TestServer
from pilvi.testing.virtual_clock import VirtualClock

NOW = datetime(2026, 11, 22, 10, 30, tzinfo=UTC)


def ask(account: Account, method: str, body: bytes = b"", *, signed: bool = True) -> tuple[int, dict[str, Any]]:
    url = f"{account.endpoint}/_pilvi/clock"
    request = AWSRequest(method, url, data=body)
    if signed:
        SigV4Auth(Credentials(account.access_key_id, account.secret, account.session_token), "pilvi", "us-east-1").add_auth(request)
    asked = urllib.request.Request(url, data=body or None, headers=dict(request.headers.items()), method=method)
    try:
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("31d", 31 * 86400), ("90s", 90), ("15m", 900), ("6h", 21600), ("2w", 14 * 86400), ("1d12h", 129600), ("0.5h", 1800)],
)
def test_seconds_to_reads_spans(text: str, seconds: float) -> None:
    assert seconds_to(text, NOW) == seconds


def test_seconds_to_reads_dates() -> None:
    assert seconds_to("2026-11-23", NOW) == 13.5 * 3600
    assert seconds_to("2026-11-22T12:30:00+01:00", NOW) == 3600


@pytest.mark.parametrize("text", ["", "31", "d", "31 d", "-1d", "tomorrow", "2026-11-21", "1y"])
def test_seconds_to_refuses_the_rest(text: str) -> None:
    with pytest.raises(Invalid):
        seconds_to(text, NOW)


def test_span_text_says_what_seconds_to_reads() -> None:
    assert span_text(0) == "0s"
    assert span_text(31 * 86400 + 3600 + 5) == "31d1h5s"


def test_product_clock_keeps_the_real_one() -> None:
    real = VirtualClock(NOW)
    clock = ProductClock(real)
    clock.offset_s = 86400.0
    assert clock.now() == NOW + timedelta(days=1)
    assert clock.time_s() - clock.real_s() == 86400
    assert clock.real_now() == NOW


def test_offset_is_followed_by_other_processes() -> None:
    store = MemoryRecords()
    follower = Follower(store)
    assert follower() == 0
    move(store, 10)
    move(store, 5.5)
    assert follower() == read_offset(store) == 15.5
    with pytest.raises(Invalid):
        move(store, -1)
    with pytest.raises(Invalid):
        move(store, 1e12)


def test_clock_is_told_to_anybody(timed: TestServer) -> None:
    status, told = ask(timed.account("123456789012"), "GET", signed=False)
    assert status == 200
    assert told["ahead_s"] == read_offset(timed.cloud.store)


def test_advance_moves_dates_but_no_signature(timed: TestServer) -> None:
    root = timed.account("123456789012")
    before = ask(root, "GET")[1]["ahead_s"]
    status, told = ask(root, "POST", b'{"advance": "31d"}')
    assert status == 200, told
    assert told["ahead_s"] == before + 31 * 86400
    s3 = root.client("s3")
    s3.create_bucket(Bucket="time-travel")
    s3.put_object(Bucket="time-travel", Key="a", Body=b"x")
    written = s3.head_object(Bucket="time-travel", Key="a")["LastModified"]
    assert written - datetime.now(UTC) > timedelta(days=30)
    session = root.client("sts").get_session_token(DurationSeconds=900)["Credentials"]
    assert session["Expiration"] - datetime.now(UTC) < timedelta(hours=1)
    held = root.with_keys(session["AccessKeyId"], session["SecretAccessKey"], session["SessionToken"])
    assert held.client("s3").get_object(Bucket="time-travel", Key="a")["Body"].read() == b"x"


def test_advance_to_a_date(timed: TestServer) -> None:
    root = timed.account("123456789012")
    there = (timed.cloud.clock.now() + timedelta(days=2)).strftime("%Y-%m-%dT00:00:00Z")
    status, told = ask(root, "POST", json.dumps({"advance": there}).encode())
    assert status == 200
    assert told["time"][:10] == there[:10]


def test_advance_is_refused_to_strangers(timed: TestServer) -> None:
    root = timed.account("123456789012")
    before = read_offset(timed.cloud.store)
    other = timed.account("999988887777")
    session = root.client("sts").get_session_token(DurationSeconds=900)["Credentials"]
    held = root.with_keys(
        session["AccessKeyId"], session["SecretAccessKey"], session["SessionToken"]
    )  # nobody would see them expire
    wrong = (root.with_keys("AKIAWRONG", "no"), True)
    for who, signed in ((root, False), (other, True), wrong, (root.user("sneaky"), True), (held, True)):
        assert ask(who, "POST", b'{"advance": "1d"}', signed=signed)[0] == 403
    assert ask(root.with_keys(root.access_key_id, "wrong"), "POST", b'{"advance": "1d"}')[0] == 403
    assert read_offset(timed.cloud.store) == before


@pytest.mark.parametrize("body", [b"{}", b"no json", b'{"advance": 5}', b'{"advance": "-1d"}', b'{"advance": "2020-01-01"}'])
def test_advance_is_refused_for_what_is_no_time(timed: TestServer, body: bytes) -> None:
    assert ask(timed.account("123456789012"), "POST", body)[0] == 400


def test_offset_survives_a_restart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with TestServer(tmp_path) as server:
        server.account("123456789012")
        assert main(["clock", "advance", "31d", "--data-dir", str(tmp_path)]) == 0
        assert "31d ahead of real time" in capsys.readouterr().out
        assert read_offset(server.cloud.store) == server.cloud.product_clock.offset() == 31 * 86400
    with TestServer(tmp_path) as server:
        assert read_offset(server.cloud.store) == server.cloud.product_clock.offset() == 31 * 86400
        assert main(["clock", "--json", "--data-dir", str(tmp_path)]) == 0
        assert json.loads(capsys.readouterr().out)["ahead_s"] == 31 * 86400
        assert main(["status", "--data-dir", str(tmp_path)]) == 0
        assert "31d ahead of real time" in capsys.readouterr().out
        assert main(["clock", "advance", "yesterday", "--data-dir", str(tmp_path)]) == 1


def test_reset_puts_the_clock_back(tmp_path: Path) -> None:
    with TestServer(tmp_path, auth="open") as server:
        root = server.account("123456789012")
        assert ask(root, "POST", b'{"advance": "1d"}', signed=False)[0] == 200
        request = urllib.request.Request(f"{server.endpoint}/_pilvi/reset", method="POST")
        with urllib.request.urlopen(request, timeout=30):
            pass
        assert ask(root, "GET", signed=False)[1]["ahead_s"] == 0
