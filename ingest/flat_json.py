"""Lines of JSON whose records are flat objects, decoded to columns of text.

A record format is the names it reads and a function from their columns to flows. Every value is
read as text, so that one of the wrong type costs nobody but itself.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import msgspec
import polars as pl

from sidelong.ingest.json_lines import JsonDecoding
from sidelong.ingest.line_files import SAMPLES, Decoded, most_faults
from sidelong.ingest.lines import Block
from sidelong.ingest.schema import LINE, empty_flows

__all__ = ["FlatJson", "Format", "Records"]


class Records(NamedTuple):
    """What rows of text held: flows in `FLOW_SCHEMA`, in their order.

    bad: numbers of the rows that cannot be what they claim to be. faults: the first of them, and
    why. Rows that are neither flows nor bad are passed over. Of rows with the column `LINE` flows
    have it too, and all faults are there.
    """

    flows: pl.DataFrame
    bad: pl.Series
    faults: tuple[tuple[int, str], ...] = ()


class Format(NamedTuple):
    """A format of flat records.

    fields: the names it reads; `[]` behind a name marks a list of texts. decode: from rows of their
    columns to records. anything: whether an object without any of the fields is passed over, not
    bad; of such lines `what` says what they are not.
    """

    fields: Sequence[str]
    decode: Callable[[pl.DataFrame], Records]
    what: str
    anything: bool = False


_Lines = tuple[Sequence[bytes], Sequence[int]]


class FlatJson(JsonDecoding):
    """Decodes lines of one format. Use as a context manager."""

    def __init__(self, format: Format) -> None:
        self._format: Final = format
        types = (
            f"'{name.removesuffix('[]')}': 'VARCHAR{'[]' if name.endswith('[]') else ''}'"
            for name in format.fields
        )
        self._columns: Final = f"{{{', '.join(types)}}}"

    def remember(self, content: bytes) -> None:
        """Nothing: a line stands for itself."""

    def decode(self, block: Block) -> Decoded:
        """The flows of a block of lines."""
        rows = self._reader.read(block.content, block.count, self._columns)
        most, numbered = most_faults(block), block.numbered
        if rows is None:
            return self._each(*block.lines(), most, numbered=numbered)
        return self._decoded(rows, block.lines, most, numbered=numbered)

    def decode_each(self, lines: Sequence[bytes], starts: Sequence[int]) -> Decoded:
        """The flows of lines that are apart, none of them blank; `starts` are for the faults."""
        return self._each(lines, starts, SAMPLES)

    def _each(
        self,
        lines: Sequence[bytes],
        starts: Sequence[int],
        most: int | None,
        *,
        numbered: bool = False,
    ) -> Decoded:
        if not lines:
            return Decoded(empty_flows())
        rows = self._reader.read_each(lines, self._columns)
        return self._decoded(rows, lambda: (lines, starts), most, numbered=numbered)

    def _decoded(
        self,
        rows: pl.DataFrame,
        lines: Callable[[], _Lines],
        most: int | None,
        *,
        numbered: bool,
    ) -> Decoded:
        rows = rows.with_row_index("line")
        nothing = rows.select(pl.all_horizontal(pl.exclude("line").is_null())).to_series()
        faults: list[tuple[int, str]] = []
        bad = 0
        if nothing.any():
            content, starts = lines()
            for line in rows["line"].filter(nothing):
                why = self._unreadable(content[line])
                bad += why is not None
                if why and (most is None or len(faults) < most):
                    faults.append((starts[line], why))
            rows = rows.filter(~nothing)
        if numbered:
            rows = rows.with_columns(pl.col("line").alias(LINE))
        records = self._format.decode(rows)
        if records.faults:
            _, starts = lines()
            faults += [(starts[rows["line"][row]], why) for row, why in records.faults]
        return Decoded(records.flows, bad + len(records.bad), tuple(sorted(faults)[:most]))

    def _unreadable(self, line: bytes) -> str | None:
        """Why a line of which nothing was read is bad, if it is."""
        try:
            record = msgspec.json.decode(line)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            return f"not JSON: {str(error)[:80]}"
        if not isinstance(record, dict):
            return "not a JSON object"
        return None if self._format.anything else f"no {self._format.what}"
