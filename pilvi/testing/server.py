"""A whole server inside a test process: `with TestServer(folder) as server: server.account("111122223333").client("s3")`."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from pilvi.app.server import Server
from pilvi.core.clock import Clock
from pilvi.core.config import Config
from pilvi.core.errors import AlreadyExists

READY_S = 30.0


class TestServer:
    """Runs in its own thread on a free port; `server.cloud` is there for tests that look inside."""

    __test__ = False

    def __init__(self, data_dir: Path, clock: Clock | None = None, **settings: Any) -> None:
        self.config = Config(data_dir=data_dir, port=0, **settings)
        self._clock = clock
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="server")
        self.server: Server

    def __enter__(self) -> TestServer:
        self._thread.start()
        if not self._ready.wait(READY_S) or self._failure is not None:
            raise RuntimeError("the server did not start") from self._failure
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.server.stop()
        self._thread.join()

    @property
    def endpoint(self) -> str:
        return self.server.endpoint

    @property
    def cloud(self) -> Any:
        return self.server.cloud

    def account(self, number: str) -> Account:
        """The account as its root, made when it is not there yet."""
        try:
            key = self.cloud.identities.create_account(number)
        except AlreadyExists:
            key = self.cloud.identities.root_key(number)
        return Account(self.endpoint, number, key.access_key_id, key.secret)

    def _run(self) -> None:
        try:
            self.server = Server(self.config, self._clock)
            asyncio.run(self.server.serve(lambda _server: self._ready.set()))
        except BaseException as error:
            self._failure = error
            self._ready.set()
            raise


@dataclass
class Account:
    """A caller: an endpoint with keys. Clients are made once and kept."""

    __test__ = False

    endpoint: str
    account: str
    access_key_id: str
    secret: str
    session_token: str | None = None
    region: str = "us-east-1"
    _clients: dict[tuple[str, str], Any] = field(default_factory=dict)

    @cached_property
    def session(self) -> Any:
        """A boto3 session. Its loader of service models is shared by all accounts, which saves a second a client."""
        import boto3
        import botocore.session

        session = botocore.session.get_session()
        session.register_component("data_loader", shared_loader())
        return boto3.Session(self.access_key_id, self.secret, self.session_token, self.region, botocore_session=session)

    def client(self, service: str, region: str = "", **options: Any) -> Any:
        """An unmodified boto3 client. `options` are boto3's and make a client of its own."""
        from botocore.config import Config as ClientConfig

        place = region or self.region
        if options:
            return self.session.client(service, region_name=place, endpoint_url=self.endpoint, **options)
        key = (service, place)
        if key not in self._clients:
            quick = ClientConfig(retries={"total_max_attempts": 1}, inject_host_prefix=False)
            self._clients[key] = self.session.client(service, region_name=place, endpoint_url=self.endpoint, config=quick)
        return self._clients[key]

    def with_keys(self, access_key_id: str, secret: str, session_token: str | None = None) -> Account:
        """The same endpoint with other keys."""
        return Account(self.endpoint, self.account, access_key_id, secret, session_token, self.region)

    def user(self, name: str, *policies: Mapping[str, Any]) -> Account:
        """A new IAM user with these inline policies, as a caller."""
        import json

        iam = self.client("iam")
        iam.create_user(UserName=name)
        for number, policy in enumerate(policies):
            iam.put_user_policy(UserName=name, PolicyName=f"p{number}", PolicyDocument=json.dumps(policy))
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return self.with_keys(key["AccessKeyId"], key["SecretAccessKey"])

    def role(self, name: str, service: str, *policies: Mapping[str, Any]) -> str:
        """A new role that a service (lambda.amazonaws.com) may take, with these inline policies; gives its ARN."""
        import json

        iam = self.client("iam")
        trust = {
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}],
        }
        arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
        for number, policy in enumerate(policies):
            iam.put_role_policy(RoleName=name, PolicyName=f"p{number}", PolicyDocument=json.dumps(policy))
        return str(arn)

    def environ(self) -> dict[str, str]:
        """Environment variables for programs that are clients."""
        found = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        found |= {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_DISABLE_HOST_PREFIX_INJECTION": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_MAX_ATTEMPTS": "1",
        }
        if self.session_token:
            found["AWS_SESSION_TOKEN"] = self.session_token
        return found

    def cli(self, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run the AWS CLI: `aws.cli("s3", "ls")`."""
        command: Sequence[str] = (str(Path(sys.executable).with_name("aws")), *arguments)
        return subprocess.run(command, env=self.environ(), cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def is_compiled(module: ModuleType) -> bool:
    """Whether a module runs as C (decisions/0006): tests that reach into one cannot run against it."""
    return not str(module.__file__).endswith(".py")


@cache
def shared_loader() -> Any:
    import botocore.session

    return botocore.session.get_session().get_component("data_loader")


def eventually(found: Callable[[], Any], *, within_s: float = 30.0, every_s: float = 0.05) -> Any:
    """Ask until the answer is true, for what real processes do in their own time; AssertionError after the deadline."""
    import time

    deadline = time.monotonic() + within_s
    while not (answer := found()):
        if time.monotonic() > deadline:
            raise AssertionError(f"still {answer!r} after {within_s} s")
        time.sleep(every_s)
    return answer
