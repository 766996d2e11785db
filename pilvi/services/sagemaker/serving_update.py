"""An update of an endpoint: the new fleet (green) comes up beside the old one (blue), takes the traffic in steps, and blue goes.

    AllAtOnce   green 0 -> 1
    Canary      green 0 -> canary -> 1
    Linear      green 0 -> step -> 2 steps -> ... -> 1

After each step it bakes; an alarm that goes off meanwhile, or the deadline, rolls back. No request is dropped: blue ends when it has answered.

Source: developer guide, "Deployment guardrails for updating models in production". Differs: RollingUpdatePolicy moves the traffic as Linear
does, and blue goes as a whole at the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pilvi.core.errors import PilviError
from pilvi.services.sagemaker.notebook_ticket import Place
from pilvi.services.sagemaker.serving_live import Endpoint
from pilvi.services.sagemaker.serving_variant import DRAIN_S, Deployment
from pilvi.serving.answer import StartFailed

if TYPE_CHECKING:
    from pilvi.services.sagemaker.serving_fleet import Fleet

_LOOK_S = 0.5
_LONGEST_S = 14400.0
_REASON_CHARACTERS = 1024


class RolledBack(Exception):
    """An alarm went off, or the time was over."""


class Updating:
    def __init__(self, fleet: Fleet, place: Place, endpoint: Endpoint, record: Mapping[str, Any]) -> None:
        self._fleet = fleet
        self._place = place
        self._endpoint = endpoint
        self._record = record
        self._config: Mapping[str, Any] = record.get("_deployment") or {}
        policy = self._config.get("BlueGreenUpdatePolicy") or {}
        self._routing = policy.get("TrafficRoutingConfiguration") or _rolling(self._config) or {"Type": "ALL_AT_ONCE"}
        self._termination_s = float(policy.get("TerminationWaitInSeconds") or 0)
        longest = policy.get("MaximumExecutionTimeoutInSeconds")
        self._deadline_s = fleet.cloud.clock.time_s() + float(longest or _LONGEST_S)

    async def run(self) -> None:
        fleet, endpoint, place = self._fleet, self._endpoint, self._place
        plan = self._record["_next"]
        blue = endpoint.deployments[0]
        try:
            green = await fleet.brought_up(endpoint, plan)
        except StartFailed as error:
            await fleet.in_service(place, endpoint, FailureReason=str(error)[:_REASON_CHARACTERS])
            return
        green.share = 0.0
        endpoint.deployments = [blue, green]
        try:
            await self._shift(blue, green)
        except RolledBack as error:
            blue.share = 1.0
            endpoint.deployments = [blue]
            await fleet.tell(place, {"EndpointStatus": "RollingBack"})
            await green.close(DRAIN_S)
            await fleet.in_service(place, endpoint, FailureReason=str(error)[:_REASON_CHARACTERS])
            return
        except asyncio.CancelledError:
            blue.share = 1.0
            endpoint.deployments = [blue]
            await green.close()
            raise
        endpoint.deployments = [green]
        await fleet.takes_requests(place, endpoint, plan)
        kept = {"LastDeploymentConfig": self._record.get("_deployment")} if self._record.get("_deployment") else {}
        if self._termination_s:
            await self._pause(self._termination_s)
        await blue.close(DRAIN_S)
        await fleet.in_service(place, endpoint, FailureReason=None, **kept)

    async def _shift(self, blue: Deployment, green: Deployment) -> None:
        for share in shares(self._routing, max(1, sum(one.desired for one in green.variants.values()))):
            green.share, blue.share = share, 1.0 - share
            await self._bake(float(self._routing.get("WaitIntervalInSeconds") or 0))

    async def _bake(self, seconds: float) -> None:
        """Watch the alarms for a while, on the product's clock."""
        clock = self._fleet.cloud.clock
        end = clock.time_s() + seconds
        while True:
            if (name := await asyncio.to_thread(self._alarming)) is not None:
                raise RolledBack(f"Deployment has been rolled back: alarm {name} is in state ALARM.")
            now = clock.time_s()
            if now >= self._deadline_s:
                raise RolledBack("Deployment has been rolled back: it took longer than MaximumExecutionTimeoutInSeconds.")
            if now >= end:
                return
            await asyncio.sleep(min(_LOOK_S, end - now))

    async def _pause(self, seconds: float) -> None:
        clock = self._fleet.cloud.clock
        end = clock.time_s() + seconds
        while (left := end - clock.time_s()) > 0:
            await asyncio.sleep(min(_LOOK_S, left))

    def _alarming(self) -> str | None:
        """The name of an alarm that is on."""
        names = [one["AlarmName"] for one in (self._config.get("AutoRollbackConfiguration") or {}).get("Alarms") or ()]
        if not names:
            return None
        try:
            found = self._endpoint.ctx.call("cloudwatch", "DescribeAlarms", AlarmNames=names, StateValue="ALARM")
        except PilviError:
            return None
        return next((one["AlarmName"] for one in found.get("MetricAlarms") or ()), None)


def shares(routing: Mapping[str, Any], instances: int) -> list[float]:
    """What green gets of the traffic, step by step."""
    kind = routing.get("Type")
    if kind == "CANARY":
        return [_part(routing["CanarySize"], instances), 1.0]
    if kind == "LINEAR":
        step = _part(routing["LinearStepSize"], instances)
        found = [step]
        while found[-1] < 1.0 - 1e-9:
            found.append(min(1.0, found[-1] + step))
        return found
    return [1.0]


def _part(size: Mapping[str, Any], instances: int) -> float:
    value = float(size["Value"])
    return min(1.0, max(0.01, value / instances if size["Type"] == "INSTANCE_COUNT" else value / 100))


def _rolling(config: Mapping[str, Any]) -> dict[str, Any] | None:
    policy = config.get("RollingUpdatePolicy")
    if policy is None:
        return None
    return {
        "Type": "LINEAR",
        "LinearStepSize": policy["MaximumBatchSize"],
        "WaitIntervalInSeconds": policy.get("WaitIntervalInSeconds"),
    }
