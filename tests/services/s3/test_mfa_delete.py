"""MFA delete: versions go for good only with a code of the owner's device."""

from __future__ import annotations

import base64

import pytest

from pilvi.auth.totp import code_of, step_at
from tests.services.s3.conftest import refused


@pytest.fixture
def device(server, new_account):
    """A fresh account's root user with an MFA device: (account, the header's value for the code `later` steps from now)."""
    account = new_account()
    iam = account.client("iam")
    made = iam.create_virtual_mfa_device(VirtualMFADeviceName="root-account-mfa-device")["VirtualMFADevice"]
    seed = base64.b32decode(made["Base32StringSeed"])

    def code(later: int) -> str:
        return code_of(seed, step_at(server.cloud.clock.real_s()) + later)

    iam.enable_mfa_device(
        UserName="root", SerialNumber=made["SerialNumber"], AuthenticationCode1=code(-3), AuthenticationCode2=code(-2)
    )
    # The device's clock now counts as two steps slow: what it shows next is what the server expects two steps earlier.
    return account, lambda later: f"{made['SerialNumber']} {code(later - 2)}"


def test_mfa_delete_guards_versions_and_versioning(device):
    account, header = device
    s3 = account.client("s3")
    name = f"guarded-{account.account}"
    s3.create_bucket(Bucket=name)
    wanted = {"Status": "Enabled", "MFADelete": "Enabled"}
    error = refused(s3.put_bucket_versioning, Bucket=name, VersioningConfiguration=wanted)
    assert (error["Code"], error["Message"]) == ("AccessDenied", "Mfa Authentication must be used for this request")
    wrong = header(0)[:-6] + "000000"
    assert refused(s3.put_bucket_versioning, Bucket=name, VersioningConfiguration=wanted, MFA=wrong)["Code"] == "AccessDenied"
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration=wanted, MFA=header(1))
    found = s3.get_bucket_versioning(Bucket=name)
    assert (found["Status"], found["MFADelete"]) == ("Enabled", "Enabled")

    version = s3.put_object(Bucket=name, Key="k", Body=b"x")["VersionId"]
    marker = s3.delete_object(Bucket=name, Key="k")["VersionId"]
    error = refused(s3.delete_object, Bucket=name, Key="k", VersionId=version)
    assert (error["Code"], error["Message"]) == ("AccessDenied", "Mfa Authentication must be used for this request")
    assert (
        refused(s3.delete_objects, Bucket=name, Delete={"Objects": [{"Key": "k", "VersionId": version}]})["Code"] == "AccessDenied"
    )
    assert refused(s3.put_bucket_versioning, Bucket=name, VersioningConfiguration={"Status": "Suspended"})["Code"] == "AccessDenied"
    assert refused(s3.delete_object, Bucket=name, Key="k", VersionId=version, MFA=header(1))["Code"] == "AccessDenied"  # used
    both = {"Objects": [{"Key": "k", "VersionId": version}, {"Key": "k", "VersionId": marker}]}
    assert len(s3.delete_objects(Bucket=name, Delete=both, MFA=header(2))["Deleted"]) == 2


def test_mfa_delete_is_the_root_users(device):
    account, header = device
    name = f"roots-{account.account}"
    account.client("s3").create_bucket(Bucket=name)
    everything = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    user = account.user("admin", everything).client("s3")
    wanted = {"Status": "Enabled", "MFADelete": "Enabled"}
    assert refused(user.put_bucket_versioning, Bucket=name, VersioningConfiguration=wanted, MFA=header(1))["Code"] == "AccessDenied"
