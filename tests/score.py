"""What is found in the labelled public captures, and what is missed, label by label.

No capture is learnt from before it is judged, except where its label says so.
"""

import ipaddress
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import polars as pl

from sidelong.alerts.incident import Incident
from sidelong.ingest.inputs import open_inputs
from sidelong.ingest.merge import merged
from sidelong.ingest.zeek_tsv import Tables
from sidelong.learning import Learning
from sidelong.models.baseline import Baseline
from sidelong.pipeline import Pipeline

__all__ = ["Result", "benign_dns", "incidents", "lateral", "scanners", "scans", "tunnels"]

ROOT: Final = Path(__file__).resolve().parent.parent
BENIGN_DNS: Final = (
    "derived/maccdc2012-dns-benign.pcap",
    "leshark-dns/clean.pcap",
    "rita-proxy/proxy_rolling/dns.15:00:00-16:00:00.log.gz",
    "rita-proxy/proxy_rolling/dns.16:00:00-17:00:00.log.gz",
    "zeek-btest/dns-edns-ecs.pcap",
)


@dataclass(frozen=True, slots=True)
class Result:
    """What one capture gave. right: whether that is what its label asks for."""

    file: str
    asked: str
    seen: str
    right: bool


def flows(path: Path) -> list[pl.DataFrame]:
    """The flows of a capture, or of a Zeek log."""
    return [batch.flows for batch in merged(open_inputs([str(path)])) if batch.flows.height]


def incidents(frames: Sequence[pl.DataFrame], baseline: Baseline | None = None) -> list[Incident]:
    """The last state of each incident above info."""
    pipeline = Pipeline(baseline=baseline)
    latest: dict[str, Incident] = {}
    for frame in frames:
        latest.update((event.id, event) for event in pipeline.process(frame))
    latest.update((event.id, event) for event in pipeline.finish())
    return [incident for incident in latest.values() if incident.severity != "info"]


def labels(data: Path, detection: str) -> list[dict[str, Any]]:
    """The labelled files for one detection that are there."""
    listed = json.loads((data / "labels.json").read_text(encoding="utf-8"))
    return [label for label in listed if label["detection"] == detection]


def workload(address: str) -> str:
    """What an address without identity is called."""
    if ipaddress.ip_address(address).is_private:
        return f"ip:{address}"
    network = ipaddress.ip_network(f"{address}/16", strict=False)
    return f"world:{network}"


def scans(data: Path) -> Iterator[Result]:
    """Every labelled scanner is named."""
    for label in labels(data, "scan"):
        if "attacker" in label:
            found = [one for one in incidents(flows(data / label["file"])) if one.kind == "scan"]
            named = sorted({one.actor.workload for one in found})
            asked = f"scan by {label['attacker']}"
            right = workload(label["attacker"]) in named
            yield Result(label["file"], asked, _listed(named), right)


def scanners(data: Path) -> Iterator[Result]:
    """The share of internet scanners that is named; one or two probes of a source are no scan."""
    for label in labels(data, "scan"):
        if "label_field" in label:
            path = data / label["file"]
            columns = ("id.orig_h", "id.resp_h", "id.resp_p", "label")
            tables = Tables(columns, (), ("conn",)).sections(path.read_bytes())
            table = pl.concat([section.rows for section in tables])
            sources = (
                table.filter(pl.col("label") == "Malicious")
                .group_by("id.orig_h")
                .agg(pl.struct("id.resp_h", "id.resp_p").n_unique().alias("probes"))
            )
            named = {one.actor.workload for one in incidents(flows(path)) if one.kind == "scan"}
            networks = {(workload(source), probes >= 5) for source, probes in sources.iter_rows()}
            able = {network for network, enough in networks if enough}
            seen = f"{len(able & named)} of {len(able)} networks named, {len(named - able)} others"
            yield Result(label["file"], "sources of 5 probes or more", seen, bool(able & named))


def tunnels(data: Path) -> Iterator[Result]:
    """Every labelled DNS tunnel is named."""
    for label in labels(data, "dns"):
        found = incidents(flows(data / label["file"]))
        found = [one for one in found if one.kind == "dns_exfiltration"]
        domains = sorted({target.domain or "?" for one in found for target in one.objects})
        yield Result(label["file"], f"tunnel to {label['zone']}", _listed(domains), bool(found))


def benign_dns(data: Path) -> Iterator[Result]:
    """Benign DNS gives no DNS incident."""
    for file in BENIGN_DNS:
        found = incidents(flows(data / file))
        named = sorted(one.actor.workload for one in found if one.kind == "dns_exfiltration")
        yield Result(file, "no tunnel", _listed(named), not named)


def lateral(data: Path) -> Iterator[Result]:
    """The new edge of APT29's first day, judged by what its first 1,500 s have taught."""
    for label in labels(data, "lateral"):
        if "new_edge" not in label:
            continue
        source, target, port = label["new_edge"]
        whole = pl.concat(flows(data / label["file"]))
        start = whole["time"].min()
        taught = pl.col("time") < pl.lit(start) + timedelta(seconds=1_500)
        learning = Learning()
        learning.observe(whole.filter(taught))
        found = incidents([whole.filter(~taught)], learning.finish())
        # One record of conn.log is one flow: from its first packet to the answer that proves that
        # somebody listens there.
        begun = whole.filter(
            pl.col("src_ip") == source, pl.col("dst_ip") == target, pl.col("dst_port") == port
        )["time"].to_list()
        answered = whole.filter(
            pl.col("src_ip") == target, pl.col("dst_ip") == source, pl.col("src_port") == port
        )["time"].to_list()
        named = [
            one
            for one in found
            if one.kind == "lateral_movement"
            and one.actor.workload == workload(source)
            and any(peer.workload == workload(target) for peer in one.objects)
        ]
        moments = [one.detected_at for one in named]
        seen = _listed([one.summary for one in found])
        asked = f"{source} -> {target}:{port}, on its first flow"
        on_first = [min(begun) <= moment <= min(answered) for moment in moments]
        yield Result(label["file"], asked, seen, on_first == [True])


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return (", ".join(names[:3]) or "nothing") + more
