"""Lengths of time as people type them: 90s, 10m, 1h30m, 7d."""

import re
from datetime import timedelta
from typing import Final

from sidelong.errors import ConfigError

__all__ = ["length"]

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_PART: Final = re.compile(r"(\d{1,9})([smhdw])")


def length(text: str, what: str) -> timedelta:
    """The length of time that `text` tells; a bare number is seconds.

    what: the option or setting, for the message. Errors: ConfigError for anything else, and for
    nothing at all.

    >>> length("1h30m", "--for")
    datetime.timedelta(seconds=5400)
    """
    plain = text.strip().lower()
    parts = _PART.findall(f"{plain}s" if plain.isdecimal() else plain)
    told = sum(
        (timedelta(**{_UNITS[unit]: int(amount)}) for amount, unit in parts), start=timedelta()
    )
    whole = "".join(f"{amount}{unit}" for amount, unit in parts)
    if not told or whole not in (plain, f"{plain}s"):
        raise ConfigError(
            f"{what} is {text!r}, which is no length of time",
            hint="write a number and a unit, such as 90s, 10m, 1h30m or 7d",
        )
    return told
