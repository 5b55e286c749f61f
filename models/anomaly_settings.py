"""What can be set of anomalies."""

from typing import Annotated, TypeAlias

import msgspec

from sidelong.models.anomaly import ALARMS_PER_DAY

__all__ = ["AnomalySettings"]

_Budget: TypeAlias = Annotated[float, msgspec.Meta(gt=0)]


class AnomalySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the isolation forests of the baseline say of windows that are unlike a workload's own.

    `alarms_per_day` is how many of them a cluster may bring by chance in a day, at the rate of
    windows that it had when it was learnt: the more, the sooner something is told. All of it is
    information, whatever the number, and what a window adds to other evidence stays the same.
    """

    alarms_per_day: _Budget = ALARMS_PER_DAY
