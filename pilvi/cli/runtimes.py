"""`pilvi runtimes`: the isolated environments that jobs and functions run in."""

from __future__ import annotations

from pathlib import Path

from pilvi.compute.environments import Environments


def show(folder: Path) -> int:
    environments = Environments(folder)
    for name in environments.names():
        print(f"{name:<16} {'installed' if environments.find(name) else 'not installed: pilvi runtimes install ' + name}")
    return 0


def install(folder: Path, names: list[str]) -> int:
    environments = Environments(folder)
    for name in names:
        environments.install(name, lambda line: print(f"  {line}", flush=True))
        print(f"{name} is installed in {folder}")
    return 0


def remove(folder: Path, names: list[str]) -> int:
    environments = Environments(folder)
    for name in names:
        environments.remove(name)
        print(f"{name} is removed")
    return 0
