"""The spool: letters, text messages and pushes that would leave the cloud, kept for people to read (`pilvi mail`).

    Table(account, Region, "snsdata", "Letter")    time and a random end -> {kind, to, from, at, source, p: sealed subject and text}

Nothing is sent to anybody: a cloud that people own has no mail provider. Letters are kept for 30 days.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from pilvi.core.errors import Invalid, NotFound
from pilvi.services.sns.topics import DATA
from pilvi.storage.records import Insert, Row, Table

if TYPE_CHECKING:
    from pilvi.core.service import Cloud

KEPT_S: Final = 30 * 86_400.0
EMAIL: Final = "email"
SMS: Final = "sms"
PUSH: Final = "push"
PAGE: Final = 500


def letter_table(account: str, region: str) -> Table:
    return Table(account, region, DATA, "Letter")


def posting(
    cloud: Cloud, account: str, region: str, *, kind: str, to: str, text: str, source: str, subject: str = "", sender: str = ""
) -> Insert:
    """The change that puts a letter into an account's spool. source: the ARN it comes from."""
    now = cloud.clock.time_s()
    name = f"{int(now * 1_000_000):016x}{cloud.ids.hex(8)}"
    value = {
        "kind": kind,
        "to": to,
        "from": sender,
        "at": now,
        "source": source,
        "p": cloud.keyring.seal(json.dumps([subject, text]).encode(), _context(name)),
    }
    return Insert(letter_table(account, region), name, value)


def letters(cloud: Cloud, account: str, limit: int) -> list[dict[str, Any]]:
    """The newest letters of an account in all Regions, newest first, without their texts."""
    found: list[dict[str, Any]] = []
    for table in _tables(cloud, account):
        rows = cloud.store.scan(table, limit=limit, reverse=True)
        found += [_shown(cloud, row, table.region)[0] for row in rows]
    found.sort(key=lambda one: str(one["id"]), reverse=True)
    return found[:limit]


def read(cloud: Cloud, account: str, name: str) -> dict[str, Any]:
    """One letter with its text, by its id or the end of it; `last` is the newest. NotFound."""
    if name == "last":
        newest = letters(cloud, account, 1)
        name = newest[0]["id"] if newest else name
    for table in _tables(cloud, account):
        row = cloud.store.get(table, name)
        if row is not None:
            shown, text = _shown(cloud, row, table.region)
            return {**shown, "text": text}
    alike = [one["id"] for one in letters(cloud, account, PAGE) if len(name) > 2 and str(one["id"]).endswith(name)]
    if len(alike) == 1:
        return read(cloud, account, alike[0])
    if alike:
        raise Invalid(f"Several letters end in {name}.")
    raise NotFound(f"There is no letter {name}.")


def _tables(cloud: Cloud, account: str) -> Iterator[Table]:
    return (table for table in cloud.store.tables(service=DATA, noun="Letter") if table.account == account)


def _shown(cloud: Cloud, row: Row, region: str) -> tuple[dict[str, Any], str]:
    """What a list tells of a letter, and its text."""
    subject, text = json.loads(cloud.keyring.unseal(row.value["p"], _context(row.id)))
    told = {"id": row.id, "region": region, "subject": subject}
    return told | {key: row.value[key] for key in ("kind", "to", "from", "at", "source")}, text


def _context(name: str) -> bytes:
    return b"sns letter:" + name.encode()
