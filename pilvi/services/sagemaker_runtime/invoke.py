"""Asking an endpoint: at once, piece by piece, or by way of S3."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

from pilvi.core.errors import ServiceError
from pilvi.core.service import Context, Operations
from pilvi.serving import Answered, Answering, Call, desk_of

ops = Operations()

_RESPONSE_BYTES = 64 << 10
"""The largest payload of one event of a stream."""
_BEGINNING = ("Creating", "SystemUpdating")


@ops
async def invoke_endpoint(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """A model's answer.

    req: EndpointName, Body (6 MB), ContentType, Accept, CustomAttributes (1024, ASCII), TargetVariant, TargetModel,
        TargetContainerHostname, InferenceId (goes to captured data).
    Errors: ValidationError - there is no such endpoint or variant, or it is not in service. ModelError - the container answered with
        an error, broke off or took longer than 60 seconds: OriginalStatusCode and OriginalMessage have its words, LogStreamArn leads to
        its log. ServiceUnavailable - no instance is up.
    Source: SageMaker runtime API reference, InvokeEndpoint; messages as users of AWS report them.
    Differs: a request whose container ended before it had answered is given to another one, once. Variants get exactly their share,
        not by chance. EnableExplanations and PrefixAwareId have no effect. Asynchronous endpoints answer here, too.
    """
    endpoint = await found(ctx, req["EndpointName"])
    answered = await endpoint.answer(call_of(req))
    out: dict[str, Any] = {
        "Body": answered.body,
        "ContentType": answered.content_type or "application/octet-stream",
        "InvokedProductionVariant": answered.variant,
    }
    _add_headers(out, answered)
    return out


@ops
async def invoke_endpoint_with_response_stream(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """A model's answer, piece by piece as the container sends it.

    req and Errors: as InvokeEndpoint; a failure after the first piece is a ModelStreamError in the stream.
    Source: SageMaker runtime API reference, InvokeEndpointWithResponseStream.
    """
    endpoint = await found(ctx, req["EndpointName"])
    answered = await endpoint.stream(call_of(req))
    assert answered.pieces is not None
    out: dict[str, Any] = {
        "Body": _events(answered.pieces),
        "ContentType": answered.content_type or "application/octet-stream",
        "InvokedProductionVariant": answered.variant,
    }
    _add_headers(out, answered)
    return out


@ops
async def invoke_endpoint_async(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Leave a request whose body lies in S3; the answer comes to S3, too.

    req: EndpointName, InputLocation (s3://), InferenceId, ContentType, Accept, CustomAttributes, RequestTTLSeconds (60-21600),
        InvocationTimeoutSeconds (1-3600).
    Errors: ValidationError - there is no such endpoint, or its configuration has no AsyncInferenceConfig.
    Source: SageMaker runtime API reference, InvokeEndpointAsync.
    """
    endpoint = await found(ctx, req["EndpointName"])
    return await endpoint.accept(req)


async def found(ctx: Context, name: str) -> Answering:
    """The endpoint of a name, if it is in service."""
    place = (ctx.account, ctx.region, name.lower())
    endpoint = desk_of(ctx.cloud).open.get(place)
    if endpoint is None:
        record = await asyncio.to_thread(ctx.records("Endpoint", service="sagemaker").find, name.lower())
        if record is None or record["EndpointStatus"] == "Deleting":
            raise invalid(f"Endpoint {name} of account {ctx.account} not found.")
        if record["EndpointStatus"] == "SystemUpdating":
            raise ServiceError("ServiceUnavailable", f"Endpoint {name} is coming back after a restart of the server.", 503)
        raise invalid(f"Endpoint {name} of account {ctx.account} is not in service: its status is {record['EndpointStatus']}.")
    return endpoint


def call_of(req: Mapping[str, Any]) -> Call:
    get = req.get
    body = get("Body")
    return Call(
        body.encode() if isinstance(body, str) else bytes(body or b""),
        content_type=get("ContentType") or "",
        accept=get("Accept") or "",
        custom_attributes=get("CustomAttributes") or "",
        variant=get("TargetVariant") or "",
        model=get("TargetModel") or "",
        container=get("TargetContainerHostname") or "",
        inference_id=get("InferenceId") or "",
        component=get("InferenceComponentName") or "",
        session=get("SessionId") or "",
    )


def _add_headers(out: dict[str, Any], answered: Answered) -> None:
    if answered.custom_attributes:
        out["CustomAttributes"] = answered.custom_attributes
    for member, header in (
        ("NewSessionId", "x-amzn-sagemaker-new-session-id"),
        ("ClosedSessionId", "x-amzn-sagemaker-closed-session-id"),
    ):
        if value := answered.headers.get(header):
            out[member] = value


async def _events(pieces: AsyncIterator[bytes]) -> AsyncIterator[Mapping[str, Any]]:
    async for piece in pieces:
        for start in range(0, len(piece), _RESPONSE_BYTES):
            yield {"PayloadPart": {"Bytes": piece[start : start + _RESPONSE_BYTES]}}


def invalid(message: str) -> ServiceError:
    return ServiceError("ValidationError", message, 400)
