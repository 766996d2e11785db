"""Passwords that nobody guesses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilvi.core.service import Context, Operations
from pilvi.services.secretsmanager.errors import invalid_parameter

ops = Operations()

_KINDS = {
    "ExcludeLowercase": "abcdefghijklmnopqrstuvwxyz",
    "ExcludeUppercase": "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "ExcludeNumbers": "0123456789",
    "ExcludePunctuation": "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~",
}
DEFAULT_LENGTH = 32


@ops
def get_random_password(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """A random password.

    req: PasswordLength (1-4096, default 32), Exclude... (kinds and single characters), IncludeSpace, RequireEachIncludedType (yes).
    Errors: InvalidParameterException - nothing is left to choose from, or it is too short for one of each kind.
    """
    excluded, length = set(req.get("ExcludeCharacters") or ""), req.get("PasswordLength") or DEFAULT_LENGTH
    kinds = [letters for member, letters in _KINDS.items() if not req.get(member)] + ([" "] if req.get("IncludeSpace") else [])
    kinds = ["".join(letter for letter in letters if letter not in excluded) for letters in kinds]
    needs_each = req.get("RequireEachIncludedType", True)
    if not any(kinds) or (needs_each and not all(kinds)):
        raise invalid_parameter("The characters that are left cannot make a password of every included type.")
    if needs_each and length < len(kinds):
        raise invalid_parameter(f"Password length {length} is too short: there are {len(kinds)} included types.")
    alphabet = "".join(kinds)
    while True:
        password = ctx.ids.pick(alphabet, length)
        if not needs_each or all(set(password) & set(letters) for letters in kinds):
            return {"RandomPassword": password}
