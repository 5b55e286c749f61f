"""Windows as Parquet, one file after the other, written by whoever has found them.

    TO/scope=edge/cluster=NAME/part-00003-00000.parquet

A file has the same name and the same content whoever writes it, and however often.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Final

import polars as pl

from sidelong.features.windows import Closed
from sidelong.spark_files import write_file

__all__ = ["WindowFiles"]

_ROWS: Final = 500_000


class WindowFiles:
    """Takes closed windows of one part of a stream; `end` tells how many of each scope."""

    def __init__(
        self, to: str, cluster: str, part: int, scopes: Sequence[str] = Closed._fields
    ) -> None:
        self._to = to.rstrip("/")
        self._cluster = f"cluster={cluster}/" if cluster else ""
        self._part = part
        self._held: dict[str, list[pl.DataFrame]] = {scope: [] for scope in scopes}
        self._files = dict.fromkeys(scopes, 0)
        self._rows = dict.fromkeys(scopes, 0)

    def add(self, closed: Closed) -> None:
        """Take in windows that have closed. Errors: ConfigError when they cannot be written."""
        for scope, rows in closed._asdict().items():
            self.add_to(scope, rows)

    def add_to(self, scope: str, rows: pl.DataFrame) -> None:
        """Take in windows of one scope. Errors: as `add`."""
        if rows.height:
            self._held[scope].append(rows)
            if sum(one.height for one in self._held[scope]) >= _ROWS:
                self._write(scope)

    def end(self) -> Mapping[str, int]:
        """Write what is left; how many windows there were of each scope."""
        for scope in self._held:
            if self._held[scope]:
                self._write(scope)
        return self._rows

    def _write(self, scope: str) -> None:
        rows = pl.concat(self._held[scope])
        number, self._files[scope] = self._files[scope], self._files[scope] + 1
        self._rows[scope] += rows.height
        self._held[scope] = []
        name = f"part-{self._part:05d}-{number:05d}.parquet"
        content = io.BytesIO()
        rows.write_parquet(content, compression="zstd", statistics=True)
        write_file(f"{self._to}/scope={scope}/{self._cluster}{name}", content.getvalue())
