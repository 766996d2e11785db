"""A server that stops and starts again: nothing that was published is lost, and signatures of before still verify."""

from __future__ import annotations

import json
from pathlib import Path

from pilvi.testing.server import TestServer
from tests.services.sns.stage import Web, new_queue, new_topic, received, subscribed
from tests.services.sns.test_delivery import listening, verify

ACCOUNT = "670000000001"


def test_what_waits_for_a_subscriber_outlives_a_restart(tmp_path: Path, web: Web) -> None:
    with TestServer(tmp_path) as first:
        aws = first.account(ACCOUNT)
        sns, topic = aws.client("sns"), new_topic(aws)
        _, dead = new_queue(aws, "dead")
        listening(aws, topic, web, RedrivePolicy=json.dumps({"deadLetterTargetArn": dead}))
        web.status = 500
        message_id = sns.publish(TopicArn=topic, Message="kept")["MessageId"]
        fifo = new_topic(aws, "f.fifo", ContentBasedDeduplication="true")
        subscribed(aws, fifo, new_queue(aws, "q.fifo")[1])
        before = sns.publish(TopicArn=fifo, Message="once", MessageGroupId="g")
    web.status = 200
    web.heard.clear()
    with TestServer(tmp_path) as second:
        aws = second.account(ACCOUNT)
        sns = aws.client("sns")
        second.cloud.advance_clock(25)
        (content,) = web.of_kind("Notification")
        assert (content["MessageId"], content["Message"]) == (message_id, "kept")
        verify(content)
        again = sns.publish(TopicArn=fifo, Message="once", MessageGroupId="g")
        assert again["SequenceNumber"] == before["SequenceNumber"]
        later = sns.publish(TopicArn=fifo, Message="twice", MessageGroupId="g")
        assert int(later["SequenceNumber"]) > int(before["SequenceNumber"])
        url = f"{aws.endpoint}/{ACCOUNT}/q.fifo"
        assert [json.loads(message["Body"])["Message"] for message in received(aws, url, 2)] == ["once", "twice"]
