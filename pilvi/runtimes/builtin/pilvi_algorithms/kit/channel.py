"""A job's data channels: files or pipes, plain or compressed, whole objects or tables."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pilvi_algorithms.kit import recordio
from pilvi_algorithms.kit.content_type import ContentType, parse
from pilvi_algorithms.kit.errors import ClientError
from pilvi_algorithms.kit.table import Table, Unreadable, joined, read

SHARDED = "ShardedByS3Key"
_GZIP = b"\x1f\x8b"


@dataclass(slots=True)
class Channel:
    name: str
    folder: Path
    """Where its files are; in Pipe mode pipes named `<folder>_<epoch>`."""
    content_type: str = ""
    """As the request gives it; '' where it gives none."""
    mode: str = "File"
    distribution: str = "FullyReplicated"
    is_wrapped: bool = False
    """Each object stands in a RecordIO frame."""
    _epoch: int = 0

    @property
    def is_sharded(self) -> bool:
        """Whether this host has its own part of the data only."""
        return self.distribution == SHARDED

    @property
    def kind(self) -> ContentType:
        return parse(self.content_type)

    def paths(self) -> list[Path]:
        """Its files in the order of their names, hidden ones left out. File modes only."""
        return sorted(
            path
            for path in self.folder.rglob("*")
            if path.is_file() and not any(part.startswith((".", "_")) for part in path.relative_to(self.folder).parts)
        )

    def objects(self) -> Iterator[tuple[str, bytes]]:
        """(name, content) of each file; of a pipe one content with all objects, or its objects where they are wrapped.

        Each call reads a pipe's next epoch.
        """
        if self.mode != "Pipe":
            for path in self.paths():
                yield from self._unwrapped(str(path.relative_to(self.folder)), path.read_bytes())
            return
        name = f"{self.folder.name}_{self._epoch}"
        self._epoch += 1
        yield from self._unwrapped(name, (self.folder.parent / name).read_bytes())

    def _unwrapped(self, name: str, data: bytes) -> Iterator[tuple[str, bytes]]:
        data = gzip.decompress(data) if data.startswith(_GZIP) else data
        if not self.is_wrapped:
            yield name, data
            return
        for number, frame in enumerate(recordio.frames(data)):
            yield f"{name}[{number}]", bytes(frame)

    def table(self, kind: ContentType | str | None = None, label_size: int = 0, **more: Any) -> Table:
        """All its rows. `label_size` counts where the content type does not say (text/csv;label_size=0).

        Raises ClientError for data that are not what the content type says, and for no data.
        """
        wanted = parse(kind) if isinstance(kind, str) else kind or self.kind
        tables: list[Table] = []
        name = ""
        try:
            for name, data in self.objects():  # noqa: B007 - told when reading fails
                if data:
                    tables.append(read(data, wanted, label_size, **more))
            if not tables:
                raise ClientError(f"No data in channel '{self.name}'.")
            return joined(tables)
        except (Unreadable, recordio.BadRecord) as error:
            raise ClientError(
                f"Unable to read data channel '{self.name}'. Requested content-type is '{self.content_type or wanted.name}'. "
                "Please verify the data matches the requested content-type.",
                f"{name}: {error}" if name else str(error),
                type(error).__name__,
            ) from error
