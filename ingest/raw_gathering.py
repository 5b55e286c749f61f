"""What is held of many messages until it is decoded together; and what is made of it.

A place is where something comes from: the number of the message, that of the line or message inside
it, and that of the record inside that, in 24, 20 and 20 bits.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import duckdb
import numpy as np
import polars as pl
from numpy.typing import NDArray

__all__ = ["PLACE", "Gathering", "Told", "inside_of", "message_of", "place_of", "placed"]

PLACE: Final = "__place"
"""A column beside the schema: the place that a flow comes from."""

_BITS: Final = 20
_MOST_BYTES: Final = 8 << 20
_MOST_THINGS: Final = 32 << 10
_BROKEN: Final = (
    *(pl.exceptions.PolarsError, pl.exceptions.PanicException, duckdb.Error),
    *(ArithmeticError, LookupError, RecursionError, ValueError),
)


def place_of(message: int, inside: int = 0) -> int:
    """The place of a thing that is `inside` a message; that plus n is of the nth record in it."""
    return message << _BITS * 2 | inside << _BITS


def message_of(places: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The numbers of the messages of places."""
    return (places >> np.uint64(_BITS * 2)).astype(np.int64)


def inside_of(place: int) -> tuple[int, int]:
    """Of a place the number of the message, and that of the thing inside."""
    return place >> _BITS * 2, place >> _BITS & (1 << _BITS) - 1


def placed(flows: pl.DataFrame, places: NDArray[np.uint64], number: str) -> pl.DataFrame:
    """The flows with `PLACE`, for the column `number` with their places' indices."""
    of = places[flows[number].to_numpy()]
    return flows.drop(number).with_columns(pl.Series(PLACE, of))


class Told(NamedTuple):
    """What things said. flows: in `FLOW_SCHEMA` and `PLACE`. faults: where, and what is wrong.

    passed: how many records were no flows, and are no fault either.
    """

    flows: pl.DataFrame | None
    faults: Sequence[tuple[int, str]] = ()
    passed: int = 0


class _Waiting:
    def __init__(self) -> None:
        self.contents: list[bytes] = []
        self.places: list[int] = []
        self.size = 0


class Gathering:
    """Takes things by format, and decodes those of one format together when there are enough."""

    def __init__(self) -> None:
        self._waiting: Final[dict[str, _Waiting]] = {}
        self._told: list[Told] = []

    def add(self, format: str, place: int, content: bytes) -> None:
        """Take a thing."""
        waiting = self._waiting.get(format)
        if waiting is None:
            waiting = self._waiting[format] = _Waiting()
        elif waiting.size >= _MOST_BYTES or len(waiting.contents) >= _MOST_THINGS:
            self._decode(format)
        waiting.contents.append(content)
        waiting.places.append(place)
        waiting.size += len(content) + 1

    def fault(self, place: int, why: str) -> None:
        """Note something that cannot be read."""
        self._told.append(Told(None, [(place, why)]))

    def take(self) -> list[Told]:
        """What was said by all that was added since the last call."""
        for format in self._waiting:
            self._decode(format)
        told, self._told = self._told, []
        return told

    def decoded(self, format: str, contents: Sequence[bytes], places: Sequence[int]) -> Told:
        """What things of a format say; what becomes of one depends on it alone."""
        raise NotImplementedError

    def _decode(self, format: str) -> None:
        waiting = self._waiting[format]
        if waiting.contents:
            contents, places = waiting.contents, waiting.places
            waiting.contents, waiting.places, waiting.size = [], [], 0
            self._halved(format, contents, places)

    def _halved(self, format: str, contents: Sequence[bytes], places: Sequence[int]) -> None:
        """No decoder should raise; where one does, nobody but the one thing is to pay for it."""
        try:
            self._told.append(self.decoded(format, contents, places))
        except _BROKEN as error:
            if len(contents) == 1:
                why = (str(error) or type(error).__name__).splitlines()[0][:120]
                self.fault(places[0], f"it cannot be read: {why}")
                return
            half = len(contents) // 2
            self._halved(format, contents[:half], places[:half])
            self._halved(format, contents[half:], places[half:])
