"""TLS on the server's port, and the server as an HTTPS proxy: clients that insist on AWS's own host names arrive here."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from pilvi.gateway.secure import Secure
from pilvi.storage.keyring import Keyring
from pilvi.testing.server import Account, TestServer


@pytest.fixture(scope="module")
def trusted(server: TestServer) -> str:
    """The certificate that clients are told to trust."""
    server.cloud.authority.prepare()
    return str(server.cloud.authority.certificate_path)


@pytest.fixture
def client(aws: Account, trusted: str) -> Iterator[Callable[..., Any]]:
    """Clients of the account that trust the server, closed in the end."""
    keys = aws.session.get_credentials()
    session = boto3.Session(keys.access_key, keys.secret_key, region_name=aws.region)
    made: list[Any] = []

    def make(service: str, **more: object) -> Any:
        made.append(session.client(service, verify=trusted, **more))
        return made[-1]

    yield make
    for each in made:
        each.close()


def port(aws: Account) -> int:
    return int(aws.endpoint.rpartition(":")[2])


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_tls_is_spoken_on_the_same_port(aws: Account, client: Callable[..., Any], host: str) -> None:
    sts = client("sts", endpoint_url=f"https://{host}:{port(aws)}")
    assert sts.get_caller_identity()["Account"] == aws.account


def test_the_proxy_leads_aws_names_here(aws: Account, client: Callable[..., Any]) -> None:
    proxied = Config(proxies={"https": aws.endpoint})
    assert client("sts", config=proxied).get_caller_identity()["Account"] == aws.account
    s3 = client("s3", config=proxied)
    body = os.urandom(300_000)
    s3.create_bucket(Bucket=f"through-the-proxy-{aws.account}")
    # Over TLS botocore sends the checksum behind the body, in chunks; the bucket stands in the host name.
    s3.put_object(Bucket=f"through-the-proxy-{aws.account}", Key="k", Body=body)
    assert s3.get_object(Bucket=f"through-the-proxy-{aws.account}", Key="k")["Body"].read() == body


def test_secure_transport_is_known_to_policies(aws: Account, client: Callable[..., Any]) -> None:
    s3 = aws.client("s3")
    bucket = f"tls-only-{aws.account}"
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    deny = (
        '{"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Principal": "*", "Action": "s3:GetObject", '
        f'"Resource": "arn:aws:s3:::{bucket}/*", "Condition": {{"Bool": {{"aws:SecureTransport": "false"}}}}}}]}}'
    )
    s3.put_bucket_policy(Bucket=bucket, Policy=deny)
    with pytest.raises(s3.exceptions.ClientError, match="AccessDenied"):
        s3.get_object(Bucket=bucket, Key="k")
    secure = client("s3", endpoint_url=f"https://localhost:{port(aws)}")
    assert secure.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"


def test_who_does_not_trust_the_server_is_not_served(aws: Account) -> None:
    with socket.create_connection(("127.0.0.1", port(aws)), timeout=10) as sock:
        with pytest.raises(ssl.SSLCertVerificationError):
            ssl.create_default_context().wrap_socket(sock, server_hostname="localhost")


def test_the_private_key_lies_sealed(server: TestServer, trusted: str) -> None:
    folder = Path(server.cloud.config.data_dir)
    sealed = (folder / "keys" / "ca.key").read_bytes()
    assert b"PRIVATE" not in sealed
    assert (folder / "keys" / "ca.key").stat().st_mode & 0o077 == 0
    assert ssl.PEM_cert_to_DER_cert(Path(trusted).read_text())


@pytest.fixture
def elsewhere() -> Iterator[int]:
    """A server that is not AWS: says what it heard."""
    listening = socket.create_server(("::1", 0), family=socket.AF_INET6)

    def serve() -> None:
        other, _ = listening.accept()
        with other:
            while data := other.recv(65536):
                other.sendall(data.upper())

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listening.getsockname()[1]
    listening.close()


def connected(aws: Account, target: str) -> tuple[socket.socket, bytes]:
    sock = socket.create_connection(("127.0.0.1", port(aws)), timeout=10)
    sock.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
    return sock, sock.recv(65536)


def test_other_hosts_are_reached_through_a_tunnel(aws: Account, elsewhere: int) -> None:
    sock, said = connected(aws, f"[::1]:{elsewhere}")
    with sock:
        assert said.startswith(b"HTTP/1.1 200 ")
        message = b"hello" * 100_000
        threading.Thread(target=sock.sendall, args=(message,), daemon=True).start()
        heard = b""
        while len(heard) < len(message):
            heard += sock.recv(65536)
        assert heard == message.upper()


NOWHERE = [
    ("nowhere.invalid:443", b"502"),
    ("a..invalid:443", b"502"),
    (f"{'a' * 70}.invalid:443", b"502"),
    ("[::1]:99999999", b"502"),
    ("nowhere", b"400"),
    ("nowhere:port", b"400"),
]


@pytest.mark.parametrize(("target", "status"), NOWHERE)
def test_what_cannot_be_reached_is_told(aws: Account, target: str, status: bytes) -> None:
    sock, said = connected(aws, target)
    with sock:
        assert said.split()[1] == status


@pytest.mark.parametrize("peer", ["10.0.0.5", "::ffff:10.0.0.5", "fe80::1"])
def test_tunnels_are_for_this_machine_only(peer: str) -> None:
    class Transport:
        def __init__(self) -> None:
            self.written, self.is_closed = b"", False

        def get_extra_info(self, _name: str) -> tuple[str, int]:
            return (peer, 1)

        def write(self, data: bytes) -> None:
            self.written += data

        def close(self) -> None:
            self.is_closed = True

    transport = Transport()
    Secure(None).connect(None, transport, "pypi.org:443", b"")  # type: ignore[arg-type]
    assert transport.written.startswith(b"HTTP/1.1 403 ")
    assert transport.is_closed


def test_processes_that_start_together_have_one_authority(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from pilvi.gateway.authority import Authority; from pilvi.storage.keyring import Keyring\n"
        "folder = Path(sys.argv[1]); found = Authority(folder, Keyring(folder / 'keys/master.key'))\n"
        "sys.stdin.readline(); found.prepare(); found.context('sts.amazonaws.com'); print(found._loaded[0].serial_number)"
    )
    Keyring(tmp_path / "keys" / "master.key")
    command = [sys.executable, "-c", program, str(tmp_path)]
    started = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    told = [process.communicate(timeout=60)[0] for process in started]
    assert len(set(told)) == 1
    assert told[0].strip()


def test_nonsense_instead_of_a_handshake_ends_the_connection(aws: Account) -> None:
    with socket.create_connection(("127.0.0.1", port(aws)), timeout=10) as sock:
        sock.sendall(b"\x16\x03\x01\x00\x05hello")
        while sock.recv(65536):
            pass
    assert aws.client("sts").get_caller_identity()["Account"] == aws.account
