"""One stream of a NATS server: published to, read by subject, deleted from. Knows nothing of facts.

The client lives on a loop of its own in a thread, so that whoever reads may wait for it in any thread, and nothing that happens to
the connection touches the server's loop. While NATS is away every call answers Unavailable at once; the client goes on trying.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar
from urllib.parse import parse_qs, urlsplit

from pilvi.core.clock import Clock
from pilvi.core.errors import Invalid, Unavailable

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg

log = logging.getLogger("pilvi.events")

CONNECT_S: Final = 3
ANSWER_S: Final = 10.0
RETRY_S: Final = 1
"""A server that was not there is asked again after so long."""
DUPLICATES_S: Final = 3600
"""So long the stream knows what was published, should it be published again."""
_NOT_FOUND: Final = (10037, 10043, 10057)
"""Error codes of messages that are gone."""
_NO_STREAM: Final = 10059

VAGUE: Final = ("the connection was lost", "no answer")
"""Reasons that others are better than."""

T = TypeVar("T")


class Place(NamedTuple):
    """Where a stream is, as the setting says it: nats://[USER:PASSWORD@]HOST[:PORT][,...][?replicas=3]"""

    servers: tuple[str, ...]
    replicas: int

    @classmethod
    def parse(cls, text: str) -> Place:
        """Invalid for what is no such address."""
        address, _, query = text.partition("?")
        scheme, mark, hosts = address.partition("://")
        options = parse_qs(query, keep_blank_values=True)
        replicas = options.pop("replicas", ["1"])[-1]
        if scheme not in ("nats", "tls") or not mark or not hosts or options or replicas not in ("1", "3", "5"):
            raise Invalid(f"--events {shown(text)}: facts go by nats://HOST:PORT or tls://HOST:PORT, with ?replicas=1, 3 or 5.")
        user, at, names = hosts.rpartition("@")
        return cls(tuple(f"{scheme}://{user}{at}{name}" for name in names.split(",")), int(replicas))

    @property
    def shown(self) -> str:
        return ", ".join(map(shown, self.servers))


def shown(url: str) -> str:
    """An address without its password."""
    parts = urlsplit(url)
    return url.replace(f"{parts.netloc.rpartition('@')[0]}@", "") if "@" in parts.netloc else url


class Message(NamedTuple):
    subject: str
    id: str
    """What is published again under the same id within DUPLICATES_S is not kept twice."""
    data: bytes


class Kept(NamedTuple):
    seq: int
    id: str
    data: bytes


