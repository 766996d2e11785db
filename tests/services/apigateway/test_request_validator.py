"""Models, request validators, and the checking of requests before anything behind a method runs."""

from __future__ import annotations

import json

import pytest
from botocore.exceptions import ClientError

from pilvi.core.errors import Invalid
from pilvi.services.apigateway.schema import check_schema, fits

FEATURES = {
    "$schema": "http://json-schema.org/draft-04/schema#",
    "type": "object",
    "properties": {
        "age": {"type": "number", "minimum": 0, "maximum": 120},
        "sex": {"enum": ["male", "female"]},
        "name": {"type": "string", "minLength": 1, "pattern": "^[A-Z]"},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 2, "uniqueItems": True},
        "cabin": {"oneOf": [{"type": "null"}, {"$ref": "#/definitions/cabin"}]},
    },
    "required": ["age", "sex"],
    "additionalProperties": False,
    "definitions": {"cabin": {"type": "object", "required": ["deck"]}},
}


def failure(call, **params):
    with pytest.raises(ClientError) as raised:
        call(**params)
    return raised.value.response["Error"]["Code"], raised.value.response["ResponseMetadata"]["HTTPStatusCode"]


# -- schemas ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"age": 4, "sex": "male"}, True),
        ({"age": 4.5, "sex": "male", "name": "Ann", "tags": ["a", "b"], "cabin": {"deck": "C"}}, True),
        ({"age": 4, "sex": "male", "cabin": None}, True),
        ({"age": 4}, False),
        ({"age": "4", "sex": "male"}, False),
        ({"age": True, "sex": "male"}, False),
        ({"age": -1, "sex": "male"}, False),
        ({"age": 121, "sex": "male"}, False),
        ({"age": 4, "sex": "other"}, False),
        ({"age": 4, "sex": "male", "more": 1}, False),
        ({"age": 4, "sex": "male", "name": ""}, False),
        ({"age": 4, "sex": "male", "name": "ann"}, False),
        ({"age": 4, "sex": "male", "tags": ["a", "a"]}, False),
        ({"age": 4, "sex": "male", "tags": ["a", "b", "c"]}, False),
        ({"age": 4, "sex": "male", "tags": [1]}, False),
        ({"age": 4, "sex": "male", "cabin": {}}, False),
        ([], False),
        (None, False),
    ],
)
def test_fits(value, expected):
    check_schema(FEATURES)
    assert fits(FEATURES, value, FEATURES, lambda _: None) is expected


@pytest.mark.parametrize(
    ("schema", "value", "expected"),
    [
        ({"type": "integer"}, 2.0, True),
        ({"type": "integer"}, 2.5, False),
        ({"type": "integer"}, float("inf"), False),
        ({"type": ["string", "null"]}, None, True),
        ({"multipleOf": 0.1}, 0.3, True),
        ({"multipleOf": 2}, 10**40, True),
        ({"multipleOf": 3}, 10**40, False),
        ({"minimum": 1, "exclusiveMinimum": True}, 1, False),
        ({"not": {"type": "string"}}, "x", False),
        ({"anyOf": [{"type": "string"}, {"minimum": 3}]}, 2, False),
        ({"allOf": [{"minimum": 1}, {"maximum": 3}]}, 2, True),
        ({"items": [{"type": "string"}, {"type": "number"}]}, ["a", 1], True),
        ({"additionalProperties": {"type": "number"}}, {"a": "b"}, False),
        ({"minProperties": 1}, {}, False),
        ({"$ref": "#"}, {}, False),
    ],
)
def test_keywords(schema, value, expected):
    check_schema(schema)
    assert fits(schema, value, schema, lambda _: None) is expected


@pytest.mark.parametrize(
    "schema",
    [
        [],
        {"type": "thing"},
        {"unheardOf": 1},
        {"minimum": "1"},
        {"required": "a"},
        {"properties": []},
        {"items": {"nope": 1}},
        {"pattern": "(a+)+"},
        {"multipleOf": 0},
        {"maxLength": -1},
    ],
)
def test_check_schema_refuses(schema):
    with pytest.raises(Invalid, match="Invalid"):
        check_schema(schema)


# -- nouns --------------------------------------------------------------------------------------------------------------


def test_models_live_and_end(lab):
    api = lab.api()
    gateway, at = api.gateway, {"restApiId": api.id}
    made = gateway.create_model(**at, name="Features", contentType="application/json", schema=json.dumps(FEATURES), description="d")
    assert (made["name"], made["contentType"], made["description"]) == ("Features", "application/json", "d")
    assert [model["name"] for model in gateway.get_models(**at)["items"]] == ["Empty", "Error", "Features"]
    assert failure(gateway.create_model, **at, name="Features", contentType="application/json", schema="{}") == (
        "ConflictException",
        409,
    )
    assert failure(gateway.create_model, **at, name="a b", contentType="application/json", schema="{}")[0] == "BadRequestException"
    assert failure(gateway.create_model, **at, name="x", contentType="application/json", schema="no")[0] == "BadRequestException"
    changed = gateway.update_model(
        **at, modelName="Features", patchOperations=[{"op": "replace", "path": "/schema", "value": "{}"}]
    )
    assert changed["schema"] == "{}"
    method = {"restApiId": api.id, "resourceId": api.root, "httpMethod": "POST"}
    gateway.put_method(**method, authorizationType="NONE", requestModels={"application/json": "Features"})
    assert failure(gateway.delete_model, **at, modelName="Features") == ("ConflictException", 409)
    gateway.delete_method(**method)
    gateway.delete_model(**at, modelName="Features")
    assert failure(gateway.get_model, **at, modelName="Features") == ("NotFoundException", 404)


