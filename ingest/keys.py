"""Stable 64-bit keys: the same value gives the same number on every machine, for ever.

State is stored and partitions are chosen by these numbers, so they may depend neither on the
process nor on a library's own hash, which polars and Python both reserve the right to change.

A string is hashed by simple tabulation: each (position, byte) pair owns a random 64-bit number and
the numbers of a string are summed, so that strings which differ in one byte, in order or in length
differ by random amounts. The sums of all strings of a column come out of one running sum over the
column's bytes. Positions repeat every 256 bytes; each further block is weighted by another power of
an odd constant. Numbers and the combination of columns go through the finaliser of splitmix64.

Sources: Patrascu and Thorup, "The power of simple tabulation hashing", J. ACM 59(3), 2012,
doi:10.1145/2220357.2220361; Steele, Lea and Flood, "Fast splittable pseudorandom number
generators", OOPSLA 2014, doi:10.1145/2660193.2660195.
"""

from collections.abc import Sequence
from functools import cache
from typing import Final, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

__all__ = [
    "NULL_KEY",
    "Keys",
    "column_keys",
    "hash_column",
    "hash_columns",
    "hash_rows",
    "hash_strings",
    "mix",
    "numbered",
    "with_keys",
]

Keys: TypeAlias = NDArray[np.uint64]

_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_BLOCK: Final = 256
_FEW: Final = 1_024  # rows for which looking for repetitions is not worth it
_EXACT: Final = (pl.UInt8, pl.UInt16, pl.UInt32)  # which floating numbers hold
_CHUNK_BYTES: Final = 1 << 18  # a chunk's temporaries stay in the second-level cache


def _finalise(values: Keys) -> Keys:
    """The output function of splitmix64: a bijection in which each input bit moves half the output.

    Takes over `values` as its scratch space.
    """
    values ^= values >> np.uint64(30)
    values *= np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values


def _splitmix(seed: int, count: int) -> Keys:
    """The first `count` numbers of a splitmix64 generator started at `seed`."""
    steps = np.arange(1, count + 1, dtype=np.uint64)
    return _finalise(np.uint64(seed) + steps * _GOLDEN)


_TABLE: Final = _splitmix(0x73696465, _BLOCK * 256)
_BLOCK_WEIGHT: Final = np.uint64(0xD1342543DE82EF95)

NULL_KEY: Final = int(_splitmix(0x6E756C6C, 1)[0])
"""What a null hashes to, whatever its column's type."""


def hash_strings(values: pl.Series | Sequence[str | None]) -> Keys:
    """One key for each string, of its UTF-8 bytes; `NULL_KEY` for a null.

    Returns uint64 of shape (n,).
    """
    column = values if isinstance(values, pl.Series) else pl.Series(values, dtype=pl.String)
    column = column.cast(pl.String)
    if len(column) < _FEW:
        # So few are not worth the two steps that polars needs to lay them end to end.
        told = column.to_list()
        texts = [text or "" for text in told]
        joined = "".join(texts)
        if joined.isascii():
            lengths = np.fromiter(map(len, texts), np.int64, len(texts))
            few = _tabulate(np.frombuffer(joined.encode(), np.uint8), lengths)
            few = _finalise(few + (lengths + 1).astype(np.uint64) * _GOLDEN)
            few[[text is None for text in told]] = NULL_KEY
            return few
    lengths = column.str.len_bytes().to_numpy()
    nulls = np.isnan(lengths) if column.null_count() else None
    lengths = (lengths if nulls is None else np.where(nulls, 0, lengths)).astype(np.int64)
    ends = np.cumsum(lengths)
    keys = np.empty(len(column), dtype=np.uint64)
    low = 0
    while low < len(column):
        before = ends[low - 1] if low else 0
        high = max(low + 1, int(np.searchsorted(ends, before + _CHUNK_BYTES, side="right")))
        text = column[low:high].str.join("").item()
        keys[low:high] = _tabulate(np.frombuffer(text.encode(), np.uint8), lengths[low:high])
        low = high
    keys = _finalise(keys + (lengths + 1).astype(np.uint64) * _GOLDEN)
    if nulls is not None:
        keys[nulls] = NULL_KEY
    return keys


