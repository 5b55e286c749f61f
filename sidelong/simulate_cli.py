"""The options of `sidelong simulate`."""

from collections.abc import Sequence

import click

from sidelong.help import USAGE_OR_SOURCE, GroupedCommand, option
from sidelong.terminal import Terminal

__all__ = ["simulate"]


@click.command(
    cls=GroupedCommand,
    epilog=f"Exit status: 0 written, {USAGE_OR_SOURCE}.",
    short_help="Make up a cluster's traffic, attacks included.",
)
@option(
    "--to",
    heading="Output",
    metavar="DIR|FILE|-",
    required=True,
    help="A new folder for Parquet by hour; FILE.parquet; FILE.jsonl, .gz or .zst behind it, for "
    "Hubble's lines of JSON; - for these on standard output.",
)
@option("--pods", heading="Output", metavar="FILE", help="Write who held which address when.")
@option(
    "--labels", heading="Output", metavar="FILE", help="Write what was injected, by whom and when."
)
@option(
    "--declared",
    heading="Output",
    metavar="FILE",
    help='Write manifests of workloads and policies, JSON for "sidelong learn --declared".',
)
@option(
    "--workloads",
    heading="Cluster",
    metavar="N",
    type=click.IntRange(min=8, max=100_000),
    default=100,
    help="How many there are, infrastructure included.  [default: 100]",
)
@option(
    "--rate",
    heading="Cluster",
    metavar="N",
    type=click.FloatRange(min=0, min_open=True, max=10_000_000),
    default=1_000.0,
    help="Flows a second, averaged over a working day; more by day than by night.  [default: 1000]",
)
@option(
    "--seed",
    heading="Cluster",
    metavar="N",
    type=click.IntRange(min=0),
    default=1,
    help="The same seed gives the same bytes.  [default: 1]",
)
@option(
    "--start",
    heading="Time",
    metavar="TIME",
    help="When it begins.  [default: 2026-11-23T00:00:00Z, a Monday]",
)
@option(
    "--for",
    "duration",
    heading="Time",
    metavar="TIME",
    default="1h",
    help="For how long, in the time of the flows, such as 24h or 7d.  [default: 1h]",
)
@option(
    "--attack",
    "attacks",
    heading="Attacks",
    metavar="KIND@TIME",
    multiple=True,
    help="scan, slow-scan, dns-tunnel, lateral or flood, so long after the start, as scan@30m; "
    "KIND@TIME:N for N steps a second; may be repeated.",
)
def simulate(
    to: str,
    pods: str | None,
    labels: str | None,
    declared: str | None,
    workloads: int,
    rate: float,
    seed: int,
    start: str | None,
    duration: str,
    attacks: Sequence[str],
) -> int:
    """Make up the traffic of a cluster, as Hubble would tell it, ordinary or with attacks in it.

    Workloads call each other in layers, look names up along search paths, are rolled out, probed
    and scraped, fail now and then, and do more by day than by night. Nothing in it is real.

    \b
      sidelong simulate --to quiet.parquet --start 2026-11-23T09:00:00Z --for 30m
      sidelong simulate --to day --for 24h --rate 1400 --pods pods.json
      sidelong simulate --to - --for 10m --attack scan@5m | sidelong replay -
    """
    from sidelong.simulate import simulate

    return simulate(
        terminal=Terminal(),
        to=to,
        workloads=workloads,
        rate=rate,
        duration=duration,
        seed=seed,
        start=start,
        attacks=attacks,
        pods=pods,
        labels=labels,
        declared=declared,
    )
