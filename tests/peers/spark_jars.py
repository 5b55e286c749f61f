"""The jars by which Spark reads Kafka, by Maven, in `.peers/`; of each version of Spark its own."""

import fcntl
import hashlib
import shutil
from pathlib import Path
from typing import Final

import pyspark

from peers.go_programs import BUILT
from peers.kafka_jars import KafkaError, fetched

__all__ = ["spark_jars"]

_POM: Final = Path(__file__).resolve().parent / "spark" / "pom.xml"


def spark_jars() -> str:
    """The jars, as Spark's setting `spark.jars` wants them. Errors: KafkaError, as Maven has it."""
    known = hashlib.sha256(_POM.read_bytes() + pyspark.__version__.encode())
    folder = BUILT / f"spark-{known.hexdigest()[:16]}"
    BUILT.mkdir(exist_ok=True)
    with (BUILT / "spark.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs: the second waits for the first
        if not folder.exists():
            fresh = folder.with_suffix(".new")
            shutil.rmtree(fresh, ignore_errors=True)
            fetched(_POM, fresh, f"-Dspark.version={pyspark.__version__}")
            for older in BUILT.glob("spark-*"):
                if older != fresh:
                    shutil.rmtree(older, ignore_errors=True)
            fresh.rename(folder)
    jars = sorted(str(jar) for jar in folder.glob("*.jar"))
    if not jars:
        raise KafkaError(f"there is no jar in {folder}")
    return ",".join(jars)
