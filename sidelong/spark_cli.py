"""The commands that run on Apache Spark: learning, replay and features over terabytes."""

from collections.abc import Sequence

import click

from sidelong.help import EXIT_STATUS, USAGE_OR_SOURCE, GroupedCommand, option
from sidelong.input_options import CONFIG, INPUTS, PODS
from sidelong.output_options import OUTPUT
from sidelong.terminal import Terminal

__all__ = ["spark"]

_MASTER = option(
    "--master",
    heading="Spark",
    metavar="URL",
    help="Where Spark runs: local[4], yarn, k8s://..., spark://HOST:PORT.  "
    "[default: what spark-submit says, else all cores of this machine]",
)
_CONF = option(
    "--conf",
    "settings",
    heading="Spark",
    metavar="NAME=VALUE",
    multiple=True,
    help="A setting of Spark's, such as spark.executor.memory=8g; may be repeated.",
)
_PARTITIONS = option(
    "--partitions",
    heading="Spark",
    metavar="N",
    type=click.IntRange(1, 100_000),
    help="Into how many parts the stream of a cluster is split.  "
    "[default: as many as tasks run at once]",
)
_ROWS = option(
    "--rows",
    heading="Spark",
    metavar="N",
    type=click.IntRange(min=1_000),
    help="About how many flows one task takes up at a time.  "
    "[default: 250000, or 1000 for each part]",
)


@click.group(short_help="Learn and replay over terabytes, on Apache Spark.")
def spark() -> None:
    """Learn, replay and find features over terabytes, on Apache Spark: pip install
    'sidelong[spark]', and Java 17 or 21.

    INPUT is Parquet as "sidelong collect" keeps it, a file, a folder or a glob, wherever fsspec
    reaches: a path, file:, s3a://, hdfs://. Folders cluster=NAME below it are streams of their own.
    Results are those of one machine, byte for byte: see docs/scale.md.
    """


@spark.command(
    cls=GroupedCommand, epilog=EXIT_STATUS, short_help="Find attacks in flows kept as Parquet."
)
@INPUTS
@PODS
@CONFIG
@option(
    "--baseline",
    heading="Detection",
    metavar="DIR",
    help='Ordinary traffic, as saved by "sidelong learn" or "sidelong spark learn".',
)
@OUTPUT
@option(
    "--all",
    "every_change",
    heading="Output",
    is_flag=True,
    help="In the table too, one entry each time an incident opens, grows or closes.",
)
@option(
    "--to",
    heading="Output",
    metavar="DIR|URL",
    help="Write incidents.jsonl there, of each cluster its own, instead of printing them.",
)
@_MASTER
@_PARTITIONS
@_ROWS
@_CONF
def replay(
    inputs: Sequence[str],
    pods: str | None,
    config: str | None,
    baseline: str | None,
    output: str | None,
    every_change: bool,
    to: str | None,
    master: str | None,
    partitions: int | None,
    rows: int | None,
    settings: Sequence[str],
) -> int:
    """Find attacks in flows kept as Parquet: what "sidelong replay" finds, on many machines.

    \b
      sidelong spark replay flows --baseline shop.baseline
      sidelong spark replay flows --master 'local[8]' --output json
      sidelong spark replay s3a://bucket/flows --master yarn --to s3a://bucket/incidents
    """
    from sidelong.spark_replay import replay
    from sidelong.spark_session import SparkOptions

    return replay(
        inputs,
        terminal=Terminal(),
        options=SparkOptions(master, settings, partitions, rows),
        baseline=baseline,
        pods=pods,
        config=config,
        output=output,
        every_change=every_change,
        to=to,
    )


