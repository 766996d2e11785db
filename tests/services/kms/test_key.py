"""Keys: made in every kind, found by every name, switched off, deleted by the clock."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from pilvi.services.kms import spec as kinds
from pilvi.testing.server import Account, TestServer

Earn = Callable[..., tuple[str, str]]
Days = Callable[[float], None]


@pytest.mark.parametrize(("spec", "usage"), [(spec, usage) for spec, usages in kinds.USAGES.items() for usage in usages])
def test_create_key_makes_every_kind(aws: Account, spec: str, usage: str) -> None:
    kms = aws.client("kms")
    key = kms.create_key(KeySpec=spec, KeyUsage=usage)["KeyMetadata"]
    assert (key["KeySpec"], key["KeyUsage"], key["KeyState"], key["Enabled"]) == (spec, usage, "Enabled", True)
    assert (key["KeyManager"], key["Origin"], key["MultiRegion"]) == ("CUSTOMER", "AWS_KMS", False)
    assert key["Arn"] == f"arn:aws:kms:us-east-1:{aws.account}:key/{key['KeyId']}"
    assert kinds.algorithms(spec, usage).items() <= key.items()
    assert ("CustomerMasterKeySpec" in key) is (spec in kinds.OLDER_SPECS)
    assert kms.describe_key(KeyId=key["Arn"])["KeyMetadata"] == key


def test_create_key_refuses_what_does_not_go_together(aws: Account, error_of: Earn) -> None:
    kms = aws.client("kms")
    code, message = error_of(kms.create_key, KeySpec="RSA_2048")
    assert code == "ValidationException"
    assert message == "You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys."
    code, message = error_of(kms.create_key, KeySpec="HMAC_256", KeyUsage="SIGN_VERIFY")
    assert (code, message) == ("ValidationException", "KeyUsage SIGN_VERIFY is not compatible with KeySpec HMAC_256")
    assert error_of(kms.create_key, KeySpec="RSA_2048", CustomerMasterKeySpec="RSA_2048")[0] == "ValidationException"
    assert error_of(kms.create_key, KeySpec="SM2", KeyUsage="SIGN_VERIFY")[0] == "UnsupportedOperationException"
    assert error_of(kms.create_key, KeySpec="NONE")[0] == "ValidationException"
    assert error_of(kms.create_key, Tags=[{"TagKey": "a", "TagValue": "1"}] * 2)[0] == "TagException"
    assert error_of(kms.create_key, Tags=[{"TagKey": "aws:a", "TagValue": "1"}])[0] == "TagException"
    assert kms.list_keys()["Keys"] == []


def test_describe_key_refuses_what_names_no_key(aws: Account, other_aws: Account, error_of: Earn) -> None:
    kms = aws.client("kms")
    no_key = "11111111-2222-3333-4444-555555555555"
    arn = f"arn:aws:kms:us-east-1:{aws.account}:key/{no_key}"
    for text in (no_key, arn):
        assert error_of(kms.describe_key, KeyId=text) == ("NotFoundException", f"Key '{arn}' does not exist")
    for text in ("fake", "mrk-fake", no_key.replace("-", "")):
        assert error_of(kms.describe_key, KeyId=text) == ("NotFoundException", f"Invalid keyId '{text}'")
    alias = f"arn:aws:kms:us-east-1:{aws.account}:alias/none"
    assert error_of(kms.describe_key, KeyId="alias/none") == ("NotFoundException", f"Alias {alias} is not found.")
    assert error_of(kms.describe_key, KeyId=f"arn:aws:s3:::{no_key}")[0] == "InvalidArnException"
    there = other_aws.client("kms").create_key()["KeyMetadata"]["Arn"]
    nowhere = there[:-1] + ("0" if there[-1] != "0" else "1")
    denied = [error_of(kms.describe_key, KeyId=text) for text in (there, nowhere)]
    assert [code for code, _ in denied] == ["AccessDeniedException"] * 2
    assert denied[0][1].replace(there, "") == denied[1][1].replace(nowhere, "")


def test_keys_are_bound_to_their_region(aws: Account, error_of: Earn) -> None:
    kms, far = aws.client("kms"), aws.client("kms", region="eu-west-1")
    key = kms.create_key()["KeyMetadata"]
    blob = kms.encrypt(KeyId=key["KeyId"], Plaintext=b"x")["CiphertextBlob"]
    assert error_of(far.describe_key, KeyId=key["Arn"]) == ("NotFoundException", "Invalid arn us-east-1")
    assert error_of(far.describe_key, KeyId=key["KeyId"])[0] == "NotFoundException"
    assert error_of(far.decrypt, CiphertextBlob=blob, KeyId=key["KeyId"])[0] == "NotFoundException"
    assert error_of(far.decrypt, CiphertextBlob=blob)[0] == "AccessDeniedException"


def test_list_keys_pages_to_the_end(aws: Account, error_of: Earn) -> None:
    kms = aws.client("kms")
    made = {kms.create_key()["KeyMetadata"]["KeyId"] for _ in range(5)}
    first = kms.list_keys(Limit=2)
    assert first["Truncated"] is True
    assert error_of(kms.list_keys, Marker="nonsense")[0] == "InvalidMarkerException"
    pages = list(kms.get_paginator("list_keys").paginate(PaginationConfig={"PageSize": 2}))
    assert {key["KeyId"] for page in pages for key in page["Keys"]} == made
    assert len(pages) == 3


def test_update_key_description_and_tags(aws: Account, error_of: Earn) -> None:
    kms = aws.client("kms")
    key = kms.create_key(Tags=[{"TagKey": "team", "TagValue": "ml"}])["KeyMetadata"]["KeyId"]
    kms.update_key_description(KeyId=key, Description="new")
    assert kms.describe_key(KeyId=key)["KeyMetadata"]["Description"] == "new"
    kms.tag_resource(KeyId=key, Tags=[{"TagKey": "cost", "TagValue": "7"}, {"TagKey": "team", "TagValue": "data"}])
    tags = {tag["TagKey"]: tag["TagValue"] for tag in kms.list_resource_tags(KeyId=key)["Tags"]}
    assert tags == {"team": "data", "cost": "7"}
    assert kms.list_resource_tags(KeyId=key, Limit=1)["Truncated"] is True
    kms.untag_resource(KeyId=key, TagKeys=["team", "none"])
    assert [tag["TagKey"] for tag in kms.list_resource_tags(KeyId=key)["Tags"]] == ["cost"]
    many = [{"TagKey": f"t{number}", "TagValue": ""} for number in range(50)]
    assert error_of(kms.tag_resource, KeyId=key, Tags=many)[0] == "LimitExceededException"


def test_a_scheduled_key_is_pending_and_then_gone(later_aws: Account, timed: TestServer, days_pass: Days, error_of: Earn) -> None:
    kms = later_aws.client("kms")
    key = kms.create_key(Tags=[{"TagKey": "a", "TagValue": "1"}])["KeyMetadata"]
    kms.create_alias(AliasName="alias/doomed", TargetKeyId=key["KeyId"])
    grantee = later_aws.role("worker", "lambda.amazonaws.com")
    kms.create_grant(KeyId=key["KeyId"], GranteePrincipal=grantee, Operations=["Decrypt"])
    blob = kms.encrypt(KeyId=key["KeyId"], Plaintext=b"x")["CiphertextBlob"]
    assert error_of(kms.schedule_key_deletion, KeyId=key["KeyId"], PendingWindowInDays=6)[0] == "ValidationException"
    assert error_of(kms.schedule_key_deletion, KeyId=key["KeyId"], PendingWindowInDays=31)[0] == "ValidationException"
    answer = kms.schedule_key_deletion(KeyId=key["KeyId"], PendingWindowInDays=7)
    assert (answer["KeyId"], answer["KeyState"], answer["PendingWindowInDays"]) == (key["Arn"], "PendingDeletion", 7)
    seen = kms.describe_key(KeyId="alias/doomed")["KeyMetadata"]
    assert (seen["KeyState"], seen["Enabled"], seen["DeletionDate"]) == ("PendingDeletion", False, answer["DeletionDate"])
    pending = ("KMSInvalidStateException", f"{key['Arn']} is pending deletion.")
    assert error_of(kms.decrypt, CiphertextBlob=blob) == pending
    assert error_of(kms.enable_key, KeyId=key["KeyId"]) == pending
    assert error_of(kms.schedule_key_deletion, KeyId=key["KeyId"]) == pending
    assert error_of(kms.create_alias, AliasName="alias/more", TargetKeyId=key["KeyId"]) == pending
    days_pass(6.9)
    assert kms.describe_key(KeyId=key["KeyId"])["KeyMetadata"]["KeyState"] == "PendingDeletion"
    days_pass(0.2)
    assert error_of(kms.describe_key, KeyId=key["KeyId"])[0] == "NotFoundException"
    assert error_of(kms.cancel_key_deletion, KeyId=key["KeyId"])[0] == "NotFoundException"
    assert error_of(kms.describe_key, KeyId="alias/doomed")[0] == "NotFoundException"
    assert error_of(kms.decrypt, CiphertextBlob=blob)[0] == "AccessDeniedException"
    assert kms.list_keys()["Keys"] == []
    left = [table for table in timed.cloud.store.tables(service="kms") if table.account == later_aws.account]
    assert left == []


def test_cancel_key_deletion_keeps_it_disabled(aws: Account, error_of: Earn) -> None:
    kms = aws.client("kms")
    key = kms.create_key()["KeyMetadata"]
    assert error_of(kms.cancel_key_deletion, KeyId=key["KeyId"])[0] == "KMSInvalidStateException"
    blob = kms.encrypt(KeyId=key["KeyId"], Plaintext=b"x")["CiphertextBlob"]
    before = kms.schedule_key_deletion(KeyId=key["KeyId"])["DeletionDate"]
    assert timedelta(days=29) < before - key["CreationDate"] < timedelta(days=31)
    assert kms.cancel_key_deletion(KeyId=key["KeyId"])["KeyId"] == key["Arn"]
    assert kms.describe_key(KeyId=key["KeyId"])["KeyMetadata"]["KeyState"] == "Disabled"
    kms.enable_key(KeyId=key["KeyId"])
    assert kms.decrypt(CiphertextBlob=blob)["Plaintext"] == b"x"


def test_aws_s3_exists_and_nobody_can_edit_it(aws: Account, error_of: Earn) -> None:
    kms = aws.client("kms")
    listed = {alias["AliasName"]: alias for alias in kms.list_aliases(Limit=100)["Aliases"]}
    assert "TargetKeyId" not in listed["alias/aws/s3"]
    key = kms.describe_key(KeyId="alias/aws/s3")["KeyMetadata"]
    assert (key["KeyManager"], key["KeyState"]) == ("AWS", "Enabled")
    assert key["Description"] == "Default key that protects my S3 objects when no other key is defined"
    listed = {alias["AliasName"]: alias for alias in kms.list_aliases(Limit=100)["Aliases"]}
    assert listed["alias/aws/s3"]["TargetKeyId"] == key["KeyId"]
    assert kms.describe_key(KeyId="alias/aws/s3")["KeyMetadata"] == key
    assert kms.get_key_rotation_status(KeyId=key["KeyId"])["KeyRotationEnabled"] is True
    for call, more in (
        (kms.disable_key, {}),
        (kms.schedule_key_deletion, {}),
        (kms.put_key_policy, {"Policy": "{}"}),
        (kms.update_key_description, {"Description": "mine"}),
        (kms.disable_key_rotation, {}),
        (kms.encrypt, {"Plaintext": b"x"}),
    ):
        assert error_of(call, KeyId=key["KeyId"], **more)[0] == "AccessDeniedException"
    assert error_of(kms.delete_alias, AliasName="alias/aws/s3")[0] == "NotAuthorizedException"


def test_get_key_last_usage(aws: Account) -> None:
    kms = aws.client("kms")
    key = kms.create_key()["KeyMetadata"]
    before = kms.get_key_last_usage(KeyId=key["KeyId"])
    assert "KeyLastUsage" not in before
    assert before["KeyCreationDate"] == key["CreationDate"]
    kms.encrypt(KeyId=key["KeyId"], Plaintext=b"x")
    assert kms.get_key_last_usage(KeyId=key["KeyId"])["KeyLastUsage"]["Operation"] == "Encrypt"


def test_use_is_on_the_bill(later_aws: Account, timed: TestServer, days_pass: Days) -> None:
    kms = later_aws.client("kms")
    key = kms.create_key()["KeyMetadata"]
    for _ in range(10):
        kms.encrypt(KeyId=key["KeyId"], Plaintext=b"x")
    days_pass(365 / 12)
    from pilvi.metering.rating import charges_between, units_of, usd_of

    now = timed.cloud.clock.now()
    charges = list(charges_between(timed.cloud.store, later_aws.account, now - timedelta(days=60), now + timedelta(days=1)))
    months = [charge for charge in charges if charge.line.meter.usage == "KMS-Keys"]
    requests = [charge for charge in charges if charge.line.meter.usage == "KMS-Requests"]
    assert 0.99 < float(usd_of(months)) < 1.01
    assert float(units_of(requests)) == 10
    assert float(usd_of(requests)) == pytest.approx(0.00003)
    kms.schedule_key_deletion(KeyId=key["KeyId"], PendingWindowInDays=7)
    days_pass(3)
    again = charges_between(timed.cloud.store, later_aws.account, now - timedelta(days=60), now + timedelta(days=9))
    assert float(usd_of(charge for charge in again if charge.line.meter.usage == "KMS-Keys")) < 1.01
