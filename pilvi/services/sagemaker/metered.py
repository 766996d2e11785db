"""What of SageMaker is on the bill besides jobs (pilvi/jobs/meter.py): notebook instances and Studio's apps, while they are InService."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilvi.metering.line import Meter
from pilvi.metering.running import Beat, ending, starting
from pilvi.services.sagemaker.notebook_ticket import Place
from pilvi.storage.records import Change

if TYPE_CHECKING:
    from pilvi.core.service import Cloud

PRODUCT = "AmazonSageMaker"
"""SageMaker's product code."""
_OPERATION = "RunInstance"
NOTEBOOK_USAGE = "Notebk:"


def app_usage(app_type: str) -> str:
    """How AWS calls the use of an instance by Studio's apps of a type."""
    return f"Studio:{app_type}-"


def begins(cloud: Cloud, place: Place, usage: str, arn: str, instance_type: str) -> Change:
    """Its time counts from now on. usage: NOTEBOOK_USAGE or an app's."""
    meter = Meter(
        id=cloud.ids.lower(20),
        account=place.account,
        region=place.region,
        product=PRODUCT,
        usage=f"{usage}{instance_type}",
        operation=_OPERATION,
        resource=arn,
        instance_type=instance_type,
    )
    return starting(meter, "sagemaker", cloud.clock.now())


def ends(cloud: Cloud, place: Place, arn: str) -> tuple[Change, ...]:
    """Its time counted until it was last seen."""
    return ending(cloud.store, place.account, arn)


def beat(cloud: Cloud, place: Place, arn: str) -> Beat:
    return Beat(cloud.store, cloud.clock, place.account, arn)
