"""`make soak`: a mixed load on one server that is killed again and again; then every acknowledged write is looked for, byte by byte.

    SOAK_MINUTES (10)   how long         SOAK_ROUND_S (60)   seconds from start to kill -9         SOAK_GIB (0)   one object as large as this

Each worker owns its keys, so it knows what must be there: the last acknowledged state of a key, or, where the server died in the
middle of a request, that one or the one before. Versions are known by their ids. Anything else is lost or corrupt.
"""

from __future__ import annotations

import hashlib
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import botocore.exceptions
from botocore.config import Config

from pilvi.cli.scrub import lines
from pilvi.testing.server import Account
from pilvi.testing.up import Up

WORKERS = 6
KEYS = 60
VERSIONS = 20
PART = 5 << 20
BUCKET, VERSIONED = "soak", "soak-versions"
GONE = "gone"
CUT = (botocore.exceptions.BotoCoreError, ConnectionError)
"""What a client sees of a server that died."""
CONFIG = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=60, proxies={})


def sum_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass
class Known:
    """What one worker may expect: the sums a key may have (GONE: none), and of each version its sum."""

    keys: dict[str, set[str]] = field(default_factory=dict)
    versions: dict[tuple[str, str], str] = field(default_factory=dict)
    removed: dict[tuple[str, str], str] = field(default_factory=dict)
    """Versions whose removal was not answered: there whole, or gone."""


@dataclass
class Tally:
    operations: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    corrupt: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    rss_mib: list[float] = field(default_factory=list)
    acknowledged: int = 0
    bytes: int = 0


