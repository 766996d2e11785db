"""The server's own certificate authority: clients that trust its one certificate may call any AWS host name here.

    <data dir>/keys/ca.key         the private key, sealed by the keyring; it never leaves the server
    <data dir>/clients/ca.pem      the certificate, for clients to trust
    in memory                      a certificate a host name, made when it is first asked for

Made once, at the first start. Certificates say the real time, not the product's clock: clients check them against theirs.
"""

from __future__ import annotations

import datetime
import fcntl
import ipaddress
import os
import ssl
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pilvi.core.clock import SystemClock
from pilvi.storage.durable import sync_folder
from pilvi.storage.keyring import Keyring

AUTHORITY_DAYS = 3650
HOST_DAYS = 90
HOSTS = 1024
"""Names whose certificates are kept in memory."""
_CONTEXT = b"certificate authority"


class Authority:
    """Makes TLS contexts for host names. Safe to use from several threads; processes of one server share the files."""

    def __init__(self, data_dir: Path, keyring: Keyring) -> None:
        self._key_path = data_dir / "keys" / "ca.key"
        self.certificate_path = data_dir / "clients" / "ca.pem"
        self._keyring = keyring
        self._lock = threading.Lock()
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._loaded: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None = None
        self._host_key = ec.generate_private_key(ec.SECP256R1())

    def prepare(self) -> None:
        """See that the authority's files are there."""
        with self._lock:
            self._load()

    def context(self, host: str = "") -> ssl.SSLContext:
        """A server's side of TLS for a host name; '' is this machine itself. Any other name a client then asks for is answered too."""
        name = host.lower().rstrip(".")
        with self._lock:
            found = self._contexts.get(name)
            if found is None:
                if len(self._contexts) >= HOSTS:
                    self._contexts.clear()
                found = self._contexts[name] = self._context_for(name)
            return found

    # -- private ------------------------------------------------------------------------------------------------------

    def _load(self) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        if self._loaded is None:
            with self._alone():
                if not (self._key_path.exists() and self.certificate_path.exists()):
                    self._make()
            certificate = x509.load_pem_x509_certificate(self.certificate_path.read_bytes())
            key = serialization.load_der_private_key(self._keyring.unseal(self._key_path.read_bytes(), _CONTEXT), None)
            assert isinstance(key, ec.EllipticCurvePrivateKey)
            self._loaded = certificate, key
        return self._loaded

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time: of two that make both files at once, one's key could lie beside the other's certificate."""
        self._key_path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._key_path.with_name(".ca.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _make(self) -> None:
        """The key, then the certificate: a crash between them leaves nothing that counts, and the next start makes both anew."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Pilvi on this machine {os.urandom(4).hex()}")])
        now = SystemClock().now()
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=AUTHORITY_DAYS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .sign(key, hashes.SHA256())
        )
        plain = key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        _write(self._key_path, self._keyring.seal(plain, _CONTEXT), 0o600)
        _write(self.certificate_path, certificate.public_bytes(serialization.Encoding.PEM), 0o644)

    def _context_for(self, name: str) -> ssl.SSLContext:
        issuer, key = self._load()
        now = SystemClock().now()
        common = name if 0 < len(name) <= 64 else "localhost"
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)]))
            .issuer_name(issuer.subject)
            .public_key(self._host_key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=HOST_DAYS))
            .add_extension(x509.SubjectAlternativeName(_names(name)), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._host_key.public_key()), critical=False)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .sign(key, hashes.SHA256())
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols(["http/1.1"])
        _load_into(context, certificate, self._host_key)
        context.sni_callback = self._chosen
        return context

    def _chosen(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        """The name a client asks for, which is known only now."""
        if name and (wanted := self.context(name)) is not context:
            connection.context = wanted


def _names(name: str) -> list[x509.GeneralName]:
    """Every name and address of this machine, and the one asked for."""
    found: list[x509.GeneralName] = [
        x509.DNSName("localhost"),
        x509.DNSName("*.localhost"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        x509.IPAddress(ipaddress.ip_address("::1")),
    ]
    if name and name != "localhost":
        try:
            found.insert(0, x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            with suppress(ValueError):  # a name that no certificate can hold gets one for this machine, which its client refuses
                found.insert(0, x509.DNSName(name))
    return found


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _load_into(context: ssl.SSLContext, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    """Python's ssl takes files only: one that nobody else may read, gone at once."""
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    with tempfile.NamedTemporaryFile() as file:
        file.write(pem + certificate.public_bytes(serialization.Encoding.PEM))
        file.flush()
        context.load_cert_chain(file.name)


def _write(path: Path, data: bytes, mode: int) -> None:
    """The whole file or nothing, on the disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with open(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    os.replace(draft, path)
    sync_folder(path.parent)
