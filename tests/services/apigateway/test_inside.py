"""What other services ask of deployed APIs stands in tests/services/pipes/test_api_gateway.py; here: what is no method."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from pilvi.core.errors import Invalid
from pilvi.services.apigateway.inside import invoke


@pytest.mark.parametrize(
    "arn", ["", "arn:aws:execute-api:us-east-1:111122223333:api", "arn:aws:execute-api:us-east-1:111122223333:api/prod"]
)
def test_what_is_no_method_is_refused(arn: str) -> None:
    with pytest.raises(Invalid, match="no method of an API"):
        asyncio.run(cast(Any, invoke)(None, {"Arn": arn, "Headers": {}, "Query": {}, "Body": "{}"}))
