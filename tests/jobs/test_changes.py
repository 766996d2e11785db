"""Waiting for news: nobody misses a change, nobody hears of a stranger's."""

from __future__ import annotations

import threading

from pilvi.jobs import changes
from pilvi.jobs.changes import Changes
from pilvi.testing.server import eventually


def waiting(made: Changes, ids: list[str], after: int | None = None) -> tuple[threading.Thread, list[int]]:
    told: list[int] = []
    thread = threading.Thread(target=lambda: told.append(made.wait(ids, 30, after)))
    thread.start()
    eventually(lambda: told or made._waiting)
    return thread, told


def test_wait_ends_with_a_change_of_one_of_the_jobs() -> None:
    made = Changes()
    thread, told = waiting(made, ["a", "b", "b"])
    made.tell("other")
    assert not told
    made.tell("b")
    thread.join()
    assert told == [2]
    assert made._waiting == {}


def test_wait_tells_what_happened_since_the_last_look() -> None:
    made = Changes()
    made.tell("a")
    assert made.wait(["a"], 30, 0) == 1
    assert made.wait(["a"], 0.01, 1) == 1
    made.tell("a", is_end=True)
    assert made.wait(["a"], 30, 1) == 2


def test_wait_ends_with_time() -> None:
    made = Changes()
    made.tell("a")
    assert made.wait(["a"], 0.01) == 1


def test_close_ends_all_waiting() -> None:
    made = Changes()
    thread, told = waiting(made, ["a"])
    made.close()
    thread.join()
    assert told == [0]
    assert made.wait(["a"], 30) == 0
    made.reopen()
    assert made.wait(["a"], 0.01) == 0


def test_ended_jobs_are_forgotten_but_nobody_misses_one() -> None:
    made = Changes()
    for number in range(changes._KEPT_ENDED + 5):
        made.tell(str(number), is_end=True)
    assert len(made._last) == changes._KEPT_ENDED
    assert made.wait(["2"], 30, 1) == changes._KEPT_ENDED + 5
    assert made.wait(["2"], 0.01, changes._KEPT_ENDED + 5)
