"""Access points: their life, their policies beside the bucket's, and reading and writing through ARN, alias and host name."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.httpsession import URLLib3Session

from pilvi.testing.server import Account

ALL_OFF = dict.fromkeys(("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), False)
ALL_ON = dict.fromkeys(ALL_OFF, True)
_numbers = itertools.count(1)

Reach = Callable[..., Any]


def refused(call: Any, **params: Any) -> tuple[str, int]:
    with pytest.raises(ClientError) as caught:
        call(**params)
    answer = caught.value.response
    return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]


@pytest.fixture
def bucket(aws: Account) -> str:
    name = f"points{next(_numbers)}-{aws.account}"
    aws.client("s3").create_bucket(Bucket=name)
    return name


@pytest.fixture
def control(aws: Account, reach: Reach) -> Any:
    return reach(aws, "s3control")


@pytest.fixture
def point(control: Any, aws: Account, bucket: str) -> dict[str, str]:
    """An access point called team; {"AccessPointArn", "Alias"}."""
    answer = control.create_access_point(AccountId=aws.account, Name="team", Bucket=bucket)
    return {name: answer[name] for name in ("AccessPointArn", "Alias")}


def policy(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **statement} for statement in statements]})


def delegation(bucket: str, account: str) -> str:
    """A bucket policy that leaves everything to the access points of an account."""
    return policy(
        {
            "Principal": {"AWS": "*"},
            "Action": "*",
            "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
            "Condition": {"StringEquals": {"s3:DataAccessPointAccount": account}},
        }
    )


# -- life -----------------------------------------------------------------------------------------------------------------


def test_create_access_point_and_get_it(control: Any, aws: Account, bucket: str, point: dict[str, str]) -> None:
    assert point["AccessPointArn"] == f"arn:aws:s3:us-east-1:{aws.account}:accesspoint/team"
    assert point["Alias"].startswith("team-")
    assert point["Alias"].endswith("-s3alias")
    found = control.get_access_point(AccountId=aws.account, Name="team")
    assert (found["Bucket"], found["NetworkOrigin"], found["Alias"]) == (bucket, "Internet", point["Alias"])
    assert found["PublicAccessBlockConfiguration"] == ALL_ON
    assert found["BucketAccountId"] == aws.account
    assert found["Endpoints"]["ipv4"] == "s3-accesspoint.us-east-1.amazonaws.com"
    control.delete_access_point(AccountId=aws.account, Name="team")
    assert refused(control.get_access_point, AccountId=aws.account, Name="team") == ("NoSuchAccessPoint", 404)
    assert refused(control.delete_access_point, AccountId=aws.account, Name="team") == ("NoSuchAccessPoint", 404)


def test_create_access_point_refuses(
    control: Any, aws: Account, bucket: str, point: dict[str, str], other_aws: Account, reach: Reach
) -> None:
    def create(**members: Any) -> tuple[str, int]:
        return refused(control.create_access_point, **{"AccountId": aws.account, "Name": "second", "Bucket": bucket, **members})

    assert create(Name="team") == ("AccessPointAlreadyOwnedByYou", 409)
    for name in ("Team", "-team", "a" * 51, "te_am", "team-s3alias"):
        assert create(Name=name) == ("InvalidAccessPoint", 400)
    assert create(Bucket="there-is-no-such-bucket") == ("NoSuchBucket", 404)
    assert create(Scope={"Prefixes": ["a/"]}) == ("NotImplemented", 501)
    assert create(AccountId=other_aws.account) == ("AccessDenied", 403)
    theirs = reach(other_aws, "s3control")
    assert refused(theirs.create_access_point, AccountId=other_aws.account, Name="x-y", Bucket=bucket) == ("AccessDenied", 403)
    elsewhere = reach(aws, "s3control", region_name="eu-west-1")
    assert refused(elsewhere.create_access_point, AccountId=aws.account, Name="abc", Bucket=bucket) == ("InvalidRequest", 400)


def test_list_access_points_in_pages(control: Any, aws: Account, bucket: str) -> None:
    other = f"{bucket}-other"
    aws.client("s3").create_bucket(Bucket=other)
    for number in range(5):
        control.create_access_point(AccountId=aws.account, Name=f"point{number}", Bucket=other if number == 4 else bucket)
    first = control.list_access_points(AccountId=aws.account, MaxResults=3)
    rest = control.list_access_points(AccountId=aws.account, MaxResults=3, NextToken=first["NextToken"])
    names = [entry["Name"] for page in (first, rest) for entry in page["AccessPointList"]]
    assert names == [f"point{number}" for number in range(5)]
    assert "NextToken" not in rest
    mine = control.list_access_points(AccountId=aws.account, Bucket=other)["AccessPointList"]
    assert [(entry["Name"], entry["Bucket"]) for entry in mine] == [("point4", other)]
    assert refused(control.list_access_points, AccountId=aws.account, NextToken="nonsense") == ("InvalidRequest", 400)
    assert refused(aws.client("s3").delete_bucket, Bucket=other) == ("BucketHasAccessPointsAttached", 400)


def test_access_point_policies(control: Any, aws: Account, point: dict[str, str]) -> None:
    arn, named = point["AccessPointArn"], {"AccountId": aws.account, "Name": "team"}
    assert refused(control.get_access_point_policy, **named) == ("NoSuchAccessPointPolicy", 404)
    assert refused(control.get_access_point_policy_status, **named) == ("NoSuchAccessPointPolicy", 404)
    text = policy({"Principal": {"AWS": aws.account}, "Action": "s3:GetObject", "Resource": f"{arn}/object/*"})
    control.put_access_point_policy(**named, Policy=text)
    assert control.get_access_point_policy(**named)["Policy"] == text
    assert control.get_access_point_policy_status(**named)["PolicyStatus"]["IsPublic"] is False
    public = policy({"Principal": "*", "Action": "s3:GetObject", "Resource": f"{arn}/object/*"})
    assert refused(control.put_access_point_policy, **named, Policy=public) == ("AccessDenied", 403)
    for wrong in ("{", policy({"Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::elsewhere/*"})):
        assert refused(control.put_access_point_policy, **named, Policy=wrong) == ("MalformedPolicy", 400)
    control.delete_access_point_policy(**named)
    control.delete_access_point_policy(**named)
    for call in (control.put_access_point_policy, control.get_access_point_policy, control.delete_access_point_policy):
        more = {"Policy": text} if call == control.put_access_point_policy else {}
        assert refused(call, AccountId=aws.account, Name="missing", **more) == ("NoSuchAccessPoint", 404)


# -- objects --------------------------------------------------------------------------------------------------------------


def test_objects_through_arn_and_alias(aws: Account, bucket: str, point: dict[str, str], reach: Reach) -> None:
    s3, direct = reach(aws, "s3"), aws.client("s3")
    arn, alias = point["AccessPointArn"], point["Alias"]
    s3.put_object(Bucket=arn, Key="a/1", Body=b"by arn")
    direct.put_object(Bucket=alias, Key="a/2", Body=b"by alias")
    assert direct.get_object(Bucket=bucket, Key="a/1")["Body"].read() == b"by arn"
    assert s3.get_object(Bucket=arn, Key="a/2")["Body"].read() == b"by alias"
    assert direct.get_object(Bucket=alias, Key="a/1", Range="bytes=3-5")["Body"].read() == b"arn"
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=arn, Prefix="a/")["Contents"]] == ["a/1", "a/2"]
    assert s3.head_object(Bucket=alias, Key="a/1")["ContentLength"] == 6
    s3.copy_object(Bucket=arn, Key="a/3", CopySource={"Bucket": arn, "Key": "a/1"})
    upload = direct.create_multipart_upload(Bucket=alias, Key="big")["UploadId"]
    etag = direct.upload_part(Bucket=alias, Key="big", UploadId=upload, PartNumber=1, Body=b"part")["ETag"]
    parts = {"Parts": [{"ETag": etag, "PartNumber": 1}]}
    direct.complete_multipart_upload(Bucket=alias, Key="big", UploadId=upload, MultipartUpload=parts)
    answer = direct.delete_objects(Bucket=alias, Delete={"Objects": [{"Key": key} for key in ("a/1", "a/2", "a/3")]})
    assert len(answer["Deleted"]) == 3
    s3.delete_object(Bucket=arn, Key="big")
    assert direct.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_what_is_no_business_of_access_points(aws: Account, point: dict[str, str], control: Any, reach: Reach) -> None:
    s3, direct = reach(aws, "s3"), aws.client("s3")
    assert refused(direct.get_bucket_versioning, Bucket=point["Alias"]) == ("MethodNotAllowed", 405)
    assert refused(direct.delete_bucket, Bucket=point["Alias"]) == ("MethodNotAllowed", 405)
    missing = point["AccessPointArn"].replace("team", "none")
    assert refused(s3.get_object, Bucket=missing, Key="k") == ("NoSuchAccessPoint", 404)
    control.delete_access_point(AccountId=aws.account, Name="team")
    assert refused(direct.get_object, Bucket=point["Alias"], Key="k") == ("NoSuchBucket", 404)


def test_each_team_has_its_own_prefix(aws: Account, bucket: str, control: Any, reach: Reach) -> None:
    direct = aws.client("s3")
    direct.put_bucket_policy(Bucket=bucket, Policy=delegation(bucket, aws.account))
    users, arns = {}, {}
    for team in ("alpha", "beta"):
        direct.put_object(Bucket=bucket, Key=f"{team}/k", Body=team.encode())
        users[team] = reach(aws.user(team), "s3")
        arn = arns[team] = control.create_access_point(AccountId=aws.account, Name=team, Bucket=bucket)["AccessPointArn"]
        me = {"AWS": f"arn:aws:iam::{aws.account}:user/{team}"}
        text = policy({"Principal": me, "Action": ["s3:GetObject", "s3:PutObject"], "Resource": f"{arn}/object/{team}/*"})
        control.put_access_point_policy(AccountId=aws.account, Name=team, Policy=text)
    for team, other in (("alpha", "beta"), ("beta", "alpha")):
        assert users[team].get_object(Bucket=arns[team], Key=f"{team}/k")["Body"].read() == team.encode()
        assert refused(users[team].get_object, Bucket=arns[team], Key=f"{other}/k") == ("AccessDenied", 403)
        assert refused(users[team].get_object, Bucket=arns[other], Key=f"{team}/k") == ("AccessDenied", 403)
        assert refused(users[team].get_object, Bucket=bucket, Key=f"{team}/k") == ("AccessDenied", 403)
    direct.delete_bucket_policy(Bucket=bucket)
    assert refused(users["alpha"].get_object, Bucket=arns["alpha"], Key="alpha/k") == ("AccessDenied", 403)


def test_an_access_point_of_another_account(aws: Account, bucket: str, other_aws: Account, reach: Reach) -> None:
    theirs, s3 = reach(other_aws, "s3control"), reach(other_aws, "s3")
    made = {"AccountId": other_aws.account, "Name": "guest", "Bucket": bucket}
    arn = theirs.create_access_point(**made, BucketAccountId=aws.account)["AccessPointArn"]
    aws.client("s3").put_object(Bucket=bucket, Key="k", Body=b"1")
    assert refused(s3.get_object, Bucket=arn, Key="k") == ("AccessDenied", 403)
    aws.client("s3").put_bucket_policy(Bucket=bucket, Policy=delegation(bucket, other_aws.account))
    assert s3.get_object(Bucket=arn, Key="k")["Body"].read() == b"1"
    assert refused(other_aws.client("s3").get_object, Bucket=bucket, Key="k") == ("AccessDenied", 403)


def test_the_command_line_copies_through_the_alias(aws: Account, bucket: str, point: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "up.txt").write_text("through the alias")
    aws_cli = [sys.executable, "-m", "awscli", "s3", "cp", "--no-progress"]
    env = {**os.environ, **aws.environ()}
    for source, target in (("up.txt", f"s3://{point['Alias']}/in/up.txt"), (f"s3://{point['Alias']}/in/up.txt", "down.txt")):
        subprocess.run([*aws_cli, source, target], cwd=tmp_path, env=env, check=True, capture_output=True)
    assert (tmp_path / "down.txt").read_text() == "through the alias"
    assert aws.client("s3").get_object(Bucket=bucket, Key="in/up.txt")["Body"].read() == b"through the alias"


def test_multi_region_access_points_are_absent(control: Any, aws: Account) -> None:
    details = {"Name": "everywhere", "Regions": [{"Bucket": "b-b-b"}]}
    assert refused(control.create_multi_region_access_point, AccountId=aws.account, ClientToken="t", Details=details) == (
        "NotImplemented",
        501,
    )


def test_a_public_point_and_its_blocks(aws: Account, bucket: str, control: Any) -> None:
    direct, named = aws.client("s3"), {"AccountId": aws.account, "Name": "everyone"}
    direct.put_object(Bucket=bucket, Key="k", Body=b"1")
    direct.put_bucket_policy(Bucket=bucket, Policy=delegation(bucket, aws.account))
    assert direct.get_bucket_policy_status(Bucket=bucket)["PolicyStatus"]["IsPublic"] is False
    made = control.create_access_point(**named, Bucket=bucket, PublicAccessBlockConfiguration=ALL_OFF)
    text = policy({"Principal": "*", "Action": "s3:GetObject", "Resource": f"{made['AccessPointArn']}/object/*"})
    assert refused(control.put_access_point_policy, **named, Policy=text) == ("AccessDenied", 403), "the bucket's block counts, too"
    direct.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=ALL_OFF)
    control.put_access_point_policy(**named, Policy=text)
    assert control.get_access_point_policy_status(**named)["PolicyStatus"]["IsPublic"] is True

    def status() -> int:
        return int(URLLib3Session().send(AWSRequest("GET", f"{aws.endpoint}/{made['Alias']}/k").prepare()).status_code)

    assert status() == 200
    restricted = {**ALL_OFF, "RestrictPublicBuckets": True}
    control.put_public_access_block(AccountId=aws.account, PublicAccessBlockConfiguration=restricted)
    assert status() == 403
    control.delete_public_access_block(AccountId=aws.account)
    assert status() == 200
    direct.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=restricted)
    assert status() == 403


def test_iam_may_allow_one_point_only(aws: Account, bucket: str, point: dict[str, str], control: Any, reach: Reach) -> None:
    direct, arn = aws.client("s3"), point["AccessPointArn"]
    direct.put_object(Bucket=bucket, Key="k", Body=b"1")
    resources = [arn, f"{arn}/object/*", f"arn:aws:s3:::{bucket}/*"]
    by_point = {"StringEquals": {"s3:DataAccessPointArn": arn, "s3:AccessPointNetworkOrigin": "Internet"}}
    statement = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": resources, "Condition": by_point}
    user = aws.user("only", {"Version": "2012-10-17", "Statement": [statement]})
    assert reach(user, "s3").get_object(Bucket=arn, Key="k")["Body"].read() == b"1"
    assert refused(user.client("s3").get_object, Bucket=bucket, Key="k") == ("AccessDenied", 403)
    other = control.create_access_point(AccountId=aws.account, Name="another", Bucket=bucket)["AccessPointArn"]
    assert refused(reach(user, "s3").get_object, Bucket=other, Key="k") == ("AccessDenied", 403)


def test_a_policy_may_want_a_version_of_tls(aws: Account, bucket: str, reach: Reach) -> None:
    direct = aws.client("s3")
    direct.put_object(Bucket=bucket, Key="k", Body=b"1")

    def deny(condition: dict[str, Any]) -> None:
        statement = {"Effect": "Deny", "Principal": "*", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{bucket}/*"}
        direct.put_bucket_policy(Bucket=bucket, Policy=policy({**statement, "Condition": condition}))

    secure = reach(aws, "s3")
    deny({"Null": {"s3:TlsVersion": "true"}})
    assert secure.get_object(Bucket=bucket, Key="k")["Body"].read() == b"1"
    assert refused(direct.get_object, Bucket=bucket, Key="k") == ("AccessDenied", 403)
    deny({"NumericLessThan": {"s3:TlsVersion": "1.2"}})
    secure.get_object(Bucket=bucket, Key="k")
    deny({"NumericGreaterThanEquals": {"s3:TlsVersion": "1.2"}})
    assert refused(secure.get_object, Bucket=bucket, Key="k") == ("AccessDenied", 403)


def test_points_of_directory_buckets_are_refused(aws: Account, control: Any) -> None:
    name = f"zonal-{aws.account}--use1-az4--x-s3"
    place = {"Location": {"Type": "AvailabilityZone", "Name": "use1-az4"}}
    kind = {"Bucket": {"DataRedundancy": "SingleAvailabilityZone", "Type": "Directory"}}
    aws.client("s3").create_bucket(Bucket=name, CreateBucketConfiguration=place | kind)
    assert refused(control.create_access_point, AccountId=aws.account, Name="zonal", Bucket=name) == ("NotImplemented", 501)


def test_old_signatures_do_not_reach_access_points(aws: Account, bucket: str, point: dict[str, str]) -> None:
    """Version 2 signs no host: what is signed for one bucket's object would fit a point's object of the whole path."""
    s3 = aws.client("s3")
    s3.put_object(Bucket=bucket, Key="shared-bucket/k", Body=b"secret")
    signer = aws.session.client(
        "s3", endpoint_url=aws.endpoint, config=Config(signature_version="s3", s3={"addressing_style": "path"})
    )
    url = signer.generate_presigned_url("get_object", Params={"Bucket": "shared-bucket", "Key": "k"})
    signer.close()
    host = f"team-{aws.account}.s3-accesspoint.us-east-1.amazonaws.com"
    answer = URLLib3Session().send(AWSRequest("GET", url, headers={"Host": host}).prepare())
    assert (answer.status_code, b"AWS4-HMAC-SHA256" in answer.content) == (400, True)


def test_points_of_others_do_not_keep_a_bucket(aws: Account, bucket: str, other_aws: Account, reach: Reach) -> None:
    foreign = reach(other_aws, "s3control")
    foreign.create_access_point(AccountId=other_aws.account, Name="parasite", Bucket=bucket, BucketAccountId=aws.account)
    aws.client("s3").delete_bucket(Bucket=bucket)
