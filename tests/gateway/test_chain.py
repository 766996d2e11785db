"""What the chain answers when things break that no service foresaw."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from pilvi.testing.server import Account, TestServer


@pytest.mark.parametrize("broken", [ConnectionResetError("a peer of the operation hung up"), RuntimeError("a bug")])
def test_a_failure_inside_an_operation_is_answered(
    server: TestServer, aws: Account, monkeypatch: pytest.MonkeyPatch, broken: Exception
) -> None:
    """Also a broken connection of the operation's own: the client is still there and must not be left without an answer."""

    async def fail(_ctx: Any, _req: Any) -> None:
        raise broken

    sts = aws.client("sts")
    sts.get_caller_identity()
    monkeypatch.setitem(server.cloud.registry.find("sts").handlers, "get_caller_identity", fail)
    with pytest.raises(ClientError) as refused:
        sts.get_caller_identity()
    assert refused.value.response["Error"]["Code"] == "InternalFailure"
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
