"""The command `sidelong`: options in, exit status out.

The work of a command is done by the module of its name, imported when the command runs: help and
mistyped options answer at once.
"""

import os
import sys
from collections.abc import Sequence
from typing import Any, Final

import click

from sidelong import __version__
from sidelong.errors import ConfigError, SidelongError
from sidelong.help import EXIT_STATUS, USAGE_OR_SOURCE, GroupedCommand, option
from sidelong.terminal import Terminal

__all__ = ["FORMATS", "cli", "main", "run"]

_NAME: Final = "sidelong"
_INTERRUPTED: Final = 130  # what a shell reports of a command that SIGINT ended
_NO_READER: Final = 141  # and of one that SIGPIPE ended

FORMATS: Final = (
    "hubble",
    "pcap",
    "parquet",
    "otlp-json",
    "zeek",
    "netobserv",
    "goflow2",
    "nfdump",
    "vpc",
    "csv",
)
"""What `--format` takes."""


class _Group(click.Group):
    """Turns what can go wrong in a command into a message and an exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SidelongError as error:
            Terminal().problem(error)
            raise click.exceptions.Exit(error.exit_status) from error
        except KeyboardInterrupt as error:
            Terminal().say(f"{_NAME}: interrupted")
            raise click.exceptions.Exit(_INTERRUPTED) from error
        except BrokenPipeError as error:
            # Whoever read the output has seen enough. Python flushes once more on its way out,
            # which must not fail again.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            raise click.exceptions.Exit(_NO_READER) from error
        except OSError as error:
            # Sources name their own; this is a place to write to, most likely.
            denied = ConfigError(
                f"{error.filename or 'output'}: {error.strerror or error}",
                hint="look at who owns the path, and at how much room is left there",
            )
            Terminal().problem(denied)
            raise click.exceptions.Exit(denied.exit_status) from error


_inputs = click.argument("inputs", metavar="INPUT...", nargs=-1, required=True)
_format = option(
    "--format",
    heading="Input",
    type=click.Choice(FORMATS),
    help="What INPUT is.  [default: from its first bytes]",
)
_pods = option(
    "--pods",
    heading="Input",
    metavar="FILE",
    help="Who held which address, for captures that know addresses only: "
    'JSON as {"name": {"ip", "namespace", "workload"}}, or from "kubectl get pods -A -o json".',
)
_config = option(
    "--config",
    heading="Input",
    metavar="FILE",
    help="Settings of sources, as TOML: see docs/configuration.md.",
)


@click.group(
    cls=_Group,
    context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 100},
    epilog=EXIT_STATUS,
)
@click.version_option(__version__, message="%(prog)s %(version)s")
def cli() -> None:
    """Watch east-west traffic: who scans, who tunnels data through DNS, who moves sideways.

    \b
      sidelong demo
      sidelong learn monday.pcap --baseline shop.baseline
      sidelong replay tuesday.pcap --baseline shop.baseline
    """


@cli.command(cls=GroupedCommand, short_help="Find four real attacks on a small shop.")
def demo() -> int:
    """See it at work: learn how a small shop talks, then find four real attacks on it.

    Reads the Hubble flows in examples/shop-incident of a checkout.

    \b
      sidelong demo
    """
    from sidelong.demo import demo

    return demo(Terminal())


@cli.command(
    cls=GroupedCommand,
    epilog=EXIT_STATUS,
    short_help="Learn from traffic you vouch for.",
)
@_inputs
@option(
    "--baseline",
    heading="Learning",
    metavar="DIR",
    required=True,
    help="Where to save what was learnt; a baseline that is already there is replaced.",
)
@_format
@_pods
@_config
def learn(
    inputs: Sequence[str],
    baseline: str,
    format: str | None,
    pods: str | None,
    config: str | None,
) -> int:
    """Learn from traffic you vouch for: who talks to whom, and which DNS names are ordinary.

    INPUT is a file, a folder, a glob, or - for standard input; .gz and .zst are read as they are.

    \b
      sidelong learn monday.hubble.jsonl.zst --baseline shop.baseline
      sidelong learn 'captures/2026-11-*.pcap' --pods pods.json --baseline shop.baseline
      hubble observe -o jsonpb --last 100000 | sidelong learn - --baseline shop.baseline
    """
    from sidelong.learn import learn

    return learn(
        inputs, terminal=Terminal(), baseline=baseline, format=format, pods=pods, config=config
    )


@cli.command(
    cls=GroupedCommand,
    epilog=EXIT_STATUS,
    short_help="Find attacks in recorded or piped traffic.",
)
@_inputs
@_format
@_pods
@_config
@option(
    "--baseline",
    heading="Detection",
    metavar="DIR",
    help='Ordinary traffic, as saved by "sidelong learn". Without it scans and DNS tunnels are '
    "found, and few lateral movements.",
)
@option(
    "--output",
    heading="Output",
    type=click.Choice(("table", "json")),
    help="For a person, or a JSON object a line for a program.  "
    "[default: table on a terminal, json in a pipe]",
)
@option(
    "--all",
    "every_change",
    heading="Output",
    is_flag=True,
    help="In the table too, one entry each time an incident opens, grows or closes.",
)
def replay(
    inputs: Sequence[str],
    format: str | None,
    pods: str | None,
    config: str | None,
    baseline: str | None,
    output: str | None,
    every_change: bool,
) -> int:
    """Find attacks in recorded or piped traffic, and explain each in one sentence.

    INPUT is a file, a folder, a glob, or - for standard input; .gz and .zst are read as they are.

    \b
      sidelong replay tuesday.hubble.jsonl.zst --baseline shop.baseline
      sidelong replay node1.pcap node2.pcap --pods pods.json --output json
      hubble observe -f -o jsonpb | sidelong replay - --baseline shop.baseline
    """
    from sidelong.replay import replay

    return replay(
        inputs,
        terminal=Terminal(),
        format=format,
        pods=pods,
        config=config,
        baseline=baseline,
        output=output,
        every_change=every_change,
    )


@cli.command(
    cls=GroupedCommand,
    epilog=f"Exit status: 0 collected, {USAGE_OR_SOURCE}.",
    short_help="Keep live telemetry as Parquet.",
)
@click.argument("inputs", metavar="SOURCE...", nargs=-1, required=True)
@option(
    "--to",
    heading="Output",
    metavar="DIR",
    required=True,
    help="Folder for the flows, by hour; what is there is added to.",
)
@option(
    "--rotate-rows",
    heading="Output",
    metavar="N",
    type=click.IntRange(min=1),
    help="Write a file once so many flows are held.  [default: 500000]",
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
@_format
@_config
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
    """Keep live telemetry as Parquet, by hour, for replay, learning, polars or DuckDB.

    SOURCE is a URL of a live source, such as hubble://HOST:PORT, or anything that replay takes.
    Started again with the same DIR, it goes on where the files end: nothing is missing that the
    source still has, and nothing is there twice.

    \b
      sidelong collect hubble://localhost:4245 --to flows --keep 7d
      sidelong collect als://0.0.0.0:9900 --to flows --for 10m
      sidelong collect monday.pcap tuesday.pcap --to flows
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


@cli.command(
    cls=GroupedCommand,
    epilog=f"Exit status: 0 every detector sees, 1 one of them does not, {USAGE_OR_SOURCE}.",
    short_help="Say what each detector sees in a source.",
)
@click.argument("inputs", metavar="[SOURCE...]", nargs=-1)
@_format
@_pods
@_config
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
        config=config,
        most_flows=most_flows,
        duration=duration,
        output=output,
    )


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status. `arguments` default to those of the process."""
    try:
        status = cli.main(arguments, prog_name=_NAME, standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else _NAME
        usage = ConfigError(error.format_message().rstrip("."), hint=f"{path} --help")
        Terminal().problem(usage)
        return usage.exit_status
    except (click.Abort, KeyboardInterrupt):
        return _INTERRUPTED
    return status if isinstance(status, int) else 0


def main() -> None:
    """The console script."""
    sys.exit(run())
