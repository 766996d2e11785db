"""What tests of IAM share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from botocore.exceptions import ClientError


@pytest.fixture
def iam(aws: Any) -> Any:
    """The IAM client of a fresh account's root."""
    return aws.client("iam")


@pytest.fixture
def refused() -> Callable[..., AbstractContextManager[None]]:
    """`with refused("NoSuchEntity", "part of the text", 404):` - the call inside must fail so."""

    @contextmanager
    def expect(code: str, message: str = "", status: int = 0) -> Iterator[None]:
        with pytest.raises(ClientError) as caught:
            yield
        error = caught.value.response["Error"]
        assert error["Code"] == code, error
        assert message in error["Message"], error
        if status:
            assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == status

    return expect
