"""The options of `sidelong alerts` and its commands."""

from collections.abc import Sequence
from typing import Final, get_args

import click

from sidelong.alerts.incident import Kind, Severity
from sidelong.help import USAGE_OR_SOURCE, GroupedCommand, option
from sidelong.input_options import FORMAT, PODS
from sidelong.output_options import OUTPUT
from sidelong.terminal import Terminal
from sidelong.verdicts_cli import CONFIG_IF_ANY, ack, benign, confirm

__all__ = ["alerts"]

_CONFIG: Final = option(
    "--config",
    heading="Input",
    metavar="FILE",
    required=True,
    help="Receivers, routes and suppressions, as TOML: see docs/alerts.md.",
)


@click.group(
    short_help="Try, preview and look after alerts.",
    epilog="Each command has its own --help.",
)
def alerts() -> None:
    """Try, preview and look after alerts: what is sent where, what is kept back, what was said.

    \b
      sidelong alerts check --config sidelong.toml
      sidelong alerts test --config sidelong.toml --severity critical
      sidelong alerts ack 24c76a1b2bf4f662 --why "known rollout"
    """


@alerts.command(
    "test",
    cls=GroupedCommand,
    epilog=f"Exit status: 0 every receiver took it, 1 one did not or nobody was told, "
    f"{USAGE_OR_SOURCE}.",
    short_help="Send a sample where the routes lead.",
)
@_CONFIG
@option(
    "--receiver", heading="Sample", metavar="NAME", help="Send it there, whatever the routes say."
)
@option(
    "--kind",
    heading="Sample",
    type=click.Choice(get_args(Kind)),
    help="What happened.  [default: scan]",
)
@option(
    "--severity",
    heading="Sample",
    type=click.Choice(get_args(Severity)),
    help="How bad it is.  [default: medium]",
)
@option(
    "--workload",
    heading="Sample",
    metavar="NAMESPACE/NAME",
    help="Who did it.  [default: an invented one]",
)
@option("--dry-run", "dry", heading="Sample", is_flag=True, help="Print it, and send nothing.")
def try_out(
    config: str,
    receiver: str | None,
    kind: Kind | None,
    severity: Severity | None,
    workload: str | None,
    dry: bool,
) -> int:
    """Send a sample where the routes lead, and print what was sent and what was answered.

    The sample calls itself one. Secrets are printed as ***.

    \b
      sidelong alerts test --config sidelong.toml
      sidelong alerts test --config sidelong.toml --kind lateral_movement --severity critical
      sidelong alerts test --config sidelong.toml --receiver pager --dry-run
    """
    from sidelong.alert_trial import trial

    return trial(
        terminal=Terminal(),
        config=config,
        receiver=receiver,
        kind=kind,
        severity=severity,
        workload=workload,
        dry=dry,
    )


@alerts.command(
    cls=GroupedCommand,
    epilog=f"Exit status: 0 nothing would be sent, or nothing be different; 1 something; "
    f"{USAGE_OR_SOURCE}.",
    short_help="Show where past incidents would have gone.",
)
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True)
@_CONFIG
@option(
    "--against",
    heading="Input",
    metavar="FILE",
    help="The configuration of now: list only what --config would change.",
)
@option(
    "--baseline",
    heading="Input",
    metavar="DIR",
    help="Ordinary traffic, for captures among INPUT.",
)
@FORMAT
@PODS
@OUTPUT
def preview(
    inputs: Sequence[str],
    config: str,
    against: str | None,
    baseline: str | None,
    format: str | None,
    pods: str | None,
    output: str | None,
) -> int:
    """Show where past incidents would have gone: by which route, to whom, or by what kept back.

    INPUT is incidents, as replay --output json prints them, or anything that replay takes. Nothing
    is sent. With --against, what would be sent that is not sent now is marked +, what would not be
    any more -.

    \b
      sidelong alerts preview --config sidelong.toml yesterday.jsonl
      sidelong alerts preview --config new.toml --against sidelong.toml yesterday.jsonl
      sidelong alerts preview --config new.toml tuesday.pcap --baseline shop.baseline
    """
    from sidelong.alert_preview import preview

    return preview(
        inputs,
        terminal=Terminal(),
        config=config,
        against=against,
        baseline=baseline,
        pods=pods,
        format=format,
        output=output,
    )


@alerts.command(
    cls=GroupedCommand,
    epilog=f"Exit status: 0 it can work, 1 so it can, but see the warnings, {USAGE_OR_SOURCE}.",
    short_help="Check receivers, routes and suppressions.",
)
@_CONFIG
def check(config: str) -> int:
    """Check receivers, routes and suppressions, without sending anything.

    Warns of routes that nothing reaches, and of suppressions that have expired.

    \b
      sidelong alerts check --config sidelong.toml
    """
    from sidelong.alert_desk import check

    return check(terminal=Terminal(), config=config)


@alerts.command(
    "list",
    cls=GroupedCommand,
    epilog=f"Exit status: 0 nothing is dead, 1 something is, {USAGE_OR_SOURCE}.",
    short_help="List what waits and what could not be delivered.",
)
@CONFIG_IF_ANY
@OUTPUT
def list_(config: str | None, output: str | None) -> int:
    """List what waits in the outbox for each receiver, and what could not be delivered, and why.

    \b
      sidelong alerts list --config sidelong.toml
    """
    from sidelong.alert_desk import listed

    return listed(terminal=Terminal(), config=config, output=output)


@alerts.command(
    cls=GroupedCommand,
    epilog=f"Exit status: 0 all were delivered, 1 not all, or there were none, {USAGE_OR_SOURCE}.",
    short_help="Deliver after all what could not be.",
)
@click.argument("ids", metavar="[ID...]", nargs=-1)
@_CONFIG
@option("--all", "every", heading="Choice", is_flag=True, help="All of them.")
@option("--receiver", heading="Choice", metavar="NAME", help="Those of one receiver only.")
def redeliver(ids: Sequence[str], config: str, every: bool, receiver: str | None) -> int:
    """Deliver after all what could not be delivered.

    ID is that of a message, as sidelong alerts list prints it.

    \b
      sidelong alerts redeliver --all --config sidelong.toml
      sidelong alerts redeliver --receiver pager --config sidelong.toml
    """
    from sidelong.alert_desk import redeliver

    return redeliver(ids, terminal=Terminal(), config=config, every=every, receiver=receiver)


for _command in (ack, benign, confirm):
    alerts.add_command(_command)
