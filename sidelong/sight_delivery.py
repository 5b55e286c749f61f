"""How flows reach us: what is lost on the way, late, twice, or by a clock that is wrong."""

from datetime import datetime, timedelta
from typing import Final

import polars as pl

from sidelong.ingest.twins import TWIN_KEY, WITHIN_NS
from sidelong.sight import DETECTORS, Check, Cures, Effect, Finding, Sample, named, percent
from sidelong.terminal import duration, plural

__all__ = [
    "DELIVERY_CHECKS",
    "clock_skew",
    "duplicates",
    "late",
    "lost_events",
    "no_flows",
    "short_span",
    "unavailable_nodes",
    "unreadable",
]

_MUCH: Final = 0.01  # of all events; less is a note
_MUCH_LATE: Final = 0.05
_LATE_NS: Final = 2_000_000_000  # the watermark behind which chains are decided
_TWINS: Final = 5  # fewer say little of two clocks
_SHORT: Final = timedelta(days=1)
_ALL_PARTLY: Final[dict[str, Effect]] = dict.fromkeys(DETECTORS, "partly")
_MORE_ROOM: Final = (
    "give Hubble more room: hubble.eventBufferCapacity (2^n - 1, at most 65535) and "
    "hubble.eventQueueSize in Cilium's Helm values; ask for less with filters; read faster"
)


def no_flows(sample: Sample) -> Finding | None:
    """There is nothing to be judged."""
    if sample.seen.height:
        return None
    waited = "none came in the time given" if sample.live else "none is there"
    return Finding(
        code="no-flows",
        effects=dict.fromkeys(DETECTORS, "blind"),
        observed=f"no flow: {waited}",
        cure="see that the source is the right one, that no filter keeps everything, and that "
        "there is traffic; wait longer with --for"
        if sample.live
        else "see that the file is the right one, and say what it is with --format",
    )


def lost_events(sample: Sample) -> Finding | None:
    """Events that the source itself lost, and on which nodes."""
    by_node = (
        sample.flows.filter(pl.col("lost") > 0)
        .group_by(pl.col("node").fill_null("a node that it does not name"))
        .agg(pl.col("lost").sum())
        .sort("lost", "node", descending=[True, False])
    )
    lost = int(by_node["lost"].sum())
    if not lost:
        return None
    nodes = [f"{node} {count:,}" for node, count in by_node.head(20).iter_rows()]
    much = lost > _MUCH * (sample.seen.height + lost)
    return Finding(
        code="lost-events",
        effects=_ALL_PARTLY if much else {},
        observed=f"{plural(lost, 'event')} lost before they reached us, "
        f"{percent(lost, sample.seen.height + lost)} % of all, on {named(nodes)}",
        cure=Cures("read faster, or ask for less", hubble=_MORE_ROOM).of(sample),
        measured={"lost": lost, "flows": sample.seen.height, "nodes": nodes},
    )


def unavailable_nodes(sample: Sample) -> Finding | None:
    """Nodes whose flows do not reach Relay."""
    nodes = sorted(sample.unavailable)
    if not nodes:
        return None
    return Finding(
        code="unavailable-nodes",
        effects=_ALL_PARTLY,
        observed=f"Hubble Relay does not reach {plural(len(nodes), 'node')}: {named(nodes)}",
        cure="look at those nodes' agents with: cilium status, and at the certificates of Relay; "
        "what happens there is not seen at all",
        measured={"nodes": nodes},
    )


def unreadable(sample: Sample) -> Finding | None:
    """Rows that could not be decoded."""
    bad = sample.bad.count
    if not bad:
        return None
    much = bad > _MUCH * (sample.seen.height + bad)
    return Finding(
        code="unreadable-rows",
        effects=_ALL_PARTLY if much else {},
        observed=f"{plural(bad, 'row')} could not be read, such as {sample.bad.samples[0]}"
        if sample.bad.samples
        else f"{plural(bad, 'row')} could not be read",
        cure="look at what wrote them; say with --format what the input is",
        measured={"rows": bad, "flows": sample.seen.height},
    )


