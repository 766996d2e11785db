"""Access control lists and ownership: what lists say, whom they let in, whose an object is, with two real accounts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.awsrequest import AWSRequest
from botocore.httpsession import URLLib3Session

from pilvi.testing.server import Account
from tests.services.s3.conftest import refused

GROUPS = "http://acs.amazonaws.com/groups/"
EVERYBODY = f"{GROUPS}global/AllUsers"
OFF = dict.fromkeys(("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), False)


@pytest.fixture
def aws(new_account: Callable[[], Account]) -> Account:
    return new_account()


@pytest.fixture
def open_bucket(s3: Any, name: str) -> str:
    """A bucket where lists count and nothing is blocked."""
    s3.create_bucket(Bucket=name, ObjectOwnership="ObjectWriter")
    s3.put_public_access_block(Bucket=name, PublicAccessBlockConfiguration=OFF)
    return name


def id_of(account: Account) -> str:
    return str(account.client("s3").list_buckets()["Owner"]["ID"])


def fetch(account: Account, path: str, method: str = "GET", data: bytes = b"", **headers: str) -> Any:
    request = AWSRequest(
        method, f"{account.endpoint}{path}", data=data, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )
    return URLLib3Session().send(request.prepare())


def granted(answer: dict[str, Any]) -> set[tuple[str, str]]:
    return {(grant["Grantee"].get("ID") or grant["Grantee"]["URI"], grant["Permission"]) for grant in answer["Grants"]}


# -- what lists say -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("canned", "extra"),
    [
        ("private", set()),
        ("public-read", {(EVERYBODY, "READ")}),
        ("public-read-write", {(EVERYBODY, "READ"), (EVERYBODY, "WRITE")}),
        ("authenticated-read", {(f"{GROUPS}global/AuthenticatedUsers", "READ")}),
        ("log-delivery-write", {(f"{GROUPS}s3/LogDelivery", "WRITE"), (f"{GROUPS}s3/LogDelivery", "READ_ACP")}),
        ("bucket-owner-full-control", set()),
    ],
)
def test_put_bucket_acl_takes_canned_lists(s3: Any, aws: Account, open_bucket: str, canned: str, extra: set[Any]) -> None:
    s3.put_bucket_acl(Bucket=open_bucket, ACL=canned)
    answer = s3.get_bucket_acl(Bucket=open_bucket)
    assert answer["Owner"] == {"ID": id_of(aws)}
    assert granted(answer) == {(id_of(aws), "FULL_CONTROL")} | extra


def test_put_object_acl_takes_headers_and_documents(s3: Any, aws: Account, open_bucket: str, other_aws: Account) -> None:
    mine, theirs = id_of(aws), id_of(other_aws)
    s3.put_object(Bucket=open_bucket, Key="k", Body=b"1")
    s3.put_object_acl(Bucket=open_bucket, Key="k", GrantRead=f'id="{theirs}", uri="{EVERYBODY}"', GrantFullControl=f"id={mine}")
    assert granted(s3.get_object_acl(Bucket=open_bucket, Key="k")) == {
        (theirs, "READ"),
        (EVERYBODY, "READ"),
        (mine, "FULL_CONTROL"),
    }
    grants = [{"Grantee": {"Type": "CanonicalUser", "ID": theirs}, "Permission": "WRITE_ACP"}]
    s3.put_object_acl(Bucket=open_bucket, Key="k", AccessControlPolicy={"Owner": {"ID": mine}, "Grants": grants})
    assert granted(s3.get_object_acl(Bucket=open_bucket, Key="k")) == {(theirs, "WRITE_ACP")}
    s3.put_object(Bucket=open_bucket, Key="k", Body=b"2")
    assert granted(s3.get_object_acl(Bucket=open_bucket, Key="k")) == {(mine, "FULL_CONTROL")}


def test_put_acl_refuses_what_makes_no_sense(s3: Any, aws: Account, open_bucket: str) -> None:
    def code(**params: Any) -> tuple[str, int]:
        error = refused(s3.put_bucket_acl, Bucket=open_bucket, **params)
        return error["Code"], error["Status"]

    me = {"Owner": {"ID": id_of(aws)}}
    user = {"Type": "CanonicalUser", "ID": id_of(aws)}
    assert code() == ("MissingSecurityHeader", 400)
    assert code(ACL="public-read", GrantRead=f"uri={EVERYBODY}") == ("InvalidRequest", 400)
    assert code(ACL="secret") == ("InvalidArgument", 400)
    assert code(GrantRead="id=0123") == ("InvalidArgument", 400)
    assert code(GrantRead="uri=http://example.com/group") == ("InvalidArgument", 400)
    assert code(GrantRead="nonsense") == ("InvalidArgument", 400)
    assert code(GrantRead='emailAddress="a@example.com"') == ("MethodNotAllowed", 405)
    assert code(AccessControlPolicy={**me, "Grants": [{"Grantee": user, "Permission": "EVERYTHING"}]}) == ("MalformedACLError", 400)
    assert code(AccessControlPolicy={**me, "Grants": [{"Grantee": user, "Permission": "READ"}] * 101}) == ("MalformedACLError", 400)
    mail = {"Type": "AmazonCustomerByEmail", "EmailAddress": "a@example.com"}
    assert code(AccessControlPolicy={**me, "Grants": [{"Grantee": mail, "Permission": "READ"}]}) == ("MethodNotAllowed", 405)
    strange = {"Owner": {"ID": "0" * 64}, "Grants": []}
    assert code(AccessControlPolicy=strange) == ("AccessDenied", 403)
    assert code(AccessControlPolicy={**me, "Grants": []}, ACL="private") == ("UnexpectedContent", 400)
    error = refused(s3.put_object_acl, Bucket=open_bucket, Key="missing", ACL="private")
    assert (error["Code"], error["Status"]) == ("NoSuchKey", 404)
    assert granted(s3.get_bucket_acl(Bucket=open_bucket)) == {(id_of(aws), "FULL_CONTROL")}


def test_put_object_acl_of_a_version(s3: Any, aws: Account, open_bucket: str) -> None:
    s3.put_bucket_versioning(Bucket=open_bucket, VersioningConfiguration={"Status": "Enabled"})
    first = s3.put_object(Bucket=open_bucket, Key="k", Body=b"1")["VersionId"]
    second = s3.put_object(Bucket=open_bucket, Key="k", Body=b"2")["VersionId"]
    s3.put_object_acl(Bucket=open_bucket, Key="k", VersionId=first, ACL="public-read")
    assert fetch(aws, f"/{open_bucket}/k?versionId={first}").content == b"1"
    assert fetch(aws, f"/{open_bucket}/k").status_code == 403
    assert fetch(aws, f"/{open_bucket}/k?versionId={second}").status_code == 403


# -- whom they let in -----------------------------------------------------------------------------------------------------


def test_public_read_needs_ownership_and_an_open_block(s3: Any, aws: Account, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"1")
    assert refused(s3.put_object_acl, Bucket=bucket, Key="k", ACL="public-read")["Code"] == "AccessControlListNotSupported"
    s3.put_bucket_ownership_controls(Bucket=bucket, OwnershipControls={"Rules": [{"ObjectOwnership": "BucketOwnerPreferred"}]})
    error = refused(s3.put_object_acl, Bucket=bucket, Key="k", ACL="public-read")
    assert (error["Code"], error["Status"]) == ("AccessDenied", 403)
    assert "because public access control lists (ACLs) are prevented by the BlockPublicAcls setting" in error["Message"]
    for call in (s3.put_object, s3.create_multipart_upload):
        assert refused(call, Bucket=bucket, Key="n", ACL="public-read")["Code"] == "AccessDenied"
    assert refused(s3.put_bucket_acl, Bucket=bucket, ACL="authenticated-read")["Code"] == "AccessDenied"
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=OFF)
    s3.put_object_acl(Bucket=bucket, Key="k", ACL="public-read")
    assert fetch(aws, f"/{bucket}/k").content == b"1"
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration={**OFF, "IgnorePublicAcls": True})
    assert fetch(aws, f"/{bucket}/k").status_code == 403
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=OFF)
    assert fetch(aws, f"/{bucket}/k").status_code == 200
    s3.put_bucket_ownership_controls(Bucket=bucket, OwnershipControls={"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]})
    assert fetch(aws, f"/{bucket}/k").status_code == 403


def test_bucket_lists_let_strangers_list_and_write(s3: Any, aws: Account, open_bucket: str) -> None:
    assert fetch(aws, f"/{open_bucket}").status_code == 403
    s3.put_bucket_acl(Bucket=open_bucket, ACL="public-read-write")
    assert fetch(aws, f"/{open_bucket}").status_code == 200
    assert fetch(aws, f"/{open_bucket}/missing").status_code == 404
    assert fetch(aws, f"/{open_bucket}/new", "PUT", b"from nobody").status_code == 200
    assert fetch(aws, f"/{open_bucket}?acl").status_code == 403
    entry = s3.list_objects_v2(Bucket=open_bucket, FetchOwner=True)["Contents"][0]
    assert entry["Owner"] == {"ID": "65a011a29cdf8ec533ec3d1ccaae921c"}
    assert refused(s3.get_object, Bucket=open_bucket, Key="new")["Code"] == "AccessDenied"
    s3.delete_object(Bucket=open_bucket, Key="new")


def test_authenticated_read_wants_a_signature(s3: Any, aws: Account, open_bucket: str, other_aws: Account) -> None:
    s3.put_object(Bucket=open_bucket, Key="k", Body=b"1", ACL="authenticated-read")
    assert fetch(aws, f"/{open_bucket}/k").status_code == 403
    assert other_aws.client("s3").get_object(Bucket=open_bucket, Key="k")["Body"].read() == b"1"
    idle = other_aws.user("idle").client("s3")
    assert refused(idle.get_object, Bucket=open_bucket, Key="k")["Code"] == "AccessDenied"


def test_an_explicit_deny_outweighs_a_list(s3: Any, aws: Account, open_bucket: str) -> None:
    s3.put_object(Bucket=open_bucket, Key="k", Body=b"1", ACL="public-read")
    deny = (
        '{"Version":"2012-10-17","Statement":{"Effect":"Deny","Principal":"*","Action":"s3:GetObject",'
        f'"Resource":"arn:aws:s3:::{open_bucket}/*"}}}}'
    )
    s3.put_bucket_policy(Bucket=open_bucket, Policy=deny)
    assert fetch(aws, f"/{open_bucket}/k").status_code == 403


# -- whose an object is ---------------------------------------------------------------------------------------------------


@pytest.fixture
def shared(s3: Any, open_bucket: str, other_aws: Account) -> str:
    """A bucket that the other account may write into."""
    s3.put_bucket_acl(
        Bucket=open_bucket,
        GrantWrite=f"id={id_of(other_aws)}",
        GrantRead=f"id={id_of(other_aws)}",
    )
    return open_bucket


def test_an_object_belongs_to_its_writer(s3: Any, aws: Account, shared: str, other_aws: Account) -> None:
    writer = other_aws.client("s3")
    writer.put_object(Bucket=shared, Key="k", Body=b"theirs")
    assert writer.get_object_acl(Bucket=shared, Key="k")["Owner"]["ID"] == id_of(other_aws)
    assert refused(s3.get_object, Bucket=shared, Key="k")["Code"] == "AccessDenied"
    assert refused(s3.put_object_acl, Bucket=shared, Key="k", ACL="public-read")["Code"] == "AccessDenied"
    allow = (
        '{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":"*","Action":"s3:GetObject",'
        f'"Resource":"arn:aws:s3:::{shared}/*"}}}}'
    )
    s3.put_bucket_policy(Bucket=shared, Policy=allow)
    assert fetch(aws, f"/{shared}/k").status_code == 403, "a bucket policy does not speak for others' objects"
    owners = {entry["Key"]: entry["Owner"]["ID"] for entry in s3.list_objects(Bucket=shared)["Contents"]}
    assert owners == {"k": id_of(other_aws)}
    writer.put_object_acl(Bucket=shared, Key="k", ACL="bucket-owner-full-control")
    assert s3.get_object(Bucket=shared, Key="k")["Body"].read() == b"theirs"
    s3.put_bucket_acl(Bucket=shared, ACL="private")
    s3.put_bucket_ownership_controls(Bucket=shared, OwnershipControls={"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]})
    assert s3.get_object_acl(Bucket=shared, Key="k")["Owner"]["ID"] == id_of(aws)
    assert fetch(aws, f"/{shared}/k").status_code == 200


def test_bucket_owner_preferred_takes_what_is_handed_over(s3: Any, aws: Account, shared: str, other_aws: Account) -> None:
    s3.put_bucket_ownership_controls(Bucket=shared, OwnershipControls={"Rules": [{"ObjectOwnership": "BucketOwnerPreferred"}]})
    writer = other_aws.client("s3")
    writer.put_object(Bucket=shared, Key="kept", Body=b"1")
    writer.put_object(Bucket=shared, Key="given", Body=b"2", ACL="bucket-owner-full-control")
    assert refused(s3.get_object, Bucket=shared, Key="kept")["Code"] == "AccessDenied"
    assert s3.get_object(Bucket=shared, Key="given")["Body"].read() == b"2"
    assert s3.get_object_acl(Bucket=shared, Key="given")["Owner"]["ID"] == id_of(aws)
    assert refused(writer.get_object, Bucket=shared, Key="given")["Code"] == "AccessDenied"


def test_a_writer_may_delete_its_own_only_and_finish_its_uploads(s3: Any, shared: str, other_aws: Account) -> None:
    writer = other_aws.client("s3")
    s3.put_object(Bucket=shared, Key="ours", Body=b"1")
    writer.put_object(Bucket=shared, Key="theirs", Body=b"1")
    assert refused(writer.delete_object, Bucket=shared, Key="ours")["Code"] == "AccessDenied"
    answer = writer.delete_objects(Bucket=shared, Delete={"Objects": [{"Key": "ours"}, {"Key": "theirs"}]})
    assert [entry["Key"] for entry in answer["Deleted"]] == ["theirs"]
    upload = writer.create_multipart_upload(Bucket=shared, Key="big")["UploadId"]
    writer.upload_part(Bucket=shared, Key="big", UploadId=upload, PartNumber=1, Body=b"x")
    listed = writer.list_parts(Bucket=shared, Key="big", UploadId=upload)
    assert listed["Owner"]["ID"] == id_of(other_aws)
    etag = listed["Parts"][0]["ETag"]
    done = {"Parts": [{"ETag": etag, "PartNumber": 1}]}
    writer.complete_multipart_upload(Bucket=shared, Key="big", UploadId=upload, MultipartUpload=done)
    assert writer.get_object_acl(Bucket=shared, Key="big")["Owner"]["ID"] == id_of(other_aws)


# -- ownership controls ---------------------------------------------------------------------------------------------------


def test_ownership_controls_are_put_got_and_deleted(s3: Any, bucket: str) -> None:
    rules = {"Rules": [{"ObjectOwnership": "ObjectWriter"}]}
    s3.put_bucket_ownership_controls(Bucket=bucket, OwnershipControls=rules)
    assert s3.get_bucket_ownership_controls(Bucket=bucket)["OwnershipControls"] == rules
    s3.delete_bucket_ownership_controls(Bucket=bucket)
    error = refused(s3.get_bucket_ownership_controls, Bucket=bucket)
    assert (error["Code"], error["Status"]) == ("OwnershipControlsNotFoundError", 404)
    s3.put_object(Bucket=bucket, Key="k", Body=b"1", ACL="aws-exec-read")
    for wrong in ({"Rules": [{"ObjectOwnership": "Nobody"}]}, {"Rules": []}):
        assert refused(s3.put_bucket_ownership_controls, Bucket=bucket, OwnershipControls=wrong)["Code"] == "MalformedXML"


def test_enforcing_ownership_wants_a_private_list(s3: Any, open_bucket: str) -> None:
    s3.put_bucket_acl(Bucket=open_bucket, ACL="public-read")
    enforced = {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
    error = refused(s3.put_bucket_ownership_controls, Bucket=open_bucket, OwnershipControls=enforced)
    assert (error["Code"], error["Status"]) == ("InvalidBucketAclWithObjectOwnership", 400)


def test_create_bucket_with_lists(s3: Any, name: str, other_aws: Account) -> None:
    error = refused(s3.create_bucket, Bucket=name, ACL="public-read", ObjectOwnership="ObjectWriter")
    assert (error["Code"], error["Status"]) == ("InvalidBucketAclWithBlockPublicAccessError", 400)
    assert (
        refused(s3.create_bucket, Bucket=name, GrantRead=f"id={id_of(other_aws)}")["Code"] == "InvalidBucketAclWithObjectOwnership"
    )
    s3.create_bucket(Bucket=name, ObjectOwnership="BucketOwnerPreferred", GrantRead=f"id={id_of(other_aws)}")
    assert other_aws.client("s3").list_objects_v2(Bucket=name)["KeyCount"] == 0


def test_lists_that_are_off_accept_what_holds_anyway(s3: Any, aws: Account, bucket: str) -> None:
    for acl in ("private", "bucket-owner-full-control"):
        s3.put_object(Bucket=bucket, Key="k", Body=b"1", ACL=acl)
    s3.put_object(Bucket=bucket, Key="k", Body=b"1", GrantFullControl=f"id={id_of(aws)}")
    for more in ({"ACL": "public-read"}, {"GrantRead": f"uri={EVERYBODY}"}):
        assert refused(s3.put_object, Bucket=bucket, Key="k", **more)["Code"] == "AccessControlListNotSupported"
    assert refused(s3.put_object, Bucket=bucket, Key="k", ACL="nonsense")["Code"] == "InvalidArgument"
