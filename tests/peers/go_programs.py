"""Programs of Go sources beside this, built into `.peers/` and again when the sources change."""

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

__all__ = ["GoError", "built"]

ROOT: Final = Path(__file__).resolve().parents[2]
BUILT: Final = ROOT / ".peers"

# The same for all of them, so that what they have in common is compiled once.
_BUILD: Final = ("build", "-trimpath", "-gcflags=all=-dwarf=false", "-ldflags=-s -w")
_BUILD_SECONDS: Final = 1800
_GO: Final = ("go", "/usr/local/go/bin/go", "/usr/lib/go/bin/go")


class GoError(Exception):
    """There is no Go, or something does not build."""


def built(name: str, sources: Path) -> Path:
    """The program made of the folder `sources`, at most one version of it at a time.

    Errors: GoError without Go, or with what the compiler said.
    """
    files = sorted(path for path in sources.iterdir() if path.suffix in (".go", ".mod", ".sum"))
    known = hashlib.sha256("\0".join(_BUILD).encode())
    for path in files:
        known.update(path.name.encode() + b"\0" + path.read_bytes())
    program = BUILT / f"{name}-{known.hexdigest()[:16]}"
    if program.exists():
        return program
    BUILT.mkdir(exist_ok=True)
    with (BUILT / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs: the second waits for the first
        if not program.exists():
            _compile(program, name, sources)
    return program


def _compile(program: Path, name: str, sources: Path) -> None:
    go = next((found for place in _GO if (found := shutil.which(place))), None)
    if go is None:
        raise GoError(f"no Go to build {name} with; install Go 1.25 or later")
    fresh = program.with_suffix(".new")
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false"}
    made = subprocess.run(
        [go, *_BUILD, "-o", str(fresh), "."],
        cwd=sources,
        env=environment,
        capture_output=True,
        text=True,
        timeout=_BUILD_SECONDS,
    )
    if made.returncode:
        raise GoError(f"{name} does not build:\n{made.stderr[-4000:]}")
    for older in BUILT.glob(f"{name}-*"):
        if older != fresh:
            older.unlink()
    fresh.rename(program)
