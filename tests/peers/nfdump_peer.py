"""The real nfdump for tests: a capture as nfcapd's files, and what nfdump prints of them."""

import os
import shutil
import subprocess
from pathlib import Path

__all__ = ["missing", "printed"]


def missing() -> str | None:
    """Which of the two programs is not there, if one is not: Debian's package nfdump has both."""
    return next((name for name in ("nfpcapd", "nfdump") if shutil.which(name) is None), None)


def printed(capture: Path, folder: Path, form: str, *, quiet: bool) -> bytes:
    """What `nfdump -o FORM` prints of a capture, its times in UTC; quiet: without a summary."""
    records = folder / "nfcapd"
    if not records.exists():
        records.mkdir()
        _run("nfpcapd", "-r", str(capture), "-l", str(records), "-t", "86400")
    return _run("nfdump", "-R", str(records), *(["-q"] if quiet else []), "-o", form)


def _run(*command: str) -> bytes:
    environment = {**os.environ, "TZ": "UTC"}
    ran = subprocess.run(command, check=True, capture_output=True, timeout=120, env=environment)
    return ran.stdout
