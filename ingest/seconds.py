"""Cutting a capture into spans that can be summarised each on its own.

A span lasts until a packet bears a later second than all packets of the span before it. What a
span contains depends on where it begins and on nothing else: not on the size of batches, and a
reader that resumes at the beginning of a span sees the same spans from there on. A packet that
comes late stays in the span it came in, and makes a summary of its own second there.
"""

from typing import Final

import numpy as np

from sidelong.ingest.packet_headers import Ints

__all__ = ["SECOND", "SPAN_BYTES", "slots", "span_starts"]

SECOND: Final = 1_000_000_000

SPAN_BYTES: Final = 1 << 25
"""A span ends at the first record this far behind its beginning, whatever the time: memory has a
limit, also when a clock stands still."""


def span_starts(time: Ints, position: Ints, longest: int = SPAN_BYTES) -> Ints:
    """Indexes at which spans begin, the first being 0.

    time: nanoseconds of each record, or `NO_TIME`; position: its offset in the file, ascending.
    Both of shape (n,), n above 0, in the order of the file and beginning with a span.
    """
    second = time // SECOND
    starts = [np.zeros(1, dtype=np.int64)]
    begin = 0
    while True:
        peak = np.maximum.accumulate(second[begin:])
        new = begin + 1 + np.flatnonzero(peak[1:] > peak[:-1])
        edges = np.concatenate([[begin], new])
        last = np.append(new, time.size) - 1
        long = np.flatnonzero(position[last] - position[edges] >= longest)
        if not long.size:
            starts.append(new)
            return np.concatenate(starts)
        which = int(long[0])
        begin = int(np.searchsorted(position, position[edges[which]] + longest))
        starts += [new[:which], np.array([begin])]


def slots(time: Ints, span: Ints) -> Ints:
    """A number for each pair of second and span that occurs; below 2 n. span ascends from 0."""
    second = time // SECOND
    if not span.size:
        return span
    count = int(span[-1]) + 1
    newest = np.full(count, np.iinfo(np.int64).min)
    np.maximum.at(newest, span, second)
    slot = span.copy()
    late = np.flatnonzero(second != newest[span])
    if late.size:
        since = second[late] - second[late].min()  # below 2**33, times being of two centuries
        slot[late] = count + np.unique(span[late] << 33 | since, return_inverse=True)[1]
    return slot
