"""An endpoint at work: which variant and which instance a request goes to, and what the caller hears of it.

    request --> deployment (by its share, while two are up) --> variant (by weight, or as asked for) --> instance (fewest requests)

Shares and weights are kept exactly: whoever is furthest behind its part is next. Everything here runs on the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, Protocol, TypeVar

from pilvi.core.errors import ServiceError
from pilvi.core.service import Context
from pilvi.services.sagemaker.model import containers_of
from pilvi.services.sagemaker.serving_async import Queue
from pilvi.services.sagemaker.serving_capture import Capture
from pilvi.services.sagemaker.serving_figures import Figures
from pilvi.services.sagemaker.serving_instance import Instance
from pilvi.services.sagemaker.serving_serverless import ServerlessVariant
from pilvi.services.sagemaker.serving_usage import Uses
from pilvi.services.sagemaker.serving_variant import Deployment, Variant
from pilvi.serving import Answered, Call
from pilvi.serving.answer import Answer, Broken, TookTooLong

_INVOCATIONS = "/invocations"
_ATTRIBUTES = "x-amzn-sagemaker-custom-attributes"
_NEW_SESSION = "x-amzn-sagemaker-new-session-id"
_CLOSED_SESSION = "x-amzn-sagemaker-closed-session-id"


class _Weighted(Protocol):
    credit: float


W = TypeVar("W", bound=_Weighted)


class Endpoint:
    """Answers requests; the fleet changes what it answers with."""

    def __init__(self, ctx: Context, name: str, arn: str, group: str, uses: Uses) -> None:
        """ctx: SageMaker's own, for this endpoint."""
        self.ctx = ctx
        self.name = name
        self.arn = arn
        self.group = group
        self.uses = uses
        self.deployments: list[Deployment] = []
        """Those that get traffic, by `share`."""
        self.figures = Figures(name)
        self.capture: Capture | None = None
        self.queue: Queue | None = None
        self.coming: list[Deployment] = []
        """Those that come up, or are about to."""
        self.id = ctx.ids.lower(12)
        self._shadow_tasks: set[asyncio.Task[None]] = set()

    # -- Answering ----------------------------------------------------------------------------------------------------

    async def answer(self, call: Call) -> Answered:
        variant = self._check(call)
        loop = asyncio.get_running_loop()
        began = loop.time()
        instance = await self._instance(variant, call)
        instance.load += 1
        asked = loop.time()
        status = 500
        try:
            if shadows := self._shadows(call):
                self._copy_to(shadows, call)
            found, where = await self._through(variant, instance, call)
            status = found.status
            if status >= 400 or status < 200:
                raise self._model_error(instance, where, status, found.body, found.headers)
            return self._answered(variant, call, found)
        finally:
            instance.load -= 1
            now = loop.time()
            self.figures.count(variant.name, status, now - asked, asked - began)
            self._bill(variant, now - asked)

    async def stream(self, call: Call) -> Answered:
        variant = self._check(call)
        loop = asyncio.get_running_loop()
        began = loop.time()
        instance = await self._instance(variant, call)
        if len(instance.servers) > 1 and not instance.is_direct:
            raise invalid("Response streaming is not supported for inference pipelines.")
        instance.load += 1
        asked, status = loop.time(), 500
        try:
            try:
                found, pieces = await instance.stream(_INVOCATIONS, call)
            except (Broken, TookTooLong) as error:
                raise self._broken(instance, 0, error) from error
            status = found.status
            if status >= 400:
                body = b"".join([piece async for piece in pieces])
                raise self._model_error(instance, 0, status, body, found.headers)
            out = self._answered(variant, call, found)
            out.pieces = self._counted(variant, instance, pieces, asked, asked - began)
            instance.load += 1
            return out
        finally:
            instance.load -= 1
            if status >= 400:
                self.figures.count(variant.name, status, loop.time() - asked, asked - began)

    async def accept(self, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        if self.queue is not None:
            return await self.queue.accept(asked)
        raise invalid(
            f"Endpoint {self.name} does not support asynchronous inference: its configuration has no AsyncInferenceConfig."
        )

    def _bill(self, variant: Variant, seconds: float) -> None:
        """What serverless variants cost: the time that they work."""
        if isinstance(variant, ServerlessVariant):
            self.uses.worked(self.ctx, self.arn, f"{self.id}/{variant.name}", variant.memory_mib, seconds)

    # -- where to -----------------------------------------------------------------------------------------------------

    def _check(self, call: Call) -> Variant:
        if call.component:
            raise invalid(f"Inference component {call.component} is not found on endpoint {self.name}.")
        deployment = turn(self.deployments, {id(one): one.share for one in self.deployments})
        if deployment is None:
            raise ServiceError("ServiceUnavailable", "The endpoint has nothing in service at the moment.", 503)
        if call.variant:
            named = [one.variants[call.variant] for one in [deployment, *self.deployments] if call.variant in one.variants]
            if not named:
                raise invalid(f"Variant {call.variant} is not found for Endpoint {self.name}.")
            return named[0]
        variants = deployment.variants.values()
        variant = turn(variants, {id(one): one.weight for one in variants})
        if variant is None:
            raise invalid(f"The total variant weight of endpoint {self.name} is 0.")
        return variant

    async def _instance(self, variant: Variant, call: Call) -> Instance:
        found = variant.pick() or await variant.wait(call.timeout_s)
        if found is None:
            raise ServiceError("ServiceUnavailable", "The variant has no instance in service at the moment.", 503)
        is_multi = any(one.get("Mode") == "MultiModel" for one in containers_of(variant.record["_model"]))
        if is_multi and not call.model:
            raise invalid("Target model header is required for endpoints that host multiple models.")
        if call.model and not is_multi:
            raise invalid("Target model header is not supported for endpoints that host a single model.")
        if found.is_direct != bool(call.container):
            raise invalid(
                "TargetContainerHostname must be given for endpoints whose containers are invoked directly."
                if found.is_direct
                else f"Endpoint {self.name} does not support TargetContainerHostname: its containers are not invoked directly."
            )
        return found

    async def _through(self, variant: Variant, instance: Instance, call: Call) -> tuple[Answer, int]:
        """The answer, and which container it is from. A request whose container went is given to another once: nothing of an answer
        has been seen then."""
        for is_second in (False, True):
            where = 0
            try:
                if instance.is_direct:
                    number = instance.server_for(call)
                    if number is None:
                        raise invalid(f"Target container {call.container} is not found for endpoint {self.name}.")
                    return await instance.ask(number, _INVOCATIONS, call, call.body, call.content_type, is_last=True), number
                body, content_type = call.body, call.content_type
                last = len(instance.servers) - 1
                for where in range(last + 1):
                    found = await instance.ask(where, _INVOCATIONS, call, body, content_type, is_last=where == last)
                    if where == last or not 200 <= found.status < 300:
                        return found, where
                    body, content_type = found.body, found.headers.get("content-type", "")
            except Broken as error:
                if is_second:
                    raise self._broken(instance, where, error) from error
                await asyncio.sleep(0)  # its end is heard of first
                other = await variant.wait(call.timeout_s)
                if other is None:
                    raise self._broken(instance, where, error) from error
                instance = other
            except TookTooLong as error:
                raise self._broken(instance, where, error) from error
        raise AssertionError

    def _shadows(self, call: Call) -> list[Variant]:
        return [] if call.variant else [shadow for deployment in self.deployments for shadow in deployment.shadows]

    def _copy_to(self, shadows: list[Variant], call: Call) -> None:
        """The same request for shadow variants, whose answers nobody gets."""
        for shadow in shadows:
            task = asyncio.get_running_loop().create_task(self._shadowed(shadow, call))
            self._shadow_tasks.add(task)
            task.add_done_callback(self._shadow_tasks.discard)

    async def _shadowed(self, shadow: Variant, call: Call) -> None:
        instance = shadow.pick()
        if instance is None:
            return
        began, status = asyncio.get_running_loop().time(), 500
        instance.load += 1
        try:
            status = (await self._through(shadow, instance, call))[0].status
        except ServiceError:
            pass
        finally:
            instance.load -= 1
            self.figures.count(shadow.name, status, asyncio.get_running_loop().time() - began, 0.0)

    # -- what the caller hears ----------------------------------------------------------------------------------------

    def _answered(self, variant: Variant, call: Call, found: Answer) -> Answered:
        headers = found.headers
        content_type = headers.get("content-type", "")
        if self.capture is not None:
            self.capture.take(variant.name, call, found.body, content_type)
        return Answered(found.body, content_type, variant.name, headers.get(_ATTRIBUTES, ""), headers)

    async def _counted(
        self, variant: Variant, instance: Instance, pieces: AsyncIterator[bytes], asked: float, overhead_s: float
    ) -> AsyncIterator[bytes]:
        status = 500
        try:
            async for piece in pieces:
                yield piece
            status = 200
        except (Broken, TookTooLong) as error:
            code = "ModelInvocationTimeExceeded" if isinstance(error, TookTooLong) else "StreamBroken"
            raise ServiceError("ModelStreamError", str(error), 400, ErrorCode=code) from error
        finally:
            instance.load -= 1
            self.figures.count(variant.name, status, asyncio.get_running_loop().time() - asked, overhead_s)

    def _broken(self, instance: Instance, where: int, error: Exception) -> ServiceError:
        name = instance.names[where]
        if isinstance(error, TookTooLong):
            words = (
                f"Your invocation timed out while waiting for a response from container {name}. Review the latency metrics for each "
                "container in Amazon CloudWatch, resolve the issue, and try again."
            )
            return self._model_error(instance, where, 0, words.encode(), {})
        return self._model_error(instance, where, 500, str(error).encode(), {})

    def _model_error(self, instance: Instance, where: int, status: int, body: bytes, headers: Mapping[str, str]) -> ServiceError:
        """Source: SageMaker runtime API reference, ModelError; the message as users of AWS report it."""
        del headers
        said = body.decode(errors="replace")
        region, account = self.ctx.region, self.ctx.account
        kind = "client" if 400 <= status < 500 else "server"
        message = (
            f'Received {kind} error ({status}) from {instance.names[where]} with message "{said}". See '
            f"https://{region}.console.aws.amazon.com/cloudwatch/home?region={region}#logEventViewer:group={self.group} "
            f"in account {account} for more information."
        )
        arn = self.ctx.arn(f"log-group:{self.group}:log-stream:{instance.stream_of(where)}", service="logs")
        return ServiceError("ModelError", message, 424, OriginalStatusCode=status, OriginalMessage=said, LogStreamArn=arn)


def turn(them: Iterable[W], parts: Mapping[int, float]) -> W | None:
    """Whose turn it is: each gets its part on credit, and who has most pays for all. None where nobody has a part."""
    found = [one for one in them if parts[id(one)] > 0]
    if len(found) < 2:
        return found[0] if found else None
    total = 0.0
    best = found[0]
    for one in found:
        part = parts[id(one)]
        total += part
        one.credit += part
        if one.credit > best.credit:
            best = one
    best.credit -= total
    return best


def invalid(message: str) -> ServiceError:
    return ServiceError("ValidationError", message, 400)
