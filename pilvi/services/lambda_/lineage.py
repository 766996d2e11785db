"""Chains of events, told by the tracing header: how often each function has run because of what it did itself. Pure.

    Root=1-...;Parent=...;Sampled=0;Lineage=a87bd80c:1|68fd508a:5

Lambda gives every invocation a header with its lineage, the SDKs inside a function send it with each request, and SQS, SNS, S3 and Lambda
hand it on. A function that finds itself there too often is in a loop.

Source: developer guide, "Use Lambda recursive loop detection to prevent infinite loops"; SQS developer guide, "Using the AWS X-Ray trace
header with Amazon SQS" (the form of the header).
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from typing import Final, NamedTuple

MOST_RUNS: Final = 16
"""In one chain of events; the next is not run."""
MOST_FUNCTIONS: Final = 16
"""Told in one header; the oldest are forgotten."""
_ROOT = re.compile(r"1-[0-9a-f]{8}-[0-9a-f]{24}\Z")
_PAIR = re.compile(r"([0-9a-f]{8}):(\d{1,5})\Z")
_LOOKED_AT: Final = 1024


class Lineage(NamedTuple):
    """A header for the next invocation, and how many of the same function it makes."""

    header: str
    runs: int


def following(before: str, arn: str, now_s: float, digits: str) -> Lineage:
    """The header of an invocation that came with `before` ('': out of nothing). digits: 40 random hexadecimal ones."""
    if not before:
        return Lineage(f"Root=1-{int(now_s):08x}-{digits[:24]};Parent={digits[24:40]};Sampled=0;Lineage={mark_of(arn)}:1", 1)
    fields = fields_of(before)
    runs = runs_of(fields.get("Lineage", ""))
    mark = mark_of(arn)
    count = runs.pop(mark, 0) + 1
    kept = [*runs.items()][-(MOST_FUNCTIONS - 1) :]
    root = fields.get("Root", "")
    if not _ROOT.match(root):
        root = f"1-{int(now_s):08x}-{digits[:24]}"
    sampled = "1" if fields.get("Sampled") == "1" else "0"
    told = "|".join(f"{name}:{many}" for name, many in [*kept, (mark, count)])
    return Lineage(f"Root={root};Parent={digits[24:40]};Sampled={sampled};Lineage={told}", count)


def is_loop(before: str, arn: str) -> bool:
    """Whether one more invocation of the function would be one too many."""
    return "Lineage" in before and runs_of(fields_of(before).get("Lineage", "")).get(mark_of(arn), 0) >= MOST_RUNS


def longest(headers: list[str], arn: str) -> str:
    """Of several records handled together, the header of the one that has come round most often."""
    known = [header for header in headers if header]
    if not known:
        return ""
    mark = mark_of(arn)
    return max(known, key=lambda header: runs_of(fields_of(header).get("Lineage", "")).get(mark, 0))


def fields_of(header: str) -> dict[str, str]:
    parts = (part.partition("=") for part in header[:_LOOKED_AT].split(";"))
    return {name.strip(): value.strip() for name, _, value in parts}


def runs_of(lineage: str) -> dict[str, int]:
    found = (_PAIR.match(pair) for pair in lineage.split("|"))
    return {match[1]: int(match[2]) for match in found if match is not None}


@lru_cache(maxsize=4096)
def mark_of(arn: str) -> str:
    """What stands for a function."""
    return hashlib.sha256(arn.encode()).hexdigest()[:8]
