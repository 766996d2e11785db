"""The compute contract through agents: on a node that shares the server's files, and on one that shares none."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pilvi.compute import Bind, Compute, Exit, Node
from pilvi.compute import cluster as cluster_module
from pilvi.compute.agent import Agent
from pilvi.compute.cluster import ClusterCompute, NodeLost
from pilvi.core.errors import Unavailable
from pilvi.testing.contracts.compute import APART, CONTRACT, Heard, eventually, is_alive, run, shell


class NearHand:
    """Calls an agent in this process."""

    def __init__(self, agent: Agent, is_shared: bool = True) -> None:
        self.agent = agent
        self.is_shared = is_shared
        self.is_lost = False
        self.calls: list[str] = []

    def call(self, method: str, *arguments: Any) -> Any:
        self.calls.append(method)
        if self.is_lost:
            raise NodeLost("it is gone")
        if method == "sees" and not self.is_shared:
            return False
        if method == "lacks" and not self.is_shared:
            # The interpreter is there as it is on any node; what a test made is not.
            return [path for path in arguments[0] if "pytest" in path and not self.agent._place("", path).exists()]
        found = getattr(self.agent, method)(*arguments)
        if self.is_lost:
            raise NodeLost("it is gone")
        return found

    def send(self, method: str, *arguments: Any) -> None:
        if not self.is_lost:
            threading.Thread(target=self.call, args=(method, *arguments), daemon=True).start()


class NearEngine:
    def __init__(self, **hands: NearHand) -> None:
        self.all = hands

    def hands(self) -> dict[str, NearHand]:
        return dict(self.all)

    def limits(self, name: str) -> Node | None:
        return Node(name, 1, 4096, address="10.0.0.9") if name == "small" else None

    def close(self) -> None:
        for hand in self.all.values():
            hand.agent.close()


@pytest.fixture(params=["shared", "shipped"])
def compute(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compute]:
    scratch = tmp_path_factory.mktemp("node")
    hand = NearHand(Agent(scratch=str(scratch)), request.param == "shared")
    made = ClusterCompute(NearEngine(one=hand), tmp_path_factory.mktemp("server"))
    yield made
    made.close()
    assert not any(scratch.iterdir())


@pytest.mark.parametrize("promise", CONTRACT, ids=lambda promise: promise.__name__)
def test_adapter_keeps(promise: Callable[[Compute, Path], None], compute: Compute, tmp_path: Path) -> None:
    promise(compute, tmp_path)


@pytest.mark.parametrize("promise", APART, ids=lambda promise: promise.__name__)
def test_namespaces_keep(promise: Callable[[Compute, Path], None], compute: Compute, tmp_path: Path) -> None:
    if compute.isolation == "none":
        pytest.skip("no namespaces, no privacy")
    promise(compute, tmp_path)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[NearEngine]:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    made = NearEngine(near=NearHand(Agent(scratch=str(tmp_path / "a"))), small=NearHand(Agent(scratch=str(tmp_path / "b")), False))
    yield made
    made.close()


@pytest.fixture
def two(engine: NearEngine, tmp_path: Path) -> Iterator[ClusterCompute]:
    made = ClusterCompute(engine, tmp_path / "server")
    yield made
    made.close()


def test_nodes_are_within_the_engines_limits(two: ClusterCompute) -> None:
    near, small = two.nodes()
    assert (near.name, small.name) == ("near", "small")
    assert (small.cpus, small.memory_mib) == (1, 4096)
    # Both are this machine, so programs have loopback addresses of their own.
    assert (near.address, small.address) == ("", "")


def test_files_are_shipped_and_come_back(two: ClusterCompute, engine: NearEngine, tmp_path: Path) -> None:
    (tmp_path / "work" / "deep").mkdir(parents=True)
    (tmp_path / "work" / "deep" / "old").write_text("old")
    (tmp_path / "work" / "run.sh").write_text("#!/bin/sh\necho ran\n")
    (tmp_path / "work" / "run.sh").chmod(0o755)
    (tmp_path / "work" / "link").symlink_to("deep/old")
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "in").write_text("in")
    (tmp_path / "single").write_text("single")
    binds = (Bind(tmp_path / "work", "/work", True), Bind(tmp_path / "given", "/given"), Bind(tmp_path / "single", "/single"))
    script = "cat /given/in /single /work/link; /work/run.sh; rm /work/deep/old; mkdir /work/new; echo x > /work/new/file"
    spec = replace(shell(script), binds=binds, node="small")
    assert run(two, spec) == (Exit(0), ["insingleoldran"])
    assert sorted(str(path.relative_to(tmp_path / "work")) for path in (tmp_path / "work").rglob("*")) == [
        "deep",
        "link",
        "new",
        "new/file",
        "run.sh",
    ]
    before = engine.all["small"].calls.count("receive")
    assert run(two, spec)[0] == Exit(0)
    # What is only read is there already.
    assert engine.all["small"].calls.count("receive") - before == 2
    agent = engine.all["small"].agent
    eventually(lambda: not any((agent._scratch / "programs").iterdir()))


def test_pipes_need_a_shared_file_system(two: ClusterCompute, tmp_path: Path) -> None:
    import os

    (tmp_path / "work").mkdir()
    os.mkfifo(tmp_path / "work" / "train_0")
    spec = replace(shell("true"), binds=(Bind(tmp_path / "work", "/work", True),))
    with pytest.raises(Unavailable, match="Named pipes"):
        two.launch(replace(spec, node="small"), Heard())
    assert run(two, replace(spec, node="near"))[0] == Exit(0)


def test_a_lost_node_ends_its_programs_and_is_used_no_more(
    two: ClusterCompute, engine: NearEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_module, "_LOOK_S", 0.0)
    heard = Heard()
    process = two.launch(replace(shell("echo on; sleep 600"), node="near"), heard)
    heard.wait_for("on")
    lost = engine.all.pop("near")
    lost.is_lost = True
    assert [node.name for node in two.nodes()] == ["small"]
    assert process.wait(30) == Exit(-9, "lost")
    with pytest.raises(Unavailable, match="not there any more"):
        two.launch(replace(shell("true"), node="near"), Heard())
    assert run(two, shell("echo on the other"))[1] == ["on the other"]
    lost.agent.close()


def test_a_node_that_answers_nonsense_ends_its_programs_and_is_used_again(
    two: ClusterCompute, engine: NearEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_module, "_LOOK_S", 0.0)
    heard, marker = Heard(), f"7{time.monotonic_ns()}"
    process = two.launch(replace(shell(f"echo on; sleep {marker}"), node="near"), heard)
    heard.wait_for("on")
    near = engine.all["near"].agent
    events = near.events
    monkeypatch.setattr(near, "events", lambda *_: [("no", "event")])
    near._say("x", "wakes the one who waits")
    assert process.wait(30) == Exit(-9, "lost")
    eventually(lambda: not is_alive(f"sleep\0{marker}"))
    monkeypatch.setattr(near, "events", events)
    assert run(two, replace(shell("echo again"), node="near")) == (Exit(0), ["again"])


def test_a_node_that_answers_no_more_ends_its_programs(two: ClusterCompute, engine: NearEngine) -> None:
    heard = Heard()
    process = two.launch(replace(shell("echo on; sleep 600"), node="near"), heard)
    heard.wait_for("on")
    engine.all["near"].is_lost = True
    engine.all["near"].agent._say("x", "wakes the one who waits")
    assert process.wait(30) == Exit(-9, "lost")
    with pytest.raises(Unavailable):
        two.launch(replace(shell("true"), node="near"), Heard())


def test_an_agent_that_nobody_asks_ends_its_programs(tmp_path: Path) -> None:
    marker = f"5{tmp_path.stat().st_ino}"
    agent = Agent(scratch=str(tmp_path), lease_s=0.4)
    assert agent.launch("a", shell(f"sleep {marker}"))[0] > 0
    eventually(lambda: is_alive(f"sleep\0{marker}"))
    eventually(lambda: not is_alive(f"sleep\0{marker}"))
    eventually(lambda: not any(tmp_path.iterdir()))


def test_lines_that_nobody_fetches_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pilvi.compute import agent as agent_module

    monkeypatch.setattr(agent_module, "_HELD_BYTES", 100)
    agent = Agent(scratch=str(tmp_path))
    agent.launch("a", shell("for i in 1 2 3 4 5 6 7 8 9; do echo 0123456789012345678901234567890; done"))
    eventually(lambda: any(event[2] == "exit" for event in agent.events(0, 0.1)))
    assert [event[3] for event in agent.events(0, 0.1)][-2] == "[5 lines came too fast to be kept]"
    agent.close()


def test_programs_elsewhere_are_led_to_the_server(engine: NearEngine, tmp_path: Path) -> None:
    made = ClusterCompute(engine, tmp_path / "server", own_address="10.1.2.3")
    member = made._members["near"]
    member._own_address = "10.1.2.3"
    spec = shell("echo $AWS_ENDPOINT_URL", env={"AWS_ENDPOINT_URL": "http://127.0.0.1:4566"})
    assert run(made, replace(spec, node="near"))[1] == ["http://10.1.2.3:4566"]
    assert run(made, replace(spec, node="small"))[1] == ["http://127.0.0.1:4566"]
    made.close()


def test_an_empty_cluster_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no node"):
        ClusterCompute(NearEngine(), tmp_path)
