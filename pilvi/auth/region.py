"""Which Regions exist. A credential scope may only name one of these; behind one endpoint nobody else would notice."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import botocore


@cache
def _regions() -> frozenset[str]:
    """Every Region of every partition, from botocore's own list (7 KiB, read once)."""
    path = Path(botocore.__file__).parent / "data" / "partitions.json"
    partitions = json.loads(path.read_bytes())["partitions"]
    return frozenset(name for partition in partitions for name in partition["regions"] if not name.endswith("-global"))


def known_region(region: str) -> bool:
    """Whether a Region of this name exists: us-east-1 does, eu-east-1 and aws-global do not."""
    return region in _regions()
