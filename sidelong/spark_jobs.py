"""Work on Spark: messages as rows of Arrow batches, through `mapInArrow` and `applyInArrow`.

Spark carries messages, which are bytes, and never looks into them: no type of Spark's, of which
none has nanoseconds or unsigned numbers, ever holds a flow.
"""

import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar

import msgspec

from sidelong.errors import ConfigError, SidelongError, SourceError
from sidelong.spark_work import Message

__all__ = ["as_ours", "collected", "grouped", "mapped", "messages_of", "safely", "streamed"]

_One = TypeVar("_One")

_MESSAGES: Final = "slot int, chunk bigint, kind int, value binary"
_MARK: Final = "sidelong says: "


def messages_of(spark: Any, messages: Sequence[Message], slots: int) -> Any:
    """A data frame of messages, those of a slot in one task."""
    import pyarrow as pa

    columns = list(zip(*messages, strict=True))
    arrays = [pa.array(column, dtype) for column, dtype in zip(columns, _types(pa), strict=True)]
    table = pa.Table.from_arrays(arrays, names=list(Message._fields))
    return spark.createDataFrame(table).repartitionById(slots, "slot")


def mapped(frame: Any, work: Callable[[Message], Iterable[Message]]) -> Any:
    """What becomes of each message by itself."""

    def take(batches: Iterator[Any]) -> Iterator[Any]:
        for batch in batches:
            for message in _read(batch):
                yield from _batches(safely(lambda: work(message)))  # noqa: B023, taken at once

    return frame.mapInArrow(take, _MESSAGES)


def grouped(
    frame: Any, slots: int, work: Callable[[int, Iterable[Message]], Iterable[Message]]
) -> Any:
    """What becomes of the messages of each slot, from 0 to below `slots`, in order of chunks.

    They pass by one after the other, however many there are.
    """
    import pyarrow as pa

    def take(
        key: tuple[pa.Scalar, ...], batches: Iterator[pa.RecordBatch]
    ) -> Iterator[pa.RecordBatch]:
        messages = (message for batch in batches for message in _read(batch))
        slot = int(key[0].as_py())
        yield from _batches(safely(lambda: work(slot, messages)))

    ordered = frame.repartitionById(slots, "slot").sortWithinPartitions("slot", "chunk", "kind")
    return ordered.groupBy("slot").applyInArrow(take, _MESSAGES)


def collected(frame: Any) -> list[Message]:
    """All messages here. Errors: what went wrong over there."""
    return list(streamed(frame, whole=True))


def streamed(frame: Any, *, whole: bool = False) -> Iterator[Message]:
    """The messages, one task's after the other's."""
    from pyspark.errors import PySparkException

    try:
        rows = frame.collect() if whole else frame.toLocalIterator(prefetchPartitions=True)
        for row in rows:
            yield Message(row[0], row[1], row[2], bytes(row[3]))
    except PySparkException as error:
        raise as_ours(error) from error


def _types(pa: Any) -> list[Any]:
    return [pa.int32(), pa.int64(), pa.int32(), pa.binary()]


def _read(batch: Any) -> Iterator[Message]:
    columns = [batch.column(place) for place in range(4)]
    for row in range(batch.num_rows):
        slot, chunk, kind, value = (column[row].as_py() for column in columns)
        yield Message(slot, chunk, kind, value)


def _batches(messages: Iterable[Message]) -> Iterator[Any]:
    """Each message as a batch of its own: they are large."""
    import pyarrow as pa

    types = _types(pa)
    for message in messages:
        arrays = [pa.array([one], dtype) for one, dtype in zip(message, types, strict=True)]
        yield pa.RecordBatch.from_arrays(arrays, names=list(Message._fields))


def safely(work: Callable[[], Iterable[_One]]) -> Iterator[_One]:
    """What comes of it; an error that a person must see ends the job, and says so in one line."""
    try:
        yield from work()
    except SidelongError as error:
        told = [type(error).__name__, error.problem, error.hint]
        raise RuntimeError(_MARK + msgspec.json.encode(told).decode()) from None


def as_ours(error: Exception) -> Exception:
    """The error that a worker raised, if it is one of ours; else what Spark says of it."""
    text = str(error)
    place = text.find(_MARK)
    if place >= 0:
        line = text[place + len(_MARK) :].splitlines()[0]
        try:
            kind, problem, hint = msgspec.json.decode(line, type=tuple[str, str, str])
        except msgspec.DecodeError:
            return error
        made = ConfigError if kind == "ConfigError" else SourceError
        return made(problem, hint=hint)
    lines = [line for line in text.splitlines() if line.strip()]
    if any("ModuleNotFoundError" in line and "sidelong" in line for line in lines):
        return ConfigError(
            "sidelong is not installed where Spark's workers run",
            hint="install it there, or ship an environment: spark.archives, see docs/scale.md",
        )
    traceback.clear_frames(error.__traceback__)
    return error
