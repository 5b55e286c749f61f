"""What a run of `sidelong collect` has written, in sums."""

from collections.abc import Iterable
from dataclasses import dataclass

from sidelong.ingest.flow_folder import Written

__all__ = ["Collected"]


@dataclass(slots=True)
class Collected:
    """Files, or messages of a topic, with their rows and bytes; `last` is the path of the last."""

    files: int = 0
    rows: int = 0
    size_bytes: int = 0
    last: str = ""

    def add(self, written: Iterable[Written]) -> None:
        """Count what a commit brought."""
        for one in written:
            self.files += one.parts
            self.rows += one.rows
            self.size_bytes += one.size_bytes
            self.last = one.path
