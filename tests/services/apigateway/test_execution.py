"""Deployed APIs answering over HTTP, with real functions behind them."""

from __future__ import annotations

import json

import pytest
from botocore.exceptions import ClientError

JSON_TYPE = {"Content-Type": "application/json"}


# -- the story ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["path", "host", "restapis"])
def test_a_prediction_by_every_form_of_address(lab, form):
    api = lab.api()
    api.proxy(api.resource("predict"), lab.function("predict"))
    api.allow("predict", "*/POST/predict")
    api.deploy()
    status, headers, body = api.send("POST", "/predict", {"features": {"age": 4}}, JSON_TYPE, form=form)
    assert (status, json.loads(body)) == (200, {"prediction": 1})
    assert headers["X-Model"] == "titanic"
    assert headers["Content-Type"] == "application/json"
    assert headers["x-amzn-RequestId"]
    assert headers["x-amz-apigw-id"]


def test_without_permission_it_is_500(lab):
    api = lab.api()
    api.proxy(api.resource("predict"), lab.function("predict"))
    api.deploy()
    status, _headers, body = api.send("POST", "/predict", {"features": {"age": 4}})
    assert (status, body) == (500, b'{"message": "Internal server error"}')
    api.allow("predict", "*/GET/predict")
    assert api.send("POST", "/predict", {"features": {"age": 4}})[0] == 500


def test_a_function_that_does_not_parse_the_body_is_502(lab):
    api = lab.api()
    api.proxy(api.resource("predict"), lab.function("faulty"))
    api.proxy(api.resource("plain"), lab.function("plain"))
    api.allow("faulty")
    api.allow("plain")
    api.deploy()
    for path in ("/predict", "/plain"):
        status, _, body = api.send("POST", path, {"features": {"age": 4}})
        assert (status, body) == (502, b'{"message": "Internal server error"}')


def test_unknown_paths_and_stages_are_forbidden(lab):
    api = lab.api()
    api.proxy(api.resource("predict"), lab.function("predict"))
    api.deploy()
    for verb, path in (("POST", "/other"), ("GET", "/predict"), ("POST", "")):
        status, headers, body = api.send(verb, path)
        assert (status, body) == (403, b'{"message":"Missing Authentication Token"}')
        assert headers["x-amzn-ErrorType"] == "MissingAuthenticationTokenException"
    status, headers, body = api.send("POST", "/predict", stage="dev")
    assert (status, body, headers["x-amzn-ErrorType"]) == (403, b'{"message":"Forbidden"}', "ForbiddenException")
    api.gateway.delete_rest_api(restApiId=api.id)
    assert api.send("POST", "/predict")[2] == b'{"message":"Forbidden"}'


def test_changes_are_live_only_after_a_deployment(lab):
    api = lab.api()
    at = api.method(api.root, "GET", type="MOCK", requestTemplates={"application/json": '{"statusCode": 200}'})
    api.gateway.put_method_response(**at, statusCode="200")
    api.gateway.put_integration_response(**at, statusCode="200", responseTemplates={"text/plain": "one"})
    first = api.deploy()
    assert api.send("GET", "/")[2] == b"one"
    api.gateway.update_integration_response(
        **at, statusCode="200", patchOperations=[{"op": "replace", "path": "/responseTemplates/text~1plain", "value": "two"}]
    )
    assert api.send("GET", "/")[2] == b"one"
    api.deploy()
    assert api.send("GET", "/")[2] == b"two"
    api.gateway.update_stage(
        restApiId=api.id, stageName="prod", patchOperations=[{"op": "replace", "path": "/deploymentId", "value": first}]
    )
    assert api.send("GET", "/")[2] == b"one"


