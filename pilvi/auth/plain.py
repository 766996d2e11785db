"""Signature Version 4 of a plain request to S3: signed in its header, without a query string, nothing rare about it.

    scope_of(header) -> Scope, signature         what a client sends with every request of one day is taken apart once
    is_signed(...)                               whether the secret signed exactly this request, recently enough

Says yes only where `sigv4.verify` accepts the same request; a no says nothing: whoever hears it asks `sigv4`, which knows every
other way to sign, and words the error. Nothing that was verified is remembered: each request's signature is computed.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from typing import Final

from pilvi.auth import canonical
from pilvi.auth.errors import AuthError
from pilvi.auth.region import known_region
from pilvi.auth.sigv4 import MAX_SKEW_S, scope_parts

_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_LAST: Final = "Signature="
_SIGNATURE_CHARACTERS: Final = 64


class Scope:
    """The part of an Authorization header that is the same for all requests of a client on one day. Never changed."""

    __slots__ = ("date", "is_sound", "key_id", "names", "region", "signed_names", "text")

    def __init__(self, key_id: str, date: str, region: str, service: str, names: tuple[str, ...]) -> None:
        self.key_id = key_id
        self.date = date
        self.region = region
        self.names = names
        self.signed_names = ";".join(names)
        self.text = f"{date}/{region}/{service}/aws4_request"
        self.is_sound = service == "s3" and "host" in names and known_region(region)
        """Signed for S3, in a Region that there is, and the host is signed."""


@lru_cache(maxsize=1024)
def _scope(head: str) -> Scope | None:
    if not head.isprintable():
        return None
    try:
        return Scope(*scope_parts(head))
    except AuthError:
        return None


def scope_of(header: str) -> tuple[Scope, str] | None:
    """An Authorization header's scope and signature; None unless it has the form that clients send."""
    head, last, signature = header.rpartition(_LAST)
    if not last or len(signature) != _SIGNATURE_CHARACTERS or not header.startswith(_ALGORITHM):
        return None
    scope = _scope(head)
    return (scope, signature) if scope is not None and scope.is_sound else None


def is_signed(
    scope: Scope, signature: str, method: str, path: str, headers: Mapping[str, str], payload: str, secret: str, now_s: float
) -> bool:
    """headers: names in lower case, no two alike. payload: what stands for the body, which the caller has compared with the body."""
    timestamp = headers.get("x-amz-date", "")
    signed_s = canonical.seconds_of(timestamp)
    if signed_s is None or timestamp[:8] != scope.date or abs(signed_s - now_s) > MAX_SKEW_S:
        return False
    names = scope.names
    for name in headers:
        if name[:6] == "x-amz-" and name not in names:
            return False
    lines = "".join([f"{name}:{headers.get(name, '')}\n" for name in names])
    if "  " in lines or ": " in lines or " \n" in lines or "\t" in lines:
        return False  # white space that the canonical form folds
    text = f"{method}\n{canonical.s3_path(path)}\n\n{lines}\n{scope.signed_names}\n{payload}"
    digest = sha256(canonical.wire_bytes(text)).hexdigest()
    to_sign = f"{_ALGORITHM}\n{timestamp}\n{scope.text}\n{digest}"
    key = canonical.signing_key(secret, scope.date, scope.region, "s3")
    return canonical.same(canonical.mac(key, to_sign.encode()).hex(), signature)
