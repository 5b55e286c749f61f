"""The options of `sidelong baseline show`, `diff` and `forget`."""

import click

from sidelong.help import USAGE_OR_SOURCE, GroupedCommand, option
from sidelong.output_options import OUTPUT
from sidelong.terminal import Terminal

__all__ = ["baseline"]


@click.group(
    context_settings={"help_option_names": ["--help", "-h"]},
    short_help="See what was learnt, what changed; forget some of it.",
)
def baseline() -> None:
    """See what a baseline holds of a workload, what changed between two, and forget some of it.

    \b
      sidelong baseline show shop/web --baseline shop.baseline
      sidelong baseline diff last-week.baseline shop.baseline
      sidelong baseline forget 'shop/web -> data/db:5432' --baseline shop.baseline
    """


@baseline.command(
    cls=GroupedCommand,
    epilog=f"Exit status: 0 shown, {USAGE_OR_SOURCE}.",
    short_help="Show whom a workload talks to, when and how often.",
)
@click.argument("workload", metavar="[NAMESPACE/WORKLOAD]", required=False)
@option(
    "--baseline",
    heading="Input",
    metavar="DIR",
    required=True,
    help='What to look into, as saved by "sidelong learn".',
)
@OUTPUT
def show(workload: str | None, baseline: str, output: str | None) -> int:
    """Show whom a workload talks to, when and how often; without one, all workloads.

    Below each edge stands a line of 24 digits, one for each hour of the day in UTC: on how many
    weekdays the edge was used then, a dot for none. Edges on trial were seen but nobody vouches for
    them; declared ones are allowed by policies and need not have been seen.

    \b
      sidelong baseline show --baseline shop.baseline
      sidelong baseline show shop/web --baseline shop.baseline
      sidelong baseline show shop/web --baseline shop.baseline --output json
    """
    from sidelong.baseline_show import show

    return show(workload, terminal=Terminal(), baseline=baseline, output=output)


@baseline.command(
    cls=GroupedCommand,
    epilog=f"Exit status: 0 the same, 1 something changed, {USAGE_OR_SOURCE}.",
    short_help="Show what changed between two baselines.",
)
@click.argument("before", metavar="DIR")
@click.argument("after", metavar="DIR")
@OUTPUT
def diff(before: str, after: str, output: str | None) -> int:
    """Show what changed between two baselines: workloads, edges, edges on trial, DNS domains.

    Told is what is new, what is gone, and of edges in both those that are used at other hours.

    \b
      sidelong baseline diff last-week.baseline shop.baseline
      sidelong baseline diff last-week.baseline shop.baseline --output json
    """
    from sidelong.baseline_diff import diff

    return diff(before, after, terminal=Terminal(), output=output)


@baseline.command(
    cls=GroupedCommand,
    epilog=f"Exit status: 0 forgotten, {USAGE_OR_SOURCE}.",
    short_help="Forget a workload, an edge or a DNS domain.",
)
@click.argument("subject", metavar="SUBJECT")
@option(
    "--baseline",
    heading="Input",
    metavar="DIR",
    required=True,
    help='What is to forget it, as saved by "sidelong learn".',
)
@option("--why", heading="Trail", metavar="TEXT", default="", help="The reason.")
@option("--by", heading="Trail", metavar="NAME", help="Who says so.  [default: you]")
def forget(subject: str, baseline: str, why: str, by: str | None) -> int:
    """Forget a workload, an edge or a DNS domain, so that it is new when it is seen again.

    SUBJECT is NAMESPACE/WORKLOAD, a domain, or an edge as in the examples. What people said of it
    is forgotten too. A line in history.jsonl, in the folder of the baseline, tells who did it.

    \b
      sidelong baseline forget shop/old --baseline shop.baseline --why "not ours any more"
      sidelong baseline forget 'shop/web -> data/db:5432' --baseline shop.baseline
      sidelong baseline forget example.org --baseline shop.baseline
    """
    from sidelong.baseline_forget import forget

    return forget(subject, terminal=Terminal(), baseline=baseline, why=why, by=by)
