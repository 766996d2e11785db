"""`pilvi bill`: a month as AWS would have charged it, and what runs right now."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from pilvi.app.keys import root_key
from pilvi.cli.env import wait_ready
from pilvi.core.errors import Invalid, Unavailable

_WIDTH = 76


def report(data_dir: Path, month: str | None, *, as_json: bool) -> str:
    """The bill of the first account, in lines or as JSON. Invalid for what is no month."""
    found = asked(data_dir, month or "")
    return json.dumps(found, indent=2) if as_json else "\n".join(lines(found))


def asked(data_dir: Path, month: str) -> dict[str, Any]:
    """What the server says."""
    state = wait_ready(data_dir)
    _, key_id, secret = root_key(data_dir)
    url = f"{state['endpoint']}/_aws/bill/{quote(month, safe='')}"
    request = AWSRequest("GET", url)
    SigV4Auth(Credentials(key_id, secret), "ce", "us-east-1").add_auth(request)
    wanted = urllib.request.Request(url, headers=dict(request.headers.items()))
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(wanted, timeout=60) as answer:
            found: dict[str, Any] = json.loads(answer.read())
            return found
    except urllib.error.HTTPError as error:
        raise Invalid(_message(error.read())) from None
    except OSError as error:
        raise Unavailable(f"the server does not answer: {error}") from error


def lines(bill: dict[str, Any]) -> Iterator[str]:
    """The bill for people."""
    state = "running month" if bill["is_running_month"] else "closed month"
    yield f"{bill['month']}  account {bill['account']}  US dollars  {state}"
    marks: set[str] = set()
    for service in bill["services"]:
        yield ""
        yield _row(service["service"], service["usd"])
        for usage in service["usage"]:
            mark = "?" if usage["price"] is None else "~" if usage["is_estimated"] else ""
            marks.add(mark)
            price = "no price known" if usage["price"] is None else f"{mark}{usage['price']} {a_unit(usage['unit'])}"
            spot = "  spot" if usage["purchase"].startswith("Spot") else ""
            hours = f"{float(usage['quantity']):.4f} {usage['unit']}"  # only shown; amounts are the server's
            yield _row(f"  {usage['usage_type']}{spot}  {hours}  {price}", usage["usd"])
    yield ""
    yield _row("Total", bill["usd"])
    if bill["running"]:
        yield ""
        yield "Running now"
        for running in bill["running"]:
            mark = "?" if running["price"] is None else "~" if running["is_estimated"] else ""
            marks.add(mark)
            name = running["resource"].split(":", 5)[-1]
            cost = "no price known" if mark == "?" else f"{mark}{running['usd_per_hour']} an hour, {running['usd_so_far']} so far"
            yield f"  {name}  {running['usage_type']} x {running['instances']}  since {running['since']}: {cost}"
    if "~" in marks:
        yield "~ estimated: AWS's price is not known here (--json says how it is derived)"
    if "?" in marks:
        yield "? nothing is asked where no price is known"


def a_unit(unit: str) -> str:
    """What a price is for."""
    return "an hour" if unit == "Hrs" else f"a {unit.removesuffix('s')}"


def _row(text: str, usd: str) -> str:
    return f"{text:<{_WIDTH}} {usd:>10}"


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace") or "the server refused"
