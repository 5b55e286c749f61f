"""How first contacts end, and the rows that say so.

Outcomes are read from the events of either direction:

    ANSWERED    a SYN-ACK, data, any reply that is not a bare reset
    REFUSED     a reset, or an ICMP error that quotes the attempt
    DENIED      dropped by policy
    UNANSWERED  nothing bears a time within one second of the attempt; its moment is attempt + 1 s
    TAKEN_BACK  an answer came after all, and the UNANSWERED before it does not count

Probes without SYN (FIN, NULL, XMAS) and UDP can go unanswered too; a lone ACK or data segment
cannot, for it may belong to a connection that is older than the capture, yet a reset or an ICMP
error that it provokes counts.
"""

from typing import Final

import polars as pl

from sidelong.ingest.schema import PROTOCOLS, schema_of

__all__ = [
    "NO_ANSWER_NS",
    "NO_OUTCOMES",
    "OUTCOMES",
    "OUTCOME_SCHEMA",
    "WAITING_SCHEMA",
    "decided_at",
    "ordered",
    "silences",
]

NO_ANSWER_NS: Final = 1_000_000_000
"""How long an attempt waits for its answer before it counts as UNANSWERED."""

OUTCOMES: Final = pl.Enum(["ANSWERED", "REFUSED", "DENIED", "UNANSWERED", "TAKEN_BACK"])
OUTCOME_SCHEMA: Final = schema_of(
    {
        "row": pl.UInt64,
        "sub": pl.UInt8,
        "time": pl.Datetime("ns", "UTC"),
        "actor": pl.String,
        "actor_pod": pl.String,
        "actor_ip": pl.String,
        "peer": pl.String,
        "object": pl.String,
        "object_ip": pl.String,
        "port": pl.UInt16,
        "protocol": PROTOCOLS,
        "stealth": pl.Boolean,
        "outcome": OUTCOMES,
        "missing": pl.Int64,
        "key": pl.UInt64,
    }
)
"""One row per outcome, in the order of the rows that decided them (`row`, then `sub`).

`object` is the peer when it is a workload or a domain, else its address; `stealth` marks probes
without SYN; `missing` is how many in a million events were lost while an UNANSWERED attempt waited,
0 for others; `key` is the contact's, as `contact_keys` computes it.
"""

_DECIDED: Final = ("outcome", "missing")  # what an attempt has not got yet

NO_OUTCOMES: Final = OUTCOME_SCHEMA.to_frame()
"""What `Contacts.observe` returns once a stream is well known."""

WAITING_SCHEMA: Final = schema_of(
    {
        **{name: OUTCOME_SCHEMA[name] for name in OUTCOME_SCHEMA if name not in _DECIDED},
        "due": pl.Int64,
        "lost": pl.UInt64,
    }
)
"""Attempts without an outcome yet; `due` (ns) is the moment from which they are UNANSWERED, `lost`
how many events of the stream had been lost when they came."""


def decided_at(
    rows: pl.DataFrame,
    at: pl.Series,
    keys: pl.Series,
    outcome: pl.Series | pl.Expr,
    stealth: pl.Series | None = None,
) -> pl.DataFrame:
    """Outcomes decided by the rows at the places `at`.

    stealth: whether the attempt was a stealth probe; None to go by the deciding row.
    """
    decided = rows[at.cast(pl.UInt32)]
    return decided.with_columns(
        key=keys,
        outcome=outcome,
        missing=pl.lit(0, pl.Int64),
        sub=pl.lit(1, pl.UInt8),
        stealth=decided["stealth"] if stealth is None else stealth,
    ).select(OUTCOME_SCHEMA.names())


def silences(waiting: pl.DataFrame, rows: pl.Series, lost: pl.Series) -> pl.DataFrame:
    """UNANSWERED outcomes of `WAITING_SCHEMA` whose second has passed, noticed at `rows`.

    lost: how many events of the stream had been lost by then.
    """
    gone = lost.cast(pl.Int64) - waiting["lost"].cast(pl.Int64)
    came = rows.cast(pl.Int64) - waiting["row"].cast(pl.Int64)
    return waiting.with_columns(
        row=rows,
        sub=pl.lit(0, pl.UInt8),
        missing=gone * 1_000_000 // (gone + came),
        time=pl.col("due").cast(OUTCOME_SCHEMA["time"]),
        outcome=pl.lit("UNANSWERED", OUTCOMES),
    ).select(OUTCOME_SCHEMA.names())


def ordered(outcomes: pl.DataFrame) -> pl.DataFrame:
    """The outcomes in an order that no batch can change."""
    return outcomes.select(OUTCOME_SCHEMA.names()).sort("row", "sub", "time", "key")
