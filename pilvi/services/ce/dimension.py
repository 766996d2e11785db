"""The dimensions of a charge: the words by which Cost Explorer groups, filters and lists."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pilvi.core.errors import Invalid
from pilvi.metering import Charge

_SERVICES = {
    "AmazonS3": "Amazon Simple Storage Service",
    "AWSEvents": "CloudWatch Events",
    "AmazonSageMaker": "Amazon SageMaker",
    "awskms": "AWS Key Management Service",
    "AWSLambda": "AWS Lambda",
    "AWSQueueService": "Amazon Simple Queue Service",
    "AmazonSNS": "Amazon Simple Notification Service",
}
"""Product codes, and what Cost Explorer calls them."""
_NO_TYPE = "NoInstanceType"

_OF: Mapping[str, Callable[[Charge], str]] = {
    "SERVICE": lambda charge: service_name(charge.line.meter.product),
    "SERVICE_CODE": lambda charge: charge.line.meter.product,
    "USAGE_TYPE": lambda charge: charge.usage_type,
    "OPERATION": lambda charge: charge.line.meter.operation,
    "REGION": lambda charge: charge.line.meter.region,
    "LINKED_ACCOUNT": lambda charge: charge.line.meter.account,
    "INSTANCE_TYPE": lambda charge: charge.line.meter.instance_type or _NO_TYPE,
    "PURCHASE_TYPE": lambda charge: charge.line.meter.purchase,
    "RECORD_TYPE": lambda _: "Usage",
    "BILLING_ENTITY": lambda _: "AWS",
}


def service_name(product: str) -> str:
    return _SERVICES.get(product, product)


def value_of(charge: Charge, dimension: str) -> str:
    """A charge's value in a dimension."""
    return _OF[dimension](charge)


def check_dimension(name: str) -> None:
    """Invalid for what is no dimension here."""
    if name not in _OF:
        raise Invalid(f"Dimension {name} is not supported by this server yet: it has {', '.join(sorted(_OF))}.")
