"""Encrypting small things under a key, and opening them again. On the event loop: symmetric work takes microseconds."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from pilvi.core.errors import ServiceError
from pilvi.core.service import Context, Operations
from pilvi.services.kms import ciphertext
from pilvi.services.kms import spec as kinds
from pilvi.services.kms.access import place_in
from pilvi.services.kms.errors import dry_run, incorrect_key, invalid_ciphertext, no_key, unknown_ciphertext_key, validation
from pilvi.services.kms.errors import wrong_algorithm as wrong_algorithm_error
from pilvi.services.kms.grants import check_tokens
from pilvi.services.kms.keys import (
    Key,
    check_state,
    check_usable,
    current_material,
    find_or_begin,
    is_present,
    look,
    material_of,
    private_key_of,
)
from pilvi.services.kms.usage import count

ops = Operations(on_loop=True)

OAEP_SHA_1 = "RSAES_OAEP_SHA_1"


@ops
async def encrypt(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Encrypt up to 4 KiB under a key.

    req: KeyId (id, ARN, alias), Plaintext (1-4096 bytes; less with RSA), EncryptionContext (symmetric keys only),
    EncryptionAlgorithm, GrantTokens, DryRun.
    Errors: NotFoundException. DisabledException. KMSInvalidStateException. InvalidKeyUsageException - not a key for encryption, or
    not with this algorithm. ValidationException - longer than the RSA key can take. DryRunOperationException.
    """
    check_tokens(ctx, req.get("GrantTokens"))
    key = await find_or_begin(ctx, req["KeyId"])
    check_usable(ctx, key, kinds.ENCRYPT, "Encrypt")
    blob = await _seal(
        ctx, key, req.get("EncryptionAlgorithm"), req["Plaintext"], req.get("EncryptionContext"), bool(req.get("DryRun"))
    )
    count(ctx, key, "Encrypt")
    return {"CiphertextBlob": blob, "KeyId": key.arn, "EncryptionAlgorithm": req.get("EncryptionAlgorithm") or kinds.SYMMETRIC}


