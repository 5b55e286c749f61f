"""Records of whole requests and connections as the flows that decide: the attempt, the answer.

Access logs, flow collectors and Zeek write one record when a request or a connection has ended.
What detectors judge is how it began and how it was answered, so each record becomes two rows: the
attempt, travelling from the client, and the answer, travelling back, if there was any.
"""

from typing import Final

import polars as pl

from sidelong.ingest.schema import FLOW_SCHEMA, TCP_FLAGS, conform, line_of, schema_of

__all__ = ["EXCHANGE_SCHEMA", "OUTCOMES", "exchange_flows"]

OUTCOMES: Final = pl.Enum(["ANSWERED", "REFUSED", "UNANSWERED", "DENIED"])

_LATEST_ANSWER: Final = pl.duration(milliseconds=100, time_unit="ns")
_SYN, _ACK, _RST = (TCP_FLAGS[name] for name in ("SYN", "ACK", "RST"))
_BOTH: Final = (
    *("protocol", "dns_name", "dns_type", "method", "path", "l7", "policy", "encrypted"),
    *("count", "origin", "node"),
)
_ENDS: Final = ("ip", "port", "pod", "principal")

EXCHANGE_SCHEMA: Final = schema_of(
    {
        "time": FLOW_SCHEMA["time"],
        "end": FLOW_SCHEMA["end"],
        "answer_time": FLOW_SCHEMA["time"],
        "outcome": OUTCOMES,
        **{
            name if column is None else f"{name}_{column}": FLOW_SCHEMA[
                "src" if column is None else f"src_{column}"
            ]
            for name in ("client", "server")
            for column in (None, *_ENDS)
        },
        "flags_sent": pl.UInt8,
        "flags_received": pl.UInt8,
        "bytes_sent": pl.UInt64,
        "bytes_received": pl.UInt64,
        "packets_sent": pl.UInt64,
        "packets_received": pl.UInt64,
        **{name: FLOW_SCHEMA[name] for name in _BOTH},
        **{name: FLOW_SCHEMA[name] for name in ("status", "drop_reason", "lost")},
        **{name: FLOW_SCHEMA[name] for name in ("dns_rcode", "dns_answer_bytes", "dns_answers")},
    }
)
"""One request or connection, as its client would tell it; every column but `time` may be missing.

- `client`, `server` are identities; beside each its address, port, pod and principal.
- `sent` is from the client to the server, `received` the other way.
- `outcome`: ANSWERED by the server; REFUSED by a reset; UNANSWERED, the server never spoke; DENIED
  by a policy, whatever the client was told. Null counts as ANSWERED.
- `answer_time`: when the answer came. Left open it is `end` where there is a status or a DNS
  answer, and else at most 100 ms after `time`: a log tells how long a connection was, not how long
  the first answer took.
- `flags_sent`, `flags_received`: TCP flags. Left open they are those of a handshake, and null
  above TCP, where `l7` is known: a request says nothing of how its connection was opened.
"""


def exchange_flows(records: pl.DataFrame) -> pl.DataFrame:
    """Flows in `FLOW_SCHEMA`: for each record in turn its attempt, then its answer if there is one.

    Takes columns of `EXCHANGE_SCHEMA`; those that are missing count as null.
    """
    have = records.columns
    exchanges = records.select(
        *(
            (pl.col(name) if name in have else pl.lit(None)).cast(dtype).alias(name)
            for name, dtype in EXCHANGE_SCHEMA.items()
        ),
        *line_of(records),
    ).with_columns(
        pl.col("outcome").fill_null("ANSWERED"),
        pl.col("end").fill_null(pl.col("time")),
        below_l7=(pl.col("protocol") == "TCP") & pl.col("l7").is_null(),
    )
    attempts = _attempts(exchanges).with_row_index("exchange")
    answers = _answers(exchanges.with_row_index("exchange"))
    rows = pl.concat([attempts, answers], how="diagonal").sort("exchange", maintain_order=True)
    return conform(rows)


def _attempts(exchanges: pl.DataFrame) -> pl.DataFrame:
    denied = pl.col("outcome") == "DENIED"
    return exchanges.select(
        "time",
        "end",
        *_ends(src="client", dst="server"),
        *_BOTH,
        *line_of(exchanges),
        "lost",
        reply=pl.lit(False),
        verdict=pl.when(denied).then(pl.lit("DROPPED")).otherwise(pl.lit("FORWARDED")),
        drop_reason=pl.when(denied).then(pl.col("drop_reason").fill_null("POLICY_DENIED")),
        tcp_flags=pl.coalesce("flags_sent", pl.when("below_l7").then(pl.lit(_SYN, pl.UInt8))),
        packets="packets_sent",
        bytes="bytes_sent",
    )


def _answers(exchanges: pl.DataFrame) -> pl.DataFrame:
    refused = pl.col("outcome") == "REFUSED"
    spoken = (
        pl.col("outcome").is_in(["ANSWERED", "REFUSED"])
        | pl.col("status").is_not_null()
        | pl.col("dns_rcode").is_not_null()
    )
    flags = pl.when(refused).then(pl.lit(_RST | _ACK, pl.UInt8)).otherwise(_SYN | _ACK)
    soon = pl.min_horizontal("end", pl.col("time") + _LATEST_ANSWER)
    told = pl.col("status").is_not_null() | pl.col("dns_rcode").is_not_null()
    return exchanges.filter(spoken).select(
        "exchange",
        *_ends(src="server", dst="client"),
        *_BOTH,
        *line_of(exchanges),
        "status",
        "dns_rcode",
        "dns_answer_bytes",
        "dns_answers",
        time=pl.coalesce("answer_time", pl.when(told).then("end").otherwise(soon)),
        end=pl.max_horizontal("end", "answer_time"),
        reply=pl.lit(True),
        verdict=pl.lit("FORWARDED"),
        tcp_flags=pl.coalesce("flags_received", pl.when("below_l7").then(flags)),
        packets="packets_received",
        bytes="bytes_received",
    )


def _ends(*, src: str, dst: str) -> list[pl.Expr]:
    return [
        pl.col(from_).alias(to)
        for here, there in ((src, "src"), (dst, "dst"))
        for from_, to in ((here, there), *((f"{here}_{x}", f"{there}_{x}") for x in _ENDS))
    ]
