"""The HTTP/1.1 server at the rim: uvicorn, on a socket that is handed in."""

from __future__ import annotations

import asyncio
import socket

import uvicorn

from pilvi.gateway.asgi import Answer, asgi_app


class HttpServer:
    def __init__(self, answer: Answer) -> None:
        config = uvicorn.Config(
            asgi_app(answer),
            loop="none",
            http="httptools",
            ws="none",
            lifespan="off",
            access_log=False,
            log_level="error",
            server_header=False,
            date_header=True,
            proxy_headers=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=10,
        )
        self._server = uvicorn.Server(config)
        self._config = config

    async def start(self, sock: socket.socket) -> None:
        self._config.load()
        self._server.lifespan = self._config.lifespan_class(self._config)
        await self._server.startup(sockets=[sock])
        self._tick = asyncio.create_task(self._server.main_loop())

    async def stop(self) -> None:
        self._server.should_exit = True
        await self._tick
        await self._server.shutdown(sockets=[])
