"""Finding topics and their subscriptions: by ARN, cached; their settings understood once.

    Table(account, Region, "sns", "Topic")           name               -> {uid, attributes, tags, created, deleted}
    Table(account, Region, "sns", "Subscription")    topic ":" uid      -> {owner, protocol, endpoint, attributes, ...}
    Table(owner, Region, "sns", "Owned")             subscription ARN   -> {}      whose the subscription is: for ListSubscriptions

Both lie where the topic is. What is published changes nothing of this service's: it lies in the events room, and "snsdata".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from pilvi.core.arn import Arn, partition_of
from pilvi.core.errors import Conflict
from pilvi.core.principal import Principal
from pilvi.core.service import Context
from pilvi.services.sns.delivery_policy import HttpPolicy, effective
from pilvi.services.sns.errors import bad_arn, invalid, no_subscription, no_topic
from pilvi.services.sns.filters import BY_ATTRIBUTES, Filter, compile_filter
from pilvi.storage.records import Row, Table, Update

if TYPE_CHECKING:
    from pilvi.core.service import Cloud

SERVICE: Final = "sns"
DATA: Final = "snsdata"
PRINCIPAL: Final = "sns.amazonaws.com"
MOST_KNOWN: Final = 20_000
_MEMORY: Final = "sns:topics"


class Subscription:
    """One subscription, as of one version of its row. Never changed."""

    def __init__(self, topic: Topic, row: Row) -> None:
        value = row.value
        self.topic = topic
        self.id = row.id
        self.uid = row.id.rpartition(":")[2]
        self.arn = f"{topic.arn}:{self.uid}"
        self.row = value
        self.version = row.version
        self.owner: str = value["owner"]
        self.protocol: str = value["protocol"]
        self.endpoint: str = value["endpoint"]
        self.is_confirmed: bool = value["confirmed"]
        self.attributes: Mapping[str, str] = value["attributes"]
        self.is_raw = self.attributes.get("RawMessageDelivery") == "true"
        redrive = self.attributes.get("RedrivePolicy", "")
        self.dead_letters: str = json.loads(redrive)["deadLetterTargetArn"] if redrive else ""

        self.is_filtered = "FilterPolicy" in self.attributes

    @cached_property
    def filter(self) -> Filter | None:
        """What it wants; None: everything."""
        if not self.is_filtered:
            return None
        return compile_filter(self.attributes["FilterPolicy"], self.attributes.get("FilterPolicyScope", BY_ATTRIBUTES))

    @property
    def http(self) -> HttpPolicy:
        return effective(self.topic.attributes.get("DeliveryPolicy", ""), self.attributes.get("DeliveryPolicy", ""))


class Topic:
    """One topic's settings, as of one version of its row. Never changed."""

    def __init__(self, cloud: Cloud, table: Table, row: Row) -> None:
        self._cloud = cloud
        self.table = table
        self.account = table.account
        self.region = table.region
        self.name = row.id
        self.row = row.value
        self.version = row.version
        self.uid: str = row.value["uid"]
        self.arn = topic_arn(self.account, self.region, self.name)
        self.is_fifo = self.name.endswith(".fifo")
        self.attributes: Mapping[str, str] = row.value["attributes"]
        self.policy: Mapping[str, Any] = json.loads(self.attributes.get("Policy") or default_policy(self.arn, self.account))
        self.kms_key = self.attributes.get("KmsMasterKeyId", "")
        self.by_content = self.attributes.get("ContentBasedDeduplication") == "true"
        self.by_group = self.attributes.get("FifoThroughputScope") == "MessageGroup"
        self.signature_version = self.attributes.get("SignatureVersion", "1")
        archive = self.attributes.get("ArchivePolicy", "")
        self.archive_days = int(json.loads(archive).get("MessageRetentionPeriod", 0)) if archive else 0
        self._subscriptions: Sequence[Subscription] | None = None
        self._by_uid: dict[str, Subscription] | None = None

    @property
    def subscriptions(self) -> Sequence[Subscription]:
        """All of them, those not confirmed as well."""
        if self._subscriptions is None:
            found: list[Subscription] = []
            after, table = "", subscription_table(self.account, self.region)
            while rows := self._cloud.store.scan(table, prefix=f"{self.name}:", after=after):
                found += [Subscription(self, row) for row in rows]
                after = rows[-1].id
            self._subscriptions = found
        return self._subscriptions

    def subscription(self, uid: str) -> Subscription | None:
        if self._by_uid is None:
            self._by_uid = {one.uid: one for one in self.subscriptions}
        return self._by_uid.get(uid)