class Worker:
    def __init__(self, number: int, tally: Tally) -> None:
        self.number = number
        self.tally = tally
        self.known = Known()
        self.chance = random.Random(number)
        self.s3: Any = None

    def run(self, account: Account, ends: threading.Event) -> None:
        """Until the server dies or it is enough."""
        self.s3 = account.client("s3", config=CONFIG)
        choices = [(self.put, 6), (self.put_large, 3), (self.multipart, 1), (self.get, 6), (self.copy, 2), (self.delete, 2)]
        choices += [(self.list, 1), (self.put_version, 3), (self.get_version, 2), (self.delete_version, 1)]
        steps = [step for step, weight in choices for _ in range(weight)]
        while not ends.is_set():
            step: Callable[[], None] = self.chance.choice(steps)
            try:
                step()
            except CUT:
                return
            except botocore.exceptions.ClientError as error:
                if ends.is_set():
                    return
                self.tally.errors.append(f"{step.__name__}: {error}")
            self.tally.operations[step.__name__] += 1

    # -- writing ------------------------------------------------------------------------------------------------------

    def put(self) -> None:
        self.write(self.chance.randbytes(self.chance.randrange(30_000)))

    def put_large(self) -> None:
        self.write(self.chance.randbytes(40_000 + self.chance.randrange(3 << 20)))

    def write(self, data: bytes) -> None:
        key = self.any_key()
        self.change(key, sum_of(data), lambda: self.s3.put_object(Bucket=BUCKET, Key=key, Body=data))
        self.tally.bytes += len(data)

    def multipart(self) -> None:
        key = self.any_key()
        parts = [self.chance.randbytes(PART), self.chance.randbytes(1 + self.chance.randrange(PART))]
        target = {"Bucket": BUCKET, "Key": key}

        def upload() -> None:
            target["UploadId"] = self.s3.create_multipart_upload(**target)["UploadId"]
            done = []
            for number, part in enumerate(parts, 1):
                etag = self.s3.upload_part(**target, PartNumber=number, Body=part)["ETag"]
                done.append({"PartNumber": number, "ETag": etag})
            self.s3.complete_multipart_upload(**target, MultipartUpload={"Parts": done})

        self.change(key, sum_of(b"".join(parts)), upload)
        self.tally.bytes += sum(map(len, parts))

    def copy(self) -> None:
        source, key = self.some_key(), self.any_key()
        if source is not None and source != key:
            (sum_,) = self.known.keys[source]
            self.change(
                key, sum_, lambda: self.s3.copy_object(Bucket=BUCKET, Key=key, CopySource={"Bucket": BUCKET, "Key": source})
            )

    def delete(self) -> None:
        key = self.any_key()
        self.change(key, GONE, lambda: self.s3.delete_object(Bucket=BUCKET, Key=key))

    def put_version(self) -> None:
        key, data = self.any_key(), self.chance.randbytes(self.chance.randrange(200_000))
        version = self.s3.put_object(Bucket=VERSIONED, Key=key, Body=data)["VersionId"]
        self.known.versions[key, version] = sum_of(data)
        self.tally.acknowledged += 1
        self.tally.bytes += len(data)
        if len(self.known.versions) > VERSIONS * 10:
            self.delete_version()

    def delete_version(self) -> None:
        if self.known.versions:
            key, version = self.chance.choice(list(self.known.versions))
            self.known.removed[key, version] = self.known.versions.pop((key, version))
            self.s3.delete_object(Bucket=VERSIONED, Key=key, VersionId=version)
            del self.known.removed[key, version]
            self.tally.acknowledged += 1

    def change(self, key: str, sum_: str, step: Callable[[], object]) -> None:
        """Until it is answered, the key may be either."""
        before = self.known.keys.get(key, {GONE})
        self.known.keys[key] = before | {sum_}
        step()
        self.known.keys[key] = {sum_}
        self.tally.acknowledged += 1

    # -- looking ------------------------------------------------------------------------------------------------------

    def get(self) -> None:
        key = self.some_key()
        if key is not None:
            self.look(key)

    def get_version(self) -> None:
        if self.known.versions:
            self.look_at_version(*self.chance.choice(list(self.known.versions)))

    def list(self) -> None:
        pages = self.s3.get_paginator("list_objects_v2").paginate(
            Bucket=BUCKET, Prefix=f"{self.number}/", PaginationConfig={"PageSize": 25}
        )
        found = {entry["Key"] for page in pages for entry in page.get("Contents", ())}
        for key, sums in self.known.keys.items():
            if GONE not in sums and key not in found:
                self.tally.lost.append(f"{key} is not listed")
            if sums == {GONE} and key in found:
                self.tally.corrupt.append(f"{key} is listed, and was deleted")

    def look(self, key: str) -> None:
        allowed = self.known.keys[key]
        found = self.sum_in_store(Bucket=BUCKET, Key=key)
        if found not in allowed:
            (self.tally.lost if found == GONE else self.tally.corrupt).append(key)
        self.known.keys[key] = {found}

    def look_at_version(self, key: str, version: str) -> None:
        found = self.sum_in_store(Bucket=VERSIONED, Key=key, VersionId=version)
        if found != self.known.versions[key, version]:
            (self.tally.lost if found == GONE else self.tally.corrupt).append(f"{key} {version}")

    def verify(self, account: Account, *, everything: bool) -> None:
        """After a restart: what was in doubt, and some of the rest or all of it."""
        self.s3 = account.client("s3", config=CONFIG)
        for key, sums in list(self.known.keys.items()):
            if everything or len(sums) > 1 or self.chance.random() < 0.2:
                self.look(key)
        for (key, version), sum_ in list(self.known.removed.items()):
            if self.sum_in_store(Bucket=VERSIONED, Key=key, VersionId=version) not in (GONE, sum_):
                self.tally.corrupt.append(f"{key} {version}")
            del self.known.removed[key, version]
        for key, version in list(self.known.versions):
            if everything or self.chance.random() < 0.1:
                self.look_at_version(key, version)
        self.list()

    def sum_in_store(self, **target: str) -> str:
        try:
            body = self.s3.get_object(**target)["Body"]
        except self.s3.exceptions.ClientError as error:
            if error.response["Error"]["Code"] in ("NoSuchKey", "NoSuchVersion"):
                return GONE
            self.tally.errors.append(f"{target}: {error}")
            return "an error"
        return sum_of(body.read())

    def any_key(self) -> str:
        return f"{self.number}/{self.chance.randrange(KEYS):03}"

    def some_key(self) -> str | None:
        """One whose content is certain."""
        certain = [key for key, sums in self.known.keys.items() if len(sums) == 1 and GONE not in sums]
        return self.chance.choice(certain) if certain else None


