"""Calibration: from the depth of a window in a forest to how seldom a workload is so strange.

A depth means nothing by itself. What it is worth is counted on windows that the forest was not
trained on: the conformal p-value of a window is (1 + how many of n are as strange) / (n + 1), right
for whatever distribution as long as windows come from the same one (Vovk et al., 2005). Below
1 / (n + 1) nothing was counted; with a thousand windows or more a generalised Pareto tail over the
strangest fiftieth goes one decade further (peaks over threshold; Hosking and Wallis, 1987).

Evidence of a p-value is ln(1 / (2 sqrt p)): the mean of its exponential is 1 under ordinary traffic
(Vovk and Wang, 2021), so that a one-sided sum of it crosses ln N at most once in N windows, and its
threshold follows from how many alarms a day are bearable. That is the only knob.

Whatever decides is an integer: p-values in parts per trillion, evidence in micro-nats. They are
stored, not computed where they are used, so that they are the same on every machine.
"""

from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sidelong.models.evidence import INFO, MICRO
from sidelong.models.forest import Depths

__all__ = ["ONE", "Calibration", "Integers", "budget_threshold", "pareto_tail"]

Integers: TypeAlias = NDArray[np.int64]

ONE: Final = 10**12
"""A p-value of 1, in parts per trillion."""

_EXACT: Final = 256  # ranks kept one by one; beyond, steps of 2 %, rounded towards the ordinary
_TAIL_FROM: Final = 1_000  # calibration windows below which no tail is trusted
_TAIL_SHARE: Final = 50  # the strangest fiftieth of them makes the tail
_TAIL_STEPS: Final = 24  # of the decade that it is trusted for


@dataclass(frozen=True)
class Calibration:
    """What depths are worth, as a staircase.

    limits: ascending, int64 of shape (m,). p: of shape (m + 1,), ascending, in parts per trillion:
    p[i] is the p-value of a depth that i limits are not above. evidence: of each p, in micro-nats.
    windows: how many it rests on.
    """

    limits: Depths
    p: Integers
    evidence: Integers
    windows: int

    @classmethod
    def of(cls, depths: Depths) -> "Calibration":
        """The calibration by some windows' depths; they must not have trained the forest."""
        ordered = np.sort(depths)
        n = len(ordered)
        ranks = _ranks(n)
        # What lies between two kept ranks has the p-value of the upper one.
        counted = np.append(ranks, n + 1) * ONE // (n + 1)
        limits, tail = pareto_tail(ordered)
        p = np.concatenate([tail, counted])
        evidence = np.rint(-0.5 * np.log(4.0 * p / ONE) * MICRO).astype(np.int64)
        return cls(np.concatenate([limits, ordered[ranks - 1]]), p, evidence, n)

    def steps(self, depths: Depths) -> Integers:
        """Where each depth lies on the staircase: the index into `p` and `evidence`."""
        return np.searchsorted(self.limits, depths, side="right").astype(np.int64)


def _ranks(n: int) -> Integers:
    """The ranks that a staircase keeps of n: all of the strangest, ever fewer of the others."""
    ranks = list(range(1, min(n, _EXACT) + 1))
    while ranks and ranks[-1] < n:
        ranks.append(min(n, ranks[-1] + ranks[-1] // 50))
    return np.array(ranks, np.int64)


def pareto_tail(ordered: Depths) -> tuple[Depths, Integers]:
    """Limits below the least of ascending depths, and p-values down to a tenth of 1 / (n + 1).

    A generalised Pareto distribution by probability-weighted moments, of how far the strangest
    fiftieth lies below the rest. Nothing where there are too few, or where they are all alike.
    """
    nothing = np.empty(0, np.int64), np.empty(0, np.int64)
    n = len(ordered)
    if n < _TAIL_FROM:
        return nothing
    count = n // _TAIL_SHARE
    threshold = int(ordered[count])
    excess = (threshold - ordered[:count])[::-1].astype(np.float64)
    mean = excess.mean()
    # Hosking and Wallis' a1: the mean of x (1 - F(x)), by plotting positions.
    other = (excess * (1.0 - (np.arange(count) + 0.65) / count)).mean()
    if mean - 2.0 * other <= 0.0:
        return nothing
    shape = mean / (mean - 2.0 * other) - 2.0
    scale = 2.0 * mean * other / (mean - 2.0 * other)
    # Here shape is Hosking's k, so that P(X > x) = (1 - k x / scale)^(1 / k).
    least = ONE // (n + 1)
    p = (least * 10.0 ** (-np.arange(_TAIL_STEPS + 1) / _TAIL_STEPS)).astype(np.int64)[::-1]
    beyond = p / ONE * n / count
    if abs(shape) < 1e-6:
        reach = -scale * np.log(beyond)
    else:
        reach = scale / shape * (1.0 - beyond**shape)
    limits = np.minimum(threshold - np.rint(reach).astype(np.int64), ordered[0])
    # A step holds below its limit: the first of them needs none, the last is the least counted.
    return limits[:-1], p[:-1]


def budget_threshold(windows_per_day: float, budget: float) -> int:
    """How far a sum must rise, in micro-nats, for `budget` alarms a day at most; see above.

    windows_per_day: how many are judged. A larger budget never gives a higher threshold; it is
    never below `INFO`, so that no single window of a coarse calibration is an alarm.
    """
    return max(INFO, round(float(np.log(max(1.0, windows_per_day / budget))) * MICRO))
