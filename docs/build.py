"""Writes the pages that follow from the program, and checks every link between pages.

docs/cli.md is the help of each command, docs/configuration.md the settings of each section,
docs/features.md the features of windows, docs/metrics.md what the service measures.

python docs/build.py            write the pages, then check links
python docs/build.py --check    change nothing, fail if a page is stale or a link is broken
"""

import inspect
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Final, Literal, Union, get_args, get_origin, get_type_hints

import click
import msgspec

from sidelong.cli import cli
from sidelong.config import Config
from sidelong.config_environment import PREFIX
from sidelong.features.catalogue import CATALOGUE, KEYS, SCOPES
from sidelong.ingest.secret import Secret
from sidelong.measures import BUCKETS, GROUPS, Measure

__all__ = [
    "broken_links",
    "cli_page",
    "configuration_page",
    "features_page",
    "metrics_page",
    "with_incidents",
]

ROOT: Final = Path(__file__).resolve().parent.parent
README: Final = ROOT / "README.md"
DOCS: Final = ROOT / "docs"

_WIDTH: Final = 100
_HEAD: Final = """\
# The command line

Written by `make docs` from the commands themselves; a test fails when it is stale.
"""
_SETTINGS: Final = """\
# Configuration

Written by `make docs` from the settings themselves; a test fails when it is stale.

Commands that read flows take `--config FILE`, a TOML file. Every section may be left out, and so
may every key of one; a key that nobody knows is an error. Paths are relative to the working
directory. No secret stands in the file: it is a file or a variable that is named there.

`sidelong config show --defaults` prints all of this as a file to begin with, `sidelong config
check FILE` says all that is wrong with one.

The environment takes the place of the file, key by key: `{prefix}SECTION__KEY`, such as
`{prefix}KAFKA__SERVERS=kafka:9092` or `{prefix}KAFKA__SASL__PASSWORD__FILE=/run/secrets/kafka`. Two
underscores lead one table deeper. A value is written as in TOML or as plain text, a list of texts
also as `a, b`. What is in lists, such as receivers, is set in a file only.
"""
_METRICS: Final = """\
# Metrics

Written by `make docs` from sidelong/measures.py; a test fails when it is stale.

`GET /metrics` at `listen` of [service] has these, in Prometheus' text format. `role` is one of
collect, normalise, detect, correlate and deliver, or alone for a service without Kafka. Counters
begin at zero with the process and go on over restarts of a role. Besides there are the usual
`process_...` of Prometheus' client, such as `process_resident_memory_bytes`.
"""
_FEATURES: Final = """\
# Features of windows

Written by `make docs` from the catalogue (`features/catalogue.py`); a test fails when it is stale.

A window is a minute of event time, aligned to whole minutes. It holds the rows whose own time lies
in it and which come before it closes: at the first row of the stream's pulse by which the clock is
two seconds past its end. So neither the cuts of a stream nor its partitions by actor change a
window, and replay, the service, notebooks (`sidelong.features.observed.window_features`) and
back-fill find the same. Rows that come later are counted as late.

A feature is null where the source cannot see what it measures, or where there is nothing to take a
share of. *From* names the totals of the window that it is computed of, all of them integers; "log"
marks features that span orders of magnitude.

Nothing is told of a window before it closes: the sequential detectors alarm on the record that
decides, and a second opinion can wait for a minute.

**Fan-in** needs the rows of all actors, and a partition sees those of its own. So it is no feature
of a live window but of scope `called`, which `sidelong.features.window_frames.fan_in` makes of the
windows of all edges, wherever these are together: in notebooks and in back-fill.
"""
_SCOPES: Final = {
    "workload": "What a workload does.",
    "edge": "What passes over one edge. Rhythm is that of its last 32 beginnings within an hour.",
    "domain": "What a pod looks up below a registered domain; names of the cluster's own, what "
    "search paths make of others, and what resolvers pass on are left out.",
    "called": "How a workload is used.",
}
_LINK: Final = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING: Final = re.compile(r"^#+ (.+)$", re.MULTILINE)
_QUOTED: Final = re.compile(r"^```text\n.*?^```$", re.MULTILINE | re.DOTALL)
_FENCED: Final = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def cli_page() -> str:
    """The page: every command with its help, as a terminal of 100 columns shows it."""
    top = click.Context(cli, info_name="sidelong", terminal_width=_WIDTH, **cli.context_settings)
    return "\n".join([_HEAD, *_sections(top)])


def _sections(context: click.Context) -> Iterator[str]:
    """A command and those below it, each with its help."""
    command = context.command
    yield f"## {context.command_path}\n\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for name, below in sorted(command.commands.items()):
            yield from _sections(click.Context(below, parent=context, info_name=name))


def configuration_page() -> str:
    """The page: every section with what its keys mean, their types and their defaults."""
    hints = get_type_hints(Config)
    sections = [section for name in Config.__struct_fields__ for section in _of(name, hints[name])]
    return "\n".join([_SETTINGS.format(prefix=PREFIX), *sections])


def metrics_page() -> str:
    """The page: every measure with its type, its labels and its meaning."""
    bounds = ", ".join(f"{bound:g}" for bound in BUCKETS)
    closing = f"Histograms have bounds at {bounds} seconds.\n"
    return "\n".join([_METRICS, *(_measures(*group) for group in GROUPS.items()), closing])


