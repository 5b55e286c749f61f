"""The flow: one observed event, or a summary of at most one second of one directed 5-tuple.

Every source decodes to frames of `FLOW_SCHEMA`, columns in this order. A null means "this source
cannot see it", never zero. `conform` is the only place that fills in what a source leaves out.
"""

from collections.abc import Mapping
from typing import Final

import polars as pl
from polars.datatypes import DataTypeClass

__all__ = [
    "FLOW_SCHEMA",
    "LINE",
    "MOST_ANSWERS",
    "PROTOCOLS",
    "TCP_FLAGS",
    "VERDICTS",
    "conform",
    "empty_flows",
    "line_of",
    "schema_of",
]

PROTOCOLS: Final = pl.Enum(["TCP", "UDP", "ICMP", "SCTP", "OTHER"])
VERDICTS: Final = pl.Enum(["FORWARDED", "DROPPED", "ERROR", "AUDIT", "REDIRECTED", "TRANSLATED"])

TCP_FLAGS: Final = {
    "FIN": 0x01,
    "SYN": 0x02,
    "RST": 0x04,
    "PSH": 0x08,
    "ACK": 0x10,
    "URG": 0x20,
    "ECE": 0x40,
    "CWR": 0x80,
}

MOST_ANSWERS: Final = 16
"""How many addresses of one DNS answer are kept."""

LINE: Final = "__line"
"""A column beside the schema, where it was asked for: the number of the line a flow comes from."""

_TIME: Final = pl.Datetime("ns", "UTC")


def schema_of(columns: Mapping[str, pl.DataType | DataTypeClass]) -> pl.Schema:
    """A schema from column names and types; says what mypy cannot infer of such a mapping."""
    return pl.Schema(dict(columns))


FLOW_SCHEMA: Final = schema_of(
    {
        "time": _TIME,
        "end": _TIME,
        "src_ip": pl.String,
        "dst_ip": pl.String,
        "src_port": pl.UInt16,
        "dst_port": pl.UInt16,
        "protocol": PROTOCOLS,
        "src": pl.String,
        "dst": pl.String,
        "src_pod": pl.String,
        "dst_pod": pl.String,
        "src_principal": pl.String,
        "dst_principal": pl.String,
        "reply": pl.Boolean,
        "verdict": VERDICTS,
        "drop_reason": pl.String,
        "policy": pl.String,
        "tcp_flags": pl.UInt8,
        "packets": pl.UInt64,
        "bytes": pl.UInt64,
        "dns_name": pl.String,
        "dns_type": pl.String,
        "dns_rcode": pl.UInt8,
        "dns_answer_bytes": pl.UInt32,
        "dns_answers": pl.List(pl.String),
        "method": pl.String,
        "path": pl.String,
        "status": pl.UInt16,
        "l7": pl.String,
        "encrypted": pl.Boolean,
        "count": pl.UInt32,
        "origin": pl.String,
        "node": pl.String,
        "lost": pl.UInt64,
    }
)
"""Column names and types of a flow, in order; docs and meaning in design section 4.

Conventions beyond the names:

- `dns_name` is lower case, without the trailing dot; bytes outside printable ASCII are written
  `\\ddd` as in RFC 4343. `dns_answer_bytes` counts RDATA bytes; null on queries.
- `dns_answers` are the addresses that an answer gave, the first `MOST_ANSWERS` of them; an empty
  list where it gave none, null on queries and where the source cannot see. Of a message with
  several questions the row of the first has them, whichever they belong to.
- An ICMP "unreachable" that quotes a TCP or UDP header is reported as a row of the *quoted* flow,
  travelling back: src and dst swapped against the quoted header, `reply` true, verdict ERROR,
  `drop_reason` starting with `ICMP_`. `tcp_flags` is null there.
- A row that only reports lost events has `lost` set and null addresses; its `time` is the moment
  of the report.
- `origin` is the kind of source, and after a colon which end of a connection it stands at where
  both may report: `hubble`, `envoy:outbound` for the proxy of the client, `envoy:inbound` for that
  of the server.
- A row of `count` 0 adds what another observer knows of an event that is already counted.
- Addresses are text in the form of RFC 5952. `tcp_flags` is null where unseen, 0 where none was
  set.
"""


def empty_flows() -> pl.DataFrame:
    """A frame of no flows."""
    return FLOW_SCHEMA.to_frame()


def conform(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with exactly the columns of `FLOW_SCHEMA`, in order; missing ones become null.

    Behind them is `LINE`, where the frame has it. `end` defaults to `time`, `count` to 1; of
    `dns_answers` no more than allowed are kept. Values that do not fit a column raise polars'
    InvalidOperationError: a decoder must not produce them.
    """
    have = frame.columns
    columns = [
        (pl.col(name) if name in have else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in FLOW_SCHEMA.items()
    ]
    return frame.select(*columns, *line_of(frame)).with_columns(
        pl.col("end").fill_null(pl.col("time")),
        pl.col("count").fill_null(1),
        pl.col("dns_answers").list.head(MOST_ANSWERS),
    )


def line_of(frame: pl.DataFrame) -> tuple[str, ...]:
    """`LINE`, if the frame has it: what a selection keeps beside the columns it names."""
    return (LINE,) if LINE in frame.columns else ()
