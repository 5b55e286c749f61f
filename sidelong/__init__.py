"""sidelong: watches east-west traffic and explains, in one sentence, what looks wrong."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidelong.case import Case
    from sidelong.case_opening import Name, Settings
    from sidelong.models.baseline import Baseline

__all__ = ["__version__", "open"]

__version__ = "0.1.0"


def open(
    inputs: "Name | Iterable[Name]",
    *,
    baseline: "Name | Baseline | None" = None,
    pods: "Name | None" = None,
    config: "Settings" = None,
    format: str | None = None,
    kubernetes: bool = False,
    flows: "Name | Iterable[Name] | None" = None,
) -> "Case":
    """Open traffic, a bundle, or incidents told elsewhere, as a case to investigate.

    inputs: what `sidelong replay` takes: captures, folders, globs, `kafka://HOST:PORT/flows.raw`;
    it is replayed once. Or a bundle, which is read as it is. Or incidents: what `replay --output
    json` printed, `kafka://HOST:PORT/alerts`, or the TOML file of a service; then `flows` names
    the traffic that they were found in, if it is at hand. baseline: as saved by `sidelong learn`.
    pods: who held which address. config: a TOML file, or settings by section. Errors: ConfigError,
    SourceError.

    >>> case = open("examples/shop-incident/test.hubble.jsonl.zst")
    >>> [incident.kind for incident in case.incidents]
    ['scan', 'dns_exfiltration', 'dns_exfiltration']
    """
    from sidelong.case_opening import open_case  # polars and all: not for who asks the version

    return open_case(
        inputs,
        baseline=baseline,
        pods=pods,
        config=config,
        format=format,
        kubernetes=kubernetes,
        flows=flows,
    )
