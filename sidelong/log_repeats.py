"""Which messages are worth a line: the same one once, and then every half minute with a count.

A broker that is down fails again and again, and a topic full of rubbish fails once a message. Both
shall be seen, and neither fill a disk.
"""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final, NamedTuple

__all__ = ["EVERY_SECONDS", "Repeats", "Verdict"]

EVERY_SECONDS: Final = 30.0
"""How often what keeps being said is written."""

MOST_OF_A_PLACE: Final = 200
"""Lines that one place in the program may have within `EVERY_SECONDS`, different as they may be."""

_KNOWN: Final = 1_000  # messages, and as many places


class Verdict(NamedTuple):
    """Whether to write a message, and how many like it were left out since the last."""

    write: bool
    left_out: int


@dataclass(slots=True)
class _Window:
    began: float
    lines: int = 0
    left_out: int = 0


class Repeats:
    """Decides about each message in turn; used under the lock of whoever asks."""

    def __init__(self) -> None:
        self._messages: OrderedDict[Hashable, _Window] = OrderedDict()
        self._places: OrderedDict[Hashable, _Window] = OrderedDict()
        self.left_out = 0

    def judge(self, message: Hashable, place: Hashable, now: float) -> Verdict:
        """message: what is the same of messages that are the same. place: where it was logged.
        now: seconds that never jump."""
        same = _window(self._messages, message, now)
        near = _window(self._places, place, now)
        if same.lines >= 1 or near.lines >= MOST_OF_A_PLACE:
            # One that is left out for its place is told of by the place, once it writes again.
            (same if same.lines else near).left_out += 1
            self.left_out += 1
            return Verdict(False, 0)
        before = same.left_out + near.left_out
        same.lines += 1
        near.lines += 1
        same.left_out = near.left_out = 0
        return Verdict(True, before)


def _window(known: OrderedDict[Hashable, _Window], key: Hashable, now: float) -> _Window:
    """That of `key`, begun anew if it is over; what was left out is carried into the next."""
    window = known.get(key)
    if window is None:
        window = known[key] = _Window(now)
        if len(known) > _KNOWN:
            known.popitem(last=False)
    elif now - window.began >= EVERY_SECONDS:
        window.began, window.lines = now, 0
    known.move_to_end(key)
    return window
