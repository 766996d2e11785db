"""Names for new things, in the forms AWS uses. Randomness arrives as an argument so that tests can repeat it."""

from __future__ import annotations

import itertools
import os
import uuid
from collections.abc import Callable

_BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"
_BASE64 = _BASE62 + "+/"


class Ids:
    """A source of identifiers; `entropy(n)` gives n random bytes."""

    def __init__(self, entropy: Callable[[int], bytes] = os.urandom) -> None:
        self._entropy = entropy
        base = entropy(8).hex()
        self._request_prefix = f"{base[:8]}-{base[8:12]}-4{base[13:16]}-8{base[9:12]}-"
        self._request_numbers = itertools.count(int.from_bytes(entropy(5), "big"))

    def request(self) -> str:
        """A request id: unique, in a UUID's form, made without asking the kernel for randomness each time."""
        return self._request_prefix + "%012x" % (next(self._request_numbers) & 0xFFFFFFFFFFFF)

    def pick(self, alphabet: str, length: int) -> str:
        """`length` characters of an alphabet whose size divides 256 or is close enough for a name."""
        size = len(alphabet)
        if 256 % size == 0:
            return "".join([alphabet[byte % size] for byte in self._entropy(length)])
        number = int.from_bytes(self._entropy(length + 8), "big")
        out = []
        for _ in range(length):
            number, rest = divmod(number, size)
            out.append(alphabet[rest])
        return "".join(out)

    def uuid(self) -> str:
        """A random UUID, as request ids and function revisions are."""
        return str(uuid.UUID(bytes=self._entropy(16), version=4))

    def hex(self, length: int) -> str:
        """Lower-case hexadecimal digits."""
        return self._entropy((length + 1) // 2).hex()[:length]

    def lower(self, length: int) -> str:
        """Lower-case letters and digits, as REST API ids are (10 of them)."""
        return self.pick(_BASE36, length)

    def iam(self, prefix: str) -> str:
        """An IAM unique id: AKIA, ASIA, AIDA, AROA, ANPA, AGPA followed by 16 characters of base 32.

        Source: IAM User Guide, "IAM identifiers", unique identifiers.
        """
        return prefix + self.pick(_BASE32, 16)

    def secret(self) -> str:
        """A secret access key: 40 characters of base 64."""
        return self.pick(_BASE64, 40)
