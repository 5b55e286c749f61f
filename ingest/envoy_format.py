"""An Envoy format string as a parser of the lines that it prints.

Envoy escapes nothing: a client that sends quotes and blanks can write text that looks like the
proxy's own fields. The parser is built so that it cannot be misled:

- Every strict operator ends where the literal beside it has a character that the operator cannot
  print; a format in which it does not is refused. So what is left of the first free text is read
  from the left, what is right of the last from the right, each in one way only.
- Strict fields between two free texts, as Istio's status between path and user agent, may be found
  in more than one place. If one place fits, then in each of all readings that are possible the
  first place for every such run of fields is that of the shortest free texts, and the last place
  that of the longest: widening a free text never spoils a reading. Both readings are made, and a
  run of fields counts only where they agree.
- Where they do not, the line is ambiguous: these fields stay open, the others are still known.

A line with just as many quotes as the format is cut at its quotes instead, and a piece with just as
many blanks at its blanks, which is one way only, and fast.
"""

import re
from typing import Final

import polars as pl

from sidelong.errors import ConfigError
from sidelong.ingest.envoy_grammar import (
    Run,
    cut_at_quotes,
    parts_of,
    pattern_of,
    runs_of,
    words_of,
)
from sidelong.ingest.envoy_operators import Operator

__all__ = ["ENVOY_FORMAT", "ISTIO_FORMAT", "EnvoyFormat"]

_REQUEST: Final = '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" '
_COUNTS: Final = (
    "%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "
    '"%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" '
    '"%UPSTREAM_HOST%"'
)

ENVOY_FORMAT: Final = f"{_REQUEST}%RESPONSE_CODE% %RESPONSE_FLAGS% {_COUNTS}"
"""What Envoy prints when it is told nothing."""

ISTIO_FORMAT: Final = (
    f"{_REQUEST}%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% "
    f'%CONNECTION_TERMINATION_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" {_COUNTS} '
    "%UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% "
    "%DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%"
)
"""What Istio's sidecars print when they are told nothing."""

_AMBIGUOUS: Final = "more than one reading: a client wrote what looks like the proxy's own fields"
_UNFIT: Final = "not in the format"


