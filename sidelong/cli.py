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
from sidelong.alerts_cli import alerts
from sidelong.baseline_cli import baseline as baseline_commands
from sidelong.config_cli import config as config_command
from sidelong.errors import ConfigError, SidelongError
from sidelong.explain_cli import explain
from sidelong.graph_cli import graph
from sidelong.help import EXIT_STATUS, GroupedCommand, option
from sidelong.input_options import CONFIG, FORMAT, FORMATS, INPUTS, KUBERNETES, PODS
from sidelong.output_options import OUTPUT
from sidelong.policy_cli import policy
from sidelong.service_cli import run as run_command
from sidelong.service_cli import topics
from sidelong.simulate_cli import simulate
from sidelong.source_cli import collect, doctor
from sidelong.spark_cli import spark
from sidelong.terminal import Terminal

__all__ = ["FORMATS", "cli", "main", "run"]

_NAME: Final = "sidelong"
_INTERRUPTED: Final = 130  # what a shell reports of a command that SIGINT ended
_NO_READER: Final = 141  # and of one that SIGPIPE ended


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
@option(
    "--report",
    heading="Output",
    metavar="FILE.html",
    help="Where to write the page about it.  [default: report.html]",
)
def demo(report: str | None) -> int:
    """See it at work: learn how a small shop talks, then find four real attacks on it.

    Reads the Hubble flows in examples/shop-incident of a checkout, prints what it finds, and writes
    a page about it to open in a browser.

    \b
      sidelong demo
    """
    from sidelong.demo import demo

    return demo(Terminal(), report)


@cli.command(
    cls=GroupedCommand,
    epilog=EXIT_STATUS,
    short_help="Learn from traffic you vouch for.",
)
@click.argument("inputs", metavar="[INPUT]...", nargs=-1)
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
    help="Bring the baseline in DIR up to date instead, with traffic that nobody vouches for: what "
    "is new is on trial, what is old fades, what alarms is not learnt.",
)
@option(
    "--declared",
    heading="Learning",
    metavar="PATH",
    multiple=True,
    help="Manifests of workloads, Services and policies, a YAML or JSON file or a folder of them: "
    "what policies allow is expected, what they deny should not pass; may be repeated.",
)
@FORMAT
@PODS
@KUBERNETES
@CONFIG
def learn(
    inputs: Sequence[str],
    baseline: str,
    update: bool,
    declared: Sequence[str],
    format: str | None,
    pods: str | None,
    kubernetes: bool,
    config: str | None,
) -> int:
    """Learn from traffic you vouch for: who talks to whom, and which DNS names are ordinary.

    INPUT is a file, a folder, a glob, or - for standard input; .gz and .zst are read as they are.

    \b
      sidelong learn monday.hubble.jsonl.zst --baseline shop.baseline
      sidelong learn 'captures/2026-11-*.pcap' --pods pods.json --baseline shop.baseline
      hubble observe -o jsonpb --last 100000 | sidelong learn - --baseline shop.baseline
      sidelong learn tuesday.hubble.jsonl.zst --baseline shop.baseline --update
      sidelong learn --declared manifests/ --baseline shop.baseline
    """
    from sidelong.learn import learn

    return learn(
        inputs,
        terminal=Terminal(),
        baseline=baseline,
        update=update,
        declared=declared,
        format=format,
        pods=pods,
        kubernetes=kubernetes,
        config=config,
    )


@cli.command(
    cls=GroupedCommand,
    epilog=EXIT_STATUS,
    short_help="Find attacks in recorded or piped traffic.",
)
@INPUTS
@FORMAT
@PODS
@KUBERNETES
@CONFIG
@option(
    "--baseline",
    heading="Detection",
    metavar="DIR",
    help='Ordinary traffic, as saved by "sidelong learn". Without it scans and DNS tunnels are '
    "found, and few lateral movements.",
)
@OUTPUT
@option(
    "--all",
    "every_change",
    heading="Output",
    is_flag=True,
    help="In the table too, one entry each time an incident opens, grows or closes, also of what "
    "is suppressed.",
)
@option(
    "--report",
    heading="Output",
    metavar="FILE.html",
    help="Write a page about it all as well: stories, evidence, maps, DNS, what could not be seen. "
    "One file, which needs no network.",
)
@option(
    "--notify",
    heading="Output",
    is_flag=True,
    help="Tell the receivers of --config as well. Without it nobody is told of the past.",
)
def replay(
    inputs: Sequence[str],
    format: str | None,
    pods: str | None,
    kubernetes: bool,
    config: str | None,
    baseline: str | None,
    output: str | None,
    every_change: bool,
    report: str | None,
    notify: bool,
) -> int:
    """Find attacks in recorded or piped traffic, and explain each in one sentence.

    INPUT is a file, a folder, a glob, or - for standard input; .gz and .zst are read as they are.

    \b
      sidelong replay tuesday.hubble.jsonl.zst --baseline shop.baseline
      sidelong replay tuesday.hubble.jsonl.zst --baseline shop.baseline --report tuesday.html
      sidelong replay node1.pcap node2.pcap --pods pods.json --output json
      hubble observe -f -o jsonpb | sidelong replay - --baseline shop.baseline
    """
    from sidelong.replay import replay

    return replay(
        inputs,
        terminal=Terminal(),
        format=format,
        pods=pods,
        kubernetes=kubernetes,
        config=config,
        baseline=baseline,
        output=output,
        every_change=every_change,
        report=report,
        notify=notify,
    )


@cli.command(
    cls=GroupedCommand,
    epilog="Exit status: 0 scored, 1 a number is worse, 2 nothing to score.",
    short_help="Score detection on labelled captures.",
)
@option(
    "--live",
    heading="Input",
    metavar="FOLDER",
    multiple=True,
    help="A session of the live bench that was recorded before. Without it two are run: network "
    "namespaces of this machine, as root.",
)
@option("--no-live", heading="Input", is_flag=True, help="Labelled captures only.")
@option(
    "--check",
    heading="Output",
    is_flag=True,
    help="Write nothing; say which numbers are worse than those of docs/scorecard.json.",
)
def score(live: Sequence[str], no_live: bool, check: bool) -> int:
    """Score detection: what is found and missed, at which cost, beside simpler detectors.

    Reads the labelled captures in SIDELONG_DATA, and writes docs/scorecard.md of a checkout.

    \b
      sidelong score
      sidelong score --no-live --check
    """
    from sidelong.score import score

    flags = ["--no-live"] * no_live + ["--check"] * check
    return score([*(part for folder in live for part in ("--live", folder)), *flags])


cli.add_command(alerts)
cli.add_command(baseline_commands)
cli.add_command(collect)
cli.add_command(config_command)
cli.add_command(doctor)
cli.add_command(explain)
cli.add_command(graph)
cli.add_command(policy)
cli.add_command(run_command)
cli.add_command(spark)
cli.add_command(simulate)
cli.add_command(topics)


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
