"""Faster second starts: what the first worker of a package imported is compiled once, for every worker after it.

Workers see their packages read-only, so Python could not keep what it compiled. The first worker only names the modules; a
program of ours compiles them from the package itself, in a process of its own, so no worker can slip code to another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from pilvi.compute import Bind, ProcessSpec

if TYPE_CHECKING:
    from pilvi.compute import Compute
    from pilvi.compute.environments import Environment

MODULES = 3000
MEMORY_MIB = 1024
_LISTING = "/var/listing"
_PATIENCE_S = 300.0


def modules_in(named: Iterable[str], roots: Mapping[str, Path]) -> dict[str, list[str]]:
    """Which of the paths a worker named are source files of its packages: root as the worker sees it -> paths below it."""
    found: dict[str, list[str]] = {root: [] for root in roots}
    for text in list(named)[:MODULES]:
        for root, folder in roots.items():
            for base in (root, str(folder)):
                below = PurePosixPath(text.removeprefix(f"{base}/"))
                if text.startswith(f"{base}/") and ".." not in below.parts and below.suffix == ".py" and "\n" not in text:
                    found[root].append(str(below))
    return {root: sorted(set(paths)) for root, paths in found.items() if paths}


def compile_modules(
    compute: Compute,
    environment: Environment,
    runtime: Path,
    scratch: Path,
    roots: Mapping[str, Path],
    modules: Mapping[str, list[str]],
) -> None:
    """Compile and wait. For threads."""
    is_open = compute.isolation == "none"
    lines = [f"{roots[root] if is_open else root}/{path}\n" for root, paths in modules.items() for path in paths]
    listing = scratch / "modules"
    listing.write_text("".join(lines), encoding="utf-8", errors="surrogateescape")
    spec = ProcessSpec(
        command=(str(environment.python), "-I", "/var/runtime/precompile.py", _LISTING),
        env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
        binds=(
            *environment.binds,
            Bind(runtime, "/var/runtime"),
            Bind(listing, _LISTING),
            *(Bind(roots[root], root, writable=True) for root in modules),
        ),
        memory_mib=MEMORY_MIB,
    )
    process = compute.launch(spec, lambda _line: None)
    if process.wait(_PATIENCE_S) is None:
        process.kill()
