"""Is the caller who they say? Finds the key's owner and verifies the signature over what was sent."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

from pilvi.auth.chunked import decoded, hashed
from pilvi.auth.claim import UNSIGNED_PAYLOAD
from pilvi.auth.errors import AuthError
from pilvi.auth.sigv4 import verify
from pilvi.core.principal import ANONYMOUS

if TYPE_CHECKING:
    from pilvi.auth.claim import Claim
    from pilvi.gateway.app import Gateway
    from pilvi.gateway.call import Call


def authenticate(gateway: Gateway, call: Call) -> None:
    claim, match = call.claim, call.match
    assert match is not None
    if claim is None:
        call.principal = ANONYMOUS
        if match.service != "s3" and not (match.operation is not None and match.operation.is_unsigned):
            raise AuthError("missing_token")
        if call.body is None:
            call.request.body = decoded(call.request.body, call.request, None, None)
        return
    is_express = claim.service == "s3express" and match.service == "s3"  # paths of S3 Control are reached under that name too
    identity = gateway.identities.find(claim.access_key_id, claim.session_token, is_express)
    if identity is None:
        if gateway.config.auth != "open":
            raise AuthError("unknown_key" if not claim.session_token else "bad_token", access_key_id=claim.access_key_id)
        account = claim.access_key_id if is_account(claim.access_key_id) else gateway.config.account
        call.principal = replace(gateway.identities.root(account), access_key_id=claim.access_key_id)
        if call.body is None and claim.streaming:
            call.request.body = decoded(call.request.body, call.request, claim, None)
        return
    now = gateway.clock.real_now()
    body_hash = None if call.body is None else hashlib.sha256(call.body).hexdigest()
    host_bucket = match.path_params.get("Bucket", "") if not claim.region else ""
    verify(claim, call.request, identity.secret, now=now, body_hash=body_hash, host_bucket=host_bucket)
    if identity.expires is not None and identity.expires <= now:
        raise AuthError("expired_token")
    call.identity = identity
    call.principal = identity.principal
    if call.body is None:
        trust_body(call, claim, identity.secret)


def trust_body(call: Call, claim: Claim, secret: str) -> None:
    """The signature covers what the head declares of the body; see that the body keeps that promise while it is read."""
    if claim.streaming:
        call.request.body = decoded(call.request.body, call.request, claim, secret)
    elif claim.payload_hash and claim.payload_hash != UNSIGNED_PAYLOAD:
        call.request.body = hashed(call.request.body, claim.payload_hash)


def is_account(text: str) -> bool:
    return len(text) == 12 and text.isdigit()
