"""Captures with what is true of them: what happened, who did it, how long all was quiet before."""

import ipaddress
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import polars as pl
from score import BENIGN_DNS

from sidelong.ingest.csv_settings import CsvSettings
from sidelong.ingest.inputs import open_inputs
from sidelong.ingest.merge import merged
from sidelong.ingest.podmap import PodMap
from sidelong.ingest.settings import InputSettings
from sidelong.ingest.zeek_tsv import Tables

__all__ = ["NS", "Capture", "Truth", "cluster_lab", "live", "public"]

NS: Final = 1_000_000_000
_DAY_MINUTES: Final = 1_440
_TAUGHT_SECONDS: Final = 1_500
_AFTER_NS: Final = 60 * NS  # an alert may come so long after its cause


@dataclass(frozen=True)
class Truth:
    """One attack. actors: workloads that an alert may name; addresses: theirs; objects: what it
    should name, any of them; nothing for no matter what. towards: the addresses that it was aimed
    at, if at some only. Times in nanoseconds of the epoch."""

    name: str
    kind: str
    actors: tuple[str, ...]
    addresses: tuple[str, ...]
    objects: tuple[str, ...]
    start: int
    end: int
    towards: tuple[str, ...] = ()

    def holds(self, time_ns: int) -> bool:
        """Whether something at that moment may come of it."""
        return self.start - NS <= time_ns <= self.end + _AFTER_NS


