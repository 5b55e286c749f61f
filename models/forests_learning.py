"""Learning forests from a sample of windows: who gets one, and how it is calibrated.

Half of an actor's windows train, by blocks of ten minutes, the other half calibrates. A group has
a forest of its own from a thousand windows on, the whole cluster from 256 on; less says nothing.
"""

from dataclasses import replace
from typing import Final

import numpy as np
import polars as pl

from sidelong.models.baseline import Baseline
from sidelong.models.calibration import Calibration
from sidelong.models.forest import Rows
from sidelong.models.forest_training import Marks, can_train, medians, train
from sidelong.models.forests import (
    CLUSTER,
    JUDGED,
    Forests,
    Habit,
    ScopeForests,
    features_of,
    groups_of,
    matrix,
)
from sidelong.models.window_sample import half

__all__ = ["learn_scope", "trained"]

LEAST: Final = 256
"""Windows below which a scope has no forest at all."""

ENOUGH: Final = 1_024
"""Windows from which a workload, a role or a namespace has one of its own."""

CALIBRATING: Final = 100
"""Windows by which an actor is calibrated for itself."""

MOST: Final = 48  # groups with a forest of their own in each scope: those with most windows

_TRAINING: Final = 20_000  # rows: trees are made of 256 each
_STRAYS_SEED: Final = 17
_DAY_SECONDS: Final = 86_400.0


def trained(baseline: Baseline) -> Baseline:
    """A baseline with the forests of its windows; as it was where scikit-learn is missing."""
    if not can_train():
        return baseline
    windows = {scope: getattr(baseline, f"{scope}_windows") for scope in JUDGED}
    per_day = baseline.window_counts.group_by("scope").agg(
        pl.col("windows").sum() * _DAY_SECONDS / pl.col("seconds").sum().clip(1)
    )
    rates: dict[str, float] = dict(per_day.iter_rows())
    forests = {
        scope: learn_scope(scope, rows, rates.get(scope, 0.0))
        for scope, rows in windows.items()
        if rows.height >= LEAST
    }
    return replace(baseline, forests=Forests(forests))


def learn_scope(scope: str, windows: pl.DataFrame, windows_per_day: float) -> ScopeForests:
    """The forests of one scope, from windows of its `SAMPLE_SCHEMAS`, `LEAST` at least."""
    rows = matrix(scope, windows)
    trains = half(windows)
    if not 0.25 < trains.mean() < 0.75:  # few blocks in all: better by turns than not at all
        trains = np.arange(len(rows)) % 2 == 0
    actors, of = np.unique(windows["actor"].to_numpy(), return_inverse=True)
    members = _groups(actors, of)
    skewed = np.array([one.skewed for one in features_of(scope)])
    forests, ordinary, pooled = [], [], []
    for chosen in members.values():
        at = np.flatnonzero(np.isin(of, chosen))
        teaches = trains[at]
        if teaches.all() or not teaches.any():  # of one block: better by turns, here too
            teaches = np.arange(len(at)) % 2 == 0
        learnt, rest = rows[at[teaches]], rows[at[~teaches]]
        usual = medians(learnt)
        forests.append(
            train(_with_strays(_known(learnt[:_TRAINING], usual), learnt, skewed), skewed)
        )
        ordinary.append(usual)
        pooled.append(Calibration.of(forests[-1].depths(_known(rest, usual))))
    groups = {group: number for number, group in enumerate(members)}
    found = ScopeForests(
        scope, tuple(forests), groups, np.array(ordinary), tuple(pooled), {}, len(rows),
        windows_per_day,
    )  # fmt: skip
    for number, actor in enumerate(actors):
        mine = of == number
        if np.count_nonzero(mine & ~trains) >= CALIBRATING:
            forest = found.habit(actor).forest
            calibration = Calibration.of(found.depths(forest, rows[mine & ~trains]))
            found.own[actor] = Habit(
                forest, calibration, _usual(rows[mine], ordinary[forest]), True
            )
    return found


def _groups(
    actors: np.typing.NDArray[np.object_], of: np.typing.NDArray[np.int64]
) -> dict[str, list[int]]:
    """The groups that get a forest, and their members among `actors`."""
    counts = np.bincount(of, minlength=len(actors))
    members: dict[str, list[int]] = {}
    for number, actor in enumerate(actors):
        for group in groups_of(actor):
            members.setdefault(group, []).append(number)
    windows = {group: int(counts[chosen].sum()) for group, chosen in members.items()}
    # A group that is the whole cluster, or a single workload, has that one's forest.
    worth = [
        group
        for group, chosen in members.items()
        if windows[group] >= ENOUGH
        and (len(chosen) > 1 or group.startswith("workload:"))
        and len(chosen) < len(actors)
    ]
    worth.sort(key=lambda group: (-windows[group], group))
    return {CLUSTER: members[CLUSTER], **{group: members[group] for group in worth[:MOST]}}


def _with_strays(rows: Rows, seen: Rows, skewed: Marks) -> Rows:
    """The rows, and one in 32 more that lies anywhere.

    No tree cuts a feature that never varied in training, so that what never happened could not be
    strange, however much of it there is; strays make every feature vary that can be seen. On public
    data they raise the average precision on hosts unlike those trained on, and cost others nothing.
    """
    chance = np.random.default_rng(_STRAYS_SEED)
    largest = rows.max(axis=0).astype(np.float64)
    widest = np.where(skewed, np.log1p(np.maximum(4 * largest, 1_000)), np.maximum(largest, 1))
    strays = chance.random((len(rows) // 32, rows.shape[1])) * widest
    strays[:, skewed] = np.expm1(strays[:, skewed])
    strays = np.where(np.isnan(seen).all(axis=0), rows[:1], strays)
    return np.concatenate([rows, strays.astype(np.float32)])


def _known(rows: Rows, usual: Rows) -> Rows:
    return np.where(np.isnan(rows), usual, rows)


def _usual(rows: Rows, otherwise: Rows) -> Rows:
    seen = ~np.isnan(rows).all(axis=0)
    return np.where(seen, medians(rows), otherwise)
