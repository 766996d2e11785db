"""A worker: the model in memory, and one connection after the other, one request at a time.

    GET /ping                   200, the model is loaded
    GET /execution-parameters   what suits batch transforms
    POST /invocations           the model's answer

The server of the endpoint is the only client, so this is no HTTP server for the world: a request is a head and a body of Content-Length.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import sys
import traceback
from collections.abc import Iterator
from typing import Any, Protocol

KINDS = {"script": "pilvi_serve_script", "models": "pilvi_serve_models", "builtin": "pilvi_serve_builtin"}
_READ_BYTES = 1 << 18
_HEAD_BYTES = 1 << 16
_REASONS = {
    200: "OK",
    204: "No Content",
    400: "Bad Request",
    404: "Not Found",
    406: "Not Acceptable",
    415: "Unsupported Media Type",
}


class Refused(Exception):
    """An answer that is an error: status and words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Reply:
    """What a model answers; `body` may be an iterator of pieces."""

    def __init__(
        self, body: bytes | Iterator[bytes], content_type: str, status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        self.body = body
        self.content_type = content_type
        self.status = status
        self.headers = headers or {}


class Model(Protocol):
    def answer(self, path: str, headers: dict[str, str], body: bytes) -> Reply:
        """Raises Refused, or anything, which is an error of the model."""


def work(listener: socket.socket, arguments: list[str], ready: int) -> int:
    """Load, tell that it is done, serve."""
    try:
        model: Model = importlib.import_module(KINDS[arguments[0]]).load(arguments[1:])
    except BaseException:  # noqa: BLE001 - whatever it is, its words are the reason that the endpoint does not come up
        traceback.print_exc()
        return 1
    os.write(ready, b"1")
    os.close(ready)
    timeout_s = float(os.environ.get("SAGEMAKER_MODEL_SERVER_TIMEOUT") or os.environ.get("PILVI_SERVING_TIMEOUT_S") or 60)
    while True:
        connection, _ = listener.accept()
        with connection:
            serve(connection, model, timeout_s)


def serve(connection: socket.socket, model: Model, timeout_s: float) -> None:
    """The requests of one connection, until it ends."""
    rest = b""
    while True:
        try:
            request, rest = _request(connection, rest)
        except OSError:
            return
        if request is None:
            return
        signal.setitimer(signal.ITIMER_REAL, timeout_s)
        reply = _answered(model, *request)
        try:
            _send(connection, reply)
        except OSError:
            return
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


def _answered(model: Model, method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
    if path == "/ping":
        return Reply(b"", "application/json")
    if path == "/execution-parameters":
        workers = int(os.environ.get("PILVI_SERVING_WORKERS", "1"))
        return Reply(
            json.dumps({"MaxConcurrentTransforms": workers, "BatchStrategy": "MULTI_RECORD", "MaxPayloadInMB": 6}).encode(),
            "application/json",
        )
    if path == "/invocations" and method != "POST":
        return Reply(b"", "text/plain", 405)
    try:
        return model.answer(f"{method} {path}", headers, body)
    except Refused as refusal:
        print(f"{refusal.status}: {refusal}", file=sys.stderr, flush=True)
        return Reply(str(refusal).encode(), "text/plain", refusal.status)
    except Exception as error:  # noqa: BLE001 - the worker outlives what a request does to it
        traceback.print_exc()
        sys.stderr.flush()
        return Reply(f"{type(error).__name__}: {error}".encode(), "text/plain", 500)


def _request(connection: socket.socket, data: bytes) -> tuple[tuple[str, str, dict[str, str], bytes] | None, bytes]:
    """The next request and what came behind it; None when the other side has gone."""
    while (end := data.find(b"\r\n\r\n")) < 0:
        piece = connection.recv(_READ_BYTES)
        if not piece or len(data) > _HEAD_BYTES:
            return None, b""
        data += piece
    lines = data[:end].decode("latin-1").split("\r\n")
    method, path, _ = lines[0].split(" ", 2)
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    length = int(headers.get("content-length") or 0)
    body = data[end + 4 : end + 4 + length]
    rest = data[end + 4 + length :]
    if len(body) < length:
        whole = bytearray(length)
        view, at = memoryview(whole), len(body)
        whole[:at] = body
        while at < length:
            if not (got := connection.recv_into(view[at:])):
                return None, b""
            at += got
        body = bytes(whole)
    return (method, path, headers, body), rest


def _send(connection: socket.socket, reply: Reply) -> None:
    lines = [f"HTTP/1.1 {reply.status} {_REASONS.get(reply.status, 'Status')}", f"Content-Type: {_line(reply.content_type)}"]
    lines += [f"{name}: {_line(value)}" for name, value in reply.headers.items()]
    if isinstance(reply.body, bytes):
        lines.append(f"Content-Length: {len(reply.body)}")
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")
        connection.sendall(head + reply.body)
        return
    lines.append("Transfer-Encoding: chunked")
    connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace"))
    try:
        for piece in reply.body:
            if piece:
                connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
    except OSError:
        raise
    except Exception:  # noqa: BLE001 - the answer has begun: all that is left is to break it off
        traceback.print_exc()
        raise OSError from None
    connection.sendall(b"0\r\n\r\n")


def _line(value: Any) -> str:
    return str(value).replace("\r", " ").replace("\n", " ")
