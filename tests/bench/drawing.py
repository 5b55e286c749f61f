"""Curves as SVG, without a library: one line over an axis, legible in the light and in the dark."""

from collections.abc import Sequence
from typing import Final

__all__ = ["curve"]

_WIDTH, _HEIGHT = 720, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 40, 50
_LINES: Final = 5
_STYLE: Final = (
    "<style>text{font:13px system-ui,sans-serif;fill:#333}.grid{stroke:#ccc}"
    ".line{fill:none;stroke:#0b62a4;stroke-width:2}.bound{stroke:#b3261e;stroke-dasharray:6 4}"
    "@media(prefers-color-scheme:dark){text{fill:#ddd}.grid{stroke:#444}.line{stroke:#7cb8f0}"
    ".bound{stroke:#f2b8b5}}</style>"
)


def curve(
    points: Sequence[tuple[float, float]],
    *,
    title: str,
    across: str,
    up: str,
    bound: float | None = None,
) -> str:
    """A drawing of (x, y) with both axes from zero; bound: a level that is not to be passed."""
    most_x = max(x for x, _ in points) or 1.0
    most_y = _round_up(max([*(y for _, y in points), bound or 0.0]))
    wide, high = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def place(x: float, y: float) -> str:
        return f"{_LEFT + x / most_x * wide:.1f},{_TOP + high - y / most_y * high:.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{title}"><title>{title}</title>{_STYLE}',
        f'<text x="{_LEFT}" y="20">{title}</text>',
    ]
    for step in range(_LINES + 1):
        level = most_y * step / _LINES
        y = _TOP + high - level / most_y * high
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4}" text-anchor="end">{level:,.6g}</text>')
        x = most_x * step / _LINES
        at = _LEFT + x / most_x * wide
        parts.append(f'<text x="{at}" y="{_HEIGHT - 28}" text-anchor="middle">{x:,.4g}</text>')
    parts.append(
        f'<text x="{_LEFT + wide / 2}" y="{_HEIGHT - 8}" text-anchor="middle">{across}</text>'
        f'<text x="{_WIDTH - _RIGHT}" y="20" text-anchor="end">{up}</text>'
    )
    if bound is not None:
        start, end = place(0, bound), place(most_x, bound)
        (x1, y1), (x2, y2) = start.split(","), end.split(",")
        parts.append(f'<line class="bound" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>')
    parts.append(f'<polyline class="line" points="{" ".join(place(*at) for at in points)}"/></svg>')
    return "\n".join(parts) + "\n"


def _round_up(value: float) -> float:
    """The next of 1, 2, 2.5, 5 times a power of ten."""
    power = 1.0
    while power * 10 <= value:
        power *= 10
    while power > value > 0:
        power /= 10
    return next(power * step for step in (1, 2, 2.5, 5, 10) if power * step >= value)
