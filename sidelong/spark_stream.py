"""`sidelong spark stream`: the role detect as a job of Spark Structured Streaming.

Reads `flows.batches` and writes `evidence`, for those who run Spark already: normalise and
correlate are the roles of the service. Where the job is in Kafka is in Spark's checkpoint, what the
detectors remember beside it; messages that are written twice after a crash are known by their rows.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from sidelong.baseline_watch import BaselineWatch
from sidelong.config import Config, read_config
from sidelong.errors import ConfigError, SourceError
from sidelong.features.bounds import Bounds
from sidelong.ingest.podmap import PodMap
from sidelong.ingest.secret import Secret
from sidelong.spark_detect import Arrived, Judgement, judged_batch
from sidelong.spark_jobs import as_ours, safely
from sidelong.spark_session import SparkOptions, installed_pyspark, session
from sidelong.terminal import Terminal

__all__ = ["CONNECTOR", "kafka_options", "stream"]

CONNECTOR: Final = "org.apache.spark:spark-sql-kafka-0-10_2.13"
"""The package of Spark's that reads Kafka; its version is that of Spark."""

_MOST_MESSAGES: Final = 20_000  # of a micro-batch: bounds what a restart does again
_EVIDENCE: Final = "partition int, value binary, headers array<struct<key: string, value: binary>>"
_SASL: Final = "org.apache.kafka.common.security"


def stream(
    *,
    terminal: Terminal,
    options: SparkOptions,
    config: str,
    checkpoint: str,
    once: bool = False,
    every: str = "1 second",
) -> int:
    """Judge what is in `flows.batches`, and what comes, until told to end; returns 0.

    checkpoint: a folder or URL that all of Spark's machines reach. once: end with what is there
    now. every: how often a micro-batch begins. Errors: ConfigError for settings that cannot be
    used, SourceError when Kafka or the checkpoint does.
    """
    settings = read_config(config)
    if not settings.kafka.servers:
        raise ConfigError(
            f"{config} names no servers of Kafka", hint='[kafka] servers = ["kafka-1:9092"]'
        )
    baseline = BaselineWatch(settings.service.baseline, terminal.say)
    pods = PodMap.read(Path(settings.service.pods)) if settings.service.pods else None
    networks = pods.networks if pods else frozenset[str]()
    conf = options.named()
    if not {"spark.jars", "spark.jars.packages"} & conf.keys():
        conf["spark.jars.packages"] = _connector()
    with (
        tempfile.TemporaryDirectory(prefix="sidelong-spark-") as folder,
        session(options.master, conf, Path(folder)) as spark,
    ):
        judging = _Judging(settings, baseline, networks, checkpoint)
        started = _started(spark, settings, judging, checkpoint, once, every)
        terminal.say(f"judges {settings.kafka.topic('flows.batches')} on Spark")
        try:
            started.awaitTermination()
        except KeyboardInterrupt:
            terminal.say("sidelong: ends with the micro-batch that is under way")
        except Exception as error:
            raise _understood(error, settings) from error
        finally:
            started.stop()
    return 0


def kafka_options(settings: Config) -> dict[str, str]:
    """The settings [kafka] as Spark's connector takes them.

    Errors: ConfigError for what Java's client has no equal of.
    """
    kafka = settings.kafka
    told = {"kafka.bootstrap.servers": ",".join(f"{host}:{port}" for host, port in kafka.addresses)}
    protocol = ("SASL_" if kafka.sasl else "") + ("SSL" if kafka.tls else "PLAINTEXT")
    told["kafka.security.protocol"] = protocol
    if kafka.tls:
        told |= {"kafka.ssl.truststore.type": "PEM", "kafka.ssl.keystore.type": "PEM"}
        if kafka.tls.ca:
            told["kafka.ssl.truststore.location"] = kafka.tls.ca
        else:
            del told["kafka.ssl.truststore.type"]
        if kafka.tls.cert:
            chain = Path(kafka.tls.cert).read_text(encoding="utf-8")
            key = Path(kafka.tls.key or kafka.tls.cert).read_text(encoding="utf-8")
            told["kafka.ssl.keystore.certificate.chain"] = chain
            told["kafka.ssl.keystore.key"] = key
        else:
            del told["kafka.ssl.keystore.type"]
        if kafka.tls.key_password:
            told["kafka.ssl.key.password"] = kafka.tls.key_password.reveal()
        if not kafka.tls.check_name:
            told["kafka.ssl.endpoint.identification.algorithm"] = ""
    if kafka.sasl:
        if kafka.sasl.mechanism == "OAUTHBEARER":
            raise ConfigError(
                "[kafka.sasl] OAUTHBEARER is not handed on to Spark",
                hint="use SCRAM or a client's certificate for this job",
            )
        told["kafka.sasl.mechanism"] = kafka.sasl.mechanism
        module = "plain.PlainLoginModule"
        if kafka.sasl.mechanism != "PLAIN":
            module = "scram.ScramLoginModule"
        told["kafka.sasl.jaas.config"] = (
            f"{_SASL}.{module} required username={_quoted(kafka.sasl.username)} "
            f"password={_quoted(_read(kafka.sasl.password))};"
        )
    return told


