"""The options of `sidelong alerts ack`, `benign` and `confirm`."""

from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from sidelong.help import USAGE_OR_SOURCE, GroupedCommand, option
from sidelong.terminal import Terminal

__all__ = ["CONFIG_IF_ANY", "ack", "benign", "confirm"]

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])

CONFIG_IF_ANY: Final = option(
    "--config",
    heading="Input",
    metavar="FILE",
    help="Where outbox and audit trail are, as TOML: see docs/alerts.md.",
)


def _verdict(command: _Decorated) -> _Decorated:
    """The options by which ack, benign and confirm agree."""
    for decorate in reversed(
        (
            click.argument("id", metavar="ID"),
            CONFIG_IF_ANY,
            option(
                "--incidents",
                heading="Input",
                metavar="FILE",
                help="Where to find it, as printed by replay --output json.  "
                "[default: what is open, waits or could not be delivered]",
            ),
            option("--why", heading="Trail", metavar="TEXT", default="", help="The reason."),
            option("--by", heading="Trail", metavar="NAME", help="Who says so.  [default: you]"),
        )
    ):
        command = decorate(command)
    return command


_BASELINE: Final = option(
    "--baseline", heading="Input", metavar="DIR", required=True, help="What is to learn from it."
)
_SAID: Final = f"Exit status: 0 written, {USAGE_OR_SOURCE}."


@click.command(cls=GroupedCommand, epilog=_SAID, short_help="Say that an incident is seen to.")
@_verdict
def ack(id: str, config: str | None, incidents: str | None, why: str, by: str | None) -> int:
    """Say that an incident is seen to: no more updates, unless it gets worse, until it closes.

    ID may be cut short, to four characters or more. It is written to the audit trail.

    \b
      sidelong alerts ack 24c76a1b2bf4f662 --config sidelong.toml --why "we are on it"
    """
    from sidelong.alert_verdicts import judge

    return judge(id, "ack", terminal=Terminal(), config=config, incidents=incidents, why=why, by=by)


@click.command(
    cls=GroupedCommand, epilog=_SAID, short_help="Say that an incident is ordinary here."
)
@_verdict
@_BASELINE
@option(
    "--for",
    "lasts",
    heading="Lesson",
    metavar="TIME",
    help="How long a scanner may go on scanning, such as 90d.  [default: 30d]",
)
def benign(
    id: str,
    config: str | None,
    incidents: str | None,
    why: str,
    by: str | None,
    baseline: str,
    lasts: str | None,
) -> int:
    """Say that an incident is ordinary here, and teach it to the baseline.

    Of a lateral movement the edges become known; to a DNS domain twice as much may be told; who
    scans may do so for a while. The baseline heeds it from the next start on.

    \b
      sidelong alerts benign 24c7 --incidents found.jsonl --baseline shop.baseline --why "new job"
    """
    from sidelong.alert_verdicts import judge

    return judge(
        id,
        "benign",
        terminal=Terminal(),
        config=config,
        incidents=incidents,
        why=why,
        by=by,
        baseline=baseline,
        lasts=lasts,
    )


@click.command(cls=GroupedCommand, epilog=_SAID, short_help="Say that an incident is an attack.")
@_verdict
@_BASELINE
def confirm(
    id: str, config: str | None, incidents: str | None, why: str, by: str | None, baseline: str
) -> int:
    """Say that an incident is an attack, so that what it used is never learnt.

    Its edges alarm at once when they are used again, even if the baseline knows them, and so does
    a never-seen name of its DNS domains.

    \b
      sidelong alerts confirm 24c7 --incidents found.jsonl --baseline shop.baseline
    """
    from sidelong.alert_verdicts import judge

    return judge(
        id,
        "confirm",
        terminal=Terminal(),
        config=config,
        incidents=incidents,
        why=why,
        by=by,
        baseline=baseline,
    )
