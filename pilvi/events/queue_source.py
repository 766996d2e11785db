"""An SQS queue as a polled source: standard queues, and FIFO queues in the order of each group.

What fails stays invisible until the queue's visibility timeout is over, as on AWS: whoever polls needs sqs:ReceiveMessage,
sqs:DeleteMessage and sqs:GetQueueAttributes, and no more. A FIFO queue gives nothing further of a group of which something is in flight, so
order holds by itself.

Source: Lambda developer guide, "Using Lambda with Amazon SQS" (the shape of a record).
"""

from __future__ import annotations

import asyncio
import base64
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from pilvi.core.arn import Arn
from pilvi.core.errors import Invalid
from pilvi.events.poller import Record

if TYPE_CHECKING:
    from pilvi.core.service import Context

AT_ONCE: Final = 10
"""Messages that one call of SQS takes."""
LOOK_S: Final = 60.0
"""How often the queue's visibility timeout is asked for."""
HELD_S: Final = 30.0
_RECORD_BYTES: Final = 1200
"""What a record weighs besides its body."""


class QueueSource:
    """One queue, polled as somebody."""

    most = AT_ONCE

    def __init__(self, arn: str, acting: Callable[[], Context]) -> None:
        """acting: whose context asks; called for every request, so that credentials may be renewed."""
        parsed = Arn.parse(arn)
        if parsed is None or parsed.service != "sqs":
            raise Invalid(f"{arn} is no queue")
        self.arn = arn
        self.region = parsed.region
        self.is_fifo = arn.endswith(".fifo")
        self.most_at_once = 1250
        self._path = f"/{parsed.account}/{parsed.resource}"
        self._acting = acting
        self._held_s = HELD_S
        self.has_dead_letters = False
        """What is received too often goes on from here, as of the last look."""
        self._looked_s = -math.inf

    async def receive(self, many: int, wait_s: float) -> list[Record]:
        ctx = self._acting()
        loop = asyncio.get_running_loop()
        if loop.time() - self._looked_s > LOOK_S:
            await self.attributes()
        answer = await ctx.acall(
            "sqs",
            "ReceiveMessage",
            QueueUrl=self._url(ctx),
            MaxNumberOfMessages=min(many, AT_ONCE),
            WaitTimeSeconds=min(20, math.ceil(wait_s)),
            MessageSystemAttributeNames=["All"],
            MessageAttributeNames=["All"],
        )
        return [record_of(message, self.arn, self.region) for message in answer.get("Messages") or ()]

    async def remove(self, records: Sequence[Record]) -> None:
        ctx = self._acting()
        url = self._url(ctx)
        calls = []
        for start in range(0, len(records), AT_ONCE):
            entries = [
                {"Id": str(number), "ReceiptHandle": record.handle}
                for number, record in enumerate(records[start : start + AT_ONCE])
            ]
            calls.append(ctx.acall("sqs", "DeleteMessageBatch", QueueUrl=url, Entries=entries))
        await asyncio.gather(*calls)

    def held_s(self) -> float:
        return self._held_s

    async def attributes(self) -> dict[str, str]:
        """What the queue says of itself."""
        ctx = self._acting()
        answer = await ctx.acall("sqs", "GetQueueAttributes", QueueUrl=self._url(ctx), AttributeNames=["All"])
        found: dict[str, str] = answer.get("Attributes") or {}
        self._held_s = float(found.get("VisibilityTimeout", HELD_S))
        self.has_dead_letters = "RedrivePolicy" in found
        self._looked_s = asyncio.get_running_loop().time()
        return found

    def _url(self, ctx: Context) -> str:
        return f"{ctx.cloud.endpoint}{self._path}"


def record_of(message: Mapping[str, Any], arn: str, region: str) -> Record:
    """A message as Lambda's and Pipes' events show it."""
    event: dict[str, Any] = {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": message.get("Attributes") or {},
        "messageAttributes": {name: _attribute(value) for name, value in (message.get("MessageAttributes") or {}).items()},
        "md5OfBody": message["MD5OfBody"],
    }
    if "MD5OfMessageAttributes" in message:
        event["md5OfMessageAttributes"] = message["MD5OfMessageAttributes"]
    event |= {"eventSource": "aws:sqs", "eventSourceARN": arn, "awsRegion": region}
    return Record(event, message["ReceiptHandle"], len(message["Body"].encode()) + _RECORD_BYTES)


def _attribute(value: Mapping[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    if "StringValue" in value:
        shown["stringValue"] = value["StringValue"]
    if "BinaryValue" in value:
        shown["binaryValue"] = base64.b64encode(value["BinaryValue"]).decode()
    return {**shown, "stringListValues": [], "binaryListValues": [], "dataType": value["DataType"]}
