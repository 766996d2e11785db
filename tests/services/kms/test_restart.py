"""Keys outlive the server, and stay secret while it is down."""

from __future__ import annotations

from pathlib import Path

from pilvi.testing.server import TestServer

ACCOUNT = "620000000001"


def test_keys_are_as_they_were_after_a_restart(tmp_path: Path) -> None:
    with TestServer(tmp_path) as server:
        kms = server.account(ACCOUNT).client("kms")
        key = kms.create_key()["KeyMetadata"]
        kms.create_alias(AliasName="alias/app", TargetKeyId=key["KeyId"])
        old = kms.encrypt(KeyId="alias/app", Plaintext=b"old", EncryptionContext={"a": "1"})["CiphertextBlob"]
        kms.rotate_key_on_demand(KeyId=key["KeyId"])
        external = kms.create_key(Origin="EXTERNAL")["KeyMetadata"]["KeyId"]
        request = {"KeyId": external, "WrappingAlgorithm": "RSAES_OAEP_SHA_256", "WrappingKeySpec": "RSA_2048"}
        token = kms.get_parameters_for_import(**request)["ImportToken"]
        before = kms.describe_key(KeyId="alias/app")["KeyMetadata"]
    with TestServer(tmp_path) as server:
        kms = server.account(ACCOUNT).client("kms")
        assert kms.describe_key(KeyId="alias/app")["KeyMetadata"] == before
        assert kms.decrypt(CiphertextBlob=old, EncryptionContext={"a": "1"})["Plaintext"] == b"old"
        assert kms.get_key_last_usage(KeyId=key["KeyId"])["KeyLastUsage"]["Operation"] == "Decrypt"
        assert len(token) > 1000
