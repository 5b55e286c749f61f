"""A part of the actors of a stream under the detectors, from its first chunk to its last."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import polars as pl

from sidelong.features.window_frames import fan_in
from sidelong.ingest.keys import hash_column
from sidelong.ingest.state_values import decode, encode
from sidelong.models.detectors import Detectors
from sidelong.models.habits import Habits
from sidelong.spark_windows import WindowFiles
from sidelong.spark_work import Message, Plan, by_chunk, judging, split

__all__ = ["EDGES", "EVIDENCE", "LAST", "called", "judged"]

EVIDENCE, LAST, EDGES = range(3)
"""Kinds of messages that come out: of a chunk, and after the last; and for `called`, the windows of
edges that a chunk has closed, by who was called."""


def judged(plan: Plan, slot: int, messages: Iterable[Message]) -> Iterator[Message]:
    """The evidence of each chunk, where there is any; the first part tells ticks and pulse too.

    At the end what silence brings, what was learnt, and how much was forgotten for want of room.
    """
    stream, part = divmod(slot, plan.actors)
    networks = plan.pods.networks if plan.pods else frozenset()
    windows = plan.windows or plan.teaches
    detectors = Detectors(plan.baseline, networks, plan.bounds, windows=windows, budget=plan.budget)
    habits = Habits() if plan.teaches else None
    files = None
    if plan.windows and plan.to is not None:
        files = WindowFiles(plan.to, plan.clusters[stream], part)
    number = -1
    for number, pieces, header in judging(messages):
        found, edges = [], []
        for tick_ns, flows, pulse in pieces:
            if tick_ns is not None:
                detectors.tidy(tick_ns)
                if habits is not None:
                    habits.tidy(tick_ns)
            evidence = detectors.observe(flows, pulse)
            if habits is not None:
                habits.observe(flows, evidence, detectors.closed)
            if files is not None:
                files.add(detectors.closed)
                edges.append(detectors.closed.edge)
            if evidence.height:
                found.append(evidence)
        told: dict[str, Any] = {"evidence": pl.concat(found)} if found else {}
        if part == 0:
            told |= header
        if told:
            yield Message(slot, number, EVIDENCE, encode(told))
        yield from _by_peer(plan, stream, number, edges)
    last: dict[str, Any] = {"evidence": detectors.finish(plan.rows[stream])}
    if files is not None:
        files.add(detectors.closed)
        last["windows"] = files.end()
        yield from _by_peer(plan, stream, number + 1, [detectors.closed.edge])
    if habits is not None:
        last["habits"] = habits.snapshot()
    last["evicted"] = detectors.evicted
    yield Message(slot, number + 1, LAST, encode(last))


def called(plan: Plan, slot: int, messages: Iterable[Message]) -> Iterator[Message]:
    """Writes by how many each workload of a part was called, minute by minute; tells how often.

    All windows of a minute close with the same chunk, whoever's they are.
    """
    assert plan.to is not None
    stream, part = divmod(slot, plan.actors)
    files = WindowFiles(plan.to, plan.clusters[stream], part, ("called",))
    for _, told in by_chunk(messages):
        edges = pl.concat([decode(one.value) for one in told])
        files.add_to("called", fan_in(edges))
    yield Message(slot, 0, LAST, encode({"windows": files.end()}))


def _by_peer(
    plan: Plan, stream: int, number: int, edges: Sequence[pl.DataFrame]
) -> Iterator[Message]:
    rows = pl.concat(edges) if edges else pl.DataFrame()
    if rows.is_empty():
        return
    of = (hash_column(rows["peer"]) % np.uint64(plan.actors)).astype(np.int64)
    for part, mine in enumerate(split(rows, of, plan.actors)):
        if mine.height:
            yield Message(stream * plan.actors + part, number, EDGES, encode(mine))
