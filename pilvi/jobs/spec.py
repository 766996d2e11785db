"""What a job is: pure data that a service writes down and the runner carries out. Knows no kind of job by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Input:
    """Objects of S3 that the program gets: as files before it starts, or as a stream while it runs."""

    path: str
    """Folder inside the job, below `JobSpec.root`; the stem of the FIFOs' names for a pipe."""
    uri: str
    """s3://bucket/prefix, or the manifest's own address."""
    kind: Literal["prefix", "manifest", "augmented"] = "prefix"
    """augmented: the objects are the lines of a JSON Lines manifest, `attributes` of each in turn."""
    is_gzipped: bool = False
    """Objects are unpacked on the way; a name's ending .gz goes."""
    shard: tuple[int, int] | None = None
    """(which, of how many): every n-th object only."""
    is_optional: bool = False
    """Nothing there is fine (checkpoints of an earlier run)."""
    is_sharded: bool = False
    """Each member gets its share of the objects, by key: disjoint, and together all."""
    mode: Literal["file", "pipe"] = "file"
    record_wrapper: Literal["", "recordio"] = ""
    """recordio: each object (or attribute) is framed as one record. For pipes."""
    attributes: tuple[str, ...] = ()
    shuffle_seed: int | None = None
    """Objects come in an order of chance that this number fixes; in a pipe in a new one each epoch."""
    members: tuple[str, ...] = ()
    """Host names of the members that get it; () is all."""


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
    mode: Literal["end", "continuous"] = "end"
    """continuous: new and changed files go to S3 while the program runs, too."""
    kms_key: str = ""
    """The KMS key that seals it in S3; '' leaves that to the bucket."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What one member needs of the machine. 0 is: no particular wish."""

    cpus: float = 0
    memory_mib: int = 0
    gpus: int = 0
    gpu_memory_mib: int = 0
    """Of each GPU: several jobs share one that has more."""
    label: str = ""
    """What the wish is called where it comes from (an instance type), for words in logs."""
    extra: str = ""
    """What else belongs to it and is never had here, in words."""


@dataclass(frozen=True, slots=True)
class Member:
    """One host of a job: a process of its own, with its own root folder, address and log."""

    hostname: str
    env: Mapping[str, str] = field(default_factory=dict)
    """On top of the job's."""
    files: Mapping[str, str] = field(default_factory=dict)
    """On top of the job's."""
    log_stream: str = ""
    resources: Resources | None = None
    """Where it needs other things than the job's other members (instance groups)."""


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
    also_runtimes: tuple[str, ...] = ()
    """Further environments that it sees; PILVI_PYTHON_<name> tells their interpreters."""
    image: str = ""
    """The user's own image, instead of a runtime: its reference in ECR, read under the role."""
    replaces_entry: bool = False
    """For an image: the command stands instead of the image's own entry point, not behind it."""
    root: str = "/opt/ml"
    """Where the job's own folder appears inside."""
    cwd: str = "/"
    env: Mapping[str, str] = field(default_factory=dict)
    open_env: Mapping[str, str] = field(default_factory=dict)
    """Further environment where the machine can give the job no names and paths of its own."""
    told_to: str = ""
    """The consumer (pilvi.events) that hears of each change of its state, with the record as it is then."""
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
    members: tuple[Member, ...] = ()
    """The hosts of a job on several of them; () is one, of `hostname` and `log_stream`."""
    resources: Resources = Resources()
    """What each member needs."""
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
    """The most memory of a member, where it is not its reservation."""
    disk_mib: int | None = None
    """The most that a member may keep in its folders."""
    notes: tuple[str, ...] = ()
    """Lines for each host's log, before the program's: what its owner should know of how it runs here."""
    max_runtime_s: int | None = None
    max_wait_s: int | None = None
    """The longest from its creation to its end, waiting and interruptions included."""
    max_pending_s: int | None = None
    """The longest it may wait for its first turn; then it is stopped."""
    grace_s: int = 120
    is_interruptible: bool = False
    """May be interrupted by `Jobs.interrupt`, and runs again from the start (of its checkpoints) then and after a lost server."""
    pool_key: str = ""
    """Jobs with the same one may take over each other's warm pool; '' has none."""
    keep_alive_s: int = 0
    """How long its place is kept for such a job when it has ended."""
    restarts: int = 0
    """How many times it runs again after a failure that is not its own."""
    product: str = ""
    """The product whose bill it is on, by AWS's code; '' is on none."""
    usage: str = ""
    """What the time of its instances is called there: `Train`."""
    billed_share: float = 1
    """What a second on its instances counts there."""

    @property
    def all_members(self) -> tuple[Member, ...]:
        return self.members or (Member(self.hostname, log_stream=self.log_stream),)


def spec_to_record(spec: JobSpec) -> dict[str, Any]:
    return asdict(spec)


def spec_from_record(record: Mapping[str, Any]) -> JobSpec:
    """The spec again; members a newer server added take their defaults, those of a newer server are left out."""
    values = _known(JobSpec, record)
    values["command"] = tuple(values["command"])
    for name in ("folders", "notes", "also_runtimes"):
        values[name] = tuple(values.get(name, ()))
    values["metrics"] = tuple((name, regex) for name, regex in values.get("metrics", ()))
    values["inputs"] = tuple(_input(entry) for entry in values["inputs"])
    values["outputs"] = tuple(Output(**{**_known(Output, entry), "after": tuple(entry["after"])}) for entry in values["outputs"])
    values["members"] = tuple(_member(entry) for entry in values.get("members", ()))
    values["resources"] = Resources(**_known(Resources, values.get("resources", {})))
    return JobSpec(**values)


def _input(record: Mapping[str, Any]) -> Input:
    values = _known(Input, record)
    values["shard"] = values["shard"] and tuple(values["shard"])
    for name in ("attributes", "members"):
        values[name] = tuple(values.get(name, ()))
    return Input(**values)


def _member(record: Mapping[str, Any]) -> Member:
    values = _known(Member, record)
    if (resources := values.get("resources")) is not None:
        values["resources"] = Resources(**_known(Resources, resources))
    return Member(**values)


def _known(kind: Any, record: Mapping[str, Any]) -> dict[str, Any]:
    names = {member.name for member in fields(kind)}
    return {name: value for name, value in record.items() if name in names}
