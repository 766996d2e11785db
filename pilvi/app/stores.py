"""Which stores a server stands on, by its settings: files, mirrors, PostgreSQL, a shared folder, an S3-compatible cluster."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pilvi.app.servers import check_keys
from pilvi.core.clock import SystemClock
from pilvi.core.config import Config, blobs_credentials
from pilvi.core.errors import Invalid, NotFound, Unavailable
from pilvi.storage.blobs import Blobs
from pilvi.storage.blobs.deferred import DeferredBlobs
from pilvi.storage.blobs.files import FileBlobs
from pilvi.storage.blobs.mirrored import Copies, MirroredBlobs
from pilvi.storage.durable import sync_folder
from pilvi.storage.plain import MARKS
from pilvi.storage.records import Records
from pilvi.storage.records.sqlite import SqliteRecords
from pilvi.storage.sealed import AtRest, Keyring, PlainBlobs, SealedBlobs

log = logging.getLogger("pilvi.storage")

KEYS = Path("keys") / "master.key"
RECORDS = "records.sqlite"
BLOBS = "blobs"


@dataclass
class Stores:
    keyring: Keyring
    records: Records
    blobs: AtRest
    lost: dict[str, str] = field(default_factory=dict)
    """Mirrors that are not kept up to date any more, and why."""
    deferred: DeferredBlobs | None = None
    """Where other servers share the blobs."""

    @property
    def mirror(self) -> MirroredBlobs | None:
        return self.blobs if isinstance(self.blobs, MirroredBlobs) else None


def open_stores(config: Config, *, is_first: bool) -> Stores:
    """is_first: the process that writes; the others of one server only read."""
    check(config)
    lost: dict[str, str] = {}
    mirrors = usable(config.mirror_dirs, lost) if is_first else list(config.mirror_dirs)
    keyring = open_keyring(config, mirrors) if is_first else Keyring(key_file(config))
    records = open_records(config, mirrors if is_first else None, lost)
    dress = dressing(config, keyring)
    if config.is_shared:
        try:
            check_keys(records, keyring)
            deferred = DeferredBlobs(raw_blobs(config), records, SystemClock().real_s)
        except BaseException:
            records.close()
            raise
        return Stores(keyring, records, dress(deferred), lost, deferred)
    if not mirrors:
        return Stores(keyring, records, dress(raw_blobs(config)), lost)
    folders = [FileBlobs(folder / BLOBS) for folder in (config.data_dir, *mirrors)]
    copies = Copies(folders, [str(config.data_dir), *map(str, mirrors)], lambda _: None)
    if is_first:
        for folder in folders:
            folder.clear_drafts()
    stores = Stores(keyring, records, MirroredBlobs(copies, dress, lambda name: is_claimed(records, name)), lost)
    copies.on_lost = lambda number: lost.update({copies.titles[number]: copies.lost[number]})
    return stores


def check(config: Config) -> None:
    """Invalid for settings that do not go together."""
    if config.mirrors and (config.records or config.blobs):
        raise Invalid("--mirror keeps copies of this server's own files; with --records or --blobs those stores keep theirs.")
    if config.records and not config.records.startswith(("postgresql://", "postgres://")):
        raise Invalid(f"--records {config.records}: metadata is kept in the data directory, or in postgresql://...")
    if config.records and not config.blobs:
        raise Invalid("--records: servers that share their metadata share their objects too; say where with --blobs.")
    if config.records and config.workers > 1:
        raise Invalid("--records: start more servers instead of --workers.")
    directories = [config.data_dir, *config.mirror_dirs]
    if len({folder.resolve() for folder in directories}) < len(directories):
        raise Invalid("--mirror: each directory once, and not the data directory.")


def usable(mirrors: tuple[Path, ...], lost: dict[str, str]) -> list[Path]:
    """Those that can be written; the others are told, and left out until the next start."""
    found = []
    for folder in mirrors:
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            probe = folder / f".probe-{os.getpid()}"
            probe.write_bytes(b"")
            probe.unlink()
            found.append(folder)
        except OSError as error:
            lost[str(folder)] = str(error.strerror)
            log.error("mirror: %s is left out: %s", folder, error)
    return found


def key_file(config: Config) -> Path:
    return Path(config.root_key) if config.root_key else config.data_dir / KEYS


def open_keyring(config: Config, mirrors: list[Path]) -> Keyring:
    """The keys, in every mirror too: what is left after a loss must open."""
    path = key_file(config)
    if config.is_shared and not config.root_key:
        raise Invalid("--records: servers that share a store share their keys; name their file with --root-key.")
    places = [folder / KEYS for folder in mirrors]
    if not path.exists():
        for place in places:
            if place.exists():
                copy_key(place, path)
                break
    keyring = Keyring(path)
    for place in places:
        if not place.exists() or place.read_bytes() != path.read_bytes():
            copy_key(path, place)
    return keyring


def copy_key(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = target.with_name(f"{target.name}.{os.urandom(4).hex()}")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(source.read_bytes())
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, target)
    sync_folder(target.parent)
    sync_folder(target.parent.parent)


def open_records(config: Config, mirrors: list[Path] | None, lost: dict[str, str]) -> Records:
    if config.records:
        from pilvi.storage.records.postgres import PostgresRecords

        return PostgresRecords(config.records)
    return SqliteRecords(
        config.data_dir / RECORDS,
        shared=config.workers > 1,
        copies=None if mirrors is None else [folder / RECORDS for folder in mirrors],
        on_lost=lambda path, reason: lost.update({str(path.parent): reason}),
    )


def raw_blobs(config: Config) -> Blobs:
    if not config.blobs:
        return FileBlobs(config.data_dir / BLOBS)
    if "://" not in config.blobs:
        return FileBlobs(Path(config.blobs).absolute())
    from pilvi.storage.blobs.s3 import S3Blobs

    return S3Blobs(config.blobs, config.blobs_endpoint, blobs_credentials())


def dressing(config: Config, keyring: Keyring) -> Callable[[Blobs], AtRest]:
    if config.at_rest == "disk":
        return lambda blobs: PlainBlobs(blobs, keyring)
    return lambda blobs: SealedBlobs(blobs, keyring)


def is_claimed(records: Records, name: str) -> bool:
    """Whether a blob is in use."""
    try:
        records.body(name)
    except (NotFound, Unavailable):
        return False
    return True


def is_in_use(records: Records, stored: str) -> bool:
    """Whether a row names a blob that lies under this name, sealed or plain. Unavailable when nobody can tell."""
    for name in (stored, *(stored + mark for mark in MARKS)):
        with contextlib.suppress(NotFound):
            records.body(name)
            return True
    return False
