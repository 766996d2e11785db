"""Every minute: what endpoints counted goes to CloudWatch, what they used to the bill."""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from pilvi.services.sagemaker.serving_figures import NAMESPACE, backlog_data
from pilvi.services.sagemaker.serving_fleet import context_for, running_fleet

if TYPE_CHECKING:
    from pilvi.core.service import Cloud
    from pilvi.services.sagemaker.notebook_ticket import Place
    from pilvi.services.sagemaker.serving_fleet import Fleet

_READ_S = 10.0
_BATCH = 1000


def has_work(cloud: Cloud) -> bool:
    fleet = running_fleet(cloud)
    return fleet is not None and bool(fleet.live or fleet.uses.running)


def tell(cloud: Cloud) -> None:
    """Read on the loop, told from this thread."""
    fleet = running_fleet(cloud)
    if fleet is None:
        return
    done: Future[dict[Place, list[dict[str, Any]]]] = Future()
    fleet.loop.call_soon_threadsafe(lambda: done.set_result(_gathered(fleet)))
    for place, data in done.result(_READ_S).items():
        ctx = context_for(cloud, place, "")
        for start in range(0, len(data), _BATCH):
            ctx.call("cloudwatch", "PutMetricData", Namespace=NAMESPACE, MetricData=data[start : start + _BATCH])
    fleet.uses.write_down(cloud.store, cloud.clock.now())


def _gathered(fleet: Fleet) -> dict[Place, list[dict[str, Any]]]:
    found: dict[Place, list[dict[str, Any]]] = {}
    for place, endpoint in fleet.live.items():
        instances = {variant.name: variant.current for one in endpoint.deployments for variant in one.all()}
        data = endpoint.figures.taken(instances)
        if endpoint.queue is not None:
            data += backlog_data(endpoint.name, endpoint.queue.backlog, sum(instances.values()))
        if data:
            found[place] = data
    return found
