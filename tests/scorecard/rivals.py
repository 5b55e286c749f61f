"""Simpler detectors on the same captures: what anybody would write first, and what must be beaten.

Each takes the quiet flows and those to judge, normalised, and gives who alarmed when, at most once
an hour and actor.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import polars as pl

from sidelong.features.bounds import Bounds
from sidelong.features.contacts import Contacts
from sidelong.features.names import name_parts
from sidelong.features.sides import sides
from sidelong.ingest.normalise import NORMAL_SCHEMA
from sidelong.ingest.podmap import PodMap
from sidelong.ingest.stream import Stream

__all__ = ["RIVALS", "Alarm", "Seen", "seen"]

Alarm: TypeAlias = tuple[str, int]
"""The actor, and the moment in nanoseconds of the epoch."""

_MINUTE_NS: Final = 60_000_000_000
_HOUR_NS: Final = 60 * _MINUTE_NS


@dataclass(frozen=True)
class Seen:
    """What every rival is given: oriented flows, and how first contacts ended."""

    flows: pl.DataFrame
    outcomes: pl.DataFrame


def seen(flows: pl.DataFrame, pods: PodMap | None) -> Seen:
    """The same view of flows that sidelong's own detectors have."""
    stream, contacts = Stream(pods), Contacts(np.empty(0, np.uint64), Bounds())
    rows, outcomes = [], []
    for stretch in stream.stretches(flows):
        oriented = sides(stretch.flows)
        rows.append(oriented)
        outcomes.append(contacts.observe(oriented, stretch.pulse))
    outcomes.append(contacts.finish(stream.rows))
    nobody = sides(NORMAL_SCHEMA.to_frame())
    return Seen(pl.concat([nobody, *rows]), pl.concat(outcomes))


def count_a_minute(quiet: Seen, now: Seen) -> Iterator[Alarm]:
    """More than three times as many records in a minute as in the busiest quiet minute."""

    def minutes(one: Seen) -> pl.DataFrame:
        minute = pl.col("time").dt.truncate("1m")
        return one.flows.group_by("actor", minute=minute).agg(pl.len(), pl.col("time").max())

    usual = minutes(quiet).group_by("actor").agg(most=pl.col("len").max())
    rows = minutes(now).join(usual, on="actor", how="left")
    yield from _alarms(rows.filter(pl.col("len") > 3 * pl.col("most").fill_null(20)))


def new_edge(quiet: Seen, now: Seen) -> Iterator[Alarm]:
    """Any edge that was not there before."""
    edge = ["actor", "peer", "port"]
    fresh = now.flows.join(quiet.flows.select(edge).unique(), on=edge, how="anti", nulls_equal=True)
    yield from _alarms(fresh)


def trw(_: Seen, now: Seen) -> Iterator[Alarm]:
    """Threshold random walk (Jung et al. 2004) with 0.8, 0.2, 0.99 and 0.01."""
    up, down, alarm = math.log(4), -math.log(4), math.log(99)
    levels: dict[str, float] = {}
    for actor, outcome, time in _ends(now):
        level = levels.get(actor, 0.0) + (down if outcome == "ANSWERED" else up)
        if level >= alarm:
            yield actor, time
            level = 0.0
        levels[actor] = 0.0 if level <= -alarm else level


def zeek(_: Seen, now: Seen) -> Iterator[Alarm]:
    """Zeek's simple-scan: 25 failed pairs of host and port outside, 250 inside."""
    pairs: dict[str, tuple[int, int]] = {}
    for actor, outcome, time in _ends(now):
        if outcome == "ANSWERED":
            continue
        count, last = pairs.get(actor, (0, time))
        count = 1 if time - last > 15 * _MINUTE_NS else count + 1
        pairs[actor] = (count, time)
        if count == (25 if actor.startswith("world:") else 250):
            yield actor, time


def subdomains(_: Seen, now: Seen) -> Iterator[Alarm]:
    """A hundred distinct names below one registered domain."""
    lookups = now.flows.filter(pl.col("dns_name").is_not_null())
    lookups = lookups.drop("domain", "subdomain", "internal", strict=False)
    parts = name_parts(lookups["dns_name"]).select("domain")
    names = lookups.select("actor", "dns_name", "time").hstack(parts).drop_nulls("domain")
    first = names.unique(["actor", "dns_name"], keep="first", maintain_order=True)
    nth = pl.int_range(1, pl.len() + 1).over("actor", "domain")
    yield from _alarms(first.filter(nth == 100))


RIVALS: Final[dict[str, tuple[frozenset[str], Callable[[Seen, Seen], Iterator[Alarm]]]]] = {
    "count a minute": (frozenset({"scan", "dns_exfiltration"}), count_a_minute),
    "new edge": (frozenset({"scan", "lateral_movement"}), new_edge),
    "TRW, classic": (frozenset({"scan"}), trw),
    "Zeek 25/250": (frozenset({"scan"}), zeek),
    "100 subdomains": (frozenset({"dns_exfiltration"}), subdomains),
}
"""What each is meant to find, and how."""


def _ends(now: Seen) -> Iterator[tuple[str, str, int]]:
    ends = now.outcomes.filter(pl.col("outcome") != "TAKEN_BACK").select(
        "actor", pl.col("outcome").cast(pl.String), pl.col("time").to_physical()
    )
    yield from ends.iter_rows()


def _alarms(rows: pl.DataFrame) -> Iterator[Alarm]:
    last: dict[str, int] = {}
    moments = rows.select("actor", pl.col("time").to_physical()).sort("time")
    for actor, time in moments.iter_rows():
        if time - last.get(actor, -_HOUR_NS) >= _HOUR_NS:
            last[actor] = time
            yield actor, time
