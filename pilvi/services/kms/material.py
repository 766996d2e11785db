"""Key material: made, sealed by the server's keyring, opened for use. What stands in the store is never in the clear.

    Material row (account, "", "kms", "Material")  key id -> {
        materials: [{id, sealed, created, ...}]     oldest first: every version that ever encrypted something
        current: id                                 the one that encrypts now
        primary, replicas, rotation ...             what all Regions of a multi-Region key share
    }

Symmetric and HMAC keys are raw bytes; private keys are PKCS #8. A key id is sealed into each version, so material that is moved
under another key does not open.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from datetime import datetime
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)

from pilvi.services.kms import spec as kinds

if TYPE_CHECKING:
    from pilvi.storage.keyring import Keyring

AES_BYTES = 32
_CURVES: dict[str, type[ec.EllipticCurve]] = {
    "ECC_NIST_P256": ec.SECP256R1,
    "ECC_NIST_P384": ec.SECP384R1,
    "ECC_NIST_P521": ec.SECP521R1,
    "ECC_SECG_P256K1": ec.SECP256K1,
}
_ML_DSA: dict[str, Any] = {
    "ML_DSA_44": mldsa.MLDSA44PrivateKey,
    "ML_DSA_65": mldsa.MLDSA65PrivateKey,
    "ML_DSA_87": mldsa.MLDSA87PrivateKey,
}


def new_private_key(spec: str) -> Any:
    """A fresh private key. RSA takes up to a second, with other threads running."""
    if spec in kinds.RSA_BITS:
        return rsa.generate_private_key(65537, kinds.RSA_BITS[spec])
    if spec in _CURVES:
        return ec.generate_private_key(_CURVES[spec]())
    if spec == kinds.EDWARDS:
        return ed25519.Ed25519PrivateKey.generate()
    return _ML_DSA[spec].generate()


def new_material(spec: str) -> bytes:
    """Fresh material for a key of this kind."""
    if spec == kinds.SYMMETRIC:
        return os.urandom(AES_BYTES)
    if spec in kinds.HMAC_BYTES:
        return os.urandom(kinds.HMAC_BYTES[spec][0])
    return private_bytes(new_private_key(spec))


def private_bytes(key: Any) -> bytes:
    """PKCS #8, DER"""
    return bytes(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))


def public_bytes(key: Any) -> bytes:
    """SubjectPublicKeyInfo, DER"""
    return bytes(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def fits(spec: str, material: bytes) -> bool:
    """Whether imported bytes can be the material of a key of this kind."""
    if spec == kinds.SYMMETRIC:
        return len(material) == AES_BYTES
    if spec in kinds.HMAC_BYTES:
        fewest, most = kinds.HMAC_BYTES[spec]
        return fewest <= len(material) <= most
    try:
        key = load_der_private_key(material, None)
    except (ValueError, TypeError):
        return False
    if spec in kinds.RSA_BITS:
        return isinstance(key, rsa.RSAPrivateKey) and key.key_size == kinds.RSA_BITS[spec]
    if spec in _CURVES:
        return isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, _CURVES[spec])
    if spec == kinds.EDWARDS:
        return isinstance(key, ed25519.Ed25519PrivateKey)
    return isinstance(key, _ML_DSA[spec])


def new_version(keyring: Keyring, account: str, key_id: str, material: bytes, now: datetime) -> dict[str, Any]:
    """One version as its row keeps it. The same bytes under the same key always have the same id."""
    return {
        "id": hmac.digest(hashlib.sha256(material).digest(), b"kms material:" + key_id.encode(), "sha256").hex(),
        "sealed": keyring.seal(material, _bound_to(account, key_id)),
        "created": now,
    }


def open_version(keyring: Keyring, account: str, key_id: str, version: dict[str, Any]) -> bytes:
    return keyring.unseal(version["sealed"], _bound_to(account, key_id))


def _bound_to(account: str, key_id: str) -> bytes:
    return f"kms:{account}:{key_id}".encode()
