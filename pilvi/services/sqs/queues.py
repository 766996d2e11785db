"""Finding queues: by name, URL and ARN, cached; their settings as numbers.

    Table(account, Region, "sqs", "Queue")          name -> {uid, data, attributes, tags, created, modified, purged}
    Table(account, Region, "sqsdata", data)         sequence -> message (message.py)
    Table(account, Region, "sqsdata", data + "~")   sequence -> what became of it since: receives, invisible until
    Table(account, Region, "sqsdata", uid + "!")    deduplication id -> what was sent under it, for five minutes

`data` is a new name after each purge, so a purge is one write however many messages there are. Settings have a service name of
their own: messages that come and go leave what is cached of queues alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

from pilvi.core.arn import Arn, partition_of
from pilvi.core.service import Context
from pilvi.services.sqs.attributes import with_defaults
from pilvi.services.sqs.errors import no_queue
from pilvi.storage.records import Table

if TYPE_CHECKING:
    from pilvi.core.service import Cloud

SERVICE: Final = "sqs"
DATA: Final = "sqsdata"
MOST_KNOWN: Final = 20_000
_MEMORY: Final = "sqs:queues"


class Address:
    """Whose queue, where, and its name; whether it is there or not."""

    __slots__ = ("account", "name", "region")

    def __init__(self, account: str, region: str, name: str) -> None:
        self.account = account
        self.region = region
        self.name = name

    @property
    def arn(self) -> str:
        return f"arn:{partition_of(self.region)}:sqs:{self.region}:{self.account}:{self.name}"


class Queue:
    """One queue's settings, as of one version of its row. Never changed."""

    def __init__(self, table: Table, name: str, value: dict[str, Any], version: int) -> None:
        self.table = table
        self.account = table.account
        self.region = table.region
        self.name = name
        self.row = value
        self.version = version
        self.arn = Address(table.account, table.region, name).arn
        self.uid: str = value["uid"]
        self.data: str = value["data"]
        self.is_fifo = name.endswith(".fifo")
        attributes: Mapping[str, str] = value["attributes"]
        self.attributes = full = with_defaults(attributes, is_fifo=self.is_fifo)
        self.visibility_s = int(full["VisibilityTimeout"])
        self.delay_s = int(full["DelaySeconds"])
        self.wait_s = int(full["ReceiveMessageWaitTimeSeconds"])
        self.retention_ms = int(full["MessageRetentionPeriod"]) * 1000
        self.most_bytes = int(full["MaximumMessageSize"])
        self.kms_key = full.get("KmsMasterKeyId", "")
        self.key_reuse_s = int(full.get("KmsDataKeyReusePeriodSeconds", 300))
        self.by_content = full.get("ContentBasedDeduplication") == "true"
        self.by_group = full.get("DeduplicationScope") == "messageGroup"
        self.policy: Mapping[str, Any] | None = json.loads(full["Policy"]) if "Policy" in full else None
        redrive = json.loads(full["RedrivePolicy"]) if "RedrivePolicy" in full else {}
        self.dead_letters: str = redrive.get("deadLetterTargetArn", "")
        self.most_receives: int = redrive.get("maxReceiveCount", 0)

    @property
    def messages(self) -> Table:
        return Table(self.account, self.region, DATA, self.data)

    @property
    def states(self) -> Table:
        return Table(self.account, self.region, DATA, self.data + "~")

    @property
    def duplicates(self) -> Table:
        return Table(self.account, self.region, DATA, self.uid + "!")

    def takes_dead_letters_of(self, source_arn: str) -> bool:
        """What its RedriveAllowPolicy says of a queue."""
        text = self.attributes.get("RedriveAllowPolicy")
        allowing = json.loads(text) if text else {"redrivePermission": "allowAll"}
        if allowing["redrivePermission"] == "byQueue":
            return source_arn in allowing["sourceQueueArns"]
        return bool(allowing["redrivePermission"] == "allowAll")


def queue_table(account: str, region: str) -> Table:
    return Table(account, region, SERVICE, "Queue")


def look(cloud: Cloud, account: str, region: str, name: str) -> Queue | None:
    """A queue, or None. What was found stays in memory while no queue's settings change."""
    generation = cloud.store.generation(SERVICE)
    known: tuple[int, dict[tuple[str, str, str], Queue | None]] | None = cloud.memory.get(_MEMORY)
    if known is None or known[0] != generation or len(known[1]) > MOST_KNOWN:
        known = cloud.memory[_MEMORY] = (generation, {})
    key = (account, region, name)
    try:
        return known[1][key]
    except KeyError:
        pass
    table = queue_table(account, region)
    row = cloud.store.get(table, name)
    found = known[1][key] = None if row is None else Queue(table, name, row.value, row.version)
    return found


def find(ctx: Context, url: str) -> Queue:
    """The queue of a URL. QueueDoesNotExist."""
    address = address_of(ctx, url)
    found = look(ctx.cloud, address.account, address.region, address.name)
    if found is None:
        raise no_queue()
    return found


def find_by_arn(cloud: Cloud, arn: str) -> Queue | None:
    parsed = Arn.parse(arn)
    if parsed is None or parsed.service != "sqs":
        return None
    return look(cloud, parsed.account, parsed.region, parsed.resource)


def address_of(ctx: Context, url: str) -> Address:
    """What a queue URL names: `.../ACCOUNT/NAME` on any host, in the caller's Region. A name alone is the caller's own."""
    account, name = parts_of(url)
    return Address(account or ctx.account, ctx.region, name)


@lru_cache(maxsize=4096)
def parts_of(url: str) -> tuple[str, str]:
    try:
        path = urlsplit(url).path
    except ValueError:
        return "", ""
    parts = [unquote(part) for part in path.split("/") if part]
    if len(parts) == 1:
        return "", parts[0]
    if len(parts) < 2 or len(parts[-2]) != 12 or not parts[-2].isdigit():
        return "", ""
    return parts[-2], parts[-1]


def url_of(ctx: Context, account: str, name: str) -> str:
    """Where clients find a queue: at this server."""
    return f"{ctx.cloud.endpoint}/{account}/{name}"
