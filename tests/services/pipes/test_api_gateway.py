"""Pipes through and to methods of API Gateway."""

from __future__ import annotations

import json

from pilvi.testing.server import eventually
from tests.services.pipes.conftest import Plumber

CODE = """
import json
def handler(event, context):
    body = json.loads(event["body"])
    print("CALLED", event["path"])
    if body["n"] < 0:
        return {"statusCode": 500, "body": "no"}
    return {"statusCode": 200, "body": json.dumps({"double": 2 * body["n"], "who": event["pathParameters"]["who"],
            "q": (event["queryStringParameters"] or {}).get("q")})}
"""


def method(plumber: Plumber) -> str:
    """POST /numbers/{who} of a deployed API; gives its ARN with an asterisk."""
    api, function = plumber.account.client("apigateway"), plumber.function(CODE)
    id = api.create_rest_api(name="numbers")["id"]
    root = api.get_resources(restApiId=id)["items"][0]["id"]
    numbers = api.create_resource(restApiId=id, parentId=root, pathPart="numbers")["id"]
    who = api.create_resource(restApiId=id, parentId=numbers, pathPart="{who}")["id"]
    api.put_method(restApiId=id, resourceId=who, httpMethod="POST", authorizationType="NONE")
    uri = f"arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/{function}/invocations"
    api.put_integration(restApiId=id, resourceId=who, httpMethod="POST", type="AWS_PROXY", integrationHttpMethod="POST", uri=uri)
    api.create_deployment(restApiId=id, stageName="prod")
    plumber.account.client("lambda").add_permission(
        FunctionName=function, StatementId="api", Action="lambda:InvokeFunction", Principal="apigateway.amazonaws.com"
    )
    return f"arn:aws:execute-api:us-east-1:{plumber.account.account}:{id}/prod/POST/numbers/*"


def test_a_method_enriches(plumber: Plumber) -> None:
    (url, source), (to, target) = plumber.queue(), plumber.queue()
    http = {"PathParameterValues": ["$.body.who"], "QueryStringParameters": {"q": "$.messageId"}}
    plumber.pipe(
        source,
        target,
        Enrichment=method(plumber),
        EnrichmentParameters={"InputTemplate": '{"n": <$.body.n>}', "HttpParameters": http},
    )
    plumber.send(url, {"n": 21, "who": "Anna"})
    found = json.loads(plumber.received(to)[0])
    assert (found["double"], found["who"]) == (42, "Anna")
    assert found["q"]


def test_a_method_is_a_target_and_what_it_refuses_stays(plumber: Plumber) -> None:
    url, source = plumber.queue(VisibilityTimeout="600")
    parameters = {"HttpParameters": {"PathParameterValues": ["x"]}, "InputTemplate": '{"n": <$.body.n>}'}
    plumber.pipe(source, method(plumber), TargetParameters=parameters)
    plumber.send(url, {"n": 1}, {"n": -1})
    eventually(lambda: plumber.left(url) == (0, 1))


def test_the_role_must_be_let_invoke_the_method(plumber: Plumber) -> None:
    url, source = plumber.queue(VisibilityTimeout="600")
    read = {"Effect": "Allow", "Action": "sqs:*", "Resource": "*"}
    role = plumber.account.role("reader", "pipes.amazonaws.com", {"Version": "2012-10-17", "Statement": [read]})
    parameters = {"HttpParameters": {"PathParameterValues": ["x"]}, "InputTemplate": '{"n": <$.body.n>}'}
    plumber.pipes.create_pipe(Name="half", Source=source, Target=method(plumber), TargetParameters=parameters, RoleArn=role)
    plumber.becomes("half", "RUNNING")
    plumber.send(url, {"n": 1})
    eventually(lambda: plumber.left(url) == (0, 1))
