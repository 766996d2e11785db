"""What a job is: pure data that a service writes down and the runner carries out. Knows no kind of job by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Input:
    """Objects of S3 to be put into a folder before the program starts."""

    path: str
    """Folder inside the job, below `JobSpec.root`."""
    uri: str
    """s3://bucket/prefix, or the manifest's own address."""
    kind: Literal["prefix", "manifest"] = "prefix"
    is_gzipped: bool = False
    """Objects are unpacked on the way; a name's ending .gz goes."""
    shard: tuple[int, int] | None = None
    """(which, of how many): every n-th object only."""
    is_optional: bool = False
    """Nothing there is fine (checkpoints of an earlier run)."""


@dataclass(frozen=True, slots=True)
class Output:
    """A folder to be brought to S3 when the program has ended."""

    path: str
    uri: str
    """s3://bucket/key of the archive, or the prefix that single files go below."""
    archive: Literal["tar.gz", "none"] = "none"
    after: tuple[str, ...] = ("Completed", "Stopped", "TimedOut")
    """The outcomes that bring it; Failed may be one."""
    if_empty: bool = False
    """Whether an archive of nothing is brought too."""


@dataclass(frozen=True, slots=True)
class JobSpec:
    """One job."""

    id: str
    """Never used twice; also the name of its work folder."""
    kind: str
    """training, processing, ...: only told, never looked at."""
    name: str
    account: str
    region: str
    service: str
    """The service the job belongs to, as botocore names it."""
    principal: str
    """The DNS name the service acts under: sagemaker.amazonaws.com."""
    arn: str
    """The resource on whose behalf the job runs."""
    role_arn: str
    """The role that reads, writes, and gives the program its credentials."""
    session_name: str
    runtime: str
    """The environment it runs in; '' for the bare interpreter."""
    command: tuple[str, ...]
    root: str = "/opt/ml"
    """Where the job's own folder appears inside."""
    cwd: str = "/"
    env: Mapping[str, str] = field(default_factory=dict)
    open_env: Mapping[str, str] = field(default_factory=dict)
    """Further environment where the machine can give the job no names and paths of its own."""
    support: str = ""
    """A package of pilvi.runtimes shown below /opt/pilvi and put on PYTHONPATH: programs of ours that run beside the user's."""
    folders: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    """Path inside -> text."""
    inputs: tuple[Input, ...] = ()
    outputs: tuple[Output, ...] = ()
    failure_file: str = ""
    """Where a program may leave words about its failure."""
    hostname: str = "localhost"
    hosts: Mapping[str, str] = field(default_factory=dict)
    log_group: str = ""
    log_stream: str = ""
    """`{started}` stands for the second in which the program starts."""
    metrics: tuple[tuple[str, str], ...] = ()
    """(name, regular expression whose first group is a number)"""
    metric_namespace: str = ""
    metric_dimensions: Mapping[str, str] = field(default_factory=dict)
    network: bool = True
    """False: the program reaches nothing but itself, and gets no credentials."""
    memory_mib: int | None = None
    max_runtime_s: int | None = None
    grace_s: int = 120


def spec_to_record(spec: JobSpec) -> dict[str, Any]:
    return asdict(spec)


def spec_from_record(record: Mapping[str, Any]) -> JobSpec:
    """The spec again; members a newer server added take their defaults."""
    known = {member.name for member in fields(JobSpec)}
    values = {name: value for name, value in record.items() if name in known}
    values["command"] = tuple(values["command"])
    values["folders"] = tuple(values.get("folders", ()))
    values["metrics"] = tuple((name, regex) for name, regex in values.get("metrics", ()))
    values["inputs"] = tuple(Input(**{**entry, "shard": entry["shard"] and tuple(entry["shard"])}) for entry in values["inputs"])
    values["outputs"] = tuple(Output(**{**entry, "after": tuple(entry["after"])}) for entry in values["outputs"])
    return JobSpec(**values)
