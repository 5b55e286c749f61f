"""Every block of every page works: what is to be typed runs, what is shown is what is printed.

- `sh` runs as it stands, in a copy of the checkout, after what the page had before it; and so do
  `python` and `sql` (DuckDB). A block whose first line is `# NAME.toml` (or .yaml, .json, .csv) is
  written to that file first. `text` right after one of these is what was printed, `...` anything.
- `console` needs what a test has not: a cluster, a broker. Its commands (`$`) are only parsed.
- `toml` is read as settings, `yaml` and `json` are parsed, `promql` is asked of promtool.
"""

import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import click
import duckdb
import pytest
import yaml
from doc_blocks import ROOT, Block, Command, blocks, commands, pages

from sidelong.cli import cli
from sidelong.config import look_at

FOREIGN: Final = {
    "cd": "the shell's",
    "docker": "an engine of containers",
    "helm": "needs a cluster; tests/test_chart.py has the chart",
    "hubble": "Cilium's client",
    "kubectl": "needs a cluster",
    "nfdump": "tests/test_nfdump_peer.py runs it",
    "pip": "needs a registry",
}
"""Programs of others that a `console` block may name, and why they are not looked into."""

FINDS: Final = re.compile(r"sidelong (?:.* )?(?:replay|doctor|preview|check|diff|explain)\b")
"""Commands whose exit status 1 says that they found something."""

WRITTEN: Final = ("docs/cli.md",)
"""Pages whose blocks are written by the program: tests/test_docs.py says whether they are fresh."""

RUN: Final = ("sh", "python", "sql")
SHOWN: Final = ("text", "mermaid")
PARSED: Final = ("console", "json", "promql", "toml", "yaml")

EVERY: Final = [block for page in pages() for block in blocks(page)]


def of(*languages: str) -> list[Block]:
    return [block for block in EVERY if block.language in languages]


def place(block: Block) -> str:
    return block.place


@pytest.mark.parametrize("block", EVERY, ids=place)
def test_a_block_is_in_a_language_that_is_checked(block: Block) -> None:
    assert block.language in (*RUN, *PARSED, *SHOWN)


@pytest.mark.parametrize("page", pages())
def test_a_command_is_never_shown_outside_a_fenced_block(page: str) -> None:
    """Where no test would see it."""
    text = re.sub(r"^ *```.*?^ *```$", "", (ROOT / page).read_text("utf-8"), flags=re.M | re.S)
    assert (
        re.findall(r"(?m)^(?: {4}|\t)(?:\$ |(?:\.venv/bin/)?sidelong |make |kubectl ).*$", text)
        == []
    )


# What is parsed


