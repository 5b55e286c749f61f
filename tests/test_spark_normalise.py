"""Normalising in parts gives what one stream gives."""

from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from streams import cuts, events, flows_of, pieces

from sidelong.ingest import clock as clock_module
from sidelong.ingest.identity import IdentityState
from sidelong.ingest.normalise import NORMAL_SCHEMA, Normaliser
from sidelong.ingest.pulse import PULSE_SCHEMA
from sidelong.ingest.schema import conform
from sidelong.ingest.stream import Stream
from sidelong.spark_clock import FIRST, after, passage
from sidelong.spark_normalise import (
    CONNECTION_CAPACITY,
    Connections,
    connection_parts,
    facts_of,
    forwarded,
    known_after,
    lookups_of,
    named_pieces,
    needed_since,
    together,
)

PARTS = 3


@pytest.fixture(autouse=True)
def _frequent_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock_module, "TICK_ROWS", 5)
    monkeypatch.setattr("sidelong.spark_clock.TICK_ROWS", 5)


def in_parts(chunks: list[pl.DataFrame]) -> tuple[pl.DataFrame, pl.DataFrame, list[int]]:
    """The rows, the pulse and the ticks of a stream, made of its chunks independently."""
    clocks, facts, lost = [FIRST], [], [0]
    for chunk in chunks:
        times = chunk["time"].to_physical().to_numpy()
        clocks.append(after(clocks[-1], passage(times), partial(np.copy, times)))
        lost.append(lost[-1] + int(chunk["lost"].sum()))
    # What pods are called follows from the chunks alone, that of addresses may lean on it.
    first = [facts_of(chunk, clock, None) for chunk, clock in zip(chunks, clocks, strict=False)]
    known: list[IdentityState | None] = [None]
    for one in first:
        known.append(known_after(known[-1], one))
    for chunk, clock, one, named in zip(chunks, clocks, first, known, strict=False):
        facts.append(facts_of(chunk, clock, None, named) if one.leans and named else one)
    known = [None]
    for one in facts:
        known.append(known_after(known[-1], one))
    connections = [Connections() for _ in range(PARTS)]
    rows, beats, ticks = [], [], []
    for chunk, clock, names, before in zip(chunks, clocks, known, lost, strict=False):
        for piece in named_pieces(chunk, clock, names, None, before):
            of = pl.Series(connection_parts(piece.flows, PARTS))
            left = [
                one.take(piece.flows.filter(of == part), piece.tick_ns)
                for part, one in enumerate(connections)
            ]
            rows.append(together(left))
            beats.append(piece.pulse)
            if piece.tick_ns is not None:
                ticks.append((piece.low, piece.tick_ns))
    whole = pl.concat(rows)
    marks = []
    lookups = lookups_of(whole)
    bounds = [clock["rows"] for clock in clocks]
    for clock, (low, high) in zip(clocks, pairwise(bounds), strict=False):
        since = pl.col("clock").to_physical() >= needed_since(clock["clock"])
        seen = lookups.filter(pl.col("row") < high, since)
        first_row = int(seen["row"].to_numpy().min(initial=high))
        due = [tick for tick in ticks if first_row <= tick[0] < high]
        marks += forwarded(seen, low, due).tolist()
    marked = whole.with_columns(
        forwarded=pl.col("row").is_in(pl.Series(marks, dtype=pl.UInt64).implode())
    )
    return marked.select(NORMAL_SCHEMA.names()), pl.concat(beats), [tick for _, tick in ticks]


@settings(deadline=None, max_examples=60)
@given(st.data(), events)
def test_a_stream_normalised_in_parts_is_the_stream(
    data: st.DataObject, happened: list[Any]
) -> None:
    flows = flows_of(happened)
    # Some sources know of the pod only, others of the address only.
    bare = data.draw(st.sets(st.integers(0, flows.height - 1)))
    nameless = pl.Series([row in bare for row in range(flows.height)])
    flows = conform(
        flows.with_columns(
            pl.when(~nameless).then(pl.col(side)).alias(side) for side in ("src", "dst")
        )
    )
    at = [cut for cut in data.draw(cuts(flows.height)) if 0 < cut < flows.height]
    chunks = [chunk for chunk in pieces(flows, sorted(set(at))) if chunk.height]
    stream = Stream()
    whole = list(stream.stretches(flows))
    rows, pulse, ticks = in_parts(chunks)
    assert_frame_equal(rows, pl.concat([one.flows for one in whole]).select(rows.columns))
    assert_frame_equal(pulse, pl.concat([one.pulse for one in whole]).cast(PULSE_SCHEMA))
    assert ticks == [one.tick_ns for one in whole if one.tick_ns is not None]


def test_tables_by_connection_hold_what_is_checked_against() -> None:
    normaliser = vars(Normaliser())
    tables = [
        table
        for step in ("_orientation", "_twins", "_observers")
        for table in vars(normaliser[step]).values()
        if hasattr(table, "capacity")
    ]
    assert {table.capacity for table in tables} == {CONNECTION_CAPACITY}
