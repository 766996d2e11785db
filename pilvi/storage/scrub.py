"""The scrubber: reads everything that is kept, from end to end, finds what is not as it was written, and mends what it can.

    large bytes     every copy in every mirror; a bad one is replaced by a good one
    small bytes     those the keyring sealed; a bad one is replaced by a good one of another copy of the metadata
    metadata        the file and its copies, page by page and index by index

Without mirrors there is nothing to mend from; damage is then reported, and reading what is damaged goes on being refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from pilvi.core.errors import Invalid, NotFound, Unavailable
from pilvi.storage.blobs.mirrored import Checked, MirroredBlobs
from pilvi.storage.keyring import OVERHEAD_BYTES, Keyring
from pilvi.storage.records import PutBody, Records, Row, Table
from pilvi.storage.sealed import AtRest

SHOWN = 100
"""So many damaged things are named; all are counted."""
_BY_KEYRING = b"\x01"


class Duplicated(Protocol):
    """Metadata that can be asked for damage, and for what its copies hold."""

    def damage(self) -> list[str]: ...

    def other_bodies(self, name: str) -> Iterator[bytes]: ...


@dataclass
class Report:
    """What a run found."""

    blobs: int = 0
    bodies: int = 0
    bytes: int = 0
    damaged: int = 0
    mended: int = 0
    lost: int = 0
    """Without any good copy."""
    names: list[str] = field(default_factory=list)
    """Of what was damaged: what it is, and where."""
    is_whole: bool = True
    """Whether everything is good now, in all its copies."""

    def facts(self) -> dict[str, Any]:
        return asdict(self)

    def add(self, what: str, *, is_mended: bool, is_lost: bool) -> None:
        self.damaged += 1
        self.mended += is_mended
        self.lost += is_lost
        self.is_whole = self.is_whole and is_mended
        if len(self.names) < SHOWN:
            self.names.append(f"{what}: {'mended' if is_mended else 'lost' if is_lost else 'not mended'}")


def scrub(store: Records, blobs: AtRest, keyring: Keyring, is_closing: Callable[[], bool]) -> Report:
    """One run over everything. Stops early when the server closes. For threads."""
    report = Report()
    for name in store.body_names(blobs_only=True):
        if is_closing():
            return report
        check_blob(store, blobs, name, report)
    for name in store.body_names():
        if is_closing():
            return report
        check_body(store, keyring, name, report)
    damage = getattr(store, "damage", None)
    if damage is not None:
        for what in damage():
            report.add(f"metadata {what}", is_mended=False, is_lost=False)
    return report


def fill_mirrors(store: Records, blobs: MirroredBlobs, is_closing: Callable[[], bool]) -> int:
    """Give every folder the blobs that it lacks, after one was added or lost; gives their number."""
    filled = 0
    for name in store.body_names(blobs_only=True):
        if is_closing():
            break
        sizes = blobs.sizes(name)
        if min(sizes.values(), default=0) != max(sizes.values(), default=0):
            filled += blobs.check_copies(name).is_whole
    return filled


def check_blob(store: Records, blobs: AtRest, name: str, report: Report) -> None:
    result = blobs.check_copies(name) if isinstance(blobs, MirroredBlobs) else _check_one(blobs, name)
    if result.damaged and not is_claimed(store, name):
        return  # deleted in the meantime
    report.blobs += 1
    if not result.is_lost:
        report.bytes += blobs.size(name)
    for place in result.damaged:
        report.add(f"blob {name}{' in ' + place if place else ''}", is_mended=result.is_whole, is_lost=result.is_lost)


def _check_one(blobs: AtRest, name: str) -> Checked:
    try:
        blobs.check(name)
    except (NotFound, Unavailable, OSError):
        return Checked(("",), False, True)
    return Checked((), True, False)


def check_body(store: Records, keyring: Keyring, name: str, report: Report) -> None:
    """Small bytes that the keyring sealed under their own name; others have no seal to look at, or keys of their own."""
    try:
        data = store.body(name)
    except NotFound:
        return
    if data is None or data[:1] != _BY_KEYRING or len(data) < OVERHEAD_BYTES:
        return
    report.bodies += 1
    report.bytes += len(data) - OVERHEAD_BYTES
    if _opens(keyring, data, name):
        return
    others = getattr(store, "other_bodies", None)
    good = next((other for other in others(name) if _opens(keyring, other, name)), None) if others is not None else None
    if not is_claimed(store, name):
        return
    if good is not None:
        store.write(PutBody(name, good))
    report.add(f"small bytes {name}", is_mended=good is not None, is_lost=good is None)


def _opens(keyring: Keyring, data: bytes, name: str) -> bool:
    try:
        keyring.unseal(data, name.encode())
    except Invalid:
        return False
    return True


def is_claimed(store: Records, name: str) -> bool:
    try:
        store.body(name)
    except NotFound:
        return False
    return True


def owners_of(rows: Iterator[tuple[Table, Row]], names: set[str]) -> dict[str, str]:
    """Which rows name these bytes: name -> where. Walks everything it is given; for when there is damage."""
    found: dict[str, str] = {}
    for table, row in rows:
        for name in names.intersection(_words(row.value)):
            found[name] = f"{table.noun}/{row.id}"
    return found


def _words(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for member in value.values():
            yield from _words(member)
    elif isinstance(value, (list, tuple)):
        for member in value:
            yield from _words(member)
