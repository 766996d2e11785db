"""Multi-Region keys: one material, several Regions, each managed by itself."""

from __future__ import annotations

from collections.abc import Callable

from pilvi.testing.server import Account

Earn = Callable[..., tuple[str, str]]
Days = Callable[[float], None]


def test_ciphertext_of_one_region_opens_in_another(aws: Account, error_of: Earn) -> None:
    kms, far = aws.client("kms"), aws.client("kms", region="eu-west-1")
    key = kms.create_key(MultiRegion=True, Description="first")["KeyMetadata"]
    assert key["KeyId"].startswith("mrk-")
    arn = {"Arn": key["Arn"], "Region": "us-east-1"}
    assert key["MultiRegionConfiguration"] == {"MultiRegionKeyType": "PRIMARY", "PrimaryKey": arn, "ReplicaKeys": []}
    blob = kms.encrypt(KeyId=key["KeyId"], Plaintext=b"x")["CiphertextBlob"]
    assert error_of(far.decrypt, CiphertextBlob=blob)[0] == "AccessDeniedException"
    made = kms.replicate_key(KeyId=key["KeyId"], ReplicaRegion="eu-west-1", Tags=[{"TagKey": "a", "TagValue": "1"}])
    replica = made["ReplicaKeyMetadata"]
    assert replica["Arn"] == key["Arn"].replace("us-east-1", "eu-west-1")
    assert replica["MultiRegionConfiguration"]["MultiRegionKeyType"] == "REPLICA"
    assert replica["MultiRegionConfiguration"]["PrimaryKey"] == arn
    assert (replica["Description"], made["ReplicaTags"]) == ("", [{"TagKey": "a", "TagValue": "1"}])
    opened = far.decrypt(CiphertextBlob=blob)
    assert (opened["Plaintext"], opened["KeyId"]) == (b"x", replica["Arn"])
    seen = kms.describe_key(KeyId=key["KeyId"])["KeyMetadata"]["MultiRegionConfiguration"]
    assert seen["ReplicaKeys"] == [{"Arn": replica["Arn"], "Region": "eu-west-1"}]
    assert error_of(kms.replicate_key, KeyId=key["KeyId"], ReplicaRegion="eu-west-1")[0] == "AlreadyExistsException"
    far.disable_key(KeyId=key["KeyId"])
    assert error_of(far.decrypt, CiphertextBlob=blob)[0] == "DisabledException"
    assert kms.decrypt(CiphertextBlob=blob)["Plaintext"] == b"x"
    far.create_alias(AliasName="alias/far", TargetKeyId=key["KeyId"])
    assert kms.list_aliases(KeyId=key["KeyId"])["Aliases"] == []


def test_rotation_reaches_every_region(aws: Account, error_of: Earn) -> None:
    kms, far = aws.client("kms"), aws.client("kms", region="eu-west-1")
    key = kms.create_key(MultiRegion=True)["KeyMetadata"]["KeyId"]
    kms.replicate_key(KeyId=key, ReplicaRegion="eu-west-1")
    kms.enable_key_rotation(KeyId=key)
    assert far.get_key_rotation_status(KeyId=key)["KeyRotationEnabled"] is True
    assert error_of(far.rotate_key_on_demand, KeyId=key)[0] == "UnsupportedOperationException"
    kms.rotate_key_on_demand(KeyId=key)
    blob = kms.encrypt(KeyId=key, Plaintext=b"x")["CiphertextBlob"]
    assert far.decrypt(CiphertextBlob=blob)["Plaintext"] == b"x"


def test_update_primary_region_swaps_roles(aws: Account, error_of: Earn) -> None:
    kms, far = aws.client("kms"), aws.client("kms", region="eu-west-1")
    key = kms.create_key(MultiRegion=True)["KeyMetadata"]["KeyId"]
    code, _ = error_of(kms.update_primary_region, KeyId=key, PrimaryRegion="eu-west-1")
    assert code == "NotFoundException"
    kms.replicate_key(KeyId=key, ReplicaRegion="eu-west-1")
    kms.update_primary_region(KeyId=key, PrimaryRegion="eu-west-1")
    kinds = [
        client.describe_key(KeyId=key)["KeyMetadata"]["MultiRegionConfiguration"]["MultiRegionKeyType"] for client in (kms, far)
    ]
    assert kinds == ["REPLICA", "PRIMARY"]
    assert error_of(kms.replicate_key, KeyId=key, ReplicaRegion="eu-west-2")[0] == "UnsupportedOperationException"
    far.rotate_key_on_demand(KeyId=key)


def test_replicate_key_refuses(aws: Account, error_of: Earn) -> None:
    kms = aws.client("kms")
    plain = kms.create_key()["KeyMetadata"]
    code, message = error_of(kms.replicate_key, KeyId=plain["KeyId"], ReplicaRegion="eu-west-1")
    assert (code, message) == ("UnsupportedOperationException", f"{plain['Arn']} is not a multi-region primary key.")
    key = kms.create_key(MultiRegion=True)["KeyMetadata"]["KeyId"]
    assert error_of(kms.replicate_key, KeyId=key, ReplicaRegion="us-east-1")[0] == "AlreadyExistsException"
    assert error_of(kms.replicate_key, KeyId=key, ReplicaRegion="xx-none-1")[0] == "ValidationException"
    kms.disable_key(KeyId=key)
    assert error_of(kms.replicate_key, KeyId=key, ReplicaRegion="eu-west-1")[0] == "DisabledException"


def test_a_primary_waits_for_its_replicas(later_aws: Account, days_pass: Days, error_of: Earn) -> None:
    kms, far = later_aws.client("kms"), later_aws.client("kms", region="eu-west-1")
    key = kms.create_key(MultiRegion=True)["KeyMetadata"]["KeyId"]
    kms.replicate_key(KeyId=key, ReplicaRegion="eu-west-1")
    blob = kms.encrypt(KeyId=key, Plaintext=b"x")["CiphertextBlob"]
    answer = kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=10)
    assert answer["KeyState"] == "PendingReplicaDeletion"
    assert "DeletionDate" not in answer
    seen = kms.describe_key(KeyId=key)["KeyMetadata"]
    assert (seen["KeyState"], seen["PendingDeletionWindowInDays"]) == ("PendingReplicaDeletion", 10)
    days_pass(20)
    assert far.decrypt(CiphertextBlob=blob)["Plaintext"] == b"x"
    gone = far.schedule_key_deletion(KeyId=key, PendingWindowInDays=7)["DeletionDate"]
    days_pass(8)
    assert error_of(far.describe_key, KeyId=key)[0] == "NotFoundException"
    seen = kms.describe_key(KeyId=key)["KeyMetadata"]
    assert (seen["KeyState"], (seen["DeletionDate"] - gone).days) == ("PendingDeletion", 10)
    days_pass(10)
    assert error_of(kms.describe_key, KeyId=key)[0] == "NotFoundException"
