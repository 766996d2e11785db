"""What happened to alarms, for thirty days; of deleted ones too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pilvi.core.errors import Invalid, ServiceError
from pilvi.core.paging import decode_token, encode_token
from pilvi.core.service import Context, Operations
from pilvi.services.cloudwatch.alarms import HISTORY_S, METRIC_ALARM, SERVICE
from pilvi.storage.records import Delete

if TYPE_CHECKING:
    from pilvi.core.service import Cloud

ops = Operations()

_PAGE = 100


@ops
def describe_alarm_history(ctx: Context, req: Mapping[str, Any]) -> Mapping[str, Any]:
    """Lines of history, newest first unless ScanBy says otherwise.

    req: AlarmName, AlarmTypes (metric alarms unless given), HistoryItemType (ConfigurationUpdate, StateUpdate, Action), StartDate, EndDate,
    MaxRecords (1-100, 100), ScanBy, NextToken.
    Errors: InvalidNextToken.
    """
    try:
        seen = decode_token(req.get("NextToken"))
    except Invalid:
        raise ServiceError("InvalidNextToken", "The next token specified is invalid.", 400) from None
    is_reverse, limit = req.get("ScanBy") != "TimestampAscending", req.get("MaxRecords") or _PAGE
    found: list[dict[str, Any]] = []
    while True:
        after, before = ("", seen) if is_reverse else (seen, "")
        rows = ctx.records("AlarmHistory").scan(after=after, before=before, reverse=is_reverse)
        for row in rows:
            if not _is_wanted(row.value, req):
                continue
            if len(found) == limit:
                return {"AlarmHistoryItems": found, "NextToken": encode_token(seen)}
            seen = row.id
            found.append({**row.value, "HistoryData": json.dumps(row.value["HistoryData"], default=str)})
        if not rows:
            return {"AlarmHistoryItems": found}
        seen = rows[-1].id


def _is_wanted(line: Mapping[str, Any], req: Mapping[str, Any]) -> bool:
    kinds = req.get("AlarmTypes") or ([METRIC_ALARM] if not req.get("AlarmName") else [line["AlarmType"]])
    start, end = req.get("StartDate"), req.get("EndDate")
    return (
        line["AlarmType"] in kinds
        and req.get("AlarmName") in (None, line["AlarmName"])
        and req.get("HistoryItemType") in (None, line["HistoryItemType"])
        and (start is None or line["Timestamp"] >= start)
        and (end is None or line["Timestamp"] <= end)
    )


def forget_old(cloud: Cloud) -> None:
    """Once a day: what is older than thirty days goes."""
    oldest = f"{int((cloud.clock.time_s() - HISTORY_S) * 1000):015d}"
    for table in cloud.store.tables(service=SERVICE, noun="AlarmHistory"):
        while rows := cloud.store.scan(table, before=oldest):
            if cloud.schedules.is_closing:
                return
            cloud.store.write(*(Delete(table, row.id) for row in rows))
