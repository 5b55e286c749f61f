"""The options of `sidelong config` and its commands."""

import click

from sidelong.help import GroupedCommand, option
from sidelong.terminal import Terminal

__all__ = ["config"]

_FILE = click.argument("file", metavar="[FILE]", required=False)


@click.group(
    short_help="Check settings, and show what they come to.",
    epilog="Each command has its own --help.",
)
def config() -> None:
    """Check settings, and show what they come to.

    FILE is TOML, as --config of other commands takes it; see docs/configuration.md. What the
    environment says as SIDELONG_SECTION__KEY takes the place of what FILE says.

    \b
      sidelong config check sidelong.toml
      sidelong config show --defaults > sidelong.toml
    """


@config.command(
    cls=GroupedCommand,
    epilog="Exit status: 0 it can work, 1 so it can, but see the warnings, 2 it cannot.",
    short_help="Say all that is wrong with settings.",
)
@_FILE
def check(file: str | None) -> int:
    """Say all that is wrong with settings: keys, values, files, secrets, URLs, what contradicts.

    Nothing is connected to or listened at, and no secret is shown.

    \b
      sidelong config check sidelong.toml
      SIDELONG_KAFKA__SERVERS=kafka:9092 sidelong config check sidelong.toml
    """
    from sidelong.config_check import check

    return check(terminal=Terminal(), config=file)


@config.command(
    cls=GroupedCommand,
    epilog="Exit status: 0 shown, 2 usage or configuration.",
    short_help="Show all settings, and what each means.",
)
@_FILE
@option(
    "--defaults",
    heading="Choice",
    is_flag=True,
    help="Those that hold where nothing is set: no FILE, no environment.",
)
def show(file: str | None, defaults: bool) -> int:
    """Show all settings as TOML, with what each key means, and which the environment has set.

    Secrets are shown as where they are.

    \b
      sidelong config show --defaults
      sidelong config show sidelong.toml
    """
    from sidelong.config_show import show

    return show(terminal=Terminal(), config=file, defaults=defaults)
