"""Why a window is strange: what it would be with the usual instead of the observed.

Median substitution: put one feature back to what is usual for the actor and walk the forest again,
and put it alone into a usual window; the feature that does most, both ways together, comes first,
then, with that one put back, the next, until the window is ordinary or three features are named.
(These are the first and the last term of a Shapley value. One by one alone would not do: where five
features are strange, putting back any one of them changes little.)
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sidelong.features.catalogue import Feature
from sidelong.models.calibration import ONE
from sidelong.models.forest import Rows
from sidelong.models.forests import Habit, ScopeForests, features_of

__all__ = ["parts_of", "told"]

_NAMED: Final = 3
_ORDINARY: Final = ONE // 20

Part = dict[str, Any]


def parts_of(
    forests: ScopeForests, habit: Habit, row: Rows, observed: tuple[float, ...]
) -> list[Part]:
    """The parts (models/evidence.py) of what makes a window strange, the greatest first.

    row: its features, float32 of shape (features,), NaN where unknown. observed: the same as they
    were computed, for telling. log_evidence of a part: what its substitution takes away.
    """
    features = features_of(forests.scope)
    calibration, ordinary = habit.calibration, habit.ordinary
    now = np.where(np.isnan(row), forests.medians[habit.forest], row)
    open_ = np.flatnonzero(~np.isnan(row) & (now != ordinary))
    if not len(open_):
        return []
    depth = int(forests.depths(habit.forest, now[None])[0])
    alone = forests.depths(habit.forest, _each(ordinary, now, open_))
    found: list[Part] = []
    step = int(calibration.steps(np.array([depth]))[0])
    while len(open_) and len(found) < _NAMED and calibration.p[step] < _ORDINARY:
        back = _each(now, ordinary, open_)
        depths = forests.depths(habit.forest, back)
        # What a feature does to the observed window, and what it alone does to an ordinary one.
        best = int(np.argmax(depths - alone))
        now, depth = back[best], int(depths[best])
        chosen = int(open_[best])
        open_, alone = np.delete(open_, best), np.delete(alone, best)
        then = int(calibration.steps(np.array([depth]))[0])
        gone = int(calibration.evidence[step] - calibration.evidence[then])
        step = then
        found.append(
            {
                "feature": features[chosen].name,
                "observed": told(observed[chosen], features[chosen]),
                "expected": told(float(ordinary[chosen]), features[chosen]),
                "log_evidence": max(gone, 0),
            }
        )
    return found


def _each(row: Rows, other: Rows, columns: NDArray[np.int64]) -> Rows:
    """The row once for each of some columns, with the other's value there."""
    rows = np.repeat(row[None], len(columns), axis=0)
    rows[np.arange(len(columns)), columns] = other[columns]
    return rows


def told(value: float, feature: Feature) -> str:
    """A value of a feature as a person reads it: `46 peers`, `12.5 %`, `yes`."""
    if feature.unit == "share":
        return f"{100 * value:.3g} %"
    if feature.unit == "yes or no":
        return "yes" if value else "no"
    number = f"{value:,.0f}" if value == round(value) or abs(value) >= 100 else f"{value:.3g}"
    unit = feature.unit.removesuffix("s") if number == "1" else feature.unit
    return number if feature.unit == "ratio" else f"{number} {unit}"
