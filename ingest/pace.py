"""How long to gather messages before they are worked on together.

A call on a thousand flows costs nearly as much as one on ten thousand. Who keeps up takes what is
there at once; who is behind loses nothing by waiting a little for more, and so goes faster the
further it is behind, until it has caught up.
"""

from typing import Final

__all__ = ["gather_seconds"]

_SHARE: Final = 0.1  # of the time that somebody is behind
_LONGEST_SECONDS: Final = 0.5


def gather_seconds(behind: float, least: float) -> float:
    """How long to wait for more, of what is `behind` by so many seconds; at least `least`."""
    return max(least, min(_LONGEST_SECONDS, _SHARE * behind))
