"""Membership in a frozen set of 64-bit keys."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["is_member"]


def is_member(keys: NDArray[np.uint64], known: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which of `keys` are in `known`, a sorted array.

    >>> is_member(np.array([1, 5], np.uint64), np.array([2, 5, 9], np.uint64)).tolist()
    [False, True]
    """
    if not known.size:
        return np.zeros(keys.shape, np.bool_)
    at = np.minimum(np.searchsorted(known, keys), known.size - 1)
    return np.asarray(known[at] == keys, np.bool_)
