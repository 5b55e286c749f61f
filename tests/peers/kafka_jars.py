"""The jars of a real Apache Kafka, by Maven, in `.peers/` and again when the pom changes.

With them is a formatted, empty storage: to format one takes a run of Java, to copy it nothing.
"""

import base64
import fcntl
import hashlib
import os
import shutil
import subprocess
import uuid
from pathlib import Path
from typing import Final

from peers.go_programs import BUILT

__all__ = ["PASSWORD", "USER", "KafkaError", "fetched", "java", "kafka_jars"]

USER: Final = "sidelong"
PASSWORD: Final = "only-in-tests"

_POM: Final = Path(__file__).resolve().parent / "kafka" / "pom.xml"
_MAVEN_SECONDS: Final = 900
_JAVA_SECONDS: Final = 60
_SCRAM: Final = ("SCRAM-SHA-256", "SCRAM-SHA-512")

# Short runs: the compiler that starts fast, the collector without threads of its own.
_JAVA: Final = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xms96m", "-Xmx384m")

_PROPERTIES: Final = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:1
listeners=PLAINTEXT://127.0.0.1:2,CONTROLLER://127.0.0.1:1
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={folder}
"""

_LOGGING: Final = """
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=[%d] %p %m (%c)%n
rootLogger.level=WARN
rootLogger.appenderRef.console.ref=console
logger.started.name=kafka.server.KafkaRaftServer
logger.started.level=INFO
"""


class KafkaError(Exception):
    """There is no Java or no Maven, or the broker did not do what was waited for."""


def kafka_jars() -> Path:
    """The folder with `libs/`, `storage/`, which is formatted, and `log4j2.properties`.

    Errors: KafkaError, with what Maven or Kafka said.
    """
    known = hashlib.sha256(_POM.read_bytes())
    known.update("\0".join((USER, PASSWORD, _PROPERTIES, _LOGGING)).encode())
    folder = BUILT / f"kafka-{known.hexdigest()[:16]}"
    if folder.exists():
        return folder
    BUILT.mkdir(exist_ok=True)
    with (BUILT / "kafka.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs: the second waits for the first
        if not folder.exists():
            _fetch(folder)
    return folder


def java(folder: Path, *arguments: str) -> list[str]:
    """The command that runs a class of Kafka's; `folder` is that of `kafka_jars`."""
    program = shutil.which("java")
    if program is None:
        raise KafkaError("no Java to run Kafka with; install Java 17 or later")
    logging = f"-Dlog4j2.configurationFile=file:{folder / 'log4j2.properties'}"
    return [program, *_JAVA, logging, "-cp", f"{folder / 'libs'}/*", *arguments]


def fetched(pom: Path, folder: Path, *properties: str) -> None:
    """Have Maven copy what a pom depends on into a folder. Errors: KafkaError."""
    maven = shutil.which("mvn")
    if maven is None:
        raise KafkaError("no Maven to get Kafka with; install Maven 3.8 or later")
    goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", *properties]
    quiet = ["--batch-mode", "--no-transfer-progress", "--quiet", "--file", str(pom)]
    _run([maven, *quiet, *goal, f"-DoutputDirectory={folder}"], _MAVEN_SECONDS)


def _fetch(folder: Path) -> None:
    fresh = folder.with_suffix(".new")
    shutil.rmtree(fresh, ignore_errors=True)
    (fresh / "storage").mkdir(parents=True)
    (fresh / "log4j2.properties").write_text(_LOGGING, encoding="utf-8")
    fetched(_POM, fresh / "libs")
    properties = fresh / "format.properties"
    properties.write_text(_PROPERTIES.format(folder=fresh / "storage"), encoding="utf-8")
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    users = [
        part
        for mechanism in _SCRAM
        for part in ("--add-scram", f"{mechanism}=[name={USER},password={PASSWORD}]")
    ]
    command = ["kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(properties), *users]
    _run(java(fresh, *command), _JAVA_SECONDS)
    for older in BUILT.glob("kafka-*"):
        if older != fresh:
            shutil.rmtree(older, ignore_errors=True)
    fresh.rename(folder)


def _run(command: list[str], seconds: float) -> None:
    try:
        ran = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=seconds,
            env={**os.environ, "MAVEN_OPTS": "-Dstyle.color=never"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KafkaError(str(error)) from error
    if ran.returncode:
        raise KafkaError(f"{Path(command[0]).name} failed:\n{(ran.stdout + ran.stderr)[-4000:]}")
