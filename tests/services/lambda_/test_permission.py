from __future__ import annotations

import json

import pytest
from botocore.exceptions import ClientError

from pilvi.core.errors import PilviError
from pilvi.core.principal import Principal


def service(server, lab, name: str, source_arn: str):
    """A context of an AWS service acting for a resource of the lab's account."""
    principal = Principal("service", lab.account.account, "", name, name, source_arn=source_arn)
    return server.cloud.context(principal, "apigateway", region="us-east-1")


def test_add_permission_writes_the_policy_as_aws_does(lab):
    arn = lab.create("open")["FunctionArn"]
    source = f"arn:aws:execute-api:us-east-1:{lab.account.account}:abc/*/POST/predict"
    made = lab.client.add_permission(
        FunctionName="open",
        StatementId="api",
        Action="lambda:InvokeFunction",
        Principal="apigateway.amazonaws.com",
        SourceArn=source,
    )
    statement = {
        "Sid": "api",
        "Effect": "Allow",
        "Principal": {"Service": "apigateway.amazonaws.com"},
        "Action": "lambda:InvokeFunction",
        "Resource": arn,
        "Condition": {"ArnLike": {"AWS:SourceArn": source}},
    }
    assert json.loads(made["Statement"]) == statement
    found = lab.client.get_policy(FunctionName="open")
    assert json.loads(found["Policy"]) == {"Version": "2012-10-17", "Id": "default", "Statement": [statement]}
    with pytest.raises(ClientError) as error:
        lab.client.add_permission(FunctionName="open", StatementId="api", Action="lambda:InvokeFunction", Principal="*")
    assert error.value.response["Error"]["Code"] == "ResourceConflictException"
    assert "The statement id (api) provided already exists." in error.value.response["Error"]["Message"]
    with pytest.raises(ClientError) as error:
        lab.client.add_permission(
            FunctionName="open", StatementId="b", Action="lambda:InvokeFunction", Principal="*", RevisionId="stale"
        )
    assert error.value.response["Error"]["Code"] == "PreconditionFailedException"
    with pytest.raises(ClientError) as error:
        lab.client.add_permission(FunctionName="open", StatementId="b", Action="lambda:InvokeFunction", Principal="nonsense")
    assert (
        error.value.response["Error"]["Message"] == "The provided principal was invalid. Please check the principal and try again."
    )
    with pytest.raises(ClientError) as error:
        lab.client.add_permission(
            FunctionName="open", Qualifier="$LATEST", StatementId="b", Action="lambda:InvokeFunction", Principal="*"
        )
    assert error.value.response["Error"]["Message"] == "We currently do not support adding policies for $LATEST."


def test_add_permission_decides_who_may_invoke(server, lab):
    lab.create("guarded", "def handler(event, context): return 'in'")
    source = f"arn:aws:execute-api:us-east-1:{lab.account.account}:abc/prod/POST/predict"
    gateway = service(server, lab, "apigateway.amazonaws.com", source)
    with pytest.raises(PilviError, match="AccessDenied"):
        gateway.call("lambda", "Invoke", FunctionName="guarded", Payload=b"{}")
    lab.client.add_permission(
        FunctionName="guarded",
        StatementId="api",
        Action="lambda:InvokeFunction",
        Principal="apigateway.amazonaws.com",
        SourceArn=f"arn:aws:execute-api:us-east-1:{lab.account.account}:abc/*/POST/*",
    )
    assert gateway.call("lambda", "Invoke", FunctionName="guarded", Payload=b"{}")["Payload"] == b'"in"'
    with pytest.raises(PilviError, match="AccessDenied"):
        service(server, lab, "apigateway.amazonaws.com", source.replace("abc", "xyz")).call(
            "lambda", "Invoke", FunctionName="guarded"
        )
    with pytest.raises(PilviError, match="AccessDenied"):
        service(server, lab, "events.amazonaws.com", source).call("lambda", "Invoke", FunctionName="guarded")
    lab.client.remove_permission(FunctionName="guarded", StatementId="api")
    with pytest.raises(PilviError, match="AccessDenied"):
        gateway.call("lambda", "Invoke", FunctionName="guarded")