def soak(folder: Path, seconds: float, round_s: float, say: Callable[[str], None], *options: str, large_gib: float = 0.0) -> Tally:
    """The whole story; `options` go to `pilvi up`."""
    tally = Tally()
    workers = [Worker(number, tally) for number in range(WORKERS)]
    chance = random.Random(1)
    say(
        f"{'round':>5} {'acknowledged':>12} {'MiB':>8} {'RSS MiB':>8} {'in doubt':>8} {'lost':>5} {'corrupt':>7} {'errors':>6} {'start s':>8}"
    )
    begun, number = time.monotonic(), 0
    while time.monotonic() - begun < seconds:
        number += 1
        up, start_s = started(folder, *options)
        if number == 1:
            s3 = up.root.client("s3", config=CONFIG)
            for bucket in (BUCKET, VERSIONED):
                s3.create_bucket(Bucket=bucket)
            s3.put_bucket_versioning(Bucket=VERSIONED, VersioningConfiguration={"Status": "Enabled"})
            if large_gib:
                put_large_object(s3, large_gib, say)
        in_doubt = sum(len(sums) > 1 for worker in workers for sums in worker.known.keys.values())
        together(lambda worker, up=up: worker.verify(up.root, everything=False), workers)  # type: ignore[misc]
        ends = threading.Event()
        running = [threading.Thread(target=worker.run, args=(up.root, ends)) for worker in workers]
        for thread in running:
            thread.start()
        time.sleep(round_s * (0.7 + 0.3 * chance.random()))
        tally.rss_mib.append(rss_mib(up.process.pid))
        up.kill()
        ends.set()
        for thread in running:
            thread.join()
        say(
            f"{number:>5} {tally.acknowledged:>12,} {tally.bytes >> 20:>8,} {tally.rss_mib[-1]:>8.1f} {in_doubt:>8}"
            f" {len(tally.lost):>5} {len(tally.corrupt):>7} {len(tally.errors):>6} {start_s:>8.2f}"
        )
    up, _ = started(folder, *options)
    together(lambda worker: worker.verify(up.root, everything=True), workers)
    if large_gib:
        check_large_object(up.root.client("s3", config=CONFIG), large_gib)
    from pilvi.cli.clock import ask

    scrubbed = ask(folder, "POST", b"", "/_pilvi/scrub")
    say("\n".join(lines(scrubbed)))
    if scrubbed["damaged"]:
        tally.corrupt += scrubbed["names"]
    up.stop()
    return tally


def started(folder: Path, *options: str) -> tuple[Up, float]:
    begun = time.monotonic()
    up = Up(folder, *options)
    return up, time.monotonic() - begun


def together(step: Callable[[Worker], None], workers: list[Worker]) -> None:
    failures: list[BaseException] = []

    def work(worker: Worker) -> None:
        try:
            step(worker)
        except BaseException as error:  # noqa: BLE001 - raised below, by the thread that waits
            failures.append(error)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def rss_mib(pid: int) -> float:
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


PIECE = 64 << 20


def piece_of(number: int) -> bytes:
    return random.Random(number).randbytes(1 << 20) * (PIECE >> 20)


def put_large_object(s3: Any, gib: float, say: Callable[[str], None]) -> None:
    begun = time.monotonic()
    target = {"Bucket": BUCKET, "Key": "large"}
    upload = target | {"UploadId": s3.create_multipart_upload(**target)["UploadId"]}
    parts = []
    for number in range(1, int(gib * (1 << 30)) // PIECE + 1):
        etag = s3.upload_part(**upload, PartNumber=number, Body=piece_of(number))["ETag"]
        parts.append({"PartNumber": number, "ETag": etag})
    s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    say(f"an object of {gib:g} GiB in {time.monotonic() - begun:.0f} s")


def check_large_object(s3: Any, gib: float) -> None:
    body = s3.get_object(Bucket=BUCKET, Key="large")["Body"]
    for number in range(1, int(gib * (1 << 30)) // PIECE + 1):
        if body.read(PIECE) != piece_of(number):
            raise AssertionError(f"part {number} of the large object is not what was sent")


def is_flat(rss: list[float]) -> bool:
    """Whether later rounds need no more memory than the first ones."""
    third = max(1, len(rss) // 3)
    return sum(rss[-third:]) / third <= 1.15 * sum(rss[:third]) / third + 5


def main() -> int:
    minutes = float(os.environ.get("SOAK_MINUTES", "10"))
    round_s = float(os.environ.get("SOAK_ROUND_S", "60"))
    with tempfile.TemporaryDirectory(prefix="pilvi-soak-") as folder:
        tally = soak(
            Path(folder) / "data",
            minutes * 60,
            round_s,
            lambda line: print(line, flush=True),
            *sys.argv[1:],
            large_gib=float(os.environ.get("SOAK_GIB", "0")),
        )
    print("  ".join(f"{name} {count:,}" for name, count in sorted(tally.operations.items())))
    for title, found in (("lost", tally.lost), ("corrupt", tally.corrupt), ("errors", tally.errors)):
        for line in found[:20]:
            print(f"{title}: {line}")
    flat = is_flat(tally.rss_mib)
    print(f"{tally.acknowledged:,} acknowledged writes, {len(tally.lost)} lost, {len(tally.corrupt)} corrupt; ", end="")
    print(f"memory {min(tally.rss_mib):.0f} to {max(tally.rss_mib):.0f} MiB, {'flat' if flat else 'GROWING'}")
    return 0 if flat and not (tally.lost or tally.corrupt or tally.errors) else 1


if __name__ == "__main__":
    sys.exit(main())
