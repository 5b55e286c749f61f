"""The grammar of an Envoy format string: literals and operators, and where each begins and ends."""

import re
from dataclasses import dataclass
from typing import Final

from sidelong.errors import ConfigError
from sidelong.ingest.envoy_operators import APART, Operator, operator

__all__ = ["Part", "Run", "cut_at_quotes", "parts_of", "pattern_of", "runs_of", "words_of"]

_TOKEN: Final = re.compile(
    r"%%|%(?P<name>[A-Z0-9_]+)(?:\((?P<argument>[^)]*)\))?(?::\d+)?%|(?P<text>[^%]+)|(?P<odd>%)"
)
_APART: Final = re.compile(r"%((?:UP|DOWN)STREAM\w*?)_ADDRESS_WITHOUT_PORT%:%\1_PORT%")


Part = str | Operator


@dataclass(frozen=True, slots=True)
class Run:
    """Literals and operators in turn, either all of them strict or, where `free`, none."""

    parts: tuple[Part, ...]
    free: bool

    @property
    def only(self) -> Operator | None:
        """The one operator that this is, if it is nothing else."""
        part = self.parts[0] if len(self.parts) == 1 else None
        return part if isinstance(part, Operator) else None


def parts_of(format: str) -> list[Part]:
    """The literals and operators of a format, in order.

    Errors: ConfigError for a format that is broken, or whose lines could not be read back.
    """
    parts: list[Part] = []
    for token in _TOKEN.finditer(_APART.sub(rf"%\1_ADDRESS({APART})%", format.rstrip("\r\n"))):
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
    _check(parts, format)
    return parts


def _check(parts: list[Part], format: str) -> None:
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


def cut_at_quotes(parts: list[Part]) -> list[list[Part]]:
    """The parts between quotes, which are left out."""
    cuts: list[list[Part]] = [[]]
    for part in parts:
        if isinstance(part, Operator):
            cuts[-1].append(part)
            continue
        for number, text in enumerate(part.split('"')):
            if number:
                cuts.append([])
            if text:
                cuts[-1].append(text)
    return cuts


def words_of(parts: list[Part]) -> list[Operator | None] | None:
    """Operators with one blank between them; None where a blank begins or ends the piece."""
    words: list[Operator | None] = []
    blank = True
    for part in parts:
        if isinstance(part, Operator):
            words.append(part)
        elif part != " ":
            return None
        elif blank:
            words.append(None)
        blank = isinstance(part, str)
    return words + ([None] if blank else [])


def runs_of(parts: list[Part]) -> list[Run]:
    """The parts in turn strict and free; a literal between two free texts belongs to them."""
    runs: list[Run] = []
    held: list[Part] = []
    for part in parts:
        if isinstance(part, str) or part.form:
            held.append(part)
        elif runs and runs[-1].free and all(isinstance(text, str) for text in held):
            runs[-1] = Run((*runs[-1].parts, *held, part), free=True)
            held = []
        else:
            runs += [Run(tuple(held), free=False)] if held else []
            runs.append(Run((part,), free=True))
            held = []
    return runs + ([Run(tuple(held), free=False)] if held or not runs else [])


def pattern_of(
    runs: list[Run], free: str = "*", *, marks: bool = False
) -> tuple[str, dict[str, Operator | Run]]:
    """A pattern for whole lines of these runs, and what its groups are, by name.

    free: how often a free text repeats what it may be. marks: strict runs are groups as well.
    """
    pattern = ""
    named: dict[str, Operator | Run] = {}
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
