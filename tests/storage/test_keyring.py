"""The keyring: what it seals only it opens, and its file is made once, for its owner alone."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from pilvi.core.errors import Invalid, Unavailable
from pilvi.storage import keyring as keyring_module
from pilvi.storage.keyring import OVERHEAD_BYTES, Keyring


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    return Keyring(tmp_path / "keys" / "master.key")


@pytest.mark.parametrize("data", [b"", b"x", b"secret" * 10_000])
def test_what_is_sealed_opens(keyring: Keyring, data: bytes) -> None:
    sealed = keyring.seal(data, b"here")
    assert len(sealed) == len(data) + OVERHEAD_BYTES
    assert keyring.unseal(sealed, b"here") == data
    assert keyring.unseal(memoryview(sealed), b"here") == data
    assert len(data) < 8 or data not in sealed


def test_every_altered_byte_is_noticed(keyring: Keyring) -> None:
    sealed = keyring.seal(b"data", b"here")
    for place in range(len(sealed)):
        altered = bytearray(sealed)
        altered[place] ^= 1
        with pytest.raises(Invalid):
            keyring.unseal(bytes(altered), b"here")
    for end in range(len(sealed)):
        with pytest.raises(Invalid):
            keyring.unseal(sealed[:end], b"here")
    with pytest.raises(Invalid, match="belongs elsewhere"):
        keyring.unseal(sealed, b"there")
    with pytest.raises(Invalid):
        keyring.unseal(sealed)


def test_no_two_messages_are_alike(keyring: Keyring) -> None:
    assert len({keyring.seal(b"same") for _ in range(1000)}) == 1000


def test_a_session_key_is_replaced_before_its_nonces_run_out(keyring: Keyring, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring_module, "SESSION_MESSAGES", 3)
    sealed = [keyring.seal(b"%d" % number) for number in range(10)]
    assert len({message[:21] for message in sealed}) == 4
    assert [keyring.unseal(message) for message in sealed] == [b"%d" % number for number in range(10)]


def test_a_restart_opens_what_was_sealed_before(tmp_path: Path) -> None:
    sealed = Keyring(tmp_path / "k" / "master.key").seal(b"data")
    assert Keyring(tmp_path / "k" / "master.key").unseal(sealed) == b"data"
    with pytest.raises(Invalid, match="that is not in"):
        Keyring(tmp_path / "other.key").unseal(sealed)


def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    Keyring(tmp_path / "keys" / "master.key")
    assert stat.S_IMODE(os.stat(tmp_path / "keys").st_mode) == 0o700
    assert stat.S_IMODE(os.stat(tmp_path / "keys" / "master.key").st_mode) == 0o600
    assert os.listdir(tmp_path / "keys") == ["master.key"]


def test_rotation_keeps_the_old_keys(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    keyring = Keyring(path)
    old = keyring.seal(b"old")
    key_id = keyring.rotate()
    new = keyring.seal(b"new")
    assert new[1:5].hex() == key_id != old[1:5].hex()
    for each in (keyring, Keyring(path)):
        assert (each.unseal(old), each.unseal(new)) == (b"old", b"new")
    assert Keyring(path).seal(b"x")[1:5].hex() == key_id
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["master.key"]


def test_data_keys_come_wrapped(keyring: Keyring) -> None:
    plain, wrapped = keyring.new_data_key(b"blob")
    assert len(plain) == 32
    assert plain not in wrapped
    assert keyring.unwrap(wrapped, b"blob") == plain
    with pytest.raises(Invalid):
        keyring.unwrap(wrapped, b"other")
    with pytest.raises(Invalid):
        keyring.unseal(wrapped, b"blob")


@pytest.mark.parametrize("content", ["", "{}", '{"Format": 1, "Current": "00", "Keys": []}', "[]", "null"])
def test_a_damaged_keyring_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "master.key").write_text(content)
    with pytest.raises(Unavailable, match="is not a keyring"):
        Keyring(tmp_path / "master.key")
    assert (tmp_path / "master.key").read_text() == content


def test_a_newer_keyring_is_refused(tmp_path: Path) -> None:
    Keyring(tmp_path / "master.key")
    stored = json.loads((tmp_path / "master.key").read_text())
    (tmp_path / "master.key").write_text(json.dumps({**stored, "Format": 2}))
    with pytest.raises(Unavailable, match="newer Pilvi"):
        Keyring(tmp_path / "master.key")


def test_a_forked_child_counts_for_itself(keyring: Keyring) -> None:
    ours = keyring.seal(b"x")
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(into, keyring.seal(b"x"))
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(out, 1000)
    os.close(out)
    os.close(into)
    assert theirs[5:21] != ours[5:21]
    assert keyring.unseal(theirs) == b"x"
