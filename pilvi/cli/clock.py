"""`pilvi clock`: the time that the cloud lives in, and how far it is ahead of the real one. `advance` moves it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from pilvi.app.keys import root_key
from pilvi.cli.env import wait_ready
from pilvi.core.errors import Invalid, Unavailable


def show(data_dir: Path, *, as_json: bool) -> str:
    told = ask(data_dir, "GET", b"")
    return json.dumps(told) if as_json else line(told)


def advance(data_dir: Path, by: str, *, as_json: bool) -> str:
    """Move it by `31d` or to `2027-01-01`; returns when everything that became due has run. Invalid for what is neither."""
    told = ask(data_dir, "POST", json.dumps({"advance": by}).encode())
    if as_json:
        return json.dumps(told)
    lines = [line(told), f"ran  {', '.join(told['ran']) or 'nothing was due'}"]
    if told["failed"]:
        lines.append(f"failed  {', '.join(told['failed'])} (the server's log says why; tried again)")
    return "\n".join(lines)


def line(told: dict[str, Any]) -> str:
    return f"{told['time']}  {is_ahead(told)}"


def is_ahead(told: dict[str, Any]) -> str:
    return f"{told['ahead']} ahead of real time" if told["ahead_s"] else "real time"


def ask(data_dir: Path, method: str, body: bytes, path: str = "/_pilvi/clock") -> dict[str, Any]:
    """What the server answers to the owner of its directory."""
    state = wait_ready(data_dir)
    _, key_id, secret = root_key(data_dir)
    url = f"{state['endpoint']}{path}"
    request = AWSRequest(method, url, data=body)
    SigV4Auth(Credentials(key_id, secret), "pilvi", str(state["region"])).add_auth(request)
    asked = urllib.request.Request(url, data=body or None, headers=dict(request.headers.items()), method=method)
    try:
        # What became due runs before the answer comes, and that may be much.
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked, timeout=None) as answer:
            told: dict[str, Any] = json.loads(answer.read())
            return told
    except urllib.error.HTTPError as error:
        raise Invalid(message_in(error.read())) from None
    except OSError as error:
        raise Unavailable(f"the server does not answer: {error}") from error


def message_in(body: bytes) -> str:
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace") or "the server refused"
