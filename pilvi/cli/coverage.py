"""`pilvi coverage`: the list, as text or JSON."""

from __future__ import annotations

import json
from collections import Counter

from pilvi.app.coverage import coverage
from pilvi.app.registry import Registry, module_of
from pilvi.core.errors import NotFound
from pilvi.protocol.models import Models


def report(services: list[str], *, as_json: bool) -> int:
    models, registry = Models(None), Registry()
    if unknown := sorted(set(services) - set(models.names())):
        raise NotFound(f"no such service: {', '.join(unknown)}")
    if as_json:
        print(json.dumps(coverage(models, registry, services or None), indent=1))
        return 0
    built = services or [name for name in models.names() if module_of(name) in registry.modules()]
    totals: Counter[str] = Counter()
    for name in built:
        depths = coverage(models, registry, [name])[name]
        counts = Counter(depths.values())
        totals += counts
        print(f"{name}: {counts['executes']} execute, {counts['records']} record, {counts['absent']} absent")
        for operation, depth in depths.items():
            if depth != "absent" or services:
                print(f"  {depth:<8}  {operation}")
    print(f"in all: {totals['executes']} execute, {totals['records']} record, {totals['absent']} absent in {len(built)} services")
    return 0
