"""An account with a role for functions, and the making of packages."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from pilvi.testing.server import Account, TestServer

TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}


def zipped(files: Mapping[str, str | bytes]) -> bytes:
    """A zip of these files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


class Lab:
    """One account with a Lambda client and a role that functions may take."""

    zipped = staticmethod(zipped)

    def __init__(self, account: Account, role: str = "function") -> None:
        self.account = account
        self.client = account.client("lambda")
        self.iam = account.client("iam")
        made = self.iam.create_role(RoleName=role, AssumeRolePolicyDocument=json.dumps(TRUST))
        self.role_name = role
        self.role = made["Role"]["Arn"]

    def create(self, name: str, code: str = "def handler(event, context):\n    return event\n", **settings: Any) -> dict[str, Any]:
        settings = {"Runtime": "python3.11", "Handler": "index.handler", "Role": self.role, **settings}
        settings.setdefault("Code", {"ZipFile": zipped({"index.py": code})})
        return self.client.create_function(FunctionName=name, **settings)

    def raw(self, **request: Any) -> dict[str, Any]:
        """The answer as it comes; its payload is read, so that the connection can be used again."""
        answer = self.client.invoke(**request)
        answer["Payload"] = io.BytesIO(answer["Payload"].read())
        return answer

    def invoke(self, name: str, event: Any = None, **settings: Any) -> Any:
        """The decoded payload; fails when the function failed."""
        answer = self.raw(FunctionName=name, Payload=json.dumps(event), **settings)
        payload = json.loads(answer["Payload"].read())
        assert "FunctionError" not in answer, payload
        return payload

    def grant(self, name: str, *actions: str, resource: str = "*") -> None:
        """Let the role do something."""
        policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": list(actions), "Resource": resource}]}
        self.iam.put_role_policy(RoleName=self.role_name, PolicyName=name, PolicyDocument=json.dumps(policy))

    def failure(self, name: str, event: Any = None, **settings: Any) -> dict[str, Any]:
        """What a failing function answers."""
        answer = self.raw(FunctionName=name, Payload=json.dumps(event), **settings)
        assert answer["FunctionError"] == "Unhandled"
        return json.loads(answer["Payload"].read())


@pytest.fixture(scope="module")
def lab(server: TestServer, request: pytest.FixtureRequest) -> Lab:
    """Shared by the tests of a module, which use names of their own: warm workers and cheap starts."""
    number = sum(map(ord, request.module.__name__)) * 7919 % 10**6
    return Lab(server.account(f"3{number:011d}"))


@pytest.fixture
def new_lab(new_account: Callable[[], Account]) -> Callable[[], Lab]:
    """Makes labs in accounts of their own."""
    return lambda: Lab(new_account())
