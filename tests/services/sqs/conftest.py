"""How an error is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError


@pytest.fixture
def refusal() -> Callable[..., tuple[str, str]]:
    """The code and the message a call earns."""

    def ask(operation: Callable[..., Any], **arguments: Any) -> tuple[str, str]:
        with pytest.raises(ClientError) as caught:
            operation(**arguments)
        error = caught.value.response["Error"]
        return error["Code"], error["Message"]

    return ask
