"""Lines of separated values, in bulk, to columns of text.

Lines are told apart by how many fields they have before anything is parsed, so that one line too
short or too long costs nobody but itself.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

__all__ = ["SeparatedLines", "columns_of"]

_NEWLINE, _RETURN = b"\n\r"


class SeparatedLines:
    """Whole lines, each ended by a newline.

    starts, ends: where in the text each line begins, and where its newline is; int64.
    """

    def __init__(self, content: bytes) -> None:
        self.content: Final = content
        self._octets: Final = np.frombuffer(content, np.uint8)
        self.ends: Final = np.flatnonzero(self._octets == _NEWLINE)
        first = np.zeros(1, np.int64)
        self.starts: Final = np.concatenate([first, self.ends[:-1] + 1])[: self.ends.size]

    def beginning_with(self, octet: int) -> NDArray[np.int64]:
        """The numbers of the lines that begin with `octet`."""
        return np.flatnonzero(self._octets[self.starts] == octet) if self.ends.size else self.ends

    def filled(self, begin: int, end: int) -> NDArray[np.int64]:
        """The numbers of the lines from `begin` to before `end` that hold anything."""
        starts = self.starts[begin:end]
        length = self.ends[begin:end] - starts
        alone = (length == 1) & (self._octets[starts] == _RETURN)
        return begin + np.flatnonzero((length > 0) & ~alone)

    def fields(self, lines: NDArray[np.int64], separator: int) -> NDArray[np.int64]:
        """How many fields each of `lines` has; these ascend."""
        at = np.flatnonzero(self._octets == separator)
        return np.searchsorted(at, self.ends[lines]) - np.searchsorted(at, self.starts[lines]) + 1

    def line(self, number: int) -> bytes:
        """One line without its end."""
        return self.content[self.starts[number] : self.ends[number]].rstrip(b"\r")

    def joined(self, lines: NDArray[np.int64]) -> bytes:
        """The text of `lines`, which ascend."""
        if not lines.size:
            return b""
        if lines[-1] - lines[0] + 1 == lines.size:
            return self.content[self.starts[lines[0]] : self.ends[lines[-1]] + 1]
        return b"".join(self.content[self.starts[n] : self.ends[n] + 1] for n in lines.tolist())


def columns_of(
    text: bytes,
    count: int,
    fields: Sequence[str],
    wanted: Sequence[str],
    *,
    separator: str,
    unset: str | None,
) -> pl.DataFrame:
    """The columns `wanted` of `count` lines, null where they are `unset` or not among `fields`.

    Lines may have more fields than named, or fewer. A quote is a letter like any other.
    """
    at = {name: place for place, name in reversed(list(enumerate(fields)))}
    found = [(at[name], name) for name in dict.fromkeys(wanted) if name in at]
    schema = pl.Schema(dict.fromkeys(wanted, pl.String()))
    if not found or not count:
        return schema.to_frame().clear(count)
    if b"\r" in text:
        text = text.replace(b"\r\n", b"\n")
    table = pl.read_csv(
        text,
        has_header=False,
        separator=separator,
        quote_char=None,
        schema={f"column_{place + 1}": pl.String for place in range(len(fields))},
        columns=[f"column_{place + 1}" for place, _ in sorted(found)],
        null_values=None if unset is None else [unset],
        empty_string_is_null=False,
        extra_columns="ignore",
        missing_columns="insert",
        encoding="utf8-lossy",
    ).rename({f"column_{place + 1}": name for place, name in found})
    if table.height != count:
        raise AssertionError(f"{table.height} rows of {count} lines")
    return table.select(
        pl.col(name) if name in table.columns else pl.lit(None, pl.String).alias(name)
        for name in schema
    )
