"""TLS of one side and of both with a Hubble server: names, authorities, rotation."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
import trustme
from hubble_server import HubbleServer, Ring, event

from sidelong.errors import ConfigError, SourceError
from sidelong.ingest.hubble_channel import HubbleSettings, Target
from sidelong.ingest.hubble_live import HubbleLive, open_hubble

NAME: Final = "ui.hubble-relay.cilium.io"
WILD: Final = "*.hubble-relay.cilium.io"


@dataclass(frozen=True)
class Files:
    """Where the certificates of a client lie."""

    folder: Path

    def write(self, authority: trustme.CA, client: trustme.LeafCert | None = None) -> "Files":
        """As Kubernetes mounts a secret; what was there is replaced."""
        contents = {"ca": authority.cert_pem.bytes()}
        if client:
            contents["cert"] = client.cert_chain_pems[0].bytes()
            contents["key"] = client.private_key_pem.bytes()
        for name, content in contents.items():
            fresh = self.folder / f"{name}.new"
            fresh.write_bytes(content)
            fresh.replace(self.folder / f"{name}.pem")
        return self

    def settings(self, **changes: Any) -> HubbleSettings:
        found = {
            name: str(self.folder / f"{name}.pem")
            for name in ("ca", "cert", "key")
            if (self.folder / f"{name}.pem").exists()
        }
        quick = {"batch_milliseconds": 20, "connect_seconds": 1.0, "server_name": NAME}
        given = {**quick, **found, **changes}
        return HubbleSettings(**{key: value for key, value in given.items() if value is not None})


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_side(authority: trustme.CA, *, clients: trustme.CA | None) -> grpc.ServerCredentials:
    cert = authority.issue_cert(WILD)
    pair = cert.private_key_pem.bytes(), cert.cert_chain_pems[0].bytes()
    roots = clients.cert_pem.bytes() if clients else None
    return grpc.ssl_server_credentials([pair], roots, clients is not None)


def serving(authority: trustme.CA, *, mutual: bool) -> HubbleServer:
    clients = authority if mutual else None
    return HubbleServer(Ring(event(0)), credentials=server_side(authority, clients=clients))


def read(url: str, settings: HubbleSettings) -> int:
    source = open_hubble(f"{url}?follow=false", settings)
    return sum(batch.flows.height for batch in source.batches())


def tls(server: HubbleServer) -> str:
    return server.url.replace("hubble://", "hubble+tls://")


def test_a_server_is_known_by_its_authority_and_name(files: Files, authority: trustme.CA) -> None:
    with serving(authority, mutual=False) as server:
        assert read(tls(server), files.write(authority).settings()) == 1


def test_a_client_is_known_by_its_certificate(files: Files, authority: trustme.CA) -> None:
    client = authority.issue_cert("sidelong.example")
    with serving(authority, mutual=True) as server:
        assert read(tls(server), files.write(authority, client).settings()) == 1


@pytest.mark.parametrize(
    ("changes", "told", "hint"),
    [
        ({"server_name": None}, r"for another name than 127\.0\.0\.1\n", "server_name"),
        ({"server_name": "relay.example"}, "for another name than relay.example", "server_name"),
        ({"ca": None}, "is not trusted", "set ca"),
    ],
)
def test_what_is_wrong_with_the_server_is_told(
    files: Files, authority: trustme.CA, changes: dict[str, Any], told: str, hint: str
) -> None:
    settings = files.write(authority).settings(**changes)
    with serving(authority, mutual=False) as server, pytest.raises(SourceError) as raised:
        read(tls(server), settings)
    assert raised.match(told)
    assert hint in raised.value.hint


def test_another_authority_is_not_trusted(files: Files, authority: trustme.CA) -> None:
    settings = files.write(trustme.CA()).settings()
    told = pytest.raises(SourceError, match="is not trusted")
    with serving(authority, mutual=False) as server, told:
        read(tls(server), settings)


def test_a_server_that_wants_a_certificate_says_so(files: Files, authority: trustme.CA) -> None:
    settings = files.write(authority).settings()
    told = pytest.raises(SourceError, match="without a certificate")
    with serving(authority, mutual=True) as server, told as raised:
        read(tls(server), settings)
    assert "set cert and key" in raised.value.hint


def test_a_certificate_of_another_authority_does_not_do(
    files: Files, authority: trustme.CA
) -> None:
    settings = files.write(authority, trustme.CA().issue_cert("sidelong.example")).settings()
    told = pytest.raises(SourceError, match="may not accept")
    with serving(authority, mutual=True) as server, told:
        read(tls(server), settings)


def test_tls_where_there_is_none_and_none_where_there_is_are_told_apart(
    files: Files, authority: trustme.CA
) -> None:
    settings = files.write(authority).settings()
    with HubbleServer(Ring(event(0))) as server, pytest.raises(SourceError) as raised:
        read(tls(server), settings)
    assert raised.match("does not speak TLS")
    with serving(authority, mutual=False) as server, pytest.raises(SourceError) as raised:
        read(server.url, HubbleSettings(connect_seconds=0.5))
    assert raised.match("hangs up on a client without TLS")


def stream_until(source: HubbleLive, flows: int, stream: Iterator[Any]) -> None:
    seen = 0
    for batch in stream:
        seen += batch.flows.height
        if seen >= flows:
            return


def test_a_running_stream_takes_new_certificates(files: Files, authority: trustme.CA) -> None:
    now = 0.0
    ring = Ring(event(0))
    renewed = trustme.CA()
    settings = files.write(authority, authority.issue_cert("a.example")).settings(last=1)
    with HubbleServer(ring, credentials=server_side(authority, clients=authority)) as server:
        port, url = server.port, tls(server)
        source = HubbleLive(
            Target.parse(url, settings), pause=lambda seconds: None, monotonic=lambda: now
        )
        stream = source.batches()
        stream_until(source, 1, stream)
        files.write(authority, authority.issue_cert("b.example"))
        ring.add(event(1))
        now = 10.0
        stream_until(source, 1, stream)
        ring.add(event(2))
        stream_until(source, 1, stream)
        assert len(server.requests) == 2
    # Then all of them, the authority included; the server is first.
    files.write(renewed, renewed.issue_cert("c.example"))
    ring.add(event(3))
    credentials = server_side(renewed, clients=renewed)
    with HubbleServer(ring, credentials=credentials, address=f"127.0.0.1:{port}"):
        now = 20.0
        stream_until(source, 1, stream)
        stream.close()
    assert source.counters()["received"] - source.counters()["duplicates"] == 4


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("ca", b"no certificate", "no certificate of an authority"),
        ("key", b"no key", "no certificate and its key"),
        ("cert", None, "cannot be read: No such file"),
    ],
)
def test_certificates_that_cannot_be_used_are_told_before_the_first_byte(
    files: Files, authority: trustme.CA, name: str, content: bytes | None, told: str
) -> None:
    settings = files.write(authority, authority.issue_cert("a.example")).settings()
    path = files.folder / f"{name}.pem"
    if content is None:
        os.remove(path)
    else:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=told) as raised:
        open_hubble("hubble+tls://127.0.0.1:1", settings)
    assert "no key" not in str(raised.value)


def test_a_key_of_another_certificate_is_told(files: Files, authority: trustme.CA) -> None:
    files.write(authority, authority.issue_cert("a.example"))
    other = authority.issue_cert("b.example").private_key_pem.bytes()
    (files.folder / "key.pem").write_bytes(other)
    with pytest.raises(ConfigError, match="KEY_VALUES_MISMATCH") as raised:
        open_hubble("hubble+tls://127.0.0.1:1", files.settings())
    assert "PRIVATE KEY" not in str(raised.value)
