"""Text on its way to a person: made harmless, wrapped, coloured only where colour is wanted.

Names in telemetry are chosen by whoever sends the traffic: a DNS name may hold an escape sequence
that repaints the screen. Everything foreign passes through `printable` here before it is shown,
and through `printable_json` where it is printed as JSON.
"""

import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, TextIO

from rich.console import Console
from rich.text import Text

from sidelong.alerts.plain_text import printable, printable_json
from sidelong.errors import SidelongError

__all__ = [
    "Terminal",
    "duration",
    "moment",
    "plural",
    "printable",
    "printable_json",
]

_PLAIN_WIDTH: Final = 100


def plural(count: int, thing: str, things: str | None = None) -> str:
    """The count with its noun, whose plural is said where it is not formed by an s.

    >>> plural(1, "flow"), plural(17036, "flow"), plural(2, "story", "stories")
    ('1 flow', '17,036 flows', '2 stories')
    """
    return f"{count:,} {thing if count == 1 else things or f'{thing}s'}"


def duration(length: timedelta) -> str:
    """A length of time in its two largest units.

    >>> duration(timedelta(seconds=137)), duration(timedelta(days=3, hours=2, minutes=5))
    ('2 min 17 s', '3 d 2 h')
    """
    seconds = max(0, round(length.total_seconds()))
    parts = [
        f"{amount} {unit}"
        for unit, amount in (
            ("d", seconds // 86_400),
            ("h", seconds // 3_600 % 24),
            ("min", seconds // 60 % 60),
            ("s", seconds % 60),
        )
        if amount
    ]
    return " ".join(parts[:2]) or "0 s"


def moment(time: datetime) -> str:
    """A moment to the second, UTC.

    >>> from datetime import UTC
    >>> moment(datetime(2026, 11, 23, 2, 18, 24, 289137, UTC))
    '2026-11-23 02:18:24Z'
    """
    return f"{time:%Y-%m-%d %H:%M:%S}Z"


class Terminal:
    """Standard output for results, standard error for messages.

    Colour follows rich: on terminals only, and not under NO_COLOR. Characters that an output's
    encoding lacks are written as escapes. Where no terminal sets a width, it is 100.
    """

    def __init__(self, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self.out = _console(out or sys.stdout)
        self.err = _console(err or sys.stderr)

    def tell(self, result: str) -> None:
        """Print one line of the result, on standard output."""
        self.out.print(Text(printable(result, 10_000)), soft_wrap=True)

    def say(self, message: str, *, style: str = "") -> None:
        """Print one message for the person at the keyboard, on standard error."""
        self.err.print(Text(printable(message, 10_000), style=style), soft_wrap=True)

    def problem(self, error: SidelongError) -> None:
        """Print what is wrong and what to try."""
        self.say(f"sidelong: {error.problem}", style="bold red")
        self.say(f"  try: {error.hint}")

    def bad_rows(self, count: int, samples: Sequence[str]) -> None:
        """Print how much could not be read, with the first few cases; nothing if all could."""
        if not count:
            return
        self.say(f"sidelong: {plural(count, 'row')} could not be read and were left out, such as")
        for sample in samples:
            self.say(f"  {printable(sample)}")


def _console(stream: TextIO) -> Console:
    # A stream that was replaced (by a test, by a notebook) may have nothing to set.
    if callable(reconfigure := getattr(stream, "reconfigure", None)):
        reconfigure(errors="backslashreplace")
    # rich falls back to 80 columns in a pipe; COLUMNS and a real terminal still decide.
    width = None if stream.isatty() else _PLAIN_WIDTH
    # Said outright, or FORCE_COLOR (CI, Jupyter's kernels) would have rich take a pipe for a
    # terminal: tables instead of JSON, and a bar that moves.
    return Console(
        file=stream,
        width=width,
        force_terminal=stream.isatty(),
        force_jupyter=False,
        highlight=False,
        markup=False,
        emoji=False,
    )
