"""Encryption at rest, the keys: a keyring seals small things and wraps the keys of large ones (storage.sealed).

    master key (a file, 0600)
      └─ session key: HMAC-SHA256(master key, salt); a fresh salt for each process, carried by what it sealed
           ├─ seal(data, context)       secrets and small bodies kept in records
           └─ new_data_key(context)     a random key for one blob, and the same sealed

All of it is AES-256-GCM: what was altered, cut, or moved under another context does not open. A session key counts its messages
in the nonce, so no nonce is ever used twice, however many are sealed and however often the server starts.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import itertools
import json
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pilvi.core.errors import Invalid, Unavailable
from pilvi.storage.durable import sync_folder

KEY_BYTES = 32
TAG_BYTES = 16
SESSION_MESSAGES = 1 << 32
"""After so many messages a session key is replaced (the bound of NIST SP 800-38D, section 8.3)."""

VIEW_BYTES = 8 << 10
"""Longer messages are not copied before they are opened."""

FORMAT = 1
_MESSAGE = b"\x01"
_KEY_ID_BYTES = 4
_SALT_BYTES = 16
_PREFIX_BYTES = len(_MESSAGE) + _KEY_ID_BYTES + _SALT_BYTES
_OPENING_BYTES = _PREFIX_BYTES + 12
OVERHEAD_BYTES = _OPENING_BYTES + TAG_BYTES
"""A sealed message: 0x01, id of the master key, salt, nonce, ciphertext, tag; so much longer than what is in it."""


class _Session:
    """One session key at work: what its messages begin with, and their count."""

    __slots__ = ("encrypt", "numbers", "prefix")

    def __init__(self, prefix: bytes, cipher: AESGCM) -> None:
        self.prefix = prefix
        self.encrypt = cipher.encrypt
        self.numbers: Iterator[int] = itertools.count(1)


class Keyring:
    """The master keys of a data directory, in one file that only its owner may read. Made at first use."""

    def __init__(self, path: Path | str) -> None:
        self._path = Path(path)
        self._lock = threading.Lock()
        self._keys, self._current = _read(self._path) if self._path.exists() else _make(self._path)
        self._cipher_of = lru_cache(4096)(self._derive)
        self._process = os.getpid()
        self._session = self._new_session()

    def seal(self, data: bytes | memoryview, context: bytes = b"") -> bytes:
        """Encrypt a message of up to some MiB; only `unseal` with the same context opens it."""
        session = self._session if self._process == os.getpid() else self._of_this_process()
        number = next(session.numbers)
        if number > SESSION_MESSAGES:
            self._session = self._new_session()
            return self.seal(data, context)
        nonce = number.to_bytes(12, "big")
        return session.prefix + nonce + session.encrypt(nonce, data, context)

    def unseal(self, sealed: bytes | memoryview, context: bytes = b"") -> bytes:
        """What was sealed. Invalid when it was altered, sealed for another context, or by a key that is not here."""
        if len(sealed) < OVERHEAD_BYTES or sealed[:1] != _MESSAGE:
            raise Invalid("This is not a sealed message.")
        cipher = self._cipher_of(bytes(sealed[:_PREFIX_BYTES]))
        if len(sealed) > VIEW_BYTES:
            sealed = memoryview(sealed)
        try:
            return cipher.decrypt(bytes(sealed[_PREFIX_BYTES:_OPENING_BYTES]), sealed[_OPENING_BYTES:], context)
        except InvalidTag:
            raise Invalid("The sealed message was altered or belongs elsewhere.") from None

    def new_data_key(self, context: bytes = b"") -> tuple[bytes, bytes]:
        """A fresh AES-256 key, and the same wrapped by the master key."""
        plain = os.urandom(KEY_BYTES)
        return plain, self.seal(plain, b"data key:" + context)

    def unwrap(self, wrapped: bytes, context: bytes = b"") -> bytes:
        """The plain key of `new_data_key`. Invalid as with `unseal`."""
        return self.unseal(wrapped, b"data key:" + context)

    def rotate(self) -> str:
        """A new master key for what is sealed from now on; the old ones stay for what they sealed. Gives its id."""
        with self._lock:
            current = os.urandom(_KEY_ID_BYTES)
            keys = {**self._keys, current: os.urandom(KEY_BYTES)}
            _write(self._path, keys, current, replaces=True)
            self._keys, self._current = keys, current
            self._session = self._new_session()
        return current.hex()

    def _of_this_process(self) -> _Session:
        """A session of its own in the child of a fork: two processes never share a count."""
        self._lock = threading.Lock()
        self._session = self._new_session()
        self._process = os.getpid()
        return self._session

    def _new_session(self) -> _Session:
        prefix = _MESSAGE + self._current + os.urandom(_SALT_BYTES)
        return _Session(prefix, self._cipher_of(prefix))

    def _derive(self, prefix: bytes) -> AESGCM:
        key_id, salt = prefix[1 : 1 + _KEY_ID_BYTES], prefix[1 + _KEY_ID_BYTES :]
        key = self._keys.get(key_id)
        if key is None:
            raise Invalid(f"This was sealed by a master key ({key_id.hex()}) that is not in {self._path}.")
        return AESGCM(hmac.digest(key, b"session:" + salt, hashlib.sha256))


# -- the file --------------------------------------------------------------------------------------------------------


def _make(path: Path) -> tuple[dict[bytes, bytes], bytes]:
    """The first key, durable before anything is sealed with it; whoever comes second takes what the first has made."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    sync_folder(path.parent.parent)
    current = os.urandom(_KEY_ID_BYTES)
    with suppress(FileExistsError):
        _write(path, {current: os.urandom(KEY_BYTES)}, current, replaces=False)
    return _read(path)


def _read(path: Path) -> tuple[dict[bytes, bytes], bytes]:
    try:
        stored = json.loads(path.read_bytes())
        if stored["Format"] > FORMAT:
            raise Unavailable(f"{path} was written by a newer Pilvi (format {stored['Format']}). Start the newer one.")
        keys = {bytes.fromhex(key["Id"]): base64.b64decode(key["Key"], validate=True) for key in stored["Keys"]}
        current = bytes.fromhex(stored["Current"])
    except (ValueError, KeyError, TypeError, binascii.Error) as error:
        raise Unavailable(f"{path} is not a keyring: {error}.") from error
    if current not in keys or any(len(key) != KEY_BYTES for key in keys.values()):
        raise Unavailable(f"{path} is not a keyring: a key is missing or cut.")
    return keys, current


def _write(path: Path, keys: dict[bytes, bytes], current: bytes, *, replaces: bool) -> None:
    """The whole file or nothing, on the disk when this returns. FileExistsError when it is there and not to be replaced."""
    content = {
        "Format": FORMAT,
        "Current": current.hex(),
        "Keys": [{"Id": key_id.hex(), "Key": base64.b64encode(key).decode()} for key_id, key in keys.items()],
    }
    draft = path.with_name(f"{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb") as file:
            file.write(json.dumps(content, indent=1).encode() + b"\n")
            file.flush()
            os.fsync(fd)
        if replaces:
            os.replace(draft, path)
        else:
            os.link(draft, path)
        sync_folder(path.parent)
    finally:
        draft.unlink(missing_ok=True)
