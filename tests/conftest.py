"""What several test files need."""

import os
from pathlib import Path
from typing import Final

import pytest
from peers.fixtures_alertmanager import alertmanager_installed as alertmanager_installed
from peers.fixtures_chromium import chromium as chromium
from peers.fixtures_envoy import envoy_installed as envoy_installed
from peers.fixtures_hubble import hubble_program as hubble_program
from peers.fixtures_hubble import hubble_tls as hubble_tls
from peers.fixtures_kafka import kafka as kafka
from peers.fixtures_kafka import kafka_cluster as kafka_cluster
from peers.fixtures_kubernetes import kubernetes as kubernetes
from peers.fixtures_prometheus import promtool as promtool
from peers.fixtures_spark import spark as spark

ROOT: Final = Path(__file__).resolve().parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite-golden", action="store_true", help="write what tests compare with anew"
    )


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of public captures: SIDELONG_DATA, else `../shared/data` beside the repository."""
    folder = Path(os.environ.get("SIDELONG_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        missing = f"no captures in {folder}; set SIDELONG_DATA"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    return folder


@pytest.fixture(scope="session")
def shop() -> Path:
    """The shipped incident."""
    return ROOT / "examples" / "shop-incident"
