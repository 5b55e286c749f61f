"""The fenced blocks of the pages: where each stands, what it is in, and what it holds."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["ROOT", "Block", "Command", "blocks", "commands", "pages"]

ROOT: Final = Path(__file__).resolve().parent.parent

_FENCE: Final = re.compile(
    r"^(?P<indent> *)```(?P<language>[a-z]*)[^\n]*\n(?P<content>.*?)^ *```$", re.M | re.S
)
_FILE: Final = re.compile(r"\A# (?P<name>[\w./-]+\.(?:toml|ya?ml|json|csv))\n")
_VARIABLE: Final = re.compile(r"[A-Z_][A-Z0-9_]*=")


class Block(NamedTuple):
    """A fenced block. line: of its fence, from 1."""

    page: str
    line: int
    language: str
    content: str

    @property
    def place(self) -> str:
        """For a message: `docs/running.md:26`."""
        return f"{self.page}:{self.line}"

    @property
    def file(self) -> str | None:
        """The name of the file that the block shows, where its first line is that: `# NAME`."""
        found = _FILE.match(self.content)
        return found["name"] if found else None


class Command(NamedTuple):
    """One program with what it is given, as typed in a `console` block."""

    place: str
    program: str
    arguments: tuple[str, ...]


def pages() -> list[str]:
    """Every page that git knows or will be told of, by its path."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return sorted(name for name in listed.stdout.splitlines() if (ROOT / name).is_file())


def blocks(page: str) -> list[Block]:
    """The blocks of a page, in its order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        indent = len(match["indent"])
        content = "".join(line[indent:] or "\n" for line in match["content"].splitlines(True))
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(page, line, match["language"], content))
    return found


def commands(block: Block) -> Iterator[Command]:
    """What a `console` block has typed: after each `$`, program by program; a line without `$` is
    what was printed. Redirections and variables set in front are left out."""
    for line in block.content.replace("\\\n", " ").splitlines():
        if not line.startswith("$ "):
            continue
        lexer = shlex.shlex(line[2:], posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        lexer.commenters = "#"
        words: list[str] = []
        for word in [*lexer, ";"]:
            if word not in {"|", "&&", "||", ";", "&"}:
                words.append(word)
            elif words:
                yield _command(block.place, words)
                words = []


def _command(place: str, words: list[str]) -> Command:
    kept: list[str] = []
    skip = False
    for word in words:
        if skip:
            skip = False
        elif set(word) <= {"<", ">", "&"}:
            skip = True  # the file
        elif kept or not _VARIABLE.match(word):
            kept.append(word)
    return Command(place, kept[0], tuple(kept[1:]))
