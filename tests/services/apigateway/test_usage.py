"""API keys and usage plans: made, listed, changed; and enforced over HTTP."""

from __future__ import annotations

import http.client
import json
from datetime import UTC, date, datetime
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError

from pilvi.services.apigateway.usage import allowed_in, daily, period_start

MOCK = {"type": "MOCK", "requestTemplates": {"application/json": '{"statusCode": 200}'}}


def failure(call, **params):
    with pytest.raises(ClientError) as raised:
        call(**params)
    return raised.value.response["Error"]["Code"], raised.value.response["ResponseMetadata"]["HTTPStatusCode"]


@pytest.fixture
def gateway(aws):
    return aws.client("apigateway")


@pytest.fixture
def api(gateway):
    """An API whose one method asks for a key, deployed to prod."""
    made = gateway.create_rest_api(name="keyed")
    at = {"restApiId": made["id"], "resourceId": made["rootResourceId"], "httpMethod": "GET"}
    gateway.put_method(**at, authorizationType="NONE", apiKeyRequired=True)
    gateway.put_integration(**at, **MOCK)
    gateway.put_method_response(**at, statusCode="200")
    gateway.put_integration_response(**at, statusCode="200", responseTemplates={"text/plain": "$context.identity.apiKeyId"})
    gateway.create_deployment(restApiId=made["id"], stageName="prod")
    return made["id"]


@pytest.fixture
def get(aws, api):
    """(status, body) of a request with a key."""

    def send(key=None):
        where = urlsplit(aws.endpoint)
        connection = http.client.HTTPConnection(where.hostname, where.port, timeout=30)
        try:
            connection.request("GET", f"/_aws/execute-api/{api}/prod/", headers={"X-Api-Key": key} if key else {})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    return send


@pytest.fixture
def planned(gateway, api):
    """A key in a plan for the API's stage."""

    def make(**settings):
        key = gateway.create_api_key(name="k", enabled=True)
        plan = gateway.create_usage_plan(name="p", apiStages=[{"apiId": api, "stage": "prod"}], **settings)
        gateway.create_usage_plan_key(usagePlanId=plan["id"], keyId=key["id"], keyType="API_KEY")
        return key, plan

    return make


# -- keys ---------------------------------------------------------------------------------------------------------------


def test_create_api_key_shows_its_value_once(gateway):
    made = gateway.create_api_key(name="dev", description="d", tags={"a": "b"})
    assert len(made["value"]) == 40
    assert made["enabled"] is False
    got = gateway.get_api_key(apiKey=made["id"])
    assert "value" not in got
    assert (got["name"], got["description"], got["tags"]) == ("dev", "d", {"a": "b"})
    assert gateway.get_api_key(apiKey=made["id"], includeValue=True)["value"] == made["value"]
    assert failure(gateway.create_api_key, value=made["value"]) == ("ConflictException", 409)
    assert failure(gateway.create_api_key, value="short") == ("BadRequestException", 400)
    assert failure(gateway.get_api_key, apiKey="none") == ("NotFoundException", 404)


def test_get_api_keys_pages_to_the_end(gateway):
    made = {gateway.create_api_key(name=f"team-{n}")["id"] for n in range(5)}
    gateway.create_api_key(name="other")
    pages = list(gateway.get_paginator("get_api_keys").paginate(nameQuery="team", PaginationConfig={"PageSize": 2}))
    assert len(pages) == 3
    assert {key["id"] for page in pages for key in page["items"]} == made
    assert all("value" in key for key in gateway.get_api_keys(includeValues=True)["items"])


def test_update_and_delete_api_key(gateway):
    id = gateway.create_api_key(name="k")["id"]
    changed = gateway.update_api_key(apiKey=id, patchOperations=[{"op": "replace", "path": "/enabled", "value": "true"}])
    assert changed["enabled"] is True
    gateway.delete_api_key(apiKey=id)
    assert failure(gateway.delete_api_key, apiKey=id) == ("NotFoundException", 404)


# -- plans --------------------------------------------------------------------------------------------------------------


