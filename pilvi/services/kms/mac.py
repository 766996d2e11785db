"""Message authentication codes by HMAC keys."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Any

from pilvi.core.errors import ServiceError
from pilvi.core.service import Context, Operations
from pilvi.services.kms import spec as kinds
from pilvi.services.kms.errors import dry_run, wrong_algorithm
from pilvi.services.kms.grants import check_tokens
from pilvi.services.kms.keys import Key, check_usable, current_material, find
from pilvi.services.kms.usage import count

ops = Operations(on_loop=True)


@ops
async def generate_mac(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """The code of a message (1-4096 bytes).

    Errors: NotFoundException. DisabledException. KMSInvalidStateException. InvalidKeyUsageException - no HMAC key, or of another
    length. DryRunOperationException.
    """
    key = _mac_key(ctx, req, "GenerateMac")
    if req.get("DryRun"):
        raise dry_run()
    mac = _mac(ctx, key, req)
    count(ctx, key, "GenerateMac")
    return {"Mac": mac, "MacAlgorithm": req["MacAlgorithm"], "KeyId": key.arn}


@ops
async def verify_mac(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Check a code.

    Errors: those of GenerateMac. KMSInvalidMacException - it is not this message's.
    """
    key = _mac_key(ctx, req, "VerifyMac")
    if req.get("DryRun"):
        raise dry_run()
    if not hmac.compare_digest(_mac(ctx, key, req), req["Mac"]):
        raise ServiceError("KMSInvalidMacException", "")
    count(ctx, key, "VerifyMac")
    return {"KeyId": key.arn, "MacValid": True, "MacAlgorithm": req["MacAlgorithm"]}


def _mac_key(ctx: Context, req: Mapping[str, Any], operation: str) -> Key:
    check_tokens(ctx, req.get("GrantTokens"))
    key = find(ctx, req["KeyId"])
    check_usable(ctx, key, kinds.MAC, operation)
    if req["MacAlgorithm"] not in kinds.algorithms(key.spec, key.usage)["MacAlgorithms"]:
        raise wrong_algorithm(key.spec, req["MacAlgorithm"])
    return key


def _mac(ctx: Context, key: Key, req: Mapping[str, Any]) -> bytes:
    _, material = current_material(ctx.cloud, key)
    return hmac.digest(material, req["Message"], req["MacAlgorithm"].replace("HMAC_SHA_", "sha"))
