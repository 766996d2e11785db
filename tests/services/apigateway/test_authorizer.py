"""Lambda authorizers: drawn up, and asked before a method runs."""

from __future__ import annotations

import json

import pytest
from botocore.exceptions import ClientError


def failure(call, **params):
    with pytest.raises(ClientError) as raised:
        call(**params)
    return raised.value.response["Error"]["Code"], raised.value.response["ResponseMetadata"]["HTTPStatusCode"]


@pytest.fixture
def guarded(lab):
    """An API whose one method echoes its event behind an authorizer."""

    def make(**settings):
        api = lab.api()
        uri = lab.uri_of(lab.function("guard"))
        settings = {"type": "TOKEN", "identitySource": "method.request.header.X-Token", **settings}
        api.guard = api.gateway.create_authorizer(restApiId=api.id, name="guard", authorizerUri=uri, **settings)["id"]
        api.proxy(api.resource("predict"), lab.function("echo"), guarded_by=api.guard)
        api.allow("echo")
        api.allow("guard", f"authorizers/{api.guard}")
        api.deploy()
        return api

    return make


# -- the drawing board --------------------------------------------------------------------------------------------------


def test_authorizers_live_and_end(lab):
    api = lab.api()
    gateway, uri = api.gateway, lab.uri_of(f"arn:aws:lambda:us-east-1:{lab.account.account}:function:x")
    source = "method.request.header.Authorization"
    made = gateway.create_authorizer(restApiId=api.id, name="a", type="TOKEN", authorizerUri=uri, identitySource=source)
    assert (made["authorizerResultTtlInSeconds"], made["authType"], made["identitySource"]) == (300, "custom", source)
    at = {"restApiId": api.id, "authorizerId": made["id"]}
    assert gateway.get_authorizer(**at)["name"] == "a"
    changed = gateway.update_authorizer(
        **at, patchOperations=[{"op": "replace", "path": "/authorizerResultTtlInSeconds", "value": "0"}]
    )
    assert changed["authorizerResultTtlInSeconds"] == 0
    gateway.create_authorizer(
        restApiId=api.id, name="b", type="REQUEST", authorizerUri=uri, identitySource=f"{source}, context.stage"
    )
    pages = list(gateway.get_paginator("get_authorizers").paginate(restApiId=api.id, PaginationConfig={"PageSize": 1}))
    assert sorted(each["name"] for page in pages for each in page["items"]) == ["a", "b"]
    method = {"restApiId": api.id, "resourceId": api.root, "httpMethod": "GET"}
    assert failure(gateway.put_method, **method, authorizationType="CUSTOM") == ("BadRequestException", 400)
    gateway.put_method(**method, authorizationType="CUSTOM", authorizerId=made["id"])
    assert failure(gateway.delete_authorizer, **at) == ("ConflictException", 409)
    gateway.delete_method(**method)
    gateway.delete_authorizer(**at)
    assert failure(gateway.get_authorizer, **at) == ("NotFoundException", 404)


def test_create_authorizer_refuses(lab):
    api = lab.api()
    usual = {
        "restApiId": api.id,
        "name": "a",
        "type": "TOKEN",
        "authorizerUri": lab.uri_of("f"),
        "identitySource": "method.request.header.A",
    }
    for wrong in (
        {"authorizerUri": "f"},
        {"identitySource": "method.request.querystring.a"},
        {"identitySource": "somewhere"},
        {"authorizerResultTtlInSeconds": 3601},
        {"type": "REQUEST", "identitySource": ""},
        {"identityValidationExpression": "("},
    ):
        assert failure(api.gateway.create_authorizer, **{**usual, **wrong}) == ("BadRequestException", 400)
    assert failure(api.gateway.create_authorizer, **{**usual, "type": "COGNITO_USER_POOLS"})[1] == 501
    api.gateway.create_authorizer(**usual)
    assert failure(api.gateway.create_authorizer, **usual) == ("ConflictException", 409)


# -- asked --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("token", "status", "body"),
    [
        (None, 401, {"message": "Unauthorized"}),
        ("unauthorized", 401, {"message": "Unauthorized"}),
        ("nobody", 403, {"Message": "User is not authorized to access this resource"}),
        ("elsewhere", 403, {"Message": "User is not authorized to access this resource"}),
        ("deny", 403, {"Message": "User is not authorized to access this resource with an explicit deny"}),
        ("nonsense", 500, {"message": None}),
        ("crash", 500, {"message": None}),
    ],
)
def test_a_refused_token_never_reaches_the_function(guarded, token, status, body):
    answer = guarded().send("POST", "/predict", "{}", {"X-Token": token} if token else {})
    assert (answer[0], json.loads(answer[2])) == (status, body)


def test_an_allowed_token_brings_its_context(guarded):
    status, _, body = guarded().send("POST", "/predict", "{}", {"X-Token": "allow"})
    context = json.loads(body)["requestContext"]["authorizer"]
    context.pop("stamp")
    assert (status, context) == (200, {"principalId": "user-1", "level": "3", "vip": "true", "name": "n", "type": "TOKEN"})


def test_a_request_authorizer_sees_the_request(guarded):
    api = guarded(type="REQUEST", identitySource="method.request.header.X-Token, method.request.querystring.q")
    assert api.send("POST", "/predict", "{}", {"X-Token": "allow"})[0] == 401
    status, _, body = api.send("POST", "/predict?q=1", "{}", {"X-Token": "allow"})
    assert (status, json.loads(body)["requestContext"]["authorizer"]["type"]) == (200, "REQUEST")
    assert api.send("POST", "/predict?q=1", "{}", {"X-Token": "deny"})[0] == 403


def test_verdicts_are_remembered_for_their_time(guarded):
    def stamp(api):
        return json.loads(api.send("POST", "/predict", "{}", {"X-Token": "allow"})[2])["requestContext"]["authorizer"]["stamp"]

    kept = guarded()
    assert stamp(kept) == stamp(kept)
    fresh = guarded(authorizerResultTtlInSeconds=0)
    assert stamp(fresh) != stamp(fresh)


def test_a_token_of_the_wrong_form_is_refused_without_asking(guarded):
    api = guarded(identityValidationExpression="[a-z]{5}")
    assert api.send("POST", "/predict", "{}", {"X-Token": "allow"})[0] == 200
    assert api.send("POST", "/predict", "{}", {"X-Token": "crash me"})[0] == 401


def test_an_authorizer_without_permission_is_500(lab):
    api = lab.api()
    guard = api.gateway.create_authorizer(
        restApiId=api.id,
        name="g",
        type="TOKEN",
        authorizerUri=lab.uri_of(lab.function("guard")),
        identitySource="method.request.header.X-Token",
    )["id"]
    api.proxy(api.resource("predict"), lab.function("echo"), guarded_by=guard)
    api.allow("echo")
    api.deploy()
    status, headers, body = api.send("POST", "/predict", "{}", {"X-Token": "allow"})
    assert (status, body, headers["x-amzn-ErrorType"]) == (500, b'{"message":null}', "AuthorizerConfigurationException")
