"""MFA delete: versions go for good only with a code of the owner's device."""

from __future__ import annotations

import base64

import pytest

from pilvi.auth.totp import code_of, step_at
from tests.services.s3.conftest import refused


@pytest.fixture
def device(server, new_account):
    """A fresh account's root user with an MFA device: (account, what gives the header with a fresh code)."""
    account = new_account()
    iam = account.client("iam")
    made = iam.create_virtual_mfa_device(VirtualMFADeviceName="root-account-mfa-device")["VirtualMFADevice"]
    seed = base64.b32decode(made["Base32StringSeed"])

    def code(later: int) -> str:
        return code_of(seed, step_at(server.cloud.clock.real_s()) + later)

    serial = made["SerialNumber"]
    iam.enable_mfa_device(UserName="root", SerialNumber=serial, AuthenticationCode1=code(-2), AuthenticationCode2=code(-1))

    def header() -> str:
        iam.resync_mfa_device(UserName="root", SerialNumber=serial, AuthenticationCode1=code(-2), AuthenticationCode2=code(-1))
        return f"{serial} {code(0)}"

    return account, header


def test_mfa_delete_guards_versions_and_versioning(device):
    account, header = device
    s3 = account.client("s3")
    name = f"guarded-{account.account}"
    s3.create_bucket(Bucket=name)
    wanted = {"Status": "Enabled", "MFADelete": "Enabled"}
    error = refused(s3.put_bucket_versioning, Bucket=name, VersioningConfiguration=wanted)
    assert (error["Code"], error["Message"]) == ("AccessDenied", "Mfa Authentication must be used for this request")
    wrong = header()[:-6] + "000000"
    assert refused(s3.put_bucket_versioning, Bucket=name, VersioningConfiguration=wanted, MFA=wrong)["Code"] == "AccessDenied"
    used = header()
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration=wanted, MFA=used)
    found = s3.get_bucket_versioning(Bucket=name)
    assert (found["Status"], found["MFADelete"]) == ("Enabled", "Enabled")

    rule = {"ID": "r", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1}}
    both = {"Bucket": name, "LifecycleConfiguration": {"Rules": [rule]}}
    assert refused(s3.put_bucket_lifecycle_configuration, **both)["Code"] == "InvalidBucketState"

    version = s3.put_object(Bucket=name, Key="k", Body=b"x")["VersionId"]
    marker = s3.delete_object(Bucket=name, Key="k")["VersionId"]
    error = refused(s3.delete_object, Bucket=name, Key="k", VersionId=version)
    assert (error["Code"], error["Message"]) == ("AccessDenied", "Mfa Authentication must be used for this request")
    assert (
        refused(s3.delete_objects, Bucket=name, Delete={"Objects": [{"Key": "k", "VersionId": version}]})["Code"] == "AccessDenied"
    )
    assert refused(s3.put_bucket_versioning, Bucket=name, VersioningConfiguration={"Status": "Suspended"})["Code"] == "AccessDenied"
    assert refused(s3.delete_object, Bucket=name, Key="k", VersionId=version, MFA=used)["Code"] == "AccessDenied"
    both = {"Objects": [{"Key": "k", "VersionId": version}, {"Key": "k", "VersionId": marker}]}
    assert len(s3.delete_objects(Bucket=name, Delete=both, MFA=header())["Deleted"]) == 2


def test_codes_cannot_be_guessed_one_after_the_other(device):
    account, header = device
    s3 = account.client("s3")
    name = f"guessed-{account.account}"
    s3.create_bucket(Bucket=name)
    right = header()
    serial, shown = right.rsplit(" ", 1)

    def code(given: str) -> str:
        wanted = {"Status": "Enabled", "MFADelete": "Enabled"}
        return refused(s3.put_bucket_versioning, Bucket=name, VersioningConfiguration=wanted, MFA=given)["Code"]

    for guess in range(5):
        assert code(f"{serial} {(int(shown) + 1 + guess) % 10**6:06d}") == "AccessDenied"
    assert code(right) == "AccessDenied"


def test_mfa_delete_is_the_root_users(device):
    account, header = device
    name = f"roots-{account.account}"
    account.client("s3").create_bucket(Bucket=name)
    everything = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    user = account.user("admin", everything).client("s3")
    wanted = {"Status": "Enabled", "MFADelete": "Enabled"}
    assert refused(user.put_bucket_versioning, Bucket=name, VersioningConfiguration=wanted, MFA=header())["Code"] == "AccessDenied"
