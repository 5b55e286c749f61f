"""On a terminal: a table, colour unless NO_COLOR, a bar that leaves no trace."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

COLOUR: Final = re.compile(r"\x1b\[[\d;]*3\d[\d;]*m")


def on_a_terminal(*arguments: str, **environment: str) -> str:
    """What reaches the screen when both outputs are one terminal."""
    ours, theirs = pty.openpty()
    running = subprocess.Popen(
        [sys.executable, "-m", "sidelong", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env={"PATH": os.environ["PATH"], "TERM": "xterm", "COLUMNS": "100", **environment},
    )
    os.close(theirs)
    screen = b""
    try:
        while piece := os.read(ours, 65_536):
            screen += piece
    except OSError:  # how Linux says that the other side has closed
        pass
    os.close(ours)
    running.wait()
    return screen.decode()


@pytest.fixture(scope="module")
def screen() -> str:
    return on_a_terminal("demo")


def test_a_terminal_gets_the_table(screen: str) -> None:
    plain = re.sub(r"\x1b\[[\d;]*m", "", screen)
    assert re.search(r"2026-11-23 02:18:\d\dZ  [A-Z]+ +scan +shop/frontend -> ", plain)
    assert '"kind"' not in screen


def test_a_terminal_gets_colour(screen: str) -> None:
    assert COLOUR.search(screen)


def test_a_terminal_gets_no_colour_under_no_color() -> None:
    assert not COLOUR.search(on_a_terminal("demo", NO_COLOR="1"))


def test_the_bar_shows_the_rate_and_is_wiped(screen: str) -> None:
    assert "flows/s" in screen
    # The last thing a bar does is to make the cursor visible again.
    assert screen.rindex("\x1b[?25h") > screen.rindex("\x1b[?25l")


def test_a_usage_error_on_a_terminal_is_two_lines() -> None:
    plain = re.sub(r"\x1b\[[\d;]*m", "", on_a_terminal("replay"))
    assert plain.splitlines() == [
        "sidelong: Missing argument 'INPUT...'",
        "  try: sidelong replay --help",
    ]


def test_the_table_is_chosen_by_the_output_not_by_the_messages(shop: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "sidelong", "replay", str(shop / "test.hubble.jsonl.zst")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert all(line.startswith("{") for line in ran.stdout.splitlines())


def test_a_pipe_stays_a_pipe_where_colour_is_forced(shop: Path) -> None:
    """As CI and Jupyter's kernels force it."""
    command = [sys.executable, "-m", "sidelong", "replay", str(shop / "test.hubble.jsonl.zst")]
    ran = subprocess.run(
        command,
        env={**os.environ, "FORCE_COLOR": "1", "CLICOLOR_FORCE": "1", "TERM": "xterm-color"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stdout.startswith("{")
    assert "\x1b" not in ran.stdout + ran.stderr