def _measures(title: str, measures: tuple[Measure, ...]) -> str:
    rows = [
        f"| `{one.metric}` | {one.kind} | {', '.join(one.labels)} | {one.meaning} |"
        for one in measures
    ]
    head = ["| name | type | labels | meaning |", "|---|---|---|---|"]
    return "\n".join([f"## {title}", "", *head, *rows, ""])


def _of(name: str, hint: object) -> Iterator[str]:
    """The section of a struct, then those of the structs in it; one for each kind of receiver."""
    kinds = [one for one in _structs(hint) if one is not Secret]
    if get_origin(hint) is tuple:
        for kind in kinds:
            yield _settings(f"[[{name}]]", kind, kind.__struct_config__.tag)
        return
    (settings,) = kinds
    yield _settings(f"[{name}]", settings)
    for field in msgspec.structs.fields(settings):
        for below in _structs(field.type):
            if below not in (settings, Secret) and get_origin(field.type) is not tuple:
                nested = f"{name}.{field.encode_name}"
                yield from _of(f"{nested}.NAME" if _is_table(field.type) else nested, below)


def _is_table(hint: object) -> bool:
    return get_origin(hint) in (dict, Mapping)


def _structs(hint: object) -> list[type[msgspec.Struct]]:
    """The structs that a type names, in their order."""
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return [hint]
    return [one for inner in get_args(hint) for one in _structs(inner)]


def _settings(title: str, settings: type[msgspec.Struct], tag: object = None) -> str:
    summary, _, meaning = (inspect.getdoc(settings) or "").partition("\n\n")
    rows = [
        f"| `{field.encode_name}` | {_type(field.type)} | {_default(field)} |"
        for field in msgspec.structs.fields(settings)
    ]
    table = "\n".join(["| key | type | default |", "|---|---|---|", *rows])
    if tag is not None:
        title = f'{title} type = "{tag}"'
    return f"## {title}\n\n{summary}\n\n{meaning}\n\n{table}\n"


def features_page() -> str:
    """The page: every feature of every scope, with unit, meaning and what it is made of."""
    return "\n".join([_FEATURES, *(_scope(scope) for scope in SCOPES)])


def _scope(scope: str) -> str:
    rows = [
        f"| `{one.name}` | {one.unit}{', log' if one.skewed else ''} | {one.meaning} | "
        f"{', '.join(sorted({*one.expression.meta.root_names()}))} |"
        for one in CATALOGUE[scope]
    ]
    table = "\n".join(["| feature | unit | meaning | from |", "|---|---|---|---|", *rows])
    keys = ", ".join(f"`{name}`" for name in KEYS[scope])
    return f"## {scope}\n\n{_SCOPES[scope]} Key: {keys}.\n\n{table}\n"


_TOML: Final = {str: "text", int: "integer", float: "number", bool: "true or false"}


def _type(hint: object) -> str:
    """A type in the words of TOML; that a key may be left out needs no word."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _type(inner[0])
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_type(one) for one in inner if one is not NoneType))
    if origin is Literal:
        return " or ".join(f"`{one}`" for one in inner)
    if origin is tuple:
        return f"list of {_type(inner[0])}"
    if origin in (dict, Mapping):
        return "table"
    return _TOML[hint] if isinstance(hint, type) and hint in _TOML else "table"


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.default_factory is not msgspec.NODEFAULT:
        value = field.default_factory()
    elif field.required:
        return "required"
    else:
        value = field.default
    return "" if value is None or value in ((), {}) else f"`{msgspec.json.encode(value).decode()}`"


def with_incidents(readme: str) -> str:
    """The README with its block of text replaced by what the demo prints about the incidents."""
    demo = subprocess.run(
        [sys.executable, "-m", "sidelong", "demo"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    _, _, incidents, _ = demo.stdout.split("\n\n")
    return _QUOTED.sub(lambda _: f"```text\n{incidents}\n```", readme, count=1)


def broken_links() -> list[str]:
    """Links of tracked pages to files or headings that are not there."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    pages = [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]
    return [broken for page in pages for broken in _broken(page)]


def _broken(page: Path) -> Iterator[str]:
    for target in _LINK.findall(_FENCED.sub("", page.read_text(encoding="utf-8"))):
        if re.match("[a-z]+:", target):
            continue  # elsewhere: checking would need a network
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in _anchors(file)):
            yield f"{page.relative_to(ROOT)}: {target}"


def _anchors(page: Path) -> set[str]:
    headings = _HEADING.findall(_FENCED.sub("", page.read_text(encoding="utf-8")))
    return {
        re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings
    }


def main(arguments: list[str]) -> int:
    """Write or check; returns the exit status."""
    pages = {
        DOCS / "cli.md": cli_page(),
        DOCS / "configuration.md": configuration_page(),
        DOCS / "features.md": features_page(),
        DOCS / "metrics.md": metrics_page(),
    }
    if arguments == ["--check"]:
        problems = [
            f"{page.relative_to(ROOT)} is stale: make docs"
            for page, text in pages.items()
            if not page.exists() or page.read_text(encoding="utf-8") != text
        ]
    else:
        for page, text in pages.items():
            page.write_text(text, encoding="utf-8")
        README.write_text(with_incidents(README.read_text(encoding="utf-8")), encoding="utf-8")
        problems = []
    problems += [f"broken link in {link}" for link in broken_links()]
    print(*problems, sep="\n", end="\n" if problems else "", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