def test_a_canary_takes_its_share_until_it_is_promoted(lab):
    api = lab.api()
    at = api.method(api.root, "GET", type="MOCK", requestTemplates={"application/json": '{"statusCode": 200}'})
    api.gateway.put_method_response(**at, statusCode="200")
    api.gateway.put_integration_response(**at, statusCode="200", responseTemplates={"text/plain": "old $stageVariables.v"})
    first = api.deploy(variables={"v": "1"})
    api.gateway.update_integration_response(
        **at,
        statusCode="200",
        patchOperations=[{"op": "replace", "path": "/responseTemplates/text~1plain", "value": "new $stageVariables.v"}],
    )
    second = api.deploy(canarySettings={"percentTraffic": 50, "stageVariableOverrides": {"v": "2"}})
    stage = api.gateway.get_stage(restApiId=api.id, stageName="prod")
    assert (stage["deploymentId"], stage["canarySettings"]["deploymentId"]) == (first, second)
    assert {api.send("GET", "/")[2] for _ in range(60)} == {b"old 1", b"new 2"}

    def update(*operations):
        return api.gateway.update_stage(restApiId=api.id, stageName="prod", patchOperations=list(operations))

    update({"op": "replace", "path": "/canarySettings/percentTraffic", "value": "0"})
    assert {api.send("GET", "/")[2] for _ in range(10)} == {b"old 1"}
    with pytest.raises(ClientError, match="Active stages"):
        api.gateway.delete_deployment(restApiId=api.id, deploymentId=second)
    promoted = update(
        {"op": "copy", "from": "/canarySettings/stageVariableOverrides", "path": "/variables"},
        {"op": "copy", "from": "/canarySettings/deploymentId", "path": "/deploymentId"},
        {"op": "remove", "path": "/canarySettings"},
    )
    assert (promoted["deploymentId"], promoted["variables"]) == (second, {"v": "2"})
    assert "canarySettings" not in promoted
    assert {api.send("GET", "/")[2] for _ in range(10)} == {b"new 2"}
    with pytest.raises(ClientError, match="does not exist"):
        api.deploy("none", canarySettings={"percentTraffic": 1})
    with pytest.raises(ClientError, match="Percent of traffic to canary"):
        api.deploy(canarySettings={"percentTraffic": 101})


# -- proxied ------------------------------------------------------------------------------------------------------------


def test_a_proxied_event_has_every_member(lab):
    api = lab.api()
    api.proxy(api.resource("pets", "{id}"), lab.function("echo"), "ANY")
    api.allow("echo")
    deployment = api.deploy(variables={"color": "blue"})
    status, _, body = api.send("PUT", "/pets/a%20b?x=1&y=&x=2%203", b"text", {"Content-Type": "text/plain", "X-Thing": "t"})
    event = json.loads(body)
    context = event.pop("requestContext")
    headers = event.pop("headers")
    assert headers["X-Thing"] == "t"
    assert headers["Content-Type"] == "text/plain"
    assert headers["X-Forwarded-For"] == "127.0.0.1"
    assert headers["X-Forwarded-Proto"] == "http"
    assert headers["X-Amzn-Trace-Id"].startswith("Root=1-")
    assert event.pop("multiValueHeaders")["X-Thing"] == ["t"]
    assert (status, event) == (
        200,
        {
            "resource": "/pets/{id}",
            "path": "/pets/a%20b",
            "httpMethod": "PUT",
            "queryStringParameters": {"x": "2 3", "y": ""},
            "multiValueQueryStringParameters": {"x": ["1", "2 3"], "y": [""]},
            "pathParameters": {"id": "a%20b"},
            "stageVariables": {"color": "blue"},
            "body": "text",
            "isBase64Encoded": False,
        },
    )
    identity = context.pop("identity")
    assert identity["sourceIp"] == "127.0.0.1"
    assert set(identity) >= {"accessKey", "accountId", "caller", "userArn", "user", "userAgent", "cognitoIdentityId"}
    assert context["apiId"] == api.id
    assert context["accountId"] == lab.account.account
    assert (context["stage"], context["path"], context["deploymentId"]) == ("prod", "/prod/pets/a%20b", deployment)
    assert (context["httpMethod"], context["resourcePath"]) == ("PUT", "/pets/{id}")
    assert context["domainName"] == f"{api.id}.execute-api.us-east-1.amazonaws.com"
    assert context["requestTime"].endswith("+0000")
    assert isinstance(context["requestTimeEpoch"], int)


def test_a_proxied_event_says_null_for_nothing(lab):
    api = lab.api()
    api.proxy(api.root, lab.function("echo"), "GET")
    api.allow("echo")
    api.deploy()
    event = json.loads(api.send("GET", "")[2])
    for member in ("queryStringParameters", "multiValueQueryStringParameters", "pathParameters", "stageVariables", "body"):
        assert event[member] is None
    assert event["path"] == "/"


def test_stage_variables_choose_the_function(lab):
    api = lab.api()
    lab.function("predict")
    lab.function("plain")
    api.proxy(api.resource("x"), f"arn:aws:lambda:us-east-1:{lab.account.account}:function:${{stageVariables.fn}}")
    api.allow("predict")
    api.allow("plain")
    api.deploy("dev", variables={"fn": "plain"})
    api.deploy("prod", variables={"fn": "predict"})
    assert api.send("POST", "/x", {"features": {"age": 50}}, stage="prod")[2] == b'{"prediction": 0}'
    assert api.send("POST", "/x", {"features": {"age": 50}}, stage="dev")[0] == 502


