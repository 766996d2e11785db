"""`pilvi events`: what waits and what was given up, seen and mended by people."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from pilvi.cli.main import main
from pilvi.events.letters import id_of
from pilvi.storage.records import Put, Table
from pilvi.testing.server import TestServer, eventually

THINGS = Table("", "", "test", "Thing")


class House:
    """A server with dead letters of a consumer that nobody is (its entries stay), and the command for it."""

    def __init__(self, server: TestServer, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.cloud = server.cloud
        self._folder = folder
        self._capsys = capsys

    def run(self, *words: str, status: int = 0) -> str:
        assert main(["events", *words, "--data-dir", str(self._folder)]) == status
        told = self._capsys.readouterr()
        return told.out if status == 0 else told.err

    def on_loop(self, story: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(story, self.cloud.dispatcher.loop).result(20)

    def bury(self, lane: str, key: str, consumer: str = "gone/one") -> str:
        log = self.cloud.delivery.log
        self.cloud.store.write(Put(THINGS, key, {}), log.recording(consumer, lane, key, {"what": key, "bytes": b"\0\1"}))
        entry = log.read(consumer, lane, 1)[0]
        self.on_loop(log.bury(consumer, entry, "no such place"))
        return id_of(entry)


@pytest.fixture
def house(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[House]:
    with TestServer(tmp_path) as server:
        yield House(server, tmp_path, capsys)


def test_events_lists_shows_revives_and_deletes(house: House) -> None:
    assert house.run("list") == "no dead letters\n"
    assert house.run() == "log  embedded\n"
    first, second = house.bury("here", "a"), house.bury("here", "b")
    third = house.bury("there", "c", "gone/two")
    lines = house.run("list").splitlines()
    assert [line.split()[0] for line in lines] == [first, second, third]
    assert lines[0].endswith("gone/one  here  a  1 attempt: no such place")
    assert [one["key"] for one in json.loads(house.run("list", "--json", "--consumer", "gone/two"))] == ["c"]
    assert house.run("list", "--lane", "there", "--limit", "1").startswith(third)
    shown = json.loads(house.run("show", second))
    assert (shown["fact"], shown["lane"]) == ({"what": "b", "bytes": "AAE="}, "here")
    assert "gone/one  2 dead letters" in house.run()
    assert house.run("revive", first) == "1 to be delivered again\n"
    assert [entry.key for entry in house.cloud.delivery.log.read("gone/one", "here", 9)] == ["a"]
    assert "gone/one  here  1 waiting, the oldest for 0s" in house.run()
    assert house.run("delete", "--all", "--consumer", "gone/two") == "1 deleted\n"
    assert house.run("delete", first, status=1) == f"pilvi: There is no dead letter {first}.\n"
    assert "--all" in house.run("delete", status=1)
    assert house.run("delete", second) == "1 deleted\n"
    assert house.run("list") == "no dead letters\n"


def test_status_tells_of_dead_letters(house: House, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    house.bury("here", "a")
    assert main(["status", "--data-dir", str(tmp_path)]) == 0
    assert "events  embedded  1 dead letters" in capsys.readouterr().out


def test_dead_letters_go_after_their_time(house: House) -> None:
    house.bury("here", "a")
    house.cloud.advance_clock(13 * 86_400)
    fresh = house.bury("here", "b")
    house.cloud.advance_clock(2 * 86_400)
    eventually(lambda: house.run("list").splitlines()[0].startswith(fresh) and house.run("list").count("\n") == 1)


def test_dead_letters_are_told_to_the_owner_only(house: House) -> None:
    import urllib.error
    import urllib.request

    for body in (b'{"action": "list"}', b"nonsense"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{house.cloud.endpoint}/_pilvi/events", data=body, timeout=10)
        with refused.value as answer:
            assert answer.code == 403
