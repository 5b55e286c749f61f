"""Real Envoys for tests, where the wheel is installed."""

import os

import pytest

from peers.envoy_peer import PeerError, envoy_program

__all__ = ["envoy_installed"]


@pytest.fixture(scope="session")
def envoy_installed() -> None:
    """Skips without Envoy; in CI that is a failure."""
    try:
        envoy_program()
    except PeerError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))
