"""What the pages tell a newcomer to type works, and what they show is what is printed."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parent.parent
PAGES: Final = ("README.md", "examples/shop-incident/README.md")


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a page in one language."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands() -> list[tuple[str, str]]:
    """Every command of the `sh` blocks, in order, with the page it is on."""
    return [
        (page, line)
        for page in PAGES
        for block in blocks(page, "sh")
        for line in block.replace("\\\n", "").splitlines()
        if line and not line.startswith("#")
    ]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git tracks, with this environment as its .venv."""
    copy = tmp_path_factory.mktemp("checkout")
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


def typed(command: str, checkout: Path) -> subprocess.CompletedProcess[str]:
    path = f"{checkout / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        command,
        shell=True,
        cwd=checkout,
        env={**os.environ, "PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_every_command_of_the_pages_runs_in_their_order(checkout: Path) -> None:
    """In one test, as later commands use what earlier ones have made."""
    assert commands()
    for page, command in commands():
        ran = typed(command, checkout)
        finds = " replay " in command  # then 1 says: found something
        assert ran.returncode in ((0, 1) if finds else (0,)), (page, command, ran.stderr)
        assert "Traceback" not in ran.stderr


def test_the_incidents_shown_are_what_the_demo_prints(checkout: Path) -> None:
    """Run `make docs` and read the difference if this fails."""
    shown = blocks("README.md", "text")
    assert shown
    printed = typed("sidelong demo", checkout).stdout
    for block in shown:
        assert block in printed
