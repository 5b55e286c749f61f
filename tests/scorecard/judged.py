"""What was found in a capture, held against what is true of it."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import polars as pl
from recount_incidents import Recount
from scipy.stats import chi2

from scorecard import rivals
from scorecard.captures import NS, Capture, Truth
from sidelong.alerts.incident import Incident
from sidelong.features.names import name_parts
from sidelong.ingest.schema import TCP_FLAGS
from sidelong.learning import Learning
from sidelong.models.baseline import Baseline
from sidelong.models.evidence import ALERT
from sidelong.models.outcome_weights import OutcomeWeights
from sidelong.pipeline import Pipeline

__all__ = [
    "Found",
    "Judged",
    "best_possible",
    "explained",
    "incidents",
    "judge",
    "learnt",
    "named",
    "poisson",
    "precision",
]

_SYN: Final = TCP_FLAGS["SYN"]
_ACK: Final = TCP_FLAGS["ACK"]


@dataclass(frozen=True)
class Found:
    """How one attack was found. incident: the one that names it, None if none does.

    events: how many of its first contacts, never-seen names or hops it took; bytes: said in names.
    ended: of how many of these contacts it was known by then how they end. limit: how many were
    under way when a test with the same bound could first have known enough. named: whether actor
    and object are right.
    """

    capture: str
    truth: Truth
    incident: Incident | None
    events: int | None = None
    bytes: int | None = None
    right_object: bool | None = None
    ended: int | None = None
    limit: int | None = None


@dataclass(frozen=True)
class Judged:
    """A capture, judged. false_alarms: incidents above info that no attack explains. recounted: how
    many incidents a recount by hand agreed with."""

    capture: Capture
    found: tuple[Found, ...]
    false_alarms: tuple[Incident, ...]
    incidents: tuple[Incident, ...]
    recounted: int = 0


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


def judge(capture: Capture, *, share: float = 1.0, closely: bool = False) -> Judged:
    """Learn from a share of the quiet time, detect in the rest, compare.

    closely: also tell `ended` and `limit` of scans, and count again what incidents say.
    """
    quiet, rest = capture.parts(share)
    told = incidents(rest, capture, learnt(quiet, capture))
    alarms = [one for one in told if one.severity != "info"]
    found = tuple(_found(truth, capture, quiet, rest, alarms) for truth in capture.truths)
    recounted = 0
    if closely:
        found = tuple(_within_limits(capture, rest, one) for one in found)
        recount = Recount(quiet, rest, capture.holder)
        recounted = sum(not recount.disagreements(one) for one in told)
    # Severity rises and stories join while an attack lasts; its other sides are no false alarms.
    unexplained = tuple(one for one in alarms if not any(explained(t, one) for t in capture.truths))
    return Judged(capture, found, unexplained, tuple(told), recounted)


def _within_limits(capture: Capture, flows: pl.DataFrame, found: Found) -> Found:
    """A scan that was found, with `ended` and `limit`."""
    truth, incident = found.truth, found.incident
    if truth.kind != "scan" or incident is None:
        return found
    # Of an attack by many, who was found first.
    actors = {incident.actor.workload} if truth.actors else set()
    seen = rivals.seen(flows, capture.pods).outcomes
    ours = seen.filter(
        pl.col("outcome").cast(pl.String) != "TAKEN_BACK",
        pl.col("time").to_physical() >= truth.start,
        pl.col("actor").is_in(list(actors)) if actors else pl.lit(True),
        pl.col("object_ip").is_in(list(truth.towards)) if truth.towards else pl.lit(True),
    ).sort("time", maintain_order=True)
    networks = capture.pods.networks if capture.pods else frozenset()
    weights = OutcomeWeights(Baseline.empty(), networks).weigh(ours)
    enough = weights.filter(pl.col("weight").clip(0).cum_sum() >= ALERT)["time"].to_physical()
    until = round(incident.detected_at.timestamp() * NS)
    ended = ours.filter(pl.col("time").to_physical() <= until + 1_000)
    nothing = flows.clear()
    source = replace(truth, addresses=tuple(ours["actor_ip"].unique()))
    return replace(
        found,
        ended=ended.height,
        limit=_events(source, nothing, flows, enough[0])[0] if enough.len() else None,
    )


def _found(
    truth: Truth,
    capture: Capture,
    quiet: pl.DataFrame,
    flows: pl.DataFrame,
    alarms: Sequence[Incident],
) -> Found:
    naming = [one for one in alarms if named(truth, one)]
    if not naming:
        return Found(capture.name, truth, None)
    incident = min(naming, key=lambda one: one.detected_at)
    if len(truth.actors) > 2:  # by many: count what the one did that was found
        by = (incident.actor.ip,) if incident.actor.ip else truth.addresses
        truth = replace(truth, addresses=by)
    until = max(round(incident.detected_at.timestamp() * NS), truth.start)
    events, said = _events(truth, quiet, flows, until)
    sides = {
        text for one in incident.objects for text in (one.workload, one.ip, one.domain) if text
    }
    right = any(any(want in text for text in sides) for want in truth.objects)
    return Found(capture.name, truth, incident, events, said, right if truth.objects else None)


def named(truth: Truth, incident: Incident) -> bool:
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


def explained(truth: Truth, incident: Incident) -> bool:
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
    if truth.towards:
        seen = seen.filter(pl.col("dst_ip").is_in(list(truth.towards)))
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
