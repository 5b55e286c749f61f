"""The options by which commands that read flows agree: what the input is, who is who, settings."""

from typing import Final

import click

from sidelong.help import option

__all__ = ["CONFIG", "FORMAT", "FORMATS", "INPUTS", "PODS"]

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
    type=click.Choice(FORMATS),
    help="What INPUT is.  [default: from its first bytes]",
)
PODS = option(
    "--pods",
    heading="Input",
    metavar="FILE",
    help="Who held which address, for captures that know addresses only: "
    'JSON as {"name": {"ip", "namespace", "workload"}}, or from "kubectl get pods -A -o json".',
)
CONFIG = option(
    "--config",
    heading="Input",
    metavar="FILE",
    help="Settings of sources, as TOML: see docs/configuration.md.",
)
