"""Lanes to a model server: many requests over few connections, what breaks, what takes too long, what comes in pieces."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from pilvi.serving.answer import Broken, StartFailed, TookTooLong
from pilvi.serving.lanes import SOCKET, Lanes, until_answering

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Model:
    """A model server of one request a connection at a time."""

    def __init__(self) -> None:
        self.connections = 0
        self.asked: list[bytes] = []
        self.status = 200

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                body = await reader.readexactly(length)
                if head.startswith(b"GET /ping"):
                    writer.write(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % self.status)
                    continue
                self.asked.append(body)
                await self._answer(body, writer)
        except (asyncio.IncompleteReadError, ConnectionResetError):
            pass
        finally:
            writer.close()

    async def _answer(self, body: bytes, writer: asyncio.StreamWriter) -> None:
        if body == b"break":
            writer.close()
        elif body == b"hang":
            await asyncio.sleep(60)
        elif body == b"stream":
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
            await asyncio.sleep(0.01)
            writer.write(b"3\r\ntwo\r\n0\r\n\r\n")
        elif body == b"nonsense":
            writer.write(b"this is no HTTP\r\n\r\n")
        else:
            await asyncio.sleep(0.01)
            writer.write(b"HTTP/1.1 200 OK\r\nX-Told: yes\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


def head_of(body: bytes) -> bytes:
    return b"POST /invocations HTTP/1.1\r\nHost: model\r\nContent-Length: %d\r\n\r\n" % len(body)


def run(folder: Path, story: Callable[[Lanes, Model], Awaitable[None]], most: int = 2) -> None:
    async def told() -> None:
        model = Model()
        server = await asyncio.start_unix_server(model, folder / SOCKET)
        lanes = Lanes(asyncio.get_running_loop(), folder, most)
        try:
            await asyncio.wait_for(story(lanes, model), 20)
        finally:
            lanes.close()
            server.close()
            await asyncio.sleep(0)

    asyncio.run(told())


def test_requests_share_a_few_kept_connections(tmp_path: Path) -> None:
    async def story(lanes: Lanes, model: Model) -> None:
        bodies = [str(number).encode() for number in range(20)]
        answers = await asyncio.gather(*(lanes.ask(head_of(body), body, 10) for body in bodies))
        assert [answer.body for answer in answers] == bodies
        assert answers[0].headers["x-told"] == "yes"
        assert model.connections == 2
        assert lanes.load == 0

    run(tmp_path, story)


def test_a_broken_connection_ends_its_request_alone(tmp_path: Path) -> None:
    async def story(lanes: Lanes, model: Model) -> None:
        for body in (b"break", b"nonsense"):
            with pytest.raises(Broken) as failure:
                await lanes.ask(head_of(body), body, 10)
            assert failure.value.was_sent
        assert (await lanes.ask(head_of(b"fine"), b"fine", 10)).body == b"fine"
        assert model.asked == [b"break", b"nonsense", b"fine"]

    run(tmp_path, story)


def test_a_request_that_takes_too_long_gives_its_lane_up(tmp_path: Path) -> None:
    async def story(lanes: Lanes, model: Model) -> None:
        with pytest.raises(TookTooLong):
            await lanes.ask(head_of(b"hang"), b"hang", 0.05)
        assert (await lanes.ask(head_of(b"fine"), b"fine", 10)).body == b"fine"
        assert model.connections == 2

    run(tmp_path, story, most=1)


def test_a_body_comes_in_pieces_and_its_lane_is_used_again(tmp_path: Path) -> None:
    async def story(lanes: Lanes, model: Model) -> None:
        answer, pieces = await lanes.stream(head_of(b"stream"), b"stream", 10)
        assert (answer.status, answer.body, lanes.load) == (200, b"", 1)
        assert [piece async for piece in pieces] == [b"one", b"two"]
        assert lanes.load == 0
        await lanes.ask(head_of(b"fine"), b"fine", 10)
        assert model.connections == 1

    run(tmp_path, story, most=1)


def test_who_waits_hears_that_the_server_has_gone(tmp_path: Path) -> None:
    async def story(lanes: Lanes, model: Model) -> None:
        first = asyncio.create_task(lanes.ask(head_of(b"hang"), b"hang", 10))
        second = asyncio.create_task(lanes.ask(head_of(b"waits"), b"waits", 10))
        await asyncio.sleep(0.05)
        lanes.close()
        for task, was_sent in ((first, True), (second, False)):
            with pytest.raises(Broken) as failure:
                await task
            assert failure.value.was_sent is was_sent

    run(tmp_path, story, most=1)


def test_until_answering_waits_for_200_or_the_end(tmp_path: Path) -> None:
    async def story(lanes: Lanes, model: Model) -> None:
        over: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        await until_answering(lanes, over, 5)
        model.status = 503
        with pytest.raises(StartFailed, match="/ping answered 503"):
            await until_answering(lanes, over, 0.1)
        over.set_result("it ended with exit status 3")
        with pytest.raises(StartFailed, match="exit status 3"):
            await until_answering(lanes, over, 5)

    run(tmp_path, story)
