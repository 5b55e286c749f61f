"""Writes docs/cli.md from the help of each command, and checks every link between pages.

python docs/build.py            write the page, then check links
python docs/build.py --check    change nothing, fail if the page is stale or a link is broken
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from sidelong.cli import cli

__all__ = ["broken_links", "cli_page", "with_incidents"]

ROOT: Final = Path(__file__).resolve().parent.parent
README: Final = ROOT / "README.md"
PAGE: Final = ROOT / "docs" / "cli.md"

_WIDTH: Final = 100
_HEAD: Final = """\
# The command line

Written by `make docs` from the commands themselves; a test fails when it is stale.
"""
_LINK: Final = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING: Final = re.compile(r"^#+ (.+)$", re.MULTILINE)
_QUOTED: Final = re.compile(r"^```text\n.*?^```$", re.MULTILINE | re.DOTALL)
_FENCED: Final = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def cli_page() -> str:
    """The page: every command with its help, as a terminal of 100 columns shows it."""
    names = ["", *sorted(cli.commands)]
    return "\n".join([_HEAD, *(_section(name) for name in names)])


def _section(name: str) -> str:
    group = click.Context(cli, info_name="sidelong", terminal_width=_WIDTH, **cli.context_settings)
    command = cli.commands[name] if name else cli
    context = click.Context(command, parent=group, info_name=name) if name else group
    title = f"sidelong {name}".strip()
    return f"## {title}\n\n```text\n{command.get_help(context)}\n```\n"


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
    if arguments == ["--check"]:
        stale = not PAGE.exists() or PAGE.read_text(encoding="utf-8") != cli_page()
        problems = [f"{PAGE.relative_to(ROOT)} is stale: make docs"] if stale else []
    else:
        PAGE.write_text(cli_page(), encoding="utf-8")
        README.write_text(with_incidents(README.read_text(encoding="utf-8")), encoding="utf-8")
        problems = []
    problems += [f"broken link in {link}" for link in broken_links()]
    print(*problems, sep="\n", end="\n" if problems else "", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
