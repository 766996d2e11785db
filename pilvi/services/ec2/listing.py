"""What every Describe of EC2 shares: dry runs, ids that must exist, filters with wildcards, pages."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pilvi.core.errors import Invalid, ServiceError
from pilvi.core.paging import decode_token, encode_token

Record = dict[str, Any]
Filters = Mapping[str, Callable[[Record], Sequence[Any]]]
"""Filter name -> the values of a record it looks at."""


def check_dry_run(req: Mapping[str, Any]) -> None:
    """A caller who only asks whether the call would be allowed gets the answer as an error, as on AWS."""
    if req.get("DryRun"):
        raise ServiceError("DryRunOperation", "Request would have succeeded, but DryRun flag is set.", 412)


def with_ids(records: Sequence[Record], member: str, ids: Sequence[str], code: str, message: str) -> list[Record]:
    """The records with these ids, all of them when none are named; an error in AWS's words for the first that is missing."""
    if not ids:
        return list(records)
    known = {record[member] for record in records}
    for id in ids:
        if id not in known:
            raise ServiceError(code, message.format(id))
    return [record for record in records if record[member] in ids]


def filtered(records: Sequence[Record], filters: Sequence[Mapping[str, Any]] | None, known: Filters) -> list[Record]:
    """Records that every filter lets through: one of its values fits one of the record's; '*' and '?' are wildcards."""
    kept = list(records)
    for entry in filters or ():
        name = entry.get("Name") or ""
        patterns = [_pattern(value) for value in entry.get("Values") or ()]
        values_of = _no_values if name == "tag-key" or name.startswith("tag:") else known.get(name)
        if values_of is None:
            raise Invalid(f"The filter '{name}' is invalid")
        kept = [record for record in kept if any(pattern.fullmatch(_text(v)) for v in values_of(record) for pattern in patterns)]
    return kept


def paged(records: Sequence[Record], req: Mapping[str, Any], member: str) -> tuple[list[Record], str | None]:
    """One page, in the order of the ids, and the token of the next."""
    ordered = sorted(records, key=lambda record: str(record[member]))
    after = decode_token(req.get("NextToken"))
    rest = [record for record in ordered if record[member] > after]
    size = req.get("MaxResults") or len(rest)
    return rest[:size], encode_token(rest[size - 1][member]) if len(rest) > size else None


def _no_values(_record: Record) -> Sequence[Any]:
    """Nothing here has tags."""
    return ()


def _pattern(value: str) -> re.Pattern[str]:
    """Source: EC2 User Guide, "Filtering": * any characters, ? one character, a backslash takes their meaning away."""
    parts = re.findall(r"\\.|.", value, re.DOTALL)
    return re.compile("".join({"*": ".*", "?": "."}.get(part, re.escape(part.removeprefix("\\"))) for part in parts), re.DOTALL)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
