"""What a pipe may lead from, through and to: which kinds are built, how many events each takes together, the calls they mean.

Source: EventBridge User Guide, "Amazon EventBridge Pipes batching and concurrency", "targets", "event enrichment".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from pilvi.core.arn import Arn
from pilvi.core.errors import Invalid, ServiceError
from pilvi.core.service import Context
from pilvi.events.patterns import compile_pattern
from pilvi.events.poller import Settings
from pilvi.events.targets import kind_of
from pilvi.services.pipes.template import check_template

DEFAULT_BATCH: Final = 10
UNWINDOWED_BATCH: Final = 10
FIFO_BATCH: Final = 10
FILTERS: Final = 5
MOST_AT_ONCE: Final = 1250
"""Source: EventBridge User Guide, "Pipes throughput"."""
SOURCES: Final[Mapping[str, str]] = {
    "sqs": "SqsQueueParameters",
    "kinesis": "KinesisStreamParameters",
    "dynamodb": "DynamoDBStreamParameters",
    "mq": "ActiveMQBrokerParameters",
    "kafka": "ManagedStreamingKafkaParameters",
}
"""Their parameters; of these only queues are built."""


class Kind(NamedTuple):
    """A kind of target or enrichment."""

    service: str
    operation: str
    """Must be built for pipes to use it."""
    most: int
    """Events that one call takes."""
    parameters: str = ""


TARGETS: Final[Mapping[str, Kind]] = {
    "sqs": Kind("sqs", "SendMessageBatch", 10, "SqsQueueParameters"),
    "sns": Kind("sns", "PublishBatch", 10),
    "lambda": Kind("lambda", "Invoke", 10_000, "LambdaFunctionParameters"),
    "events/event-bus": Kind("events", "PutEvents", 10, "EventBridgeEventBusParameters"),
    "logs": Kind("logs", "PutLogEvents", 10_000, "CloudWatchLogsParameters"),
    "events/api-destination": Kind("events", "DescribeApiDestination", 1, "HttpParameters"),
    "execute-api": Kind("apigateway", "GetRestApi", 1, "HttpParameters"),
    "sagemaker/pipeline": Kind("sagemaker", "StartPipelineExecution", 1, "SageMakerPipelineParameters"),
}
ENRICHMENTS: Final = ("lambda", "events/api-destination", "execute-api")
PARAMETERS: Final = frozenset({kind.parameters for kind in TARGETS.values()} - {""})
OTHER_PARAMETERS: Final = (
    "StepFunctionStateMachineParameters",
    "KinesisStreamParameters",
    "EcsTaskParameters",
    "BatchJobParameters",
    "RedshiftDataParameters",
    "TimestreamParameters",
)
"""Of kinds that are not built."""


def check(ctx: Context, pipe: Mapping[str, Any]) -> None:
    """ValidationException for what AWS does not take, NotImplemented for what is not built here."""
    _check_source(pipe)
    kind = target_kind(ctx, pipe["Target"])
    _check_target_parameters(pipe.get("TargetParameters") or {}, kind)
    if pipe.get("Enrichment"):
        _check_enrichment(ctx, pipe["Enrichment"], pipe.get("EnrichmentParameters") or {})
    size = batch_of(pipe)
    if size["BatchSize"] > most_of(pipe):
        raise Invalid(f"The batch size of the source ({size['BatchSize']}) exceeds what the target takes ({most_of(pipe)}).")


def source_defaults(pipe: Mapping[str, Any]) -> dict[str, Any]:
    """The source's parameters with what they default to, as AWS shows them."""
    given = pipe.get("SourceParameters") or {}
    return {**given, "SqsQueueParameters": batch_of(pipe)}


def batch_of(pipe: Mapping[str, Any]) -> dict[str, int]:
    given = (pipe.get("SourceParameters") or {}).get("SqsQueueParameters") or {}
    return {
        "BatchSize": given.get("BatchSize") or min(DEFAULT_BATCH, most_of(pipe)),
        "MaximumBatchingWindowInSeconds": given.get("MaximumBatchingWindowInSeconds") or 0,
    }


