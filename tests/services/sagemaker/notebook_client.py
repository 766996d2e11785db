"""A Jupyter client, run by the notebook environment's own interpreter: notebook_client.py URL TOKEN < code

Starts a kernel over the REST API, executes the code over its websocket, prints what it prints, ends the kernel.
"""

from __future__ import annotations

import json
import sys
import urllib.request
import uuid

import websocket  # of the notebook environment


def call(url: str, token: str, method: str) -> bytes:
    request = urllib.request.Request(url, headers={"Authorization": f"token {token}"}, method=method)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
        return answer.read()


def main(base: str, token: str, code: str) -> None:
    kernel = json.loads(call(f"{base}/api/kernels", token, "POST"))["id"]
    address = f"{base.replace('http', 'ws', 1)}/api/kernels/{kernel}/channels"
    channel = websocket.create_connection(address, header=[f"Authorization: token {token}"], timeout=120, http_no_proxy=["*"])
    header = {
        "msg_id": uuid.uuid4().hex,
        "msg_type": "execute_request",
        "username": "",
        "session": uuid.uuid4().hex,
        "version": "5.3",
    }
    content = {"code": code, "silent": False, "store_history": False, "user_expressions": {}, "allow_stdin": False}
    channel.send(json.dumps({"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}))
    while True:
        message = json.loads(channel.recv())
        if message["parent_header"].get("msg_id") != header["msg_id"]:
            continue
        if message["msg_type"] == "stream":
            print(message["content"]["text"], end="")
        elif message["msg_type"] == "error":
            sys.exit("\n".join(message["content"]["traceback"]))
        elif message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
            break
    channel.close()
    call(f"{base}/api/kernels/{kernel}", token, "DELETE")


main(sys.argv[1], sys.argv[2], sys.stdin.read())
