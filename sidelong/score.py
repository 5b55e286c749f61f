"""The scorecard of a checkout: how good detection is on labelled captures and on the live bench."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sidelong.errors import ConfigError

__all__ = ["score"]

_PROGRAM: Final = Path(__file__).resolve().parent.parent / "tests" / "scorecard"


def score(arguments: Sequence[str]) -> int:
    """Run tests/scorecard; returns its exit status.

    Errors: ConfigError where there is none, as in an installed wheel.
    """
    if not _PROGRAM.is_dir():
        raise ConfigError(
            "the scorecard belongs to a checkout, and an installed package has none",
            hint="clone the repository and say make score there",
        )
    return subprocess.call([sys.executable, str(_PROGRAM), *arguments])
