"""Prometheus' own promtool. Without it tests fail; SIDELONG_PEERS=off skips them, save in CI."""

import os
from pathlib import Path

import pytest

from peers.debian import DebianError, debian_program

__all__ = ["promtool"]


@pytest.fixture(scope="session")
def promtool() -> Path:
    """The program, got where it is not installed."""
    if os.environ.get("SIDELONG_PEERS") == "off" and os.environ.get("CI") != "true":
        pytest.skip("SIDELONG_PEERS is off: no real Prometheus")
    try:
        return debian_program("prometheus", "promtool")
    except DebianError as error:
        pytest.fail(f"{error}\nor set SIDELONG_PEERS=off to go without", pytrace=False)
