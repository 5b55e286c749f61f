"""Templates for what a message says: Jinja, over the incidents and labels, and little else.

A template of a configuration is compiled and tried on sample incidents before anything starts. It
can read values, compare them, pick a few of Jinja's filters and loop over the lists; it can call
nothing, multiply nothing and define nothing. So neither it nor a value in it can run code, reach
outside of the incident, or take more time or room than its own length and the incident's bounds
allow. Whatever comes from a value is escaped for the format in which the text ends up; a value
that looks like a template is text.
"""

import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from jinja2 import Environment, StrictUndefined, TemplateSyntaxError, nodes
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment

from sidelong.alerts.incident import Incident
from sidelong.alerts.message_text import group_title
from sidelong.alerts.plain_text import card, harmless, html_text, markdown, plain, slack
from sidelong.alerts.sample import sample_incidents
from sidelong.errors import ConfigError

__all__ = ["ESCAPES", "Rendering", "Template"]

Escape = Callable[[str], str]

ESCAPES: Final[Mapping[str, Escape]] = {
    "text": str,
    "card": card,
    "html": html_text,
    "json": lambda text: json.dumps(text)[1:-1],
    "markdown": markdown,
    "slack": slack,
}
"""How values are escaped, by the format of the text around them."""

_LONGEST: Final = 8_192
_OUTPUT: Final = 64 << 10
_DEPTH: Final = 2
_TURNS: Final = 100
_EACH: Final = "sidelong_each"  # no name that a template would use
_FILTERS: Final = (
    *("abs", "capitalize", "default", "first", "float", "int", "last", "length", "list"),
    *("lower", "map", "max", "min", "rejectattr", "reverse", "selectattr", "sort"),
    *("sum", "title", "trim", "truncate", "unique", "upper", "dictsort", "items"),
)
_FORBIDDEN: Final[Mapping[type[nodes.Node], str]] = {
    nodes.Assign: "set",
    nodes.AssignBlock: "set",
    nodes.Block: "block",
    nodes.Call: "a call",
    nodes.CallBlock: "call",
    nodes.Extends: "extends",
    nodes.FilterBlock: "filter as a block",
    nodes.FromImport: "import",
    nodes.Import: "import",
    nodes.Include: "include",
    nodes.Macro: "macro",
    nodes.Mod: "%",
    nodes.Mul: "*",
    nodes.Pow: "**",
    nodes.With: "with",
}


class Rendering(Exception):
    """A template failed on an incident that is unlike the samples: the message says ours then."""


