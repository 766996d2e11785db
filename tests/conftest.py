"""One real server for the whole run, a fresh account for every test that asks for one, unmodified clients."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pilvi.testing.peers import Missing, Postgres
from pilvi.testing.refusal import refusal as refused
from pilvi.testing.server import Account, TestServer

_numbers = itertools.count(200000000001)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestServer]:
    """A server in this process, in its own thread, on a free port, with an empty data directory."""
    with TestServer(tmp_path_factory.mktemp("cloud")) as running:
        yield running


@pytest.fixture
def new_account(server: TestServer) -> Callable[[], Account]:
    """Makes accounts that nobody else uses."""
    return lambda: server.account(str(next(_numbers)))


@pytest.fixture
def aws(new_account: Callable[[], Account]) -> Account:
    """A fresh account as its root: `aws.client("s3")` is a boto3 client."""
    return new_account()


@pytest.fixture
def other_aws(new_account: Callable[[], Account]) -> Account:
    """A second fresh account, to show that the first is not visible from it."""
    return new_account()


@pytest.fixture(scope="session")
def titanic() -> Path:
    """The folder with train.csv and test.csv."""
    return Path(__file__).parent.parent / "demo" / "data" / "titanic"


# -- servers whose time the tests move ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def timed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestServer]:
    """A server of this module's own, whose clock may be moved."""
    with TestServer(tmp_path_factory.mktemp("timed")) as running:
        yield running


@pytest.fixture
def later_aws(timed: TestServer) -> Account:
    """A fresh account there."""
    return timed.account(str(next(_numbers)))


@pytest.fixture
def passes(timed: TestServer) -> Callable[[float], None]:
    """Moves its clock by seconds, and waits until everything that fell due is done."""

    def pass_seconds(seconds: float) -> None:
        ran = timed.cloud.advance_clock(seconds)
        assert not ran.failed

    return pass_seconds


@pytest.fixture
def days_pass(passes: Callable[[float], None]) -> Callable[[float], None]:
    return lambda days: passes(days * 86_400.0)


# -- others ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def refusal() -> Callable[..., tuple[str, str]]:
    """Code and message of the error that a call earns."""
    return refused


@pytest.fixture
def error_of() -> Callable[..., tuple[str, str]]:
    """Code and message of the error 400 that a call earns."""

    def earn(call: Any, **request: Any) -> tuple[str, str]:
        with pytest.raises(ClientError) as failure:
            call(**request)
        error = failure.value.response["Error"]
        assert failure.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
        return error["Code"], error["Message"]

    return earn


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A cluster of PostgreSQL; tests that change it for good make a database of their own."""
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'psycopg[binary]'")
    with tempfile.TemporaryDirectory(prefix="pilvi-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        try:
            running = Postgres(Path(folder) / "postgres")
        except Missing as error:
            pytest.skip(str(error))
        yield running
        running.stop()
