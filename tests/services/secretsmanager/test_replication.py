"""Replicas follow their primary, until they stop."""

from __future__ import annotations

from collections.abc import Callable

from pilvi.testing.server import Account

Earn = Callable[..., tuple[str, str]]


def test_replicate_secret_to_regions_and_follow(aws: Account, error_of: Earn) -> None:
    sm, far = aws.client("secretsmanager"), aws.client("secretsmanager", region="eu-west-1")
    made = sm.create_secret(
        Name="s", SecretString="1", Tags=[{"Key": "a", "Value": "1"}], AddReplicaRegions=[{"Region": "eu-west-1"}]
    )
    assert made["ReplicationStatus"] == [{"Region": "eu-west-1", "Status": "InSync"}]
    seen = far.describe_secret(SecretId="s")
    assert seen["ARN"] == made["ARN"].replace("us-east-1", "eu-west-1")
    assert (seen["PrimaryRegion"], seen["Tags"]) == ("us-east-1", [{"Key": "a", "Value": "1"}])
    assert far.get_secret_value(SecretId="s")["SecretString"] == "1"
    two = sm.put_secret_value(SecretId="s", SecretString="2")["VersionId"]
    sm.tag_resource(SecretId="s", Tags=[{"Key": "b", "Value": "2"}])
    sm.update_secret(SecretId="s", Description="new")
    found = far.get_secret_value(SecretId="s")
    assert (found["SecretString"], found["VersionId"]) == ("2", two)
    assert far.get_secret_value(SecretId="s", VersionStage="AWSPREVIOUS")["SecretString"] == "1"
    seen = far.describe_secret(SecretId="s")
    assert (seen["Description"], len(seen["Tags"])) == ("new", 2)
    code, message = error_of(far.put_secret_value, SecretId="s", SecretString="x")
    assert code == "InvalidRequestException"
    assert message == "Operation not permitted on a replica secret. Call must be made in primary secret's region."
    code, message = error_of(sm.delete_secret, SecretId="s")
    assert (code, "still has replica regions" in message) == ("InvalidRequestException", True)
    left = sm.remove_regions_from_replication(SecretId="s", RemoveReplicaRegions=["eu-west-1"])
    assert left["ReplicationStatus"] == []
    assert error_of(far.describe_secret, SecretId="s")[0] == "ResourceNotFoundException"
    assert error_of(sm.remove_regions_from_replication, SecretId="s", RemoveReplicaRegions=["eu-west-1"])[0] == (
        "InvalidParameterException"
    )


def test_stop_replication_to_replica_makes_it_its_own(aws: Account, error_of: Earn) -> None:
    sm, far = aws.client("secretsmanager"), aws.client("secretsmanager", region="eu-west-1")
    sm.create_secret(Name="s", SecretString="1", AddReplicaRegions=[{"Region": "eu-west-1"}])
    assert error_of(sm.stop_replication_to_replica, SecretId="s")[0] == "InvalidRequestException"
    far.stop_replication_to_replica(SecretId="s")
    sm.put_secret_value(SecretId="s", SecretString="2")
    assert far.get_secret_value(SecretId="s")["SecretString"] == "1"
    far.put_secret_value(SecretId="s", SecretString="3")
    assert sm.get_secret_value(SecretId="s")["SecretString"] == "2"
    assert "ReplicationStatus" not in sm.describe_secret(SecretId="s")


def test_what_cannot_be_replicated_is_told(aws: Account, error_of: Earn) -> None:
    sm, far = aws.client("secretsmanager"), aws.client("secretsmanager", region="eu-west-1")
    far.create_secret(Name="s", SecretString="other")
    sm.create_secret(Name="s", SecretString="1")
    request = {"SecretId": "s", "AddReplicaRegions": [{"Region": "eu-west-1"}]}
    (status,) = sm.replicate_secret_to_regions(**request)["ReplicationStatus"]
    assert (status["Status"], "name conflict" in status["StatusMessage"]) == ("Failed", True)
    assert far.get_secret_value(SecretId="s")["SecretString"] == "other"
    bad = [{"Region": "eu-west-2", "KmsKeyId": "alias/none"}]
    found = sm.replicate_secret_to_regions(SecretId="s", AddReplicaRegions=bad)["ReplicationStatus"]
    assert {entry["Region"]: entry["Status"] for entry in found} == {"eu-west-1": "Failed", "eu-west-2": "Failed"}
    assert error_of(sm.replicate_secret_to_regions, SecretId="s", AddReplicaRegions=[{"Region": "us-east-1"}])[0] == (
        "InvalidParameterException"
    )
    assert error_of(sm.replicate_secret_to_regions, SecretId="s", AddReplicaRegions=[{"Region": "xx-none-1"}])[0] == (
        "InvalidParameterException"
    )
