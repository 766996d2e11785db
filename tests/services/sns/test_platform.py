"""Mobile pushes: applications, endpoints, what reaches the spool."""

from __future__ import annotations

import json

from pilvi.testing.server import Account, TestServer
from tests.services.sns.stage import Refusal, new_topic, subscribed
from tests.services.sns.test_subscription import letters

APPLE = {"PlatformCredential": "secret key", "PlatformPrincipal": "certificate"}


def test_pushes_reach_the_spool(server: TestServer, aws: Account, refusal: Refusal) -> None:
    sns, topic = aws.client("sns"), new_topic(aws)
    app = sns.create_platform_application(Name="app", Platform="APNS", Attributes=APPLE)["PlatformApplicationArn"]
    assert app == f"arn:aws:sns:us-east-1:{aws.account}:app/APNS/app"
    phone = sns.create_platform_endpoint(PlatformApplicationArn=app, Token="t0k3n", CustomUserData="ada")["EndpointArn"]
    assert phone.startswith(f"arn:aws:sns:us-east-1:{aws.account}:endpoint/APNS/app/")
    message = json.dumps({"default": "all", "APNS": '{"aps": {"alert": "hi"}}'})
    sns.publish(TargetArn=phone, Message=message, MessageStructure="json")
    subscribed(aws, topic, phone, "application")
    sns.publish(TopicArn=topic, Message="news")
    found = letters(server, aws, 2)
    assert [(letter["kind"], letter["to"], letter["text"]) for letter in found] == [
        ("push", "APNS t0k3n", '{"aps": {"alert": "hi"}}'),
        ("push", "APNS t0k3n", "news"),
    ]
    sns.set_endpoint_attributes(EndpointArn=phone, Attributes={"Enabled": "false"})
    assert refusal(sns.publish, TargetArn=phone, Message="m")[0] == "EndpointDisabled"
    sns.set_endpoint_attributes(EndpointArn=phone, Attributes={"Enabled": "true"})
    sns.set_platform_application_attributes(PlatformApplicationArn=app, Attributes={"Enabled": "false"})
    assert refusal(sns.publish, TargetArn=phone, Message="m")[0] == "PlatformApplicationDisabled"
    sns.delete_endpoint(EndpointArn=phone)
    sns.delete_endpoint(EndpointArn=phone)
    assert refusal(sns.publish, TargetArn=phone, Message="m")[1].endswith("No endpoint found for the target arn specified")
    assert refusal(sns.subscribe, TopicArn=topic, Protocol="application", Endpoint=f"{phone}x")[0] == "NotFound"


def test_create_platform_application_tells_no_secrets(aws: Account, other_aws: Account, refusal: Refusal) -> None:
    sns = aws.client("sns")
    app = sns.create_platform_application(Name="app", Platform="GCM", Attributes={"PlatformCredential": "secret"})[
        "PlatformApplicationArn"
    ]
    assert sns.get_platform_application_attributes(PlatformApplicationArn=app)["Attributes"] == {"Enabled": "true"}
    (listed,) = sns.list_platform_applications()["PlatformApplications"]
    assert listed == {"PlatformApplicationArn": app, "Attributes": {"Enabled": "true"}}
    sns.set_platform_application_attributes(PlatformApplicationArn=app, Attributes={"PlatformCredential": "other"})
    there = other_aws.client("sns")
    assert refusal(there.get_platform_application_attributes, PlatformApplicationArn=app)[0] == "NotFound"

    def code(**changed: object) -> str:
        given = {"Name": "a", "Platform": "APNS", "Attributes": APPLE}
        return refusal(sns.create_platform_application, **(given | changed))[0]

    assert code(Name="a b") == "InvalidParameter"
    assert code(Platform="PIGEON") == "InvalidParameter"
    assert code(Attributes={"PlatformPrincipal": "x"}) == "InvalidParameter"
    assert code(Attributes={"PlatformCredential": "x"}) == "InvalidParameter"
    assert code(Attributes={**APPLE, "EventEndpointCreated": "arn"}) == "NotImplemented"
    assert code(Attributes={**APPLE, "SuccessFeedbackSampleRate": "many"}) == "InvalidParameter"
    sns.delete_platform_application(PlatformApplicationArn=app)
    assert sns.list_platform_applications()["PlatformApplications"] == []


def test_create_platform_endpoint_gives_the_same_arn_again(aws: Account, refusal: Refusal) -> None:
    sns = aws.client("sns")
    app = sns.create_platform_application(Name="app", Platform="GCM", Attributes={"PlatformCredential": "secret"})[
        "PlatformApplicationArn"
    ]
    phone = sns.create_platform_endpoint(PlatformApplicationArn=app, Token="a")["EndpointArn"]
    assert sns.create_platform_endpoint(PlatformApplicationArn=app, Token="a")["EndpointArn"] == phone
    _code, message = refusal(sns.create_platform_endpoint, PlatformApplicationArn=app, Token="a", CustomUserData="x")
    assert (
        message
        == f"Invalid parameter: Token Reason: Endpoint {phone} already exists with the same Token, but different attributes."
    )
    assert sns.get_endpoint_attributes(EndpointArn=phone)["Attributes"] == {"Enabled": "true", "Token": "a"}
    for number in range(102):
        sns.create_platform_endpoint(PlatformApplicationArn=app, Token=f"t{number}")
    pages = sns.get_paginator("list_endpoints_by_platform_application").paginate(PlatformApplicationArn=app)
    assert [len(page["Endpoints"]) for page in pages] == [100, 3]
    assert refusal(sns.get_endpoint_attributes, EndpointArn=f"{phone}x")[0] == "NotFound"
    assert refusal(sns.set_endpoint_attributes, EndpointArn=phone, Attributes={"Nothing": "1"})[0] == "InvalidParameter"
    sns.delete_platform_application(PlatformApplicationArn=app)
    assert refusal(sns.get_endpoint_attributes, EndpointArn=phone)[0] == "NotFound"
