"""The packages a customer's source asks for, installed for this job alone.

The environment is shared and cannot be written; what a job installs goes to a folder of its own ($PIP_TARGET), which stands before
the environment's packages. pip would bring everything again there that is installed already, so it is first asked what is missing.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from pilvi_source import ProgramError

_PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
_TAIL_BYTES = 4096


def install(program: str, code: Path) -> None:
    """requirements.txt, or the source itself when it is a package. Wheels in the source's folders lib and wheels, or beside it, are
    found too. Raises ProgramError in the toolkit's words."""
    is_package = (code / "setup.py").exists() and not program.endswith(".sh")
    requirements = code / "requirements.txt"
    has_requirements = requirements.exists() and not program.endswith(".sh")
    if not is_package and (not has_requirements or is_satisfied(requirements.read_text())):
        return
    wanted = (["."] if is_package else []) + (["-r", "requirements.txt"] if has_requirements else [])
    kind = "InstallModuleError" if is_package else "InstallRequirementsError"
    print("Installing module." if is_package else "Installing dependencies from requirements.txt", flush=True)
    places = [
        word for folder in (code, code / "lib", code / "wheels") if any(folder.glob("*.whl")) for word in ("--find-links", folder)
    ]
    if not os.environ.get("PIP_TARGET"):
        _pip(["install", *map(str, places), *wanted], code, kind)
        return
    missing = _missing([*map(str, places), *wanted], code, kind)
    if missing:
        _pip(["install", "--no-deps", "--upgrade", *missing], code, kind)


def is_satisfied(text: str) -> bool:
    """Whether all that plain requirement lines ask for is there, which needs no pip."""
    from pip._vendor.packaging.requirements import InvalidRequirement, Requirement

    for line in text.splitlines():
        line = line.split(" #")[0].strip()
        if not line or line.startswith("#"):
            continue
        try:
            requirement = Requirement(line)
            if requirement.url or requirement.extras:
                return False
            if requirement.marker is not None and not requirement.marker.evaluate():
                continue
            if not requirement.specifier.contains(importlib.metadata.version(requirement.name), prereleases=True):
                return False
        except (InvalidRequirement, importlib.metadata.PackageNotFoundError):
            return False
    return True


def _missing(wanted: list[str], code: Path, kind: str) -> list[str]:
    """Addresses of what has to be installed."""
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        _pip(["install", "--dry-run", "--quiet", "--report", report.name, *wanted], code, kind, without=("PIP_TARGET",))
        return [_address(entry["download_info"]) for entry in json.load(report)["install"]]


def _address(info: dict[str, Any]) -> str:
    url = str(info["url"])
    if (source := info.get("vcs_info")) is not None:
        return f"{source['vcs']}+{url}@{source['commit_id']}"
    return url.removeprefix("file://") if "dir_info" in info else url


def _pip(arguments: list[str], code: Path, kind: str, without: tuple[str, ...] = ()) -> None:
    """Run pip in the source folder; its words are passed on, its last ones are the error's."""
    command = [*_PIP, *arguments]
    env = {name: value for name, value in os.environ.items() if name not in without}
    child = subprocess.Popen(command, cwd=code, env=env, stderr=subprocess.PIPE)
    tail = b""
    assert child.stderr is not None
    while piece := os.read(child.stderr.fileno(), 65536):
        os.write(2, piece)
        tail = (tail + piece)[-_TAIL_BYTES:]
    if status := child.wait():
        lines = tail.decode(errors="replace").splitlines()
        words = [line for line in lines if line.startswith("ERROR")] or lines[-5:]
        raise ProgramError(kind, status, "\n".join(words), command)
