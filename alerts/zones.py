"""The zone below a registered domain that a set of names shares: where a tunnel really ends.

The common suffix of many names is the common prefix of the smallest and the largest of them once
their labels are reversed, so two strings per domain remember it, however many names there were.
"""

from dataclasses import dataclass, field
from typing import Any

import polars as pl

__all__ = ["Zones"]


@dataclass(slots=True)
class Zones:
    """Per registered domain, the smallest and the largest name, labels reversed."""

    extremes: dict[str, tuple[str, str]] = field(default_factory=dict)

    def add(self, names: pl.DataFrame) -> None:
        """Take in rows with `domain` and `sample`, the name asked; others are passed over."""
        reversed_name = pl.col("sample").str.split(".").list.reverse().list.join(".")
        found = (
            names.drop_nulls(["domain", "sample"])
            .group_by("domain", maintain_order=True)
            .agg(low=reversed_name.min(), high=reversed_name.max())
        )
        for domain, low, high in found.iter_rows():
            before = self.extremes.get(domain, (low, high))
            self.extremes[domain] = (min(low, before[0]), max(high, before[1]))

    def of(self, domain: str) -> str:
        """The zone that all names under `domain` share; the domain itself while there is but one.

        >>> zones = Zones()
        >>> zones.add(pl.DataFrame({"domain": ["a.org"] * 2, "sample": ["x.t.a.org", "y.t.a.org"]}))
        >>> zones.of("a.org")
        't.a.org'
        """
        low, high = self.extremes.get(domain, (domain, domain))
        shared = []
        for one, other in zip(low.split("."), high.split("."), strict=False):
            if one != other:
                break
            shared.append(one)
        zone = ".".join(reversed(shared))
        return zone if low != high and zone.endswith(domain) else domain

    def snapshot(self) -> dict[str, Any]:
        """The names as a value."""
        return dict(self.extremes)
