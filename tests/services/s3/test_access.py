"""Who may: identity policies, bucket policies, block public access, anonymous and foreign callers, presigned URLs."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import botocore.auth
import botocore.crt.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.httpsession import URLLib3Session

from pilvi.testing.server import Account
from tests.services.s3.conftest import refused


@pytest.fixture
def aws(new_account: Callable[[], Account]) -> Account:
    """A fresh account for every test."""
    return new_account()


def statement(bucket: str, principal: Any, *actions: str, effect: str = "Allow", path: str = "/*", **more: Any) -> dict[str, Any]:
    resources = [f"arn:aws:s3:::{bucket}{path}"] if path else [f"arn:aws:s3:::{bucket}"]
    return {"Effect": effect, "Principal": principal, "Action": list(actions), "Resource": resources, **more}


def policy(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def identity(*actions: str, resource: str = "*", **more: Any) -> dict[str, Any]:
    return {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": list(actions), "Resource": resource, **more}],
    }


def fetch(url: str, method: str = "GET", data: bytes = b"", headers: dict[str, str] | None = None) -> Any:
    return URLLib3Session().send(AWSRequest(method, url, data=data, headers=headers or {}).prepare())


# -- identity policies ----------------------------------------------------------------------------------------------------


def test_a_user_may_do_what_his_policies_say(aws: Account, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="in/k", Body=b"1")
    nobody = aws.user("nobody").client("s3")
    error = refused(nobody.get_object, Bucket=bucket, Key="in/k")
    assert (error["Code"], error["Status"]) == ("AccessDenied", 403)
    assert "s3:GetObject" in error["Message"]
    assert f"arn:aws:s3:::{bucket}/in/k" in error["Message"]
    assert refused(nobody.list_buckets)["Code"] == "AccessDenied"
    reader = aws.user("reader", identity("s3:GetObject", resource=f"arn:aws:s3:::{bucket}/in/*")).client("s3")
    assert reader.get_object(Bucket=bucket, Key="in/k")["Body"].read() == b"1"
    assert refused(reader.put_object, Bucket=bucket, Key="in/k")["Code"] == "AccessDenied"
    assert refused(reader.get_object, Bucket=bucket, Key="out/k")["Code"] == "AccessDenied"


def test_a_missing_key_is_denied_to_who_may_not_list(aws: Account, bucket: str) -> None:
    reads = identity("s3:GetObject")
    assert refused(aws.user("r", reads).client("s3").get_object, Bucket=bucket, Key="k")["Code"] == "AccessDenied"
    assert refused(aws.user("h", reads).client("s3").head_object, Bucket=bucket, Key="k")["Status"] == 403
    lister = aws.user("l", reads, identity("s3:ListBucket")).client("s3")
    assert refused(lister.get_object, Bucket=bucket, Key="k")["Code"] == "NoSuchKey"


def test_listing_one_folder_only(aws: Account, bucket: str) -> None:
    mine = identity("s3:ListBucket", resource=f"arn:aws:s3:::{bucket}", Condition={"StringLike": {"s3:prefix": ["home/me/*"]}})
    user = aws.user("me", mine).client("s3")
    user.list_objects_v2(Bucket=bucket, Prefix="home/me/")
    assert refused(user.list_objects_v2, Bucket=bucket, Prefix="home/")["Code"] == "AccessDenied"
    assert refused(user.list_objects_v2, Bucket=bucket)["Code"] == "AccessDenied"


def test_delete_objects_permits_key_by_key(aws: Account, s3: Any, bucket: str) -> None:
    for key in ("mine/1", "theirs/1"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"1")
    user = aws.user("u", identity("s3:DeleteObject", resource=f"arn:aws:s3:::{bucket}/mine/*")).client("s3")
    answer = user.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "mine/1"}, {"Key": "theirs/1"}]})
    assert [entry["Key"] for entry in answer["Deleted"]] == ["mine/1"]
    assert [(entry["Key"], entry["Code"]) for entry in answer["Errors"]] == [("theirs/1", "AccessDenied")]
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 1


def test_versions_have_actions_of_their_own(aws: Account, s3: Any, versioned: str) -> None:
    version = s3.put_object(Bucket=versioned, Key="k", Body=b"1")["VersionId"]
    user = aws.user("u", identity("s3:GetObject", "s3:DeleteObject", "s3:ListBucket")).client("s3")
    user.get_object(Bucket=versioned, Key="k")
    assert refused(user.get_object, Bucket=versioned, Key="k", VersionId=version)["Code"] == "AccessDenied"
    assert refused(user.delete_object, Bucket=versioned, Key="k", VersionId=version)["Code"] == "AccessDenied"
    assert refused(user.list_object_versions, Bucket=versioned)["Code"] == "AccessDenied"
    user.delete_object(Bucket=versioned, Key="k")


# -- bucket policies ------------------------------------------------------------------------------------------------------


def test_bucket_policy_lets_another_account_in(aws: Account, s3: Any, bucket: str, other_aws: Account) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"1")
    foreign = other_aws.client("s3")
    assert refused(foreign.get_object, Bucket=bucket, Key="k")["Code"] == "AccessDenied"
    text = policy(statement(bucket, {"AWS": f"arn:aws:iam::{other_aws.account}:root"}, "s3:GetObject"))
    s3.put_bucket_policy(Bucket=bucket, Policy=text)
    assert foreign.get_object(Bucket=bucket, Key="k")["Body"].read() == b"1"
    assert refused(foreign.get_object, Bucket=bucket, Key="missing")["Code"] == "AccessDenied"
    assert refused(foreign.put_object, Bucket=bucket, Key="k")["Code"] == "AccessDenied"
    assert refused(foreign.get_bucket_policy, Bucket=bucket)["Code"] in ("AccessDenied", "MethodNotAllowed")
    assert s3.get_bucket_policy(Bucket=bucket)["Policy"] == text
    assert s3.get_bucket_policy_status(Bucket=bucket)["PolicyStatus"]["IsPublic"] is False
    s3.delete_bucket_policy(Bucket=bucket)
    assert refused(foreign.get_object, Bucket=bucket, Key="k")["Code"] == "AccessDenied"
    error = refused(s3.get_bucket_policy, Bucket=bucket)
    assert (error["Code"], error["Status"]) == ("NoSuchBucketPolicy", 404)
    assert refused(s3.get_bucket_policy_status, Bucket=bucket)["Code"] == "NoSuchBucketPolicy"


def test_bucket_policy_denies_even_the_owner(s3: Any, aws: Account, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"1")
    everyone = {"AWS": "*"}
    s3.put_bucket_policy(Bucket=bucket, Policy=policy(statement(bucket, everyone, "s3:GetObject", effect="Deny")))
    assert refused(s3.get_object, Bucket=bucket, Key="k")["Code"] == "AccessDenied"
    s3.delete_bucket_policy(Bucket=bucket)
    s3.get_object(Bucket=bucket, Key="k")


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "[]",
        "{}",
        '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::BUCKET/*"}]}',
        '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::other/*"}]}',
        '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "ec2:RunInstances", "Resource": "arn:aws:s3:::BUCKET/*"}]}',
        '{"Version": "2012-10-17", "Statement": [{"Effect": "Perhaps", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::BUCKET/*"}]}',
    ],
)
def test_put_bucket_policy_refuses_malformed_ones(s3: Any, bucket: str, text: str) -> None:
    error = refused(s3.put_bucket_policy, Bucket=bucket, Policy=text.replace("BUCKET", bucket))
    assert (error["Code"], error["Status"]) == ("MalformedPolicy", 400)


# -- the public -----------------------------------------------------------------------------------------------------------


def test_public_access_is_blocked_until_it_is_opened(aws: Account, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"1")
    url = f"{aws.endpoint}/{bucket}/k"
    text = policy(statement(bucket, "*", "s3:GetObject"))
    switches = s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
    assert set(switches.values()) == {True}
    error = refused(s3.put_bucket_policy, Bucket=bucket, Policy=text)
    assert (error["Code"], "BlockPublicPolicy" in error["Message"]) == ("AccessDenied", True)
    assert fetch(url).status_code == 403
    s3.delete_public_access_block(Bucket=bucket)
    assert refused(s3.get_public_access_block, Bucket=bucket)["Code"] == "NoSuchPublicAccessBlockConfiguration"
    s3.put_bucket_policy(Bucket=bucket, Policy=text)
    assert s3.get_bucket_policy_status(Bucket=bucket)["PolicyStatus"]["IsPublic"] is True
    answer = fetch(url)
    assert (answer.status_code, answer.content) == (200, b"1")
    assert fetch(f"{url}?response-content-type=a/b").status_code == 400
    assert fetch(f"{aws.endpoint}/{bucket}").status_code == 403
    assert fetch(url, "PUT", b"2").status_code == 403
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration={"RestrictPublicBuckets": True})
    assert fetch(url).status_code == 403
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"1"


def test_a_restricted_public_policy_still_serves_the_own_account(aws: Account, s3: Any, bucket: str, other_aws: Account) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"1")
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration={})
    s3.put_bucket_policy(Bucket=bucket, Policy=policy(statement(bucket, "*", "s3:GetObject")))
    other_aws.client("s3").get_object(Bucket=bucket, Key="k")
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration={"RestrictPublicBuckets": True})
    assert refused(other_aws.client("s3").get_object, Bucket=bucket, Key="k")["Code"] == "AccessDenied"
    aws.user("own").client("s3").get_object(Bucket=bucket, Key="k")


# -- settings that answer what holds --------------------------------------------------------------------------------------


def test_ownership_and_acls(s3: Any, aws: Account, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"1")
    rules = s3.get_bucket_ownership_controls(Bucket=bucket)["OwnershipControls"]["Rules"]
    assert rules == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    s3.put_bucket_ownership_controls(Bucket=bucket, OwnershipControls={"Rules": rules})
    for answer in (s3.get_bucket_acl(Bucket=bucket), s3.get_object_acl(Bucket=bucket, Key="k")):
        assert [(grant["Grantee"]["ID"], grant["Permission"]) for grant in answer["Grants"]] == [
            (answer["Owner"]["ID"], "FULL_CONTROL")
        ]
    assert refused(s3.get_object_acl, Bucket=bucket, Key="x")["Code"] == "NoSuchKey"
    for call, more in ((s3.put_bucket_acl, {}), (s3.put_object_acl, {"Key": "k"})):
        assert refused(call, Bucket=bucket, ACL="public-read", **more)["Code"] == "AccessControlListNotSupported"


def test_get_bucket_encryption_says_sse_s3(s3: Any, bucket: str) -> None:
    rules = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rules == [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}, "BucketKeyEnabled": False}]


def test_what_is_not_built_says_so(s3: Any, bucket: str) -> None:
    error = refused(s3.get_bucket_metadata_configuration, Bucket=bucket)
    assert (error["Code"], error["Status"]) == ("NotImplemented", 501)


# -- presigned ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("signature", ["s3", "s3v4"])
def test_presigned_urls(aws: Account, s3: Any, bucket: str, signature: str) -> None:
    client = aws.client("s3", config=Config(signature_version=signature))
    put = client.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "a b/ü"}, ExpiresIn=60)
    assert fetch(put, "PUT", b"hello").status_code == 200
    get = client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "a b/ü"}, ExpiresIn=60)
    answer = fetch(get)
    assert (answer.status_code, answer.content) == (200, b"hello")
    assert fetch(get, headers={"Range": "bytes=1-2"}).content == b"el"
    assert fetch(get.replace("%C3%BC", "u")).status_code == 403
    assert fetch(get, "DELETE").status_code == 403
    large = b"x" * 3_000_000
    assert fetch(put, "PUT", large).status_code == 200
    assert fetch(get).content == large


@pytest.mark.parametrize("signature", ["s3", "s3v4"])
def test_presigned_urls_expire(aws: Account, bucket: str, signature: str, monkeypatch: pytest.MonkeyPatch) -> None:
    client = aws.client("s3", config=Config(signature_version=signature))
    past = datetime.now(UTC) - timedelta(hours=1)
    monkeypatch.setattr(botocore.auth.time, "time", past.timestamp)
    for module in (botocore.auth, botocore.crt.auth):
        monkeypatch.setattr(module, "get_current_datetime", lambda *_, **__: past.replace(tzinfo=None))
    url = client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "k"}, ExpiresIn=60)
    monkeypatch.undo()
    answer = fetch(url)
    assert (answer.status_code, b"Request has expired" in answer.content) == (403, True)


def test_presigned_overrides(aws: Account, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"1")
    params = {"Bucket": bucket, "Key": "k", "ResponseContentDisposition": 'attachment; filename="x y.txt"'}
    answer = fetch(s3.generate_presigned_url("get_object", Params=params))
    assert answer.headers["content-disposition"] == 'attachment; filename="x y.txt"'


def test_roles_read_under_their_own_policies(aws: Account, server: Any, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="in/k", Body=b"1")
    role = aws.role("job", "lambda.amazonaws.com", identity("s3:GetObject", resource=f"arn:aws:s3:::{bucket}/in/*"))
    ctx = server.cloud.context(server.cloud.identities.root(aws.account), "lambda")
    inside = ctx.as_service("lambda.amazonaws.com").as_role(role, "run")
    assert inside.call("s3", "GetObject", Bucket=bucket, Key="in/k")["Body"].read_now() == b"1"
    with pytest.raises(Exception, match="AccessDenied"):
        inside.call("s3", "PutObject", Bucket=bucket, Key="in/k", Body=b"2")


def test_a_slow_upload_does_not_reach_the_bucket_that_somebody_else_made_meanwhile(aws, s3, name, server, new_account):
    s3.create_bucket(Bucket=name)
    url = s3.generate_presigned_url("put_object", Params={"Bucket": name, "Key": "k"})
    connection = http.client.HTTPConnection(server.endpoint.partition("://")[2], timeout=30)
    connection.putrequest("PUT", url.removeprefix(aws.endpoint))
    connection.putheader("Content-Length", "200000")
    connection.putheader("Expect", "100-continue")
    connection.endheaders()
    assert connection.sock.recv(100).startswith(b"HTTP/1.1 100")  # permitted, and waiting for the bytes
    s3.delete_bucket(Bucket=name)
    other = new_account().client("s3")
    other.create_bucket(Bucket=name)
    connection.send(b"x" * 200_000)
    answer = connection.getresponse()
    assert (answer.status, b"<Code>NoSuchBucket" in answer.read()) == (404, True)
    connection.close()
    assert other.list_objects_v2(Bucket=name)["KeyCount"] == 0
