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

from sidelong.ingest.inputs import open_inputs
from sidelong.ingest.merge import merged
from sidelong.ingest.podmap import PodMap

__all__ = ["NS", "Capture", "Truth", "cluster_lab", "live", "public"]

NS: Final = 1_000_000_000
_DAY_MINUTES: Final = 1_440
_AFTER_NS: Final = 60 * NS  # an alert may come so long after its cause


@dataclass(frozen=True)
class Truth:
    """One attack. actors: workloads that an alert may name; addresses: theirs; objects: what it
    should name, any of them; nothing for no matter what. Times in nanoseconds of the epoch."""

    name: str
    kind: str
    actors: tuple[str, ...]
    addresses: tuple[str, ...]
    objects: tuple[str, ...]
    start: int
    end: int

    def holds(self, time_ns: int) -> bool:
        """Whether something at that moment may come of it."""
        return self.start - NS <= time_ns <= self.end + _AFTER_NS


@dataclass(frozen=True)
class Capture:
    """Flows in order. quiet_until: before it nobody attacked, None where nothing may be learnt.

    group: live, lab or public. benign: moments of what only looks like an attack, by name.
    """

    name: str
    group: str
    paths: tuple[str, ...]
    truths: tuple[Truth, ...]
    pods: PodMap | None = None
    quiet_until: int | None = None
    benign: dict[str, tuple[int, int]] = field(default_factory=dict)

    @cached_property
    def flows(self) -> pl.DataFrame:
        """All of them, in `FLOW_SCHEMA`."""
        batches = merged(open_inputs(list(self.paths)))
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

    @property
    def workload_days(self) -> float:
        """For how long workloads were watched after the quiet time: each minute in which one is
        seen counts as one."""
        after = self.parts()[1].with_columns(minute=pl.col("time").dt.truncate("1m"))
        ends = [after.select("minute", ip=name) for name in ("src_ip", "dst_ip")]
        seen = pl.concat(ends).drop_nulls().unique()
        inside = [ip for ip in seen["ip"].unique() if _is_inside(ip)]
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
    for file in BENIGN_DNS:
        yield Capture(file, "public", (str(data / file),), ())


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
    )
    return Capture(label["file"], "public", (str(data / label["file"]),), (truth,))


def _name(address: str) -> str:
    """What an address without identity is called."""
    if ipaddress.ip_address(address).is_private:
        return f"ip:{address}"
    return f"world:{ipaddress.ip_network(f'{address}/16', strict=False)}"
