"""A frame on its way to a person: a title, a few rows, a note; polars inside, pandas beside.

Names in telemetry are hostile input: whatever is shown in HTML goes through `escaped`.
"""

import html
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from sidelong.errors import ConfigError
from sidelong.terminal import moment, plural, printable

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Framed", "escaped", "html_note", "html_table", "pandas_of"]

_SHOWN: Final = 25  # rows of a table in HTML
_PRINTED: Final = 10  # and in text
_CELL: Final = 120  # characters
_WORD: Final = 24  # a text of so many is not broken
_NAMES_OF_NUMBERS: Final = ("port", "status", "row")  # no amounts: told without separators


class Framed:
    """Something whose content is `frame`.

    title: what it is. note: what a reader must know of it, such as that it was cut. `shown` names
    the columns that are worth a look; all are in `frame`.
    """

    def __init__(
        self, frame: pl.DataFrame, title: str, note: str = "", shown: Sequence[str] | None = None
    ) -> None:
        self.frame: Final = frame
        self.title: Final = title
        self.note: Final = note
        self._shown: Final = tuple(shown or frame.columns)

    def to_pandas(self) -> "pd.DataFrame":
        """The frame for pandas. Errors: ConfigError where pandas is not installed."""
        return pandas_of(self.frame)

    def __len__(self) -> int:
        return self.frame.height

    def __bool__(self) -> bool:
        return True  # an answer, if an empty one

    def __repr__(self) -> str:
        lines = [printable(self.title, 500)]
        if self.frame.height:
            with pl.Config(
                tbl_rows=_PRINTED,
                tbl_cols=-1,
                tbl_width_chars=160,
                fmt_str_lengths=60,
                tbl_hide_column_data_types=True,
                tbl_hide_dataframe_shape=True,
            ):
                lines.append(str(_harmless(self.frame.select(self._shown).head(_PRINTED))))
        if self.frame.height > _PRINTED:
            lines.append(f"{_PRINTED} of {plural(self.frame.height, 'row')}; all are in .frame")
        if self.note:
            lines.append(printable(self.note, 1_000))
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return html_table(self.frame.select(self._shown), self.title, self.note)


def pandas_of(frame: pl.DataFrame) -> "pd.DataFrame":
    """A frame for pandas. Errors: ConfigError where it is not installed."""
    try:
        return frame.to_pandas()
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"to_pandas needs {error.name}, which is not installed",
            hint="pip install 'sidelong[notebook]'",
        ) from error


def escaped(value: object, longest: int = _CELL) -> str:
    """A value as HTML text: harmless, cut to `longest` characters, a moment to the millisecond."""
    if value is None:
        return ""
    if isinstance(value, float):
        text = f"{value:,.2f}"
    elif isinstance(value, bool):
        text = "yes" if value else "no"
    elif isinstance(value, int):
        text = f"{value:,}"
    elif isinstance(value, datetime):
        text = f"{moment(value)[:-1]}.{value.microsecond // 1_000:03}Z"
    elif isinstance(value, list | tuple | pl.Series):
        text = ", ".join(str(one) for one in value)
    else:
        text = str(value)
    return html.escape(printable(text, longest))


def html_table(frame: pl.DataFrame, title: str = "", note: str = "", most: int = _SHOWN) -> str:
    """The first rows of a frame as an HTML table, with a caption and a note below."""
    heads = "".join(
        f"<th scope='col'>{escaped(name.replace('_', ' '))}</th>" for name in frame.columns
    )
    shown = frame.head(most).with_columns(
        pl.col(name).cast(pl.String) for name in frame.columns if name.endswith(_NAMES_OF_NUMBERS)
    )
    sides = ["right" if dtype.is_numeric() else "left" for dtype in frame.dtypes]
    rows = "".join(
        "<tr>"
        + "".join(_cell(escaped(value), side) for value, side in zip(row, sides, strict=True))
        + "</tr>"
        for row in shown.iter_rows()
    )
    more = f"{most} of {frame.height:,} rows; all are in .frame" if frame.height > most else ""
    caption = (
        f"<caption style='text-align:left;font-weight:bold'>{escaped(title, 500)}</caption>"
        if title
        else ""
    )
    table = f"<table>{caption}<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"
    body = table if frame.height else f"<p><b>{escaped(title, 500)}</b></p>"
    label = escaped(title, 500) or "table"
    scrolls = f"style='overflow-x:auto' tabindex='0' role='region' aria-label='{label}'"
    return f"<div class='sidelong' {scrolls}>{body}{html_note(more)}{html_note(note)}</div>"


def _cell(text: str, side: str) -> str:
    wrap = "white-space:nowrap" if len(text) <= _WORD else "overflow-wrap:anywhere;min-width:16em"
    return f"<td style='text-align:{side};vertical-align:top;{wrap}'>{text}</td>"


def html_note(note: str) -> str:
    """A remark in HTML; nothing for an empty one."""
    return f"<p><small>{escaped(note, 1_000)}</small></p>" if note else ""


def _harmless(frame: pl.DataFrame) -> pl.DataFrame:
    """Text and lists as text that no terminal takes for a command."""
    changed: dict[str, Any] = {}
    for name, dtype in frame.schema.items():
        if dtype == pl.String:
            changed[name] = [None if one is None else printable(one) for one in frame[name]]
        elif isinstance(dtype, pl.List):
            changed[name] = [
                None if one is None else printable(", ".join(map(str, one))) for one in frame[name]
            ]
    return frame.with_columns(
        pl.Series(name, values, pl.String) for name, values in changed.items()
    )