def test_an_integration_may_name_a_role_instead_of_a_permission(lab):
    api = lab.api()
    function = lab.function("predict", "predict-by-role")
    api.proxy(api.resource("x"), function, credentials=lab.role)
    api.deploy()
    assert api.send("POST", "/x", {"features": {"age": 50}})[0] == 500
    allow = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": function}]}
    lab.iam.put_role_policy(RoleName="function", PolicyName="invoke", PolicyDocument=json.dumps(allow))
    assert api.send("POST", "/x", {"features": {"age": 50}})[0] == 200


def test_a_slow_function_is_504(lab):
    api = lab.api()
    api.proxy(api.resource("x"), lab.function("slow"), timeoutInMillis=50)
    api.allow("slow")
    api.deploy()
    status, _, body = api.send("POST", "/x")
    assert (status, body) == (504, b'{"message": "Endpoint request timed out"}')


def test_binary_types_travel_as_base64(lab):
    api = lab.api(binaryMediaTypes=["image/*"])
    api.proxy(api.resource("x"), lab.function("binary"))
    api.allow("binary")
    api.deploy()
    status, headers, body = api.send("POST", "/x", b"\x00\xff\x01", {"Content-Type": "image/png", "Accept": "image/png"})
    assert (status, headers["Content-Type"], body) == (200, "image/png", b"\x01\xff\x00")


def test_a_body_over_ten_mebibytes_is_413(lab):
    api = lab.api()
    api.proxy(api.resource("x"), lab.function("echo"))
    api.allow("echo")
    api.deploy()
    status, headers, body = api.send("POST", "/x", b"x" * (10 * 1024 * 1024 + 1))
    assert (status, body) == (413, b'{"message":"Request Too Long"}')
    assert headers["x-amzn-ErrorType"] == "RequestTooLargeException"


# -- through templates --------------------------------------------------------------------------------------------------


def custom(lab, **settings):
    api = lab.api()
    at = api.method(
        api.resource("predict"),
        "POST",
        type="AWS",
        integrationHttpMethod="POST",
        uri=lab.uri_of(lab.function("custom")),
        **settings,
    )
    api.allow("custom")
    for status in ("200", "400"):
        api.gateway.put_method_response(**at, statusCode=status, responseParameters={"method.response.header.X-Say": False})
    api.gateway.put_integration_response(**at, statusCode="200")
    return api, at


def test_a_custom_integration_hands_the_body_itself(lab):
    api, _ = custom(lab)
    api.deploy()
    status, headers, body = api.send("POST", "/predict", {"features": {"age": 7}}, JSON_TYPE)
    assert (status, json.loads(body)["prediction"], headers["Content-Type"]) == (200, 7, "application/json")


def test_templates_transform_both_ways(lab):
    api, at = custom(
        lab,
        requestTemplates={"application/json": '{"features": {"age": $input.json(\'$.a\')}, "who": "$context.identity.sourceIp"}'},
    )
    api.gateway.update_integration_response(
        **at,
        statusCode="200",
        patchOperations=[
            {"op": "add", "path": "/responseTemplates/application~1json", "value": "{\"p\": $input.path('$.prediction')}"},
            {
                "op": "add",
                "path": "/responseParameters/method.response.header.X-Say",
                "value": "integration.response.body.event.who",
            },
        ],
    )
    api.deploy()
    status, headers, body = api.send("POST", "/predict", {"a": 9}, JSON_TYPE)
    assert (status, body, headers["X-Say"]) == (200, b'{"p": 9}', "127.0.0.1")


def test_errors_choose_a_status_by_their_message(lab):
    api, at = custom(lab)
    api.gateway.put_integration_response(
        **at,
        statusCode="400",
        selectionPattern=".*Bad.*",
        responseTemplates={"application/json": "{\"why\": $input.json('$.errorMessage')}"},
        responseParameters={"method.response.header.X-Say": "'sorry'"},
    )
    api.deploy()
    status, headers, body = api.send("POST", "/predict", {"fail": "Bad age"}, JSON_TYPE)
    assert (status, body, headers["X-Say"]) == (400, b'{"why": "Bad age"}', "sorry")
    status, _, body = api.send("POST", "/predict", {"fail": "other"}, JSON_TYPE)
    assert (status, json.loads(body)["errorMessage"]) == (200, "other")


@pytest.mark.parametrize(
    ("behavior", "kind", "status"),
    [
        ("WHEN_NO_MATCH", "text/plain", 200),
        ("WHEN_NO_TEMPLATES", "text/plain", 415),
        ("NEVER", "text/plain", 415),
        ("NEVER", "application/json", 200),
    ],
)
def test_passthrough_behavior(lab, behavior, kind, status):
    api, _ = custom(lab, passthroughBehavior=behavior, requestTemplates={"application/json": "$input.json('$')"})
    api.deploy()
    answer = api.send("POST", "/predict", {"features": {"age": 7}}, {"Content-Type": kind})
    assert answer[0] == status
    if status == 415:
        assert answer[2] == b'{"message": "Unsupported Media Type"}'


