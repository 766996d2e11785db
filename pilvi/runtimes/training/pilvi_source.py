"""The customer's source: fetched from S3 or a folder and unpacked into /opt/ml/code.

S3 is read by hand, signed with the role's keys: importing an AWS client would take longer than everything else before the script.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import os
import re
import shutil
import signal
import ssl
import tarfile
import tempfile
import time
import urllib.parse
from pathlib import Path
from typing import IO

_ENTRY = re.compile(r"[A-Za-z0-9._][A-Za-z0-9._+-]*(/[A-Za-z0-9._+-]+)*")
_SPOOL_BYTES = 16 << 20
_CRASHES = (signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV)


class ClientError(Exception):
    """The request is to blame; the text says how."""


class ProgramError(ClientError):
    """A program of the customer's ended badly. The text is the toolkit's."""

    def __init__(self, kind: str, code: int, message: str, command: list[str]) -> None:
        extra = f'\nExtraInfo "{told}"' if (told := _signal(code)) else ""
        super().__init__(f'{kind}:\nExitCode {code}\nErrorMessage "{message}"{extra}\nCommand "{" ".join(command)}"')


def _signal(code: int) -> str:
    """Which signal ended a program, from its status as shells tell it; '' when it ended by itself."""
    if code == 137:
        return "OutOfMemory: Process killed by SIGKILL (signal 9)"
    number = code - 128
    # SIGTERM is a stop that somebody asked for.
    return f"Process killed by {signal.Signals(number).name} (signal {number})" if number in _CRASHES else ""


def prepare(uri: str, program: str | None, code: Path) -> str:
    """Put the source into `code` unless something is there; gives the checked entry point. Raises ClientError."""
    code.mkdir(parents=True, exist_ok=True)
    if not any(code.iterdir()):
        if uri.startswith("s3://"):
            with tempfile.SpooledTemporaryFile(_SPOOL_BYTES) as file:
                _download(uri, file)
                _unpack(file, uri, code)
        elif Path(uri).is_dir():
            shutil.copytree(uri, code, dirs_exist_ok=True, symlinks=True)
        elif Path(uri).is_file():
            _from_file(Path(uri), code)
        else:
            raise ClientError(f"There is no source at {uri} (hyperparameter sagemaker_submit_directory).")
    return _checked_entry(program, code)


def _from_file(path: Path, code: Path) -> None:
    if tarfile.is_tarfile(path):
        with path.open("rb") as file:
            _unpack(file, str(path), code)
    else:
        shutil.copy2(path, code)


def _checked_entry(program: str | None, code: Path) -> str:
    """A plain relative path inside the source, and there."""
    if not program:
        raise ClientError(
            "The training entry point name is empty. Set the 'sagemaker_program' hyperparameter to the name of the script to run, "
            "relative to your source directory, for example 'train.py'."
        )
    if not _ENTRY.fullmatch(program) or any(part in (".", "..") for part in program.split("/")):
        raise ClientError(
            f"The training entry point {program!r} cannot be used. It must be a path inside your source directory that has only "
            "letters, digits, '.', '_', '+', '-' and '/', for example 'train.py' or 'bin/train.sh'."
        )
    path = (code / program).resolve()
    if not path.is_relative_to(code.resolve()):
        raise ClientError(f"The training entry point {program!r} resolves to a location outside your source directory.")
    if not path.exists() and not (code / "setup.py").exists():
        found = ", ".join(sorted(entry.name for entry in code.iterdir())[:20])
        raise ClientError(f"The training entry point {program!r} is not in the source directory, which has: {found or 'nothing'}.")
    return program


# -- S3 -------------------------------------------------------------------------------------------------------------------


def _download(uri: str, file: IO[bytes]) -> None:
    """One object, as the job's role."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    endpoint = os.environ.get("S3_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION", "us-east-1")
    path = "/" + urllib.parse.quote(key)
    if endpoint:
        target = urllib.parse.urlsplit(endpoint)
        path = f"{target.path.rstrip('/')}/{bucket}{path}"
    else:
        target = urllib.parse.urlsplit(f"https://{bucket}.s3.{region}.amazonaws.com")
    try:
        connection = _connect(target)
        connection.request("GET", path, headers=_signed(target.netloc, path, region))
        response = connection.getresponse()
        if response.status != 200:
            raise ClientError(_refusal(uri, response.status, response.read(65536)))
        shutil.copyfileobj(response, file, 1 << 20)
        connection.close()
    except (OSError, http.client.HTTPException) as error:
        raise ClientError(f"The source {uri} could not be read: {error}") from error
    file.seek(0)


def _connect(target: urllib.parse.SplitResult) -> http.client.HTTPConnection:
    if target.scheme == "http":
        return http.client.HTTPConnection(target.hostname or "", target.port, timeout=60)
    trusted = ssl.create_default_context(cafile=os.environ.get("AWS_CA_BUNDLE") or None)
    return http.client.HTTPSConnection(target.hostname or "", target.port, timeout=60, context=trusted)


def _refusal(uri: str, status: int, body: bytes) -> str:
    code = re.search(rb"<Code>(.*?)</Code>", body)
    words = re.search(rb"<Message>(.*?)</Message>", body)
    told = (words[1].decode() if words else "").rstrip(".")
    return (
        f"An error occurred ({code[1].decode() if code else status}) when calling the GetObject operation: {told}. "
        f"Please ensure that the source archive {uri} exists and that the job's role may read it."
    )


def _signed(host: str, path: str, region: str) -> dict[str, str]:
    """Signature version 4 for a GET without a body; nothing where there are no keys."""
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    headers = {"host": host, "x-amz-content-sha256": hashlib.sha256(b"").hexdigest(), "x-amz-date": moment}
    secret = os.environ.get("AWS_SECRET_ACCESS_KEY")
    if not secret:
        return headers
    if token := os.environ.get("AWS_SESSION_TOKEN"):
        headers["x-amz-security-token"] = token
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    request = "\n".join(("GET", path, "", lines, names, headers["x-amz-content-sha256"]))
    scope = f"{moment[:8]}/{region}/s3/aws4_request"
    key = f"AWS4{secret}".encode()
    for word in scope.split("/"):
        key = hmac.digest(key, word.encode(), "sha256")
    text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    signature = hmac.new(key, text.encode(), "sha256").hexdigest()
    credential = f"{os.environ.get('AWS_ACCESS_KEY_ID')}/{scope}"
    headers["authorization"] = f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signature}"
    return headers


# -- the archive ----------------------------------------------------------------------------------------------------------


def _unpack(file: IO[bytes], name: str, code: Path) -> None:
    """Members that would lead outside, or are no files, are left out."""
    try:
        with tarfile.open(fileobj=file, mode="r:*") as archive:
            archive.extractall(code, filter=_inside)
    except (tarfile.TarError, EOFError, OSError) as error:
        # That no kind of compression was recognised takes five lines, and says only this.
        why = "it is no tar archive, compressed or not" if "\n" in str(error) else str(error)
        raise ClientError(
            f"The source {name} is not a tar archive that can be unpacked: {why}. "
            "Please make it with 'tar -czf sourcedir.tar.gz -C FOLDER .' and upload it again."
        ) from error


def _inside(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo | None:
    try:
        return tarfile.data_filter(member, folder)
    except tarfile.FilterError as error:
        print(f"Left out of the source: {error}", flush=True)
        return None
