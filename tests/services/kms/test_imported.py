"""Material that comes from outside: wrapped, checked, expiring, deleted, brought back."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.keywrap import aes_key_wrap_with_padding
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_der_public_key

from pilvi.testing.server import Account, TestServer

Earn = Callable[..., tuple[str, str]]
Days = Callable[[float], None]
FOREVER = {"ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE"}


def wrapped(kms: Any, key: str, material: bytes, algorithm: str = "RSAES_OAEP_SHA_256") -> dict[str, Any]:
    """What an import needs: the token, and the material as OpenSSL would wrap it."""
    found = kms.get_parameters_for_import(KeyId=key, WrappingAlgorithm=algorithm, WrappingKeySpec="RSA_2048")
    public: Any = load_der_public_key(found["PublicKey"])
    digest: hashes.HashAlgorithm = hashes.SHA1() if algorithm.endswith("SHA_1") else hashes.SHA256()
    oaep = padding.OAEP(padding.MGF1(digest), digest, None)
    if algorithm.startswith("RSA_AES"):
        aes = os.urandom(32)
        blob = public.encrypt(aes, oaep) + aes_key_wrap_with_padding(aes, material)
    else:
        blob = public.encrypt(material, oaep)
    return {"KeyId": key, "ImportToken": found["ImportToken"], "EncryptedKeyMaterial": blob}


@pytest.fixture
def empty(aws: Account) -> dict[str, Any]:
    found: dict[str, Any] = aws.client("kms").create_key(Origin="EXTERNAL")["KeyMetadata"]
    return found


@pytest.mark.parametrize(
    "algorithm", ["RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256", "RSA_AES_KEY_WRAP_SHA_1", "RSA_AES_KEY_WRAP_SHA_256"]
)
def test_imported_material_is_used_until_it_is_deleted(aws: Account, empty: dict[str, Any], error_of: Earn, algorithm: str) -> None:
    kms, key, material = aws.client("kms"), empty["KeyId"], os.urandom(32)
    assert (empty["KeyState"], empty["Enabled"], empty["Origin"]) == ("PendingImport", False, "EXTERNAL")
    pending = ("KMSInvalidStateException", f"{empty['Arn']} is pending import.")
    assert error_of(kms.encrypt, KeyId=key, Plaintext=b"x") == pending
    made = kms.import_key_material(**wrapped(kms, key, material, algorithm), **FOREVER)
    seen = kms.describe_key(KeyId=key)["KeyMetadata"]
    assert (seen["KeyState"], seen["ExpirationModel"]) == ("Enabled", "KEY_MATERIAL_DOES_NOT_EXPIRE")
    assert seen["CurrentKeyMaterialId"] == made["KeyMaterialId"]
    blob = kms.encrypt(KeyId=key, Plaintext=b"x")["CiphertextBlob"]
    kms.delete_imported_key_material(KeyId=key)
    assert error_of(kms.decrypt, CiphertextBlob=blob) == pending
    other = wrapped(kms, key, os.urandom(32))
    assert error_of(kms.import_key_material, **other, **FOREVER)[0] == "IncorrectKeyMaterialException"
    again = kms.import_key_material(**wrapped(kms, key, material), **FOREVER)
    assert again["KeyMaterialId"] == made["KeyMaterialId"]
    assert kms.decrypt(CiphertextBlob=blob)["Plaintext"] == b"x"


def test_deleted_material_is_not_in_the_store(aws: Account, empty: dict[str, Any], server: TestServer) -> None:
    kms, key = aws.client("kms"), empty["KeyId"]
    kms.import_key_material(**wrapped(kms, key, os.urandom(32)), **FOREVER)
    kms.delete_imported_key_material(KeyId=key)
    (version,) = server.cloud.rows(aws.account, "", "kms", "Material").get(key)["materials"]
    assert version["sealed"] == b""


def test_import_key_material_refuses(aws: Account, empty: dict[str, Any], error_of: Earn) -> None:
    kms, key = aws.client("kms"), empty["KeyId"]
    good = wrapped(kms, key, os.urandom(32))
    code, message = error_of(kms.import_key_material, **good)
    assert (code, message) == ("ValidationException", "A validTo date must be set if the ExpirationModel is KEY_MATERIAL_EXPIRES")
    late = empty["CreationDate"] + timedelta(days=366)
    assert error_of(kms.import_key_material, **good, ValidTo=late)[0] == "ValidationException"
    short = wrapped(kms, key, os.urandom(16))
    assert error_of(kms.import_key_material, **short, **FOREVER)[0] == "IncorrectKeyMaterialException"
    altered = {**good, "EncryptedKeyMaterial": bytes(256)}
    assert error_of(kms.import_key_material, **altered, **FOREVER)[0] == "InvalidCiphertextException"
    another = kms.create_key(Origin="EXTERNAL")["KeyMetadata"]["KeyId"]
    assert error_of(kms.import_key_material, **{**good, "KeyId": another}, **FOREVER)[0] == "InvalidImportTokenException"
    assert error_of(kms.import_key_material, **{**good, "ImportToken": b"none"}, **FOREVER)[0] == "InvalidImportTokenException"
    plain = kms.create_key()["KeyMetadata"]
    request = {"KeyId": plain["KeyId"], "WrappingAlgorithm": "RSAES_OAEP_SHA_256", "WrappingKeySpec": "RSA_2048"}
    code, message = error_of(kms.get_parameters_for_import, **request)
    assert (code, message) == (
        "UnsupportedOperationException",
        f"{plain['Arn']} origin is AWS_KMS which is not valid for this operation.",
    )
    request = {"KeyId": key, "WrappingAlgorithm": "RSAES_PKCS1_V1_5", "WrappingKeySpec": "RSA_2048"}
    assert error_of(kms.get_parameters_for_import, **request)[0] == "UnsupportedOperationException"
    assert kms.describe_key(KeyId=key)["KeyMetadata"]["KeyState"] == "PendingImport"


def test_imported_material_expires_by_the_clock(later_aws: Account, timed: TestServer, days_pass: Days, error_of: Earn) -> None:
    kms = later_aws.client("kms")
    key, material = kms.create_key(Origin="EXTERNAL")["KeyMetadata"]["KeyId"], os.urandom(32)
    stale = wrapped(kms, key, material)
    until = timed.cloud.clock.now().replace(microsecond=0) + timedelta(days=10)
    kms.import_key_material(**wrapped(kms, key, material), ValidTo=until)
    seen = kms.describe_key(KeyId=key)["KeyMetadata"]
    assert (seen["ExpirationModel"], seen["ValidTo"]) == ("KEY_MATERIAL_EXPIRES", until)
    blob = kms.encrypt(KeyId=key, Plaintext=b"x")["CiphertextBlob"]
    days_pass(11)
    assert error_of(kms.decrypt, CiphertextBlob=blob)[0] == "KMSInvalidStateException"
    (version,) = timed.cloud.rows(later_aws.account, "", "kms", "Material").get(key)["materials"]
    assert version["sealed"] == b""
    assert error_of(kms.import_key_material, **stale, **FOREVER)[0] == "ExpiredImportTokenException"
    kms.import_key_material(**wrapped(kms, key, material), **FOREVER)
    assert kms.decrypt(CiphertextBlob=blob)["Plaintext"] == b"x"


def test_new_imported_material_rotates_on_demand(aws: Account, empty: dict[str, Any], error_of: Earn) -> None:
    kms, key, first, second = aws.client("kms"), empty["KeyId"], os.urandom(32), os.urandom(32)
    kms.import_key_material(**wrapped(kms, key, first), **FOREVER)
    old = kms.encrypt(KeyId=key, Plaintext=b"old")["CiphertextBlob"]
    assert error_of(kms.rotate_key_on_demand, KeyId=key)[0] == "KMSInvalidStateException"
    assert error_of(kms.enable_key_rotation, KeyId=key)[0] == "UnsupportedOperationException"
    more = {"ImportType": "NEW_KEY_MATERIAL", "KeyMaterialDescription": "the second"}
    made = kms.import_key_material(**wrapped(kms, key, second), **FOREVER, **more)
    listed = kms.list_key_rotations(KeyId=key, IncludeKeyMaterial="ALL_KEY_MATERIAL")["Rotations"]
    assert [entry["KeyMaterialState"] for entry in listed] == ["CURRENT", "PENDING_ROTATION"]
    assert kms.decrypt(CiphertextBlob=old)["KeyMaterialId"] != made["KeyMaterialId"]
    kms.rotate_key_on_demand(KeyId=key)
    new = kms.encrypt(KeyId=key, Plaintext=b"new")["CiphertextBlob"]
    assert kms.decrypt(CiphertextBlob=new)["KeyMaterialId"] == made["KeyMaterialId"]
    assert kms.decrypt(CiphertextBlob=old)["Plaintext"] == b"old"
    (entry,) = kms.list_key_rotations(KeyId=key)["Rotations"]
    assert (entry["RotationType"], entry["KeyMaterialDescription"], entry["ImportState"]) == ("ON_DEMAND", "the second", "IMPORTED")


def test_a_private_key_is_imported_and_signs(aws: Account, error_of: Earn) -> None:
    kms = aws.client("kms")
    key = kms.create_key(Origin="EXTERNAL", KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]
    private = ec.generate_private_key(ec.SECP256R1())
    der = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    wrong = ec.generate_private_key(ec.SECP384R1()).private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    request = wrapped(kms, key, wrong, "RSA_AES_KEY_WRAP_SHA_256")
    assert error_of(kms.import_key_material, **request, **FOREVER)[0] == "IncorrectKeyMaterialException"
    kms.import_key_material(**wrapped(kms, key, der, "RSA_AES_KEY_WRAP_SHA_256"), **FOREVER)
    signature = kms.sign(KeyId=key, Message=b"m", SigningAlgorithm="ECDSA_SHA_256")["Signature"]
    private.public_key().verify(signature, b"m", ec.ECDSA(hashes.SHA256()))
