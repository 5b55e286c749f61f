"""The pages in docs/ say what the program does."""

import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent


def test_the_command_line_page_is_fresh_and_no_link_is_broken() -> None:
    """Run `make docs` and read the difference if this fails."""
    checked = subprocess.run(
        [sys.executable, ROOT / "docs" / "build.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
