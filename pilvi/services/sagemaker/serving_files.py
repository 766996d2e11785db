"""A container's files: the model from S3, unpacked once and shown read-only to every instance, and the customer's code."""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from pilvi.compute import Bind
from pilvi.core.errors import PilviError
from pilvi.core.service import Context
from pilvi.jobs.spec import Input
from pilvi.jobs.transfer import Cancelled, TransferFailed, download, split_uri
from pilvi.services.sagemaker.model_check import data_uri, is_single_object
from pilvi.serving.answer import StartFailed

MODEL = "/opt/ml/model"
CODE = "/opt/ml/code"
_SPOOL_BYTES = 32 << 20

__all__ = ["CODE", "MODEL", "Cancelled", "Files"]


class Files:
    """The files of one container of a deployment. For threads."""

    def __init__(self, folder: Path, container: Mapping[str, Any]) -> None:
        self._folder = folder
        self._container = container

    def fetch(self, role: Context, *, wants_code: bool) -> None:
        """Bring them here. StartFailed, in AWS's words, when they do not come or are no archive."""
        for name in ("model", "code"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        uri = data_uri(self._container)
        if uri and self._container.get("Mode") != "MultiModel":
            self._fetch_model(role, uri)
        submitted = (self._container.get("Environment") or {}).get("SAGEMAKER_SUBMIT_DIRECTORY", "").strip('"')
        if wants_code and submitted.startswith("s3://"):
            unpack_object(role, submitted, self._folder / "code", "source")

    def binds(self) -> tuple[Bind, ...]:
        return (Bind(self._folder / "model", MODEL), Bind(self._folder / "code", CODE))

    def _fetch_model(self, role: Context, uri: str) -> None:
        source = (self._container.get("ModelDataSource") or {}).get("S3DataSource") or {}
        is_packed = source.get("CompressionType", "Gzip") == "Gzip"
        if is_single_object(self._container) and is_packed:
            unpack_object(role, uri, self._folder / "model", "model data")
            return
        try:
            download(role, Input("model", uri), [self._folder / "model"], lambda: None)
        except TransferFailed as error:
            raise StartFailed(f"Failed to download model data from {uri}: {error}") from error


def unpack_object(role: Context, uri: str, folder: Path, what: str) -> None:
    """The members of a tar archive in S3, in a folder. StartFailed with words for the owner."""
    bucket, key = split_uri(uri)
    with tempfile.SpooledTemporaryFile(_SPOOL_BYTES) as file:
        try:
            for piece in role.call("s3", "GetObject", Bucket=bucket, Key=key)["Body"]:
                file.write(piece)
        except PilviError as error:
            raise StartFailed(
                f"Failed to download {what} for container. Could not read {uri}: {error} Please ensure that the object exists and that "
                "the role may read it."
            ) from error
        file.seek(0)
        unpack(file, folder, uri, what)


def unpack(file: IO[bytes], folder: Path, uri: str, what: str) -> None:
    """StartFailed for what is no tar archive. Members that lead outside, and what are no files, are left out."""
    try:
        with tarfile.open(fileobj=file, mode="r:*") as archive:
            archive.extractall(folder, filter=_inside)
    except (tarfile.TarError, EOFError, OSError) as error:
        why = "it is no tar archive, compressed or not" if "\n" in str(error) else str(error)
        raise StartFailed(
            f"Failed to extract {what} for container from URL: {uri}: {why}. Please make it a tar.gz archive."
        ) from error


def _inside(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo | None:
    try:
        return tarfile.data_filter(member, folder)
    except tarfile.FilterError:
        return None
