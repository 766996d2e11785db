"""Archives the story uploads: the training source, the function, and a Lambda layer with scikit-learn."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

LAYER_PACKAGES = (
    "joblib",
    "numpy",
    "numpy.libs",
    "scipy",
    "scipy.libs",
    "sklearn",
    "scikit_learn.libs",
    "threadpoolctl.py",
)
"""What joblib needs to load a scikit-learn model."""

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


def layer_archive(site_packages: Path, target: Path) -> Path:
    """A layer zip (python/...) of scikit-learn out of an installed environment, without tests and caches; the same bytes each time."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for package in LAYER_PACKAGES:
            for path in sorted(files_of(site_packages / package)):
                member = zipfile.ZipInfo(f"python/{path.relative_to(site_packages)}", EPOCH)
                member.external_attr = 0o755 << 16
                member.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(member, path.read_bytes())
    return target


def files_of(package: Path) -> list[Path]:
    if package.is_file():
        return [package]
    skipped = {"tests", "__pycache__", "include", "datasets"}
    return [
        path
        for path in package.rglob("*")
        if path.is_file()
        and not skipped & set(path.relative_to(package).parts[:-1])
        and path.suffix not in {".pyi", ".pyx", ".pxd"}
    ]
