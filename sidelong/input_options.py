"""The options by which commands that read flows agree: what the input is, who is who, settings."""

from typing import Final

import click

from sidelong.help import option

__all__ = ["CONFIG", "FORMAT", "FORMATS", "INPUTS", "KUBERNETES", "PODS"]

FORMATS: Final = (
    "hubble",
    "pcap",
    "parquet",
    "otlp-json",
    "zeek",
    "netobserv",
    "goflow2",
    "nfdump",
    "vpc",
    "csv",
    "envoy",
    "envoy-json",
    "linkerd",
    "linkerd-json",
    "ztunnel",
    "ztunnel-json",
)
"""What `--format` takes."""

INPUTS = click.argument("inputs", metavar="INPUT...", nargs=-1, required=True)
FORMAT = option(
    "--format",
    heading="Input",
    metavar="NAME",
    type=click.Choice(FORMATS),
    help=f"What INPUT is: {', '.join(FORMATS[:-1])} or {FORMATS[-1]}.  "
    "[default: from its first bytes]",
)
PODS = option(
    "--pods",
    heading="Input",
    metavar="FILE",
    help="Who held which address, for captures that know addresses only: "
    'JSON as {"name": {"ip", "namespace", "workload"}}, or from '
    '"kubectl get pods,services,endpointslices -A -o json".',
)
KUBERNETES = option(
    "--kubernetes",
    heading="Input",
    is_flag=True,
    help="Ask Kubernetes who holds which address, and go on watching it: see docs/kubernetes.md.",
)
CONFIG = option(
    "--config",
    heading="Input",
    metavar="FILE",
    help="Settings of sources, as TOML: see docs/configuration.md.",
)