class _Environment(ImmutableSandboxedEnvironment):
    """Values are mappings, lists and plain values: a name after a dot is a key, never a method."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, Mapping) and (attribute in obj or isinstance(obj, _Labels)):
            return obj[attribute]
        if isinstance(obj, LoopContext) and attribute in ("index", "first", "last", "length"):
            return getattr(obj, attribute)
        return self.undefined(obj=obj, name=attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        if isinstance(obj, Mapping | list | str) and not isinstance(argument, slice):
            try:
                return obj[argument]
            except (LookupError, TypeError):
                pass
        if isinstance(obj, list | str) and isinstance(argument, slice):
            return obj[argument]
        return self.undefined(obj=obj, name=str(argument))


class Template:
    """One text of a configuration, compiled.

    `name` is where it is configured, for errors. `format` says how values are escaped, one of
    ESCAPES. Names in it: `incident` (the most recent one), `incidents`, `labels`, `title` (what
    the message would be called), all with the keys of the JSON output. `samples` are what it gives
    for the sample incidents.

    Errors: ConfigError with the line when it is no template, does what none may, or fails on a
    sample.
    """

    def __init__(self, source: str, *, name: str, format: str = "text") -> None:
        self.name = name
        if len(source) > _LONGEST:
            raise ConfigError(
                f"the template {name} has {len(source):,} characters",
                hint=f"write at most {_LONGEST:,}",
            )
        environment = _environment(ESCAPES[format])
        try:
            tree = environment.parse(source)
            _check(tree, name)
            for loop in tree.find_all(nodes.For):
                loop.iter = nodes.Filter(loop.iter, _EACH, [], [], None, None, lineno=loop.lineno)
            self._template = environment.from_string(tree)
        except RecursionError:
            raise ConfigError(
                f"the template {name} is nested too deeply", hint="write it more plainly"
            ) from None
        except TemplateSyntaxError as error:
            raise ConfigError(
                f"the template {name} is wrong in line {error.lineno}: {error.message}",
                hint="see docs/receivers.md for what templates know",
            ) from error
        self.samples: tuple[str, ...] = ()
        for events in sample_incidents():
            try:
                self.samples += (self.render(events, {"team": "sample"}),)
            except Rendering as error:
                raise ConfigError(
                    f"the template {name} fails on a sample incident: {error}",
                    hint="names are those of the JSON output: {{ incident.actor.workload }}",
                ) from error

    def render(self, events: Sequence[Incident], labels: Mapping[str, str]) -> str:
        """The text for these events. Errors: Rendering."""
        shown = [harmless(event) for event in events]
        incidents = [event.to_dict() | _lists(event) for event in shown]
        values: dict[str, Any] = {
            "incident": incidents[-1],
            "incidents": incidents,
            "labels": _Labels({plain(name): plain(value) for name, value in labels.items()}),
            "title": group_title(shown),
        }
        try:
            return "".join(_bounded(self._template.generate(values)))
        except Exception as error:  # whatever it is, the alert goes out
            raise Rendering(f"{_line(error)}{error}") from error


class _Labels(dict[str, str]):
    """A label that is not there is empty: groups differ in which they have."""

    def __missing__(self, key: str) -> str:
        return ""


def _lists(event: Incident) -> dict[str, Any]:
    plain_event = event.to_dict()
    return {name: list(plain_event[name]) for name in ("objects", "techniques", "evidence")}


def _environment(escape: Escape) -> Environment:
    environment = _Environment(
        undefined=StrictUndefined,
        autoescape=False,
        finalize=lambda value: "" if value is None else escape(str(value)),
        keep_trailing_newline=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.clear()
    environment.filters = {name: environment.filters[name] for name in _FILTERS}
    environment.filters |= {"join": _joined, "round": _rounded, _EACH: _each}
    return environment


def _joined(values: Iterable[Any], between: str = "") -> str:
    """Jinja's, without what is not there."""
    return between.join(str(value) for value in values if value is not None)


def _rounded(value: float, digits: int = 0) -> float:
    """Jinja's, without the powers of ten that it computes on the way."""
    return round(float(value), max(0, min(digits, 15)))


def _each(values: Any) -> list[Any]:
    """What a loop goes over: lists, for a text has too many letters."""
    if isinstance(values, str):
        raise TypeError("a loop goes over a list, and this is a text")
    return list(itertools.islice(values, _TURNS))


def _check(tree: nodes.Template, name: str) -> None:
    for node in _within(tree):
        if type(node) in _FORBIDDEN:
            raise ConfigError(
                f"the template {name} holds {_FORBIDDEN[type(node)]} in line {node.lineno}",
                hint="templates may print values, use if and for, and Jinja's plain filters",
            )
        if isinstance(node, nodes.Name) and node.name == "self":
            raise ConfigError(
                f"the template {name} holds self in line {node.lineno}",
                hint="names are incident, incidents, labels and title",
            )
        if isinstance(node, nodes.For) and node.recursive:
            raise ConfigError(
                f"the template {name} loops recursively in line {node.lineno}",
                hint="write the loops one inside the other",
            )
    if _depth(tree) > _DEPTH:
        raise ConfigError(
            f"the template {name} has more than {_DEPTH} loops inside each other",
            hint="loop over the incidents, and in that over one of their lists",
        )


def _within(node: nodes.Node) -> Iterator[nodes.Node]:
    for child in node.iter_child_nodes():
        yield child
        yield from _within(child)


def _depth(node: nodes.Node) -> int:
    below = max((_depth(child) for child in node.iter_child_nodes()), default=0)
    return below + isinstance(node, nodes.For)


def _bounded(pieces: Iterator[str]) -> Iterator[str]:
    left = _OUTPUT
    for piece in pieces:
        yield piece[:left]
        left -= len(piece)
        if left <= 0:
            return


def _line(error: Exception) -> str:
    """Where in the template, which Jinja notes in the traceback only."""
    line, trace = None, error.__traceback__
    while trace is not None:
        if re.fullmatch("<template>", trace.tb_frame.f_code.co_filename):
            line = trace.tb_lineno
        trace = trace.tb_next
    return f"line {line}: " if line else ""
