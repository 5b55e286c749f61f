"""How the commands about baselines print: for a person, or a JSON object a line."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from sidelong.terminal import Terminal, printable_json

__all__ = ["is_json", "write_json"]


def is_json(output: str | None, terminal: Terminal) -> bool:
    """Whether to print JSON: as asked, else where nobody watches."""
    return output == "json" if output else not terminal.out.is_terminal


def write_json(rows: Iterable[Mapping[str, Any]], terminal: Terminal) -> None:
    """Print each row as one object, moments as RFC 3339, on standard output and at once."""
    for row in rows:
        plain = {name: _plain(value) for name, value in row.items()}
        terminal.out.file.write(printable_json(msgspec.json.encode(plain).decode()) + "\n")
    terminal.out.file.flush()


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return value
