"""Signatures by keys that never leave, checked by OpenSSL; shared secrets; codes."""

from __future__ import annotations

import hashlib
import hmac
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pilvi.services.kms import spec as kinds
from pilvi.testing.server import Account

Earn = Callable[..., tuple[str, str]]
CASES = [(spec, algorithm) for spec in ("RSA_2048", *kinds.CURVES, kinds.EDWARDS, "ML_DSA_44") for algorithm in kinds.SIGNING[spec]]


@pytest.mark.parametrize(("spec", "algorithm"), CASES)
def test_sign_verifies_and_nothing_else_does(aws: Account, error_of: Earn, spec: str, algorithm: str) -> None:
    kms = aws.client("kms")
    key = kms.create_key(KeySpec=spec, KeyUsage="SIGN_VERIFY")["KeyMetadata"]
    request = {"KeyId": key["KeyId"], "SigningAlgorithm": algorithm}
    made = kms.sign(Message=b"a message", **request)
    assert (made["KeyId"], made["SigningAlgorithm"]) == (key["Arn"], algorithm)
    assert kms.verify(Message=b"a message", Signature=made["Signature"], **request)["SignatureValid"] is True
    failed = error_of(kms.verify, Message=b"another", Signature=made["Signature"], **request)
    assert failed == ("KMSInvalidSignatureException", "")
    if algorithm[-3:] in ("256", "384", "512") and spec not in (kinds.EDWARDS, *kinds.ML_DSA):
        digest = hashlib.new(f"sha{algorithm[-3:]}", b"a message").digest()
        assert kms.verify(Message=digest, MessageType="DIGEST", Signature=made["Signature"], **request)["SignatureValid"]
        code, message = error_of(kms.sign, Message=b"short", MessageType="DIGEST", **request)
        assert (code, message) == ("ValidationException", f"Digest is invalid length for algorithm {algorithm}.")


@pytest.mark.parametrize(
    ("spec", "algorithm", "options"),
    [
        ("RSA_2048", "RSASSA_PKCS1_V1_5_SHA_256", ["-sha256"]),
        ("RSA_3072", "RSASSA_PSS_SHA_384", ["-sha384", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:48"]),
        ("ECC_NIST_P256", "ECDSA_SHA_256", ["-sha256"]),
        ("ECC_NIST_P521", "ECDSA_SHA_512", ["-sha512"]),
    ],
)
def test_openssl_verifies_with_the_downloaded_key(
    aws: Account, tmp_path: Path, spec: str, algorithm: str, options: list[str]
) -> None:
    kms = aws.client("kms")
    key = kms.create_key(KeySpec=spec, KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]
    for name, data in (
        ("public.der", kms.get_public_key(KeyId=key)["PublicKey"]),
        ("message", b"a message"),
        ("signature", kms.sign(KeyId=key, Message=b"a message", SigningAlgorithm=algorithm)["Signature"]),
    ):
        (tmp_path / name).write_bytes(data)
    command = ["openssl", "dgst", *options, "-verify", "public.der", "-keyform", "DER", "-signature", "signature", "message"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "Verified OK", done.stderr


def test_get_public_key_says_what_it_is_for(aws: Account, error_of: Earn) -> None:
    kms = aws.client("kms")
    key = kms.create_key(KeySpec="RSA_2048", KeyUsage="SIGN_VERIFY")["KeyMetadata"]
    found = kms.get_public_key(KeyId=key["KeyId"])
    assert (found["KeySpec"], found["KeyUsage"], found["CustomerMasterKeySpec"]) == ("RSA_2048", "SIGN_VERIFY", "RSA_2048")
    assert found["SigningAlgorithms"] == list(kinds.RSA_SIGNING)
    plain = kms.create_key()["KeyMetadata"]["KeyId"]
    assert error_of(kms.get_public_key, KeyId=plain)[0] == "UnsupportedOperationException"
    kms.disable_key(KeyId=key["KeyId"])
    assert error_of(kms.get_public_key, KeyId=key["KeyId"])[0] == "DisabledException"


def test_sign_refuses_other_keys_and_algorithms(aws: Account, error_of: Earn) -> None:
    kms = aws.client("kms")
    key = kms.create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")["KeyMetadata"]
    code, message = error_of(kms.sign, KeyId=key["KeyId"], Message=b"x", SigningAlgorithm="ECDSA_SHA_384")
    assert (code, message) == ("InvalidKeyUsageException", "Algorithm ECDSA_SHA_384 is incompatible with key spec ECC_NIST_P256.")
    plain = kms.create_key()["KeyMetadata"]
    code, message = error_of(kms.sign, KeyId=plain["KeyId"], Message=b"x", SigningAlgorithm="ECDSA_SHA_256")
    assert message == f"{plain['Arn']} key usage is ENCRYPT_DECRYPT which is not valid for Sign."


def test_derive_shared_secret_agrees_with_the_peer(aws: Account, error_of: Earn) -> None:
    kms = aws.client("kms")
    key = kms.create_key(KeySpec="ECC_NIST_P384", KeyUsage="KEY_AGREEMENT")["KeyMetadata"]["KeyId"]
    peer = ec.generate_private_key(ec.SECP384R1())
    der = peer.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    request = {"KeyId": key, "KeyAgreementAlgorithm": "ECDH"}
    found = kms.derive_shared_secret(PublicKey=der, **request)
    ours = serialization.load_der_public_key(kms.get_public_key(KeyId=key)["PublicKey"])
    assert isinstance(ours, ec.EllipticCurvePublicKey)
    assert found["SharedSecret"] == peer.exchange(ec.ECDH(), ours)
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    der = other.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert error_of(kms.derive_shared_secret, PublicKey=der, **request)[0] == "ValidationException"
    assert error_of(kms.derive_shared_secret, PublicKey=b"none", **request)[0] == "ValidationException"


@pytest.mark.parametrize("bits", ["224", "256", "384", "512"])
def test_generate_mac_verifies(aws: Account, error_of: Earn, bits: str) -> None:
    kms = aws.client("kms")
    key = kms.create_key(KeySpec=f"HMAC_{bits}", KeyUsage="GENERATE_VERIFY_MAC")["KeyMetadata"]
    request = {"KeyId": key["KeyId"], "MacAlgorithm": f"HMAC_SHA_{bits}"}
    made = kms.generate_mac(Message=b"a message", **request)
    assert len(made["Mac"]) == hmac.new(b"", b"", f"sha{bits}").digest_size
    assert kms.verify_mac(Message=b"a message", Mac=made["Mac"], **request)["MacValid"] is True
    assert error_of(kms.verify_mac, Message=b"another", Mac=made["Mac"], **request) == ("KMSInvalidMacException", "")
    wrong = "256" if bits != "256" else "512"
    code, message = error_of(kms.generate_mac, KeyId=key["KeyId"], Message=b"x", MacAlgorithm=f"HMAC_SHA_{wrong}")
    assert message == f"Algorithm HMAC_SHA_{wrong} is incompatible with key spec HMAC_{bits}."
    assert code == "InvalidKeyUsageException"
