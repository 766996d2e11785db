"""A server whose time the tests move, beside the shared one; and how an error is asked for."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pilvi.testing.server import Account, TestServer

_numbers = itertools.count(630000000001)
DAY_S = 86_400.0


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
def days_pass(timed: TestServer) -> Callable[[float], None]:
    """Moves the clock, and waits until everything that fell due is done."""

    def pass_days(days: float) -> None:
        ran = timed.cloud.advance_clock(days * DAY_S)
        assert not ran.failed

    return pass_days


@pytest.fixture
def error_of() -> Callable[..., tuple[str, str]]:
    """Code and message of the error that a call earns."""

    def earn(call: Any, **request: Any) -> tuple[str, str]:
        with pytest.raises(ClientError) as failure:
            call(**request)
        error = failure.value.response["Error"]
        assert failure.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
        return error["Code"], error["Message"]

    return earn
