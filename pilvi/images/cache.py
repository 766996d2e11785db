"""Unpacked images: one read-only tree for each set of layers, shared by all programs that run it.

    <data>/images/<key>/rootfs      the tree; key: digest over the layers' own digests, unpacked and as they were pushed
                       /images      which pushed images it belongs to, a line each
                       /ready       empty; written last, so a tree without it is rubbish from a crash

A tree goes when the last of its images goes, or when there are too many and nobody used it for longest; never while a program
runs in it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from pilvi.core.errors import Unavailable
from pilvi.core.service import Cloud
from pilvi.core.streams import Piece
from pilvi.images.unpack import Tree

CACHE_BYTES = 50 << 30
"""Trees that nobody runs go when all together are larger."""
FREE_SHARE = 0.05
"""So much of the disk stays free."""


class Cache:
    def __init__(self, folder: Path, most_bytes: int = CACHE_BYTES) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._making: dict[str, threading.Lock] = {}
        self._leases: Counter[str] = Counter()
        self._sweep()

    def lease(
        self, image: str, diff_ids: Sequence[str], layers: Callable[[], Iterable[Iterable[Piece]]], digests: Sequence[str] = ()
    ) -> Lease:
        """The tree of an image, unpacked if it is not there; it stays until the lease is given back.

        image: the pushed image's name, for `forget`. layers: the layers' bytes, lowest first. digests: theirs as they were pushed:
        diff_ids are the pusher's word alone, and whoever only knows those of another's image must not be given its tree.
        """
        key = hashlib.sha256("\n".join((*diff_ids, *digests)).encode()).hexdigest()
        with self._lock:
            self._leases[key] += 1
            making = self._making.setdefault(key, threading.Lock())
        try:
            with making:
                if not self._is_ready(key):
                    self._make(key, diff_ids, layers)
                self._remember(key, image)
        except BaseException:
            self._give_back(key)
            raise
        self._shrink()
        return Lease(self._folder / key / "rootfs", lambda: self._give_back(key))

    def forget(self, images: Iterable[str]) -> None:
        """These images are gone; so are trees that belong to no other."""
        gone = set(images)
        for key in self._keys():
            owners = self._owners(key)
            if owners & gone:
                left = owners - gone
                (self._folder / key / "images").write_text("".join(f"{name}\n" for name in sorted(left)))
                if not left:
                    self._remove_if_free(key)

    def _is_ready(self, key: str) -> bool:
        return (self._folder / key / "ready").exists()

    def _make(self, key: str, diff_ids: Sequence[str], layers: Callable[[], Iterable[Iterable[Piece]]]) -> None:
        place = self._folder / key
        _remove(place)
        place.mkdir(parents=True)
        self._folder.chmod(0o700)
        free = shutil.disk_usage(place)
        tree = Tree(place / "rootfs", max(0, free.free - int(free.total * FREE_SHARE)))
        try:
            for pieces, diff_id in zip(layers(), diff_ids, strict=True):
                tree.add_layer(pieces, diff_id)
            (place / "size").write_text(str(tree.bytes))
            os.sync()
            (place / "ready").touch()
        except OSError as error:
            _remove(place)
            raise Unavailable(f"The image could not be unpacked: {error.strerror}.") from error
        except BaseException:
            _remove(place)
            raise

    def _remember(self, key: str, image: str) -> None:
        owners = self._owners(key)
        if image not in owners:
            (self._folder / key / "images").write_text("".join(f"{name}\n" for name in sorted({*owners, image})))
        os.utime(self._folder / key / "ready")

    def _owners(self, key: str) -> set[str]:
        try:
            return set((self._folder / key / "images").read_text().split("\n")) - {""}
        except OSError:
            return set()

    def _give_back(self, key: str) -> None:
        with self._lock:
            self._leases[key] -= 1
        if not self._owners(key):
            self._remove_if_free(key)

    def _remove_if_free(self, key: str) -> None:
        """Out of sight under the lock, then away: nobody may take a lease on half a tree."""
        with self._lock:
            place = self._folder / key
            if self._leases[key] > 0 or not place.exists():
                return
            doomed = self._folder / f".old-{key}"
            _remove(doomed)
            place.rename(doomed)
        _remove(doomed)

    def _shrink(self) -> None:
        """Those that were not used for longest go, until the rest fits."""
        found = sorted(self._keys(), key=lambda key: (self._folder / key / "ready").stat().st_mtime, reverse=True)
        total = 0
        for key in found:
            total += self._size(key)
            if total > self._most_bytes:
                self._remove_if_free(key)

    def _size(self, key: str) -> int:
        try:
            return int((self._folder / key / "size").read_text())
        except (OSError, ValueError):
            return 0

    def _keys(self) -> list[str]:
        if not self._folder.is_dir():
            return []
        return [place.name for place in self._folder.iterdir() if (place / "ready").exists() and not place.name.startswith(".")]

    def _sweep(self) -> None:
        """What a crash left half made."""
        for place in list(self._folder.iterdir()) if self._folder.is_dir() else []:
            if not (place / "ready").exists() or place.name.startswith("."):
                _remove(place)


class Lease:
    """A tree in use."""

    def __init__(self, folder: Path, give_back: Callable[[], None]) -> None:
        self.folder = folder
        self._give_back: Callable[[], None] | None = give_back

    def end(self) -> None:
        """Harmless twice."""
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            give_back()


def image_name(account: str, region: str, repository: str, digest: str) -> str:
    """A pushed image, by the name that the cache knows it under."""
    return f"{account}/{region}/{repository}@{digest}"


_making_cache = threading.Lock()


def cache_of(cloud: Cloud) -> Cache:
    """The cloud's one."""
    with _making_cache:
        if "images:cache" not in cloud.memory:
            cloud.memory["images:cache"] = Cache(cloud.config.data_dir / "images")
        found: Cache = cloud.memory["images:cache"]
        return found


def _remove(place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
