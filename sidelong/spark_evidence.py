"""The evidence of all parts as incidents: what Spark brings back, in one place."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import polars as pl

from sidelong.alerts.correlator import Correlator
from sidelong.alerts.incident import Incident
from sidelong.features.bounds import Bounds
from sidelong.ingest.pulse import PULSE_SCHEMA, Pulse
from sidelong.ingest.state_values import decode
from sidelong.models.evidence import NO_EVIDENCE, in_stream_order
from sidelong.spark_engine import Ordered
from sidelong.spark_judging import EVIDENCE
from sidelong.spark_work import Message

__all__ = ["Outcome", "incidents_of"]

_IDLE_NS: Final = 3_600_000_000_000  # an ended stream is one that stays silent, as in a pipeline


class Outcome(NamedTuple):
    """What a chunk of a stream came to, or its end.

    stream: by its place. rows: how many were judged by then. last: what the parts told at the end
    of the stream; empty before.
    """

    stream: int
    rows: int
    incidents: list[Incident]
    last: Sequence[Mapping[str, Any]] = ()


def incidents_of(
    messages: Iterable[Message], ordered: Sequence[Ordered], actors: int, bounds: Bounds
) -> Iterator[Outcome]:
    """The incidents of each stream, from what `judged` tells in the order of chunks."""
    stream, correlator = -1, Correlator(bounds)
    for told in _by_chunk(messages):
        of = told[0].slot // actors
        if of != stream:
            stream, correlator = of, Correlator(bounds)
        contents = [decode(one.value) for one in told]
        found = [one["evidence"] for one in contents if "evidence" in one]
        evidence = in_stream_order(pl.concat(found)) if found else NO_EVIDENCE
        if told[0].kind == EVIDENCE:
            header = next(one for one in contents if "pieces" in one)
            incidents = _of_chunk(correlator, evidence, header)
            yield Outcome(stream, header["pieces"][-1][1], incidents)
        else:
            yield Outcome(
                stream, ordered[of].rows, _of_end(correlator, evidence, ordered[of]), contents
            )


def _of_chunk(
    correlator: Correlator, evidence: pl.DataFrame, header: Mapping[str, Any]
) -> list[Incident]:
    found: list[Incident] = []
    pulse: pl.DataFrame = header["pulse"].match_to_schema(PULSE_SCHEMA)
    for low, high, tick_ns in header["pieces"]:
        within = pl.col("row").is_between(low, high, closed="left")
        if tick_ns is not None:
            found += correlator.tick(tick_ns)
        found += correlator.consume(evidence.filter(within), pulse.filter(within))
    return found


def _of_end(correlator: Correlator, evidence: pl.DataFrame, stream: Ordered) -> list[Incident]:
    if not stream.rows:
        return []
    pulse = Pulse()
    pulse.restore({"lost": stream.lost})
    return correlator.finish(evidence, pulse.at(stream.rows, stream.clock_ns + _IDLE_NS))


def _by_chunk(messages: Iterable[Message]) -> Iterator[list[Message]]:
    held: list[Message] = []
    for message in messages:
        if held and message.chunk != held[0].chunk:
            yield held
            held = []
        held.append(message)
    if held:
        yield held
