"""Who may draw and deploy, by verb and path."""

from __future__ import annotations

import json

import pytest
from botocore.exceptions import ClientError

from pilvi.services.apigateway import service
from pilvi.services.apigateway.access import PATHS


def test_every_operation_has_a_row():
    operations = {"".join(part.capitalize() for part in name.split("_")) for name in service.handlers}
    assert operations == set(PATHS)


def test_verbs_and_paths_bound_a_user(aws):
    root, iam = aws.client("apigateway"), aws.client("iam")
    mine, other = (root.create_rest_api(name=name)["id"] for name in ("mine", "other"))
    iam.create_user(UserName="u")
    statement = [
        {"Effect": "Allow", "Action": ["apigateway:GET"], "Resource": "arn:aws:apigateway:us-east-1::/restapis/*"},
        {
            "Effect": "Allow",
            "Action": ["apigateway:POST"],
            "Resource": f"arn:aws:apigateway:us-east-1::/restapis/{mine}/resources/*",
        },
    ]
    iam.put_user_policy(UserName="u", PolicyName="p", PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": statement}))
    key = iam.create_access_key(UserName="u")["AccessKey"]
    gateway = aws.with_keys(key["AccessKeyId"], key["SecretAccessKey"]).client("apigateway")
    parents = {api: gateway.get_resources(restApiId=api)["items"][0]["id"] for api in (mine, other)}
    gateway.create_resource(restApiId=mine, parentId=parents[mine], pathPart="x")
    for call, params in (
        (gateway.create_resource, {"restApiId": other, "parentId": parents[other], "pathPart": "x"}),
        (gateway.delete_rest_api, {"restApiId": mine}),
        (gateway.create_rest_api, {"name": "new"}),
    ):
        with pytest.raises(ClientError) as raised:
            call(**params)
        assert raised.value.response["Error"]["Code"] == "AccessDeniedException"
        assert "is not authorized to perform: apigateway:" in raised.value.response["Error"]["Message"]
