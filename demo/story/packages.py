"""Archives the story uploads: the training source, the function, and a Lambda layer with scikit-learn."""

from __future__ import annotations

import io
import re
import tarfile
import zipfile
from importlib.metadata import Distribution, distributions
from pathlib import Path

EPOCH = (2020, 1, 1, 0, 0, 0)


def source_archive(script: Path) -> bytes:
    """sourcedir.tar.gz as the SageMaker SDK makes it: the script at the top."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.add(script, arcname=script.name)
    return buffer.getvalue()


def function_archive(handler: Path) -> bytes:
    """The zip that `create-function --zip-file` takes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(handler.name, EPOCH), handler.read_text())
    return buffer.getvalue()


def layer_archive(site_packages: Path, target: Path, distribution: str = "scikit-learn") -> Path:
    """A layer zip (python/...) of an installed distribution and all it requires, without tests and caches; the same bytes each time."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name in sorted(files_of(closure(site_packages, distribution))):
            member = zipfile.ZipInfo(f"python/{name}", EPOCH)
            member.external_attr = 0o755 << 16
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, (site_packages / name).read_bytes())
    return target


def closure(site_packages: Path, distribution: str) -> list[Distribution]:
    """The distribution and what it requires, all the way down, as installed."""
    installed = {plain(found.metadata["Name"]): found for found in distributions(path=[str(site_packages)])}
    needed: dict[str, Distribution] = {}
    waiting = [plain(distribution)]
    while waiting:
        name = waiting.pop()
        if name in installed and name not in needed:
            needed[name] = installed[name]
            requires = [line for line in installed[name].requires or [] if "extra ==" not in line]
            waiting += [plain(re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0]) for line in requires]
    return list(needed.values())


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def files_of(found: list[Distribution]) -> set[str]:
    """Paths below site-packages that a program needs at run time."""
    skipped = {"tests", "__pycache__", "include", "datasets", ".."}
    paths = [path for distribution in found for path in distribution.files or []]
    return {
        str(path)
        for path in paths
        if not skipped & set(path.parts[:-1])
        and path.suffix not in {".pyi", ".pyx", ".pxd", ".pyc"}
        and "dist-info" not in str(path)
    }