def topic_table(account: str, region: str) -> Table:
    return Table(account, region, SERVICE, "Topic")


def subscription_table(account: str, region: str) -> Table:
    return Table(account, region, SERVICE, "Subscription")


def owned_table(owner: str, region: str) -> Table:
    return Table(owner, region, SERVICE, "Owned")


def topic_arn(account: str, region: str, name: str) -> str:
    return f"arn:{partition_of(region)}:sns:{region}:{account}:{name}"


def default_policy(arn: str, account: str) -> str:
    """What a topic's policy is until somebody sets one. Source: SNS developer guide, "Using identity-based policies"."""
    statement = {
        "Sid": "__default_statement_ID",
        "Effect": "Allow",
        "Principal": {"AWS": "*"},
        "Action": [
            "SNS:GetTopicAttributes",
            "SNS:SetTopicAttributes",
            "SNS:AddPermission",
            "SNS:RemovePermission",
            "SNS:DeleteTopic",
            "SNS:Subscribe",
            "SNS:ListSubscriptionsByTopic",
            "SNS:Publish",
        ],
        "Resource": arn,
        "Condition": {"StringEquals": {"AWS:SourceOwner": account}},
    }
    return json.dumps({"Version": "2008-10-17", "Id": "__default_policy_ID", "Statement": [statement]}, separators=(",", ":"))


def look(cloud: Cloud, account: str, region: str, name: str) -> Topic | None:
    """A topic, or None. What was found stays in memory while no topic's or subscription's settings change."""
    generation = cloud.store.generation(SERVICE)
    known: tuple[int, dict[tuple[str, str, str], Topic | None]] | None = cloud.memory.get(_MEMORY)
    if known is None or known[0] != generation or len(known[1]) > MOST_KNOWN:
        known = cloud.memory[_MEMORY] = (generation, {})
    key = (account, region, name)
    try:
        return known[1][key]
    except KeyError:
        pass
    table = topic_table(account, region)
    row = cloud.store.get(table, name)
    found = known[1][key] = None if row is None else Topic(cloud, table, row)
    return found


def parsed(arn: str, parameter: str = "TopicArn") -> Arn:
    """The ARN of a topic or a subscription. InvalidParameter."""
    found = Arn.parse(arn)
    if found is None or found.service != SERVICE or not found.account or not found.resource:
        raise bad_arn(parameter, arn)
    return found


def find(ctx: Context, arn: str, parameter: str = "TopicArn") -> Topic:
    """The topic of an ARN, in the Region that is asked; links name none. NotFound, InvalidParameter."""
    where = parsed(arn, parameter)
    if where.region != ctx.region and ctx.principal.kind != "anonymous":
        raise invalid(parameter)
    found = look(ctx.cloud, where.account, where.region, where.resource)
    if found is None:
        raise no_topic()
    return found


def find_subscription(cloud: Cloud, arn: str) -> Subscription:
    """The subscription of an ARN. NotFound, InvalidParameter."""
    where = parsed(arn, "SubscriptionArn")
    name, colon, uid = where.resource.partition(":")
    if not colon:
        raise invalid("SubscriptionId")
    topic = look(cloud, where.account, where.region, name)
    found = topic.subscription(uid) if topic is not None else None
    if found is None:
        raise no_subscription()
    return found


async def revise(ctx: Context, topic: Topic, change: Callable[[dict[str, Any]], None]) -> None:
    """Read, change, write the settings of a topic."""
    while True:
        row: Row | None = ctx.store.get(topic.table, topic.name)
        if row is None or row.value["uid"] != topic.uid:
            raise no_topic()
        change(row.value)
        try:
            await ctx.store.commit([Update(topic.table, topic.name, row.value, row.version)])
        except Conflict:
            continue
        return


async def revise_subscription(ctx: Context, one: Subscription, change: Callable[[dict[str, Any]], None]) -> None:
    """Read, change, write one subscription."""
    table = subscription_table(one.topic.account, one.topic.region)
    while True:
        row = ctx.store.get(table, one.id)
        if row is None:
            raise no_subscription()
        change(row.value)
        try:
            await ctx.store.commit([Update(table, one.id, row.value, row.version)])
        except Conflict:
            continue
        return


def as_sns(cloud: Cloud, account: str, region: str, source_arn: str = "") -> Context:
    """SNS itself, acting for a topic."""
    principal = Principal("service", account, "", PRINCIPAL, PRINCIPAL, source_arn=source_arn)
    return Context(cloud, principal=principal, account=account, region=region, service=SERVICE)
