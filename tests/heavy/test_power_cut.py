"""Power cuts at any moment of a server's life: it starts on what the disk has kept, and every acknowledged object is whole."""

from __future__ import annotations

import hashlib
import random
import threading
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config

from pilvi.testing.up import Up
from tests.storage.power import Disk, build, record

CUTS = 12
WRITERS = 4
SECONDS = 4.0
QUICK = Config(retries={"total_max_attempts": 1}, proxies={})


class Acknowledged:
    """What a client was told, and how long the recording was then: a cut from there on must have kept it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.states: dict[str, list[tuple[int, int, str]]] = {}
        """key -> (recording before the request, recording when it was answered, sum or '')"""

    def add(self, key: str, before: int, after: int, sum_: str) -> None:
        with self.lock:
            self.states.setdefault(key, []).append((before, after, sum_))

    def allowed(self, key: str, cut: int) -> set[str]:
        """The last state that was acknowledged before the cut, and whatever was asked for since."""
        found = {""}
        for before, after, sum_ in self.states[key]:
            if after <= cut:
                found = {sum_}
            elif before <= cut:
                found.add(sum_)
        return found


@pytest.mark.parametrize("mirrors", [0, 1])
def test_what_was_acknowledged_survives_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mirrors: int) -> None:
    library = build(tmp_path)
    if library is None:
        pytest.skip("there is no C compiler: sudo apt-get install gcc libc6-dev")
    root, log = tmp_path / "root", tmp_path / "log"
    root.mkdir()
    acknowledged = Acknowledged()
    begun = run_recorded(library, root, log, options(root, mirrors), acknowledged, monkeypatch)
    end = log.stat().st_size
    chance = random.Random(7)
    looked_at = 0
    for number in range(CUTS):
        cut = end if number == 0 else chance.randrange(begun, end)
        kept = tmp_path / f"cut{number}"
        Disk(log, cut, root, random.Random(number)).write(kept)
        looked_at += check(kept, options(kept, mirrors), acknowledged, cut)
    assert looked_at > CUTS * 10


def options(root: Path, mirrors: int) -> list[str]:
    return [word for number in range(mirrors) for word in ("--mirror", str(root / f"mirror{number}"))]


def run_recorded(
    library: Path, root: Path, log: Path, more: list[str], acknowledged: Acknowledged, monkeypatch: pytest.MonkeyPatch
) -> int:
    """A server under load until it is killed; gives the length of the recording when the load began."""
    with monkeypatch.context() as environ:
        for name, value in record(library, root, log).items():
            environ.setenv(name, value)
        up = Up(root / "data", *more)
    s3 = up.root.client("s3", config=QUICK)
    s3.create_bucket(Bucket="bucket")
    begun = log.stat().st_size
    ends = threading.Event()
    writers = [threading.Thread(target=write, args=(s3, number, log, acknowledged, ends)) for number in range(WRITERS)]
    for writer in writers:
        writer.start()
    ends.wait(SECONDS)
    ends.set()
    for writer in writers:
        writer.join()
    up.kill()
    return begun


def write(s3: Any, worker: int, log: Path, acknowledged: Acknowledged, ends: threading.Event) -> None:
    chance = random.Random(worker)
    while not ends.is_set():
        key = f"{worker}/{chance.randrange(12)}"
        data = chance.randbytes(chance.choice((100, 20_000, 60_000, 400_000, 1_500_000)))
        before = log.stat().st_size
        sum_ = hashlib.sha256(data).hexdigest()
        if chance.random() < 0.15:
            s3.delete_object(Bucket="bucket", Key=key)
            sum_ = ""
        else:
            s3.put_object(Bucket="bucket", Key=key, Body=data)
        acknowledged.add(key, before, log.stat().st_size, sum_)


def check(kept: Path, more: list[str], acknowledged: Acknowledged, cut: int) -> int:
    """Start on what is left and read everything; the number of keys."""
    up = Up(kept / "data", *more)
    try:
        s3 = up.root.client("s3", config=QUICK)
        for key in acknowledged.states:
            try:
                found = hashlib.sha256(s3.get_object(Bucket="bucket", Key=key)["Body"].read()).hexdigest()
            except s3.exceptions.NoSuchKey:
                found = ""
            assert found in acknowledged.allowed(key, cut), f"{key} after a cut at {cut} in {kept}"
        return len(acknowledged.states)
    finally:
        up.stop()
