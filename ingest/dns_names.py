"""Domain names out of many DNS messages at once.

The labels of all names are walked in step: round k reads the k-th label, or follows the k-th
compression pointer, of every name that has one. The text is then written in one piece.

Sources: RFC 1035 sections 3.1 and 4.1.4 (labels, compression), RFC 4343 section 2.1 (escapes).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from sidelong.ingest.packet_headers import Bytes, Flags, Ints

__all__ = ["Names", "name_text", "walk_names"]

_POINTER: Final = 0xC0
_LONGEST: Final = 255  # octets of a name, its length bytes and the root included
_ROUNDS: Final = 256  # 127 labels, and more pointers than any encoder needs

_SEPARATOR: Final = ord("\n")  # never part of a name's text: there it would be \010


def _write(byte: int) -> bytes:
    if byte in b".\\":
        return b"\\" + bytes([byte])
    if 0x21 <= byte <= 0x7E:
        return bytes([byte]).lower()
    return b"\\%03d" % byte


_WRITTEN: Final = np.array([list(_write(byte).ljust(4, b"\0")) for byte in range(256)], np.uint8)
_WIDTH: Final = np.array([len(_write(byte)) for byte in range(256)])
_TAKEN: Final = np.arange(4) < _WIDTH[:, None]


@dataclass(frozen=True, slots=True)
class Names:
    """Where names lie. All int64 but `whole`.

    following: offset of the first byte behind each name where it stands; whole: all of it was there
    and well formed; both of shape (n,). owner, label, length: of each label of whole names, in the
    order of the names and of their labels, the name it belongs to, its offset and its size.
    """

    following: Ints
    whole: Flags
    owner: Ints
    label: Ints
    length: Ints


def walk_names(window: Bytes, at: Ints, message: Ints, end: Ints, *, skim: bool = False) -> Names:
    """Follow the names that begin at `at`, in messages that begin at `message` and end at `end`.

    A pointer must point before the name or part it stands in, so that no loop can arise; a name
    that breaks this, exceeds 255 octets or leaves its message is not whole. skim: find only where
    the names end where they stand, neither following pointers nor listing labels.
    """
    n = at.size
    following = np.zeros(n, dtype=np.int64)
    whole = np.zeros(n, dtype=np.bool_)
    lowest = at.copy()  # pointers must lead below this
    used = np.zeros(n, dtype=np.int64)
    moved = np.zeros(n, dtype=np.bool_)
    owners: list[Ints] = []
    labels: list[Ints] = []
    lengths: list[Ints] = []
    rows, here = np.arange(n), at
    for _ in range(_ROUNDS):
        inside = here < end[rows]
        rows, here = rows[inside], here[inside]
        if not rows.size:
            break
        size = window[here].astype(np.int64)

        ended = size == 0
        done = rows[ended]
        whole[done] = True
        following[done] = np.where(moved[done], following[done], here[ended] + 1)

        points = size >= _POINTER
        if points.any():
            points &= here + 2 <= end[rows]
            jumper, spot = rows[points], here[points]
            first = ~moved[jumper]
            following[jumper[first]] = spot[first] + 2
            moved[jumper] = True
            if skim:
                whole[jumper] = True
                points[:] = False
            else:
                target = message[jumper] + ((size[points] & 0x3F) << 8 | window[spot + 1])
                backward = target < lowest[jumper]
                lowest[jumper] = np.where(backward, target, lowest[jumper])
                points[np.flatnonzero(points)[~backward]] = False

        is_label = (size > 0) & (size < 0x40)
        used[rows] += np.where(is_label, size + 1, 0)
        is_label &= used[rows] < _LONGEST
        if not skim:
            owners.append(rows[is_label])
            labels.append(here[is_label] + 1)
            lengths.append(size[is_label])
        # A label that leaves the message is found out by the next round.
        onward = is_label | points
        here = np.where(points, lowest[rows], here + 1 + size)[onward]
        rows = rows[onward]
    if skim or not owners:
        none = np.zeros(0, dtype=np.int64)
        return Names(following, whole, none, none, none)
    owner = np.concatenate(owners)
    order = np.argsort(owner, kind="stable")
    order = order[whole[owner[order]]]
    return Names(
        following,
        whole,
        owner[order],
        np.concatenate(labels)[order],
        np.concatenate(lengths)[order],
    )


def name_text(window: Bytes, names: Names) -> pl.Series:
    """The names as text in the form of `FLOW_SCHEMA`: one String for each, "" where not whole."""
    n = names.whole.size
    if not n:
        return pl.Series(dtype=pl.String)
    # Bytes to copy: each label, preceded by a dot unless it is the first of its name; between two
    # names a separator. Both marks replace the length byte that stands before every label, except
    # that names without labels need a separator too: it is put in front of the first.
    sizes = names.length
    ends = np.cumsum(sizes)
    begins = ends - sizes
    content = window[np.arange(int(sizes.sum())) + np.repeat(names.label - begins, sizes)]
    widths = _WIDTH[content]
    written = np.append(0, np.cumsum(widths))
    text = _WRITTEN[content][_TAKEN[content]] if (widths > 1).any() else _WRITTEN[content, 0]

    # Position of each label in the final text: what was written before it, the dots between labels
    # so far, and the separators of the names so far.
    is_first = np.ones(names.owner.size, dtype=np.bool_)
    is_first[1:] = names.owner[1:] != names.owner[:-1]
    dots = np.cumsum(~is_first)
    shift = dots + names.owner
    total = int(written[-1]) + int(dots[-1] if dots.size else 0) + n - 1
    final = np.full(total, _SEPARATOR, dtype=np.uint8)
    grown = written[ends] - written[begins]
    final[np.arange(text.size) + np.repeat(shift, grown)] = text
    start = written[begins] + shift
    final[start[~is_first] - 1] = ord(".")
    return pl.Series([final.tobytes().decode("ascii")]).str.split("\n").explode()
