"""`pilvi mail`: letters, text messages and pushes that the cloud would have sent."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from pilvi.app.keys import root_key
from pilvi.cli.env import wait_ready
from pilvi.core.errors import Invalid, Unavailable

PATH = "/_aws/mail/"
_ID_SHOWN = 8


def listed(data_dir: Path, limit: int, *, as_json: bool) -> str:
    """The newest letters of the first account, newest first."""
    found = ask(data_dir, "GET", f"?limit={limit}")["letters"]
    return json.dumps(found, indent=2) if as_json else "\n".join(lines(found))


def shown(data_dir: Path, name: str, *, as_json: bool) -> str:
    """One letter with its text. name: its id, the end of it, or `last`."""
    letter = ask(data_dir, "GET", quote(name, safe=""))
    if as_json:
        return json.dumps(letter, indent=2)
    head = [f"Date: {_time(letter['at'])}", f"From: {letter['from']}", f"To: {letter['to']}", f"Subject: {letter['subject']}"]
    return "\n".join([*(line for line in head if not line.endswith(": ")), "", letter["text"].rstrip("\n")])


def stopped(data_dir: Path, number: str) -> str:
    """The phone answers STOP."""
    answer = ask(data_dir, "POST", f"stop/{quote(number, safe='')}")
    return f"{answer['phoneNumber']} gets no more text messages"


def lines(letters: list[dict[str, Any]]) -> Iterator[str]:
    for one in letters:
        what = one["subject"] or one["source"]
        yield f"{one['id'][-_ID_SHOWN:]}  {_time(one['at'])}  {one['kind']:<5}  {one['to']}  {what}"


def ask(data_dir: Path, method: str, rest: str) -> dict[str, Any]:
    """What the server says, asked as the first account's root."""
    state = wait_ready(data_dir)
    _, key_id, secret = root_key(data_dir)
    url = f"{state['endpoint']}{PATH}{rest}"
    request = AWSRequest(method, url)
    SigV4Auth(Credentials(key_id, secret), "sns", "us-east-1").add_auth(request)
    wanted = urllib.request.Request(url, headers=dict(request.headers.items()), method=method)
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(wanted, timeout=60) as answer:
            found: dict[str, Any] = json.loads(answer.read())
            return found
    except urllib.error.HTTPError as error:
        raise Invalid(_message(error.read())) from None
    except OSError as error:
        raise Unavailable(f"the server does not answer: {error}") from error


def _time(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S}"


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace") or "the server refused"
