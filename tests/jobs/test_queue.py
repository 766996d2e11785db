"""The queue's threads: order, places given back, waiting that ends, and no cost that grows with the queue."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pilvi.compute import Node
from pilvi.jobs import queue
from pilvi.jobs.placement import Grant
from pilvi.jobs.queue import Queue
from pilvi.jobs.spec import Resources
from pilvi.testing.server import eventually

WISH = (Resources(),)


class Runner:
    """Jobs that run until told."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.refused: list[tuple[str, str]] = []
        self.expired: list[str] = []
        self.again: set[str] = set()
        self.gates: dict[str, threading.Event] = {}
        self.nodes = [Node("", 2, 8192)]
        self.queue = Queue(lambda: self.nodes, self.run, lambda *words: self.refused.append(words), self.expired.append, time.time)

    def run(self, id: str, grants: tuple[Grant, ...]) -> bool:
        self.started.append(id)
        gate = self.gates.get(id)
        if gate is not None:
            gate.wait(30)
        if id == "breaks":
            raise RuntimeError(id)
        if id in self.again:
            self.again.discard(id)
            return True
        return False

    def hold(self, id: str) -> None:
        self.gates[id] = threading.Event()
        self.queue.add(id, WISH)

    def is_idle(self) -> bool:
        return self.queue.facts() == {"running": 0, "waiting": 0} and not self.queue._threads


@pytest.fixture
def runner() -> Iterator[Runner]:
    made = Runner()
    yield made
    for gate in made.gates.values():
        gate.set()
    made.queue.close()
    made.queue.join(10)


def test_jobs_run_in_order_and_no_thread_is_left(runner: Runner) -> None:
    for number in range(5):
        runner.hold(f"{number}")
    eventually(lambda: runner.started == ["0", "1"])
    assert runner.queue.facts()["waiting"] == 3
    runner.gates["1"].set()
    eventually(lambda: runner.started == ["0", "1", "2"])
    for gate in runner.gates.values():
        gate.set()
    eventually(runner.is_idle)
    assert sorted(runner.started) == ["0", "1", "2", "3", "4"]


def test_a_job_that_breaks_gives_its_place_back(runner: Runner) -> None:
    runner.nodes = [Node("", 1, 8192)]
    for id in ("breaks", "next", "last"):
        runner.queue.add(id, WISH)
    eventually(runner.is_idle)
    assert sorted(runner.started) == ["breaks", "last", "next"]


def test_a_job_that_runs_again_stands_at_the_end(runner: Runner) -> None:
    runner.again = {"0"}
    for number in range(4):
        runner.hold(f"{number}")
    for number, following in ((0, "2"), (1, "3"), (2, "0")):
        runner.gates[f"{number}"].set()
        eventually(lambda following=following: runner.started[-1] == following)
    runner.gates["3"].set()
    eventually(runner.is_idle)
    assert runner.started == ["0", "1", "2", "3", "0"]


def test_a_job_without_a_place_anywhere_is_refused(runner: Runner) -> None:
    runner.queue.add("crowd", WISH * 500)
    eventually(lambda: runner.refused)
    assert runner.refused[0][1].startswith("CapacityError: 500 instances")
    eventually(runner.is_idle)


def test_stopped_jobs_let_the_next_one_on(runner: Runner) -> None:
    runner.hold("a")
    runner.hold("b")
    runner.gates["wide"] = threading.Event()
    runner.queue.add("wide", WISH * 2)
    runner.hold("c")
    runner.gates["a"].set()
    eventually(lambda: runner.queue.facts()["running"] == 1)
    assert runner.queue.reason("wide") != ""
    assert "c" not in runner.started
    runner.queue.remove("wide")
    eventually(lambda: "c" in runner.started)


def test_waiting_too_long_is_told_and_new_nodes_are_seen(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "LOOK_S", 0.02)
    for id in ("a", "b"):
        runner.hold(id)
    runner.queue.add("late", WISH, until=time.time() - 1)
    runner.gates["patient"] = threading.Event()
    runner.queue.add("patient", WISH, until=time.time() + 1000)
    eventually(lambda: runner.expired == ["late"])
    runner.queue.remove("late")
    runner.nodes = [Node("", 2, 8192), Node("n2", 2, 8192)]
    eventually(lambda: "patient" in runner.started)
    eventually(lambda: runner.queue._clock is None)


def test_nodes_that_cannot_be_asked_for_stay_as_they_were(runner: Runner, caplog: pytest.LogCaptureFixture) -> None:
    runner.hold("a")

    def fail() -> list[Node]:
        raise RuntimeError("the engine is away")

    runner.queue._nodes = fail
    runner.hold("b")
    eventually(lambda: runner.started == ["a", "b"])
    assert "the nodes could not be asked for" in caplog.text


def test_closed_queues_start_nobody_and_open_again(runner: Runner) -> None:
    for number in range(3):
        runner.hold(f"{number}")
    runner.queue.close()
    for gate in runner.gates.values():
        gate.set()
    runner.queue.join(10)
    assert runner.started == ["0", "1"]
    runner.queue.add("ignored", WISH)
    assert runner.queue.reason("ignored") == ""
    runner.queue.open()
    runner.queue.add("after", WISH)
    eventually(lambda: runner.started[-1] == "after")


def seconds_for(work: Callable[[], Any]) -> float:
    before = time.perf_counter()
    work()
    return time.perf_counter() - before


def test_a_place_promised_to_a_job_is_free_after_closing(runner: Runner) -> None:
    runner.hold("a")
    eventually(lambda: runner.started == ["a"])
    runner.queue.hold("a")
    assert runner.queue.take_over("a", "heir", WISH)
    runner.queue.close()
    runner.gates["a"].set()
    eventually(runner.is_idle)
    runner.queue.open()
    assert runner.started == ["a"]


def test_a_long_queue_costs_no_more_per_job() -> None:
    def cost(count: int) -> float:
        made = Runner()
        made.hold("a")
        made.hold("b")

        def through() -> None:
            for number in range(count):
                made.queue.add(f"{number}", WISH)
            for number in range(0, count, 10):
                made.queue.reason(f"{number}")
            for gate in made.gates.values():
                gate.set()
            eventually(made.is_idle, every_s=0.002)

        return seconds_for(through) / count

    few, many = min(cost(50) for _ in range(3)), cost(5000)
    assert many < 3 * few + 0.0002, (few, many)
