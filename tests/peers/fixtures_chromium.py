"""A real Chromium. Without it tests fail; SIDELONG_PEERS=off skips them, save in CI."""

import os
from collections.abc import Iterator

import pytest

from peers.chromium_peer import Chromium
from peers.debian import DebianError

__all__ = ["chromium"]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    """One that runs while the tests of a module do: see Chromium on why not longer."""
    if os.environ.get("SIDELONG_PEERS") == "off" and os.environ.get("CI") != "true":
        pytest.skip("SIDELONG_PEERS is off: no real Chromium")
    try:
        browser = Chromium()
    except DebianError as error:
        pytest.fail(f"{error}\nor set SIDELONG_PEERS=off to go without", pytrace=False)
    with browser:
        yield browser
