"""The real Kubernetes API. Without it tests fail; SIDELONG_PEERS=off skips them, save in CI."""

import os
from collections.abc import Iterator

import pytest

from peers.kubernetes_peer import Kubernetes, PeerError, build

__all__ = ["kubernetes"]


@pytest.fixture(scope="module")
def kubernetes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubernetes]:
    """A cluster for the tests of one file. The first to ask for it waits until it is built."""
    off = os.environ.get("SIDELONG_PEERS") == "off"
    if off and os.environ.get("CI") != "true":
        pytest.skip("SIDELONG_PEERS is off: no real Kubernetes")
    try:
        build()
        cluster = Kubernetes(tmp_path_factory.mktemp("kubernetes"))
    except PeerError as error:
        pytest.fail(f"{error}\nor set SIDELONG_PEERS=off to go without", pytrace=False)
    with cluster:
        yield cluster
