"""Where jobs run, by the setting `--compute`: local, or `engine:where` for a cluster; and where facts wait, by `--events`.

The one list of compute adapters, and of event logs.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

from pilvi.compute import Compute
from pilvi.core.clock import Clock
from pilvi.core.config import Config
from pilvi.core.errors import Invalid
from pilvi.core.ids import Ids
from pilvi.events import Log
from pilvi.events.embedded import EmbeddedLog
from pilvi.storage.records import Records
from pilvi.storage.sealed import Keyring


def job_compute(config: Config, local: Compute) -> Compute:
    """The adapter. Invalid for a word that is none; Unavailable when the engine is not installed or cannot be reached."""
    kind, _, where = config.compute.partition(":")
    if kind == "local":
        return local
    if (make := PLACES.get(kind)) is None:
        raise Invalid(f"--compute {config.compute}: jobs run on {', '.join(('local', *PLACES))}.")
    return make(config, where)


def event_log(config: Config, store: Records, clock: Clock, ids: Ids, keyring: Keyring) -> Log:
    """The adapter. Invalid for an address that is none; a server that is away is no error, as facts wait in the store then."""
    if not config.events:
        return EmbeddedLog(store, clock, ids)
    from pilvi.events.nats import NatsLog
    from pilvi.events.nats_stream import Place

    place = Place.parse(config.events)
    if importlib.util.find_spec("nats") is None:
        raise Invalid("--events nats://... needs its client: pip install 'pilvi[nats]'")
    return NatsLog(place, store, clock, ids, keyring)


def _ray(config: Config, where: str) -> Compute:
    from pilvi.compute.ray import ray_compute

    return ray_compute(where, config.isolation, (config.data_dir,), config.data_dir)


def _kubernetes(config: Config, where: str) -> Compute:
    from pilvi.compute.kubernetes import kubernetes_compute

    if config.host in ("127.0.0.1", "localhost", "::1"):
        raise Invalid("--compute kubernetes: pods reach this server over the network; give it an address with --host.")
    return kubernetes_compute(where, config.data_dir)


def _slurm(config: Config, where: str) -> Compute:
    from pilvi.compute.slurm import SlurmCompute

    return SlurmCompute(where, config.isolation, (config.data_dir,), config.data_dir)


def _podman(config: Config, where: str) -> Compute:
    from pilvi.compute.podman import PodmanCompute

    return PodmanCompute(config.isolation, (config.data_dir,), config.data_dir, where or "podman")


PLACES: dict[str, Callable[[Config, str], Compute]] = {
    "ray": _ray,
    "kubernetes": _kubernetes,
    "slurm": _slurm,
    "podman": _podman,
}
