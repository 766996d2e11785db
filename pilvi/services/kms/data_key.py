"""Data keys: fresh keys for use outside KMS, with the same sealed under a key here. What envelope encryption is made of."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Any

from pilvi.core.service import Context, Operations
from pilvi.services.kms import ciphertext
from pilvi.services.kms import spec as kinds
from pilvi.services.kms.encryption import no_enclaves
from pilvi.services.kms.errors import dry_run, validation, wrong_usage
from pilvi.services.kms.grants import check_tokens
from pilvi.services.kms.keys import Key, check_state, current_material, find_or_begin
from pilvi.services.kms.material import new_private_key, private_bytes, public_bytes
from pilvi.services.kms.usage import count

ops = Operations(on_loop=True)

_BYTES = {"AES_256": 32, "AES_128": 16}


@ops
async def generate_data_key(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """A fresh symmetric key, plain and sealed.

    req: KeyId of a symmetric key, exactly one of KeySpec (AES_256, AES_128) and NumberOfBytes (1-1024), EncryptionContext.
    Errors: ValidationException - both or neither. NotFoundException. DisabledException. KMSInvalidStateException.
    InvalidKeyUsageException - not a symmetric encryption key. DryRunOperationException.
    """
    no_enclaves(req)
    key = await _sealing_key(ctx, req, "GenerateDataKey")
    plain = os.urandom(_size(req))
    blob, material_id = _sealed(ctx, key, plain, req)
    count(ctx, key, "GenerateDataKey")
    return {"CiphertextBlob": blob, "Plaintext": plain, "KeyId": key.arn, "KeyMaterialId": material_id}


@ops
async def generate_data_key_without_plaintext(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """A fresh symmetric key, sealed only: for those who will need it later.

    req: KeyId, KeySpec (AES_256 when neither is said) or NumberOfBytes, EncryptionContext.
    Errors: as GenerateDataKey.
    """
    key = await _sealing_key(ctx, req, "GenerateDataKeyWithoutPlaintext")
    wanted = req if req.get("KeySpec") or req.get("NumberOfBytes") else {"KeySpec": "AES_256"}
    blob, material_id = _sealed(ctx, key, os.urandom(_size(wanted)), req)
    count(ctx, key, "GenerateDataKeyWithoutPlaintext")
    return {"CiphertextBlob": blob, "KeyId": key.arn, "KeyMaterialId": material_id}


@ops
async def generate_data_key_pair(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """A fresh key pair: the public key, and the private one plain and sealed.

    req: KeyId of a symmetric key, KeyPairSpec (RSA_2048-4096, ECC), EncryptionContext.
    Errors: as GenerateDataKey. UnsupportedOperationException - SM2.
    """
    no_enclaves(req)
    pair, key = await _pair(ctx, req, "GenerateDataKeyPair")
    plain = private_bytes(pair)
    blob, material_id = _sealed(ctx, key, plain, req)
    count(ctx, key, "GenerateDataKeyPair", req["KeyPairSpec"])
    return _pair_answer(req, key, pair, blob, material_id) | {"PrivateKeyPlaintext": plain}


@ops
async def generate_data_key_pair_without_plaintext(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """A fresh key pair: the public key, and the private one sealed only.

    Errors: as GenerateDataKeyPair.
    """
    pair, key = await _pair(ctx, req, "GenerateDataKeyPairWithoutPlaintext")
    blob, material_id = _sealed(ctx, key, private_bytes(pair), req)
    count(ctx, key, "GenerateDataKeyPairWithoutPlaintext", req["KeyPairSpec"])
    return _pair_answer(req, key, pair, blob, material_id)


@ops
async def generate_random(_ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Random bytes.

    req: NumberOfBytes (1-1024).
    Errors: ValidationException - how many is not said.
    """
    no_enclaves(req)
    if not req.get("NumberOfBytes"):
        raise validation("NumberOfBytes is required.")
    return {"Plaintext": os.urandom(req["NumberOfBytes"])}


# -- what they share --------------------------------------------------------------------------------------------------------


async def _sealing_key(ctx: Context, req: Mapping[str, Any], operation: str) -> Key:
    check_tokens(ctx, req.get("GrantTokens"))
    key = await find_or_begin(ctx, req["KeyId"])
    check_state(ctx, key)
    if key.spec != kinds.SYMMETRIC:
        raise wrong_usage(key.arn, key.usage, operation)
    return key


def _sealed(ctx: Context, key: Key, plain: bytes, req: Mapping[str, Any]) -> tuple[bytes, str]:
    if req.get("DryRun"):
        raise dry_run()
    material_id, material = current_material(ctx.cloud, key)
    return ciphertext.seal(key.account, key.id, material_id, material, plain, req.get("EncryptionContext")), material_id


def _size(req: Mapping[str, Any]) -> int:
    spec, size = req.get("KeySpec"), req.get("NumberOfBytes")
    if bool(spec) == bool(size):
        raise validation("Please specify either number of bytes or key spec.")
    return _BYTES[spec] if spec else int(size or 0)


async def _pair(ctx: Context, req: Mapping[str, Any], operation: str) -> tuple[Any, Key]:
    key = await _sealing_key(ctx, req, operation)
    spec = req["KeyPairSpec"]
    if spec not in kinds.SIGNING:
        raise validation(f"KeyPairSpec {spec} is not supported in this Region.")
    return await asyncio.to_thread(new_private_key, spec), key


def _pair_answer(req: Mapping[str, Any], key: Key, pair: Any, blob: bytes, material_id: str) -> dict[str, Any]:
    return {
        "PrivateKeyCiphertextBlob": blob,
        "PublicKey": public_bytes(pair),
        "KeyId": key.arn,
        "KeyPairSpec": req["KeyPairSpec"],
        "KeyMaterialId": material_id,
    }
