"""What every event log promises. Each function takes an empty log and the store it writes with; `CONTRACT` lists them."""

from __future__ import annotations

from pilvi.core.errors import Conflict
from pilvi.events import Log
from pilvi.storage.records import Expect, Put, Records, Table

THINGS = Table("", "", "test", "Thing")
WHO = "test/listener"


def record(log: Log, store: Records, key: str, fact: dict[str, object], *, lane: str = "lane", who: str = WHO) -> None:
    store.write(Put(THINGS, key, {}), log.recording(who, lane, key, fact))


async def a_fact_is_kept_with_its_record(log: Log, store: Records) -> None:
    record(log, store, "a", {"n": 1, "text": "ä"})
    (entry,) = log.read(WHO, "lane", 10)
    assert (entry.key, entry.fact, entry.lane, entry.tries, entry.error) == ("a", {"n": 1, "text": "ä"}, "lane", 0, "")
    assert entry.due <= entry.at


async def a_fact_is_not_there_without_its_record(log: Log, store: Records) -> None:
    try:
        store.write(Expect(THINGS, "a", 7), log.recording(WHO, "lane", "a", {}))
    except Conflict:
        assert log.read(WHO, "lane", 10) == []
        assert log.consumers() == []
    else:
        raise AssertionError("the transaction went through")


async def entries_keep_the_order_they_were_recorded_in(log: Log, store: Records) -> None:
    for number in range(50):
        record(log, store, f"k{number % 3}", {"n": number})
    assert [entry.fact["n"] for entry in log.read(WHO, "lane", 100)] == list(range(50))
    assert [entry.fact["n"] for entry in log.read(WHO, "lane", 7)] == list(range(7))
    sixth = log.read(WHO, "lane", 7)[-1].id
    assert [entry.fact["n"] for entry in log.read(WHO, "lane", 3, sixth)] == [7, 8, 9]


async def consumers_and_lanes_stand_for_themselves(log: Log, store: Records) -> None:
    for lane in ("a", "ab", "b/c", "ü"):
        for number in range(3):
            record(log, store, "k", {"n": number}, lane=lane)
    record(log, store, "k", {}, who="other/one", lane="z")
    assert sorted(log.consumers()) == ["other/one", WHO]
    assert sorted(log.lanes(WHO)) == ["a", "ab", "b/c", "ü"]
    assert log.lanes("other/one") == ["z"]
    assert len(log.read(WHO, "a", 10)) == 3
    await log.done(WHO, log.read(WHO, "a", 1)[0])
    assert len(log.read(WHO, "a", 10)) == 2
    assert len(log.read(WHO, "ab", 10)) == 3


async def what_is_done_does_not_come_back(log: Log, store: Records) -> None:
    record(log, store, "a", {"n": 1})
    record(log, store, "a", {"n": 2})
    first, second = log.read(WHO, "lane", 10)
    await log.done(WHO, first)
    assert log.read(WHO, "lane", 10) == [second]
    await log.done(WHO, first)
    await log.done(WHO, second)
    assert log.read(WHO, "lane", 10) == []
    assert log.lanes(WHO) == []


async def what_is_postponed_keeps_its_place(log: Log, store: Records) -> None:
    record(log, store, "a", {"n": 1})
    record(log, store, "b", {"n": 2})
    first, second = log.read(WHO, "lane", 10)
    await log.postpone(WHO, first, first.at + 60, "the other side is away")
    again, other = log.read(WHO, "lane", 10)
    assert (again.id, again.tries, again.due, again.error) == (first.id, 1, first.at + 60, "the other side is away")
    assert again.at == first.at
    assert other == second
    await log.done(WHO, again)
    await log.postpone(WHO, again, 0, "too late")
    assert log.read(WHO, "lane", 10) == [second]


async def dead_letters_lie_apart_and_may_be_revived(log: Log, store: Records) -> None:
    record(log, store, "a", {"n": 1})
    (entry,) = log.read(WHO, "lane", 10)
    await log.bury(WHO, entry, "no such place")
    assert log.read(WHO, "lane", 10) == []
    (dead,) = log.dead(WHO)
    assert (dead.key, dead.fact, dead.tries, dead.error) == ("a", {"n": 1}, 1, "no such place")
    assert dead.buried >= dead.at
    assert log.dead(WHO, after=dead.id) == []
    assert log.dead_consumers() == [WHO]
    await log.revive(WHO, dead)
    assert log.dead(WHO) == []
    assert log.dead_consumers() == []
    (fresh,) = log.read(WHO, "lane", 10)
    assert (fresh.fact, fresh.tries, fresh.error, fresh.buried) == ({"n": 1}, 0, "", 0.0)


async def dead_letters_may_be_forgotten(log: Log, store: Records) -> None:
    for number in range(3):
        record(log, store, "a", {"n": number})
    for entry in log.read(WHO, "lane", 10):
        await log.bury(WHO, entry, "no such place")
    first, second, third = log.dead(WHO)
    assert [one.id for one in log.dead(WHO, limit=2)] == [first.id, second.id]
    await log.forget(WHO, second)
    await log.forget(WHO, second)
    assert log.dead(WHO) == [first, third]
    assert log.read(WHO, "lane", 10) == []


async def what_is_cleared_is_gone(log: Log, store: Records) -> None:
    record(log, store, "a", {"n": 1})
    assert len(log.read(WHO, "lane", 10)) == 1
    store.clear()
    log.clear()
    assert log.read(WHO, "lane", 10) == []
    assert log.consumers() == []
    record(log, store, "a", {"n": 2})
    assert [entry.fact for entry in log.read(WHO, "lane", 10)] == [{"n": 2}]


async def long_facts_are_facts(log: Log, store: Records) -> None:
    """Longer than what some logs carry as one message."""
    long = "ä" * 2_000_000
    record(log, store, "a", {"n": 1, "text": long, "bytes": b"\0\xff"})
    record(log, store, "a", {"n": 2})
    first, second = log.read(WHO, "lane", 10)
    assert (first.fact["text"], first.fact["bytes"], second.fact) == (long, b"\0\xff", {"n": 2})
    await log.postpone(WHO, first, first.at + 60, "the other side is away")
    first, second = log.read(WHO, "lane", 10)
    assert (first.fact["text"], first.tries) == (long, 1)
    await log.bury(WHO, first, "no such place")
    assert log.read(WHO, "lane", 10) == [second]
    assert log.dead(WHO)[0].fact["text"] == long


async def status_says_what_it_is(log: Log, _store: Records) -> None:
    status = log.status()
    assert status["log"] in ("embedded", "nats")
    assert "away" not in status


CONTRACT = (
    a_fact_is_kept_with_its_record,
    a_fact_is_not_there_without_its_record,
    entries_keep_the_order_they_were_recorded_in,
    consumers_and_lanes_stand_for_themselves,
    what_is_done_does_not_come_back,
    what_is_postponed_keeps_its_place,
    dead_letters_lie_apart_and_may_be_revived,
    dead_letters_may_be_forgotten,
    what_is_cleared_is_gone,
    long_facts_are_facts,
    status_says_what_it_is,
)
