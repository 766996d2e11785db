"""Paths, selection patterns, proxied answers: the pure parts."""

from __future__ import annotations

import pytest

from pilvi.core.errors import Invalid
from pilvi.core.http import Request
from pilvi.services.apigateway.call import Failure
from pilvi.services.apigateway.proxy import answer_of
from pilvi.services.apigateway.routing import Router
from pilvi.services.apigateway.selection import is_selected
from pilvi.services.apigateway.site import Address, address_of


def router(**paths):
    return Router(
        {path: {"id": path, "path": path, "resourceMethods": {key: {"x": 1} for key in verbs}} for path, verbs in paths.items()}
    )


PETS = router(
    **{
        "/": ["GET"],
        "/pets": ["GET", "POST"],
        "/pets/{id}": ["GET"],
        "/pets/mine": ["GET"],
        "/pets/{id}/toys": ["ANY"],
        "/files/{proxy+}": ["ANY"],
        "/{any+}": ["DELETE"],
    }
)


@pytest.mark.parametrize(
    ("verb", "path", "resource", "parameters"),
    [
        ("GET", "/", "/", {}),
        ("GET", "", "/", {}),
        ("POST", "/pets", "/pets", {}),
        ("POST", "/pets/", "/pets", {}),
        ("GET", "/pets/7", "/pets/{id}", {"id": "7"}),
        ("GET", "/pets/a%20b", "/pets/{id}", {"id": "a%20b"}),
        ("GET", "/pets/mine", "/pets/mine", {}),
        ("GET", "/pets/%6Dine", "/pets/mine", {}),
        ("PUT", "/pets/mine/toys", "/pets/{id}/toys", {"id": "mine"}),
        ("GET", "/files/a/b%2Fc", "/files/{proxy+}", {"proxy": "a/b%2Fc"}),
        ("DELETE", "/pets/7", "/{any+}", {"any": "pets/7"}),
        ("PUT", "/pets", None, None),
        ("GET", "/nothing", None, None),
        ("GET", "/files", None, None),
    ],
)
def test_find_takes_the_best_resource(verb, path, resource, parameters):
    route = PETS.find(verb, path)
    assert (route and route.resource["path"], route and route.parameters) == (resource, parameters)


@pytest.mark.parametrize(
    ("host", "path", "expected"),
    [
        ("abc123.execute-api.us-east-1.amazonaws.com", "/prod/predict", Address("abc123", "prod", "/predict")),
        ("abc123.execute-api.localhost:4566", "/prod", Address("abc123", "prod", "/")),
        ("abc123.execute-api.localhost:4566", "/", Address("abc123", "", "/")),
        ("127.0.0.1:4566", "/_aws/execute-api/abc123/prod/a/b", Address("abc123", "prod", "/a/b")),
        ("127.0.0.1:4566", "/_aws/execute-api/abc123/prod", Address("abc123", "prod", "/")),
        ("127.0.0.1:4566", "/restapis/abc123/prod/_user_request_/a", Address("abc123", "prod", "/a")),
        ("127.0.0.1:4566", "/restapis/abc123/prod/_user_request_", Address("abc123", "prod", "/")),
        ("127.0.0.1:4566", "/elsewhere", None),
    ],
)
def test_address_of_every_form(host, path, expected):
    assert address_of(Request("GET", path, "", {"host": host})) == expected


@pytest.mark.parametrize(
    ("pattern", "message", "expected"),
    [
        (".*Bad Request.*", "x Bad Request y", True),
        ("Bad Request", "x Bad Request y", False),
        (r"4\d{2}", "404", True),
        (r"(\n|.)+", "two\nlines", True),
        (r"[\s\S]*\[400\][\s\S]*", "a\n[400] b", True),
        ("not.found|gone", "gone", True),
    ],
)
def test_selection_is_of_the_whole_message(pattern, message, expected):
    assert is_selected(pattern, message) is expected


@pytest.mark.parametrize("pattern", ["(a+)+", "(a|a)*", "(", "a*b*c*d*e*f*", "((x*)*)*"])
def test_selection_refuses_what_may_run_away(pattern):
    with pytest.raises(Invalid):
        is_selected(pattern, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!")


@pytest.mark.parametrize(
    "payload",
    [
        b"no json",
        b'"text"',
        b"null",
        b"[1]",
        b'{"prediction": 0}',
        b'{"statusCode": 200, "body": {"prediction": 0}}',
        b'{"statusCode": "abc"}',
        b'{"statusCode": 99}',
        b'{"statusCode": true}',
        b'{"statusCode": 200, "headers": "x"}',
        b'{"statusCode": 200, "headers": {"x": "a\\r\\nSet-Cookie: b"}}',
        b'{"statusCode": 200, "multiValueHeaders": {"x": "a"}}',
    ],
)
def test_malformed_answers_are_bad_gateways(call, payload):
    with pytest.raises(Failure) as raised:
        answer_of(call(), payload)
    assert raised.value.status == 502
    assert raised.value.body == '{"message": "Internal server error"}'


def test_answer_joins_both_kinds_of_headers(call):
    answer = answer_of(
        call(),
        b'{"statusCode": "201", "body": "b", "headers": {"X": 1, "Connection": "close"}, "multiValueHeaders": {"Set-Cookie": ["a", "b"]}}',
    )
    assert (answer.status, answer.body) == (201, b"b")
    assert answer.headers == [
        ("Set-Cookie", "a"),
        ("Set-Cookie", "b"),
        ("X", "1"),
        ("x-amzn-Remapped-Connection", "close"),
        ("Content-Type", "application/json"),
    ]


def test_answer_decodes_base64_only_for_binary_types(call):
    payload = b'{"statusCode": 200, "body": "AAEC", "isBase64Encoded": true}'
    assert answer_of(call(), payload).body == b"AAEC"
    assert answer_of(call(binary_types=("*/*",)), payload).body == b"\0\1\2"
    assert answer_of(call(binary_types=("image/png",), headers={"Accept": ["image/png"]}), payload).body == b"\0\1\2"
    assert answer_of(call(binary_types=("image/png",), headers={"Accept": ["text/html"]}), payload).body == b"AAEC"
