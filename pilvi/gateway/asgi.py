"""The rim for ASGI servers: scope and messages on one side, Request and Response on the other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

from pilvi.core.http import Request, Response
from pilvi.core.streams import ByteStream

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Answer = Callable[[Request], Awaitable[Response]]


def asgi_app(answer: Answer) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = request_of(scope, receive)
        response = await answer(request)
        await send_response(response, send, head=request.method == "HEAD")

    return app


def request_of(scope: Scope, receive: Receive) -> Request:
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name = raw_name.decode("latin-1")
        value = raw_value.decode("latin-1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    has_body = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
    if has_body:
        length = headers.get("content-length")
        body = ByteStream(source=body_of(receive), length=int(length) if length is not None else None)
    else:
        body = ByteStream(b"")
    client = scope.get("client")
    return Request(
        scope["method"],
        scope["raw_path"].decode("latin-1"),
        scope["query_string"].decode("latin-1"),
        headers,
        body,
        scope.get("scheme", "http"),
        client[0] if client else "127.0.0.1",
    )


async def body_of(receive: Receive) -> AsyncIterator[bytes]:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionResetError("the client went away in the middle of its request")
        if piece := message.get("body"):
            yield piece
        if not message.get("more_body"):
            return


async def send_response(response: Response, send: Send, *, head: bool) -> None:
    body = response.body
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in response.headers]
    known = any(name == b"content-length" for name, _ in headers)
    length = len(body) if isinstance(body, bytes) else body.length
    if not known and length is not None and response.status not in (204, 304) and not (head and not length):
        headers.append((b"content-length", str(length).encode()))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    if isinstance(body, bytes) or body.data is not None:
        data = body if isinstance(body, bytes) else body.data
        await send({"type": "http.response.body", "body": b"" if head else data})
        return
    try:
        if not head:
            async for piece in body:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    finally:
        await body.close()
