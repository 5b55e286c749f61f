"""What the commands on Spark have in common: a plan, an engine on a session, and what was read."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import floor
from pathlib import Path
from typing import Any, Final

from sidelong.config import Config
from sidelong.errors import SourceError
from sidelong.features.bounds import Bounds
from sidelong.ingest.podmap import PodMap
from sidelong.models.baseline import Baseline
from sidelong.spark_engine import Engine, Ordered
from sidelong.spark_progress import SparkProgress
from sidelong.spark_session import LOG, SparkOptions, first_line, session, workers_in
from sidelong.spark_work import Plan
from sidelong.terminal import Terminal, plural

__all__ = ["Run", "on_spark", "plan_of"]

_LAST_LINES: Final = 20


def plan_of(settings: Config, model: Baseline | None, pods: str | None, **more: Any) -> Plan:
    """What all machines have to know. Errors: ConfigError for a pod map that cannot be used."""
    return Plan(
        baseline=model or Baseline.empty(),
        pods=PodMap.read(Path(pods)) if pods else None,
        bounds=Bounds(),
        budget=settings.anomaly.alarms_per_day,
        connections=1,
        actors=1,
        **more,
    )


class Run:
    """An engine, how far it is, and what to say of it on the terminal."""

    def __init__(self, engine: Engine, progress: SparkProgress, terminal: Terminal) -> None:
        self.engine = engine
        self.progress = progress
        self._terminal = terminal
        self._began = time.monotonic()

    def report(self, stream: Ordered, incidents: int | None) -> None:
        """Say what was read of a stream and found in it, as a replay does.

        Errors: SourceError where there were rows and none could be read.
        """
        tally = stream.tally
        with self.progress.aside():
            of = f"cluster {stream.cluster}: " if stream.cluster else ""
            self._terminal.bad_rows(tally.bad.count, tally.bad.samples)
            if not tally.flows and tally.bad.count:
                raise SourceError(
                    f"{of}none of {plural(tally.bad.count, 'row')} could be read",
                    hint="they should be flows, as sidelong collect keeps them",
                )
            if not tally.flows:
                self._terminal.say(f"sidelong: {of}there was no flow to look at")
                return
            rate = tally.flows / max(time.monotonic() - self._began, 1e-9)
            found = "" if incidents is None else f"{plural(incidents, 'incident')} in "
            self._terminal.say(f"{of}{found}{tally}, {rate:,.0f} flows/s")
            if tally.completeness < 1:
                percent = floor(tally.completeness * 10_000) / 100
                lost, bad = plural(tally.lost, "event"), plural(tally.bad.count, "row")
                self._terminal.say(f"{of}completeness {percent} %: {lost} lost, {bad} unreadable")

    def parted(self, plan: Plan, options: SparkOptions) -> Plan:
        """The plan for as many parts as are wanted."""
        parts = options.parts(self.engine.workers)
        return replace(plan, connections=parts, actors=parts)

    def as_one(self, plan: Plan) -> None:
        """Say it where connections had to be taken as one part."""
        if plan.connections < plan.actors:
            with self.progress.aside():
                self._terminal.say(
                    "sidelong: there were more connections at once than one process remembers; so "
                    "that the same is forgotten they were taken by one task (see docs/scale.md)"
                )


@contextmanager
def on_spark(options: SparkOptions, terminal: Terminal) -> Iterator[Run]:
    """A run on a session of Spark, which ends with the context.

    Errors: ConfigError without pyspark or Java, SourceError for a master that does not answer.
    """
    settings = options.named()
    with (
        tempfile.TemporaryDirectory(prefix="sidelong-spark-") as folder,
        SparkProgress(terminal) as progress,
    ):
        try:
            with session(options.master, settings, Path(folder)) as spark:
                progress.watch(spark)
                engine = Engine(spark, workers_in(spark), progress.step)
                try:
                    yield Run(engine, progress, terminal)
                finally:
                    engine.close()
        except Exception as error:
            # Whoever asks a Java that has ended is refused the connection.
            spark = type(error).__module__.startswith(("pyspark", "py4j"))
            if not (spark or isinstance(error, ConnectionError)):
                raise
            for line in _end_of(Path(folder) / LOG):
                terminal.say(line)
            raise SourceError(
                f"Spark gave up: {first_line(error)}",
                hint="see what it said above; with too little memory give "
                "--conf spark.executor.memoryOverhead=8g, or smaller chunks with --rows",
            ) from error


def _end_of(log: Path) -> list[str]:
    try:
        return log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LAST_LINES:]
    except OSError:
        return []