class _Judging:
    """What is done with each micro-batch."""

    def __init__(
        self, settings: Config, baseline: BaselineWatch, networks: frozenset[str], checkpoint: str
    ) -> None:
        self._settings = settings
        self._baseline = baseline
        self._networks = networks
        self._state = f"{checkpoint.rstrip('/')}/sidelong"
        self._options = kafka_options(settings)

    def take(self, messages: Any, batch: int) -> None:
        """Judge the messages and write the evidence; done again, it writes the same."""
        judgement = Judgement(
            self._baseline.newest().baseline,
            self._networks,
            Bounds(),
            self._settings.anomaly.alarms_per_day,
            self._state,
            self._settings.kafka.prefix,
        )
        told = _by_partition(messages, judgement, batch)
        (
            told.write.format("kafka")
            .options(**self._options)
            .option("topic", self._settings.kafka.topic("evidence"))
            .option("includeHeaders", "true")
            .save()
        )


def _by_partition(messages: Any, judgement: Judgement, batch: int) -> Any:
    import pyarrow as pa

    pairs = pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())]))
    names = ["partition", "value", "headers"]

    def judge(
        key: tuple[pa.Scalar, ...], batches: Iterator[pa.RecordBatch]
    ) -> Iterator[pa.RecordBatch]:
        arrived = (one for rows in batches for one in _arrived(rows))
        partition = int(key[0].as_py())
        for value, headers in safely(lambda: judged_batch(judgement, batch, partition, arrived)):
            listed = [{"key": name, "value": content} for name, content in headers.items()]
            yield pa.RecordBatch.from_arrays(
                [
                    pa.array([0], pa.int32()),
                    pa.array([value], pa.binary()),
                    pa.array([listed], pairs),
                ],
                names=names,
            )

    partitions = int(messages.sparkSession.sparkContext.defaultParallelism)
    ordered = messages.select("partition", "offset", "value", "headers").repartition(
        partitions, "partition"
    )
    return (
        ordered.sortWithinPartitions("partition", "offset")
        .groupBy("partition")
        .applyInArrow(judge, _EVIDENCE)
    )


def _arrived(rows: Any) -> Iterator[Arrived]:
    for row in rows.to_pylist():
        headers = {one["key"]: one["value"] for one in row["headers"] or ()}
        yield Arrived(row["offset"], row["value"] or b"", headers)


def _started(
    spark: Any, settings: Config, judging: _Judging, checkpoint: str, once: bool, every: str
) -> Any:
    flows = (
        spark.readStream.format("kafka")
        .options(**kafka_options(settings))
        .option("subscribe", settings.kafka.topic("flows.batches"))
        .option("startingOffsets", "earliest")
        .option("includeHeaders", "true")
        .option("failOnDataLoss", "false")  # what is missing is counted as a gap
        .option("maxOffsetsPerTrigger", str(_MOST_MESSAGES))
        .load()
    )
    trigger = {"availableNow": True} if once else {"processingTime": every}
    return (
        flows.writeStream.foreachBatch(judging.take)
        .option("checkpointLocation", f"{checkpoint.rstrip('/')}/spark")
        .trigger(**trigger)
        .start()
    )


def _understood(error: Exception, settings: Config) -> Exception:
    ours = as_ours(error)
    if ours is not error:
        return ours
    text = str(error)
    if "UnknownTopicOrPartition" in text:
        return SourceError(
            f"Kafka has no topic {settings.kafka.topic('flows.batches')} or "
            f"{settings.kafka.topic('evidence')}",
            hint="sidelong topics create --config FILE",
        )
    if "Failed to find data source: kafka" in text or "kafka.KafkaSource" in text:
        return ConfigError(
            "this Spark cannot read Kafka",
            hint=f"--conf spark.jars.packages={_connector()}",
        )
    return error


def _connector() -> str:
    return f"{CONNECTOR}:{installed_pyspark().__version__}"


def _read(secret: Secret | None) -> str:
    return "" if secret is None else secret.reveal()


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