def test_request_validators_live_and_end(lab):
    api = lab.api()
    gateway, at = api.gateway, {"restApiId": api.id}
    made = gateway.create_request_validator(**at, name="all", validateRequestBody=True)
    assert (made["name"], made["validateRequestBody"], made["validateRequestParameters"]) == ("all", True, False)
    one = {**at, "requestValidatorId": made["id"]}
    changed = gateway.update_request_validator(
        **one, patchOperations=[{"op": "replace", "path": "/validateRequestParameters", "value": "true"}]
    )
    assert changed["validateRequestParameters"] is True
    assert gateway.get_request_validator(**one)["name"] == "all"
    assert [each["id"] for each in gateway.get_request_validators(**at)["items"]] == [made["id"]]
    method = {"restApiId": api.id, "resourceId": api.root, "httpMethod": "POST", "authorizationType": "NONE"}
    assert failure(gateway.put_method, **method, requestValidatorId="none") == ("BadRequestException", 400)
    gateway.put_method(**method, requestValidatorId=made["id"])
    assert failure(gateway.delete_request_validator, **one) == ("ConflictException", 409)
    gateway.delete_method(restApiId=api.id, resourceId=api.root, httpMethod="POST")
    gateway.delete_request_validator(**one)
    assert failure(gateway.get_request_validator, **one) == ("NotFoundException", 404)


# -- requests -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checked(lab):
    """An API that checks body and parameters before a mock answers."""
    api = lab.api()
    gateway = api.gateway
    deck = {"type": "object", "required": ["deck"]}
    gateway.create_model(restApiId=api.id, name="Deck", contentType="application/json", schema=json.dumps(deck))
    features = {
        **FEATURES,
        "properties": {
            **FEATURES["properties"],
            "room": {"$ref": f"https://apigateway.amazonaws.com/restapis/{api.id}/models/Deck"},
        },
    }
    gateway.create_model(restApiId=api.id, name="Features", contentType="application/json", schema=json.dumps(features))
    validator = gateway.create_request_validator(
        restApiId=api.id, name="v", validateRequestBody=True, validateRequestParameters=True
    )["id"]
    at = {"restApiId": api.id, "resourceId": api.resource("predict"), "httpMethod": "POST"}
    gateway.put_method(
        **at,
        authorizationType="NONE",
        requestValidatorId=validator,
        requestModels={"application/json": "Features"},
        requestParameters={
            "method.request.querystring.model": True,
            "method.request.header.X-Who": True,
            "method.request.header.X-May": False,
        },
    )
    gateway.put_integration(
        **at, type="MOCK", requestTemplates={"application/json": '{"statusCode": 200}', "text/plain": '{"statusCode": 200}'}
    )
    gateway.put_method_response(**at, statusCode="200")
    gateway.put_integration_response(**at, statusCode="200")
    api.deploy()
    api.at = at
    return api


def test_a_good_request_passes(checked):
    body = {"age": 4, "sex": "male", "room": {"deck": "C"}}
    assert checked.send("POST", "/predict?model=a", body, {"X-Who": "me", "Content-Type": "application/json"})[0] == 200


def test_missing_parameters_are_named(checked):
    status, headers, body = checked.send("POST", "/predict", {"age": 4, "sex": "male"})
    assert (status, json.loads(body)) == (400, {"message": "Missing required request parameters: [model, X-Who]"})
    assert headers["x-amzn-ErrorType"] == "BadRequestException"


@pytest.mark.parametrize("body", [{"age": 4}, "no json", "", {"age": 4, "sex": "male", "room": {}}])
def test_a_bad_body_is_400_before_anything_runs(checked, body):
    status, _, answer = checked.send("POST", "/predict?model=a", body, {"X-Who": "me", "Content-Type": "application/json"})
    assert (status, json.loads(answer)) == (400, {"message": "Invalid request body"})


def test_a_type_without_a_model_is_not_checked(checked):
    assert checked.send("POST", "/predict?model=a", "text", {"X-Who": "me", "Content-Type": "text/plain"})[0] == 200


def test_test_invoke_method_checks_as_well(checked):
    tested = checked.gateway.test_invoke_method(
        **checked.at, pathWithQueryString="/predict?model=a", headers={"X-Who": "me"}, body="{}"
    )
    assert (tested["status"], json.loads(tested["body"])) == (400, {"message": "Invalid request body"})
