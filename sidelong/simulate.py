"""Simulated traffic to a folder of Parquet, a file, or standard output."""

import gzip
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Final

import polars as pl
import zstandard
from rich.text import Text

from sidelong.errors import ConfigError
from sidelong.ingest.draft import draft_of
from sidelong.ingest.durations import length
from sidelong.ingest.parquet import encoded, write_flows
from sidelong.ingest.source import Batch
from sidelong.progress import Reading
from sidelong.simulation import START, Simulation
from sidelong.simulation_attacks import Attack
from sidelong.simulation_hubble import hubble_lines
from sidelong.simulation_manifests import manifests
from sidelong.tally import Tally
from sidelong.terminal import Terminal

__all__ = ["simulate"]

_FILE_ROWS: Final = 1_000_000
_LINES: Final = (".jsonl", ".json", ".ndjson")


def simulate(
    *,
    terminal: Terminal,
    to: str,
    workloads: int = 100,
    rate: float = 1_000.0,
    duration: str = "1h",
    seed: int = 1,
    start: str | None = None,
    attacks: Sequence[str] = (),
    pods: str | None = None,
    labels: str | None = None,
    declared: str | None = None,
) -> int:
    """Write the flows of a simulation; returns 0.

    to: a folder, which gets Parquet by hour; a file, Parquet or lines of Hubble's JSON by its name;
    `-` for such lines on standard output. pods, labels, declared: files for the pod map, for what
    was injected and for the manifests. Errors: ConfigError for what cannot be simulated or written.
    """
    simulation = Simulation(
        workloads=workloads,
        rate=rate,
        hours=length(duration, "--for").total_seconds() / 3_600,
        seed=seed,
        start=_moment(start) if start else START,
        attacks=[Attack.parsed(text) for text in attacks],
    )
    write = _writer(to)
    for path, what in (
        (pods, simulation.holders),
        (labels, simulation.labels),
        (declared, lambda: manifests(simulation.cluster)),
    ):
        if path:
            _write(Path(path), what())
    tally = Tally()
    with Reading(terminal, tally, "simulating", simulation.seconds) as reading:

        def counted() -> Iterator[pl.DataFrame]:
            passed = 0
            for flows in simulation.frames():
                passed += flows.height
                tally.add(Batch(flows, passed, read_bytes=simulation.passed(flows)))
                yield flows
                reading.update([Text(f"  {tally}", style="dim")])

        write(counted())
    terminal.say(f"simulated {tally} in {to}, {reading.rate:,.0f} flows/s")
    return 0


_Writer = Callable[[Iterator[pl.DataFrame]], None]


def _writer(to: str) -> _Writer:
    """What writes flows to a place, after a look at whether it can."""
    if to == "-":
        return _to_stdout
    path, name = Path(to), to.lower()
    plain = name.removesuffix(".zst").removesuffix(".gz")
    if plain.endswith(_LINES):
        return lambda frames: _to_lines(frames, path)
    if name.endswith(".parquet"):
        return lambda frames: _to_parquet(frames, path)
    if path.suffix and not path.is_dir():
        raise ConfigError(
            f"--to is {to}, and what to write is told by the name",
            hint="a folder, FILE.parquet, FILE.jsonl, FILE.jsonl.zst, or - for standard output",
        )
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise ConfigError(
            f"{to} is there already, and a simulation is written whole",
            hint="name a folder that is empty or not there yet",
        )
    return lambda frames: _to_folder(frames, path)


def _to_folder(frames: Iterator[pl.DataFrame], path: Path) -> None:
    """Parquet by hour, as `sidelong collect` lays it out; the same names for the same flows."""
    number = 0
    held: list[pl.DataFrame] = []
    hour: datetime | None = None

    def flush() -> None:
        nonlocal number
        if not held or hour is None:
            return
        folder = path / f"date={hour:%Y-%m-%d}" / f"hour={hour:%H}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{hour:%Y%m%dT%H}0000Z-{number:08d}.parquet").write_bytes(
            encoded(pl.concat(held))
        )
        number += 1
        held.clear()

    for flows in frames:
        hours = pl.col("time").dt.cast_time_unit("us").dt.truncate("1h")
        parts = flows.with_columns(hours.alias("__hour")).partition_by(
            "__hour", as_dict=True, maintain_order=True, include_key=False
        )
        for (begin,), part in parts.items():
            if begin != hour or sum(frame.height for frame in held) >= _FILE_ROWS:
                flush()
            hour = begin
            held.append(part)
    flush()


def _to_parquet(frames: Iterator[pl.DataFrame], path: Path) -> None:
    write_flows(frames, path)


def _to_lines(frames: Iterator[pl.DataFrame], path: Path) -> None:
    with _draft(path) as file:
        for flows in frames:
            file.write(_text(flows))


def _to_stdout(frames: Iterator[pl.DataFrame]) -> None:
    for flows in frames:
        sys.stdout.buffer.write(_text(flows))
    sys.stdout.buffer.flush()


def _text(flows: pl.DataFrame) -> bytes:
    return ("\n".join(hubble_lines(flows).to_list()) + "\n").encode()


@contextmanager
def _draft(path: Path) -> Iterator[IO[bytes]]:
    """A file that gets its name once it is whole; compressed as its name says."""
    with draft_of(path) as draft, draft.open("wb") as raw:
        if path.suffix == ".zst":
            with zstandard.ZstdCompressor().stream_writer(raw, closefd=False) as file:
                yield file
        elif path.suffix == ".gz":
            with gzip.GzipFile(fileobj=raw, mode="wb", mtime=0, filename="") as file:
                yield file  # type: ignore[misc]  # writes bytes as any file does
        else:
            yield raw


def _write(path: Path, content: object) -> None:
    with _draft(path) as file:
        file.write(json.dumps(content, indent=1).encode() + b"\n")


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(
            f"--start is {text!r}, which is no time", hint="such as 2026-11-23T09:00:00Z"
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
