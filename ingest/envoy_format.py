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

A line with just as many quotes as the format is cut at its quotes instead, which is one way only,
and fast.
"""

import re
from dataclasses import dataclass
from typing import Final

import polars as pl

from sidelong.errors import ConfigError
from sidelong.ingest.envoy_operators import Operator, operator

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

_TOKEN: Final = re.compile(
    r"%%|%(?P<name>[A-Z0-9_]+)(?:\((?P<argument>[^)]*)\))?(?::\d+)?%|(?P<text>[^%]+)|(?P<odd>%)"
)
_APART: Final = re.compile(r"%((?:UP|DOWN)STREAM\w*?)_ADDRESS_WITHOUT_PORT%:%\1_PORT%")
_AMBIGUOUS: Final = "more than one reading: a client wrote what looks like the proxy's own fields"
_UNFIT: Final = "not in the format"


_Part = str | Operator


@dataclass(frozen=True, slots=True)
class _Run:
    """Literals and operators in turn, either all of them strict or, where `free`, none."""

    parts: tuple[_Part, ...]
    free: bool

    @property
    def only(self) -> Operator | None:
        """The one operator that this is, if it is nothing else."""
        part = self.parts[0] if len(self.parts) == 1 else None
        return part if isinstance(part, Operator) else None


class EnvoyFormat:
    """Reads lines that Envoy printed by `format`. Errors: ConfigError if that cannot be done."""

    def __init__(self, format: str) -> None:
        self.format: Final = format
        parts = _parts_of(format)
        _check(parts, format)
        self._runs: Final = _runs(parts)
        self._cuts: Final = [_runs(cut) for cut in _cut_at_quotes(parts)]
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
        rows = self._by_quotes(lines)
        unfit = rows["fault"].is_not_null()
        if not unfit.any():
            return rows
        # With as many quotes as there should be, there is no other reading.
        quotes = lines.str.count_matches('"', literal=True)
        dirty = (unfit & (quotes != len(self._cuts) - 1)).fill_null(False)
        if not dirty.any():
            return rows
        reread = self._both_ways(lines.filter(dirty))
        rows = rows.with_row_index("row")
        reread = reread.with_columns(row=dirty.arg_true())
        both = pl.concat([rows.filter(~dirty), reread.select(rows.columns)])
        return both.sort("row").drop("row")

    def _by_quotes(self, lines: pl.Series) -> pl.DataFrame:
        """Each line cut at its quotes, each piece by an expression of its own."""
        count = len(self._cuts)
        pieces = lines.str.split_exact('"', count).struct.unnest()
        texts: dict[str, pl.Expr] = {}
        groups: list[pl.Expr] = []
        fits = [pl.col(f"field_{count}").is_null(), pl.col(f"field_{count - 1}").is_not_null()]
        for number, runs in enumerate(self._cuts):
            piece = pl.col(f"field_{number}")
            only = runs[0].only if len(runs) == 1 else None
            if only:
                _put(texts, {only.field: piece})
                if only.form:
                    fits.append(piece.str.contains(f"^(?:{only.pattern})$"))
                continue
            pattern, named = _pattern(runs)
            if not named:
                fits.append(piece.str.contains(pattern))
                continue
            groups.append(piece.str.extract_groups(pattern).alias(f"groups_{number}"))
            group = pl.col(f"groups_{number}").struct
            fits.append(group.field(next(iter(named))).is_not_null())
            for name, part in named.items():
                _put(texts, _texts(part, group.field(name)))
        fit = pl.all_horizontal(fits).fill_null(False)
        rows = pieces.with_columns(groups)
        return self._rows(rows, texts, pl.when(~fit).then(pl.lit(_UNFIT)))

    def _both_ways(self, lines: pl.Series) -> pl.DataFrame:
        """Each line read twice, with the shortest and with the longest free texts."""
        shortest, named = _pattern(self._runs, free="*?", marks=True)
        longest, _ = _pattern(self._runs, free="*", marks=True)
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


def _parts_of(format: str) -> list[_Part]:
    parts: list[_Part] = []
    for token in _TOKEN.finditer(_APART.sub(r"%\1_ADDRESS(APART)%", format.rstrip("\r\n"))):
        if token["odd"] or (token["text"] and "\n" in token["text"]):
            raise ConfigError(
                f"the format {format!r} is broken at character {token.start() + 1}",
                hint="write it as in the mesh's configuration, %% for a percent sign",
            )
        if token["name"]:
            parts.append(operator(token["name"], token["argument"]))
            continue
        text = token["text"] or "%"
        if parts and isinstance(parts[-1], str):
            parts[-1] += text
        else:
            parts.append(text)
    return parts


def _check(parts: list[_Part], format: str) -> None:
    """That it can be told where each strict operator begins and ends."""
    for number, part in enumerate(parts):
        if isinstance(part, str) or part.form is None:
            continue
        beside = parts[max(number - 1, 0) : number] + parts[number + 1 : number + 2]
        for other in beside:
            if isinstance(other, Operator):
                raise ConfigError(
                    f"in the format {format!r} nothing stands between {part.name} and {other.name}",
                    hint="put a blank between them",
                )
            if part.time is None and not part.form.foreign.search(other):
                raise ConfigError(
                    f"in the format {format!r} {part.name} may itself contain the {other!r} "
                    "beside it",
                    hint="put a blank or a quote between them",
                )


def _cut_at_quotes(parts: list[_Part]) -> list[list[_Part]]:
    cuts: list[list[_Part]] = [[]]
    for part in parts:
        if isinstance(part, Operator):
            cuts[-1].append(part)
            continue
        first, *others = part.split('"')
        cuts[-1] += [first] if first else []
        cuts += [[text] if text else [] for text in others]
    return cuts


def _runs(parts: list[_Part]) -> list[_Run]:
    """The parts in turn strict and free; a literal between two free texts belongs to them."""
    runs: list[_Run] = []
    held: list[_Part] = []
    for part in parts:
        if isinstance(part, str) or part.form:
            held.append(part)
        elif runs and runs[-1].free and all(isinstance(text, str) for text in held):
            runs[-1] = _Run((*runs[-1].parts, *held, part), free=True)
            held = []
        else:
            runs += [_Run(tuple(held), free=False)] if held else []
            runs.append(_Run((part,), free=True))
            held = []
    return runs + ([_Run(tuple(held), free=False)] if held or not runs else [])


def _pattern(
    runs: list[_Run], free: str = "*", *, marks: bool = False
) -> tuple[str, dict[str, Operator | _Run]]:
    """A pattern for whole lines of these runs, and what its groups are, by name.

    free: how often a free text repeats what it may be. marks: strict runs are groups as well.
    """
    pattern = ""
    named: dict[str, Operator | _Run] = {}
    for number, run in enumerate(runs):
        name = f"run{number}"
        inside = ""
        for place, part in enumerate(run.parts):
            if isinstance(part, str):
                inside += re.escape(part)
            elif run.free:
                inside += f".{free}"
            elif part.field:
                named[f"{name}_{place}"] = part
                inside += f"(?P<{name}_{place}>{part.pattern})"
            else:
                inside += f"(?:{part.pattern})"
        if run.free:
            named[name] = run
        pattern += f"(?P<{name}>{inside})" if run.free or marks else inside
    return f"^(?s:{pattern})$", named


def _texts(part: Operator | _Run, text: pl.Expr) -> dict[str | None, pl.Expr]:
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
