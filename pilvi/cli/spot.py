"""`pilvi spot interrupt`: take the instances of a managed spot training job away, as AWS does when it wants them back."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import quote

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from pilvi.app.keys import root_key
from pilvi.cli.env import wait_ready
from pilvi.core.errors import Invalid, Unavailable


def interrupt(data_dir: Path, name: str, region: str | None) -> str:
    """What the server says about it. Invalid when there is no such job, or none that can be interrupted now."""
    state = wait_ready(data_dir)
    _, key_id, secret = root_key(data_dir)
    url = f"{state['endpoint']}/_aws/spot/{quote(name, safe='')}"
    request = AWSRequest("POST", url, data=b"")
    SigV4Auth(Credentials(key_id, secret), "sagemaker", region or str(state["region"])).add_auth(request)
    asked = urllib.request.Request(url, data=b"", headers=dict(request.headers.items()), method="POST")
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked, timeout=30) as answer:
            return str(json.loads(answer.read())["message"])
    except urllib.error.HTTPError as error:
        raise Invalid(_message(error.read())) from None
    except OSError as error:
        raise Unavailable(f"the server does not answer: {error}") from error


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace") or "the server refused"
