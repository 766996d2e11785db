"""Imported material: keys whose bytes come from outside, wrapped under a public key that KMS gives for a day.

The import token carries the private half, sealed by the server's keyring for this one key: nothing waits in the store, and a token
works after a restart too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap_with_padding
from cryptography.hazmat.primitives.serialization import load_der_private_key

from pilvi.core.errors import Conflict, Invalid, ServiceError
from pilvi.core.service import Context, Operations
from pilvi.services.kms import spec as kinds
from pilvi.services.kms.errors import invalid_ciphertext, invalid_state, unsupported, validation
from pilvi.services.kms.keys import Key, Row, check_changeable, find
from pilvi.services.kms.material import fits, new_version, private_bytes, public_bytes
from pilvi.storage.records import Change, Update

ops = Operations()

TOKEN_LIFE: Final = timedelta(hours=24)
LONGEST_DAYS: Final = 365
_EXPIRES: Final = "KEY_MATERIAL_EXPIRES"
_WRAPS: Final = ("RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256", "RSA_AES_KEY_WRAP_SHA_1", "RSA_AES_KEY_WRAP_SHA_256")


@ops
def get_parameters_for_import(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """A public key to wrap material with, and the token that must come with it; both for 24 hours.

    req: KeyId of a key of origin EXTERNAL, WrappingAlgorithm (RSAES_OAEP or RSA_AES_KEY_WRAP, SHA-1 or SHA-256), WrappingKeySpec.
    Errors: UnsupportedOperationException - another origin, or an algorithm AWS no longer takes (RSAES_PKCS1_V1_5) or this Region
    does not have (SM2). NotFoundException. KMSInvalidStateException.
    """
    key = _external(ctx, req)
    check_changeable(ctx, key, key.row)
    algorithm, spec = req["WrappingAlgorithm"], req["WrappingKeySpec"]
    if algorithm not in _WRAPS or spec not in kinds.RSA_BITS:
        raise unsupported(f"WrappingAlgorithm {algorithm} with WrappingKeySpec {spec} is not supported.")
    if kinds.is_asymmetric(key.spec) and key.spec in kinds.RSA_BITS and not algorithm.startswith("RSA_AES"):
        raise unsupported(f"WrappingAlgorithm {algorithm} cannot wrap key material of KeySpec {key.spec}.")
    private = rsa.generate_private_key(65537, kinds.RSA_BITS[spec])
    valid_to = ctx.clock.now() + TOKEN_LIFE
    head = json.dumps({"key": key.arn, "algorithm": algorithm, "until": valid_to.timestamp()}).encode()
    token = ctx.keyring.seal(len(head).to_bytes(2, "big") + head + private_bytes(private), b"kms import token")
    return {"KeyId": key.arn, "ImportToken": token, "PublicKey": public_bytes(private), "ParametersValidTo": valid_to}


@ops
def import_key_material(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give a key its material, give it back what was deleted or has expired, or bring new material for a rotation.

    req: ImportToken, EncryptedKeyMaterial, ExpirationModel (KEY_MATERIAL_EXPIRES with ValidTo, at most 365 days ahead, or
    KEY_MATERIAL_DOES_NOT_EXPIRE), ImportType, KeyMaterialDescription, KeyMaterialId.
    Errors: InvalidImportTokenException - of another key, or none. ExpiredImportTokenException. InvalidCiphertextException - it does
    not unwrap. IncorrectKeyMaterialException - not of the key's kind, or not what was there before. ValidationException.
    KMSInvalidStateException. UnsupportedOperationException. NotFoundException.
    """
    key = _external(ctx, req)
    check_changeable(ctx, key, key.row)
    valid_to = _valid_to(ctx, req)
    material = _unwrapped(ctx, key, req)
    if not fits(key.spec, material):
        raise _incorrect()
    while True:
        shared, row = ctx.records("Material", region="").row(key.id), ctx.records("Key").row(key.id)
        assert shared is not None
        assert row is not None
        version = new_version(ctx.keyring, key.account, key.id, material, ctx.clock.now())
        if req.get("KeyMaterialDescription"):
            version["description"] = req["KeyMaterialDescription"]
        value = row.value | {"_imported": row.value["_imported"] | {version["id"]: valid_to}}
        changes = [
            Update(ctx.records("Material", region="").table, key.id, _placed(key, shared.value, version, req), shared.version),
            Update(ctx.records("Key").table, key.id, value, row.version),
        ]
        try:
            ctx.write(*changes)
        except Conflict:
            continue
        return {"KeyId": key.arn, "KeyMaterialId": version["id"]}


