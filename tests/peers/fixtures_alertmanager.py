"""The real Alertmanager. Without it tests fail; SIDELONG_PEERS=off skips them, save in CI."""

import os

import pytest

from peers.alertmanager_peer import alertmanager_program
from peers.debian import DebianError

__all__ = ["alertmanager_installed"]


@pytest.fixture(scope="session")
def alertmanager_installed() -> None:
    """See that it can be had, and get it where it is not installed."""
    if os.environ.get("SIDELONG_PEERS") == "off" and os.environ.get("CI") != "true":
        pytest.skip("SIDELONG_PEERS is off: no real Alertmanager")
    try:
        alertmanager_program()
    except DebianError as error:
        pytest.fail(f"{error}\nor set SIDELONG_PEERS=off to go without", pytrace=False)
