"""One training job as an algorithm sees it: hyperparameters, channels, hosts, where the model goes, what is told, when to stop."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from pilvi_algorithms.kit import table as tables
from pilvi_algorithms.kit.channel import Channel
from pilvi_algorithms.kit.cluster import Cluster
from pilvi_algorithms.kit.errors import ClientError
from pilvi_algorithms.kit.hyperparameter import Hyperparameter, Words, checked
from pilvi_algorithms.kit.report import Report
from pilvi_algorithms.kit.table import Table

ROOT = Path("/opt/ml")


@dataclass(frozen=True, slots=True)
class ChannelRule:
    """A channel that an algorithm reads."""

    name: str
    is_required: bool = False
    content_types: tuple[str, ...] = ()
    """What it may hold; the first is meant where the request names none."""


@dataclass(slots=True)
class Run:
    hp: dict[str, Any]
    """Every declared hyperparameter, checked."""
    channels: dict[str, Channel]
    cluster: Cluster
    report: Report
    root: Path = ROOT
    resource: Mapping[str, Any] = field(default_factory=dict)
    """resourceconfig.json"""
    is_stopping: bool = False
    """Set by SIGTERM: leave the loop, keep what there is as the model."""

    @property
    def model_dir(self) -> Path:
        return self.root / "model"

    @property
    def output_dir(self) -> Path:
        return self.root / "output" / "data"

    @property
    def checkpoint_dir(self) -> Path | None:
        """Where checkpoints go; None where the job keeps none."""
        config = read_json(self.root / "input/config/checkpointconfig.json")
        return Path(config.get("LocalPath") or self.root / "checkpoints") if config else None

    def channel(self, name: str) -> Channel | None:
        return self.channels.get(name)

    def table(self, name: str, label_size: int = 0, default_type: str = "", **more: Any) -> Table | None:
        """This host's rows of a channel, or None where the job has none of that name."""
        if (channel := self.channels.get(name)) is None:
            return None
        return channel.table(channel.content_type or default_type, label_size, **more)

    def whole_table(self, name: str, label_size: int = 0, default_type: str = "", **more: Any) -> Table | None:
        """A channel's rows of all hosts, on the first host; the other hosts get their own part.

        For algorithms that train on the first host. Every host must call it.
        """
        own = self.table(name, label_size, default_type, **more)
        if own is None or not self.cluster.is_many or not self.channels[name].is_sharded:
            return own
        parts = self.cluster.gather(own)
        return tables.joined(parts) if parts is not None else own

    def listen(self) -> None:
        signal.signal(signal.SIGTERM, self._stop)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self.is_stopping = True
        self.report.say("Received SIGTERM: stopping; what has been learned so far becomes the model.")


def started(
    root: Path,
    hyperparameters: Sequence[Hyperparameter],
    channels: Sequence[ChannelRule],
    algorithm: str,
    words: Words | None = None,
) -> Run:
    """The run that a job's files describe. Raises ClientError for hyperparameters and channels that are not the algorithm's."""
    config = root / "input/config"
    resource = read_json(config / "resourceconfig.json")
    host = resource.get("current_host") or os.environ.get("CURRENT_HOST") or "algo-1"
    report = Report(algorithm, host)
    given = read_json(config / "hyperparameters.json")
    report.say(f"Reading provided configuration from {config / 'hyperparameters.json'}: {given}")
    values = checked(hyperparameters, given, words)
    report.say(f"Final configuration: { ({name: value for name, value in values.items() if value is not None}) }")
    found = _channels(root, read_json(config / "inputdataconfig.json"), channels, words)
    cluster = Cluster(resource.get("hosts") or [host], host)
    return Run(values, found, cluster, report, root, resource)


def _channels(root: Path, given: Mapping[str, Any], rules: Sequence[ChannelRule], words: Words | None) -> dict[str, Channel]:
    is_toolkit = words is not None
    by_name = {rule.name: rule for rule in rules}
    missing = [rule.name for rule in rules if rule.is_required and rule.name not in given]
    unknown = [name for name in given if name not in by_name]
    if missing:
        raise (
            ClientError(f"Missing required channel: {missing[0]}")
            if is_toolkit
            else ClientError(
                "Unable to initialize the algorithm. Failed to validate input data configuration.",
                f"'{missing[0]}' is a required property",
                "ValidationError",
            )
        )
    if unknown:
        raise (
            ClientError(f"Extraneous channel found: {unknown[0]}")
            if is_toolkit
            else ClientError(
                "Unable to initialize the algorithm. Failed to validate input data configuration.",
                f"Additional properties are not allowed ('{unknown[0]}' was unexpected)",
                "ValidationError",
            )
        )
    found = {}
    for name, config in given.items():
        channel = Channel(
            name,
            root / "input/data" / name,
            config.get("ContentType") or "",
            config.get("TrainingInputMode") or "File",
            config.get("S3DistributionType") or "FullyReplicated",
            config.get("RecordWrapperType") == "RecordIO",
        )
        _check_content_type(channel, by_name[name])
        found[name] = channel
    return found


def _check_content_type(channel: Channel, rule: ChannelRule) -> None:
    allowed = rule.content_types
    if not allowed:
        return
    if not channel.content_type:
        channel.content_type = allowed[0]
    elif channel.kind.name not in allowed:
        raise ClientError(
            "Unable to initialize the algorithm. Failed to validate input data configuration.",
            f"'{channel.content_type}' is not one of {list(allowed)} in channel '{channel.name}'",
            "ValidationError",
        )


def read_json(path: Path) -> dict[str, Any]:
    """A configuration file, {} where there is none."""
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    return found if isinstance(found, dict) else {}
