"""A note that something of SageMaker has come to another state, for the transaction that brings it there. What becomes of it:
state_change.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from pilvi.core.principal import Principal
from pilvi.core.service import Context
from pilvi.storage.records import Change

if TYPE_CHECKING:
    from pilvi.core.service import Cloud

CONSUMER: Final = "sagemaker/states"
_PRINCIPAL: Final = "sagemaker.amazonaws.com"


def noting(cloud: Cloud, account: str, region: str, noun: str, record: Mapping[str, Any]) -> Change:
    """The change that notes it."""
    shown = {name: value for name, value in record.items() if not name.startswith("_")}
    fact = {"account": account, "region": region, "noun": noun, "record": shown}
    return cloud.events.recording(CONSUMER, f"{account}:{region}", record[f"{noun}Arn"], fact)


def wake(cloud: Cloud, account: str, region: str) -> None:
    """The transaction is committed."""
    cloud.events.wake(CONSUMER, f"{account}:{region}")


def context_of(cloud: Cloud, fact: Mapping[str, Any]) -> Context:
    """SageMaker itself, where it happened."""
    principal = Principal("service", fact["account"], "", _PRINCIPAL, _PRINCIPAL)
    return Context(cloud, principal=principal, account=fact["account"], region=fact["region"], service="sagemaker")
