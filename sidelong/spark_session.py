"""A Spark session as this program needs it, and what to say where there can be none."""

import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sidelong.errors import ConfigError, SourceError

__all__ = [
    "ARROW_RECORDS",
    "LOG",
    "SparkOptions",
    "first_line",
    "installed_pyspark",
    "quiet",
    "session",
    "workers_in",
]

ARROW_RECORDS: Final = 8
"""Messages of up to some megabytes are handed to Python so many at a time."""

LOG: Final = "spark.log"
"""What Java and Spark have to say, in the folder of the session."""

_LEAST_JAVA: Final = 17
_LEAST_SPARK: Final = (4, 1)
_SETTINGS: Final[Mapping[str, str]] = {
    "spark.app.name": "sidelong",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.execution.arrow.maxRecordsPerBatch": str(ARROW_RECORDS),
    # So many rows are put together in Java's memory before they are kept: 10,000 by default.
    "spark.sql.inMemoryColumnarStorage.batchSize": str(ARROW_RECORDS),
    # A worker computes on one core, the one that Spark counts for it.
    "spark.executorEnv.POLARS_MAX_THREADS": "1",
    "spark.executorEnv.OMP_NUM_THREADS": "1",
    # Parts of a stream are not to be put together or torn apart by how large they are.
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.files.ignoreCorruptFiles": "false",
}
_LOCAL: Final[Mapping[str, str]] = {
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
}


@dataclass(frozen=True, slots=True)
class SparkOptions:
    """Where Spark runs and how work is split.

    master: see `session`. settings: NAME=VALUE each, of Spark's own. partitions: parts of each
    stream; None for as many as tasks run at once. rows: of a chunk, about.
    """

    master: str | None = None
    settings: Sequence[str] = ()
    partitions: int | None = None
    rows: int | None = None

    def named(self) -> dict[str, str]:
        """The settings by name. Errors: ConfigError for one without a value."""
        named = {}
        for setting in self.settings:
            name, equals, value = setting.partition("=")
            if not equals or not name.startswith("spark."):
                raise ConfigError(
                    f"--conf {setting} sets nothing of Spark's",
                    hint="write --conf spark.executor.memory=8g",
                )
            named[name] = value
        return named

    def parts(self, workers: int) -> int:
        """Into how many parts a stream is split where so many tasks run at once."""
        return self.partitions or workers


@contextmanager
def session(master: str | None, settings: Mapping[str, str], folder: Path) -> Iterator[Any]:
    """A session that ends with the context; one that is there already is used, and stays.

    master: where Spark runs, such as `local[4]` or `yarn`; None for what spark-submit or the
    environment says, else all cores of this machine. settings: on top of ours. folder: for what
    Spark writes down of itself. Errors: ConfigError without pyspark or Java, SourceError for a
    master that does not answer.
    """
    with quiet():
        sql = installed_pyspark().sql
        running = sql.SparkSession.getActiveSession()
        if running is not None:
            yield running
            return
        _check_java()
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        master = master or os.environ.get("MASTER") or "local[*]"
        local = _LOCAL if master.startswith("local") else {}
        builder = sql.SparkSession.builder.master(master)
        for name, value in {**_SETTINGS, **local, **settings}.items():
            builder = builder.config(name, value)
        with _said_into(folder / LOG):
            try:
                made = builder.getOrCreate()
                made.sparkContext.setLogLevel("ERROR")
            except Exception as error:  # whatever the JVM says of its master
                raise SourceError(
                    f"Spark does not start on {master}: {first_line(error)}",
                    hint="check --master, and the settings given with --conf",
                ) from error
        try:
            yield made
        finally:
            with suppress(Exception):  # an interrupt may have ended Java before
                made.stop()


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings that pyspark gives of versions of its neighbours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def workers_in(spark: Any) -> int:
    """How many tasks run at once."""
    return max(1, int(spark.sparkContext.defaultParallelism))


def installed_pyspark() -> Any:
    """The module `pyspark`, with `pyspark.sql`.

    Errors: ConfigError without it, what it needs, or a version that will do.
    """
    try:
        import pandas  # noqa: F401, pyspark looks for it
        import pyarrow  # noqa: F401, likewise
        import pyspark.sql
    except ImportError as error:
        raise ConfigError(
            f"Spark needs something that is not installed: {error}",
            hint="pip install 'sidelong[spark]'",
        ) from error
    version = tuple(int(part) for part in re.findall(r"\d+", pyspark.__version__)[:2])
    if version < _LEAST_SPARK:
        raise ConfigError(
            f"pyspark {pyspark.__version__} is too old: it cannot stream groups as Arrow",
            hint="pip install -U 'sidelong[spark]', and run it on a Spark of the same version",
        )
    return pyspark


def _check_java() -> None:
    home = os.environ.get("JAVA_HOME")
    program = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    hint = f"install a Java runtime, version {_LEAST_JAVA} or 21, or set JAVA_HOME"
    if program is None or not Path(program).exists():
        raise ConfigError(f"Spark needs Java, and there is none{_at(home)}", hint=hint)
    try:
        told = subprocess.run(
            [program, "-version"], capture_output=True, text=True, timeout=60, check=False
        ).stderr
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"{program} cannot be run: {error}", hint=hint) from error
    found = re.search(r'version "(?:1\.)?(\d+)', told)
    if found is None or int(found[1]) < _LEAST_JAVA:
        shown = found[1] if found else ascii(told[:80])
        raise ConfigError(
            f"Spark needs Java {_LEAST_JAVA} or later, and {program} is {shown}", hint=hint
        )


def _at(home: str | None) -> str:
    return f" in JAVA_HOME={home}" if home else ""


@contextmanager
def _said_into(file: Path) -> Iterator[None]:
    """What is started meanwhile says what it has to say into a file, for ever: Java and Spark say
    much that concerns nobody, before any setting of theirs is read."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with file.open("ab") as log:
            os.dup2(log.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def first_line(error: BaseException) -> str:
    """What an error says first: Spark says much."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
