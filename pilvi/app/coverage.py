"""What of AWS is here, read from the code: each operation of each service executes, records or is absent."""

from __future__ import annotations

from typing import Literal

from botocore import xform_name

from pilvi.app.registry import Registry, module_of
from pilvi.protocol.models import Models

Depth = Literal["executes", "records", "absent"]


def coverage(models: Models, registry: Registry, services: list[str] | None = None) -> dict[str, dict[str, Depth]]:
    """service -> operation -> depth, for the named services or for all that botocore knows."""
    return {name: coverage_of(models, registry, name) for name in services or models.names()}


def coverage_of(models: Models, registry: Registry, name: str) -> dict[str, Depth]:
    model = models.service(name)
    home = registry.find(name) if module_of(name) in registry.modules() else None
    depths: dict[str, Depth] = {}
    for operation in model.operation_names():
        function = xform_name(operation)
        if home is None or function not in home.handlers:
            depths[operation] = "absent"
        else:
            depths[operation] = "records" if function in home.records_only else "executes"
    return depths