def most_of(pipe: Mapping[str, Any]) -> int:
    """Events that the enrichment and the target take together."""
    stages = [pipe["Target"], *([pipe["Enrichment"]] if pipe.get("Enrichment") else [])]
    return min(TARGETS[kind_name(arn)].most for arn in stages)


def poller_settings(pipe: Mapping[str, Any]) -> Settings:
    """What the poller is told."""
    batch = batch_of(pipe)
    filters: Sequence[Mapping[str, Any]] = ((pipe.get("SourceParameters") or {}).get("FilterCriteria") or {}).get("Filters") or ()
    return Settings(
        batch_size=batch["BatchSize"],
        window_s=float(batch["MaximumBatchingWindowInSeconds"]),
        patterns=tuple(compile_pattern(one["Pattern"]) for one in filters if one.get("Pattern")),
        most_at_once=MOST_AT_ONCE,
    )


def target_kind(ctx: Context, arn: str) -> Kind:
    """NotImplemented for what is not built."""
    name = kind_name(arn)
    kind = TARGETS.get(name)
    if kind is None:
        raise not_built(f"Targets of the kind {name}")
    ctx.cloud.understand(kind.service, kind.operation, {})
    return kind


def kind_name(arn: str) -> str:
    parsed = Arn.parse(arn)
    if parsed is None or not parsed.resource:
        raise Invalid(f"{arn} is not a valid ARN.")
    return kind_of(parsed)


def _check_source(pipe: Mapping[str, Any]) -> None:
    source, given = pipe["Source"], pipe.get("SourceParameters") or {}
    kind = "kafka" if source.startswith("smk://") else kind_name(source)
    if kind not in SOURCES:
        raise Invalid(f"{source} is not a supported source.")
    if kind != "sqs":
        raise not_built(f"Sources of the kind {kind}")
    for name in given:
        if name not in ("FilterCriteria", "SqsQueueParameters"):
            raise Invalid(f"{name} is not supported for the source {source}.")
    filters = (given.get("FilterCriteria") or {}).get("Filters") or ()
    if len(filters) > FILTERS:
        raise Invalid(f"A pipe can have at most {FILTERS} filters.")
    for one in filters:
        if one.get("Pattern"):
            compile_pattern(one["Pattern"])
    batch, is_fifo = batch_of_source(given), source.endswith(".fifo")
    if is_fifo and (batch[0] > FIFO_BATCH or batch[1]):
        raise Invalid(f"The batch size of a FIFO queue is at most {FIFO_BATCH}, without a batching window.")
    if batch[0] > UNWINDOWED_BATCH and not batch[1]:
        raise Invalid(f"A batch size greater than {UNWINDOWED_BATCH} needs a MaximumBatchingWindowInSeconds of at least 1.")


def batch_of_source(given: Mapping[str, Any]) -> tuple[int, int]:
    parameters = given.get("SqsQueueParameters") or {}
    return parameters.get("BatchSize") or 1, parameters.get("MaximumBatchingWindowInSeconds") or 0


def _check_target_parameters(given: Mapping[str, Any], kind: Kind) -> None:
    for name in (*PARAMETERS, *OTHER_PARAMETERS):
        if given.get(name) is not None and name != kind.parameters:
            raise Invalid(f"{name} is not supported for this target.")
    if given.get("InputTemplate"):
        check_template(given["InputTemplate"])
    if (given.get("EventBridgeEventBusParameters") or {}).get("EndpointId"):
        raise not_built("Global endpoints of EventBridge")


def _check_enrichment(ctx: Context, enrichment: str, given: Mapping[str, Any]) -> None:
    name = kind_name(enrichment)
    if name not in ENRICHMENTS:
        raise not_built(f"Enrichments of the kind {name}")
    target_kind(ctx, enrichment)
    if given.get("HttpParameters") and name == "lambda":
        raise Invalid("HttpParameters is not supported for this enrichment.")
    if given.get("InputTemplate"):
        check_template(given["InputTemplate"])


def not_built(what: str) -> ServiceError:
    return ServiceError("NotImplemented", f"{what} are not built into this cloud's pipes yet.", 501)