def clock_skew(sample: Sample) -> Finding | None:
    """Nodes whose clocks differ, judged by events that two of them saw."""
    offsets = _offsets(sample.seen)
    apart = offsets.filter(pl.col("offset").abs() > WITHIN_NS)
    if apart.is_empty():
        return None
    told = [
        f"{other} is {abs(offset) / 1e9:.1f} s {'ahead of' if offset > 0 else 'behind'} {node}"
        for node, other, offset, _ in apart.iter_rows()
    ]
    return Finding(
        code="clock-skew",
        effects=_ALL_PARTLY,
        observed=f"clocks differ: {named(told)}; answers seem to come before they are asked for, "
        "and what two nodes saw counts twice",
        cure="let the nodes keep time with one another (chrony, systemd-timesyncd)",
        measured={"pairs": told, "events": int(apart["events"].sum())},
    )


def late(sample: Sample) -> Finding | None:
    """Flows that come after much later ones."""
    times = sample.seen.select(
        behind=pl.col("time").to_physical().cum_max() - pl.col("time").to_physical()
    )
    rows = times.filter(pl.col("behind") > _LATE_NS)
    if rows.height <= _MUCH * sample.seen.height:
        return None
    most = rows["behind"].to_list()
    worst = duration(timedelta(microseconds=max(most) // 1_000))
    much = rows.height > _MUCH_LATE * sample.seen.height
    return Finding(
        code="late-flows",
        effects={"lateral_movement": "partly"} if much else {},
        observed=f"{percent(rows.height, sample.seen.height)} % of the flows come more than 2 s "
        f"after later ones, up to {worst}",
        cure="give the exports of several nodes as several inputs, which are merged by time; look "
        "at the clocks, and at what buffers on the way",
        measured={"flows": sample.seen.height, "late": rows.height, "worst_ns": max(most)},
    )


def duplicates(sample: Sample) -> Finding | None:
    """Rows that are there more than once, the same in everything; a note."""
    again = sample.seen.height - sample.seen.hash_rows().n_unique()
    if again <= _MUCH * sample.seen.height:
        return None
    return Finding(
        code="duplicates",
        observed=f"{percent(again, sample.seen.height)} % of the flows are there more than once",
        cure="see that no input is given twice under two names, and that a shipper does not "
        "deliver again",
        measured={"flows": sample.seen.height, "again": again},
    )


def short_span(sample: Sample) -> Finding | None:
    """Not enough to learn from; a note, and none of what is live."""
    first, last = sample.seen["time"].min(), sample.seen["end"].max()
    if sample.live or not isinstance(first, datetime) or not isinstance(last, datetime):
        return None
    if last - first >= _SHORT:
        return None
    return Finding(
        code="short-span",
        observed=f"the flows span {duration(last - first)}: enough to look at, not to learn from",
        cure="learn from a day at least, better a week, so that nightly and weekly jobs are known",
        measured={"seconds": int((last - first).total_seconds())},
    )


def _offsets(seen: pl.DataFrame) -> pl.DataFrame:
    """By how much the clock of `other` is ahead of that of `node`, ns, for each pair that saw
    enough of the same events: `node`, `other`, `offset`, `events`.

    An event is known by everything that twins have in common, if it happened once on each node.
    What it takes from node to node is far less than what matters here.
    """
    # Only Hubble stamps each event by the clock of the node where it was seen.
    rows = seen.filter(pl.col("origin") == "hubble").drop_nulls(["node", "time"])
    once = (
        rows.group_by(*TWIN_KEY, "node")
        .agg(time=pl.col("time").to_physical().first(), times=pl.len())
        .filter(pl.col("times") == 1)
    )
    pairs = once.join(once, on=TWIN_KEY, nulls_equal=True, suffix="_other").filter(
        pl.col("node") < pl.col("node_other")
    )
    return (
        pairs.group_by("node", other="node_other")
        .agg(
            offset=(pl.col("time_other") - pl.col("time")).median().cast(pl.Int64),
            events=pl.len(),
        )
        .filter(pl.col("events") >= _TWINS)
        .sort(pl.col("offset").abs(), "node", "other", descending=[True, False, False])
    )


DELIVERY_CHECKS: Final[tuple[Check, ...]] = (
    no_flows,
    unavailable_nodes,
    lost_events,
    unreadable,
    clock_skew,
    late,
    duplicates,
    short_span,
)