def test_usage_plans_live_and_end(gateway, api, planned):
    key, plan = planned(throttle={"rateLimit": 5.5, "burstLimit": 10}, quota={"limit": 10, "period": "WEEK"})
    assert gateway.get_usage_plan(usagePlanId=plan["id"])["throttle"] == {"rateLimit": 5.5, "burstLimit": 10}
    assert [each["id"] for each in gateway.get_usage_plans(keyId=key["id"])["items"]] == [plan["id"]]
    assert gateway.get_usage_plans(keyId="none")["items"] == []
    assert gateway.get_usage_plan_key(usagePlanId=plan["id"], keyId=key["id"])["value"] == key["value"]
    (held,) = gateway.get_usage_plan_keys(usagePlanId=plan["id"])["items"]
    assert (held["id"], held["type"], held["name"]) == (key["id"], "API_KEY", "k")
    again = {"usagePlanId": plan["id"], "keyId": key["id"], "keyType": "API_KEY"}
    assert failure(gateway.create_usage_plan_key, **again) == ("ConflictException", 409)
    second = gateway.create_usage_plan(name="q", apiStages=[{"apiId": api, "stage": "prod"}])["id"]
    assert failure(gateway.create_usage_plan_key, **{**again, "usagePlanId": second}) == ("ConflictException", 409)
    changed = gateway.update_usage_plan(
        usagePlanId=plan["id"],
        patchOperations=[
            {"op": "replace", "path": "/quota/limit", "value": "20"},
            {"op": "remove", "path": "/throttle"},
            {"op": "remove", "path": "/apiStages", "value": f"{api}:prod"},
        ],
    )
    assert (changed["quota"]["limit"], changed["apiStages"]) == (20, [])
    assert "throttle" not in changed
    assert failure(gateway.delete_usage_plan, usagePlanId=second) == ("BadRequestException", 400)
    gateway.delete_usage_plan_key(usagePlanId=plan["id"], keyId=key["id"])
    assert failure(gateway.get_usage_plan_key, usagePlanId=plan["id"], keyId=key["id"]) == ("NotFoundException", 404)
    gateway.delete_usage_plan(usagePlanId=plan["id"])
    assert failure(gateway.get_usage_plan, usagePlanId=plan["id"]) == ("NotFoundException", 404)


def test_create_usage_plan_refuses(gateway):
    assert failure(gateway.create_usage_plan, name="x", apiStages=[{"apiId": "none", "stage": "prod"}])[0] == "NotFoundException"
    assert failure(gateway.create_usage_plan, name="x", quota={"limit": 1})[0] == "BadRequestException"
    assert failure(gateway.create_usage_plan, name="x", throttle={"rateLimit": -1})[0] == "BadRequestException"


# -- enforced -----------------------------------------------------------------------------------------------------------


def test_a_call_needs_a_key_with_a_plan(gateway, get, planned):
    key, plan = planned()
    loose = gateway.create_api_key(name="loose", enabled=True)
    for wrong in (None, "nobody's key at all", loose["value"]):
        assert get(wrong) == (403, '{"message":"Forbidden"}')
    assert get(key["value"]) == (200, key["id"])
    gateway.update_api_key(apiKey=key["id"], patchOperations=[{"op": "replace", "path": "/enabled", "value": "false"}])
    assert get(key["value"])[0] == 403
    gateway.update_api_key(apiKey=key["id"], patchOperations=[{"op": "replace", "path": "/enabled", "value": "true"}])
    assert get(key["value"])[0] == 200
    gateway.delete_usage_plan_key(usagePlanId=plan["id"], keyId=key["id"])
    assert get(key["value"])[0] == 403


def test_over_the_quota_it_is_429(gateway, get, planned):
    key, plan = planned(quota={"limit": 3, "period": "MONTH"})
    assert [get(key["value"])[0] for _ in range(3)] == [200, 200, 200]
    assert get(key["value"]) == (429, '{"message":"Limit Exceeded"}')
    today = datetime.now(UTC).date().isoformat()
    usage = gateway.get_usage(usagePlanId=plan["id"], startDate=today, endDate=today)
    assert usage["items"] == {key["id"]: [[3, 0]]}
    gateway.update_usage_plan(usagePlanId=plan["id"], patchOperations=[{"op": "replace", "path": "/quota/limit", "value": "4"}])
    assert [get(key["value"])[0] for _ in range(2)] == [200, 429]
    assert failure(gateway.get_usage, usagePlanId=plan["id"], startDate="x", endDate=today)[0] == "BadRequestException"


def test_over_the_rate_it_is_429(get, planned):
    key, _ = planned(throttle={"rateLimit": 0.001, "burstLimit": 2})
    assert [get(key["value"]) for _ in range(3)][1:] == [(200, key["id"]), (429, '{"message":"Too Many Requests"}')]


# -- periods ------------------------------------------------------------------------------------------------------------


def test_periods_begin_where_they_should():
    saturday = date(2026, 11, 21)
    assert period_start({"period": "DAY"}, saturday) == saturday
    assert period_start({"period": "WEEK"}, saturday) == date(2026, 11, 15)
    assert period_start({"period": "WEEK"}, date(2026, 11, 22)) == date(2026, 11, 22)
    assert period_start({"period": "MONTH"}, saturday) == date(2026, 11, 1)


def test_the_offset_counts_in_the_first_period_only():
    plan = {"quota": {"limit": 10, "offset": 4, "period": "DAY"}, "_since": "2026-11-20"}
    assert allowed_in(plan, date(2026, 11, 20)) == 6
    assert allowed_in(plan, date(2026, 11, 21)) == 10
    days = {"2026-11-20": 6, "2026-11-21": 1}
    assert daily(plan, days, date(2026, 11, 20), date(2026, 11, 22)) == [[6, 0], [1, 9], [0, 10]]
    assert json.dumps(daily({}, {}, date(2026, 1, 1), date(2026, 1, 1))) == "[[0, 0]]"
