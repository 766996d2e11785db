"""Every operation of every model, both ways, in every protocol its service speaks: botocore writes, we read; we write, botocore reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from botocore.parsers import ResponseParserError
from oracle import parsed, plain, request_of
from sample import Sampler

from pilvi.core.errors import ServiceError
from pilvi.core.http import Request
from pilvi.protocol.models import Models, Operation
from pilvi.protocol.route import Router

SERVICES = Models().names()
EMPTY = Request("POST", "/", "", {})
# Services that nothing on the wire tells apart, with the one that answers for them: signing name, paths, targets, hosts are the same.
TWINS = {
    "docdb": {"rds"},
    "greengrassv2": {"greengrass"},
    "lambda-microvms": {"lambda"},
    "neptune": {"rds", "docdb"},
    "pinpoint-sms-voice": {"sms-voice"},
    "wisdom": {"qconnect"},
}
SIGNING = {"ListDirectoryBuckets": "s3express", "WriteGetObjectResponse": "s3-object-lambda"}
# botocore reads the one with a handler; the other's deprecated shape gives two members one name.
UNPARSED = {("s3", "GetBucketLocation"), ("s3", "GetBucketNotification")}
FILLED = ("query", "ec2", "rest-xml")


def each(models: Models, service: str) -> list[tuple[Operation, str]]:
    model = models.service(service)
    operations = [model.operation(name) for name in model.operation_names()]
    return [(operation, protocol) for operation in operations if operation is not None for protocol in model.protocols]


@pytest.mark.parametrize("service", SERVICES)
def test_decode_reads_what_botocore_writes(service: str, models: Models, router: Router) -> None:
    wrong = []
    for operation, protocol in each(models, service):
        sampler = Sampler(f"in/{service}/{operation.name}", filled=protocol in FILLED)
        shape = operation.model.input_shape
        params = sampler.structure(shape) if shape is not None else {}
        request = request_of(params, operation.model, protocol)
        body = b"" if operation.event_input else request.body.data or b""
        match = router.route(request, SIGNING.get(operation.name, operation.service_model.signing_name))
        if match.needs_body:
            match = match.with_form(body)
        if match.operation is not operation or match.protocol != protocol:
            if not is_twin(operation, match.operation) and not is_told_by_host(router, request, operation):
                wrong.append(f"{operation.name} {protocol} {request.method} {request.raw_path}?{request.query}: {match}")
            continue
        found = plain(operation.decode(request, body, match.path_params, match.protocol))
        if found != expected_input(params, operation, found):
            wrong.append(f"{operation.name} {protocol}: {params} became {found}")
    assert not wrong, "\n".join(wrong[:5])


def is_twin(operation: Operation, found: Operation | None) -> bool:
    """Deprecated doubles of S3, and services that share everything."""
    if found is None:
        return False
    if found.service in TWINS.get(operation.service, ()):
        return True
    return operation.service == "s3" and found.http_uri == operation.http_uri and operation.raw.get("deprecated", False)


def is_told_by_host(router: Router, request: Request, operation: Operation) -> bool:
    """Some services share signing name and paths; only AWS's own host names tell them apart."""
    prefix = operation.service_model.entry.endpoint_prefix
    request.headers = {**request.headers, "host": f"{prefix}.us-east-1.amazonaws.com"}
    return router.route(request, operation.service_model.signing_name).operation is operation


def expected_input(params: dict[str, Any], operation: Operation, found: dict[str, Any]) -> dict[str, Any]:
    """A payload that is the whole body is always there, if only empty."""
    payload = operation.input.traits.get("payload") if operation.input is not None else None
    extra = {payload: found[payload]} if payload in found and not found[payload] and payload not in params else {}
    return params | extra


@pytest.mark.parametrize("service", SERVICES)
def test_encode_writes_what_botocore_reads(service: str, models: Models) -> None:
    wrong = []
    for operation, protocol in each(models, service):
        if operation.event_output or (service, operation.name) in UNPARSED:
            continue
        sampler = Sampler(f"out/{service}/{operation.name}", filled=protocol in FILLED)
        shape = operation.model.output_shape
        result = sampler.structure(shape) if shape is not None else {}
        response = operation.encode(result, protocol=protocol, request_id="r-1", request=EMPTY)
        try:
            found = plain(parsed(response, operation.model, protocol))
        except (ValueError, KeyError, TypeError, AttributeError, ResponseParserError) as error:
            wrong.append(f"{operation.name} {protocol}: {error!r} on {response.body!r} for {result}")
            continue
        if found != expected_output(result, operation, found):
            wrong.append(f"{operation.name} {protocol}: {result} became {found} through {response}")
    assert not wrong, "\n".join(wrong[:5])


def expected_output(result: dict[str, Any], operation: Operation, found: dict[str, Any]) -> dict[str, Any]:
    """botocore makes up some members: status codes, empty payloads, maps of all headers without a prefix."""
    shape = operation.output
    if shape is None:
        return result
    expected = dict(result)
    for name, member in shape.members.items():
        if member.location == "headers" and not member.wire_name:
            expected[name] = found.get(name)
        if name in expected or name not in found:
            continue
        if member.location == "statusCode" or not found[name]:
            expected[name] = found[name]
    return expected


@pytest.mark.parametrize("service", SERVICES)
def test_encode_error_writes_what_botocore_reads(service: str, models: Models) -> None:
    wrong = []
    model = models.service(service)
    operation = model.operation(model.operation_names()[0])
    assert operation is not None
    for shape in model.botocore_model.error_shapes:
        for protocol in model.protocols:
            response = operation.encode_error(
                ServiceError(shape.name, "so & so <ä>"), protocol=protocol, request_id="r-1", request=EMPTY
            )
            error = parsed(response, operation.model, protocol)["Error"]
            modelled = shape.metadata.get("error", {})
            old = model.old_codes.get(shape.name, shape.error_code)
            code = old if protocol in FILLED or model.is_query_compatible else shape.name
            facts = (error["Code"], error["Message"], response.status)
            status = modelled.get("httpStatusCode") or (500 if shape.metadata.get("fault") else response.status)
            if facts != (code, "so & so <ä>", status) and service != "s3":
                wrong.append(f"{shape.name} {protocol}: {facts} {response}")
    assert not wrong, "\n".join(wrong[:5])


def test_index_is_the_same_from_the_cache(tmp_path: Path) -> None:
    assert Models(tmp_path).index == Models(tmp_path).index == Models().index
