"""The commands that look after sources: `collect` keeps what they tell, `doctor` judges it."""

from collections.abc import Sequence

import click

from sidelong.help import USAGE_OR_SOURCE, GroupedCommand, option
from sidelong.input_options import CONFIG, FORMAT, KUBERNETES, PODS
from sidelong.terminal import Terminal

__all__ = ["collect", "doctor"]


@click.command(
    cls=GroupedCommand,
    epilog=f"Exit status: 0 collected, {USAGE_OR_SOURCE}.",
    short_help="Keep live telemetry as Parquet, or bring it to Kafka.",
)
@click.argument("inputs", metavar="SOURCE...", nargs=-1, required=True)
@option(
    "--to",
    heading="Output",
    metavar="DIR|URL",
    required=True,
    help="Folder for the flows, by hour, or a topic, as kafka://HOST:PORT/TOPIC; what is there is "
    "added to.",
)
@option(
    "--rotate-rows",
    heading="Output",
    metavar="N",
    type=click.IntRange(min=1),
    help="Write a file once so many flows are held.  [default: 200000]",
)
@option(
    "--rotate-seconds",
    heading="Output",
    metavar="N",
    type=click.IntRange(min=1),
    help="Write a file once the oldest flow was held so long.  [default: 60]",
)
@option(
    "--keep",
    heading="Output",
    metavar="TIME",
    help="Delete what was collected into DIR before that, such as 7d.  [default: keep all]",
)
@option(
    "--for",
    "duration",
    heading="End",
    metavar="TIME",
    help="End after so long, such as 10m.  [default: SIGINT or SIGTERM]",
)
@option(
    "--max-flows",
    "most_flows",
    heading="End",
    metavar="N",
    type=click.IntRange(min=1),
    help="End with the batch that brings so many flows.",
)
@FORMAT
@CONFIG
def collect(
    inputs: Sequence[str],
    to: str,
    rotate_rows: int | None,
    rotate_seconds: int | None,
    keep: str | None,
    duration: str | None,
    most_flows: int | None,
    format: str | None,
    config: str | None,
) -> int:
    """Keep live telemetry as Parquet, by hour, for replay, learning, polars or DuckDB, or bring it
    to a topic of Kafka.

    SOURCE is a URL of a live source, such as hubble://HOST:PORT, or anything that replay takes; a
    topic, kafka://HOST:PORT/TOPIC, is followed. Started again with the same DIR, it goes on where
    the files end: nothing is missing that the source still has, and nothing is there twice.

    \b
      sidelong collect hubble://localhost:4245 --to flows --keep 7d
      sidelong collect als://0.0.0.0:9900 --to flows --for 10m
      sidelong collect monday.pcap tuesday.pcap --to flows
      sidelong collect hubble://localhost:4245 --to kafka://localhost:9092/flows.raw
      sidelong replay flows
    """
    from sidelong.collect import collect

    return collect(
        inputs,
        terminal=Terminal(),
        to=to,
        format=format,
        config=config,
        rotate_rows=rotate_rows,
        rotate_seconds=rotate_seconds,
        keep=keep,
        duration=duration,
        most_flows=most_flows,
    )


@click.command(
    cls=GroupedCommand,
    epilog=f"Exit status: 0 every detector sees, 1 one of them does not, {USAGE_OR_SOURCE}.",
    short_help="Say what each detector sees in a source.",
)
@click.argument("inputs", metavar="[SOURCE...]", nargs=-1)
@FORMAT
@PODS
@KUBERNETES
@CONFIG
@option(
    "--max-flows",
    "most_flows",
    heading="Sample",
    metavar="N",
    type=click.IntRange(min=1),
    help="Look at no more flows than that.  [default: 200000]",
)
@option(
    "--for",
    "duration",
    heading="Sample",
    metavar="TIME",
    help="Look no longer than that, such as 1m.  [default: 10s for what is live]",
)
@option(
    "--output",
    heading="Output",
    type=click.Choice(("table", "json")),
    help="For a person, or one JSON object for a program.  "
    "[default: table on a terminal, json in a pipe]",
)
def doctor(
    inputs: Sequence[str],
    format: str | None,
    pods: str | None,
    kubernetes: bool,
    config: str | None,
    most_flows: int | None,
    duration: str | None,
    output: str | None,
) -> int:
    """Say what each detector sees in a source, why not more, and what would cure it.

    SOURCE is a URL of a live source, or anything that replay takes. Without one, the installation
    itself is looked at.

    \b
      sidelong doctor hubble://localhost:4245 --for 1m
      sidelong doctor tuesday.hubble.jsonl.zst
      sidelong doctor
    """
    from sidelong.doctor import doctor

    return doctor(
        inputs,
        terminal=Terminal(),
        format=format,
        pods=pods,
        kubernetes=kubernetes,
        config=config,
        most_flows=most_flows,
        duration=duration,
        output=output,
    )
