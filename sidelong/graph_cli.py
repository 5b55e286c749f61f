"""The options of `sidelong graph`."""

from collections.abc import Sequence

import click

from sidelong.help import USAGE_OR_SOURCE, GroupedCommand, option
from sidelong.input_options import CONFIG, FORMATS, KUBERNETES, PODS
from sidelong.terminal import Terminal

__all__ = ["graph"]


@click.command(
    cls=GroupedCommand,
    epilog=f"Exit status: 0 there is a graph, {USAGE_OR_SOURCE}.",
    short_help="Draw who talks to whom: what is known, new, denied, strange.",
)
@click.argument("inputs", metavar="[INPUT...]", nargs=-1)
@option(
    "--input-format",
    heading="Input",
    metavar="NAME",
    type=click.Choice(FORMATS),
    help="What INPUT is, as --format of replay.  [default: from its first bytes]",
)
@PODS
@KUBERNETES
@CONFIG
@option(
    "--baseline",
    heading="Input",
    metavar="DIR",
    help='Ordinary traffic, as saved by "sidelong learn". Alone it is drawn itself; with INPUT it '
    "says what is new.",
)
@option(
    "--around",
    heading="Graph",
    metavar="WORKLOAD",
    multiple=True,
    help="Only what this workload calls and is called by; may be repeated.",
)
@option(
    "--hops",
    heading="Graph",
    metavar="N",
    type=click.IntRange(1, 6),
    default=1,
    help="How far around it.  [default: 1]",
)
@option(
    "--most",
    heading="Graph",
    metavar="N",
    type=click.IntRange(min=1),
    help="Fold the least telling workloads into one for all beyond N.  [default: 60; for graphml "
    "and json none are folded]",
)
@option(
    "--format",
    "drawn_as",
    heading="Output",
    type=click.Choice(("text", "dot", "graphml", "json", "mermaid", "svg")),
    help="A tree of lines, Graphviz, XML for yEd, Gephi or networkx, node-link JSON, Mermaid for "
    "Markdown, or a drawing.  [default: by the name of --output-file, else text]",
)
@option(
    "--output-file",
    heading="Output",
    metavar="FILE",
    help="Write there, at once and whole, instead of to standard output.",
)
def graph(
    inputs: Sequence[str],
    input_format: str | None,
    pods: str | None,
    kubernetes: bool,
    config: str | None,
    baseline: str | None,
    around: Sequence[str],
    hops: int,
    most: int | None,
    drawn_as: str | None,
    output_file: str | None,
) -> int:
    """Draw who talks to whom, in traffic, in a baseline, or what of the one is new to the other.

    INPUT is anything that replay takes. What it finds is found here as well: edges that are the
    object of an incident are marked strange.

    \b
      sidelong graph --baseline shop.baseline
      sidelong graph tuesday.hubble.jsonl.zst --baseline shop.baseline --around shop/orders
      sidelong graph tuesday.pcap --pods pods.json --output-file tuesday.svg
      sidelong graph --baseline shop.baseline --format dot | dot -Tpdf > shop.pdf
    """
    from sidelong.graph import graph

    return graph(
        inputs,
        terminal=Terminal(),
        input_format=input_format,
        pods=pods,
        kubernetes=kubernetes,
        config=config,
        baseline=baseline,
        around=around,
        hops=hops,
        most=most,
        drawn_as=drawn_as,
        output_file=output_file,
    )