@dataclass(frozen=True)
class Capture:
    """Flows in order. quiet_until: before it nobody attacked, None where nothing may be learnt.

    group: live, lab, public or simulated. settings: how to read it. benign: moments of what only
    looks like an attack, by name. inside: addresses that are watched though they are public.
    """

    name: str
    group: str
    paths: tuple[str, ...]
    truths: tuple[Truth, ...]
    pods: PodMap | None = None
    quiet_until: int | None = None
    benign: dict[str, tuple[int, int]] = field(default_factory=dict)
    settings: InputSettings = InputSettings()  # noqa: RUF009, a frozen value
    inside: tuple[str, ...] = ()

    @cached_property
    def flows(self) -> pl.DataFrame:
        """All of them, in `FLOW_SCHEMA`."""
        format = "csv" if self.settings.csv.columns else None
        batches = merged(open_inputs(list(self.paths), format, self.settings))
        return pl.concat([batch.flows for batch in batches if batch.flows.height])

    def parts(self, share: float = 1.0) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The flows of the last `share` of the quiet time, and those after it."""
        if self.quiet_until is None:
            return self.flows.clear(), self.flows
        time = self.flows["time"].to_physical()
        first = int(time.drop_nulls().min() or 0)  # type: ignore[arg-type]
        since = self.quiet_until - round((self.quiet_until - first) * share)
        before = (time < self.quiet_until).fill_null(True)
        return self.flows.filter(before & (time >= since)), self.flows.filter(~before)

    def with_flows(self, flows: pl.DataFrame) -> "Capture":
        """The same capture with other flows."""
        changed = replace(self)
        object.__setattr__(changed, "__dict__", {**vars(self), "flows": flows})
        return changed

    @cached_property
    def _held(self) -> dict[str, str]:
        return dict(self.pods.frame.select("ip", "name").iter_rows()) if self.pods else {}

    def holder(self, row: dict[str, Any], side: str) -> str:
        """Who stands at a side of a flow: what the source says, the pod map, or the address."""
        name, ip = row[side], str(row[f"{side}_ip"])
        known = name if name and not name.startswith("reserved:world") else self._held.get(ip)
        return str(known) if known else _name(ip)

    @property
    def workload_days(self) -> float:
        """For how long workloads were watched after the quiet time: each minute in which one is
        seen counts as one."""
        after = self.parts()[1].with_columns(minute=pl.col("time").dt.truncate("1m"))
        ends = [after.select("minute", ip=name) for name in ("src_ip", "dst_ip")]
        seen = pl.concat(ends).drop_nulls().unique()
        inside = [ip for ip in seen["ip"].unique() if ip in self.inside or _is_inside(ip)]
        return seen.filter(pl.col("ip").is_in(inside)).height / _DAY_MINUTES


def _is_inside(ip: str) -> bool:
    address = ipaddress.ip_address(ip)
    return address.is_private and not (address.is_multicast or address.is_loopback)


def live(folder: Path) -> Capture:
    """A session of tests/bench/cluster."""
    told = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    truths = [
        Truth(
            name=one["name"],
            kind=one["kind"],
            actors=tuple(one["actors"]),
            addresses=tuple(one["addresses"]),
            objects=tuple(one["objects"]),
            start=round(one["start"] * NS),
            end=round(one["end"] * NS),
        )
        for one in told["truths"]
    ]
    return Capture(
        name=f"live bench, seed {told['seed']}",
        group="live",
        paths=(str(folder / "traffic.pcap"),),
        truths=tuple(one for one in truths if one.kind != "benign"),
        pods=PodMap.read(folder / "pods.json"),
        quiet_until=round(told["quiet_until"] * NS),
        benign={one.name: (one.start, one.end) for one in truths if one.kind == "benign"},
    )


def cluster_lab(data: Path) -> Iterator[Capture]:
    """The shop of the examples, as Hubble saw it."""
    folder = data / "cluster-lab"
    holders = json.loads((folder / "pods.json").read_text(encoding="utf-8"))
    named = {
        pod["ip"]: f"{pod['namespace']}/{pod['workload']}"
        for pod in holders.values()
        if pod.get("namespace")
    }
    labels = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
    truths = tuple(
        Truth(
            name=one["name"],
            kind=one["kind"],
            actors=(named[one["src"]],),
            addresses=(one["src"],),
            objects=tuple({str(named.get(one["dst"], one["dst"])), str(one["dst"])}),
            start=round(one["start"] * NS),
            end=round(one["end"] * NS),
        )
        for one in labels
        if one["kind"] != "benign"
    )
    train, test = (str(folder / f"{part}.hubble.jsonl.zst") for part in ("train", "test"))
    first = Capture("", "lab", (test,), ()).flows["time"].to_physical().min()
    assert isinstance(first, int)
    yield Capture(
        "cluster-lab", "lab", (train, test), truths, PodMap.read(folder / "pods.json"), first
    )


def public(data: Path) -> Iterator[Capture]:
    """The labelled scans and tunnels of others, and benign DNS; nothing is learnt of them."""
    labels = json.loads((data / "labels.json").read_text(encoding="utf-8"))
    for label in labels:
        if label["detection"] == "scan" and "attacker" in label:
            yield _whole(data, label, "scan", label["attacker"], ())
        elif label["detection"] == "dns":
            zone = (label["zone"],)
            yield _whole(data, label, "dns_exfiltration", label.get("client"), zone)
        elif label["detection"] == "scan":
            yield _workstation(data, label["file"])
        elif "new_edge" in label:
            yield _new_edge(data, label)
    for file in (*BENIGN_DNS, *BENIGN):
        yield Capture(file, "public", (str(data / file),), ())
    yield Capture(_CLUSTER, "public", (str(data / _CLUSTER),), (), settings=_CLUSTER_SETTINGS)


BENIGN: Final = (
    "rita-proxy/proxy_rolling/conn.15:00:00-16:00:00.log.gz",
    "rita-proxy/proxy_rolling/conn.16:00:00-17:00:00.log.gz",
    "netflowlabeler/conn.json.log",
    "zeek-btest/dce-rpc/mapi.pcap",
    "zeek-btest/krb/smb2_krb.pcap",
    "zeek-btest/smb/smb2.pcap",
    "zeek-btest/smb/smb3_multichannel.pcap",
    "zeek-btest/ssh/ssh.pcap",
    "hubble-modern",
    "hubble-otel",
)
"""What others recorded as ordinary, beside DNS."""

_CLUSTER: Final = "derived/k8s_benign_first30.csv"
_CLUSTER_SETTINGS: Final = InputSettings(
    csv=CsvSettings(
        columns={
            "time": "Timestamp",
            "src_ip": "Src IP",
            "src_port": "Src Port",
            "dst_ip": "Dst IP",
            "dst_port": "Dst Port",
            "protocol": "Protocol",
            "duration": "Flow Duration",
            "packets": "Total Fwd Packet",
            "packets_received": "Total Bwd packets",
        },
        duration_unit="us",
    )
)


def _workstation(data: Path, file: str) -> Capture:
    """A day of one computer, with all that scanned it from outside: one attack, by many."""
    columns = ("ts", "id.orig_h", "id.resp_h", "id.resp_p", "label")
    tables = Tables(columns, (), ("conn",)).sections((data / file).read_bytes())
    table = pl.concat([section.rows for section in tables])
    evil = table.filter(pl.col("label") == "Malicious")["id.orig_h"].unique().sort()
    actors = tuple(dict.fromkeys(_name(address) for address in evil))
    truth = Truth("internet scanners", "scan", actors, tuple(evil), (), -(2**62), 2**62)
    own = table.filter(pl.col("label") != "Malicious")["id.orig_h"].mode().sort().head(1)
    return Capture(file, "public", (str(data / file),), (truth,), inside=tuple(own))


def _new_edge(data: Path, label: dict[str, Any]) -> Capture:
    """A new edge after some time in which nobody attacked."""
    source, target, _ = label["new_edge"]
    quiet = Capture("", "public", (str(data / label["file"]),), ())
    begun = quiet.flows["time"].to_physical().min()
    assert isinstance(begun, int)
    truth = Truth(
        name=label["tool"],
        kind="lateral_movement",
        actors=(_name(source),),
        addresses=(source,),
        objects=(_name(target),),
        start=begun + _TAUGHT_SECONDS * NS,  # the intruder has been inside since before
        end=2**62,
    )
    return replace(
        quiet, name=label["file"], truths=(truth,), quiet_until=begun + _TAUGHT_SECONDS * NS
    )


def _whole(
    data: Path, label: dict[str, Any], kind: str, attacker: str | None, objects: Sequence[str]
) -> Capture:
    """A capture that is an attack from end to end, as far as its label tells."""
    truth = Truth(
        name=label["tool"],
        kind=kind,
        actors=() if attacker is None else (_name(attacker),),
        addresses=() if attacker is None else (attacker,),
        objects=tuple(objects),
        start=-(2**62),
        end=2**62,
        towards=(label["target"],) if "target" in label else (),
    )
    return Capture(label["file"], "public", (str(data / label["file"]),), (truth,))


def _name(address: str) -> str:
    """What an address without identity is called."""
    if ipaddress.ip_address(address).is_private:
        return f"ip:{address}"
    return f"world:{ipaddress.ip_network(f'{address}/16', strict=False)}"
