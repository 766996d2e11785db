"""Kinds of keys: what each may be used for, and by which algorithms.

Source: KMS Developer Guide, "Key spec reference"; AWS keeps these orders in its answers.
Differs: SM2 keys, which exist in China Regions only, and ED25519_PH_SHA_512, which no library here has, are not built; custom key
stores are absent.
"""

from __future__ import annotations

from typing import Final

ENCRYPT: Final = "ENCRYPT_DECRYPT"
SIGN: Final = "SIGN_VERIFY"
MAC: Final = "GENERATE_VERIFY_MAC"
AGREE: Final = "KEY_AGREEMENT"
SYMMETRIC: Final = "SYMMETRIC_DEFAULT"

RSA_BITS: Final = {"RSA_2048": 2048, "RSA_3072": 3072, "RSA_4096": 4096}
NIST_CURVES: Final = ("ECC_NIST_P256", "ECC_NIST_P384", "ECC_NIST_P521")
CURVES: Final = (*NIST_CURVES, "ECC_SECG_P256K1")
EDWARDS: Final = "ECC_NIST_EDWARDS25519"
ML_DSA: Final = ("ML_DSA_44", "ML_DSA_65", "ML_DSA_87")
HMACS: Final = ("HMAC_224", "HMAC_256", "HMAC_384", "HMAC_512")

RSA_ENCRYPTION: Final = ("RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256")
RSA_SIGNING: Final = (
    "RSASSA_PKCS1_V1_5_SHA_256",
    "RSASSA_PKCS1_V1_5_SHA_384",
    "RSASSA_PKCS1_V1_5_SHA_512",
    "RSASSA_PSS_SHA_256",
    "RSASSA_PSS_SHA_384",
    "RSASSA_PSS_SHA_512",
)

USAGES: Final[dict[str, tuple[str, ...]]] = {
    SYMMETRIC: (ENCRYPT,),
    **dict.fromkeys(RSA_BITS, (ENCRYPT, SIGN)),
    **dict.fromkeys(NIST_CURVES, (SIGN, AGREE)),
    "ECC_SECG_P256K1": (SIGN,),
    EDWARDS: (SIGN,),
    **dict.fromkeys(ML_DSA, (SIGN,)),
    **dict.fromkeys(HMACS, (MAC,)),
}

SIGNING: Final[dict[str, tuple[str, ...]]] = {
    **dict.fromkeys(RSA_BITS, RSA_SIGNING),
    "ECC_NIST_P256": ("ECDSA_SHA_256",),
    "ECC_NIST_P384": ("ECDSA_SHA_384",),
    "ECC_NIST_P521": ("ECDSA_SHA_512",),
    "ECC_SECG_P256K1": ("ECDSA_SHA_256",),
    EDWARDS: ("ED25519_SHA_512",),
    **dict.fromkeys(ML_DSA, ("ML_DSA_SHAKE_256",)),
}

HMAC_BYTES: Final = {"HMAC_224": (28, 64), "HMAC_256": (32, 64), "HMAC_384": (48, 128), "HMAC_512": (64, 128)}
"""Fewest and most bytes of imported material; what is made here has the fewest."""

OLDER_SPECS: Final = frozenset((SYMMETRIC, *RSA_BITS, *CURVES, *HMACS, "SM2"))
"""What the deprecated member CustomerMasterKeySpec can say."""


def algorithms(spec: str, usage: str) -> dict[str, list[str]]:
    """The algorithms of a key, under the member that names them."""
    if usage == ENCRYPT:
        return {"EncryptionAlgorithms": [SYMMETRIC] if spec == SYMMETRIC else list(RSA_ENCRYPTION)}
    if usage == SIGN:
        return {"SigningAlgorithms": list(SIGNING[spec])}
    if usage == MAC:
        return {"MacAlgorithms": [spec.replace("HMAC_", "HMAC_SHA_")]}
    return {"KeyAgreementAlgorithms": ["ECDH"]}


def is_asymmetric(spec: str) -> bool:
    return spec != SYMMETRIC and spec not in HMACS
