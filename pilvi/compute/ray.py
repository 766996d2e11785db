"""A Ray cluster as the place where programs run: an agent on each of its nodes, as an actor (agent.py, cluster.py).

Needs the extra `pilvi[ray]` here, and on every node the same versions of Ray and Python; this package goes there by itself.
The cluster should be Pilvi's own: programs take no part in Ray's own accounting of what is in use.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pilvi
from pilvi.compute import Gpu, Node
from pilvi.compute.agent import Agent
from pilvi.compute.cluster import ClusterCompute, Hand, NodeLost
from pilvi.core.errors import Unavailable

_CALLS = 64
"""How many calls an agent answers at the same time; one of them waits for news."""
_START_S = 120.0


def ray_compute(address: str, isolation: str, hidden: Sequence[Path], folder: Path) -> ClusterCompute:
    """address: of the cluster's head ("10.0.0.5:6379"), "auto" for the one of this machine, "" for one that lives in this server.

    Unavailable when Ray is not installed or the cluster cannot be reached.
    """
    engine = RayEngine(address, isolation, hidden)
    return ClusterCompute(engine, folder, engine.own_address)


class RayEngine:
    def __init__(self, address: str, isolation: str, hidden: Sequence[Path]) -> None:
        # Nothing of this server goes to anybody's statistics.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError as error:
            raise Unavailable("Programs run on Ray only where it is installed: pip install 'pilvi[ray]'") from error
        self._ray = ray
        try:
            self._connect(address)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise Unavailable(f"The Ray cluster {address or 'of this server'} cannot be reached: {error}") from error
        self.own_address: str = ray.util.get_node_ip_address()
        self._arguments = (isolation, [str(path) for path in hidden])
        self._agents: dict[str, _ActorHand] = {}
        self._facts: dict[str, Mapping[str, Any]] = {}

    def _connect(self, address: str) -> None:
        options: dict[str, Any] = {"address": address} if address else {"include_dashboard": False}
        self._ray.init(
            **options,
            namespace=f"pilvi-{os.getpid()}",
            log_to_driver=False,
            logging_level="ERROR",
            configure_logging=False,
            runtime_env={"py_modules": [str(Path(pilvi.__file__).parent)]},
        )

    def hands(self) -> Mapping[str, Hand]:
        """An agent on each living node, started when the node is first seen."""
        try:
            self._facts = {_name(facts): facts for facts in self._ray.nodes() if facts["Alive"]}
        except (self._ray.exceptions.RayError, RuntimeError, OSError):
            # The head is gone; its nodes are given up one by one as their agents answer no more.
            self._facts = {}
        for name in self._agents.keys() - self._facts.keys():
            del self._agents[name]
        for name, facts in self._facts.items():
            if (known := self._agents.get(name)) is None or known.is_lost:
                self._agents[name] = self._start(facts["NodeID"])
        return dict(self._agents)

    def limits(self, name: str) -> Node | None:
        """What the node was given to Ray with."""
        if (facts := self._facts.get(name)) is None:
            return None
        resources = facts["Resources"]
        gpus = tuple(Gpu(str(number), "", 0) for number in range(int(resources.get("GPU", 0))))
        memory_mib = int(resources.get("memory", 0)) >> 20
        return Node(name, int(resources.get("CPU", 0)), memory_mib, gpus, facts["NodeManagerAddress"])

    def close(self) -> None:
        self._ray.shutdown()

    def _start(self, node_id: str) -> _ActorHand:
        strategy = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node_id, soft=False)
        actor = self._ray.remote(Agent).options(num_cpus=0, max_concurrency=_CALLS, max_restarts=0, scheduling_strategy=strategy)
        return _ActorHand(self._ray, actor.remote(*self._arguments))


class _ActorHand:
    def __init__(self, ray: Any, actor: Any) -> None:
        self._ray = ray
        self._actor = actor
        self.is_lost = False

    def call(self, method: str, *arguments: Any) -> Any:
        try:
            return self._ray.get(getattr(self._actor, method).remote(*arguments), timeout=_START_S)
        except self._ray.exceptions.RayTaskError as error:
            # What the agent itself raised.
            raise Unavailable(str(error.cause or error)) from error
        except self._ray.exceptions.RayError as error:
            self.is_lost = True
            raise NodeLost(str(error)) from error

    def send(self, method: str, *arguments: Any) -> None:
        getattr(self._actor, method).remote(*arguments)


def _name(facts: Mapping[str, Any]) -> str:
    """Nodes on one machine have one host name."""
    return f"{facts['NodeManagerHostname']}-{facts['NodeID'][:8]}"
