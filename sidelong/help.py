"""Help texts with their options in groups: what goes in, how to detect, what comes out."""

from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

__all__ = ["EXIT_STATUS", "USAGE_OR_SOURCE", "GroupedCommand", "option"]

USAGE_OR_SOURCE: Final = "2 usage or configuration, 3 source unreachable or unreadable"
EXIT_STATUS: Final = f"Exit status: 0 nothing found, 1 incidents found, {USAGE_OR_SOURCE}."

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])


class _Option(click.Option):
    """An option that says under which heading of the help it belongs."""

    def __init__(self, *args: Any, heading: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.heading = heading


def option(*names: str, heading: str, **attributes: Any) -> Callable[[_Decorated], _Decorated]:
    """`click.option`, listed under `heading`."""
    return click.option(*names, cls=_Option, heading=heading, **attributes)


class GroupedCommand(click.Command):
    """A command whose help lists options under their headings, `--help` last."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        headings: dict[str, list[tuple[str, str]]] = {}
        others: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is None or not isinstance(parameter, click.Option):
                continue  # the text above says what the arguments are
            if isinstance(parameter, _Option):
                headings.setdefault(parameter.heading, []).append(record)
            else:
                others.append(record)
        for heading, records in (*headings.items(), ("Other", others)):
            with formatter.section(heading):
                formatter.write_dl(records)
