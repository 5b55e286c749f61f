"""Evidence: what a detector holds against an actor, in one unit for all detectors.

Evidence is a log-likelihood ratio in micro-nats: an integer, so that sums do not depend on the
order or the cuts of a stream. A sum that crosses `ALERT` opens an incident: under ordinary traffic
it does so with probability at most e^-h = 1e-6 per unit of evidence (Wald; Lorden, 1971).
"""

from typing import Final

import polars as pl

from sidelong.ingest.schema import PROTOCOLS, schema_of

__all__ = [
    "ALERT",
    "EVIDENCE_SCHEMA",
    "INFO",
    "KINDS",
    "MICRO",
    "NO_EVIDENCE",
    "PARTS",
    "SILENCE_NS",
    "as_evidence",
    "crosses",
    "in_stream_order",
    "micro_nats",
]

MICRO: Final = 1_000_000


def micro_nats(nats: float) -> int:
    """A log-likelihood ratio as an integer."""
    return round(nats * MICRO)


ALERT: Final = 13_815_510
"""h = ln 1e6: from here up there is an incident."""

INFO: Final = 6_907_755
"""ln 1e3: worth listing, never worth waking anyone."""

SILENCE_NS: Final = 600_000_000_000
"""An incident without new evidence for ten minutes is over."""

KINDS: Final = pl.Enum(["scan", "dns_exfiltration", "lateral_movement", "anomaly"])

PARTS: Final = pl.List(
    pl.Struct(
        {
            "feature": pl.String,
            "observed": pl.String,
            "expected": pl.String,
            "log_evidence": pl.Int64,
        }
    )
)

EVIDENCE_SCHEMA: Final = schema_of(
    {
        "row": pl.UInt64,
        "sub": pl.UInt32,
        "time": pl.Datetime("ns", "UTC"),
        "kind": KINDS,
        "statistic": pl.String,
        "group": pl.UInt64,
        "actor": pl.String,
        "actor_pod": pl.String,
        "actor_ip": pl.String,
        "object": pl.String,
        "object_ip": pl.String,
        "port": pl.UInt16,
        "protocol": PROTOCOLS,
        "domain": pl.String,
        "reason": pl.String,
        "sample": pl.String,
        "bytes": pl.Int64,
        "log_evidence": pl.Int64,
        "level": pl.Int64,
        "onward": pl.Int64,
        "decisive": pl.Boolean,
        "parts": PARTS,
    }
)
"""One row of evidence.

row, sub: place in the stream of the row that brought it. time: the moment it speaks of. group: the
sum it belongs to; `level` is that sum afterwards, `log_evidence` the increment (both micro-nats).
decisive: whether the sum crossed `ALERT`, or twice, four times, ... `ALERT` again, on this row.
onward: what a new edge adds to a chain that it continues (micro-nats). statistic: which sum of the
detector. object, object_ip, port, domain: towards what. reason: the
outcome or property that counts. sample: a name or path as seen. bytes: of text carried away.
parts: how the increment is made up, where it is more than one thing.
"""


NO_EVIDENCE: Final = EVIDENCE_SCHEMA.to_frame()
"""What a detector returns most of the time."""


def crosses(level: pl.Expr, charge: pl.Expr, threshold: int = ALERT) -> pl.Expr:
    """Whether a sum that stands at `level` after `charge` crossed its threshold, or a doubling.

    A property of the row alone: to ask again at doublings lets a decision that was put off be taken
    later, without remembering that it was.
    """
    return (charge > 0) & (_doublings(level, threshold) > _doublings(level - charge, threshold))


def _doublings(level: pl.Expr, threshold: int) -> pl.Expr:
    return pl.when(level >= threshold).then((level / threshold).log(2).floor() + 1).otherwise(0)


def as_evidence(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows in `EVIDENCE_SCHEMA`; what a detector leaves out is null."""
    return rows.select(
        (pl.col(name) if name in rows.columns else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in EVIDENCE_SCHEMA.items()
    )


def in_stream_order(evidence: pl.DataFrame) -> pl.DataFrame:
    """Evidence in the order of the stream, `sub` counting what one row of it brought.

    A row may bring evidence against several actors, when silence is noticed at it: they go by name,
    and what concerns one of them stays as it was. So the order is the same whether all evidence was
    ordered at once, or by parts that each hold all of an actor's, and these together again.
    """
    return evidence.sort("row", "actor", maintain_order=True).with_columns(
        sub=pl.int_range(pl.len(), dtype=pl.UInt32).over("row")
    )
