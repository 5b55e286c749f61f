"""The answers in DNS messages: how large they are, and which addresses they give.

Sources: RFC 1035 sections 3.4.1 and 4.1.3 (address records, record format), RFC 3596 section 2
(AAAA).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from sidelong.ingest.dns_names import walk_names
from sidelong.ingest.ip_text import text_at
from sidelong.ingest.packet_headers import Bytes, Flags, Ints, gather
from sidelong.ingest.schema import MOST_ANSWERS

__all__ = ["Answers", "read_answers"]

_RECORD: Final = np.dtype([("type_and_class", ">u4"), ("ttl", "V4"), ("size", ">u2")])
_A: Final = 1 << 16 | 1  # of class Internet, as is the other
_AAAA: Final = 28 << 16 | 1
_NONE: Final = pl.lit([], dtype=pl.List(pl.String))


@dataclass(frozen=True, slots=True)
class Answers:
    """Of each message, shape (n,).

    size: bytes of RDATA, as stated, or -1 where no record could be read. addresses: lists of text,
    the first `MOST_ANSWERS` that could be read; null where there is none but some may be unread.
    """

    size: Ints
    addresses: pl.Series


def read_answers(window: Bytes, message: Ints, at: Ints, end: Ints, count: Ints) -> Answers:
    """Read the `count` answers of each message, the first record being at `at`.

    message, end: where the message begins, and where its captured part ends. All of shape (n,).
    """
    total = np.where(count > 0, -1, 0)
    left = count.copy()
    here = at.copy()
    given = np.zeros(count.size, dtype=np.int64)
    cut_off = np.zeros(count.size, dtype=np.bool_)
    owners: list[Ints] = []
    places: list[Ints] = []
    widths: list[Flags] = []
    rows = np.flatnonzero(left)
    while rows.size:
        name = walk_names(window, here[rows], message[rows], end[rows], skim=True)
        fits = name.whole & (name.following + _RECORD.itemsize <= end[rows])
        rows, after = rows[fits], name.following[fits]
        record = gather(window, after, _RECORD)
        size = record["size"].astype(np.int64)
        total[rows] = np.maximum(total[rows], 0) + size
        begin = after + _RECORD.itemsize
        here[rows] = begin + size

        kind = record["type_and_class"].astype(np.int64)
        wide = (kind == _AAAA) & (size == 16)
        is_address = wide | ((kind == _A) & (size == 4))
        there = begin + size <= end[rows]
        cut_off[rows] |= is_address & ~there
        taken = is_address & there & (given[rows] < MOST_ANSWERS)
        if taken.any():
            given[rows] += taken
            owners.append(rows[taken])
            places.append(begin[taken])
            widths.append(wide[taken])

        left[rows] -= 1
        rows = rows[left[rows] > 0]
    complete = pl.Series("complete", (left == 0) & ~cut_off)
    if not owners:
        return Answers(total, pl.select(pl.when(complete).then(_NONE)).to_series())
    addresses = text_at(window, np.concatenate(places), np.concatenate(widths))
    found = (
        pl.DataFrame({"message": np.concatenate(owners), "address": addresses})
        .sort("message", maintain_order=True)
        .group_by("message", maintain_order=True)
        .agg("address")
    )
    place = np.where(given > 0, np.cumsum(given > 0) - 1, -1)
    lists = pl.DataFrame({"place": place, "complete": complete}).select(
        pl.when(pl.col("place") >= 0)
        .then(pl.lit(found["address"]).gather(pl.col("place").clip(lower_bound=0)))
        .when("complete")
        .then(_NONE)
    )
    return Answers(total, lists.to_series())
