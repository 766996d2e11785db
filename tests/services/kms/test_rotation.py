"""Rotation by the clock and on demand: new material seals, old material still opens."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise

from pilvi.testing.server import Account

Earn = Callable[..., tuple[str, str]]
Days = Callable[[float], None]


def test_a_key_rotates_every_year_and_old_data_opens(later_aws: Account, days_pass: Days) -> None:
    kms = later_aws.client("kms")
    key = kms.create_key()["KeyMetadata"]
    assert kms.get_key_rotation_status(KeyId=key["KeyId"])["KeyRotationEnabled"] is False
    old = kms.encrypt(KeyId=key["KeyId"], Plaintext=b"old", EncryptionContext={"a": "1"})["CiphertextBlob"]
    kms.enable_key_rotation(KeyId=key["KeyId"])
    status = kms.get_key_rotation_status(KeyId=key["KeyId"])
    assert (status["KeyRotationEnabled"], status["RotationPeriodInDays"]) == (True, 365)
    assert abs(status["NextRotationDate"] - key["CreationDate"] - timedelta(days=365)) < timedelta(minutes=1)
    days_pass(364)
    assert kms.list_key_rotations(KeyId=key["KeyId"])["Rotations"] == []
    days_pass(2)
    (rotation,) = kms.list_key_rotations(KeyId=key["KeyId"])["Rotations"]
    assert (rotation["RotationType"], rotation["RotationDate"]) == ("AUTOMATIC", status["NextRotationDate"])
    now = kms.describe_key(KeyId=key["KeyId"])["KeyMetadata"]
    assert now["CurrentKeyMaterialId"] == rotation["KeyMaterialId"] != key["CurrentKeyMaterialId"]
    opened = kms.decrypt(CiphertextBlob=old, EncryptionContext={"a": "1"})
    assert (opened["Plaintext"], opened["KeyMaterialId"]) == (b"old", key["CurrentKeyMaterialId"])
    new = kms.decrypt(CiphertextBlob=kms.encrypt(KeyId=key["KeyId"], Plaintext=b"new")["CiphertextBlob"])
    assert (new["Plaintext"], new["KeyMaterialId"]) == (b"new", rotation["KeyMaterialId"])
    days_pass(2 * 365)
    rotations = kms.list_key_rotations(KeyId=key["KeyId"])["Rotations"]
    between = [after["RotationDate"] - before["RotationDate"] for before, after in pairwise(rotations)]
    assert between == [timedelta(days=365)] * 2
    assert kms.decrypt(CiphertextBlob=old, EncryptionContext={"a": "1"})["Plaintext"] == b"old"
    moved = kms.re_encrypt(CiphertextBlob=old, SourceEncryptionContext={"a": "1"}, DestinationKeyId=key["KeyId"])
    assert moved["SourceKeyMaterialId"] != moved["DestinationKeyMaterialId"] == rotations[-1]["KeyMaterialId"]


def test_a_period_of_ones_own(later_aws: Account, days_pass: Days) -> None:
    kms = later_aws.client("kms")
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    kms.enable_key_rotation(KeyId=key, RotationPeriodInDays=90)
    days_pass(181)
    assert len(kms.list_key_rotations(KeyId=key)["Rotations"]) == 2
    kms.disable_key_rotation(KeyId=key)
    assert kms.get_key_rotation_status(KeyId=key)["KeyRotationEnabled"] is False
    days_pass(100)
    assert len(kms.list_key_rotations(KeyId=key)["Rotations"]) == 2
    everything = kms.list_key_rotations(KeyId=key, IncludeKeyMaterial="ALL_KEY_MATERIAL")["Rotations"]
    assert [entry["KeyMaterialState"] for entry in everything] == ["NON_CURRENT", "NON_CURRENT", "CURRENT"]


def test_a_disabled_key_rotates_when_it_is_enabled_again(later_aws: Account, days_pass: Days) -> None:
    kms = later_aws.client("kms")
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    kms.enable_key_rotation(KeyId=key, RotationPeriodInDays=90)
    kms.disable_key(KeyId=key)
    days_pass(300)
    assert kms.list_key_rotations(KeyId=key)["Rotations"] == []
    kms.enable_key(KeyId=key)
    days_pass(0.1)
    assert len(kms.list_key_rotations(KeyId=key)["Rotations"]) == 1


def test_a_key_of_aws_rotates_by_itself(later_aws: Account, days_pass: Days) -> None:
    kms = later_aws.client("kms")
    key = kms.describe_key(KeyId="alias/aws/s3")["KeyMetadata"]
    days_pass(366)
    assert kms.describe_key(KeyId=key["KeyId"])["KeyMetadata"]["CurrentKeyMaterialId"] != key["CurrentKeyMaterialId"]


def test_rotate_key_on_demand(aws: Account, error_of: Earn) -> None:
    kms = aws.client("kms")
    key = kms.create_key()["KeyMetadata"]
    kms.enable_key_rotation(KeyId=key["KeyId"])
    before = kms.get_key_rotation_status(KeyId=key["KeyId"])["NextRotationDate"]
    old = kms.encrypt(KeyId=key["KeyId"], Plaintext=b"old")["CiphertextBlob"]
    assert kms.rotate_key_on_demand(KeyId=key["KeyId"])["KeyId"] == key["Arn"]
    assert kms.decrypt(CiphertextBlob=old)["Plaintext"] == b"old"
    assert kms.get_key_rotation_status(KeyId=key["KeyId"])["NextRotationDate"] == before
    for _ in range(24):
        kms.rotate_key_on_demand(KeyId=key["KeyId"])
    assert error_of(kms.rotate_key_on_demand, KeyId=key["KeyId"])[0] == "LimitExceededException"
    rotations = kms.list_key_rotations(KeyId=key["KeyId"], Limit=20)
    assert (len(rotations["Rotations"]), rotations["Truncated"]) == (20, True)
    assert {entry["RotationType"] for entry in rotations["Rotations"]} == {"ON_DEMAND"}
    assert kms.decrypt(CiphertextBlob=old)["Plaintext"] == b"old"


def test_rotation_is_for_symmetric_keys(aws: Account, error_of: Earn) -> None:
    kms = aws.client("kms")
    for request in (
        {"KeySpec": "RSA_2048", "KeyUsage": "SIGN_VERIFY"},
        {"KeySpec": "HMAC_256", "KeyUsage": "GENERATE_VERIFY_MAC"},
    ):
        key = kms.create_key(**request)["KeyMetadata"]["KeyId"]
        for call in (kms.enable_key_rotation, kms.rotate_key_on_demand, kms.get_key_rotation_status, kms.list_key_rotations):
            assert error_of(call, KeyId=key)[0] == "UnsupportedOperationException"
    plain = kms.create_key()["KeyMetadata"]["KeyId"]
    kms.disable_key(KeyId=plain)
    assert error_of(kms.enable_key_rotation, KeyId=plain)[0] == "DisabledException"
    assert error_of(kms.rotate_key_on_demand, KeyId=plain)[0] == "DisabledException"
