"""What S3 calls public: whether a bucket policy grants something to everyone.

Source: Amazon S3 User Guide, "Blocking public access to your Amazon S3 storage", The meaning of "public".
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

NARROWING_KEYS = frozenset(
    {
        "aws:principalorgid",
        "aws:principalorgpaths",
        "aws:principalaccount",
        "aws:principalarn",
        "aws:sourcearn",
        "aws:sourceaccount",
        "aws:sourceowner",
        "aws:sourcevpc",
        "aws:sourcevpce",
        "aws:userid",
        "aws:username",
        "aws:sourceorgid",
        "s3:dataaccesspointarn",
        "s3:dataaccesspointaccount",
        "s3:x-amz-server-side-encryption-aws-kms-key-id",
    }
)
"""Condition keys that, with a fixed value, make a grant to everyone a grant to somebody."""

NARROWING_OPERATORS = ("stringequals", "stringlike", "arnequals", "arnlike")


def is_public_policy(policy: Mapping[str, Any]) -> bool:
    """Whether any Allow statement lets everyone in."""
    return any(is_public_statement(statement) for statement in as_list(policy.get("Statement", [])))


def is_public_statement(statement: Mapping[str, Any]) -> bool:
    if statement.get("Effect") != "Allow":
        return False
    if "NotPrincipal" not in statement and not names_everyone(statement.get("Principal")):
        return False
    return not any(narrows(operator, keys) for operator, keys in statement.get("Condition", {}).items())


def names_everyone(principal: Any) -> bool:
    if isinstance(principal, Mapping):
        return any("*" in as_list(value) for value in principal.values())
    return bool(principal == "*")


def narrows(operator: str, keys: Mapping[str, Any]) -> bool:
    """Whether a condition leaves only a fixed set of callers."""
    quantifier, _, kind = operator.lower().rpartition(":")
    if quantifier == "forallvalues":  # holds for requests without the key as well
        return False
    if kind == "ipaddress":
        return any(
            name.lower() == "aws:sourceip" and all(is_narrow_network(ip) for ip in as_list(value)) for name, value in keys.items()
        )
    if not kind.startswith(NARROWING_OPERATORS) or kind.endswith("ifexists"):
        return False
    return any(name.lower() in NARROWING_KEYS and all(is_fixed(text) for text in as_list(value)) for name, value in keys.items())


def is_fixed(value: Any) -> bool:
    """A value without wildcards or policy variables."""
    return isinstance(value, str) and not any(mark in value for mark in ("*", "?", "${"))


def is_narrow_network(text: Any) -> bool:
    """Not so wide that it means the Internet: IPv4 narrower than /8, IPv6 narrower than /32."""
    try:
        network = ipaddress.ip_network(str(text), strict=False)
    except ValueError:
        return False
    return network.prefixlen > (8 if network.version == 4 else 32)


def as_list(value: Any) -> Iterable[Any]:
    return value if isinstance(value, (list, tuple)) else (value,)