class Stream:
    """Its name is also the first word of its subjects."""

    def __init__(self, place: Place, find_name: Callable[[], str], clock: Clock) -> None:
        """find_name: asked once, in any thread."""
        self.place = place
        self._find_name = find_name
        self._clock = clock
        self.name = ""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._finding: asyncio.Lock
        self._meeting: asyncio.Task[Client] | None = None
        self._patient_s = 0.0
        self._client: Client | None = None
        self._is_closed = False
        self._is_known = False
        """The stream is there, as far as this connection knows."""
        self.away = ""
        """Why the server cannot be reached; '' while it can."""
        self.away_since = ""

    # -- calls, from any thread ---------------------------------------------------------------------------------------

    def begin(self, work: Callable[[Client], Coroutine[Any, Any, T]]) -> Future[T]:
        """Start something with a connected client; ends with Unavailable when there is none."""
        with self._starting:
            if self._is_closed:
                raise Unavailable("The server stops.")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._run, args=(self._loop,), name="nats", daemon=True)
                self._thread.start()
            return asyncio.run_coroutine_threadsafe(self._with_client(work), self._loop)

    def call(self, work: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
        """The same, waited for."""
        return self.begin(work).result()

    def close(self) -> None:
        with self._starting:
            self._is_closed = True
            loop, self._loop = self._loop, None
        if loop is None:
            return
        with suppress(TimeoutError, CancelledError):
            asyncio.run_coroutine_threadsafe(self._disconnect(), loop).result(ANSWER_S)
        loop.call_soon_threadsafe(loop.stop)
        if self._thread is not None:
            self._thread.join(ANSWER_S)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        self._finding = asyncio.Lock()
        loop.run_forever()
        loop.close()

    # -- the connection -----------------------------------------------------------------------------------------------

    async def _with_client(self, work: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
        from nats import errors

        client = await self._connected()
        try:
            return await work(client)
        except (errors.Error, TimeoutError, OSError) as error:
            reason = str(error) or type(error).__name__
            if not client.is_connected:
                self._is_away(reason)
            raise Unavailable(f"NATS at {self.place.shown}: {reason}") from error

    async def _connected(self) -> Client:
        client = self._client
        if client is None:
            client = await self._met()
        if not client.is_connected:
            self._is_away("the connection was lost")
            raise self._unavailable()
        if not self._is_known:
            async with self._finding:
                if not self._is_known:
                    await self._find_stream(client)
        return client

    async def _met(self) -> Client:
        """The client once it has met a server: it tries until it does; who asks waits a little in its first seconds only."""
        loop = asyncio.get_running_loop()
        if self._meeting is None:
            self._patient_s = loop.time() + CONNECT_S
            self._meeting = loop.create_task(self._meet())
        meeting = self._meeting
        await asyncio.wait((meeting,), timeout=max(0.0, self._patient_s - loop.time()))
        if self._client is not None:
            return self._client
        if not meeting.done():
            self._is_away("no answer")
            raise self._unavailable()
        if (error := meeting.exception()) is not None:
            self._meeting = None
            self._is_away(str(error) or type(error).__name__)
            raise self._unavailable() from error
        self._client = meeting.result()
        self._is_back()
        return self._client

    def _meet(self) -> Coroutine[Any, Any, Client]:
        import nats

        return nats.connect(
            servers=list(self.place.servers),
            name="pilvi",
            connect_timeout=CONNECT_S,
            allow_reconnect=True,
            max_reconnect_attempts=-1,
            reconnect_time_wait=RETRY_S,
            error_cb=self._on_error,
            disconnected_cb=self._on_disconnected,
            reconnected_cb=self._on_reconnected,
        )

    def _unavailable(self) -> Unavailable:
        return Unavailable(f"NATS at {self.place.shown} is away: {self.away}")

    async def _find_stream(self, client: Client) -> None:
        """The stream, made when it is not there."""
        if not self.name:
            self.name = await asyncio.to_thread(self._find_name)
        found = await asked(client, f"$JS.API.STREAM.INFO.{self.name}", {})
        if error := found.get("error"):
            if error.get("err_code") != _NO_STREAM:
                raise Unavailable(f"NATS at {self.place.shown}: {error.get('description')}")
            made = await asked(client, f"$JS.API.STREAM.CREATE.{self.name}", self._settings())
            if error := made.get("error"):
                raise Unavailable(f"NATS at {self.place.shown}: {error.get('description')}")
        self._is_known = True

    def _settings(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "subjects": [f"{self.name}.>"],
            "description": "Pilvi: facts on their way to their consumers",
            "retention": "limits",
            "storage": "file",
            "discard": "new",
            "max_msgs": -1,
            "max_bytes": -1,
            "max_age": 0,
            "max_consumers": -1,
            "num_replicas": self.place.replicas,
            "duplicate_window": DUPLICATES_S * 1_000_000_000,
            "allow_direct": True,
        }

    async def _disconnect(self) -> None:
        if self._client is not None:
            await self._client.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    async def _on_error(self, error: Exception) -> None:
        if self.away or self._client is None:
            self._is_away(str(error) or type(error).__name__)
        log.debug("events: NATS: %r", error)

    async def _on_disconnected(self) -> None:
        if self._loop is not None:
            self._is_away("the connection was lost")

    async def _on_reconnected(self) -> None:
        self._is_known = False
        self._is_back()

    def _is_away(self, reason: str) -> None:
        if not self.away:
            self.away_since = f"{self._clock.real_now():%Y-%m-%dT%H:%M:%SZ}"
            log.warning("events: NATS at %s is away: %s; facts wait in the outbox", self.place.shown, reason)
            self.away = reason
        elif reason not in VAGUE:
            self.away = reason

    def _is_back(self) -> None:
        if self.away:
            log.warning("events: NATS at %s is back", self.place.shown)
        self.away = self.away_since = ""

    # -- messages -----------------------------------------------------------------------------------------------------

    @property
    def most_bytes(self) -> int:
        """Of one message, as the server says; a guess before it was reached."""
        return self._client.max_payload if self._client is not None else 1 << 20

    async def publish(self, client: Client, messages: Sequence[Message]) -> None:
        """Keep them, in this order; all are on the server when this returns."""
        stream = client.jetstream(timeout=ANSWER_S)
        sent = [await stream.publish_async(one.subject, one.data, headers={"Nats-Msg-Id": one.id}) for one in messages]
        answers: Sequence[Awaitable[Any]] = sent
        await asyncio.wait_for(asyncio.gather(*answers), ANSWER_S + len(messages) / 100)

    async def read(self, client: Client, subject: str, after: int, limit: int) -> list[Kept]:
        """The oldest messages of a subject beyond a sequence number."""
        found: list[Kept] = []
        while len(found) < limit:
            asking = {"seq": after + 1, "next_by_subj": subject, "batch": limit - len(found)}
            page, pending = await self._page(client, asking)
            found += page
            if not page or not pending:
                break
            after = page[-1].seq
        return found

    async def _page(self, client: Client, asking: Mapping[str, Any]) -> tuple[list[Kept], int]:
        """What one request gives, and how much there is beyond."""
        inbox = client.new_inbox()
        answers = await client.subscribe(inbox)
        found: list[Kept] = []
        try:
            await client.publish(f"$JS.API.DIRECT.GET.{self.name}", json.dumps(asking).encode(), reply=inbox)
            while True:
                message: Msg = await answers.next_msg(ANSWER_S)
                headers = message.headers or {}
                if status := headers.get("Status"):
                    if status not in ("204", "404"):
                        raise Unavailable(f"NATS at {self.place.shown}: {status}")
                    return found, int(headers.get("Nats-Num-Pending", 0))
                found.append(Kept(int(headers["Nats-Sequence"]), headers.get("Nats-Msg-Id", ""), message.data))
        finally:
            await answers.unsubscribe()

    async def has(self, client: Client, seq: int) -> bool:
        return "error" not in await asked(client, f"$JS.API.STREAM.MSG.GET.{self.name}", {"seq": seq})

    async def delete(self, client: Client, seq: int) -> None:
        """Gone after this, or before."""
        answer = await asked(client, f"$JS.API.STREAM.MSG.DELETE.{self.name}", {"seq": seq, "no_erase": True})
        if (error := answer.get("error")) and error.get("err_code") not in _NOT_FOUND:
            raise Unavailable(f"NATS at {self.place.shown}: {error.get('description')}")

    async def remove(self, client: Client) -> None:
        """The stream with everything in it."""
        await asked(client, f"$JS.API.STREAM.DELETE.{self.name}", {})

    def forget(self) -> None:
        """Ask for the name again, and make the stream, at the next use."""
        self.name, self._is_known = "", False

    async def subjects(self, client: Client, pattern: str) -> list[str]:
        """Subjects that hold messages, without the stream's name."""
        found: list[str] = []
        while True:
            asking = {"subjects_filter": f"{self.name}.{pattern}", "offset": len(found)}
            told = await asked(client, f"$JS.API.STREAM.INFO.{self.name}", asking)
            if error := told.get("error"):
                self._is_known = False
                raise Unavailable(f"NATS at {self.place.shown}: {error.get('description')}")
            page = list(told["state"].get("subjects") or ())
            found += [subject.partition(".")[2] for subject in page]
            if not page or len(found) >= told.get("total", 0):
                return found


async def asked(client: Client, subject: str, question: Mapping[str, Any]) -> dict[str, Any]:
    """An answer of JetStream's API."""
    answer = await client.request(subject, json.dumps(question).encode(), timeout=ANSWER_S)
    told: dict[str, Any] = json.loads(answer.data)
    return told
