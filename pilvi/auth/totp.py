"""Time-based one-time passwords, as virtual MFA devices show them: six digits, new every thirty seconds, SHA-1.

Source: RFC 6238, RFC 4226 section 5.3; IAM User Guide, "Assign a virtual MFA device".
"""

from __future__ import annotations

import hashlib
import hmac

STEP_S = 30
DIGITS = 6
DRIFT = 1
"""Codes of this many steps before and after the present one are taken: clocks differ, and typing takes time."""
RESYNC_STEPS = 120
"""How far two codes in a row may lie from the present when a device is made known: an hour either way."""


def step_at(now_s: float) -> int:
    return int(now_s) // STEP_S


def code_of(seed: bytes, step: int) -> str:
    """What the device shows during a step."""
    digest = hmac.digest(seed, step.to_bytes(8, "big"), hashlib.sha1)
    offset = digest[-1] & 0xF
    number = int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFFFFFF
    return f"{number % 10**DIGITS:0{DIGITS}d}"


def step_of(seed: bytes, code: str, around: int, within: int = DRIFT) -> int | None:
    """The step near `around` in which the device shows this code."""
    for distance in range(within + 1):
        for step in (around - distance, around + distance):
            if hmac.compare_digest(code_of(seed, step).encode(), code.encode()):
                return step
    return None


def step_of_two(seed: bytes, first: str, second: str, around: int) -> int | None:
    """The step of the second of two codes in a row: what tells how far a device's clock is off."""
    for distance in range(RESYNC_STEPS + 1):
        for step in (around - distance, around + distance):
            if code_of(seed, step - 1) == first and code_of(seed, step) == second:
                return step
    return None
