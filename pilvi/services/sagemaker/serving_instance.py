"""One instance of a variant: the model's containers, each a program, asked one after the other or by name."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilvi.compute import Bind
from pilvi.core.errors import PilviError
from pilvi.core.service import Context
from pilvi.jobs.host import remove_folder
from pilvi.jobs.logs import JobLog
from pilvi.services.sagemaker.job_check import SESSION
from pilvi.services.sagemaker.model import containers_of
from pilvi.services.sagemaker.notebook_run import is_loopback
from pilvi.services.sagemaker.notebook_runs import Guest, runs_of
from pilvi.services.sagemaker.notebook_ticket import PATH
from pilvi.services.sagemaker.serving_files import Files
from pilvi.services.sagemaker.serving_models import MODELS, ModelCache
from pilvi.services.sagemaker.serving_spec import Room, names_of, server_spec
from pilvi.services.sagemaker.serving_usage import Uses
from pilvi.serving import Call
from pilvi.serving.answer import Answer, StartFailed
from pilvi.serving.logs import Scribe
from pilvi.serving.server import Server

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger("pilvi.sagemaker")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the instances of an endpoint have in common."""

    scribe: Scribe
    group: str
    """Of its logs."""
    uses: Uses


class Instance:
    """Made and used on the event loop."""

    def __init__(
        self, ctx: Context, variant: Mapping[str, Any], room: Room, files: list[Files], folder: Path, around: Surroundings
    ) -> None:
        """ctx: SageMaker's own, for the endpoint. variant: with its model. folder: where instances of the endpoint have theirs."""
        self.id = f"i-{ctx.ids.hex(17)}"
        self.variant = variant
        self.room = room
        self.servers: list[Server] = []
        self.names = names_of(variant["_model"])
        self.load = 0
        """Requests that are with it."""
        self.models: dict[int, ModelCache] = {}
        """Of multi-model containers."""
        self.is_up = False
        self.on_note: Callable[[str, str, float, str], None] = lambda *_: None
        """Told of a metric of a variant: its name, value and unit."""
        self.on_end: Callable[[Instance], None] = lambda _: None
        self.group = around.group
        self._uses = around.uses
        self._ctx = ctx
        self._files = files
        self._folder = folder / self.id
        self._scribe = around.scribe
        self._logs: list[JobLog] = []

    @property
    def is_direct(self) -> bool:
        return bool((self.variant["_model"].get("InferenceExecutionConfig") or {}).get("Mode") == "Direct")

    def stream_of(self, number: int) -> str:
        """Its log's name. Source: developer guide, "Log groups and streams that Amazon SageMaker AI sends to CloudWatch Logs"."""
        base = f"{self.variant['VariantName']}/{self.id}"
        return base if len(self.names) == 1 else f"{base}/{self.names[number]}"

    async def start(self) -> None:
        """All containers up. StartFailed in AWS's words; nothing is left of it then."""
        ctx, model = self._ctx, self.variant["_model"]
        try:
            role, secrets = await asyncio.to_thread(self._credentials)
        except PilviError as error:
            raise StartFailed(f"Could not assume role {model['ExecutionRoleArn']}: {error}") from error
        containers = containers_of(model)
        for number, container in enumerate(containers):
            binds = list(self._files[number].binds())
            if container.get("Mode") == "MultiModel":
                models = self._folder / f"models-{number}"
                models.mkdir(parents=True, exist_ok=True)
                binds.append(Bind(models, MODELS))
                self.models[number] = ModelCache(ctx, model["ExecutionRoleArn"], container, models, self._note)
            spec = server_spec(
                ctx.account,
                ctx.region,
                container,
                self.names[number],
                self.room,
                self.variant,
                binds=binds,
                is_isolated=bool(model.get("EnableNetworkIsolation")),
                secrets=secrets,
                timeout_s=int(self.variant.get("_timeout_s") or 60),
            )
            kept = self._scribe.log(ctx, self.group, self.stream_of(number))
            self._logs.append(kept)
            server = Server(ctx, role, spec, self._folder / str(number), kept)
            server.on_end = self._lost
            self.servers.append(server)
        results = await asyncio.gather(*(server.start() for server in self.servers), return_exceptions=True)
        for server, result in zip(self.servers, results, strict=True):
            if isinstance(result, BaseException):
                await self.end()
                if not isinstance(result, StartFailed):
                    raise result
                raise StartFailed(self._not_healthy(server, result)) from result
        self.is_up = True
        if self.variant.get("InstanceType"):
            self._uses.begins(ctx, ctx.principal.source_arn, self.id, self.variant["InstanceType"])

    async def end(self, grace_s: float = 0.0) -> None:
        self.is_up = False
        self._uses.ends(self.id, self._ctx.clock.now())
        runs_of(self._ctx.cloud).guests.pop(self.id, None)
        await asyncio.gather(*(server.end(grace_s) for server in self.servers))
        await asyncio.to_thread(remove_folder, self._folder)
        logs, self._logs = self._logs, []
        for kept in logs:
            await asyncio.to_thread(self._scribe.finish, kept)

    def kill(self) -> None:
        for server in self.servers:
            server.kill()

    # -- asking -------------------------------------------------------------------------------------------------------

    def server_for(self, call: Call) -> int | None:
        """Which container a call is for, where they are asked by name; None for no such name."""
        return self.names.index(call.container) if call.container in self.names else None

    async def ask(self, number: int, path: str, call: Call, body: bytes, content_type: str, *, is_last: bool) -> Answer:
        lanes = self.servers[number].lanes
        assert lanes is not None
        if (models := self.models.get(number)) is not None:

            def head(place: str) -> bytes:
                return head_of(place, call, content_type, len(body), is_last=is_last)

            return await models.ask(lanes, call.model, head, body, call.timeout_s)
        return await lanes.ask(head_of(path, call, content_type, len(body), is_last=is_last), body, call.timeout_s)

    async def stream(self, path: str, call: Call) -> tuple[Answer, AsyncIterator[bytes]]:
        lanes = self.servers[0].lanes
        assert lanes is not None
        return await lanes.stream(head_of(path, call, call.content_type, len(call.body)), call.body, call.timeout_s)

    # -- private ------------------------------------------------------------------------------------------------------

    def _credentials(self) -> tuple[Context, dict[str, str]]:
        """The model's role, and how the program gets its keys: again and again, as it may live long."""
        role, cloud = self.variant["_model"]["ExecutionRoleArn"], self._ctx.cloud
        as_role = self._ctx.as_role(role, SESSION)
        if is_loopback(cloud.endpoint):
            secret = self._ctx.ids.hex(64)
            runs_of(cloud).guests[self.id] = Guest(secret, self._ctx, role)
            uri = f"{cloud.endpoint}{PATH}credentials/{self.id}"
            return as_role, {"AWS_CONTAINER_CREDENTIALS_FULL_URI": uri, "AWS_CONTAINER_AUTHORIZATION_TOKEN": secret}
        identity = cloud.identities.assume_role(self._ctx.principal, role, SESSION)
        secrets = {
            "AWS_ACCESS_KEY_ID": identity.access_key_id,
            "AWS_SECRET_ACCESS_KEY": identity.secret,
            "AWS_SESSION_TOKEN": identity.session_token,
        }
        return as_role, secrets

    def _note(self, metric: str, value: float, unit: str) -> None:
        self.on_note(self.variant["VariantName"], metric, value, unit)

    def _lost(self) -> None:
        """A container ended by itself: the instance is of no use any more."""
        if self.is_up:
            self.is_up = False
            self._uses.ends(self.id, self._ctx.clock.now())
            self.on_end(self)

    def _not_healthy(self, server: Server, why: StartFailed) -> str:
        last = next((line.strip() for line in reversed(server.last) if line.strip()), "")
        return (
            f"The {server.spec.name} container for production variant {self.variant['VariantName']} did not pass the ping health check. "
            f"Please check CloudWatch logs for this endpoint. ({why}{f': {last}' if last and last not in str(why) else ''})"
        )


def head_of(path: str, call: Call, content_type: str, length: int, *, is_last: bool = True) -> bytes:
    """The head of a request to a container. Header values come from HTTP headers, so they hold no line breaks."""
    lines = [f"POST {path} HTTP/1.1\r\nHost: model\r\nContent-Length: {length}"]
    if content_type:
        lines.append(f"Content-Type: {content_type}")
    if call.accept and is_last:
        lines.append(f"Accept: {call.accept}")
    if call.custom_attributes:
        lines.append(f"X-Amzn-SageMaker-Custom-Attributes: {call.custom_attributes}")
    if call.model:
        lines.append(f"X-Amzn-SageMaker-Target-Model: {call.model}")
    if call.session:
        lines.append(f"X-Amzn-SageMaker-Session-Id: {call.session}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")