@ops
async def decrypt(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Open what Encrypt or GenerateDataKey gave, by whichever version of the key's material sealed it.

    req: CiphertextBlob, EncryptionContext (as when it was encrypted), KeyId (must be named for RSA keys), EncryptionAlgorithm.
    Errors: InvalidCiphertextException - altered, no ciphertext, or another encryption context. IncorrectKeyException - another
    key sealed it. NotFoundException. DisabledException. KMSInvalidStateException. AccessDeniedException - its key is unknown here.
    """
    check_tokens(ctx, req.get("GrantTokens"))
    no_enclaves(req)
    key = _opening_key(ctx, req.get("KeyId"), _blob(req, req.get("KeyId")))
    if not req.get("CiphertextBlob"):
        raise dry_run()
    algorithm = req.get("EncryptionAlgorithm") or kinds.SYMMETRIC
    plain, material_id = await _open(
        ctx, key, algorithm, req["CiphertextBlob"], req.get("EncryptionContext"), bool(req.get("DryRun"))
    )
    count(ctx, key, "Decrypt")
    return {"KeyId": key.arn, "Plaintext": plain, "EncryptionAlgorithm": algorithm, "KeyMaterialId": material_id or None}


@ops
async def re_encrypt(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Open under one key and encrypt under another (or anew under the same) without showing the plaintext to anybody.

    Errors: those of Decrypt for the source, those of Encrypt for the destination.
    """
    check_tokens(ctx, req.get("GrantTokens"))
    is_dry = bool(req.get("DryRun"))
    source = _opening_key(ctx, req.get("SourceKeyId"), _blob(req, req.get("SourceKeyId")))
    algorithm = req.get("SourceEncryptionAlgorithm") or kinds.SYMMETRIC
    target = await find_or_begin(ctx, req["DestinationKeyId"])
    check_usable(ctx, target, kinds.ENCRYPT, "ReEncryptTo")
    if not req.get("CiphertextBlob"):
        raise dry_run()
    plain, source_material = await _open(ctx, source, algorithm, req["CiphertextBlob"], req.get("SourceEncryptionContext"), False)
    to = req.get("DestinationEncryptionAlgorithm")
    blob = await _seal(ctx, target, to, plain, req.get("DestinationEncryptionContext"), is_dry)
    count(ctx, source, "ReEncrypt")
    count(ctx, target, "ReEncrypt")
    return {
        "CiphertextBlob": blob,
        "SourceKeyId": source.arn,
        "KeyId": target.arn,
        "SourceEncryptionAlgorithm": algorithm,
        "DestinationEncryptionAlgorithm": to or kinds.SYMMETRIC,
        "SourceKeyMaterialId": source_material or None,
        "DestinationKeyMaterialId": target.shared["current"] if target.spec == kinds.SYMMETRIC else None,
    }


# -- sealing ----------------------------------------------------------------------------------------------------------------


async def _seal(
    ctx: Context, key: Key, algorithm: str | None, plain: bytes, context: Mapping[str, str] | None, is_dry: bool
) -> bytes:
    wanted = algorithm or kinds.SYMMETRIC
    _check_algorithm(key, wanted)
    if key.spec == kinds.SYMMETRIC:
        if is_dry:
            raise dry_run()
        material_id, material = current_material(ctx.cloud, key)
        return ciphertext.seal(key.account, key.id, material_id, material, plain, context)
    _no_context(context)
    most = kinds.RSA_BITS[key.spec] // 8 - (42 if wanted == OAEP_SHA_1 else 66)
    if len(plain) > most:
        raise validation(f"Algorithm {wanted} and key spec {key.spec} cannot encrypt data larger than {most} bytes.")
    if is_dry:
        raise dry_run()
    private = private_key_of(ctx.cloud, key)
    return bytes(await asyncio.to_thread(private.public_key().encrypt, plain, _oaep(wanted)))


async def _open(
    ctx: Context, key: Key, algorithm: str, blob: bytes, context: Mapping[str, str] | None, is_dry: bool
) -> tuple[bytes, str]:
    """The plaintext and the id of the material that opened it ('' for RSA)."""
    if key.spec == kinds.SYMMETRIC:
        _check_algorithm(key, algorithm)
        version = key.version(ciphertext.head_of(blob).material)
        if version is None:
            raise invalid_ciphertext()
        if key.is_external and not is_present(key.row, version["id"], ctx.clock.now()):
            raise ServiceError("KMSInvalidStateException", f"{key.arn} is pending import.")
        plain, material_id = ciphertext.unseal(material_of(ctx.cloud, key, version), blob, context), str(version["id"])
    else:
        _check_algorithm(key, algorithm)
        _no_context(context)
        private = private_key_of(ctx.cloud, key)
        try:
            plain, material_id = await asyncio.to_thread(private.decrypt, blob, _oaep(algorithm)), ""
        except ValueError:
            raise invalid_ciphertext() from None
    if is_dry:
        raise dry_run()
    return plain, material_id


def _blob(req: Mapping[str, Any], key_id: str | None) -> bytes | None:
    """What is to be opened; None for a dry run that asks for the key's sake only (IGNORE_CIPHERTEXT)."""
    if "IGNORE_CIPHERTEXT" not in (req.get("DryRunModifiers") or ()):
        if not req.get("CiphertextBlob"):
            raise validation("CiphertextBlob is required.")
        return bytes(req["CiphertextBlob"])
    if not req.get("DryRun") or not key_id or req.get("CiphertextBlob"):
        raise validation("IGNORE_CIPHERTEXT is valid for dry runs that name a key and no ciphertext.")
    return None


def _opening_key(ctx: Context, key_id: str | None, blob: bytes | None) -> Key:
    """The key that is to open a blob, fit for use."""
    place = place_in(ctx, key_id, blob)
    if place is None:
        raise invalid_ciphertext()
    key = look(ctx.cloud, place.account, place.region, place.key_id)
    if key is None:
        raise no_key(place.arn) if key_id else unknown_ciphertext_key()
    if key.usage != kinds.ENCRYPT:
        raise incorrect_key()
    if key_id and key.spec == kinds.SYMMETRIC and blob is not None:
        head = ciphertext.head_of(blob)
        if (head.account, head.key_id) != (key.account, key.id):
            raise incorrect_key()
    check_state(ctx, key)
    return key


def _check_algorithm(key: Key, algorithm: str) -> None:
    allowed = kinds.algorithms(key.spec, key.usage)["EncryptionAlgorithms"]
    if algorithm not in allowed:
        raise wrong_algorithm_error(key.spec, algorithm)


def _no_context(context: Mapping[str, str] | None) -> None:
    if context:
        raise validation("EncryptionContext is not supported for asymmetric keys.")


def no_enclaves(req: Mapping[str, Any]) -> None:
    if req.get("Recipient"):
        raise ServiceError("NotImplemented", "Answers for Nitro enclaves (Recipient) are not built into this cloud.", 501)


def _oaep(algorithm: str) -> padding.OAEP:
    digest: hashes.HashAlgorithm = hashes.SHA1() if algorithm == OAEP_SHA_1 else hashes.SHA256()
    return padding.OAEP(padding.MGF1(digest), digest, None)
