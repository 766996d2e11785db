"""InvokeEndpoint: a model's answer comes back as the container gave it, and so do its errors."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pilvi.testing.server import eventually
from tests.services.sagemaker_runtime.conftest import Desk

KEYS = """\
import json, os, urllib.request

def model_fn(model_dir):
    return None

def predict_fn(data, model):
    token = {"Authorization": os.environ["AWS_CONTAINER_AUTHORIZATION_TOKEN"]}
    request = urllib.request.Request(os.environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"], headers=token)
    return [json.load(urllib.request.urlopen(request, timeout=10))["RoleArn"], os.environ.get("AWS_ACCESS_KEY_ID")]
"""
HEADERS = """\
def model_fn(model_dir):
    return None

def transform_fn(model, body, content_type, accept, context):
    if body == "stream":
        return (piece for piece in ("one ", "two ", "three")), "text/plain"
    if body == "break":
        def pieces():
            yield "one "
            raise ValueError("no more")
        return pieces(), "text/plain"
    return f"{content_type} {accept} {context.headers.get('x-amzn-sagemaker-custom-attributes')} {len(body)}", "text/x-told"
"""


@pytest.fixture(scope="module")
def endpoint(desk: Desk) -> str:
    return desk.endpoint("single")


@pytest.fixture(scope="module")
def told(desk: Desk) -> str:
    """An endpoint that tells what it was asked."""
    return desk.endpoint("told", desk.variant(desk.model("told", script=HEADERS)))


def refused(call: Any, **request: Any) -> Any:
    with pytest.raises(ClientError) as failure:
        call(**request)
    return failure.value.response


def test_invoke_endpoint_answers(desk: Desk, endpoint: str) -> None:
    answer = desk.runtime.invoke_endpoint(EndpointName=endpoint, Body="[1, 2.5]", ContentType="application/json")
    assert json.loads(answer["Body"].read()) == [2.0, 5.0]
    assert (answer["ContentType"], answer["InvokedProductionVariant"]) == ("application/json", "AllTraffic")


def test_invoke_endpoint_reads_and_writes_csv(desk: Desk, endpoint: str) -> None:
    answer = desk.runtime.invoke_endpoint(EndpointName=endpoint, Body="1,2\n3,4\n", ContentType="text/csv", Accept="text/csv")
    assert (answer["Body"].read(), answer["ContentType"]) == (b"6.0\n14.0\n", "text/csv")


def test_invoke_endpoint_passes_headers_and_large_bodies(desk: Desk, told: str) -> None:
    answer = desk.runtime.invoke_endpoint(
        EndpointName=told, Body=b"x" * (6 << 20), ContentType="text/plain", Accept="text/x-told", CustomAttributes="trace=1"
    )
    assert (answer["Body"].read(), answer["ContentType"]) == (b"text/plain text/x-told trace=1 6291456", "text/x-told")


def test_invoke_endpoint_refuses_bodies_over_6_mb(desk: Desk, told: str) -> None:
    answer = refused(desk.runtime.invoke_endpoint, EndpointName=told, Body=b"x" * ((6 << 20) + 1))
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert "less than or equal to 6291456" in answer["Error"]["Message"]


def test_invoke_endpoint_tells_what_the_model_raised(desk: Desk, endpoint: str) -> None:
    answer = refused(
        desk.runtime.invoke_endpoint, EndpointName=endpoint, Body='{"raise": "not today"}', ContentType="application/json"
    )
    assert (answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]) == ("ModelError", 424)
    assert (answer["OriginalStatusCode"], answer["OriginalMessage"]) == (500, "ValueError: not today")
    assert (
        'Received server error (500) from primary with message "ValueError: not today". See https://' in answer["Error"]["Message"]
    )
    group, stream = answer["LogStreamArn"].split(":log-group:")[1].split(":log-stream:")

    eventually(lambda: "ValueError: not today" in desk.logged(group, stream))


def test_invoke_endpoint_tells_what_the_container_does_not_take(desk: Desk, endpoint: str) -> None:
    answer = refused(desk.runtime.invoke_endpoint, EndpointName=endpoint, Body="x", ContentType="application/x-strange")
    assert answer["OriginalStatusCode"] == 415
    assert answer["Error"]["Message"].startswith('Received client error (415) from primary with message "Content type')


def test_invoke_endpoint_outlives_a_worker_that_dies(desk: Desk, endpoint: str) -> None:
    answer = refused(desk.runtime.invoke_endpoint, EndpointName=endpoint, Body='{"die": 1}', ContentType="application/json")
    assert (answer["Error"]["Code"], answer["OriginalStatusCode"]) == ("ModelError", 500)
    assert json.loads(desk.ask(endpoint)) == [2.0, 4.0]


def test_invoke_endpoint_without_the_endpoint_is_refused(desk: Desk) -> None:
    answer = refused(desk.runtime.invoke_endpoint, EndpointName="nobody", Body="x")
    assert answer["Error"]["Code"] == "ValidationError"
    assert answer["Error"]["Message"] == f"Endpoint nobody of account {desk.aws.account} not found."


def test_invoke_endpoint_of_another_account_is_not_found(desk: Desk, endpoint: str, aws: Any) -> None:
    answer = refused(aws.client("sagemaker-runtime").invoke_endpoint, EndpointName=endpoint, Body="[1]")
    assert answer["Error"]["Message"] == f"Endpoint single of account {aws.account} not found."


def test_invoke_endpoint_refuses_members_that_do_not_fit(desk: Desk, endpoint: str) -> None:
    ask = desk.runtime.invoke_endpoint
    assert "Variant other is not found" in refused(ask, EndpointName=endpoint, Body="x", TargetVariant="other")["Error"]["Message"]
    assert "single model" in refused(ask, EndpointName=endpoint, Body="x", TargetModel="a.tar.gz")["Error"]["Message"]
    assert (
        "TargetContainerHostname" in refused(ask, EndpointName=endpoint, Body="x", TargetContainerHostname="a")["Error"]["Message"]
    )
    assert "component" in refused(ask, EndpointName=endpoint, Body="x", InferenceComponentName="a")["Error"]["Message"]
    answer = refused(desk.runtime.invoke_endpoint_async, EndpointName=endpoint, InputLocation="s3://b/k")
    assert "AsyncInferenceConfig" in answer["Error"]["Message"]


def test_invoke_endpoint_answers_many_at_once(desk: Desk, endpoint: str) -> None:
    local = threading.local()

    def ask(number: int) -> Any:
        if not hasattr(local, "client"):
            local.client = desk.aws.session.client("sagemaker-runtime", endpoint_url=desk.aws.endpoint)
        body = local.client.invoke_endpoint(EndpointName=endpoint, Body=f"[{number}]", ContentType="application/json")[
            "Body"
        ].read()
        return json.loads(body)[0]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(200))) == [2.0 * number for number in range(200)]


def test_invoke_endpoint_with_response_stream_sends_pieces(desk: Desk, told: str) -> None:
    answer = desk.runtime.invoke_endpoint_with_response_stream(EndpointName=told, Body="stream", ContentType="text/plain")
    assert (answer["ContentType"], answer["InvokedProductionVariant"]) == ("text/plain", "AllTraffic")
    assert [event["PayloadPart"]["Bytes"] for event in answer["Body"]] == [b"one ", b"two ", b"three"]


def test_invoke_endpoint_with_response_stream_tells_that_it_broke(desk: Desk, told: str) -> None:
    answer = desk.runtime.invoke_endpoint_with_response_stream(EndpointName=told, Body="break", ContentType="text/plain")
    with pytest.raises(ClientError) as failure:
        list(answer["Body"])
    assert failure.value.response["Error"]["Code"] in ("ModelStreamError", "modelStreamError")


def test_invoke_endpoint_needs_permission(desk: Desk, endpoint: str) -> None:
    statement = {"Effect": "Allow", "Action": "sagemaker:InvokeEndpoint", "Resource": f"arn:aws:sagemaker:*:*:endpoint/{endpoint}"}
    user = desk.aws.user("caller", {"Version": "2012-10-17", "Statement": [statement]})
    answer = user.client("sagemaker-runtime").invoke_endpoint(EndpointName=endpoint, Body="[1]", ContentType="application/json")
    assert json.loads(answer["Body"].read()) == [2.0]
    other = refused(user.client("sagemaker-runtime").invoke_endpoint, EndpointName="told", Body="[1]")
    assert other["Error"]["Code"] in ("AccessDeniedException", "AccessDenied")


def test_a_model_gets_its_roles_keys_anew(desk: Desk) -> None:
    desk.endpoint("keys", desk.variant(desk.model("keys", script=KEYS)))
    assert json.loads(desk.ask("keys")) == [desk.role, None]
    desk.remove("keys")


def test_a_request_that_hangs_ends_its_worker_alone(desk: Desk) -> None:
    desk.endpoint("hangs", desk.variant(desk.model("hangs", Environment={"SAGEMAKER_MODEL_SERVER_TIMEOUT": "1"})))
    answer = refused(desk.runtime.invoke_endpoint, EndpointName="hangs", Body='{"sleep": 60}', ContentType="application/json")
    assert (answer["Error"]["Code"], answer["OriginalStatusCode"]) == ("ModelError", 500)
    assert json.loads(desk.ask("hangs")) == [2.0, 4.0]
    desk.remove("hangs")
