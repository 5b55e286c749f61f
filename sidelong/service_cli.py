"""The options of `sidelong run` and `sidelong topics`."""

from collections.abc import Sequence
from typing import Final

import click

from sidelong.help import USAGE_OR_SOURCE, GroupedCommand, option
from sidelong.output_options import OUTPUT
from sidelong.service_settings import ROLES, RoleName
from sidelong.terminal import Terminal

__all__ = ["run", "topics"]

_CONFIG: Final = option(
    "--config",
    heading="Input",
    metavar="FILE",
    help="Settings, as TOML: see docs/configuration.md.",
)


@click.command(
    cls=GroupedCommand,
    epilog=f"Exit status: 0 ended by SIGINT or SIGTERM, {USAGE_OR_SOURCE}.",
    short_help="Run the service.",
)
@_CONFIG
@option(
    "--role",
    "roles",
    heading="Work",
    multiple=True,
    type=click.Choice(ROLES),
    help="Do this of the service, and no more; may be given several times.  "
    "[default: roles in [service], which is all]",
)
def run(config: str | None, roles: tuple[RoleName, ...]) -> int:
    """Run the service: flows in, receivers told, until SIGTERM.

    With servers in [kafka] the roles work over Kafka, in this process or in as many as are wanted.
    Without, this process reads inputs of [service] itself, and keeps its state on the disk.

    \b
      sidelong run --config sidelong.toml
      sidelong run --config sidelong.toml --role normalise
      sidelong run --config sidelong.toml --role detect --role correlate
    """
    from sidelong.running import run_service

    return run_service(config, tuple(dict.fromkeys(roles)))


@click.group(
    short_help="Make and list the topics in Kafka.",
    epilog="Each command has its own --help.",
)
def topics() -> None:
    """Make and list the topics in Kafka that the service works with.

    \b
      sidelong topics create --config sidelong.toml
      sidelong topics list --config sidelong.toml
    """


@topics.command(
    cls=GroupedCommand,
    epilog=f"Exit status: 0 all are there, {USAGE_OR_SOURCE}.",
    short_help="Make the topics that are not there.",
)
@_CONFIG
@option(
    "--partitions",
    heading="Topics",
    multiple=True,
    metavar="NAME=N",
    help="How many partitions a topic gets, such as flows.batches=12: as many processes can share "
    "its work. It cannot be changed later.",
)
@option(
    "--replicas",
    heading="Topics",
    metavar="N",
    type=click.IntRange(min=1),
    help="How often Kafka keeps each message; with 3 or more, two brokers must have it.  "
    "[default: that of the brokers]",
)
def create(config: str | None, partitions: Sequence[str], replicas: int | None) -> int:
    """Make the topics that are not there; those that are stay as they are, and what is different
    about them is said.

    \b
      sidelong topics create --config sidelong.toml
      sidelong topics create --config sidelong.toml --partitions flows.batches=12 --replicas 3
    """
    from sidelong.topics import create

    return create(
        terminal=Terminal(), config=config, partitions=tuple(partitions), replicas=replicas
    )


@topics.command(
    "list",
    cls=GroupedCommand,
    epilog=f"Exit status: 0 all are there, 1 some are missing, {USAGE_OR_SOURCE}.",
    short_help="List the topics, and how far behind each role is.",
)
@_CONFIG
@OUTPUT
def list_(config: str | None, output: str | None) -> int:
    """List the topics, what is in them, and how much of it each role has yet to read.

    \b
      sidelong topics list --config sidelong.toml
    """
    from sidelong.topics import listed

    return listed(terminal=Terminal(), config=config, output=output)
