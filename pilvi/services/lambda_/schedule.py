"""What Lambda does again and again (pilvi.schedules)."""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING, Final

from pilvi.schedules import Periodic
from pilvi.services.lambda_ import usage
from pilvi.services.lambda_.engine import running_engine
from pilvi.services.lambda_.figures import FIGURES

if TYPE_CHECKING:
    from pilvi.core.service import Cloud

READ_S: Final = 10.0


def publish(cloud: Cloud) -> None:
    """What there is to tell CloudWatch; what mappings have counted is read on the loop."""
    engine = running_engine(cloud)
    if engine is not None:
        done: Future[int] = Future()
        engine.loop.call_soon_threadsafe(lambda: done.set_result(engine.mappings.tell()))
        done.result(READ_S)
    FIGURES.publish(cloud)


def has_work(cloud: Cloud) -> bool:
    return running_engine(cloud) is not None or FIGURES.has_work(cloud)


TASKS = (
    Periodic("metrics", 60.0, publish, has_work),
    Periodic("usage", 300.0, usage.COUNTED.write_down),
)
