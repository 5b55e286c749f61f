"""Batches of flows in columns as the value of one message: Arrow IPC streams, or Parquet.

What others write is read too, if its columns are named as ours; enumerations are text, and a column
that is missing counts as null. What we write says in its headers what it is:

| header | value |
|---|---|
| content-type | `application/vnd.apache.arrow.stream` |
| schema | `sidelong.flows/1` |
| rows | how many, in decimal |
| ts_min, ts_max | the earliest and latest time of its flows, nanoseconds since 1970 |
| source | where they were collected |
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final, NamedTuple

import polars as pl

from sidelong.errors import SourceError
from sidelong.ingest.arrow_bounds import check_arrow
from sidelong.ingest.parquet import STORED, check_columns, stored_flows
from sidelong.ingest.parquet_bounds import check_parquet
from sidelong.ingest.raw_settings import MessageSettings
from sidelong.ingest.raw_values import Unreadable
from sidelong.ingest.schema import FLOW_SCHEMA, conform, empty_flows
from sidelong.ingest.source import BadRows

__all__ = ["ARROW_STREAM", "SCHEMA", "FlowBatch", "batch_flows", "flow_batches", "read_batch"]

ARROW_STREAM: Final = "application/vnd.apache.arrow.stream"
SCHEMA: Final = "sidelong.flows/1"

_NAME: Final = SCHEMA.partition("/")[0] + "/"
_MOST_ROWS: Final = 2_000
_AIMED_BYTES: Final = 512 << 10
_EARLIEST_NS, _LATEST_NS = (
    int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000_000 for year in (1990, 2100)
)
_BROKEN: Final = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError)


class FlowBatch(NamedTuple):
    """A message of flows: its value, its headers, and how many rows it has."""

    value: bytes
    headers: Mapping[str, bytes]
    rows: int


def flow_batches(flows: pl.DataFrame, source: str, most_rows: int = 1_000) -> Iterator[FlowBatch]:
    """Flows in `FLOW_SCHEMA` as messages, in their order; none of many more than 512 KiB."""
    size = min(most_rows, _MOST_ROWS)
    for start in range(0, flows.height, size):
        yield from _fitting(flows.slice(start, size), source)


def _fitting(flows: pl.DataFrame, source: str) -> Iterator[FlowBatch]:
    value = _encoded(flows)
    if len(value) > _AIMED_BYTES and flows.height > 1:
        half = flows.height // 2
        yield from _fitting(flows[:half], source)
        yield from _fitting(flows[half:], source)
        return
    times = flows["time"].to_physical()
    first, last = times.min(), times.max()
    headers = {
        "content-type": ARROW_STREAM,
        "schema": SCHEMA,
        "rows": str(flows.height),
        "ts_min": str(first),
        "ts_max": str(last),
        "source": source,
    }
    encoded = {name: text.encode(errors="replace") for name, text in headers.items()}
    yield FlowBatch(value, encoded, flows.height)


def _encoded(flows: pl.DataFrame) -> bytes:
    stored = conform(flows).cast(STORED)
    told = [name for name in stored.columns if stored[name].null_count() < stored.height]
    whole = io.BytesIO()
    # The older layout of text is what every reader of Arrow understands.
    stored.select(told).write_ipc_stream(
        whole, compression="zstd", compat_level=pl.CompatLevel.oldest()
    )
    return whole.getvalue()


def read_batch(
    format: str, content: bytes, headers: Mapping[str, bytes], settings: MessageSettings
) -> pl.DataFrame:
    """Those of our columns that a batch has, as they are stored; for `batch_flows`.

    format: "arrow" or "parquet". Errors: Unreadable, with why none of it is taken.
    """
    _check_schema(headers)
    most_bytes, most_rows = settings.most_megabytes << 20, settings.most_records
    try:
        if format == "arrow":
            check_arrow(content, most_bytes, most_rows)
            stored = pl.read_ipc_stream(content)
        else:
            check_parquet(content, most_bytes, most_rows)
            stored = pl.read_parquet(content)
        check_columns(stored.schema, "it")
        stored = stored.select(name for name in FLOW_SCHEMA if name in stored.columns)
        _check_texts(stored, most_bytes)
    except SourceError as error:
        raise Unreadable(error.problem) from error
    except _BROKEN as error:
        raise Unreadable(f"no {format} that can be read: {_first_line(error)}") from error
    said = headers.get("rows")
    if said is not None and said.isdigit() and int(said[:20]) != stored.height:
        raise Unreadable(f"its header says {int(said[:20]):,} rows, and it holds {stored.height:,}")
    return stored


def batch_flows(
    batches: Sequence[pl.DataFrame],
) -> tuple[pl.DataFrame, list[int], dict[int, str]]:
    """Flows in `FLOW_SCHEMA` of all batches; of each how many, and what is wrong with some of them.

    Batches whose columns are just as ours are read together, which costs a fifth. What becomes of a
    batch depends on it alone.
    """
    if all(map(_as_ours, batches)):
        with suppress(*_BROKEN):  # a verdict or a protocol that is none: one by one, then
            flows = conform(pl.concat(batches, how="diagonal"))
            return flows, [batch.height for batch in batches], {}
    parts: list[pl.DataFrame] = []
    faults: dict[int, str] = {}
    for number, stored in enumerate(batches):
        try:
            flows, bad = stored_flows(stored, "it")
        except _BROKEN as error:
            flows, bad = empty_flows(), BadRows(stored.height, (f"it: {_first_line(error)}",))
        if bad.count:
            why = bad.samples[0].removeprefix("it, ")
            faults[number] = f"{bad.count:,} of its {stored.height:,} rows do not fit: {why}"
        parts.append(flows)
    return pl.concat([empty_flows(), *parts]), [part.height for part in parts], faults


def _as_ours(stored: pl.DataFrame) -> bool:
    if any(dtype != STORED[name] for name, dtype in stored.schema.items()):
        return False
    if stored["time"].has_nulls():
        return False
    times = [stored[name].to_physical() for name in ("time", "end") if name in stored.columns]
    return all(((each >= _EARLIEST_NS) & (each < _LATEST_NS)).all() for each in times)


def _check_schema(headers: Mapping[str, bytes]) -> None:
    said = headers.get("schema", b"").decode(errors="replace")
    if said.startswith(_NAME) and said != SCHEMA:
        raise Unreadable(
            f"its schema is {ascii(said)[1:-1][:40]}, and {SCHEMA} is what is read here"
        )


def _check_texts(stored: pl.DataFrame, most_bytes: int) -> None:
    """Rows may share one long text: it is only there once, until somebody works on it."""
    texts = stored.select(pl.col(pl.String).str.len_bytes().cast(pl.Int64).sum())
    lists = stored.select(pl.col(pl.List(pl.String)).explode().str.len_bytes().cast(pl.Int64).sum())
    size = sum(sum(frame.row(0)) for frame in (texts, lists) if frame.width)
    if size > most_bytes:
        raise Unreadable(f"its texts are more than {most_bytes >> 20:,} MiB together")


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:160]
