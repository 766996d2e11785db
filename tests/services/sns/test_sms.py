"""Text messages: to phones and subscriptions, who wants none, the sandbox."""

from __future__ import annotations

import re
import urllib.request
from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from pilvi.testing.server import Account, TestServer
from tests.services.sns.stage import Refusal, new_topic, subscribed
from tests.services.sns.test_subscription import letters


def answers_stop(aws: Account, number: str) -> None:
    url = f"{aws.endpoint}/_aws/mail/stop/{number}"
    request = AWSRequest("POST", url)
    SigV4Auth(Credentials(aws.access_key_id, aws.secret), "sns", "us-east-1").add_auth(request)
    with urllib.request.urlopen(
        urllib.request.Request(url, headers=dict(request.headers.items()), method="POST"), timeout=10
    ) as answer:
        answer.read()


def test_phones_get_text_messages_until_they_say_stop(server: TestServer, aws: Account, refusal: Refusal) -> None:
    sns, topic = aws.client("sns"), new_topic(aws, DisplayName="News")
    assert subscribed(aws, topic, "+1-555-0100", "sms").startswith(topic)
    sns.publish(TopicArn=topic, Message="one")
    sender = {"AWS.SNS.SMS.SenderID": {"DataType": "String", "StringValue": "Pilvi"}}
    sns.publish(PhoneNumber="+15550100", Message="two", MessageAttributes=sender)
    found = letters(server, aws, 2)
    assert {(letter["to"], letter["text"], letter["from"]) for letter in found} == {
        ("+15550100", "News> one", "NOTICE"),
        ("+15550100", "two", "Pilvi"),
    }
    assert sns.check_if_phone_number_is_opted_out(phoneNumber="+15550100")["isOptedOut"] is False
    answers_stop(aws, "+15550100")
    assert sns.check_if_phone_number_is_opted_out(phoneNumber="+15550100")["isOptedOut"] is True
    assert sns.list_phone_numbers_opted_out()["phoneNumbers"] == ["+15550100"]
    sns.publish(PhoneNumber="+15550100", Message="three")
    sns.opt_in_phone_number(phoneNumber="+15550100")
    assert sns.list_phone_numbers_opted_out()["phoneNumbers"] == []
    sns.publish(PhoneNumber="+15550100", Message="four")
    assert letters(server, aws, 3)[2]["text"] == "four"
    answers_stop(aws, "+15550100")
    assert refusal(sns.opt_in_phone_number, phoneNumber="+15550100")[0] == "InvalidParameter"
    assert refusal(sns.publish, PhoneNumber="nobody", Message="m")[0] == "InvalidParameter"


def test_set_sms_attributes(server: TestServer, aws: Account, refusal: Refusal) -> None:
    sns = aws.client("sns")
    sns.set_sms_attributes(attributes={"DefaultSenderID": "Pilvi", "DefaultSMSType": "Transactional"})
    assert sns.get_sms_attributes(attributes=["DefaultSMSType"])["attributes"] == {"DefaultSMSType": "Transactional"}
    assert len(sns.get_sms_attributes()["attributes"]) == 3
    assert sns.list_origination_numbers()["PhoneNumbers"] == []
    sns.publish(PhoneNumber="+15550100", Message="m")
    assert letters(server, aws, 1)[0]["from"] == "Pilvi"
    assert refusal(sns.set_sms_attributes, attributes={"Nothing": "1"})[0] == "InvalidParameter"
    assert refusal(sns.set_sms_attributes, attributes={"DefaultSMSType": "Loud"})[0] == "InvalidParameter"
    assert refusal(sns.set_sms_attributes, attributes={"UsageReportS3Bucket": "b"})[0] == "NotImplemented"


def test_the_sandbox_verifies_by_a_code(server: TestServer, aws: Account, refusal: Refusal) -> None:
    sns, number = aws.client("sns"), "+15550101"
    assert sns.get_sms_sandbox_account_status()["IsInSandbox"] is False
    sns.create_sms_sandbox_phone_number(PhoneNumber=number)

    def status() -> list[Any]:
        return list(sns.list_sms_sandbox_phone_numbers()["PhoneNumbers"])

    assert status() == [{"PhoneNumber": number, "Status": "Pending"}]
    found = re.search(r"\d{6}", letters(server, aws, 1)[0]["text"])
    assert found is not None
    wrong = "000000" if found[0] != "000000" else "111111"
    assert refusal(sns.verify_sms_sandbox_phone_number, PhoneNumber=number, OneTimePassword=wrong)[0] == "VerificationException"
    sns.verify_sms_sandbox_phone_number(PhoneNumber=number, OneTimePassword=found[0])
    assert status() == [{"PhoneNumber": number, "Status": "Verified"}]
    assert refusal(sns.create_sms_sandbox_phone_number, PhoneNumber=number)[0] == "UserError"
    sns.delete_sms_sandbox_phone_number(PhoneNumber=number)
    assert status() == []
    assert refusal(sns.delete_sms_sandbox_phone_number, PhoneNumber=number)[0] == "ResourceNotFound"
    assert refusal(sns.verify_sms_sandbox_phone_number, PhoneNumber=number, OneTimePassword="12345")[0] == "ResourceNotFound"