class EnvoyFormat:
    """Reads lines that Envoy printed by `format`. Errors: ConfigError if that cannot be done."""

    def __init__(self, format: str) -> None:
        self.format: Final = format
        parts = parts_of(format)
        self._runs: Final = runs_of(parts)
        self._cuts: Final = [runs_of(cut) for cut in cut_at_quotes(parts)]
        self._clean: Final = all(sum(run.free for run in cut) <= 1 for cut in self._cuts)
        operators = [part for part in parts if isinstance(part, Operator)]
        self.fields: Final = sorted({part.field for part in operators if part.field})
        times = [part.time for part in operators if part.field == "start_time"]
        if not times or times[0] is None:
            raise ConfigError(
                f"the format {format!r} has no time", hint="let Envoy log %START_TIME% too"
            )
        self.time: Final = times[0]
        first = parts[0]
        self.begins: Final = first if isinstance(first, str) else ""

    def read(self, lines: pl.Series) -> pl.DataFrame:
        """Texts by field, one row per line, and `fault`: null, or why it was not read, or in part.

        usable: whether there are fields at all; what an ambiguous line cannot tell is null. What
        is absent is null too; `x_forwarded_for` is "" where it is known to be absent.
        """
        if not self._clean:
            return self._both_ways(lines)
        rows = self._cut_up(lines)
        unfit = rows["fault"].is_not_null()
        if not unfit.any():
            return rows
        reread = self._both_ways(lines.filter(unfit))
        rows = rows.with_row_index("row").filter(~unfit)
        both = pl.concat([rows, reread.with_columns(row=unfit.arg_true()).select(rows.columns)])
        return both.sort("row").drop("row")

    def _cut_up(self, lines: pl.Series) -> pl.DataFrame:
        """Each line cut at its quotes, and each piece at its blanks or by a pattern."""
        count = len(self._cuts)
        pieces = lines.str.split_exact('"', count).struct.unnest()
        texts: dict[str, pl.Expr] = {}
        inner: list[pl.Expr] = []
        fits = [pl.col(f"field_{count}").is_null(), pl.col(f"field_{count - 1}").is_not_null()]
        for number, runs in enumerate(self._cuts):
            piece = pl.col(f"field_{number}")
            parts = [part for run in runs for part in run.parts]
            if all(isinstance(part, str) for part in parts):
                fits.append(piece == "".join(map(str, parts)))
                continue
            if len(parts) == 1:
                _put(texts, _texts(runs[0].only or runs[0], piece))
                continue
            group = pl.col(f"inner_{number}").struct
            words = words_of(parts)
            if words is not None:
                blanks = len(words) - 1
                inner.append(piece.str.split_exact(" ", blanks + 1).alias(f"inner_{number}"))
                fits.append(group.field(f"field_{blanks}").is_not_null())
                fits.append(group.field(f"field_{blanks + 1}").is_null())
                for place, word in enumerate(words):
                    text = group.field(f"field_{place}")
                    if word is None:
                        fits.append(text == "")
                    else:
                        _put(texts, {word.field: text})
                continue
            pattern, named = pattern_of(runs)
            if not named:
                fits.append(piece.str.contains(pattern))
                continue
            inner.append(piece.str.extract_groups(pattern).alias(f"inner_{number}"))
            fits.append(group.field(next(iter(named))).is_not_null())
            for name, part in named.items():
                _put(texts, _texts(part, group.field(name)))
        fit = pl.all_horizontal(fits).fill_null(False)
        rows = pieces.with_columns(inner)
        return self._rows(rows, texts, pl.when(~fit).then(pl.lit(_UNFIT)))

    def _both_ways(self, lines: pl.Series) -> pl.DataFrame:
        """Each line read twice, with the shortest and with the longest free texts."""
        shortest, named = pattern_of(self._runs, free="*?", marks=True)
        longest, _ = pattern_of(self._runs, free="*", marks=True)
        both = pl.DataFrame(
            {"first": lines.str.extract_groups(shortest), "last": lines.str.extract_groups(longest)}
        )
        first, last = pl.col("first").struct, pl.col("last").struct
        ahead = pl.lit(0, pl.Int64)  # how much later a run begins in the last reading
        same = []
        for number in range(len(self._runs)):
            same.append(ahead == 0)
            length = (reading.field(f"run{number}").str.len_bytes() for reading in (last, first))
            ahead = ahead + next(length).cast(pl.Int64) - next(length).cast(pl.Int64)
        same.append(pl.lit(True))  # they end together
        sure = [
            same[number] & same[number + 1] if run.free else same[number]
            for number, run in enumerate(self._runs)
        ]
        texts: dict[str, pl.Expr] = {}
        for name, part in named.items():
            number = int(name.removeprefix("run").partition("_")[0])
            _put(texts, _texts(part, pl.when(sure[number]).then(first.field(name))))
        ambiguous = ~pl.all_horizontal(sure)
        if "protocol" in texts:  # such a line is a client's request, of whatever kind
            texts["protocol"] = texts["protocol"].fill_null(pl.when(ambiguous).then(pl.lit("HTTP")))
        fault = (
            pl.when(first.field("run0").is_null())
            .then(pl.lit(_UNFIT))
            .when(ambiguous)
            .then(pl.lit(_AMBIGUOUS))
        )
        return self._rows(both, texts, fault)

    def _rows(self, rows: pl.DataFrame, texts: dict[str, pl.Expr], fault: pl.Expr) -> pl.DataFrame:
        read = rows.select(
            *(
                _present(texts.get(field, pl.lit(None, pl.String)), field).alias(field)
                for field in self.fields
            ),
            fault=fault,
        ).with_columns(usable=pl.col("fault").is_null() | (pl.col("fault") == _AMBIGUOUS))
        if read["usable"].all():
            return read
        return read.with_columns(pl.when("usable").then(field) for field in self.fields)


def _texts(part: Operator | Run, text: pl.Expr) -> dict[str | None, pl.Expr]:
    """What a group says of fields.

    Where one free text ends and the next begins is the client's to say. So of several only method
    and path are told, which are the client's anyway; and of x-forwarded-client-cert its end, if
    that is the end of them all.
    """
    if isinstance(part, Operator):
        return {part.field: text}
    if only := part.only:
        return {only.field: text}
    told: dict[str | None, pl.Expr] = {}
    pattern = "^(?s:"
    for place in part.parts:
        if isinstance(place, str):
            pattern += re.escape(place)
        elif place.field in ("method", "path"):
            rest = "(.*)" if place is part.parts[-1] else "(.*?)"
            after = part.parts[part.parts.index(place) + 1 :][:1]
            until = re.escape(after[0]) if after and isinstance(after[0], str) else ""
            told[place.field] = text.str.extract(f"{pattern}{rest}{until or '$'})")
            pattern += ".*?"
        else:
            pattern += ".*?"
    last = part.parts[-1]
    if isinstance(last, Operator) and last.field == "xfcc":
        told["xfcc"] = text
    return told


def _put(texts: dict[str, pl.Expr], told: dict[str | None, pl.Expr]) -> None:
    """Note what is told; where a format has a field twice, the first counts."""
    for field, text in told.items():
        if field:
            texts.setdefault(field, text)


def _present(text: pl.Expr, field: str) -> pl.Expr:
    if field == "x_forwarded_for":
        return text.replace("-", "")
    return pl.when((text != "-") & (text != "")).then(text)
