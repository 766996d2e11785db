"""Object Lambda's parts: pipes between two requests, what functions are told, and the guide's example. The rest, with access points of its
own, is in tests/services/s3control/test_object_lambda.py.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pilvi.services.s3.handover import PIPE_BYTES, Pipe, PipeClosed
from pilvi.services.s3.object_lambda import is_head_header, names_of
from pilvi.services.s3.object_lambda_event import date_of, is_signature
from pilvi.testing.server import Account, TestServer

GUIDE = Path(__file__).parents[3] / "docs" / "object-lambda.md"


async def drained(pipe: Pipe) -> bytes:
    return b"".join([bytes(piece) async for piece in pipe])


def test_a_pipe_gives_what_was_put_in_order_and_bounds_the_writer() -> None:
    async def story() -> None:
        pipe, piece, put = Pipe(), b"x" * (PIPE_BYTES // 4), 0

        async def write() -> None:
            nonlocal put
            for _ in range(20):
                await pipe.put(piece)
                put += 1
            pipe.end()
            pipe.break_off()  # too late to matter

        writing = asyncio.create_task(write())
        for _ in range(50):
            await asyncio.sleep(0)
        assert put == 4, "the writer waits for the reader"
        assert len(await drained(pipe)) == 5 * PIPE_BYTES
        await writing

    asyncio.run(story())


def test_a_reader_that_leaves_stops_the_writer() -> None:
    async def story() -> None:
        pipe = Pipe()
        await pipe.put(b"x" * PIPE_BYTES)
        writing = asyncio.create_task(pipe.put(b"more"))
        await asyncio.sleep(0)
        await pipe.aclose()
        with pytest.raises(PipeClosed):
            await writing
        assert await drained(pipe) == b""

    asyncio.run(story())


def test_a_writer_that_breaks_off_is_noticed() -> None:
    async def story() -> None:
        pipe = Pipe()
        await pipe.put(b"begun")
        pipe.break_off()
        with pytest.raises(ConnectionResetError):
            await drained(pipe)
        with pytest.raises(PipeClosed):
            await pipe.put(b"more")

    asyncio.run(story())


def test_small_decisions() -> None:
    arn = "arn:aws:lambda:us-east-1:123456789012:function:f"
    assert names_of(arn) == (arn, f"{arn}:$LATEST")
    assert names_of(f"{arn}:7") == (f"{arn}:7",)
    assert is_head_header("ETag")
    assert is_head_header("x-amz-meta-ours")
    assert not is_head_header("Set-Cookie")
    assert not is_head_header("x-amz-request-id")
    assert is_signature("x-amz-signature")
    assert not is_signature("versionid")
    assert date_of(datetime(2021, 3, 10, 23, 41, 52, tzinfo=UTC)) == "Wed Mar 10 23:41:52 UTC 2021"


def test_write_get_object_response_without_anybody_who_waits(aws: Account) -> None:
    with pytest.raises(ClientError) as caught:
        aws.client("s3").write_get_object_response(RequestRoute="io-abc", RequestToken="0" * 128, Body=b"x")
    answer = caught.value.response
    assert (answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]) == ("ValidationError", 400)
    nobody = aws.user("nobody").client("s3")
    with pytest.raises(ClientError, match="AccessDenied"):
        nobody.write_get_object_response(RequestRoute="io-abc", RequestToken="0" * 128, Body=b"x")


def test_the_guides_example(aws: Account, server: TestServer) -> None:
    code = re.search(r"```python\n(.*?)\n```", GUIDE.read_text(), re.DOTALL)
    assert code is not None
    server.cloud.authority.prepare()
    environ: dict[str, Any] = aws.environ()
    del environ["AWS_ENDPOINT_URL"]
    environ |= {"HTTPS_PROXY": server.endpoint, "AWS_CA_BUNDLE": str(server.cloud.authority.certificate_path)}
    text = code[1].replace("letters-of-ours", f"letters-{aws.account}")
    done = subprocess.run([sys.executable, "-c", text], env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "Dear **** <****>, see you at 5.\n" * 2, done.stderr[-2000:]
