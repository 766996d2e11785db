"""The key that signs what goes out, and its certificate, which anybody may fetch: SimpleNotificationService-<digest>.pem.

One RSA key a store, made when the first message is signed, sealed in the store; so messages of an earlier run still verify. The
certificate says the world's time, as those who verify compare it with theirs.

Source: SNS developer guide, "Verifying the signatures of Amazon SNS messages": which members are signed, in which order; SHA1 for
SignatureVersion 1, SHA256 for 2; RSA with PKCS #1 v1.5.
"""

from __future__ import annotations

import asyncio
import base64
import datetime
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from pilvi.core.errors import AlreadyExists
from pilvi.core.http import Request, Response
from pilvi.core.service import Context
from pilvi.services.sns.topics import DATA
from pilvi.storage.records import Insert, Table

if TYPE_CHECKING:
    from pilvi.core.service import Cloud

PATH: Final = "/SimpleNotificationService-"
DAYS: Final = 3650
BITS: Final = 2048
REMEMBERED: Final = 256
"""Signatures: one message goes to many subscriptions."""
_TABLE: Final = Table("", "", DATA, "Signer")
_CONTEXT: Final = b"sns signer"
_MEMORY: Final = "sns:signer"
_SIGNED: Final = ("Message", "MessageId", "SubscribeURL", "Subject", "Timestamp", "Token", "TopicArn", "Type")
"""In the order of their names; those a message has not are left out."""


class Signer:
    def __init__(self, name: str, certificate: bytes, key: rsa.RSAPrivateKey) -> None:
        self.name = name
        self.certificate = certificate
        self._key = key
        self._known: dict[tuple[str, str], str] = {}

    def url(self, endpoint: str) -> str:
        return f"{endpoint}{PATH}{self.name}.pem"

    def sign(self, members: Mapping[str, Any], version: str) -> str:
        """The signature of a notification or a confirmation, in base 64. Half a millisecond; in a thread it would cost as much."""
        text = string_to_sign(members)
        known = self._known.get((text, version))
        if known is not None:
            return known
        digest = hashes.SHA256() if version == "2" else hashes.SHA1()  # what SignatureVersion 1 is
        found = base64.b64encode(self._key.sign(text.encode(), padding.PKCS1v15(), digest)).decode()
        if len(self._known) >= REMEMBERED:
            self._known.pop(next(iter(self._known)))
        self._known[text, version] = found
        return found


def string_to_sign(members: Mapping[str, Any]) -> str:
    """Name and value of each member, a line each."""
    is_notification = members["Type"] == "Notification"
    names = [name for name in _SIGNED if name in members and not (is_notification and name in ("SubscribeURL", "Token"))]
    return "".join(f"{name}\n{members[name]}\n" for name in names if members[name] is not None)


async def signer_of(cloud: Cloud) -> Signer:
    loading: asyncio.Future[Signer] | None = cloud.memory.get(_MEMORY)
    if loading is None or (loading.done() and (loading.cancelled() or loading.exception() is not None)):
        loading = cloud.memory[_MEMORY] = asyncio.ensure_future(asyncio.to_thread(_load, cloud))
    return loading.result() if loading.done() else await asyncio.shield(loading)


async def certificate(ctx: Context, request: Request) -> Response:
    """The certificate, under the name that messages say."""
    name = request.raw_path.removeprefix(PATH).removesuffix(".pem")
    row = await asyncio.to_thread(ctx.store.get, _TABLE, "key")
    if request.method not in ("GET", "HEAD") or row is None or row.value["name"] != name:
        return Response(404, [("Content-Type", "text/plain")], b"There is no such certificate.\n")
    return Response(200, [("Content-Type", "application/x-pem-file")], row.value["certificate"])


def _load(cloud: Cloud) -> Signer:
    row = cloud.store.get(_TABLE, "key")
    if row is None:
        with suppress(AlreadyExists):  # another server was quicker
            cloud.store.write(Insert(_TABLE, "key", _made(cloud)))
        return _load(cloud)
    key = serialization.load_der_private_key(cloud.keyring.unseal(row.value["key"], _CONTEXT), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    return Signer(row.value["name"], row.value["certificate"], key)


def _made(cloud: Cloud) -> dict[str, Any]:
    key = rsa.generate_private_key(65537, BITS)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
    now = cloud.clock.real_now()
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=DAYS))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("sns.amazonaws.com")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    plain = key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return {
        "name": built.fingerprint(hashes.SHA256()).hex()[:32],
        "certificate": built.public_bytes(serialization.Encoding.PEM),
        "key": cloud.keyring.seal(plain, _CONTEXT),
    }
