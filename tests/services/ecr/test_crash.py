"""kill -9 in the middle of a push: what was acknowledged is there, the push goes on, nothing is half made."""

from __future__ import annotations

import contextlib
import http.client
import os
import threading

from pilvi.images import layers
from pilvi.testing.up import Up
from tests.services.ecr.conftest import Wire, digest, image_of, login

MIB = 1 << 20


def pour(wire: Wire, place: str, sent: threading.Event) -> None:
    """A body that never ends, until the server goes."""
    connection = http.client.HTTPConnection(wire.endpoint.removeprefix("http://"))
    connection.putrequest("PATCH", place)
    connection.putheader("Authorization", wire.authorization)
    connection.putheader("Content-Length", str(10_000 * MIB))
    connection.endheaders()
    with contextlib.suppress(OSError):
        for number in range(10_000):
            connection.send(bytes(MIB))
            if number * MIB > layers.SEGMENT_BYTES + 8 * MIB:
                sent.set()
    connection.close()


def test_a_push_goes_on_after_kill_9(tmp_path):
    first = Up(tmp_path / "data")
    ecr = first.root.client("ecr")
    ecr.create_repository(repositoryName="app")
    wire = login(first.root)
    assert wire.push("app", image_of("whole"), "v1").status == 201
    data = os.urandom(3 * MIB)
    place = wire.ask("POST", "/v2/app/blobs/uploads/", b"").headers["Location"]
    assert wire.ask("PATCH", place, data[:MIB]).status == 202
    poured = wire.ask("POST", "/v2/app/blobs/uploads/", b"").headers["Location"]
    sent = threading.Event()
    thread = threading.Thread(target=pour, args=(wire, poured, sent))
    thread.start()
    assert sent.wait(60)
    first.kill()
    thread.join()

    again = Up(tmp_path / "data")
    try:
        wire = login(again.root)
        assert wire.ask("GET", "/v2/app/manifests/v1").body == image_of("whole").manifest
        assert wire.ask("GET", place).headers["Range"] == f"0-{MIB - 1}"
        assert wire.ask("PATCH", place, data[MIB : 2 * MIB]).status == 202
        assert wire.ask("PUT", f"{place}?digest={digest(data)}", data[2 * MIB :]).status == 201
        assert wire.ask("GET", f"/v2/app/blobs/{digest(data)}").body == data
        kept = int(wire.ask("GET", poured).headers["Range"].removeprefix("0-")) + 1
        assert kept == 1 or kept >= layers.SEGMENT_BYTES
        assert wire.ask("DELETE", poured).status == 204
        again.root.client("ecr").delete_repository(repositoryName="app", force=True)
        left = [path for path in (tmp_path / "data" / "blobs").rglob("*") if path.is_file()]
        assert left == []
    finally:
        again.stop()
