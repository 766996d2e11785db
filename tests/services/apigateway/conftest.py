"""A call made by hand, for the pure parts; an account with functions and APIs, for the whole."""

from __future__ import annotations

import http.client
import io
import json
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import pytest

from pilvi.services.apigateway.call import Call


def make(**changed):
    fields = {
        "api_id": "abcdefghij",
        "account": "123456789012",
        "region": "us-east-1",
        "stage": "prod",
        "variables": {"color": 'bl"ue'},
        "deployment_id": "dep123",
        "verb": "POST",
        "path": "/pets/7",
        "query": "a=1&b=x%20y&a=2",
        "headers": {"Host": ["h"], "X-Thing": ["t"]},
        "body": b"",
        "source_ip": "10.0.0.1",
        "request_id": "rid",
        "extended_id": "xid",
        "trace_id": "tid",
        "at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "resource": {"id": "res", "path": "/pets/{id}"},
        "parameters": {"id": "7"},
    }
    return Call(**(fields | changed))


@pytest.fixture
def call():
    """Makes calls; members by name change the usual one."""
    return make


HANDLERS = """
import base64, json, time

def predict(event, context):
    features = json.loads(event["body"])["features"]
    return {"statusCode": 200, "headers": {"X-Model": "titanic"}, "body": json.dumps({"prediction": int(features["age"] < 10)})}

def echo(event, context):
    return {"statusCode": 200, "body": json.dumps(event)}

def faulty(event, context):
    return {"prediction": event["features"]}

def custom(event, context):
    if event.get("fail"):
        raise ValueError(event["fail"])
    return {"prediction": event["features"]["age"], "event": event}

def plain(event, context):
    return {"prediction": 0}

def slow(event, context):
    time.sleep(2)
    return {"statusCode": 200, "body": "late"}

def guard(event, context):
    token = event.get("authorizationToken") or (event.get("headers") or {}).get("X-Token")
    if token == "nonsense":
        return {"principalId": "x"}
    if token == "unauthorized":
        raise Exception("Unauthorized")
    if token == "crash":
        raise ValueError("no")
    effect = {"allow": "Allow", "deny": "Deny"}.get(token)
    resource = event["methodArn"] if token != "elsewhere" else "arn:aws:execute-api:*:*:*/*/GET/elsewhere"
    statement = {"Effect": effect or "Allow", "Action": "execute-api:Invoke", "Resource": resource}
    return {
        "principalId": "user-1",
        "policyDocument": {"Version": "2012-10-17", "Statement": [statement] if effect or token == "elsewhere" else []},
        "context": {"level": 3, "vip": True, "name": "n", "type": event["type"], "stamp": str(time.time())},
    }

def binary(event, context):
    sent = base64.b64decode(event["body"]) if event["isBase64Encoded"] else event["body"].encode()
    return {"statusCode": 200, "headers": {"Content-Type": "image/png"}, "isBase64Encoded": True, "body": base64.b64encode(sent[::-1]).decode()}
"""
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": ["lambda.amazonaws.com", "apigateway.amazonaws.com"]},
            "Action": "sts:AssumeRole",
        }
    ],
}


@dataclass
class Lab:
    """One account whose functions are shared by all tests here."""

    account: Any

    def __post_init__(self):
        self.functions = self.account.client("lambda")
        self.gateway = self.account.client("apigateway")
        self.iam = self.account.client("iam")
        self.role = self.iam.create_role(RoleName="function", AssumeRolePolicyDocument=json.dumps(TRUST))["Role"]["Arn"]
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("index.py", HANDLERS)
        self.package = buffer.getvalue()
        self.made: set[str] = set()

    def function(self, handler, name=""):
        """The ARN of a function that runs one of the handlers."""
        name = name or handler
        if name not in self.made:
            self.functions.create_function(
                FunctionName=name,
                Runtime="python3.11",
                Role=self.role,
                Handler=f"index.{handler}",
                Code={"ZipFile": self.package},
                Timeout=10,
            )
            self.made.add(name)
        return f"arn:aws:lambda:us-east-1:{self.account.account}:function:{name}"

    @staticmethod
    def uri_of(function):
        return f"arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/{function}/invocations"

    def api(self, **settings):
        return Api(self, self.gateway.create_rest_api(name="api", **settings)["id"])


@dataclass
class Api:
    lab: Lab
    id: str

    def __post_init__(self):
        self.gateway = self.lab.gateway
        self.root = self.gateway.get_rest_api(restApiId=self.id)["rootResourceId"]

    def resource(self, *parts):
        parent = self.root
        for part in parts:
            parent = self.gateway.create_resource(restApiId=self.id, parentId=parent, pathPart=part)["id"]
        return parent

    def method(self, resource, verb="POST", guarded_by=None, **integration):
        at = {"restApiId": self.id, "resourceId": resource, "httpMethod": verb}
        guard = {"authorizationType": "CUSTOM", "authorizerId": guarded_by} if guarded_by else {"authorizationType": "NONE"}
        self.gateway.put_method(**at, **guard)
        self.gateway.put_integration(**at, **integration)
        return at

    def proxy(self, resource, function, verb="POST", **settings):
        return self.method(
            resource, verb, type="AWS_PROXY", integrationHttpMethod="POST", uri=self.lab.uri_of(function), **settings
        )

    def allow(self, name, pattern="*"):
        self.lab.functions.add_permission(
            FunctionName=name,
            StatementId=f"s{self.id}",
            Action="lambda:InvokeFunction",
            Principal="apigateway.amazonaws.com",
            SourceArn=f"arn:aws:execute-api:us-east-1:{self.lab.account.account}:{self.id}/{pattern}",
        )

    def deploy(self, stage="prod", **settings):
        return self.gateway.create_deployment(restApiId=self.id, stageName=stage, **settings)["id"]

    def send(self, verb, path, body=None, headers=None, *, form="path", stage="prod"):
        """(status, headers, body) of a request in one of the three forms of address."""
        where = urlsplit(self.lab.account.endpoint)
        head = dict(headers or {})
        if form == "host":
            head["Host"] = f"{self.id}.execute-api.us-east-1.amazonaws.com"
            target = f"/{stage}{path}"
        elif form == "restapis":
            target = f"/restapis/{self.id}/{stage}/_user_request_{path}"
        else:
            target = f"/_aws/execute-api/{self.id}/{stage}{path}"
        connection = http.client.HTTPConnection(where.hostname, where.port, timeout=60)
        try:
            connection.request(verb, target, body if not isinstance(body, dict) else json.dumps(body), head)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()


@pytest.fixture(scope="session")
def lab(server):
    """Shared by the tests of this folder: warm workers and cheap starts."""
    return Lab(server.account("300000000077"))
