"""Flows that a source tells again after a restart, told from those that are new.

A source that resumes by time goes back a little, so as to miss nothing, and gives again what was
written already. It is told apart exactly: as a multiset of whole rows. What was written twice may
come twice and is dropped twice; the third is new.
"""

from collections.abc import Iterable
from typing import Final

import polars as pl

from sidelong.ingest.schema import empty_flows

__all__ = ["KnownRows"]

_KEYS: Final = ("__a", "__b")
_NO_KEYS: Final = pl.Schema({name: pl.UInt64() for name in _KEYS})


class KnownRows:
    """Drops rows that are among `known` (frames of `FLOW_SCHEMA`), each as often as it is there.

    until_ns: a batch that begins later than this is beyond all that could be told again; from then
    on nothing is looked up, and nothing is remembered.
    """

    def __init__(self, known: Iterable[pl.DataFrame], until_ns: int) -> None:
        self._until = until_ns
        keys = pl.concat([_NO_KEYS.to_frame(), *map(_keyed, known)])
        self._left = keys.group_by(_KEYS).agg(left=pl.len().cast(pl.Int64))
        self.dropped = 0

    @property
    def done(self) -> bool:
        """Whether nothing can be dropped any more."""
        return self._left.is_empty()

    def drop(self, flows: pl.DataFrame) -> pl.DataFrame:
        """The flows that are new, order kept."""
        if self.done or flows.is_empty():
            return flows
        begins = flows["time"].to_physical().min()
        if isinstance(begins, int) and begins > self._until:
            self._left = self._left.clear()
            return flows
        keyed = _keyed(flows)
        nth = keyed.select(*_KEYS, nth=pl.int_range(pl.len()).over(_KEYS))
        counted = nth.join(self._left, on=_KEYS, how="left", maintain_order="left")
        again = counted.select(pl.col("nth") < pl.col("left").fill_null(0)).to_series()
        if not again.any():
            return flows
        used = nth.filter(again).group_by(_KEYS).agg(used=pl.len().cast(pl.Int64))
        self._left = (
            self._left.join(used, on=_KEYS, how="left")
            .select(*_KEYS, left=pl.col("left") - pl.col("used").fill_null(0))
            .filter(pl.col("left") > 0)
        )
        self.dropped += int(again.sum())
        return flows.filter(~again)


def _keyed(flows: pl.DataFrame) -> pl.DataFrame:
    """128 bits for each row, of all that is in it."""
    if flows.is_empty():
        return _NO_KEYS.to_frame()
    # A list is no key. The separator cannot occur in an address.
    answers = pl.col("dns_answers").list.join("\n")
    plain = flows.select(empty_flows().columns).with_columns(
        dns_answers=pl.when(pl.col("dns_answers").is_not_null()).then(
            pl.format("{}:{}", pl.col("dns_answers").list.len(), answers)
        )
    )
    return pl.DataFrame({name: plain.hash_rows(seed) for seed, name in enumerate(_KEYS, 1)})
