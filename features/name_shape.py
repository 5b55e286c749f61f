"""The shape of names: how long they are, how many labels and digits they have, how mixed they are.

Looks rank and explain; they decide nothing (docs/detection.md, DNS exfiltration).
"""

from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

__all__ = ["name_shape"]

_OTHER: Final = 0
_DOT: Final = 1
_DIGITS: Final = range(2, 12)
_KINDS: Final = 12 + 26 + 2  # ten digits, 26 letters, - and _


def _kinds() -> NDArray[np.int64]:
    """The kind of each byte: names are lower case, and what else occurs in one is rare."""
    kinds = np.full(256, _OTHER)
    for kind, byte in enumerate(b".0123456789abcdefghijklmnopqrstuvwxyz-_", start=_DOT):
        kinds[byte] = kind
    return kinds


_KIND_OF: Final = _kinds()


def name_shape(names: pl.Series) -> pl.DataFrame:
    """For each of some names: `name_bytes`, `labels`, `digits`, `entropy_microbits`, all Int64.

    Takes text without nulls. The entropy is that of a name's own characters, dots left out, in
    millionths of a bit for each character; characters that belong into no host name count as one.

    >>> name_shape(pl.Series(["a1.bb", ""])).rows()
    [(5, 2, 1, 1500000), (0, 0, 0, 0)]
    """
    lengths = names.str.len_bytes().to_numpy().astype(np.int64)
    text = np.frombuffer("".join(names.to_list()).encode(), np.uint8)
    owner = np.repeat(np.arange(len(names)), lengths)
    counts = np.bincount(owner * _KINDS + _KIND_OF[text], minlength=len(names) * _KINDS)
    counts = counts.reshape(len(names), _KINDS)
    dots = counts[:, _DOT].copy()
    counts[:, _DOT] = 0
    characters = lengths - dots
    spread = _weighed(characters) - _weighed(counts).sum(axis=1)
    return pl.DataFrame(
        {
            "name_bytes": lengths,
            "labels": np.where(lengths > 0, dots + 1, 0),
            "digits": counts[:, list(_DIGITS)].sum(axis=1),
            "entropy_microbits": spread // np.maximum(characters, 1),
        }
    )


def _weighed(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """c log2 c in millionths, rounded, so that sums of it are exact."""
    bits: NDArray[np.int64] = np.rint(counts * np.log2(np.maximum(counts, 1)) * 1e6).astype(
        np.int64
    )
    return bits
