"""`pilvi mail` against a server of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pilvi.app.keys import root_key
from pilvi.cli.mail import listed, shown, stopped
from pilvi.core.errors import Invalid
from pilvi.testing.server import TestServer, eventually


def test_mail_lists_and_shows_what_would_have_been_sent(tmp_path: Path) -> None:
    with TestServer(tmp_path) as server:
        aws = server.account(root_key(tmp_path)[0])
        sns = aws.client("sns")
        assert listed(tmp_path, 20, as_json=False) == ""
        topic = sns.create_topic(Name="news")["TopicArn"]
        sns.subscribe(TopicArn=topic, Protocol="email", Endpoint="ada@example.org")
        (letter,) = eventually(lambda: json.loads(listed(tmp_path, 20, as_json=True)))
        sns.publish(PhoneNumber="+1 555 0100", Message="hello")
        first, second = listed(tmp_path, 20, as_json=False).splitlines()
        assert first.split()[3:5] == ["sms", "+15550100"]
        assert second.endswith("ada@example.org  AWS Notification - Subscription Confirmation")
        assert shown(tmp_path, "last", as_json=False).endswith("hello")
        text = shown(tmp_path, letter["id"][-8:], as_json=False)
        assert "To: ada@example.org\nSubject: AWS Notification - Subscription Confirmation\n\nYou have chosen" in text
        assert json.loads(shown(tmp_path, letter["id"], as_json=True))["kind"] == "email"
        assert len(listed(tmp_path, 1, as_json=False).splitlines()) == 1
        assert stopped(tmp_path, "+1-555-0100") == "+15550100 gets no more text messages"
        sns.publish(PhoneNumber="+15550100", Message="again")
        assert len(json.loads(listed(tmp_path, 20, as_json=True))) == 2
        with pytest.raises(Invalid, match="no letter"):
            shown(tmp_path, "nothing", as_json=False)
