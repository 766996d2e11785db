"""Bucket policies: what is refused, what their conditions look at, what counts as public, both levels of the public access block."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.httpsession import URLLib3Session

from pilvi.testing.server import Account
from tests.services.s3.conftest import refused

OFF = dict.fromkeys(("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), False)


@pytest.fixture
def aws(new_account: Callable[[], Account]) -> Account:
    return new_account()


@pytest.fixture
def open_bucket(s3: Any, bucket: str) -> str:
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=OFF)
    s3.put_object(Bucket=bucket, Key="k", Body=b"1")
    return bucket


def document(bucket: str, **members: Any) -> str:
    """A policy of one statement: everybody may get every object, but for what `members` say."""
    statement = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{bucket}/*", **members}
    return json.dumps({"Version": "2012-10-17", "Statement": [{k: v for k, v in statement.items() if v is not None}]})


def fetch(account: Account, path: str, **headers: str) -> Any:
    request = AWSRequest("GET", f"{account.endpoint}{path}", headers={k.replace("_", "-"): v for k, v in headers.items()})
    return URLLib3Session().send(request.prepare())


# -- what is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"Action": "s3:Fly"}, "Policy has invalid action"),
        ({"Action": "ec2:RunInstances"}, "Policy has invalid action"),
        ({"Action": None}, "Missing required field Action"),
        ({"Resource": None}, "Missing required field Resource"),
        ({"Principal": None}, "Missing required field Principal"),
        ({"Effect": None}, "Missing required field Effect"),
        ({"Effect": "Perhaps"}, "Invalid policy syntax."),
        ({"Principal": {"AWS": "nobody"}}, "Invalid principal in policy"),
        ({"Principal": "arn:aws:iam::123456789012:root"}, "Invalid principal in policy"),
        ({"Resource": "arn:aws:s3:::another-bucket/*"}, "Policy has invalid resource"),
        ({"Resource": "BUCKET"}, "Policy has invalid resource"),
        ({"Action": "s3:ListBucket"}, "Action does not apply to any resource(s) in statement"),
        ({"Resource": "arn:aws:s3:::BUCKET"}, "Action does not apply to any resource(s) in statement"),
        ({"Action": "s3:ListAllMyBuckets"}, "Action does not apply to any resource(s) in statement"),
        ({"Condition": {"StringEquals": {"s3:weather": "fine"}}}, "Policy has an invalid condition key"),
        ({"Condition": {"StringEquals": {"aws:weather": "fine"}}}, "Policy has an invalid condition key"),
        (
            {"Condition": {"StringEquals": {"s3:prefix": "a/"}}},
            "Conditions do not apply to combination of actions and resources in statement",
        ),
        ({"Condition": {"StringSounds": {"aws:username": "a"}}}, "Invalid policy syntax."),
        ({"Condition": {"IpAddress": {"aws:SourceIp": "anywhere"}}}, "Invalid Condition value"),
        ({"Surprise": "a"}, "Invalid policy syntax."),
    ],
)
def test_put_bucket_policy_says_what_is_wrong(s3: Any, open_bucket: str, members: dict[str, Any], message: str) -> None:
    text = document(open_bucket, **members).replace("BUCKET", open_bucket)
    error = refused(s3.put_bucket_policy, Bucket=open_bucket, Policy=text)
    assert (error["Code"], error["Status"], error["Message"]) == ("MalformedPolicy", 400, message)
    assert refused(s3.get_bucket_policy, Bucket=open_bucket)["Code"] == "NoSuchBucketPolicy"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Policies must be valid JSON and the first byte must be '{'"),
        ("{", "Policies must be valid JSON and the first byte must be '{'"),
        ("[]", "Policies must be valid JSON and the first byte must be '{'"),
        ("{}", "Missing required field Statement"),
        ('{"Version":"2020-01-01","Statement":[]}', "Invalid policy syntax."),
        ('{"Version":"2012-10-17","Statement":[]}', "Invalid policy syntax."),
        (
            json.dumps({"Version": "2012-10-17", "Id": "x" * 21_000, "Statement": []}),
            "Policy exceeds the maximum allowed document size.",
        ),
    ],
)
def test_put_bucket_policy_refuses_what_is_no_policy(s3: Any, bucket: str, text: str, message: str) -> None:
    error = refused(s3.put_bucket_policy, Bucket=bucket, Policy=text)
    if text:
        assert (error["Code"], error["Message"]) == ("MalformedPolicy", message)
    else:
        assert error["Status"] == 400


def test_statement_ids_are_unique(s3: Any, open_bucket: str) -> None:
    statement = json.loads(document(open_bucket, Sid="a"))["Statement"][0]
    text = json.dumps({"Version": "2012-10-17", "Statement": [statement, statement]})
    error = refused(s3.put_bucket_policy, Bucket=open_bucket, Policy=text)
    assert error["Message"] == "Statement IDs (SID) in a single policy must be unique."


# -- conditions -----------------------------------------------------------------------------------------------------------


def test_only_the_listed_network_reads(s3: Any, aws: Account, open_bucket: str) -> None:
    s3.put_bucket_policy(
        Bucket=open_bucket, Policy=document(open_bucket, Condition={"IpAddress": {"aws:SourceIp": "203.0.113.0/24"}})
    )
    assert fetch(aws, f"/{open_bucket}/k").status_code == 403
    s3.put_bucket_policy(
        Bucket=open_bucket, Policy=document(open_bucket, Condition={"IpAddress": {"aws:SourceIp": "127.0.0.0/24"}})
    )
    assert fetch(aws, f"/{open_bucket}/k").content == b"1"


def test_only_objects_with_a_tag_are_read(s3: Any, aws: Account, open_bucket: str) -> None:
    s3.put_object(Bucket=open_bucket, Key="ml", Body=b"2", Tagging="project=ml")
    tagged = {"StringEquals": {"s3:ExistingObjectTag/project": "ml"}}
    s3.put_bucket_policy(Bucket=open_bucket, Policy=document(open_bucket, Condition=tagged))
    assert fetch(aws, f"/{open_bucket}/ml").content == b"2"
    assert fetch(aws, f"/{open_bucket}/k").status_code == 403
    s3.put_object_tagging(Bucket=open_bucket, Key="k", Tagging={"TagSet": [{"Key": "project", "Value": "ml"}]})
    assert fetch(aws, f"/{open_bucket}/k").status_code == 200


def test_uploads_must_carry_an_acl_or_a_tag(s3: Any, bucket: str, other_aws: Account) -> None:
    them = {"AWS": f"arn:aws:iam::{other_aws.account}:root"}
    given = {"StringEquals": {"s3:x-amz-acl": "bucket-owner-full-control"}}
    actions = ["s3:PutObject", "s3:PutObjectAcl"]
    s3.put_bucket_policy(Bucket=bucket, Policy=document(bucket, Principal=them, Action=actions, Condition=given))
    writer = other_aws.client("s3")
    assert refused(writer.put_object, Bucket=bucket, Key="k", Body=b"1")["Code"] == "AccessDenied"
    writer.put_object(Bucket=bucket, Key="k", Body=b"1", ACL="bucket-owner-full-control")


@pytest.mark.parametrize(
    ("condition", "header", "query"),
    [
        ({"StringEquals": {"s3:authType": "REST-QUERY-STRING"}}, False, True),
        ({"StringEquals": {"s3:authType": "REST-HEADER"}}, True, False),
        ({"StringEquals": {"s3:signatureversion": "AWS4-HMAC-SHA256"}}, True, True),
        ({"StringEquals": {"s3:signatureversion": "AWS"}}, False, False),
        ({"NumericGreaterThan": {"s3:signatureAge": "600000"}}, False, False),
        ({"NumericLessThan": {"s3:signatureAge": 600000}}, True, True),
        ({"StringEquals": {"s3:x-amz-content-sha256": "UNSIGNED-PAYLOAD"}}, False, False),
        ({"Null": {"s3:TlsVersion": "true"}}, True, True),
        ({"NumericLessThan": {"s3:TlsVersion": "1.2"}}, False, False),
    ],
)
def test_conditions_on_the_signature(
    s3: Any, open_bucket: str, other_aws: Account, condition: dict[str, Any], header: bool, query: bool
) -> None:
    them = {"AWS": f"arn:aws:iam::{other_aws.account}:root"}
    s3.put_bucket_policy(Bucket=open_bucket, Policy=document(open_bucket, Principal=them, Condition=condition))
    reader = other_aws.client("s3")
    presigner = other_aws.session.client("s3", endpoint_url=other_aws.endpoint, config=Config(signature_version="s3v4"))
    url = presigner.generate_presigned_url("get_object", Params={"Bucket": open_bucket, "Key": "k"})
    if header:
        reader.get_object(Bucket=open_bucket, Key="k")
    else:
        assert refused(reader.get_object, Bucket=open_bucket, Key="k")["Code"] == "AccessDenied"
    assert (URLLib3Session().send(AWSRequest("GET", url).prepare()).status_code == 200) is query


# -- what is public -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "is_public"),
    [
        ({}, True),
        ({"Principal": {"AWS": "*"}}, True),
        ({"Principal": {"AWS": "arn:aws:iam::123456789012:root"}}, False),
        ({"Principal": None, "NotPrincipal": {"AWS": "arn:aws:iam::123456789012:root"}}, True),
        ({"Effect": "Deny"}, False),
        ({"Condition": {"IpAddress": {"aws:SourceIp": "203.0.113.0/24"}}}, False),
        ({"Condition": {"IpAddress": {"aws:SourceIp": "0.0.0.0/0"}}}, True),
        ({"Condition": {"StringEquals": {"aws:SourceVpc": "vpc-91237329"}}}, False),
        ({"Condition": {"StringLike": {"aws:SourceVpc": "vpc-*"}}}, True),
        ({"Condition": {"StringEquals": {"aws:PrincipalOrgID": "o-abc"}}}, False),
        ({"Condition": {"ForAnyValue:StringEquals": {"aws:PrincipalOrgID": "o-abc"}}}, False),
        ({"Condition": {"ForAllValues:StringEquals": {"aws:PrincipalOrgID": "o-abc"}}}, True),
        ({"Condition": {"StringEquals": {"s3:DataAccessPointAccount": "123456789012"}}}, False),
        ({"Condition": {"Bool": {"aws:SecureTransport": "true"}}}, True),
    ],
)
def test_policy_status_follows_the_meaning_of_public(s3: Any, open_bucket: str, members: dict[str, Any], is_public: bool) -> None:
    s3.put_bucket_policy(Bucket=open_bucket, Policy=document(open_bucket, **members))
    assert s3.get_bucket_policy_status(Bucket=open_bucket)["PolicyStatus"]["IsPublic"] is is_public
    s3.put_public_access_block(Bucket=open_bucket, PublicAccessBlockConfiguration={**OFF, "BlockPublicPolicy": True})
    if is_public:
        error = refused(s3.put_bucket_policy, Bucket=open_bucket, Policy=document(open_bucket, **members))
        assert error["Code"] == "AccessDenied"
        assert (
            "because public policies are prevented by the BlockPublicPolicy setting in S3 Block Public Access." in error["Message"]
        )
    else:
        s3.put_bucket_policy(Bucket=open_bucket, Policy=document(open_bucket, **members))


# -- denials --------------------------------------------------------------------------------------------------------------


def test_denials_name_the_policy_that_stood_in_the_way(s3: Any, aws: Account, open_bucket: str, other_aws: Account) -> None:
    user = aws.user("nobody").client("s3")
    error = refused(user.get_object, Bucket=open_bucket, Key="k")
    assert error["Message"] == (
        f"User: arn:aws:iam::{aws.account}:user/nobody is not authorized to perform: s3:GetObject on resource: "
        f'"arn:aws:s3:::{open_bucket}/k" because no identity-based policy allows the s3:GetObject action'
    )
    s3.put_bucket_policy(Bucket=open_bucket, Policy=document(open_bucket, Effect="Deny"))
    message = refused(s3.get_object, Bucket=open_bucket, Key="k")["Message"]
    assert message.endswith("with an explicit deny in a resource-based policy")
    assert refused(other_aws.client("s3").get_object, Bucket=open_bucket, Key="k")["Message"] == "Access Denied"
    assert b"<Message>Access Denied</Message>" in fetch(aws, f"/{open_bucket}/k").content


# -- principals and copies ------------------------------------------------------------------------------------------------


def test_a_policy_may_name_a_canonical_user(s3: Any, open_bucket: str, other_aws: Account) -> None:
    theirs = other_aws.client("s3")
    them = {"CanonicalUser": theirs.list_buckets()["Owner"]["ID"]}
    s3.put_bucket_policy(Bucket=open_bucket, Policy=document(open_bucket, Principal=them))
    assert theirs.get_object(Bucket=open_bucket, Key="k")["Body"].read() == b"1"
    assert refused(other_aws.user("idle").client("s3").get_object, Bucket=open_bucket, Key="k")["Code"] == "AccessDenied"


def test_copies_from_one_place_only(s3: Any, bucket: str, open_bucket: str, aws: Account) -> None:
    s3.put_object(Bucket=open_bucket, Key="good/k", Body=b"1")
    allowed = {"StringNotLike": {"s3:x-amz-copy-source": f"{open_bucket}/good/*"}}
    s3.put_bucket_policy(Bucket=open_bucket, Policy=document(open_bucket, Effect="Deny", Action="s3:PutObject", Condition=allowed))
    s3.copy_object(Bucket=open_bucket, Key="copy", CopySource={"Bucket": open_bucket, "Key": "good/k"})
    error = refused(s3.copy_object, Bucket=open_bucket, Key="copy", CopySource={"Bucket": open_bucket, "Key": "k"})
    assert error["Code"] == "AccessDenied"


def test_a_user_allowed_by_iam_is_denied_by_the_bucket(s3: Any, aws: Account, open_bucket: str) -> None:
    allow = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
    user = aws.user("ada", allow).client("s3")
    user.get_object(Bucket=open_bucket, Key="k")
    me = {"AWS": f"arn:aws:iam::{aws.account}:user/ada"}
    s3.put_bucket_policy(Bucket=open_bucket, Policy=document(open_bucket, Effect="Deny", Principal=me))
    error = refused(user.get_object, Bucket=open_bucket, Key="k")
    assert (error["Code"], error["Status"]) == ("AccessDenied", 403)
    assert error["Message"].endswith("with an explicit deny in a resource-based policy")


def test_a_restricted_bucket_keeps_its_denials(s3: Any, aws: Account, other_aws: Account, open_bucket: str) -> None:
    them = {"AWS": f"arn:aws:iam::{other_aws.account}:root"}
    public = json.loads(document(open_bucket))["Statement"][0]
    named = json.loads(document(open_bucket, Principal=them))["Statement"][0]
    s3.put_bucket_policy(Bucket=open_bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [public, named]}))
    assert other_aws.client("s3").get_object(Bucket=open_bucket, Key="k")["Body"].read() == b"1"
    s3.put_public_access_block(Bucket=open_bucket, PublicAccessBlockConfiguration={**OFF, "RestrictPublicBuckets": True})
    assert refused(other_aws.client("s3").get_object, Bucket=open_bucket, Key="k")["Code"] == "AccessDenied"
    assert fetch(aws, f"/{open_bucket}/k").status_code == 403
    s3.get_object(Bucket=open_bucket, Key="k")
