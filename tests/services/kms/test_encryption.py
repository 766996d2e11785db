"""Encrypt, Decrypt, ReEncrypt: what goes in comes out, under the right key and the right encryption context only."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from pilvi.testing.server import Account


def code_of(call: Any, **request: Any) -> str:
    with pytest.raises(ClientError) as failure:
        call(**request)
    return str(failure.value.response["Error"]["Code"])


def test_encrypt_opens_without_naming_the_key(aws: Account) -> None:
    kms = aws.client("kms")
    key = kms.create_key(Description="mine")["KeyMetadata"]
    sealed = kms.encrypt(KeyId=key["KeyId"], Plaintext=b"hello", EncryptionContext={"a": "1", "b": "2"})
    assert sealed["KeyId"] == key["Arn"]
    assert b"hello" not in sealed["CiphertextBlob"]
    opened = kms.decrypt(CiphertextBlob=sealed["CiphertextBlob"], EncryptionContext={"b": "2", "a": "1"})
    assert (opened["Plaintext"], opened["KeyId"], opened["EncryptionAlgorithm"]) == (b"hello", key["Arn"], "SYMMETRIC_DEFAULT")
    assert opened["KeyMaterialId"] == key["CurrentKeyMaterialId"]


def test_decrypt_refuses_another_encryption_context(aws: Account) -> None:
    kms = aws.client("kms")
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    blob = kms.encrypt(KeyId=key, Plaintext=b"hello", EncryptionContext={"a": "1"})["CiphertextBlob"]
    for context in ({}, {"a": "2"}, {"A": "1"}, {"a": "1", "b": "2"}):
        assert code_of(kms.decrypt, CiphertextBlob=blob, EncryptionContext=context) == "InvalidCiphertextException"
    altered = blob[:-1] + bytes([blob[-1] ^ 1])
    assert code_of(kms.decrypt, CiphertextBlob=altered, EncryptionContext={"a": "1"}) == "InvalidCiphertextException"
    assert code_of(kms.decrypt, CiphertextBlob=b"something else") == "InvalidCiphertextException"