def test_add_permission_lets_another_account_in(lab, other_aws):
    arn = lab.create("shared", "def handler(event, context): return 'shared'", Publish=True)["FunctionArn"].removesuffix(":1")
    lab.client.create_alias(FunctionName="shared", Name="live", FunctionVersion="1")
    theirs = other_aws.client("lambda")
    with pytest.raises(ClientError) as error:
        theirs.invoke(FunctionName=arn)
    assert error.value.response["Error"]["Code"] == "AccessDeniedException"
    lab.client.add_permission(
        FunctionName="shared", Qualifier="live", StatementId="them", Action="lambda:InvokeFunction", Principal=other_aws.account
    )
    assert json.loads(theirs.invoke(FunctionName=f"{arn}:live")["Payload"].read()) == "shared"
    with pytest.raises(ClientError):
        theirs.invoke(FunctionName=arn)
    assert (
        json.loads(lab.client.get_policy(FunctionName="shared", Qualifier="live")["Policy"])["Statement"][0]["Resource"]
        == f"{arn}:live"
    )
    with pytest.raises(ClientError):
        lab.client.get_policy(FunctionName="shared")


def test_a_policy_may_name_one_function(lab):
    lab.create("mine")
    lab.create("not-mine")
    arn = f"arn:aws:lambda:us-east-1:{lab.account.account}:function:mine"
    policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": arn}]}
    user = lab.account.user("one-function", policy).client("lambda")
    assert user.invoke(FunctionName="mine")["Payload"].read() == b"{}"
    with pytest.raises(ClientError) as error:
        user.invoke(FunctionName="not-mine")
    assert "is not authorized to perform: lambda:InvokeFunction on resource" in error.value.response["Error"]["Message"]
    assert arn.replace("mine", "not-mine") in error.value.response["Error"]["Message"]


def test_remove_permission_of_what_is_missing(lab):
    lab.create("unshared")
    with pytest.raises(ClientError) as error:
        lab.client.remove_permission(FunctionName="unshared", StatementId="none")
    assert error.value.response["Error"]["Code"] == "ResourceNotFoundException"
    with pytest.raises(ClientError) as error:
        lab.client.get_policy(FunctionName="unshared")
    assert error.value.response["Error"]["Message"] == "The resource you requested does not exist."


def test_add_permission_stops_at_twenty_kilobytes(lab):
    lab.create("crowded")
    source = f"arn:aws:s3:::{'b' * 2000}"
    grant = {"FunctionName": "crowded", "Action": "lambda:InvokeFunction", "Principal": "s3.amazonaws.com", "SourceArn": source}
    for number in range(9):
        lab.client.add_permission(StatementId=f"s{number}", **grant)
    with pytest.raises(ClientError) as error:
        lab.client.add_permission(StatementId="last", **grant)
    assert error.value.response["Error"]["Code"] == "PolicyLengthExceededException"


def test_tag_resource_and_untag_resource(lab):
    arn = lab.create("tagged", Tags={"a": "1"})["FunctionArn"]
    lab.client.tag_resource(Resource=arn, Tags={"b": "2", "a": "3"})
    assert lab.client.list_tags(Resource=arn)["Tags"] == {"a": "3", "b": "2"}
    lab.client.untag_resource(Resource=arn, TagKeys=["a", "none"])
    assert lab.client.list_tags(Resource=arn)["Tags"] == {"b": "2"}
    with pytest.raises(ClientError) as error:
        lab.client.tag_resource(Resource=arn, Tags={f"k{number}": "" for number in range(50)})
    assert error.value.response["Error"]["Code"] == "InvalidParameterValueException"
    with pytest.raises(ClientError) as error:
        lab.client.list_tags(Resource=f"{arn}-missing")
    assert error.value.response["Error"]["Code"] == "ResourceNotFoundException"
