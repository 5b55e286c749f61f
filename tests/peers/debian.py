"""Programs of Debian's packages: unpacked into `.peers/`, or installed where they need what else a
package brings. Unpacking takes no root, and starts no service.
"""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from peers.go_programs import BUILT

__all__ = ["DebianError", "debian_program", "installed"]

_SECONDS: Final = 300


class DebianError(Exception):
    """A package can neither be found installed nor be had."""


def debian_program(package: str, name: str) -> Path:
    """The program `name` of `package`: the installed one, or that of the unpacked package.

    Errors: DebianError, with what apt said.
    """
    if found := shutil.which(name):
        return Path(found)
    folder = BUILT / "debian" / package
    program = folder / "usr" / "bin" / name
    if program.exists():
        return program
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{package}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs: the second waits for the first
        if not program.exists():
            _unpack(package, folder)
    if not program.exists():
        raise DebianError(f"the package {package} holds no {name}")
    return program


def installed(programs: Mapping[str, str]) -> None:
    """Install the packages whose programs are missing; `programs` says which package brings one.

    Errors: DebianError where that is not allowed, or not to be had.
    """
    packages = sorted({package for name, package in programs.items() if not shutil.which(name)})
    if not packages:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise DebianError(f"install {', '.join(packages)}, or what needs it fails")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "DEBCONF_NOWARNINGS": "yes"}
    for arguments in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
        subprocess.run(
            ["apt-get", "-qq", "-o", "Dpkg::Use-Pty=0", *arguments],
            check=True,
            env=environment,
            stdout=subprocess.DEVNULL,
        )


def _unpack(package: str, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent) as place:
        if _failure(["apt-get", "download", package], place):
            # A fresh machine has no lists of packages yet; only root can fetch them.
            _failure(["apt-get", "update", "-q"], place)
            if why := _failure(["apt-get", "download", package], place):
                raise DebianError(f"install the Debian package {package}; apt says:\n{why}")
        (archive,) = Path(place).glob("*.deb")
        fresh = Path(place) / "unpacked"
        if why := _failure(["dpkg-deb", "--extract", str(archive), str(fresh)], place):
            raise DebianError(f"the package {package} cannot be unpacked:\n{why}")
        shutil.rmtree(folder, ignore_errors=True)
        fresh.rename(folder)


def _failure(command: list[str], place: str) -> str | None:
    try:
        ran = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return ran.stderr[-2_000:] or f"status {ran.returncode}" if ran.returncode else None
