"""What an event source mapping may be set to, source by source. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from pilvi.core.arn import Arn
from pilvi.core.errors import Invalid
from pilvi.core.service import Context
from pilvi.events.patterns import compile_pattern
from pilvi.events.poller import Settings
from pilvi.services.lambda_.names import failed_constraint, invalid

FILTERS: Final = 5
"""Source: developer guide, "Control which events Lambda sends to your function"."""
FIFO_BATCH: Final = 10
UNWINDOWED_BATCH: Final = 10
DEFAULT_BATCH: Final = 10
MOST_AT_ONCE: Final = 1000
_LATER: Final = {
    "kinesis": "Kinesis streams",
    "dynamodb": "DynamoDB streams",
    "kafka": "Kafka clusters",
    "mq": "message brokers",
    "rds": "DocumentDB clusters",
}
_OF_OTHERS: Final = (
    "StartingPosition",
    "StartingPositionTimestamp",
    "ParallelizationFactor",
    "BisectBatchOnFunctionError",
    "MaximumRecordAgeInSeconds",
    "MaximumRetryAttempts",
    "TumblingWindowInSeconds",
    "DestinationConfig",
    "Topics",
    "Queues",
    "SourceAccessConfigurations",
    "AmazonManagedKafkaEventSourceConfig",
    "SelfManagedKafkaEventSourceConfig",
    "DocumentDBEventSourceConfig",
    "LoggingConfig",
)
"""What queues know nothing of."""


class Where(NamedTuple):
    """A source that is built."""

    arn: str
    is_fifo: bool


def check_source(req: Mapping[str, Any]) -> Where:
    """What kind of source is asked for, and that it can have what else is asked for."""
    if req.get("SelfManagedEventSource"):
        raise invalid("SelfManagedEventSource: Kafka clusters are not available in this cloud as event sources.")
    arn = req.get("EventSourceArn") or ""
    parsed = Arn.parse(arn)
    if parsed is None:
        raise invalid("Unrecognized event source." if arn else "Event source ARN is required.")
    if parsed.service in _LATER:
        raise invalid(f"EventSourceArn: {_LATER[parsed.service]} are not available in this cloud as event sources.")
    if parsed.service != "sqs":
        raise invalid(f"Unrecognized event source, must be kinesis, dynamodb stream or sqs. Unsupported source: {arn}")
    for member in _OF_OTHERS:
        if _is_set(req.get(member)):
            raise invalid(f"{member} is not valid for SQS event sources.")
    if req.get("KMSKeyArn"):
        raise invalid("KMSKeyArn: customer managed keys are not available in this cloud for filter criteria.")
    if req.get("ProvisionedPollerConfig"):
        raise invalid("ProvisionedPollerConfig: provisioned pollers are not available in this cloud.")
    return Where(arn, arn.endswith(".fifo"))


def applied(before: Mapping[str, Any], req: Mapping[str, Any], source: Where) -> dict[str, Any]:
    """The settings after a request, checked; those that are not set are absent."""
    out: dict[str, Any] = {
        "BatchSize": _given(req, "BatchSize", before.get("BatchSize", DEFAULT_BATCH)),
        "MaximumBatchingWindowInSeconds": _given(
            req, "MaximumBatchingWindowInSeconds", before.get("MaximumBatchingWindowInSeconds", 0)
        ),
    }
    _check_batch(out["BatchSize"], out["MaximumBatchingWindowInSeconds"], is_fifo=source.is_fifo)
    for member, checked in (
        ("FilterCriteria", _checked_filters),
        ("ScalingConfig", _checked_scaling),
        ("MetricsConfig", _checked_metrics),
        ("FunctionResponseTypes", list),
    ):
        value = before.get(member) if req.get(member) is None else checked(req[member])
        if value:
            out[member] = value
    return out


def poller_settings(record: Mapping[str, Any]) -> Settings:
    """What the poller is told."""
    filters = (record.get("FilterCriteria") or {}).get("Filters") or ()
    return Settings(
        batch_size=record["BatchSize"],
        window_s=float(record["MaximumBatchingWindowInSeconds"]),
        patterns=tuple(compile_pattern(one["Pattern"]) for one in filters if one.get("Pattern")),
        most_at_once=(record.get("ScalingConfig") or {}).get("MaximumConcurrency") or MOST_AT_ONCE,
    )


def mapping_arn(ctx: Context, uuid: str) -> str:
    return ctx.arn(f"event-source-mapping:{uuid}", service="lambda")


def _check_batch(size: int, window_s: int, *, is_fifo: bool) -> None:
    if is_fifo and window_s:
        raise invalid("Batching window is not supported for FIFO queues.")
    if is_fifo and size > FIFO_BATCH:
        raise failed_constraint(size, "batchSize", f"Member must have value less than or equal to {FIFO_BATCH}")
    if size > UNWINDOWED_BATCH and not window_s:
        raise invalid("Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10")


def _checked_filters(criteria: Mapping[str, Any]) -> dict[str, Any] | None:
    filters = [{"Pattern": one["Pattern"]} for one in criteria.get("Filters") or () if one.get("Pattern")]
    if len(filters) > FILTERS:
        raise invalid(f"Number of filters exceeds the limit of {FILTERS}.")
    for one in filters:
        try:
            compile_pattern(one["Pattern"])
        except Invalid as error:
            raise invalid(f"Invalid filter pattern definition. {error.message}") from error
    return {"Filters": filters} if filters else None


def _checked_scaling(config: Mapping[str, Any]) -> dict[str, Any] | None:
    most = config.get("MaximumConcurrency")
    return {"MaximumConcurrency": most} if most else None


def _checked_metrics(config: Mapping[str, Any]) -> dict[str, Any] | None:
    metrics = list(config.get("Metrics") or ())
    if others := [one for one in metrics if one != "EventCount"]:
        raise invalid(f"MetricsConfig: {others[0]} is not valid for SQS event sources.")
    return {"Metrics": metrics} if metrics else None


def _given(req: Mapping[str, Any], member: str, otherwise: int) -> int:
    return otherwise if req.get(member) is None else int(req[member])


def _is_set(value: object) -> bool:
    if isinstance(value, Mapping):
        return any(_is_set(inner) for inner in value.values())
    return value is not None and value is not False and value != [] and value != "" and value != ()
