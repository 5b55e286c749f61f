"""Whether sidelong itself is in order: what is installed, what is set, where can be written."""

import importlib
import os
import platform
import tempfile
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Final, Literal

import msgspec
from rich.text import Text

from sidelong import __version__
from sidelong.config import read_config
from sidelong.terminal import Terminal, printable, printable_json

__all__ = ["EXTRAS", "Part", "examined", "parts"]

EXTRAS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "apprise": ("sends alerts by e-mail, Telegram and many more", ("apprise",)),
    "fast": ("reads Hubble's protobuf faster", ("ptars",)),
    "kubernetes": ("names addresses by a watch on the Kubernetes API", ("kubernetes",)),
}
"""Each extra: what it is for, and the modules that it brings."""

_NEEDED: Final = ("polars", "duckdb", "numpy", "grpcio", "protobuf", "msgspec", "zstandard")
_STYLES: Final = {"ok": "green", "absent": "dim", "wrong": "bold red"}


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at. An extra that is absent is nothing wrong."""

    name: str
    state: Literal["ok", "absent", "wrong"]
    observed: str
    cure: str | None = None


class _Installation(msgspec.Struct, frozen=True, kw_only=True):
    """What `--output json` prints."""

    version: int = 1
    installation: list[Part]


def examined(terminal: Terminal, config: str | None, *, as_table: bool) -> int:
    """Show the state of the installation; returns 0, or 1 when something is wrong.

    Errors: ConfigError for a configuration that cannot be used.
    """
    found = list(parts(config))
    if as_table:
        for part in found:
            line = Text.assemble(
                f"  {part.name:<18}", (f"{part.state:<8}", _STYLES[part.state]), "  ",
                printable(part.observed),
            )  # fmt: skip
            terminal.out.print(line, soft_wrap=True)
            if part.cure:
                terminal.out.print(Text(f"{'':<30}{part.cure}", "dim"), soft_wrap=True)
    else:
        told = msgspec.json.encode(_Installation(installation=found)).decode()
        terminal.out.file.write(printable_json(told) + "\n")
    return 1 if any(part.state == "wrong" for part in found) else 0


def parts(config: str | None) -> Iterator[Part]:
    """All that can be looked at without a source."""
    python = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    yield Part(name="sidelong", state="ok", observed=f"{__version__}, {python}")
    for name in _NEEDED:
        yield _package(name)
    for extra, (purpose, modules) in EXTRAS.items():
        yield _extra(extra, purpose, modules)
    read_config(config)
    told = f"{config} is valid" if config else "none given: everything is at its default"
    yield Part(name="configuration", state="ok", observed=told)
    yield _writable("temporary files", tempfile.gettempdir())
    yield _writable("working folder", os.getcwd())


def _package(name: str) -> Part:
    try:
        return Part(name=name, state="ok", observed=version(name))
    except PackageNotFoundError:
        return Part(
            name=name,
            state="wrong",
            observed="is not installed, and sidelong needs it",
            cure="pip install --force-reinstall sidelong",
        )


def _extra(name: str, purpose: str, modules: tuple[str, ...]) -> Part:
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            return Part(
                name=f"[{name}]",
                state="absent",
                observed=f"{purpose}: {error}",
                cure=f"pip install 'sidelong[{name}]'",
            )
    return Part(name=f"[{name}]", state="ok", observed=purpose)


def _writable(what: str, folder: str) -> Part:
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return Part(
            name=what,
            state="wrong",
            observed=f"{folder}: {error.strerror or error}",
            cure="look at who owns the folder, and at how much room is left there",
        )
    return Part(name=what, state="ok", observed=folder)
