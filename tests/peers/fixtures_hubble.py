"""Fixtures of the real Hubble. Without it tests fail; SIDELONG_PEERS=off skips them, save in CI."""

import os
from pathlib import Path
from typing import Final, NamedTuple

import pytest
import trustme

from peers.hubble_peer import PeerError, TlsFiles, build

__all__ = ["HubbleTls", "hubble_program", "hubble_tls", "issue_hubble_tls"]

NAMES: Final = ("*.hubble-relay.cilium.io", "*.default.hubble-grpc.cilium.io")


@pytest.fixture(scope="session")
def hubble_program() -> Path:
    """The program of `peers.hubble_peer`, built. The first test to ask for it waits for that."""
    off = os.environ.get("SIDELONG_PEERS") == "off"
    if off and os.environ.get("CI") != "true":
        pytest.skip("SIDELONG_PEERS is off: no real Hubble")
    try:
        return build()
    except PeerError as error:
        pytest.fail(f"{error}\nor set SIDELONG_PEERS=off to go without", pytrace=False)


class HubbleTls(NamedTuple):
    """What the two sides show each other, as `cilium-certgen` makes it: one authority for all.

    server: wants a certificate of that authority. client: has one. stranger: has one of another.
    server_name: what a client must expect the server to be called.
    """

    server: TlsFiles
    client: TlsFiles
    stranger: TlsFiles
    server_name: str = "ui.hubble-relay.cilium.io"


@pytest.fixture(scope="session")
def hubble_tls(tmp_path_factory: pytest.TempPathFactory) -> HubbleTls:
    """Certificates for a server and a client of Hubble."""
    return issue_hubble_tls(tmp_path_factory.mktemp("hubble-tls"))


def issue_hubble_tls(folder: Path) -> HubbleTls:
    """New certificates in `folder`, of a new authority; what was there before is replaced."""
    authority, other = trustme.CA(), trustme.CA()
    ca = folder / "ca.crt"
    authority.cert_pem.write_to_path(ca)

    def issue(name: str, by: trustme.CA, *names: str) -> TlsFiles:
        issued = by.issue_cert(*names)
        files = TlsFiles(folder / f"{name}.crt", folder / f"{name}.key", ca)
        issued.cert_chain_pems[0].write_to_path(files.cert)
        issued.private_key_pem.write_to_path(files.key)
        return files

    return HubbleTls(
        issue("server", authority, *NAMES),
        issue("client", authority, "sidelong.hubble-relay.cilium.io"),
        issue("stranger", other, "sidelong.hubble-relay.cilium.io"),
    )
