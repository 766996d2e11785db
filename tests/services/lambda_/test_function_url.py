from __future__ import annotations

import json
import urllib.error
import urllib.request

import pytest
from botocore.exceptions import ClientError

CODE = """
def handler(event, context):
    if event["rawPath"] == "/plain":
        return {"hello": event.get("queryStringParameters")}
    return {"statusCode": 201, "headers": {"X-Seen": event["requestContext"]["http"]["method"]}, "cookies": ["a=1"], "body": event.get("body", "")}
"""


def fetch(url: str, data: bytes | None = None) -> tuple[int, dict[str, str], bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data)) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read()


def test_create_function_url_config_serves_the_function(lab):
    lab.create("web", CODE)
    made = lab.client.create_function_url_config(FunctionName="web", AuthType="NONE")
    url = made["FunctionUrl"]
    status, _, body = fetch(url)
    assert status == 403
    assert json.loads(body)["Message"].startswith("Forbidden.")
    lab.client.add_permission(
        FunctionName="web", StatementId="public", Action="lambda:InvokeFunctionUrl", Principal="*", FunctionUrlAuthType="NONE"
    )
    status, headers, body = fetch(url, b"posted")
    assert (status, headers["x-seen"], headers["set-cookie"], body) == (201, "POST", "a=1", b"posted")
    status, headers, body = fetch(f"{url}plain?q=1&q=2")
    assert (status, json.loads(body)) == (200, {"hello": {"q": "1,2"}})
    assert headers["content-type"] == "application/json"
    with pytest.raises(ClientError) as error:
        lab.client.create_function_url_config(FunctionName="web", AuthType="NONE")
    assert error.value.response["Error"]["Code"] == "ResourceConflictException"
    assert lab.client.get_function_url_config(FunctionName="web")["FunctionUrl"] == url
    assert [item["FunctionUrl"] for item in lab.client.list_function_url_configs(FunctionName="web")["FunctionUrlConfigs"]] == [url]
    assert lab.client.update_function_url_config(FunctionName="web", InvokeMode="BUFFERED")["InvokeMode"] == "BUFFERED"
    lab.client.delete_function_url_config(FunctionName="web")
    assert fetch(url)[0] == 404
    for call in (lab.client.get_function_url_config, lab.client.delete_function_url_config, lab.client.update_function_url_config):
        with pytest.raises(ClientError) as error:
            call(FunctionName="web")
        assert error.value.response["Error"]["Code"] == "ResourceNotFoundException"


def test_a_url_goes_with_its_function(lab):
    lab.create("brief", CODE)
    url = lab.client.create_function_url_config(FunctionName="brief", AuthType="NONE")["FunctionUrl"]
    lab.client.delete_function(FunctionName="brief")
    assert fetch(url)[0] == 404
    lab.create("brief", CODE)
    assert fetch(url)[0] == 404


def test_create_function_url_config_refuses_what_is_absent(lab):
    lab.create("strict", CODE, Publish=True)
    for settings in (
        {"AuthType": "AWS_IAM"},
        {"AuthType": "NONE", "Cors": {"AllowOrigins": ["*"]}},
        {"AuthType": "NONE", "InvokeMode": "RESPONSE_STREAM"},
    ):
        with pytest.raises(ClientError, match="not available in this cloud"):
            lab.client.create_function_url_config(FunctionName="strict", **settings)