def _tabulate(text: NDArray[np.uint8], lengths: NDArray[np.int64]) -> Keys:
    """The tabulation sum of each of the strings that lie end to end in `text`."""
    ends = np.cumsum(lengths)
    position = np.arange(len(text)) - np.repeat(ends - lengths, lengths)
    terms = _TABLE[((position & (_BLOCK - 1)) << 8) | text]
    blocks = int(lengths.max(initial=0)) // _BLOCK + 1
    if blocks > 1:
        weights = np.cumprod(np.array([1, *[_BLOCK_WEIGHT] * (blocks - 1)], np.uint64))
        terms *= weights[position // _BLOCK]
    sums = np.zeros(len(text) + 1, dtype=np.uint64)
    np.cumsum(terms, out=sums[1:])
    found: Keys = sums[ends] - sums[ends - lengths]
    return found


@cache
def _category_keys(dtype: pl.Enum) -> Keys:
    """The keys of an Enum's categories, and last, where code -1 finds it, that of a null."""
    return np.append(hash_strings(dtype.categories), np.uint64(NULL_KEY))


def mix(*parts: Keys) -> Keys:
    """One key out of several of equal length; their order counts, and so does their number."""
    mixed = np.zeros(len(parts[0]), dtype=np.uint64)
    for part in parts:
        mixed = _finalise((mixed ^ part) + _GOLDEN)
    return mixed


def hash_columns(frame: pl.DataFrame, names: Sequence[str]) -> Keys:
    """One key for each row, of the named columns in the order given.

    A column of strings, an Enum or a Categorical counts by its text; integers, booleans, times and
    durations by their value, whatever their width (a time in the unit of its column). Where the
    frame has a column `NAME_key`, the keys of column NAME are taken from it. Returns uint64 of
    shape (frame.height,). Errors: TypeError for any other type.
    """
    return mix(*(column_keys(frame, name) for name in names))


def hash_rows(frame: pl.DataFrame, names: Sequence[str], rows: NDArray[np.int64]) -> Keys:
    """`hash_columns` of some rows of the frame. Returns uint64 of shape (len(rows),)."""
    return mix(*(column_keys(frame, name)[rows] for name in names))


def column_keys(frame: pl.DataFrame, name: str) -> Keys:
    """One key for each row, of one column; taken from `NAME_key` where the frame has that."""
    known = f"{name}_key"
    return frame[known].to_numpy() if known in frame.columns else hash_column(frame[name])


def with_keys(frame: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """The frame with a column `NAME_key` for each of the named ones, as `hash_columns` takes up."""
    return frame.hstack([pl.Series(f"{name}_key", hash_column(frame[name])) for name in names])


def hash_column(column: pl.Series) -> Keys:
    """One key for each value of a column, as `hash_columns` counts it."""
    dtype = column.dtype
    if column.null_count() == len(column):
        return np.full(len(column), NULL_KEY, dtype=np.uint64)
    if isinstance(dtype, pl.Enum):
        codes = column.to_physical()
        if column.null_count():
            codes = codes.cast(pl.Int64).fill_null(-1)
        of_codes: Keys = _category_keys(dtype)[codes.to_numpy()]
        return of_codes
    if dtype == pl.String or isinstance(dtype, pl.Categorical):
        return hash_strings(column) if len(column) < _FEW else _hash_repeated(column)
    if dtype == pl.Boolean or dtype.is_integer() or dtype.is_temporal():
        if column.null_count() and dtype in _EXACT:
            numbers = column.to_numpy()  # floating, and NaN where there is none
            nulls = np.isnan(numbers)
            keys_of = _finalise(np.where(nulls, 0, numbers).astype(np.uint64) + _GOLDEN)
            keys_of[nulls] = NULL_KEY
            return keys_of
        physical = column.cast(pl.Int64) if dtype.is_temporal() else column
        full = physical.fill_null(strategy="zero") if column.null_count() else physical
        numbers = full.to_numpy()
        wide = numbers.astype(np.uint64 if dtype.is_unsigned_integer() else np.int64)
        keys_of = _finalise(wide.view(np.uint64) + _GOLDEN)
        if column.null_count():
            keys_of[column.is_null().to_numpy()] = NULL_KEY
        return keys_of
    raise TypeError(f"column {column.name!r} is {dtype}, which has no stable key")


def numbered(column: pl.Series) -> tuple[NDArray[np.int64], pl.Series]:
    """A column of texts by number: that of each row's text, and the texts with a null at the end.

    A null has the number -1.
    """
    codes = column.cast(pl.String).cast(pl.Categorical(pl.Categories.random())).to_physical()
    if column.null_count():
        codes = codes.cast(pl.Int64).fill_null(-1)
    numbers = codes.to_numpy().astype(np.int64)
    example = np.empty(int(numbers.max(initial=-1)) + 2, np.int64)
    example[numbers] = np.arange(len(numbers))
    return numbers, column.gather(example[:-1]).extend_constant(None, 1)


def _hash_repeated(column: pl.Series) -> Keys:
    """`hash_strings` of a long column, of which each distinct string is hashed once."""
    numbers, texts = numbered(column)
    if len(texts) * 2 > len(column):
        return hash_strings(column)
    return hash_strings(texts)[numbers]
