"""Advisories that the operator has put on the disk, in OSV's format: which versions of which packages are known to be weak.

    <data>/advisories/*.json      one entry each, or a list of them

Pure but for reading the folder. Source: Open Source Vulnerability format 1.6.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pilvi.images.packages import Package, normal_name

SEVERITIES = {"LOW": "LOW", "MODERATE": "MEDIUM", "MEDIUM": "MEDIUM", "HIGH": "HIGH", "CRITICAL": "CRITICAL"}

_PYTHON = re.compile(r"\d+(?:\.\d+)*")
_SUFFIX = re.compile(r"([a-z]+)[-_.]?(\d*)")
_WEIGHTS = {"dev": 0, "a": 1, "alpha": 1, "b": 2, "beta": 2, "rc": 3, "c": 3, "pre": 3, "preview": 3, "post": 5, "rev": 5, "r": 5}
"""Where a suffix puts a version: 4 is the version without one."""

Order = tuple[tuple[int, Any], ...]
"""A version as something to compare."""


@dataclass(frozen=True, slots=True)
class Finding:
    package: Package
    id: str
    """The CVE's number where there is one."""
    summary: str
    uri: str
    severity: str
    """LOW to CRITICAL, or UNDEFINED."""
    fixed: str
    """The first version without it; '' for none."""


@dataclass(frozen=True, slots=True)
class Advisories:
    entries: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]]
    """(ecosystem, package) -> OSV entries."""
    updated: datetime

    def findings(self, packages: Sequence[Package]) -> list[Finding]:
        return [finding for package in packages for finding in self._of(package)]

    def _of(self, package: Package) -> Iterator[Finding]:
        for entry in self.entries.get((package.ecosystem, package.name), ()):
            for affected in entry.get("affected") or ():
                if _key(affected.get("package") or {}) != (package.ecosystem, package.name):
                    continue
                if (fixed := mending(affected, package)) is not None:
                    yield _finding(entry, package, fixed)
                    break


def read_advisories(folder: Path) -> Advisories | None:
    """What lies in a folder; None when there is nothing. Files that are no advisories are passed over."""
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    updated = datetime.fromtimestamp(0, UTC)
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        try:
            content = json.loads(path.read_bytes())
        except ValueError:
            continue
        updated = max(updated, datetime.fromtimestamp(path.stat().st_mtime, UTC))
        for entry in content if isinstance(content, list) else [content]:
            if isinstance(entry, dict) and entry.get("id") and not entry.get("withdrawn"):
                for key in {_key(affected.get("package") or {}) for affected in entry.get("affected") or ()}:
                    found.setdefault(key, []).append(entry)
    return Advisories(found, updated) if found else None


def mending(affected: Mapping[str, Any], package: Package) -> str | None:
    """The version that mends it ('' for none) when the package's is affected, else None."""
    order: Callable[[str], Order] = python_order if package.ecosystem == "PyPI" else debian_order
    here = order(package.version)
    for span in affected.get("ranges") or ():
        if span.get("type") not in ("ECOSYSTEM", "SEMVER"):
            continue
        inside, fixed = False, ""
        for event in span.get("events") or ():
            if "introduced" in event:
                if event["introduced"] == "0" or here >= order(event["introduced"]):
                    inside, fixed = True, ""
            elif "fixed" in event and inside:
                inside, fixed = here < order(event["fixed"]), event["fixed"]
            elif "last_affected" in event and inside:
                inside = here <= order(event["last_affected"])
        if inside:
            return str(fixed)
    return "" if package.version in (affected.get("versions") or ()) else None


def python_order(version: str) -> Order:
    """PEP 440, near enough: dev before a before b before rc before the version itself, post behind; local parts do not count."""
    text = version.lower().lstrip("v").partition("+")[0]
    epoch, bang, rest = text.partition("!")
    match = _PYTHON.match(rest if bang else text)
    numbers = [int(number) for number in match[0].split(".")] if match else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    words = _SUFFIX.findall((rest if bang else text)[match.end() if match else 0 :])
    suffix = ((_WEIGHTS.get(word, 3), int(number or 0)) for word, number in words)
    return ((0, int(epoch) if bang and epoch.isdigit() else 0), (0, tuple(numbers)), *suffix, (4, 0))


def debian_order(version: str) -> Order:
    """Debian's order: epoch, then runs of other characters and numbers in turn, '~' before everything.

    Source: Debian Policy, "Version", sorting algorithm.
    """
    epoch, colon, rest = version.partition(":")
    parts: list[tuple[int, Any]] = [(0, int(epoch) if colon and epoch.isdigit() else 0)]
    for other, number in re.findall(r"(\D*)(\d*)", rest if colon else version):
        if other or number:
            ranks = tuple(-1 if letter == "~" else ord(letter) if letter.isalpha() else ord(letter) + 256 for letter in other)
            parts += [(0, (*ranks, 0)), (0, int(number or 0))]
    return (*parts, (0, (0,)))


def _key(package: Mapping[str, str]) -> tuple[str, str]:
    """Ecosystems come with releases ("Debian:12"), which are not told apart here."""
    name, ecosystem = str(package.get("name") or ""), str(package.get("ecosystem") or "").partition(":")[0]
    return ecosystem, normal_name(name) if ecosystem == "PyPI" else name


def _finding(entry: Mapping[str, Any], package: Package, fixed: str) -> Finding:
    names = (str(entry["id"]), *(str(alias) for alias in entry.get("aliases") or ()))
    said = str((entry.get("database_specific") or {}).get("severity") or "").upper()
    uris = [str(one["url"]) for one in entry.get("references") or () if one.get("url")]
    return Finding(
        package,
        next((name for name in names if name.startswith("CVE-")), names[0]),
        str(entry.get("summary") or entry.get("details") or "")[:1000],
        uris[0] if uris else f"https://osv.dev/vulnerability/{entry['id']}",
        SEVERITIES.get(said, "UNDEFINED"),
        fixed,
    )
