"""The options of `sidelong policy`."""

from collections.abc import Sequence

import click

from sidelong.help import USAGE_OR_SOURCE, GroupedCommand, option
from sidelong.terminal import Terminal

__all__ = ["policy"]


@click.command(
    cls=GroupedCommand,
    epilog=f"Exit status: 0 a policy that breaks nothing of the baseline, 1 one that does or none, "
    f"{USAGE_OR_SOURCE}.",
    short_help="Write the network policy that a workload or an incident needs.",
)
@click.argument("workload", metavar="[NAMESPACE/WORKLOAD]", required=False)
@option(
    "--baseline",
    heading="Input",
    metavar="DIR",
    required=True,
    help='Ordinary traffic, as saved by "sidelong learn".',
)
@option(
    "--incidents",
    heading="Input",
    metavar="FILE",
    help="What replay --output json printed; tells which of them the policy would have blocked.",
)
@option(
    "--incident",
    heading="Input",
    metavar="ID",
    help="Write the smallest policy against this one of --incidents instead.",
)
@option(
    "--manifests",
    heading="Input",
    metavar="FILE",
    help='Labels of pods, from "kubectl get deploy,sts,ds,cronjob -A -o json".',
)
@option(
    "--config",
    heading="Input",
    metavar="FILE",
    help="Settings, as TOML: section [policy] in docs/configuration.md.",
)
@option(
    "--kind",
    heading="Policy",
    type=click.Choice(("cilium", "kubernetes", "istio")),
    help="CiliumNetworkPolicy, NetworkPolicy or AuthorizationPolicy.  [default: cilium]",
)
@option(
    "--label",
    heading="Policy",
    metavar="KEY",
    help="The label whose value is the name of the workload, where no manifests tell.  "
    "[default: app.kubernetes.io/name]",
)
@option(
    "--nodes",
    heading="Policy",
    metavar="CIDR",
    multiple=True,
    help="Network of the nodes, which NetworkPolicy has no word for; may be repeated.",
)
@option(
    "--audit",
    heading="Policy",
    is_flag=True,
    help="One that denies nothing yet, so that it can be watched first.",
)
def policy(
    workload: str | None,
    baseline: str,
    incidents: str | None,
    incident: str | None,
    manifests: str | None,
    config: str | None,
    kind: str | None,
    label: str | None,
    nodes: Sequence[str],
    audit: bool,
) -> int:
    """Write the least that a workload needs as a network policy, or what stops an incident.

    YAML goes to standard output and nothing else does. Standard error tells what of the baseline
    the policy was tried on, what it would break, and which incidents it would have blocked.

    \b
      sidelong policy shop/orders --baseline shop.baseline > orders.yaml
      sidelong policy shop/orders --baseline shop.baseline --audit | kubectl apply -f -
      sidelong replay tuesday.pcap --baseline shop.baseline --output json > found.jsonl
      sidelong policy --incident 24c76a1b2bf4f662 --incidents found.jsonl --baseline shop.baseline
    """
    from sidelong.policy import policy

    return policy(
        workload,
        terminal=Terminal(),
        baseline=baseline,
        incidents=incidents,
        incident=incident,
        manifests=manifests,
        config=config,
        kind=kind,
        label=label,
        nodes=tuple(nodes),
        audit=audit,
    )
