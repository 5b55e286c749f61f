"""Windows of time in which a route keeps quiet: nights, weekends, hours of maintenance."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from sidelong.errors import ConfigError

__all__ = ["MuteSettings", "MuteTimes"]

_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_HOURS: Final = re.compile(r"(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})")
_DAY_MINUTES: Final = 24 * 60


class MuteSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A window of time that recurs every week.

    weekdays: `sat` or `mon-fri`; every day without. hours: `22:00-06:00`, which ends on the next
    day; the whole day without. zone: whose clock that is, as `Europe/Berlin`.
    """

    weekdays: str | tuple[str, ...] = ()
    hours: str | tuple[str, ...] = ()
    zone: str = "UTC"


class _Window:
    """One window, read once."""

    def __init__(self, name: str, settings: MuteSettings) -> None:
        self._zone = _zone(name, settings.zone)
        days = _listed(settings.weekdays)
        self._days = frozenset(d for text in days for d in _weekdays(name, text)) or range(7)
        hours = _listed(settings.hours) or ("00:00-24:00",)
        self._spans = [_span(name, text) for text in hours]

    def holds(self, now: float) -> bool:
        local = datetime.fromtimestamp(now, self._zone)
        day, minute = local.weekday(), local.hour * 60 + local.minute
        for begin, end in self._spans:
            if begin < end:
                if day in self._days and begin <= minute < end:
                    return True
            elif (day in self._days and minute >= begin) or (
                (day - 1) % 7 in self._days and minute < end  # begun the day before
            ):
                return True
        return False


class MuteTimes:
    """The named windows of a configuration.

    Errors: ConfigError for a weekday, an hour or a time zone that there is not.
    """

    def __init__(self, settings: Mapping[str, MuteSettings]) -> None:
        self._windows = {name: _Window(name, one) for name, one in settings.items()}

    @property
    def names(self) -> frozenset[str]:
        """The windows there are."""
        return frozenset(self._windows)

    def mutes(self, names: tuple[str, ...], now: float) -> bool:
        """Whether `now` (seconds of the epoch) lies in one of the windows `names`.

        >>> nights = MuteTimes({"nights": MuteSettings(hours="22:00-06:00")})
        >>> nights.mutes(("nights",), 23 * 3600), nights.mutes(("nights",), 7 * 3600)
        (True, False)
        """
        return any(name in self._windows and self._windows[name].holds(now) for name in names)


def _listed(one_or_more: str | tuple[str, ...]) -> tuple[str, ...]:
    return (one_or_more,) if isinstance(one_or_more, str) else one_or_more


def _zone(name: str, zone: str) -> ZoneInfo:
    try:
        return ZoneInfo(zone)
    except (KeyError, OSError, ValueError) as error:  # unknown, or no name of one
        raise ConfigError(
            f"alerts.mute.{name}: there is no time zone {zone!r} here",
            hint="write one such as UTC or Europe/Berlin; where none is known, install tzdata",
        ) from error


def _weekdays(name: str, text: str) -> list[int]:
    first, dash, last = text.strip().lower().partition("-")
    ends = [_DAYS.index(day[:3]) for day in (first, last or first) if day[:3] in _DAYS]
    if len(ends) < 2 or (dash and not last):
        raise ConfigError(
            f"alerts.mute.{name}: {text!r} is no weekday", hint=f"there are {', '.join(_DAYS)}"
        )
    begin, end = ends
    return [(begin + step) % 7 for step in range((end - begin) % 7 + 1)]


def _span(name: str, text: str) -> tuple[int, int]:
    told = _HOURS.fullmatch(text.strip())
    if told:
        begin, end = (int(told[n]) * 60 + int(told[n + 1]) for n in (1, 3))
        minutes = int(told[2]) < 60 and int(told[4]) < 60
        if minutes and begin < _DAY_MINUTES and end <= _DAY_MINUTES and begin != end:
            return begin, end
    raise ConfigError(
        f"alerts.mute.{name}: {text!r} is no stretch of a day", hint="write 22:00-06:00"
    )
