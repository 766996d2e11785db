"""Two people in one notebook, run by the notebook environment's own interpreter: collaboration_client.py BASE TOKEN TOKEN PATH

The first writes into the notebook's first cell; prints what the second then sees there, and who both are.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from typing import Any

import websocket  # of the notebook environment
from pycrdt import Array, Doc, YMessageType, create_sync_message, create_update_message, handle_sync_message


class Person:
    def __init__(self, base: str, token: str, path: str) -> None:
        self.base, self.token = base, token
        session = self.call("PUT", f"/api/collaboration/session/{path}", {"format": "json", "type": "notebook"})
        room = f"{session['format']}:{session['type']}:{session['fileId']}"
        address = f"{base.replace('http', 'ws', 1)}/api/collaboration/room/{room}?sessionId={session['sessionId']}"
        header = [f"Authorization: token {token}"]
        self.channel = websocket.create_connection(address, header=header, timeout=60, http_no_proxy=["*"])
        self.doc: Doc[Any] = Doc()
        self.cells = self.doc.get("cells", type=Array)
        self.channel.send_binary(create_sync_message(self.doc))

    def call(self, method: str, place: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"token {self.token}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.base}{place}", data, headers, method=method)
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
            return json.loads(answer.read())

    def listen(self) -> None:
        """One message."""
        message = self.channel.recv()
        if isinstance(message, bytes) and message[0] == YMessageType.SYNC:
            reply = handle_sync_message(message[1:], self.doc)
            if reply is not None:
                self.channel.send_binary(reply)

    def until(self, text: str) -> str:
        """The first cell's text as soon as it holds this."""
        while not len(self.cells) or text not in str(self.cells[0]["source"]):
            self.listen()
        return str(self.cells[0]["source"])


def main(base: str, first: str, second: str, path: str) -> None:
    ada, bob = Person(base, first, path), Person(base, second, path)
    ada.until("start")
    ada.doc.observe(lambda event: ada.channel.send_binary(create_update_message(event.update)))
    ada.cells[0]["source"] += " and ada was here"
    print(bob.until("ada"))
    print(*(person.call("GET", "/api/me")["identity"]["display_name"] for person in (ada, bob)))


main(*sys.argv[1:])
