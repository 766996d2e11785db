"""Data keys and pairs; an envelope as S3's and DynamoDB's clients make it."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_private_key

from pilvi.testing.server import Account

Earn = Callable[..., tuple[str, str]]


def test_generate_data_key_makes_envelopes(aws: Account) -> None:
    """Client-side encryption by hand: the data key seals, the key in KMS seals the data key, which lies beside the data."""
    kms, s3 = aws.client("kms"), aws.client("s3")
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    context = {"aws:x-amz-cek-alg": "AES/GCM/NoPadding"}
    s3.create_bucket(Bucket=f"envelopes-{aws.account}")
    made = kms.generate_data_key(KeyId=key, KeySpec="AES_256", EncryptionContext=context)
    nonce = os.urandom(12)
    body = nonce + AESGCM(made["Plaintext"]).encrypt(nonce, b"the data", None)
    s3.put_object(Bucket=f"envelopes-{aws.account}", Key="k", Body=body, Metadata={"x-amz-key-v2": made["CiphertextBlob"].hex()})
    found = s3.get_object(Bucket=f"envelopes-{aws.account}", Key="k")
    wrapped, body = bytes.fromhex(found["Metadata"]["x-amz-key-v2"]), found["Body"].read()
    plain = kms.decrypt(CiphertextBlob=wrapped, EncryptionContext=context)["Plaintext"]
    assert AESGCM(plain).decrypt(body[:12], body[12:], None) == b"the data"
    with pytest.raises(InvalidTag):
        AESGCM(os.urandom(32)).decrypt(body[:12], body[12:], None)


@pytest.mark.parametrize(
    ("asked", "size"), [({"KeySpec": "AES_128"}, 16), ({"KeySpec": "AES_256"}, 32), ({"NumberOfBytes": 64}, 64)]
)
def test_generate_data_key_has_the_size_asked_for(aws: Account, asked: dict[str, object], size: int) -> None:
    kms = aws.client("kms")
    key = kms.create_key()["KeyMetadata"]
    made = kms.generate_data_key(KeyId=key["KeyId"], **asked)
    assert len(made["Plaintext"]) == size
    assert made["KeyId"] == key["Arn"]
    assert kms.decrypt(CiphertextBlob=made["CiphertextBlob"])["Plaintext"] == made["Plaintext"]
    sealed = kms.generate_data_key_without_plaintext(KeyId=key["KeyId"], **asked)
    assert "Plaintext" not in sealed
    assert len(kms.decrypt(CiphertextBlob=sealed["CiphertextBlob"])["Plaintext"]) == size


def test_generate_data_key_wants_one_size(aws: Account, error_of: Earn) -> None:
    kms = aws.client("kms")
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    for request in ({}, {"KeySpec": "AES_256", "NumberOfBytes": 32}):
        code, message = error_of(kms.generate_data_key, KeyId=key, **request)
        assert (code, message) == ("ValidationException", "Please specify either number of bytes or key spec.")
    pair = kms.create_key(KeySpec="RSA_2048", KeyUsage="ENCRYPT_DECRYPT")["KeyMetadata"]["KeyId"]
    assert error_of(kms.generate_data_key, KeyId=pair, KeySpec="AES_256")[0] == "InvalidKeyUsageException"


@pytest.mark.parametrize("spec", ["RSA_2048", "ECC_NIST_P256", "ECC_SECG_P256K1", "ECC_NIST_EDWARDS25519"])
def test_generate_data_key_pair_fits_together(aws: Account, spec: str) -> None:
    kms = aws.client("kms")
    key = kms.create_key()["KeyMetadata"]
    made = kms.generate_data_key_pair(KeyId=key["KeyId"], KeyPairSpec=spec, EncryptionContext={"a": "1"})
    assert (made["KeyId"], made["KeyPairSpec"]) == (key["Arn"], spec)
    private = load_der_private_key(made["PrivateKeyPlaintext"], None)
    assert private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) == made["PublicKey"]
    opened = kms.decrypt(CiphertextBlob=made["PrivateKeyCiphertextBlob"], EncryptionContext={"a": "1"})
    assert opened["Plaintext"] == made["PrivateKeyPlaintext"]
    sealed = kms.generate_data_key_pair_without_plaintext(KeyId=key["KeyId"], KeyPairSpec=spec)
    assert "PrivateKeyPlaintext" not in sealed


def test_generate_random_gives_what_is_asked(aws: Account, error_of: Earn) -> None:
    kms = aws.client("kms")
    assert len(kms.generate_random(NumberOfBytes=91)["Plaintext"]) == 91
    assert error_of(kms.generate_random) == ("ValidationException", "NumberOfBytes is required.")
    assert error_of(kms.generate_random, NumberOfBytes=1025)[0] == "ValidationException"
