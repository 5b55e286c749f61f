"""Isolation forests as plain arrays: how soon a row of features is cut off from the others.

A tree cuts 256 rows apart at random; what is unlike the rest is alone after few cuts (Liu, Ting and
Zhou, ICDM 2008). The score of a row is 2^(-E[h] / c(n)), with h its depth in a tree plus c of the
rows that share its leaf, c(n) the mean depth among n rows: 1 for what stands apart, below a half
for what is in the midst.

Every tree is stored as a full binary tree, so that its nodes need no pointers: a leaf above the
bottom is a cut that sends every row to the left. Depths are counted in integers (2^-45), which is
exact in whatever order they are added: a row has the same depth alone and among thousands.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["DEPTH_SCALE", "Depths", "Forest", "Rows", "mean_depth"]

DEPTH_SCALE: Final = 1 << 45
"""One level of depth, in the unit of `Forest.depths`."""

Rows: TypeAlias = NDArray[np.float32]
Depths: TypeAlias = NDArray[np.int64]

_CELLS: Final = 1 << 15  # rows times trees walked at once: they stay in the second-level cache


def mean_depth(rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """c(n): the mean depth at which a search for one of n rows ends.

    >>> mean_depth(np.array([1, 2, 256])).round(4).tolist()
    [0.0, 1.0, 10.2448]
    """
    n = np.maximum(rows, 3).astype(np.float64)
    many = 2.0 * (np.log(n - 1.0) + np.euler_gamma) - 2.0 * (n - 1.0) / n
    return np.where(rows <= 1, 0.0, np.where(rows == 2, 1.0, many))


@dataclass(frozen=True)
class Forest:
    """A forest of `trees` trees of equal depth over `features` columns.

    feature, threshold: shape (trees, 2^depth - 1), node i has the children 2i + 1 and 2i + 2; a row
    goes left where its feature is at most the threshold. leaf: shape (trees, 2^depth), the rows of
    the training sample that ended there and the depth, as `depth * 512 + rows`. sample: how many
    rows each tree was made of, at most 511.

    What is unknown of a row must be filled in before: see `models/forest_training.py`.
    """

    feature: NDArray[np.uint8]
    threshold: Rows
    leaf: NDArray[np.uint16]
    sample: int

    @property
    def trees(self) -> int:
        """How many trees there are."""
        return len(self.leaf)

    def depths(self, rows: Rows) -> Depths:
        """The sum over the trees of the depth of each row, in 1 / `DEPTH_SCALE`; exact.

        rows: float32 of shape (n, features), without NaN. Returns int64 of shape (n,); the smaller,
        the stranger.
        """
        rows = np.ascontiguousarray(rows, np.float32)
        depths = np.empty(len(rows), np.int64)
        step = max(1, _CELLS // self.trees)
        for low in range(0, len(rows), step):
            depths[low : low + step] = self._walk(rows[low : low + step])
        return depths

    def scores(self, rows: Rows) -> NDArray[np.float64]:
        """The score of each row, in (0, 1]; as `depths`."""
        return self.score_of(self.depths(rows))

    def score_of(self, depths: Depths) -> NDArray[np.float64]:
        """The score that a sum of depths stands for."""
        whole = float(mean_depth(np.array([self.sample]))[0]) * self.trees
        if not whole:
            return np.full(len(depths), 0.5)  # nothing to compare with, as scikit-learn has it
        return np.exp2(-depths / DEPTH_SCALE / whole)

    def _walk(self, rows: Rows) -> Depths:
        cells, width = rows.ravel(), rows.shape[1]
        features, thresholds = self._cuts
        first = self._first
        offset = (np.arange(len(rows), dtype=np.intp) * width)[:, None]
        at = np.zeros((len(rows), self.trees), np.intp)
        node = np.empty_like(at)
        for _ in range(self._depth):
            np.add(at, first, out=node)
            place = features.take(node)
            place += offset
            right = cells.take(place) > thresholds.take(node)
            at += at
            at += 1
            at += right
        at += self._first_leaf
        return np.asarray(self._depth_of_leaf.take(at).sum(axis=1), np.int64)

    @cached_property
    def _depth(self) -> int:
        leaves: int = self.leaf.shape[1]
        return leaves.bit_length() - 1

    @cached_property
    def _cuts(self) -> tuple[NDArray[np.intp], Rows]:
        return self.feature.astype(np.intp).ravel(), self.threshold.ravel()

    @cached_property
    def _first(self) -> NDArray[np.intp]:
        """Where the nodes of each tree begin."""
        nodes: int = self.feature.shape[1]
        return np.arange(0, self.trees * nodes, nodes or 1, dtype=np.intp)

    @cached_property
    def _first_leaf(self) -> NDArray[np.intp]:
        """Where the leaves of each tree begin, less the nodes above them."""
        leaves: int = self.leaf.shape[1]
        return np.arange(1 - leaves, (self.trees - 1) * leaves + 1, leaves, dtype=np.intp)

    @cached_property
    def _depth_of_leaf(self) -> Depths:
        depth, rows = np.divmod(self.leaf.astype(np.int64).ravel(), 512)
        return np.rint((depth + mean_depth(rows)) * DEPTH_SCALE).astype(np.int64)
