"""Kafka goes for a while under load: it is said, nothing grows, and nothing is lost or doubled.

With SIDELONG_AWAY_SECONDS for longer than the suite has time for: `make away`.
"""

import json
import os
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard
from hubble_api import wire
from hubble_server import HubbleServer, Ring
from peers.kafka_peer import Kafka
from service_cluster import Cluster, sidelong

AWAY_SECONDS = float(os.environ.get("SIDELONG_AWAY_SECONDS", "15"))
DELIVERY_SECONDS = min(5.0, AWAY_SECONDS / 3)  # so that the roles fail while it is away
PIECES = 200


@pytest.fixture
def lines(shop: Path) -> list[bytes]:
    packed = (shop / "test.hubble.jsonl.zst").read_bytes()
    return zstandard.decompress(packed, 1 << 30).splitlines()


class Feed(threading.Thread):
    """Live traffic: adds flows to a ring, bit by bit, until there are no more or until `over`."""

    def __init__(self, ring: Ring, lines: list[bytes], seconds: float) -> None:
        super().__init__(daemon=True)
        self._ring, self._lines, self._seconds = ring, lines, seconds
        self.over = threading.Event()

    def run(self) -> None:
        size = len(self._lines) // PIECES + 1
        for low in range(0, len(self._lines), size):
            if self.over.wait(self._seconds / PIECES):
                return
            flows = [json.loads(line) for line in self._lines[low : low + size]]
            self._ring.add(*((nanoseconds(flow["flow"]["time"]), wire(flow)) for flow in flows))


def nanoseconds(text: str) -> int:
    from datetime import datetime

    whole, _, rest = text.rstrip("Z").partition(".")
    seconds = int(datetime.fromisoformat(f"{whole}+00:00").timestamp())
    return seconds * 1_000_000_000 + int(rest.ljust(9, "0") or 0)


@pytest.fixture
def cluster(kafka: Kafka, tmp_path: Path, shop: Path) -> Iterator[Cluster]:
    baseline = tmp_path / "baseline"
    sidelong("learn", shop / "train.hubble.jsonl.zst", "--baseline", baseline)
    cluster = Cluster(kafka, tmp_path, baseline)
    text = cluster.config.read_text()
    cluster.config.write_text(
        text.replace("[kafka]\n", f"[kafka]\ndelivery_seconds = {DELIVERY_SECONDS}\n")
    )
    yield cluster
    for process in cluster.processes:
        process.close()


@pytest.mark.slow
def test_kafka_goes_under_load_and_comes_back(
    kafka: Kafka, cluster: Cluster, shop: Path, lines: list[bytes]
) -> None:
    replayed = sidelong(
        *("replay", shop / "test.hubble.jsonl.zst", "--output", "json"),
        *("--baseline", cluster.folder / "baseline"),
    ).splitlines()
    expected = [line for line in replayed if json.loads(line)["status"] != "closed"]
    sidelong("topics", "create", "--config", cluster.config)
    ring = Ring()
    with HubbleServer(ring) as server:
        url = f"hubble://127.0.0.1:{server.port}?since=2026-01-01T00:00:00Z"
        text = cluster.config.read_text()
        cluster.config.write_text(text.replace("[service]\n", f'[service]\ninputs = ["{url}"]\n'))
        service = cluster.start()
        feed = Feed(ring, lines, AWAY_SECONDS + 10)
        feed.start()
        try:
            service.until(lambda: service.asked("/readyz")[0] == 200)
            assert cluster.alerts(1)
            before = service.resident_megabytes()
            kafka.kill()
            try:
                gone = time.monotonic()
                service.says("Kafka is away: no broker answers")
                code, told = service.asked("/readyz")
                assert code == 503
                assert "no broker answers" in told
                time.sleep(max(0.0, AWAY_SECONDS - (time.monotonic() - gone)))
                assert service.asked("/healthz")[0] == 200
                assert service.resident_megabytes() < before + 150
            finally:
                kafka.start()
            service.says("Kafka answers after")
            found = cluster.alerts(len(expected))
            service.until(lambda: service.asked("/readyz")[0] == 200)
        finally:
            feed.over.set()
            feed.join()
        assert service.end() == 0
    assert list(dict.fromkeys(found)) == expected
    of_kafka = [line for line in service.log.splitlines() if re.search("[Kk]afka", line)]
    # One when it goes, one when it is back, and of each role at most that it failed.
    assert len(of_kafka) <= 2 + 5 + AWAY_SECONDS / 30, service.log
