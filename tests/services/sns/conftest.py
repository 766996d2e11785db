"""Queues that topics may send to, a web server that hears them, and a server whose time the tests move."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pilvi.testing.server import Account, TestServer
from tests.services.sns.stage import Refusal, Web

_numbers = itertools.count(660000000001)


@pytest.fixture(scope="module")
def timed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestServer]:
    """A server of this module's own."""
    with TestServer(tmp_path_factory.mktemp("timed")) as running:
        yield running


@pytest.fixture
def later_aws(timed: TestServer) -> Account:
    """A fresh account there."""
    return timed.account(str(next(_numbers)))


@pytest.fixture
def passes(timed: TestServer) -> Callable[[float], None]:
    """Moves the clock, and waits until everything that fell due is done."""

    def pass_seconds(seconds: float) -> None:
        ran = timed.cloud.advance_clock(seconds)
        assert not ran.failed

    return pass_seconds


@pytest.fixture
def refusal() -> Refusal:
    """The code and the message a call earns."""

    def ask(operation: Callable[..., Any], **arguments: Any) -> tuple[str, str]:
        with pytest.raises(ClientError) as caught:
            operation(**arguments)
        error = caught.value.response["Error"]
        return error["Code"], error["Message"]

    return ask


@pytest.fixture
def web() -> Iterator[Web]:
    running = Web()
    yield running
    running.close()
