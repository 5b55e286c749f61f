"""Training of isolation forests: scikit-learn grows the trees, plain arrays take them over.

The same rows in the same order give the same forest: the seed is fixed. What is unknown of a row
(NaN: its source cannot see it) takes the median of what is known, here as well as in judging, so
that it never makes a row strange.
"""

from importlib.util import find_spec
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sidelong.errors import ConfigError
from sidelong.models.forest import Forest, Rows

__all__ = ["SAMPLE", "TREES", "Marks", "as_forest", "can_train", "grown", "medians", "train"]

Marks: TypeAlias = NDArray[np.bool_]

TREES: Final = 100
SAMPLE: Final = 256
_SEED: Final = 5


def medians(rows: Rows) -> Rows:
    """The median of what is known of each column; 0 where nothing is."""
    known = ~np.isnan(rows)
    found = np.zeros(rows.shape[1], np.float32)
    for column in np.flatnonzero(known.any(axis=0)):
        found[column] = np.median(rows[known[:, column], column])
    return found


def can_train() -> bool:
    """Whether scikit-learn is installed."""
    return find_spec("sklearn") is not None


def train(
    rows: Rows, skewed: Marks | None = None, *, trees: int = TREES, seed: int = _SEED
) -> Forest:
    """The forest of some rows: float32 of shape (n, features), n at least 1, without NaN.

    skewed: which columns are cut at random places of their logarithm, ln(1 + x), for they span
    orders of magnitude; bool of shape (features,). The forest takes such columns as they are.
    Errors: ConfigError when scikit-learn is not installed.
    """
    skewed = np.zeros(rows.shape[1], np.bool_) if skewed is None else skewed
    logs = np.log1p(np.where(skewed, rows, 0.0), dtype=np.float64)
    return as_forest(grown(np.where(skewed, logs, rows), trees=trees, seed=seed), skewed)


def grown(rows: NDArray[Any], *, trees: int, seed: int) -> Any:
    """A fitted `sklearn.ensemble.IsolationForest`. Errors: ConfigError when it is not installed."""
    try:
        from sklearn.ensemble import IsolationForest
    except ModuleNotFoundError as error:
        raise ConfigError(
            "isolation forests are trained with scikit-learn, which is not installed",
            hint="pip install 'sidelong[forest]'",
        ) from error
    forest: Any = IsolationForest  # which takes more than its signature lets one think
    return forest(n_estimators=trees, max_samples=min(SAMPLE, len(rows)), random_state=seed).fit(
        rows
    )


def as_forest(fitted: Any, skewed: Marks | None = None) -> Forest:
    """The arrays of a fitted `sklearn.ensemble.IsolationForest`.

    skewed: columns of which it was given the logarithm, ln(1 + x); the cuts are turned back, so
    that nothing computes a logarithm while judging.
    """
    trees = [tree.tree_ for tree in fitted.estimators_]
    depth = max(tree.max_depth for tree in trees)
    feature = np.zeros((len(trees), (1 << depth) - 1), np.uint8)
    threshold = np.full(feature.shape, np.inf, np.float32)
    leaf = np.zeros((len(trees), 1 << depth), np.uint16)
    for number, (tree, columns) in enumerate(zip(trees, fitted.estimators_features_, strict=True)):
        _take_over(tree, columns, feature[number], threshold[number], leaf[number])
    if skewed is not None:
        turned = skewed[feature] & np.isfinite(threshold)
        threshold[turned] = _at_most(np.expm1(threshold[turned], dtype=np.float64))
    return Forest(feature, threshold, leaf, int(fitted.max_samples_))


def _take_over(
    tree: Any,
    columns: NDArray[np.int64],
    feature: NDArray[np.uint8],
    threshold: Rows,
    leaf: NDArray[np.uint16],
) -> None:
    """Lay out one tree, level by level: `node` of theirs stands at `place` of ours."""
    depth = len(leaf).bit_length() - 1
    node, place = np.zeros(1, np.int64), np.zeros(1, np.int64)
    for level in range(depth + 1):
        inner = tree.children_left[node] >= 0
        ends, at = node[~inner], place[~inner]
        # A leaf above the bottom lies where its row arrives by going left from there.
        below = depth - level
        bottom = ((at + 1) << below) - 1 - len(feature)
        leaf[bottom] = level * 512 + tree.n_node_samples[ends]
        node, place = node[inner], place[inner]
        if not len(node):
            return
        feature[place] = columns[tree.feature[node]]
        threshold[place] = _at_most(tree.threshold[node])
        left, right = tree.children_left[node], tree.children_right[node]
        node = np.concatenate([left, right])
        place = np.concatenate([2 * place + 1, 2 * place + 2])


def _at_most(thresholds: NDArray[np.float64]) -> Rows:
    """The largest float32 not above each: no float32 lies between, so every row goes as before."""
    near = thresholds.astype(np.float32)
    return np.where(near > thresholds, np.nextafter(near, np.float32(-np.inf)), near)
