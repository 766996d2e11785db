"""Asymmetric keys at work: signatures made and checked, public keys handed out, secrets agreed on. The private key never leaves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import load_der_public_key

from pilvi.core.errors import ServiceError
from pilvi.core.service import Context, Operations
from pilvi.services.kms import spec as kinds
from pilvi.services.kms.encryption import no_enclaves
from pilvi.services.kms.errors import dry_run, unsupported, validation, wrong_algorithm
from pilvi.services.kms.grants import check_tokens
from pilvi.services.kms.keys import Key, check_state, check_usable, find, private_key_of
from pilvi.services.kms.material import public_bytes
from pilvi.services.kms.usage import count

ops = Operations()

_HASHES: dict[str, hashes.HashAlgorithm] = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
_MU_BYTES = 64


@ops
def sign(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Sign a message or its digest.

    req: KeyId of an RSA, ECC or ML-DSA key, Message (RAW: 1-4096 bytes, hashed here; DIGEST: its hash; EXTERNAL_MU: ML-DSA only),
    SigningAlgorithm, GrantTokens, DryRun.
    Errors: NotFoundException. DisabledException. KMSInvalidStateException. InvalidKeyUsageException - no key to sign with, or not by
    this algorithm. ValidationException - a digest of the wrong length.
    """
    key, algorithm = _signing_key(ctx, req, "Sign")
    message, kind = req["Message"], req.get("MessageType") or "RAW"
    _check_message(algorithm, kind, message)
    if req.get("DryRun"):
        raise dry_run()
    private = private_key_of(ctx.cloud, key)
    if algorithm.startswith("ML_DSA"):
        signature = private.sign_mu(message) if kind == "EXTERNAL_MU" else private.sign(message)
    else:
        signature = private.sign(message, *_how(algorithm, kind))
    count(ctx, key, "Sign")
    return {"KeyId": key.arn, "Signature": signature, "SigningAlgorithm": algorithm}


@ops
def verify(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Check a signature.

    Errors: those of Sign. KMSInvalidSignatureException - it is not this key's signature of this message.
    """
    key, algorithm = _signing_key(ctx, req, "Verify")
    message, kind = req["Message"], req.get("MessageType") or "RAW"
    _check_message(algorithm, kind, message)
    if req.get("DryRun"):
        raise dry_run()
    public = private_key_of(ctx.cloud, key).public_key()
    try:
        if algorithm.startswith("ML_DSA"):
            (public.verify_mu if kind == "EXTERNAL_MU" else public.verify)(req["Signature"], message)
        else:
            public.verify(req["Signature"], message, *_how(algorithm, kind))
    except InvalidSignature:
        raise ServiceError("KMSInvalidSignatureException", "") from None
    count(ctx, key, "Verify")
    return {"KeyId": key.arn, "SignatureValid": True, "SigningAlgorithm": algorithm}


@ops
def get_public_key(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The public key (SubjectPublicKeyInfo, DER) for use outside.

    Errors: NotFoundException. UnsupportedOperationException - a symmetric or HMAC key has none. DisabledException.
    KMSInvalidStateException.
    """
    check_tokens(ctx, req.get("GrantTokens"))
    key = find(ctx, req["KeyId"])
    if not kinds.is_asymmetric(key.spec):
        raise unsupported(f"{key.arn} KeySpec is {key.spec} which is not valid for GetPublicKey.")
    check_state(ctx, key)
    found: dict[str, Any] = {
        "KeyId": key.arn,
        "PublicKey": public_bytes(private_key_of(ctx.cloud, key)),
        "KeySpec": key.spec,
        "KeyUsage": key.usage,
        **kinds.algorithms(key.spec, key.usage),
    }
    if key.spec in kinds.OLDER_SPECS:
        found["CustomerMasterKeySpec"] = key.spec
    return found


@ops
def derive_shared_secret(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The raw secret (x coordinate) that a key here and a peer's public key agree on, by ECDH.

    req: KeyId of an ECC key for KEY_AGREEMENT, KeyAgreementAlgorithm (ECDH), PublicKey (DER, on the same curve), DryRun.
    Errors: InvalidKeyUsageException. ValidationException - no public key, or of another curve. NotFoundException. DisabledException.
    """
    check_tokens(ctx, req.get("GrantTokens"))
    no_enclaves(req)
    key = find(ctx, req["KeyId"])
    check_usable(ctx, key, kinds.AGREE, "DeriveSharedSecret")
    private = private_key_of(ctx.cloud, key)
    try:
        peer = load_der_public_key(req["PublicKey"])
    except ValueError:
        raise validation("The public key is not a valid DER-encoded X.509 SubjectPublicKeyInfo.") from None
    if not isinstance(peer, ec.EllipticCurvePublicKey) or peer.curve.name != private.curve.name:
        raise validation(f"The public key is not on the curve of key spec {key.spec}.")
    if req.get("DryRun"):
        raise dry_run()
    secret = private.exchange(ec.ECDH(), peer)
    count(ctx, key, "DeriveSharedSecret")
    return {"KeyId": key.arn, "SharedSecret": secret, "KeyAgreementAlgorithm": "ECDH", "KeyOrigin": key.row["Origin"]}


# -- how --------------------------------------------------------------------------------------------------------------------


def _signing_key(ctx: Context, req: Mapping[str, Any], operation: str) -> tuple[Key, str]:
    check_tokens(ctx, req.get("GrantTokens"))
    key, algorithm = find(ctx, req["KeyId"]), req["SigningAlgorithm"]
    check_usable(ctx, key, kinds.SIGN, operation)
    if algorithm not in kinds.SIGNING[key.spec]:
        raise wrong_algorithm(key.spec, algorithm)
    return key, algorithm


def _check_message(algorithm: str, kind: str, message: bytes) -> None:
    if algorithm.startswith("ML_DSA"):
        if kind == "DIGEST":
            raise validation(f"MessageType {kind} is not valid for algorithm {algorithm}.")
        if kind == "EXTERNAL_MU" and len(message) != _MU_BYTES:
            raise validation(f"Digest is invalid length for algorithm {algorithm}.")
    elif kind == "EXTERNAL_MU" or (kind == "DIGEST" and algorithm.startswith("ED25519")):
        raise validation(f"MessageType {kind} is not valid for algorithm {algorithm}.")
    elif kind == "DIGEST" and len(message) != _hash_of(algorithm).digest_size:
        raise validation(f"Digest is invalid length for algorithm {algorithm}.")


def _hash_of(algorithm: str) -> hashes.HashAlgorithm:
    return _HASHES[algorithm[-3:]]


def _how(algorithm: str, kind: str) -> tuple[Any, ...]:
    """The further arguments of `sign` and `verify`."""
    if algorithm.startswith("ED25519"):
        return ()
    digest = _hash_of(algorithm)
    hashed: Any = Prehashed(digest) if kind == "DIGEST" else digest
    if algorithm.startswith("ECDSA"):
        return (ec.ECDSA(hashed),)
    if algorithm.startswith("RSASSA_PSS"):
        return padding.PSS(padding.MGF1(digest), digest.digest_size), hashed
    return padding.PKCS1v15(), hashed
