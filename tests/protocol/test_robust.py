"""Whatever a client sends, an operation answers with an AWS error or understands it; nothing else escapes."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

import pytest
from oracle import request_of
from sample import Sampler
from test_every_operation import FILLED, SERVICES, each

from pilvi.core.errors import ServiceError
from pilvi.core.http import Request
from pilvi.protocol.models import Models, Operation
from pilvi.protocol.route import Router

MOST = 10
"""Operations a service is asked here; their closures come from the same few compilers."""


def bodies(operation: Operation, protocol: str, chance: random.Random) -> Iterator[tuple[Request, bytes]]:
    """A good request cut short, with bytes changed, and with values of other types."""
    shape = operation.model.input_shape
    sampler = Sampler(f"robust/{operation.service}/{operation.name}", filled=protocol in FILLED)
    request = request_of(sampler.structure(shape) if shape is not None else {}, operation.model, protocol)
    body = request.body.data or b""
    yield request, body[: chance.randint(0, len(body))]
    changed = bytearray(body)
    for _ in range(3):
        if changed:
            changed[chance.randrange(len(changed))] = chance.randrange(256)
    yield request, bytes(changed)
    if shape is not None and shape.members:
        wrong = [None, 1, -1.5, "x", True, [], ["x"], [None], {}, {"a": {"b": [1]}}]
        yield request, json.dumps({name: chance.choice(wrong) for name in shape.members}).encode()
    headers = {name: "\x00\xff,;=%" for name in request.headers if name.startswith("x-") or "-" in name}
    yield (
        Request(request.method, request.raw_path, "%zz=%&=&a=b;c&" + request.query.replace("=", "=%"), headers),
        chance.randbytes(30),
    )


@pytest.mark.parametrize("service", SERVICES)
def test_decode_and_check_answer_anything(service: str, models: Models) -> None:
    chance = random.Random(service)
    known = each(models, service)
    for operation, protocol in chance.sample(known, min(len(known), MOST)):
        for request, body in bodies(operation, protocol, chance):
            try:
                operation.check(operation.decode(request, body, {}, protocol))
            except ServiceError as error:
                operation.encode_error(error, protocol=protocol, request_id="r", request=request)


def test_route_answers_anything(router: Router) -> None:
    chance = random.Random(7)
    pieces = ["/", "b", "%2F", "%", "..", "//", "v1", "?", "restapis", "_user_request_", "\xe4", "_aws", "service", "operation"]
    hosts = [
        "",
        "localhost",
        "a.localhost:1",
        ".",
        "a..amazonaws.com",
        "s3.amazonaws.com",
        ".s3.amazonaws.com",
        "[::1]:80",
        "x" * 300,
    ]
    for _ in range(3000):
        path = "/" + "".join(chance.choices(pieces, k=chance.randint(0, 8)))
        headers = {"host": chance.choice(hosts)}
        if chance.random() < 0.2:
            headers["x-amz-target"] = chance.choice(["", ".", "a.b", "SageMaker.", "SageMaker.X"])
        if chance.random() < 0.2:
            headers["smithy-protocol"] = "rpc-v2-cbor"
        if chance.random() < 0.2:
            headers["content-type"] = "application/x-www-form-urlencoded"
        name = chance.choice([None, "", "s3", "lambda", "apigateway", "nonsense", "sts", "s3-outposts", "ses"])
        query = chance.choice(["", "a", "Action=X", "Action=GetCallerIdentity&Version=2011-06-15", "%&=", "uploadId=%zz"])
        match = router.route(Request(chance.choice(["GET", "POST", "OPTIONS", "NONSENSE"]), path, query, headers), name)
        if match.needs_body:
            match = match.with_form(chance.randbytes(20))
        assert sum((match.operation is not None, bool(match.site), match.error is not None)) == 1
        if match.operation is not None:
            try:
                match.operation.decode(Request("GET", path, query, headers), b"", match.path_params, match.protocol)
            except ServiceError:
                continue