@spark.command(
    cls=GroupedCommand,
    epilog=f"Exit status: 0 learnt, {USAGE_OR_SOURCE}.",
    short_help="Learn a baseline from flows you vouch for.",
)
@INPUTS
@PODS
@CONFIG
@option(
    "--baseline",
    heading="Learning",
    metavar="DIR",
    required=True,
    help="Where to save what was learnt; a baseline that is already there is replaced.",
)
@option(
    "--update",
    heading="Learning",
    is_flag=True,
    help="Bring the baseline in DIR up to date instead.",
)
@_MASTER
@_PARTITIONS
@_ROWS
@_CONF
def learn(
    inputs: Sequence[str],
    pods: str | None,
    config: str | None,
    baseline: str,
    update: bool,
    master: str | None,
    partitions: int | None,
    rows: int | None,
    settings: Sequence[str],
) -> int:
    """Learn from flows you vouch for: the baseline that "sidelong learn" saves, on many machines.

    \b
      sidelong spark learn flows --baseline shop.baseline
      sidelong spark learn s3a://bucket/flows/cluster=shop --master yarn --baseline shop.baseline
    """
    from sidelong.spark_learn import learn
    from sidelong.spark_session import SparkOptions

    return learn(
        inputs,
        terminal=Terminal(),
        options=SparkOptions(master, settings, partitions, rows),
        baseline=baseline,
        update=update,
        pods=pods,
        config=config,
    )


@spark.command(
    cls=GroupedCommand,
    epilog=f"Exit status: 0 written, {USAGE_OR_SOURCE}.",
    short_help="Write the windows of flows as Parquet.",
)
@INPUTS
@PODS
@CONFIG
@option(
    "--baseline",
    heading="Features",
    metavar="DIR",
    help="What is known and so no first contact and no new edge.",
)
@option(
    "--to",
    heading="Output",
    metavar="DIR|URL",
    required=True,
    help="Where to write scope=workload, scope=edge, scope=domain and scope=called.",
)
@_MASTER
@_PARTITIONS
@_ROWS
@_CONF
def features(
    inputs: Sequence[str],
    pods: str | None,
    config: str | None,
    baseline: str | None,
    to: str,
    master: str | None,
    partitions: int | None,
    rows: int | None,
    settings: Sequence[str],
) -> int:
    """Write what each workload, edge and domain did in each minute, and who was called by how many:
    Parquet to train on. What columns mean is in docs/features.md.

    \b
      sidelong spark features flows --to windows
      sidelong spark features s3a://bucket/flows --master yarn --to s3a://bucket/windows
    """
    from sidelong.spark_learn import features
    from sidelong.spark_session import SparkOptions

    return features(
        inputs,
        terminal=Terminal(),
        options=SparkOptions(master, settings, partitions, rows),
        to=to,
        baseline=baseline,
        pods=pods,
        config=config,
    )


@spark.command(
    cls=GroupedCommand,
    epilog=f"Exit status: 0 ended as told, {USAGE_OR_SOURCE}.",
    short_help="Judge live flows out of Kafka, in place of the role detect.",
)
@option(
    "--config",
    heading="Input",
    metavar="FILE",
    required=True,
    help="Settings of the service, as TOML: its Kafka, its baseline.",
)
@option(
    "--checkpoint",
    heading="Input",
    metavar="DIR|URL",
    required=True,
    help="Where the job keeps how far it is and what detectors remember; all of Spark's machines "
    "must reach it.",
)
@option(
    "--once", heading="End", is_flag=True, help="End with what is in Kafka now.  [default: go on]"
)
@option(
    "--every",
    heading="Spark",
    metavar="TIME",
    default="1 second",
    show_default=True,
    help="How often a micro-batch begins.",
)
@_MASTER
@_CONF
def stream(
    config: str,
    checkpoint: str,
    once: bool,
    every: str,
    master: str | None,
    settings: Sequence[str],
) -> int:
    """Judge live flows as a job of Spark Structured Streaming, in place of "sidelong run --role
    detect": reads flows.batches and writes evidence.

    The connector to Kafka is fetched by Spark, unless --conf says where it is.

    \b
      sidelong spark stream --config sidelong.toml --checkpoint s3a://bucket/point --master yarn
      sidelong spark stream --config sidelong.toml --checkpoint checkpoint --once
      sidelong spark stream ... --conf spark.jars=/opt/spark-sql-kafka.jar,...
    """
    from sidelong.spark_session import SparkOptions
    from sidelong.spark_stream import stream

    return stream(
        terminal=Terminal(),
        options=SparkOptions(master, settings),
        config=config,
        checkpoint=checkpoint,
        once=once,
        every=every,
    )
