"""When: moments as a user writes them for Hubble, "5m" ago or RFC 3339, to nanoseconds."""

import re
from datetime import UTC, datetime
from typing import Final

from sidelong.errors import ConfigError

__all__ = ["moment"]

_UNITS: Final = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_AGO: Final = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
_SECOND: Final = 1_000_000_000
_MICROSECOND: Final = 1_000


def moment(name: str, text: str, now_ns: int) -> int:
    """Nanoseconds since 1970. name: of the setting. Errors: ConfigError.

    >>> moment("since", "1h30m", now_ns=6_000_000_000_000)
    600000000000
    >>> moment("since", "1970-01-01T00:00:01.5Z", now_ns=0)
    1500000000
    """
    found = _AGO.fullmatch(text)
    if found and text:
        ago = sum(
            int(number) * seconds
            for number, seconds in zip(found.groups("0"), _UNITS.values(), strict=True)
        )
        return max(now_ns - ago * _SECOND, 0)
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(
            f"hubble.{name} is {text[:40]!r}, which is no time",
            hint='how long ago, such as "5m" or "1h30m", or a time such as 2026-11-23T09:00:00Z',
        ) from error
    if time.tzinfo is None:
        time = time.replace(tzinfo=UTC)
    since_1970 = time - datetime(1970, 1, 1, tzinfo=UTC)
    seconds = since_1970.days * _UNITS["d"] + since_1970.seconds
    return max(seconds * _SECOND + since_1970.microseconds * _MICROSECOND, 0)
