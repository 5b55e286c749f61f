"""The options of `sidelong explain`."""

from collections.abc import Sequence

import click

from sidelong.help import USAGE_OR_SOURCE, GroupedCommand, option
from sidelong.input_options import FORMAT, KUBERNETES, PODS
from sidelong.terminal import Terminal

__all__ = ["explain"]


@click.command(
    cls=GroupedCommand,
    epilog=f"Exit status: 0 explained, {USAGE_OR_SOURCE}.",
    short_help="Explain an incident: why it is one, what was not seen, what to do.",
)
@click.argument("id", metavar="ID")
@click.argument("inputs", metavar="[INPUT]...", nargs=-1)
@option(
    "--baseline",
    heading="Input",
    metavar="DIR",
    help="The ordinary traffic that it was judged by, for the sums and the policy.",
)
@FORMAT
@PODS
@KUBERNETES
@option(
    "--config",
    heading="Input",
    metavar="FILE",
    help="Settings, as TOML. Without INPUT it is that of a service: its alerts and flows are "
    "looked in.",
)
@option(
    "--bundle",
    heading="Output",
    metavar="FILE",
    help="Keep it there too, with the incidents of its story, their flows, the service map and "
    "the baseline: one file that explains the same anywhere, offline.",
)
@option(
    "--output",
    heading="Output",
    type=click.Choice(("text", "json")),
    help="For a person, or a JSON object for a program.  [default: text]",
)
def explain(
    id: str,
    inputs: Sequence[str],
    baseline: str | None,
    format: str | None,
    pods: str | None,
    kubernetes: bool,
    config: str | None,
    bundle: str | None,
    output: str | None,
) -> int:
    """Explain an incident: what was observed against what was expected, the sums to be done by
    hand, what could not be seen, what to do next.

    ID may be cut short, to four characters or more; - is an alert in JSON on standard input. INPUT
    is the traffic of its time, a bundle, what replay --output json printed, or a topic of alerts.
    Without INPUT the outbox is looked in.

    \b
      sidelong explain 24c7 tuesday.hubble.jsonl.zst --baseline shop.baseline
      sidelong explain 24c7 tuesday.pcap --baseline shop.baseline --bundle 24c7.evidence
      sidelong explain 24c7 24c7.evidence
      sidelong explain 24c7 kafka://broker:9092/alerts
      sidelong explain 24c7 --config sidelong.toml
      curl -s https://tickets.example/17/alert.json | sidelong explain -
    """
    from sidelong.explain import explain

    return explain(
        id,
        inputs,
        terminal=Terminal(),
        baseline=baseline,
        format=format,
        pods=pods,
        kubernetes=kubernetes,
        config=config,
        bundle=bundle,
        output=output,
    )
