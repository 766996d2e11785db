"""`pilvi runtimes`: the isolated environments that jobs and functions run in."""

from __future__ import annotations

from pathlib import Path

from pilvi.compute.environments import Environments

_TOLD = (
    "xgboost-cpu", "torch", "torchvision", "transformers", "tensorflow-cpu", "mxnet", "scikit-learn", "pyspark", "jupyterlab",
    "awslambdaric", "code-server", "pandas", "numpy",
)  # fmt: skip
"""Packages whose versions are shown."""


def show(folder: Path) -> int:
    """Every environment: is it there, how large is it, what is in it, which images does it stand for."""
    environments, images = Environments(folder), _images()
    for name in environments.names():
        size = environments.size_bytes(name)
        state = f"installed, {size / 1e6:.0f} MB" if size else f"not installed: pilvi runtimes install {name}"
        versions = environments.versions(name)
        print(f"{name:<16} {state}")
        print(f"{'':<16} {', '.join(f'{package} {versions[package]}' for package in _TOLD if package in versions)}")
        if served := images.get(name.removesuffix("-cuda")):
            print(f"{'':<16} images: {', '.join(served)}")
    return 0


def install(folder: Path, names: list[str]) -> int:
    """Install each, telling how far it is. What was downloaded is kept by pip, so breaking off costs little."""
    environments = Environments(folder)
    for name in names:
        progress = _Progress(len(environments.versions(name)))
        environments.install(name, progress.hear)
        print(f"{name} is installed in {folder}")
    return 0


def remove(folder: Path, names: list[str]) -> int:
    environments = Environments(folder)
    for name in names:
        environments.remove(name)
        print(f"{name} is removed")
    return 0


def prune(folder: Path) -> int:
    removed, used = Environments(folder).prune()
    for path in removed:
        print(f"{path.name} is removed")
    for path in used:
        print(f"{path.name} is kept: a program runs in it")
    if not removed and not used:
        print("nothing to remove: no environment has been replaced")
    return 0


class _Progress:
    """The installer's words, and how many of its packages it has come to."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._number = 0

    def hear(self, line: str) -> None:
        if line.startswith("Collecting "):
            self._number += 1
            line = f"{self._number} of {self._total}: {line.removeprefix('Collecting ').split(' (')[0]}"
        print(f"  {line}", flush=True)


def _images() -> dict[str, list[str]]:
    """Environment -> repositories of images."""
    from pilvi.services.sagemaker.image import RUNTIMES

    found: dict[str, list[str]] = {}
    for repository, runtime in RUNTIMES.items():
        found.setdefault(runtime.environment, []).append(repository)
    return found
