"""How much a cluster has to do at a time of the day and of the week."""

import math
from datetime import UTC, datetime

__all__ = ["load"]

_WEEKEND = 0.6


def load(moment: float) -> float:
    """The load at a moment (seconds since 1970, UTC), as a multiple of a working day's average.

    Highest in the early afternoon, lowest at night; the mean over a working day is 1.

    >>> [round(load(1795442400 + hour * 3_600), 2) for hour in (0, 12)]  # from a Monday, 14:00
    [1.55, 0.45]
    """
    time = datetime.fromtimestamp(moment, UTC)
    hour = time.hour + time.minute / 60 + time.second / 3_600
    day = (
        1 + 0.55 * math.cos((hour - 14) * math.pi / 12) + 0.1 * math.cos((hour - 11) * math.pi / 6)
    )
    return day * (_WEEKEND if time.weekday() >= 5 else 1.0)
