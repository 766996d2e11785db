"""All endpoints of a cloud, each brought by one task to where its record says it shall be. Made when an operation first needs it, or at a restart.

    Creating --(all instances answer /ping)--> InService --> Updating --> InService
        \\--> Failed                                \\--> Deleting --> gone
    SystemUpdating: a restarted server brings up again what was in service; it cannot be updated meanwhile.

The record is the truth. Its private members are `_plan` (what is in service, or to be) and `_next` (what an update leads to).
Lives on the event loop; `close` may be called from any thread.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilvi.core.errors import Conflict, PilviError
from pilvi.core.principal import Principal
from pilvi.core.service import Context
from pilvi.events.told import told, wake
from pilvi.services.sagemaker.access import PRINCIPAL
from pilvi.services.sagemaker.notebook_ticket import Place
from pilvi.services.sagemaker.serving_async import Queue
from pilvi.services.sagemaker.serving_capture import Capture
from pilvi.services.sagemaker.serving_instance import Surroundings
from pilvi.services.sagemaker.serving_live import Endpoint
from pilvi.services.sagemaker.serving_plan import capture_summary, summary_of
from pilvi.services.sagemaker.serving_serverless import ServerlessVariant
from pilvi.services.sagemaker.serving_update import Updating
from pilvi.services.sagemaker.serving_usage import Uses
from pilvi.services.sagemaker.serving_variant import Deployment, Variant
from pilvi.services.sagemaker.tag import untagging
from pilvi.serving import desk_of
from pilvi.serving.answer import StartFailed
from pilvi.serving.logs import Scribe
from pilvi.serving.server import remove_left_over

if TYPE_CHECKING:
    from pilvi.core.service import Cloud
    from pilvi.storage.records import Change, Rows

log = logging.getLogger("pilvi.sagemaker")

NOUN = "Endpoint"
STATUS = "EndpointStatus"
LOG_GROUP = "/aws/sagemaker/Endpoints"
_KEY = "sagemaker-endpoints"
_REASON_CHARACTERS = 1024
_DRAIN_S = 30.0


class Fleet:
    def __init__(self, cloud: Cloud, loop: asyncio.AbstractEventLoop) -> None:
        self.cloud = cloud
        self.loop = loop
        self.scribe = Scribe()
        self.uses = Uses()
        self.is_closed = False
        self.live: dict[Place, Endpoint] = {}
        """Whatever has programs, or is about to have them."""
        self.folder = cloud.config.data_dir / "endpoints"
        self._desk = desk_of(cloud)
        self._tasks: dict[Place, asyncio.Task[None]] = {}

    # -- for operations -----------------------------------------------------------------------------------------------

    def create(self, place: Place) -> None:
        """Bring up an endpoint whose record says Creating or SystemUpdating."""
        self._begin(place, self._created)

    def update(self, place: Place) -> None:
        """Lead an endpoint whose record says Updating to its `_next`."""
        self._begin(place, self._updated)

    def rescale(self, place: Place, wanted: Mapping[str, tuple[float | None, int | None]]) -> None:
        """Give variants other weights and other numbers of instances."""

        async def rescaled(place: Place) -> None:
            await self._rescaled(place, wanted)

        self._begin(place, rescaled)

    def delete(self, place: Place) -> None:
        """End and forget an endpoint whose record says Deleting."""
        self._desk.open.pop(place, None)
        if (running := self._tasks.get(place)) is not None:
            running.cancel()
        self._begin(place, self._deleted)

    async def settled(self, place: Place, within_s: float) -> None:
        """Wait until nothing is being changed about an endpoint, or the time is over."""
        if (task := self._tasks.get(place)) is not None:
            await asyncio.wait((task,), timeout=within_s)

    # -- for the server -----------------------------------------------------------------------------------------------

    async def recover(self) -> None:
        """Go on where an earlier server stopped."""
        await asyncio.to_thread(remove_left_over, self.folder, {endpoint.id for endpoint in self.live.values()})
        for table in await asyncio.to_thread(self.cloud.store.tables, service="sagemaker", noun=NOUN):
            rows = self.cloud.rows(*table)
            for record in await asyncio.to_thread(list, rows.all()):
                place = Place(table.account, table.region, record[f"{NOUN}Name"].lower())
                if place in self.live or place in self._tasks:
                    continue
                if record[STATUS] in ("Creating", "Updating", "InService", "SystemUpdating", "RollingBack"):
                    if record[STATUS] != "Creating":
                        await self.tell(place, {STATUS: "SystemUpdating"})
                    self.create(place)
                elif record[STATUS] == "Deleting":
                    self.delete(place)

    def close(self) -> None:
        """End every program. Records stay as they are: the next server starts them again."""
        self.is_closed = True
        for endpoint in list(self.live.values()):
            for deployment in list(endpoint.deployments):
                deployment.kill()
            for deployment in list(endpoint.coming):
                deployment.kill()
        for task in list(self._tasks.values()):
            self.loop.call_soon_threadsafe(task.cancel)
        self.scribe.close()
        self.uses.write_down(self.cloud.store, self.cloud.clock.now())

    # -- the work -----------------------------------------------------------------------------------------------------

    async def _created(self, place: Place) -> None:
        record = await self.record(place)
        if record is None:
            return
        endpoint = self.endpoint_for(place, record)
        plans = [plan for plan in (record.get("_next"), record["_plan"]) if plan]
        reason = ""
        for number, plan in enumerate(plans):
            try:
                deployment = await self.brought_up(endpoint, plan)
            except StartFailed as error:
                reason = reason or str(error)
                continue
            endpoint.deployments = [deployment]
            await self.takes_requests(place, endpoint, plan)
            await self.in_service(place, endpoint, FailureReason=reason if number else None)
            return
        self.live.pop(place, None)
        await self.tell(place, {STATUS: "Failed", "FailureReason": reason[:_REASON_CHARACTERS], "_next": None})

    async def _updated(self, place: Place) -> None:
        record = await self.record(place)
        endpoint = self.live.get(place)
        if record is not None and record.get("_next") and endpoint is not None:
            await Updating(self, place, endpoint, record).run()

    async def _rescaled(self, place: Place, wanted: Mapping[str, tuple[float | None, int | None]]) -> None:
        endpoint = self.live.get(place)
        if endpoint is None or not endpoint.deployments:
            return
        reason = None
        for name, (weight, count) in wanted.items():
            variant = endpoint.deployments[0].variants[name]
            before = variant.desired
            try:
                if count is not None and count != before:
                    await variant.become(count)
            except StartFailed as error:
                reason = str(error)[:_REASON_CHARACTERS]
                await variant.become(before if variant.current >= before else max(1, variant.current))
                continue
            if weight is not None:
                variant.weight = weight
        await self.in_service(place, endpoint, FailureReason=reason)

    async def _deleted(self, place: Place) -> None:
        endpoint = self.live.pop(place, None)
        if endpoint is not None:
            await asyncio.gather(*(one.close(_DRAIN_S) for one in (*endpoint.deployments, *endpoint.coming)))
            if endpoint.capture is not None:
                await endpoint.capture.close()
            if endpoint.queue is not None:
                await endpoint.queue.forget()
        await asyncio.to_thread(self._forget, place)

    # -- steps that several works have ----------------------------------------------------------------------------------

    async def brought_up(self, endpoint: Endpoint, plan: Mapping[str, Any]) -> Deployment:
        """A deployment with all its instances up. StartFailed."""
        deployment = Deployment(
            endpoint.ctx, plan, self.folder / endpoint.id, Surroundings(self.scribe, endpoint.group, self.uses), made
        )
        endpoint.coming.append(deployment)
        for variant in deployment.all():
            variant.on_note = endpoint.figures.note
            if isinstance(variant, ServerlessVariant):
                variant.on_cold_start = partial(_note_start, endpoint, variant.name)
        try:
            await deployment.start()
        except PilviError as error:
            raise StartFailed(str(error)) from error
        finally:
            endpoint.coming.remove(deployment)
        return deployment

    async def takes_requests(self, place: Place, endpoint: Endpoint, plan: Mapping[str, Any]) -> None:
        config = plan.get("capture")
        is_on = config is not None and config.get("EnableCapture", True) is not False
        if endpoint.capture is not None:
            endpoint.capture.flush()
        role = plan["variants"][0]["_model"]["ExecutionRoleArn"]
        endpoint.capture = Capture(endpoint.ctx, config, endpoint.name, role) if is_on and config is not None else None
        queue, asynchronous = endpoint.queue, plan.get("async")
        if queue is not None:
            queue.close()
        endpoint.queue = Queue(endpoint, asynchronous, role) if asynchronous else None
        if endpoint.queue is not None:
            await endpoint.queue.recover()
        self._desk.open[place] = endpoint

    async def in_service(self, place: Place, endpoint: Endpoint, **members: Any) -> None:
        """The record says what runs."""
        deployment = endpoint.deployments[0]
        await self.tell(
            place,
            {
                STATUS: "InService",
                "EndpointConfigName": deployment.plan["config"],
                "_plan": _current_plan(deployment),
                "_next": None,
                "PendingDeploymentSummary": None,
                **self.described(endpoint),
                **members,
            },
        )

    def described(self, endpoint: Endpoint) -> dict[str, Any]:
        deployment = endpoint.deployments[0]
        now = self.cloud.clock.now()

        def summaries(variants: Any) -> list[dict[str, Any]]:
            return [summary_of(one.record, now, current=one.current, weight=one.weight, desired=one.desired) for one in variants]

        return {
            "ProductionVariants": summaries(deployment.variants.values()),
            "ShadowProductionVariants": summaries(deployment.shadows) or None,
            "DataCaptureConfig": capture_summary(deployment.plan),
            "AsyncInferenceConfig": deployment.plan.get("async"),
        }

    def endpoint_for(self, place: Place, record: Mapping[str, Any]) -> Endpoint:
        found = self.live.get(place)
        if found is None:
            name, arn = record[f"{NOUN}Name"], record[f"{NOUN}Arn"]
            found = Endpoint(context_for(self.cloud, place, arn), name, arn, f"{LOG_GROUP}/{name}", self.uses)
            self.live[place] = found
        return found

    async def record(self, place: Place) -> dict[str, Any] | None:
        return await asyncio.to_thread(self.rows(place).find, place.name)

    async def tell(self, place: Place, members: Mapping[str, Any]) -> None:
        """Change the record, unless it is gone or to be deleted."""
        await asyncio.to_thread(self._tell, place, members)

    def rows(self, place: Place) -> Rows:
        return self.cloud.rows(place.account, place.region, "sagemaker", NOUN)

    # -- private ------------------------------------------------------------------------------------------------------

    def _begin(self, place: Place, work: Callable[[Place], Coroutine[Any, Any, None]]) -> None:
        before = self._tasks.get(place)

        async def carried_out() -> None:
            if before is not None:
                await asyncio.wait((before,))
            try:
                await work(place)
            except asyncio.CancelledError:
                raise
            except Exception:  # the endpoint must come to an honest state
                log.exception("the endpoint %s broke", place.name)
                if not self.is_closed:
                    self._desk.open.pop(place, None)
                    words = "InternalServerError: We encountered an internal error. Please try again."
                    await self.tell(place, {STATUS: "Failed", "FailureReason": words})

        task = self.loop.create_task(carried_out())
        self._tasks[place] = task

        def done(ended: asyncio.Task[None]) -> None:
            if self._tasks.get(place) is ended:
                del self._tasks[place]

        task.add_done_callback(done)

    def _tell(self, place: Place, members: Mapping[str, Any]) -> None:
        rows = self.rows(place)
        while (row := rows.row(place.name)) is not None and row.value[STATUS] != "Deleting":
            value = {**row.value, "LastModifiedTime": self.cloud.clock.now(), **members}
            news = (state_change(self.cloud, place, value),) if value[STATUS] != row.value[STATUS] else ()
            try:
                self.cloud.store.write(rows.revision(place.name, value, row.version), *news)
            except Conflict:
                continue
            if news:
                wake(self.cloud, place.account, place.region)
            return

    def _forget(self, place: Place) -> None:
        rows = self.rows(place)
        record = rows.find(place.name)
        if record is not None:
            ctx = context_for(self.cloud, place, record[f"{NOUN}Arn"])
            gone = {**record, STATUS: "Deleted", "LastModifiedTime": self.cloud.clock.now()}
            news = state_change(self.cloud, place, gone)
            self.cloud.store.write(rows.deletion(place.name), *untagging(ctx, record[f"{NOUN}Arn"]), news)
            wake(self.cloud, place.account, place.region)


def _note_start(endpoint: Endpoint, variant: str, seconds: float) -> None:
    endpoint.figures.note(variant, "ModelSetupTime", seconds * 1e6)


def made(ctx: Context, record: Mapping[str, Any], folder: Path, around: Surroundings) -> Variant:
    """A variant of its kind."""
    return (ServerlessVariant if record.get("ServerlessConfig") else Variant)(ctx, record, folder, around)


def state_change(cloud: Cloud, place: Place, record: Mapping[str, Any]) -> Change:
    """What the default bus is told. Source: developer guide, "Events that Amazon SageMaker AI sends to Amazon EventBridge"."""
    arn = record[f"{NOUN}Arn"]
    return told(cloud, place.account, place.region, "aws.sagemaker", "SageMaker Endpoint State Change", [arn], record)


def _current_plan(deployment: Deployment) -> dict[str, Any]:
    """The plan with today's weights and numbers, for the next start."""
    variants = []
    for record in deployment.plan["variants"]:
        variant = deployment.variants[record["VariantName"]]
        counts = {} if record.get("ServerlessConfig") else {"InitialInstanceCount": variant.desired}
        variants.append({**record, "InitialVariantWeight": variant.weight, **counts})
    return {**deployment.plan, "variants": variants}


def context_for(cloud: Cloud, place: Place, arn: str) -> Context:
    """SageMaker's own context, acting for one endpoint."""
    principal = Principal("service", place.account, "", PRINCIPAL, PRINCIPAL, source_arn=arn)
    return Context(cloud, principal=principal, account=place.account, region=place.region, service="sagemaker")


def fleet_of(cloud: Cloud) -> Fleet:
    """The endpoints of a cloud; on its event loop."""
    found = cloud.memory.get(_KEY)
    if isinstance(found, Fleet) and not found.is_closed:
        return found
    fleet = cloud.memory[_KEY] = Fleet(cloud, asyncio.get_running_loop())
    return fleet


def running_fleet(cloud: Cloud) -> Fleet | None:
    """The fleet, if there is one; from any thread."""
    found = cloud.memory.get(_KEY)
    return found if isinstance(found, Fleet) and not found.is_closed else None


def close_fleet(cloud: Cloud) -> None:
    """The server stops."""
    if (fleet := running_fleet(cloud)) is not None:
        fleet.close()