def test_a_template_beyond_what_is_built_is_500_and_says_so(lab):
    api, at = custom(lab, requestTemplates={"application/json": "#macro(x)#end"})
    api.deploy()
    status, _, body = api.send("POST", "/predict", {"features": {"age": 7}}, JSON_TYPE)
    assert (status, body) == (500, b'{"message": "Internal server error"}')
    tested = api.gateway.test_invoke_method(**at, body="{}")
    assert tested["status"] == 500
    assert "the directive #macro is not supported" in tested["log"]


def test_an_asynchronous_invocation_answers_at_once(lab):
    api, _at = custom(lab, requestParameters={"integration.request.header.X-Amz-Invocation-Type": "'Event'"})
    api.deploy()
    status, _, body = api.send("POST", "/predict", {"features": {"age": 7}}, JSON_TYPE)
    assert (status, body) == (200, b"")


# -- mock, policy, test -------------------------------------------------------------------------------------------------


def test_cors_by_mock(lab):
    api = lab.api()
    at = api.method(api.resource("predict"), "OPTIONS", type="MOCK", requestTemplates={"application/json": '{"statusCode": 200}'})
    names = {"Allow-Origin": "'*'", "Allow-Methods": "'POST,OPTIONS'", "Allow-Headers": "'Content-Type'"}
    parameters = {f"method.response.header.Access-Control-{name}": value for name, value in names.items()}
    api.gateway.put_method_response(**at, statusCode="200", responseParameters=dict.fromkeys(parameters, False))
    api.gateway.put_integration_response(**at, statusCode="200", responseParameters=parameters)
    api.deploy()
    preflight = {"Origin": "http://a.example", "Access-Control-Request-Method": "POST"}
    status, headers, body = api.send("OPTIONS", "/predict", headers=preflight)
    assert (status, body) == (200, b"")
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert headers["Access-Control-Allow-Methods"] == "POST,OPTIONS"


def test_a_resource_policy_decides(lab):
    def statement(effect, resource):
        return {"Effect": effect, "Principal": "*", "Action": "execute-api:Invoke", "Resource": resource}

    policy = {
        "Version": "2012-10-17",
        "Statement": [statement("Allow", "execute-api:/*"), statement("Deny", "execute-api:/*/GET/closed")],
    }
    api = lab.api(policy=json.dumps(policy))
    for part in ("open", "closed"):
        at = api.method(api.resource(part), "GET", type="MOCK", requestTemplates={"application/json": '{"statusCode": 200}'})
        api.gateway.put_method_response(**at, statusCode="200")
        api.gateway.put_integration_response(**at, statusCode="200")
    api.deploy()
    assert api.send("GET", "/open")[0] == 200
    status, headers, body = api.send("GET", "/closed")
    assert (status, headers["x-amzn-ErrorType"]) == (403, "AccessDeniedException")
    assert json.loads(body)["Message"].startswith("User: anonymous is not authorized to perform: execute-api:Invoke on resource: ")


def test_test_invoke_method_runs_what_is_not_deployed(lab):
    api = lab.api()
    at = api.proxy(api.resource("pets", "{id}"), lab.function("echo"))
    api.allow("echo")
    tested = api.gateway.test_invoke_method(
        **at, pathWithQueryString="/pets/7?a=b", body="hello", headers={"X-A": "b"}, stageVariables={"v": "1"}
    )
    event = json.loads(tested["body"])
    assert tested["status"] == 200
    assert (event["body"], event["pathParameters"], event["queryStringParameters"]) == ("hello", {"id": "7"}, {"a": "b"})
    assert (event["headers"], event["stageVariables"]) == ({"X-A": "b"}, {"v": "1"})
    assert event["requestContext"]["stage"] == "test-invoke-stage"
    assert tested["latency"] >= 0
    assert tested["headers"]["Content-Type"] == "application/json"
    for line in (
        "Starting execution for request",
        "HTTP Method: POST, Resource Path: /pets/{id}",
        "Method completed with status: 200",
    ):
        assert line in tested["log"]


def test_a_disabled_endpoint_is_forbidden(lab):
    api = lab.api(disableExecuteApiEndpoint=True)
    api.method(api.root, "GET", type="MOCK", requestTemplates={"application/json": '{"statusCode": 200}'})
    api.deploy()
    assert api.send("GET", "/")[2] == b'{"message":"Forbidden"}'
