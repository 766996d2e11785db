"""Spark's settings for one job: what the machine gives, then what the job's configuration.json says, then the command line.

configuration.json is the EMR form that PySparkProcessor takes: [{"Classification": "spark-defaults", "Properties": {...}}, ...].
Source: Amazon EMR Release Guide, "Configure applications".
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CONFIGURATION = Path("/opt/ml/processing/input/conf/configuration.json")
MEMORY = "PILVI_MEMORY_MIB"
"""Memory that the job's host may use, as the server tells it."""

_HADOOP = ("core-site", "hdfs-site", "mapred-site", "hive-site", "spark-hive-site")
_SPARK = ("spark", "spark-defaults")
_NO_EFFECT = ("yarn-site", "yarn-env", "capacity-scheduler", "hadoop-env", "hadoop-log4j", "spark-log4j", "spark-metrics")
_SMALLEST_MIB = 512


@dataclass
class Settings:
    """spark: names that begin with spark.; environment: variables for every program of Spark's."""

    spark: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    """What of the configuration does nothing here."""

    @property
    def arguments(self) -> list[str]:
        return [part for name, value in sorted(self.spark.items()) for part in ("--conf", f"{name}={value}")]


def settings(configuration: Any, hosts: int, memory_mib: int, cores: int) -> Settings:
    """All of them. configuration: the file's content, or None."""
    found = Settings(_of_machine(hosts, memory_mib, cores))
    for entry in _entries(configuration):
        _add(found, entry)
    return found


def configuration_in(path: Path = CONFIGURATION) -> Any:
    return json.loads(path.read_text()) if path.is_file() else None


def memory_mib() -> int:
    """What this host may use; without a word from the server, half of the machine."""
    if told := os.environ.get(MEMORY):
        return int(told)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2 >> 20


def cores() -> int:
    return len(os.sched_getaffinity(0))


def _of_machine(hosts: int, memory_mib: int, cores: int) -> dict[str, str]:
    """One host is the driver alone; of several each has an executor, and the first the driver too. The rest is for Python's workers."""
    if hosts == 1:
        return {"spark.master": f"local[{cores}]", "spark.driver.memory": f"{max(_SMALLEST_MIB, memory_mib * 6 // 10)}m"}
    share = max(_SMALLEST_MIB, memory_mib * 3 // 10)
    return {"spark.driver.memory": f"{share}m", "spark.executor.memory": f"{share}m", "spark.executor.cores": str(cores)}


def _entries(configuration: Any) -> Iterator[Mapping[str, Any]]:
    if configuration is None:
        return
    for entry in [configuration] if isinstance(configuration, Mapping) else configuration:
        yield entry
        for inner in entry.get("Configurations") or ():
            yield {**inner, "Classification": f"{entry.get('Classification')}/{inner.get('Classification')}"}


def _add(found: Settings, entry: Mapping[str, Any]) -> None:
    name, properties = str(entry.get("Classification")), entry.get("Properties") or {}
    if name in _SPARK:
        # "spark" is EMR's own: maximizeResourceAllocation. What begins with spark. is Spark's.
        found.spark |= {key: str(value) for key, value in properties.items() if key.startswith("spark.")}
    elif name in _HADOOP:
        found.spark |= {f"spark.hadoop.{key}": str(value) for key, value in properties.items()}
    elif name == "spark-env/export":
        found.environment |= {key: str(value) for key, value in properties.items()}
    elif name in _NO_EFFECT and properties:
        found.notes.append(f"The classification {name} has no effect here: Spark runs without YARN, and logs to the job's log.")
    elif properties and name not in ("spark-env",):
        found.notes.append(f"The classification {name} is not known.")