@pytest.mark.parametrize("block", of("console"), ids=place)
def test_what_is_to_be_typed_elsewhere_is_a_command_that_is_there(
    block: Block, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = list(commands(block))
    assert typed
    for command in typed:
        understood(command, monkeypatch)


def understood(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    if command.program.rpartition("/")[2] == "sidelong":
        with monkeypatch.context() as patch:
            # Parse down to the last option and run nothing; files need not be there.
            patch.setattr(click.Command, "invoke", lambda *_: None)
            patch.setattr(click.Path, "convert", lambda _self, value, *_: value)
            try:
                cli.main(list(command.arguments), "sidelong", standalone_mode=False)
            except click.ClickException as error:
                pytest.fail(f"{command.place}: {error.format_message()}")
    elif command.program == "make":
        targets = re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"))
        assert {word for word in command.arguments if "=" not in word} <= set(targets)
    else:
        assert command.program in FOREIGN, command.place


@pytest.mark.parametrize("block", of("json", "toml", "yaml"), ids=place)
def test_what_is_shown_of_a_file_can_be_read(block: Block, tmp_path: Path) -> None:
    READ[block.language](block.content, tmp_path)


def read_json(content: str, _folder: Path) -> None:
    assert json.loads(content)


def read_toml(content: str, folder: Path) -> None:
    """As settings: each fragment is a whole file."""
    path = folder / "sidelong.toml"
    path.write_text(content, encoding="utf-8")
    assert tomllib.loads(content)
    assert look_at(str(path), {}).problems == []


def read_yaml(content: str, _folder: Path) -> None:
    """An object of Kubernetes says what it is."""
    for document in yaml.safe_load_all(content):
        assert isinstance(document, dict)
        if "kind" in document or "metadata" in document:
            assert {"apiVersion", "kind", "metadata"} <= document.keys()
            assert document["metadata"]["name"]


READ: Final[Mapping[str, Callable[[str, Path], None]]] = {
    "json": read_json,
    "toml": read_toml,
    "yaml": read_yaml,
}


def test_promtool_reads_the_queries_shown(promtool: Path, tmp_path: Path) -> None:
    rules = [
        {"record": "query", "labels": {"place": block.place, "line": str(number)}, "expr": line}
        for block in of("promql")
        for number, line in enumerate(block.content.splitlines())
        if line and not line.startswith("#")
    ]
    path = tmp_path / "queries.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    checked = subprocess.run(
        [promtool, "check", "rules", path], check=False, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


# What runs


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what git tracks, with this environment as its .venv."""
    copy = tmp_path / "checkout"
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        source = ROOT / name
        if source.is_symlink() or source.exists():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy / name, follow_symlinks=False)
    (copy / ".venv").symlink_to(sys.prefix)
    for name in ("pyproject.toml", "constraints.txt"):
        os.utime(copy / name, (0, 0))  # or make would install the copy over this environment
    return copy


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", sorted({block.page for block in EVERY if block.language in RUN}), ids=str
)
def test_what_a_page_tells_to_type_runs_and_prints_what_it_shows(page: str, checkout: Path) -> None:
    """In one test, as later blocks use what earlier ones have made."""
    printed: str | None = None
    for block in blocks(page):
        if block.file:
            (checkout / block.file).write_text(block.content, encoding="utf-8")
        if block.language in RUN:
            printed = STEPS[block.language](block, checkout)
        elif block.language == "text" and printed is not None:
            assert shows(block.content, printed), f"{block.place}: it printed\n{printed}"
            printed = None
        else:
            printed = None


def shows(content: str, printed: str) -> bool:
    """Whether the lines of a block are in what was printed; `...` at an end stands for any."""
    pieces = content.split("...\n")
    pattern = "*" + "*".join(re.sub(r"([\[*?])", r"[\1]", piece) for piece in pieces) + "*"
    return fnmatch.fnmatchcase(printed, pattern)


def run_sh(block: Block, checkout: Path) -> str:
    printed = ""
    for command in block.content.replace("\\\n", "").splitlines():
        if not command or command.startswith("#"):
            continue
        ran = ran_in(checkout, ["sh", "-c", command])
        passes = (0, 1) if FINDS.search(command) else (0,)
        assert ran.returncode in passes, f"{block.place}: {command}\n{ran.stdout}{ran.stderr}"
        assert "Traceback" not in ran.stderr
        printed += ran.stdout + ran.stderr
    return printed


def run_python(block: Block, checkout: Path) -> str:
    ran = ran_in(checkout, [sys.executable, "-W", "error", "-c", block.content])
    assert ran.returncode == 0, f"{block.place}: {ran.stderr}"
    return ran.stdout


def run_sql(block: Block, checkout: Path) -> str:
    with duckdb.connect() as database:
        database.execute("set file_search_path = ?", [str(checkout)])
        return "".join(f"{row}\n" for row in database.sql(block.content).fetchall())


STEPS: Final[Mapping[str, Callable[[Block, Path], str]]] = {
    "sh": run_sh,
    "python": run_python,
    "sql": run_sql,
}


def ran_in(checkout: Path, command: list[str]) -> subprocess.CompletedProcess[str]:
    path = f"{checkout / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    kept = {name: value for name, value in os.environ.items() if name[:9] != "SIDELONG_"}
    return subprocess.run(
        command,
        cwd=checkout,
        env={**kept, "PATH": path, "COLUMNS": "100"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.mark.parametrize("page", WRITTEN)
def test_a_page_that_the_program_writes_holds_nothing_else(page: str) -> None:
    assert {block.language for block in blocks(page)} == {"text"}
