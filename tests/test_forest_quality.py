"""How well forests tell attacks from work, on public captures of hosts they were not trained on.

What is measured stands in docs/detection.md; the bounds here are a little below it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from sidelong.features.observed import window_features
from sidelong.features.windows import Closed
from sidelong.ingest.inputs import open_inputs
from sidelong.ingest.merge import merged
from sidelong.ingest.stream import Stream
from sidelong.models.calibration import ONE
from sidelong.models.forests import CLUSTER, matrix
from sidelong.models.forests_learning import learn_scope
from sidelong.models.window_sample import WindowSample

ZEEK: Final = "stratosphere-testing/{}-zeek-mixed/data/conn.log.labeled"
PROXY: Final = "rita-proxy/proxy_rolling/{}.16:00:00-17:00:00.log.gz"
NMAP: Final = "markofu/EvilFingers/NMAP_PCAPS/NMAP SCAN ANALYSIS/{}"
WORKSTATION: Final = "world:147.32.0.0/16"


class Quality(NamedTuple):
    """Area under the ROC curve, and average precision."""

    auc: float
    precision: float


def windows(path: Path) -> Closed:
    """All windows of a capture or a log."""
    flows = pl.concat([batch.flows for batch in merged(open_inputs([str(path)]))])
    stretches = list(Stream().stretches(flows))
    rows = pl.concat([stretch.flows for stretch in stretches])
    return window_features(rows, pl.concat([stretch.pulse for stretch in stretches]))


def quality(
    scope: str, train: list[pl.DataFrame], work: pl.DataFrame, attack: pl.DataFrame
) -> Quality:
    """How well the forest of some windows tells those of an attack from another host's work."""
    sample = WindowSample()
    for frame in train:
        sample.add(scope, frame)
    found = learn_scope(scope, sample.windows(scope), 1.0)
    forest = found.groups[CLUSTER]
    scores = [
        found.forests[forest].score_of(found.depths(forest, matrix(scope, frame)))
        for frame in (work, attack)
    ]
    labels = np.repeat([0, 1], [len(one) for one in scores])
    told = np.concatenate(scores)
    return Quality(roc_auc_score(labels, told), average_precision_score(labels, told))


def probing(frame: pl.DataFrame) -> pl.DataFrame:
    """The windows in which somebody is at it: two first contacts or more."""
    return frame.filter(pl.col("first_contacts") >= 2)


@pytest.fixture(scope="module")
def zeek(data: Path) -> Mapping[str, pl.DataFrame]:
    return {name: windows(data / ZEEK.format(name)).workload for name in ("008", "010")}


@pytest.fixture(scope="module")
def work(data: Path, zeek: Mapping[str, pl.DataFrame]) -> Mapping[str, pl.DataFrame]:
    """The windows of hosts at work, by host."""
    mine = pl.col("actor") == WORKSTATION
    lan = windows(data / PROXY.format("conn")).workload
    hosts = ("ip:10.0.0.238", "ip:10.0.0.111", "world:2601:19e::/32")
    return {
        **{name: frame.filter(mine) for name, frame in zeek.items()},
        **{host: lan.filter(pl.col("actor") == host) for host in hosts},
    }


@pytest.fixture(scope="module")
def attacks(data: Path, zeek: Mapping[str, pl.DataFrame]) -> Mapping[str, pl.DataFrame]:
    others = [frame.filter(pl.col("actor") != WORKSTATION) for frame in zeek.values()]
    logs = [f"slips/port-scans/{kind}/conn.log" for kind in ("horizontal", "vertical")]
    captures = ["ndpi/synscan.pcap", NMAP.format("TCP CONNECT SCAN/TCP_CONNECT_SCAN.pcap")]
    captures += [NMAP.format("UDP SCAN/UDP_SCAN.pcap")]
    scans = [windows(data / path).workload for path in logs + captures]
    return {"internet scanners": probing(pl.concat(others)), "nmap": probing(pl.concat(scans))}


@pytest.mark.parametrize("host", ["008", "010"])
@pytest.mark.parametrize("attack", ["internet scanners", "nmap"])
def test_scans_stand_apart_from_a_workstation_that_nobody_trained_on(
    work: Mapping[str, pl.DataFrame], attacks: Mapping[str, pl.DataFrame], host: str, attack: str
) -> None:
    others = [frame for name, frame in work.items() if name != host]
    found = quality("workload", others, work[host], attacks[attack])
    assert found.auc >= 0.95
    assert found.precision >= 0.9


@pytest.fixture(scope="module")
def networks(data: Path) -> Mapping[str, pl.DataFrame]:
    """The windows of benign lookups, by network."""
    files = {
        "a contest's": "derived/maccdc2012-dns-benign.pcap",
        "a single host's": "leshark-dns/clean.pcap",
        "a proxy's": PROXY.format("dns"),
    }
    return {name: windows(data / path).domain for name, path in files.items()}


@pytest.fixture(scope="module")
def tunnels(data: Path) -> pl.DataFrame:
    files = ("ndpi/dns-tunnel-iodine.pcap", "ndpi/bad-dns-traffic.pcap")
    rows = pl.concat([windows(data / path).domain for path in files])
    return rows.filter(pl.col("lookups") >= 20)


@pytest.mark.parametrize("network", ["a contest's", "a single host's", "a proxy's"])
def test_tunnels_stand_apart_from_a_network_that_nobody_trained_on(
    networks: Mapping[str, pl.DataFrame], tunnels: pl.DataFrame, network: str
) -> None:
    others = [frame for name, frame in networks.items() if name != network]
    found = quality("domain", others, networks[network], tunnels)
    assert tunnels.height == 3
    assert found.auc >= 0.99
    assert found.precision >= 0.95


def test_a_level_of_1_percent_holds_on_later_windows_of_the_same_workload(
    work: Mapping[str, pl.DataFrame],
) -> None:
    host = work["008"].sort("window")
    sample = WindowSample()
    sample.add("workload", host[: host.height // 2])
    found = learn_scope("workload", sample.windows("workload"), 1.0)
    assert (found.judge(host[host.height // 2 :]).p <= ONE // 100).mean() <= 0.03
