"""Studio's resources that stand in others: no child is made in what is being deleted, and nothing is deleted that has just got a child.

Whoever makes a child writes its parents anew, unchanged, in the same transaction; whoever deletes a parent says which version of it was
looked at. So of two that meet one comes first, and the other looks again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from pilvi.core.errors import Conflict, NotFound
from pilvi.core.service import Context
from pilvi.services.sagemaker.job_kind import Record
from pilvi.services.sagemaker.studio_check import missing
from pilvi.storage.records import Change

Parent = tuple[str, str]
"""Its noun, and its key among them."""


def write_below(ctx: Context, parents: Sequence[Parent], *changes: Change) -> None:
    """Write what makes a child. ResourceNotFound when a parent has gone; Conflict and AlreadyExists are the changes' own."""
    while True:
        found = [(ctx.records(noun), key, ctx.records(noun).row(key)) for noun, key in parents]
        touched = [rows.revision(key, row.value, row.version) for rows, key, row in found if row is not None]
        if len(touched) < len(parents):
            noun, key = next(parent for parent, (_, _, row) in zip(parents, found, strict=True) if row is None)
            raise missing(noun, key.rpartition("/")[2])
        try:
            ctx.write(*touched, *changes)
        except Conflict:
            if all(row == rows.row(key) for rows, key, row in found):
                raise
        else:
            return


def delete_parent(
    ctx: Context, noun: str, key: str, check: Callable[[Record], None], more: Callable[[Record], Iterable[Change]]
) -> Record:
    """Forget a resource that `check` finds free, with `more`; gives what it was. ResourceNotFound when there is none."""
    rows = ctx.records(noun)
    while True:
        row = rows.row(key)
        if row is None:
            raise missing(noun, key.rpartition("/")[2])
        check(row.value)
        try:
            ctx.write(rows.deletion(key, row.version), *more(row.value))
        except (Conflict, NotFound):
            continue
        return row.value
