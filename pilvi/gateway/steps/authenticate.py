"""Is the caller who they say? Finds the key's owner and verifies the signature over what was sent."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

from pilvi.auth.chunked import decoded, hashed
from pilvi.auth.errors import AuthError
from pilvi.auth.sigv4 import verify
from pilvi.core.principal import ANONYMOUS

if TYPE_CHECKING:
    from pilvi.gateway.app import Gateway
    from pilvi.gateway.call import Call


def authenticate(gateway: Gateway, call: Call) -> None:
    claim, match = call.claim, call.match
    assert match is not None
    if claim is None:
        call.principal = ANONYMOUS
        if match.service != "s3" and not (match.operation is not None and match.operation.is_unsigned):
            raise AuthError("missing_token")
        return
    identity = gateway.identities.find(claim.access_key_id, claim.session_token)
    if identity is None:
        if gateway.config.auth != "open":
            raise AuthError("unknown_key" if not claim.session_token else "bad_token", access_key_id=claim.access_key_id)
        account = claim.access_key_id if is_account(claim.access_key_id) else gateway.config.account
        call.principal = replace(gateway.identities.root(account), access_key_id=claim.access_key_id)
        call.request.body = decoded(call.request.body, call.request, claim, None)
        return
    now = gateway.clock.now()
    declared = call.request.headers.get("x-amz-content-sha256")
    body_hash = hashlib.sha256(call.body).hexdigest() if call.body is not None and declared is None else None
    verify(claim, call.request, identity.secret, now=now, body_hash=body_hash)
    if identity.expires is not None and identity.expires <= now:
        raise AuthError("expired_token")
    call.identity = identity
    call.principal = identity.principal
    if declared is not None:
        trust_body(call, declared, identity.secret)


def trust_body(call: Call, declared: str, secret: str) -> None:
    """The signature covers the declared hash; see that the body keeps that promise."""
    assert call.claim is not None
    if declared.startswith("STREAMING-"):
        call.request.body = decoded(call.request.body, call.request, call.claim, secret)
    elif declared != "UNSIGNED-PAYLOAD":
        if call.body is None:
            call.request.body = hashed(call.request.body, declared)
        elif hashlib.sha256(call.body).hexdigest() != declared:
            raise AuthError("payload_mismatch")


def is_account(text: str) -> bool:
    return len(text) == 12 and text.isdigit()
