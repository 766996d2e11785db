"""Encrypt, Decrypt, ReEncrypt: what goes in comes out, under the right key and the right encryption context only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.serialization import load_der_public_key
from hypothesis import given, settings
from hypothesis import strategies as st

from pilvi.services.kms import ciphertext
from pilvi.testing.server import Account, TestServer

Earn = Callable[..., tuple[str, str]]


def test_encrypt_opens_without_naming_the_key(aws: Account) -> None:
    kms = aws.client("kms")
    key = kms.create_key(Description="mine")["KeyMetadata"]
    sealed = kms.encrypt(KeyId=key["KeyId"], Plaintext=b"hello", EncryptionContext={"a": "1", "b": "2"})
    assert sealed["KeyId"] == key["Arn"]
    assert b"hello" not in sealed["CiphertextBlob"]
    opened = kms.decrypt(CiphertextBlob=sealed["CiphertextBlob"], EncryptionContext={"b": "2", "a": "1"})
    assert (opened["Plaintext"], opened["KeyId"], opened["EncryptionAlgorithm"]) == (b"hello", key["Arn"], "SYMMETRIC_DEFAULT")
    assert opened["KeyMaterialId"] == key["CurrentKeyMaterialId"]
    again = kms.encrypt(KeyId=key["KeyId"], Plaintext=b"hello", EncryptionContext={"a": "1", "b": "2"})
    assert again["CiphertextBlob"] != sealed["CiphertextBlob"]


def test_decrypt_refuses_another_encryption_context_and_altered_blobs(aws: Account, error_of: Earn) -> None:
    kms = aws.client("kms")
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    blob = kms.encrypt(KeyId=key, Plaintext=b"hello", EncryptionContext={"a": "1"})["CiphertextBlob"]
    for context in ({}, {"a": "2"}, {"A": "1"}, {"a": "1", "b": "2"}):
        assert error_of(kms.decrypt, CiphertextBlob=blob, EncryptionContext=context) == ("InvalidCiphertextException", "")
    altered = blob[:-1] + bytes([blob[-1] ^ 1])
    assert error_of(kms.decrypt, CiphertextBlob=altered, EncryptionContext={"a": "1"})[0] == "InvalidCiphertextException"
    assert error_of(kms.decrypt, CiphertextBlob=b"something else")[0] == "InvalidCiphertextException"


def test_decrypt_refuses_another_key(aws: Account, error_of: Earn) -> None:
    kms = aws.client("kms")
    one, two = (kms.create_key()["KeyMetadata"]["KeyId"] for _ in range(2))
    blob = kms.encrypt(KeyId=one, Plaintext=b"hello")["CiphertextBlob"]
    code, message = error_of(kms.decrypt, CiphertextBlob=blob, KeyId=two)
    assert code == "IncorrectKeyException"
    assert message == "The key ID in the request does not identify a CMK that can perform this operation."
    mac = kms.create_key(KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")["KeyMetadata"]["KeyId"]
    assert error_of(kms.decrypt, CiphertextBlob=blob, KeyId=mac)[0] == "IncorrectKeyException"


def test_a_disabled_key_blocks_decrypt_until_it_is_enabled(aws: Account, error_of: Earn) -> None:
    kms = aws.client("kms")
    key = kms.create_key()["KeyMetadata"]
    blob = kms.encrypt(KeyId=key["KeyId"], Plaintext=b"hello")["CiphertextBlob"]
    kms.disable_key(KeyId=key["KeyId"])
    for call in (kms.decrypt, kms.re_encrypt):
        more = {"DestinationKeyId": key["KeyId"]} if call == kms.re_encrypt else {}
        assert error_of(call, CiphertextBlob=blob, **more) == ("DisabledException", f"{key['Arn']} is disabled.")
    assert error_of(kms.encrypt, KeyId=key["KeyId"], Plaintext=b"x")[0] == "DisabledException"
    assert error_of(kms.generate_data_key, KeyId=key["KeyId"], KeySpec="AES_256")[0] == "DisabledException"
    kms.enable_key(KeyId=key["KeyId"])
    assert kms.decrypt(CiphertextBlob=blob)["Plaintext"] == b"hello"


@pytest.mark.parametrize(("algorithm", "most"), [("RSAES_OAEP_SHA_1", 214), ("RSAES_OAEP_SHA_256", 190)])
def test_rsa_encrypts_as_its_public_key_does(aws: Account, error_of: Earn, algorithm: str, most: int) -> None:
    kms = aws.client("kms")
    key = kms.create_key(KeySpec="RSA_2048", KeyUsage="ENCRYPT_DECRYPT")["KeyMetadata"]
    sealed = kms.encrypt(KeyId=key["KeyId"], Plaintext=b"x" * most, EncryptionAlgorithm=algorithm)
    opened = kms.decrypt(KeyId=key["KeyId"], CiphertextBlob=sealed["CiphertextBlob"], EncryptionAlgorithm=algorithm)
    assert opened["Plaintext"] == b"x" * most
    code, message = error_of(kms.encrypt, KeyId=key["KeyId"], Plaintext=b"x" * (most + 1), EncryptionAlgorithm=algorithm)
    assert code == "ValidationException"
    assert message == f"Algorithm {algorithm} and key spec RSA_2048 cannot encrypt data larger than {most} bytes."
    assert error_of(kms.encrypt, KeyId=key["KeyId"], Plaintext=b"x")[0] == "InvalidKeyUsageException"
    public: Any = load_der_public_key(kms.get_public_key(KeyId=key["KeyId"])["PublicKey"])
    digest: hashes.HashAlgorithm = hashes.SHA1() if algorithm.endswith("SHA_1") else hashes.SHA256()
    outside = public.encrypt(b"from outside", padding.OAEP(padding.MGF1(digest), digest, None))
    opened = kms.decrypt(KeyId=key["KeyId"], CiphertextBlob=outside, EncryptionAlgorithm=algorithm)
    assert opened["Plaintext"] == b"from outside"


def test_re_encrypt_moves_between_keys_without_plaintext(aws: Account, error_of: Earn) -> None:
    kms = aws.client("kms")
    one, two = (kms.create_key()["KeyMetadata"] for _ in range(2))
    blob = kms.encrypt(KeyId=one["KeyId"], Plaintext=b"hello", EncryptionContext={"a": "1"})["CiphertextBlob"]
    request = {
        "CiphertextBlob": blob,
        "SourceEncryptionContext": {"a": "1"},
        "DestinationKeyId": two["KeyId"],
        "DestinationEncryptionContext": {"b": "2"},
    }
    moved = kms.re_encrypt(**request)
    assert (moved["SourceKeyId"], moved["KeyId"]) == (one["Arn"], two["Arn"])
    assert "Plaintext" not in moved
    kms.disable_key(KeyId=one["KeyId"])
    opened = kms.decrypt(CiphertextBlob=moved["CiphertextBlob"], EncryptionContext={"b": "2"})
    assert (opened["Plaintext"], opened["KeyId"]) == (b"hello", two["Arn"])
    kms.enable_key(KeyId=one["KeyId"])
    assert error_of(kms.re_encrypt, **{**request, "SourceEncryptionContext": {}})[0] == "InvalidCiphertextException"


def test_dry_run_says_what_would_have_been(aws: Account, error_of: Earn) -> None:
    kms = aws.client("kms")
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    blob = kms.encrypt(KeyId=key, Plaintext=b"hello")["CiphertextBlob"]
    would = ("DryRunOperationException", "The request would have succeeded, but the DryRun option is set.")
    assert error_of(kms.encrypt, KeyId=key, Plaintext=b"x", DryRun=True) == would
    assert error_of(kms.decrypt, CiphertextBlob=blob, DryRun=True) == would
    assert error_of(kms.re_encrypt, CiphertextBlob=blob, DestinationKeyId=key, DryRun=True) == would
    assert error_of(kms.generate_data_key, KeyId=key, KeySpec="AES_128", DryRun=True) == would
    ignoring = {"KeyId": key, "DryRunModifiers": ["IGNORE_CIPHERTEXT"]}
    assert error_of(kms.decrypt, DryRun=True, **ignoring) == would
    assert error_of(kms.decrypt, **ignoring)[0] == "ValidationException"
    assert error_of(kms.decrypt, KeyId=key)[0] == "ValidationException"
    kms.disable_key(KeyId=key)
    assert error_of(kms.encrypt, KeyId=key, Plaintext=b"x", DryRun=True)[0] == "DisabledException"
    assert error_of(kms.decrypt, DryRun=True, **ignoring)[0] == "DisabledException"


def test_encrypt_refuses_keys_of_another_use(aws: Account, error_of: Earn) -> None:
    kms = aws.client("kms")
    key = kms.create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")["KeyMetadata"]
    code, message = error_of(kms.encrypt, KeyId=key["KeyId"], Plaintext=b"x")
    assert code == "InvalidKeyUsageException"
    assert message == f"{key['Arn']} key usage is SIGN_VERIFY which is not valid for Encrypt."
    assert error_of(kms.encrypt, KeyId=key["KeyId"], Plaintext=b"x" * 4097)[0] == "ValidationException"


def test_material_and_plaintext_are_nowhere_on_the_disk(aws: Account, server: TestServer) -> None:
    kms = aws.client("kms")
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    kms.encrypt(KeyId=key, Plaintext=b"a plaintext that nobody may find")
    row = server.cloud.rows(aws.account, "", "kms", "Material").get(key)
    from pilvi.services.kms.material import open_version

    material = open_version(server.cloud.keyring, aws.account, key, row["materials"][0])
    assert len(material) == 32
    for path in server.config.data_dir.rglob("records.sqlite*"):
        held = path.read_bytes()
        assert material not in held
        assert b"a plaintext that nobody may find" not in held


CONTEXTS = st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=8), max_size=4)


@settings(deadline=None)
@given(CONTEXTS, CONTEXTS)
def test_no_two_encryption_contexts_are_alike(one: dict[str, str], two: dict[str, str]) -> None:
    assert (ciphertext.canonical(one) == ciphertext.canonical(two)) is (one == two)
