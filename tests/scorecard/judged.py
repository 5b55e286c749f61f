"""What was found in a capture, held against what is true of it."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl
from scipy.stats import chi2

from scorecard.captures import NS, Capture, Truth
from sidelong.alerts.incident import Incident
from sidelong.features.names import name_parts
from sidelong.ingest.schema import TCP_FLAGS
from sidelong.learning import Learning
from sidelong.models.baseline import Baseline
from sidelong.pipeline import Pipeline

__all__ = ["Found", "Judged", "best_possible", "incidents", "judge", "learnt", "poisson"]

_SYN: Final = TCP_FLAGS["SYN"]
_ACK: Final = TCP_FLAGS["ACK"]


@dataclass(frozen=True)
class Found:
    """How one attack was found. incident: the one that names it, None if none does.

    events: how many of its first contacts, never-seen names or hops it took; bytes: said in names.
    named: whether actor and object are right.
    """

    capture: str
    truth: Truth
    incident: Incident | None
    events: int | None = None
    bytes: int | None = None
    right_object: bool | None = None


@dataclass(frozen=True)
class Judged:
    """A capture, judged. false_alarms: incidents above info that no attack explains."""

    capture: Capture
    found: tuple[Found, ...]
    false_alarms: tuple[Incident, ...]
    incidents: tuple[Incident, ...]


def learnt(flows: pl.DataFrame, capture: Capture) -> Baseline | None:
    """The baseline of quiet flows; None where there are none."""
    if flows.is_empty():
        return None
    learning = Learning(pods=capture.pods)
    learning.observe(flows)
    return learning.finish()


def incidents(flows: pl.DataFrame, capture: Capture, baseline: Baseline | None) -> list[Incident]:
    """The last state of each incident, in the order in which they opened."""
    pipeline = Pipeline(baseline, capture.pods)
    latest: dict[str, Incident] = {}
    for event in pipeline.process(flows) + pipeline.finish():
        latest[event.id] = event
    return list(latest.values())


def judge(capture: Capture, *, share: float = 1.0) -> Judged:
    """Learn from a share of the quiet time, detect in the rest, compare."""
    quiet, rest = capture.parts(share)
    told = incidents(rest, capture, learnt(quiet, capture))
    alarms = [one for one in told if one.severity != "info"]
    found = tuple(_found(truth, capture, quiet, rest, alarms) for truth in capture.truths)
    # Severity rises and stories join while an attack lasts; its other sides are no false alarms.
    unexplained = tuple(one for one in alarms if not any(_explains(t, one) for t in capture.truths))
    return Judged(capture, found, unexplained, tuple(told))


def _found(
    truth: Truth,
    capture: Capture,
    quiet: pl.DataFrame,
    flows: pl.DataFrame,
    alarms: Sequence[Incident],
) -> Found:
    naming = [one for one in alarms if _names(truth, one)]
    if not naming:
        return Found(capture.name, truth, None)
    incident = min(naming, key=lambda one: one.detected_at)
    until = max(round(incident.detected_at.timestamp() * NS), truth.start)
    events, said = _events(truth, quiet, flows, until)
    named = {
        text for one in incident.objects for text in (one.workload, one.ip, one.domain) if text
    }
    right = any(any(want in text for text in named) for want in truth.objects)
    return Found(capture.name, truth, incident, events, said, right if truth.objects else None)


def _names(truth: Truth, incident: Incident) -> bool:
    """Whether an incident is about an attack: its kind, its actor, its time.

    An incident of the same kind and actor that is open already grows instead of opening again.
    """
    if incident.kind != truth.kind:
        return False
    who = {incident.actor.workload, *(one.workload for one in incident.objects)}
    if truth.actors and not who & set(truth.actors):
        return False
    opened, last = (round(t.timestamp() * NS) for t in (incident.detected_at, incident.last_seen))
    return truth.holds(opened) or (opened < truth.start <= last)


def _explains(truth: Truth, incident: Incident) -> bool:
    """Whether an incident of whatever kind has to do with an attack."""
    opened = round(incident.detected_at.timestamp() * NS)
    touched = {incident.actor.workload, *(one.workload for one in incident.objects)}
    touched |= {incident.actor.ip, *(one.ip for one in incident.objects)}
    sides = {*truth.actors, *truth.addresses, *truth.objects}
    return truth.holds(opened) and (not truth.actors or bool(touched & sides))


def _events(
    truth: Truth, quiet: pl.DataFrame, flows: pl.DataFrame, until: int
) -> tuple[int, int | None]:
    """How much of the attack had been seen: attempts, or names and their bytes, or hops."""
    time = pl.col("time").to_physical()
    seen = flows.filter(time.is_between(truth.start, until))
    if truth.addresses and truth.kind != "lateral_movement":
        seen = seen.filter(pl.col("src_ip").is_in(list(truth.addresses)))
    if truth.kind == "dns_exfiltration":
        asked = seen.filter(pl.col("dns_name").is_not_null())["dns_name"].unique()
        zones = [zone.lower() for zone in truth.objects]
        parts = asked.alias("name").to_frame().hstack(name_parts(asked))
        ours = pl.any_horizontal([pl.col("name").str.contains(z, literal=True) for z in zones])
        names = parts.filter(ours | (pl.col("domain") == "(no zone)"))
        return names.height, int(names["subdomain"].str.len_bytes().sum())
    opening = (pl.col("tcp_flags") & (_SYN | _ACK)) == _SYN
    attempts = seen.filter(
        opening.fill_null(True), pl.col("dst_port") != 53, ~pl.col("reply").fill_null(False)
    )
    if truth.kind == "lateral_movement":
        edge = ["src_ip", "dst_ip", "dst_port"]
        hops = attempts.filter(pl.col("src_ip").is_in(list(truth.addresses)))
        return hops.join(quiet, on=edge, how="anti").select(edge).n_unique(), None
    return attempts.select("dst_ip", "dst_port", "protocol").n_unique(), None


def best_possible(kind: str) -> str:
    """What no test of the same bound can beat (reference: docs/detection.md)."""
    return {
        "scan": "3 unused, 4 denied, 5 failed",
        "dns_exfiltration": "1,024 bytes",
        "lateral_movement": "1 sensitive, else 2 hops",
    }[kind]


def poisson(count: int, exposure: float) -> tuple[float, float]:
    """The 95 % limits of a rate, exact (Garwood 1936)."""
    if exposure <= 0:
        return 0.0, math.inf
    low = 0.0 if count == 0 else float(chi2.ppf(0.025, 2 * count)) / 2
    high = float(chi2.ppf(0.975, 2 * count + 2)) / 2
    return low / exposure, high / exposure


def precision(judged: Sequence[Judged], k: int) -> tuple[int, int]:
    """Of the k incidents with the highest score of each capture, how many are explained."""
    right = asked = 0
    for one in judged:
        ranked = sorted(_alarms(one), key=lambda i: -i.score)[:k]
        asked += len(ranked)
        right += sum(incident not in one.false_alarms for incident in ranked)
    return right, asked


def _alarms(one: Judged) -> Iterator[Incident]:
    return (incident for incident in one.incidents if incident.severity != "info")
