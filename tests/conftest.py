"""One real server for the whole run, a fresh account for every test that asks for one, unmodified clients."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

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