@ops
def delete_imported_key_material(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Erase imported material: the key cannot be used until the same bytes are imported again.

    req: KeyId, KeyMaterialId (default: what is in use).
    Errors: UnsupportedOperationException - another origin. NotFoundException. KMSInvalidStateException.
    """
    key = _external(ctx, req)
    check_changeable(ctx, key, key.row)
    material_id = req.get("KeyMaterialId") or key.shared["current"]
    if req.get("KeyMaterialId") and key.version(material_id) is None:
        raise ServiceError("NotFoundException", f"Key material {material_id} of {key.arn} does not exist")
    erase(ctx, key, [material_id])
    return {"KeyId": key.arn, "KeyMaterialId": material_id}


# -- for the other nouns --------------------------------------------------------------------------------------------------


def erase(ctx: Context, key: Key, material_ids: list[str], *more: Change) -> None:
    """Forget versions in this Region; their bytes go with the last Region that has them. The ids stay: only the same may come back.

    more: written in the same transaction."""
    materials, keys = (
        ctx.records("Material", account=key.account, region=""),
        ctx.records("Key", account=key.account, region=key.region),
    )
    while True:
        shared, row = materials.row(key.id), keys.row(key.id)
        if shared is None or row is None:
            return
        others = [region for region in (shared.value["primary"], *shared.value["replicas"]) if region != key.region]
        elsewhere = [ctx.records("Key", account=key.account, region=region).find(key.id) or {} for region in others]
        kept = {id for other in elsewhere for id in other.get("_imported", {})}
        versions = [
            version | {"sealed": b""} if version["id"] in material_ids and version["id"] not in kept else version
            for version in shared.value["materials"]
        ]
        imported = {id: until for id, until in row.value["_imported"].items() if id not in material_ids}
        try:
            ctx.write(
                Update(materials.table, key.id, shared.value | {"materials": versions}, shared.version),
                Update(keys.table, key.id, row.value | {"_imported": imported}, row.version),
                *more,
            )
        except Conflict:
            continue
        return


def _external(ctx: Context, req: Mapping[str, Any]) -> Key:
    key = find(ctx, req["KeyId"], aliases=False)
    if not key.is_external:
        raise unsupported(f"{key.arn} origin is {key.row['Origin']} which is not valid for this operation.")
    return key


def _placed(key: Key, shared: Row, version: Row, req: Mapping[str, Any]) -> Row:
    """The material with one more version, or with one that was there before."""
    kind, wanted = req.get("ImportType"), req.get("KeyMaterialId")
    if wanted and wanted != version["id"]:
        raise _incorrect()
    known = {there["id"]: there for there in shared["materials"]}
    if version["id"] in known:
        if kind == "NEW_KEY_MATERIAL" and known[version["id"]].get("state") != "PENDING":
            raise _incorrect()
        again = known[version["id"]] | {"sealed": version["sealed"]}
        return shared | {"materials": [again if there["id"] == version["id"] else there for there in shared["materials"]]}
    if not known:
        return shared | {"materials": [version], "current": version["id"]}
    if kind != "NEW_KEY_MATERIAL":
        raise _incorrect()
    if key.spec != kinds.SYMMETRIC:
        raise unsupported(f"{key.arn} KeySpec is {key.spec}: new key material can be imported into symmetric encryption keys only.")
    if key.shared["primary"] != key.region or any(there.get("state") == "PENDING" for there in shared["materials"]):
        raise invalid_state(key.arn, "pending rotation of key material that was imported before, or a replica key")
    return shared | {"materials": [*shared["materials"], version | {"state": "PENDING"}]}


def _unwrapped(ctx: Context, key: Key, req: Mapping[str, Any]) -> bytes:
    try:
        body = ctx.keyring.unseal(req["ImportToken"], b"kms import token")
    except Invalid:
        raise ServiceError("InvalidImportTokenException", "") from None
    size = int.from_bytes(body[:2], "big")
    head = json.loads(body[2 : 2 + size])
    if head["key"] != key.arn:
        raise ServiceError("InvalidImportTokenException", "")
    if head["until"] <= ctx.clock.time_s():
        raise ServiceError("ExpiredImportTokenException", "")
    private: Any = load_der_private_key(body[2 + size :], None)
    algorithm, wrapped = head["algorithm"], req["EncryptedKeyMaterial"]
    digest: hashes.HashAlgorithm = hashes.SHA1() if algorithm.endswith("SHA_1") else hashes.SHA256()
    oaep = padding.OAEP(padding.MGF1(digest), digest, None)
    try:
        if algorithm.startswith("RSAES"):
            return bytes(private.decrypt(wrapped, oaep))
        cut = private.key_size // 8
        return bytes(aes_key_unwrap_with_padding(private.decrypt(wrapped[:cut], oaep), wrapped[cut:]))
    except (ValueError, InvalidUnwrap):
        raise invalid_ciphertext() from None


def _valid_to(ctx: Context, req: Mapping[str, Any]) -> datetime | None:
    valid_to: datetime | None = req.get("ValidTo")
    if (req.get("ExpirationModel") or _EXPIRES) != _EXPIRES:
        if valid_to is not None:
            raise validation("A validTo date must not be set if the ExpirationModel is KEY_MATERIAL_DOES_NOT_EXPIRE")
        return None
    if valid_to is None:
        raise validation("A validTo date must be set if the ExpirationModel is KEY_MATERIAL_EXPIRES")
    valid_to, now = valid_to.astimezone(UTC), ctx.clock.now()
    if not now < valid_to <= now + timedelta(days=LONGEST_DAYS):
        raise validation(f"The validTo date must be in the future, and at most {LONGEST_DAYS} days from now.")
    return valid_to


def _incorrect() -> ServiceError:
    return ServiceError("IncorrectKeyMaterialException", "")
