"""botocore's protocol cases: what its requests mean, and that our responses mean what they should."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from oracle import parsed, plain

from pilvi.core.errors import ServiceError
from pilvi.core.http import Request
from pilvi.core.streams import ByteStream
from pilvi.protocol.index import Entry
from pilvi.protocol.models import Operation, ServiceModel
from pilvi.protocol.paths import Templates
from pilvi.protocol.query import parse_query

CASES = Path(__file__).parent / "cases"
# What is left out, with the reason. botocore leaves out most of these as well.
LEFT_OUT = {
    "IdempotencyTokenAutoFill": "the client makes up the token",
    "SDKAppe": "the case has no body: the client is to compress it",
    "SDKApplied": "the case has no body: the client is to compress it",
    "MediaTypeHeader": "the models write jsonvalue, which is JSON in base 64; the case holds the text",
    "AllQueryStringTypes": "a map of parameters holds those that no other member names",
    "RestJsonQueryStringEscaping": "a map of parameters holds those that no other member names",
    "FloatQueryValues": "a map of parameters holds those that no other member names",
    "RestJsonZeroAndFalseQueryValues": "a map of parameters holds those that no other member names",
    "QueryPrecedence": "a map of parameters holds those that no other member names",
    "HostWithPath": "the client's endpoint has a path",
    "BodyWithXmlName": "botocore names the element by the member, the case by the structure",
    "ComplexError": "botocore reads an empty message as None",
    "XmlLists": "botocore reads flattened lists by the name of their items, the case by their own",
    "WithUnsetUnion": "botocore refuses a union without members",
    "HttpPrefixHeadersResponse": "an empty prefix collects every header, the request's id among them",
    "QuotedStringHeaders": "botocore does not unquote lists in headers",
    "WithTimestampHeaders": "botocore splits dates in headers at their comma",
}


def cases(kind: str) -> Iterator[Any]:
    for path in sorted((CASES / kind).glob("*.json")):
        for suite in json.loads(path.read_text()):
            for case in suite["cases"]:
                label = f"{path.stem}/{case.get('id') or case.get('description')}"
                if not any(part in label for part in LEFT_OUT):
                    yield pytest.param(suite, case, id=label)


def operation_of(suite: dict[str, Any], case: dict[str, Any]) -> Operation:
    given = {"name": "OperationName", "http": {"method": "POST", "requestUri": "/"}} | case["given"]
    metadata = {"endpointPrefix": "case", "serviceId": "case"} | suite["metadata"]
    protocol = metadata["protocol"]
    version = metadata.get("apiVersion", "2020-01-01")
    entry = Entry("case", version, version, "case", "case", metadata.get("targetPrefix", ""), "case", protocol, (protocol,), False)
    name = given["name"]
    errors = {given["name"]: given}
    model = ServiceModel(entry, {"metadata": metadata, "shapes": suite["shapes"], "operations": errors})
    operation = model.operation(name)
    assert operation is not None
    return operation


def comparable(value: Any) -> Any:
    """As the cases write values: instants as numbers, blobs as text, special floats by name."""
    if isinstance(value, dict):
        return {key: comparable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [comparable(item) for item in value]
    if isinstance(value, datetime):
        return value.timestamp()
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


@pytest.mark.parametrize(("suite", "case"), list(cases("input")))
def test_decode_reads_the_case(suite: dict[str, Any], case: dict[str, Any]) -> None:
    operation = operation_of(suite, case)
    wire = case["serialized"]
    body = wire.get("body", "").encode()
    protocol = suite["metadata"]["protocol"]
    if protocol == "smithy-rpc-v2-cbor":
        body = base64.b64decode(body)
    path, _, query = wire["uri"].partition("?")
    headers = {name.lower(): value for name, value in wire.get("headers", {}).items()}
    request = Request(wire.get("method", "POST"), path, query, headers, ByteStream(body))
    labels: dict[str, str] = {}
    if protocol.startswith("rest"):
        raw = operation.service_model.raw
        found = Templates(raw["operations"], raw["shapes"]).match(request.method, path, parse_query(query), headers)
        assert found is not None
        labels = found[1]
    assert meaning(comparable(plain(operation.decode(request, body, labels)))) == meaning(case["params"])


def meaning(value: Any) -> Any:
    """What the wire can tell: None and what is empty are absent."""
    if isinstance(value, dict):
        kept = {key: meaning(item) for key, item in value.items()}
        return {key: item for key, item in kept.items() if item is not None and item not in ("", [], {})}
    return [meaning(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize(("suite", "case"), list(cases("output")))
def test_encode_writes_the_case(suite: dict[str, Any], case: dict[str, Any]) -> None:
    operation = operation_of(suite, case)
    protocol = suite["metadata"]["protocol"]
    request = Request("POST", "/", "", {})
    if "error" in case:
        error = ServiceError(case.get("errorCode", ""), case.get("errorMessage", ""), None, **fields_of(case["error"]))
        response = operation.encode_error(error, protocol=protocol, request_id="r-1", request=request)
        found = parsed(response, operation.model, protocol)["Error"]
        assert (found["Code"], found["Message"]) == (case.get("errorCode", ""), case.get("errorMessage", ""))
        return
    response = operation.encode(case["result"], protocol=protocol, request_id="r-1", request=request)
    assert meaning(comparable(plain(parsed(response, operation.model, protocol)))) == meaning(case["result"])


def fields_of(error: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in error.items() if name.lower() not in ("message", "code")}
