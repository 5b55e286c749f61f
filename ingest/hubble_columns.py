"""What was read of Hubble's protobuf, in columns of numbers and text, to flows.

Both decoders of `hubble_protobuf` end here, so that what a field means is said once. The meaning
is that of `hubble_flows`: a message gives the row that its line of JSON would give.
"""

from datetime import UTC, datetime
from typing import Final

import polars as pl

from sidelong.ingest.hubble_endpoints import MALFORMED, EndpointTable
from sidelong.ingest.hubble_flows import (
    ADDRESS,
    EARLIEST,
    LATEST,
    MOST_COUNTED,
    dns_names,
    path_of,
)
from sidelong.ingest.hubble_names import DROP_REASONS, VERDICTS_BY_NUMBER
from sidelong.ingest.schema import PROTOCOLS, VERDICTS, schema_of

__all__ = [
    "FLOW_EVENT",
    "LAYER7_COLUMNS",
    "LOST_EVENT",
    "MESSAGE_COLUMNS",
    "NO_EVENT",
    "OTHER_EVENT",
    "OTHER_TRANSPORT",
    "TRANSPORTS",
    "faults_of",
    "rows_of",
]

NO_EVENT, FLOW_EVENT, LOST_EVENT, OTHER_EVENT = range(4)
"""What a message is: nothing known, a flow, a loss, something else that carries no flow."""

TRANSPORTS: Final = ("TCP", "UDP", "ICMPv4", "ICMPv6", "SCTP")
"""By their numbers in the message, from 1."""

OTHER_TRANSPORT: Final = len(TRANSPORTS) + 1

MESSAGE_COLUMNS: Final = schema_of(
    {
        "message": pl.UInt32,
        "event": pl.UInt8,
        "seconds": pl.Int64,
        "nanos": pl.Int32,
        "node": pl.String,
        "src_ip": pl.String,
        "dst_ip": pl.String,
        "encrypted": pl.Boolean,
        "transport": pl.UInt8,
        "src_port": pl.UInt32,
        "dst_port": pl.UInt32,
        "tcp_flags": pl.Int16,
        "source": pl.Int32,
        "destination": pl.Int32,
        "verdict": pl.UInt32,
        "drop_reason": pl.UInt32,
        "drop_reason_desc": pl.Int32,
        "is_reply": pl.Boolean,
        "reply": pl.Boolean,
        "uuid": pl.String,
        "event_type": pl.Int32,
        "sub_type": pl.Int32,
        "policy_name": pl.String,
        "policy_namespace": pl.String,
        "counted": pl.UInt64,
        "lost": pl.UInt64,
    }
)
"""One row per message that could be parsed, in order. Text is empty and numbers are 0 where the
message has none; `is_reply`, `tcp_flags`, `policy_name` and `lost` are null there. `source` and
`destination` are numbers of an EndpointTable; `transport` is 0 for none; the two types of event are
0 where there is a uuid, for then nobody needs them."""

LAYER7_COLUMNS: Final = schema_of(
    {
        "row": pl.UInt32,
        "type": pl.UInt32,
        "l7": pl.String,
        "query": pl.String,
        "qtype": pl.String,
        "rcode": pl.UInt32,
        "ips": pl.List(pl.String),
        "code": pl.UInt32,
        "method": pl.String,
        "url": pl.String,
    }
)
"""One row per message with a record of layer 7; `row` is its row in the columns above."""

_EARLIEST, _LATEST = (
    int(datetime(int(year), 1, 1, tzinfo=UTC).timestamp()) for year in (EARLIEST, LATEST)
)
_SECOND: Final = 1_000_000_000
_RESPONSE: Final = 2
_VERDICTS: Final = {int(number): name for number, name in VERDICTS_BY_NUMBER.items()}
_PROTOCOLS: Final = dict(enumerate(["TCP", "UDP", "ICMP", "ICMP", "SCTP", "OTHER"], 1))


def rows_of(messages: pl.DataFrame, layer7: pl.DataFrame, endpoints: EndpointTable) -> pl.DataFrame:
    """The flows and losses among `messages`, with what `flows_of` of hubble_flows wants and more.

    readable: false for what has a fault; see `faults_of`. message, uuid, event_type, sub_type: as
    in `MESSAGE_COLUMNS`, an empty uuid as null.
    """
    source, destination = messages["source"], messages["destination"]
    rows = messages.select(
        "message",
        "event",
        "event_type",
        "sub_type",
        "lost",
        "tcp_flags",
        "src_port",
        "dst_port",
        uuid=_text("uuid"),
        time=(pl.col("seconds") * _SECOND + pl.col("nanos")).cast(pl.Datetime("ns", "UTC")),
        node=_text("node"),
        src_ip=_text("src_ip"),
        dst_ip=_text("dst_ip"),
        encrypted=pl.when("encrypted").then(True),
        protocol=pl.col("transport").replace_strict(
            _PROTOCOLS, default=None, return_dtype=PROTOCOLS
        ),
        reply=pl.coalesce("is_reply", pl.when("reply").then(True)),
        verdict=pl.col("verdict").replace_strict(_VERDICTS, default=None, return_dtype=VERDICTS),
        drop_reason=_drop_reasons(messages),
        policy=pl.coalesce(
            _text("policy_namespace") + "/" + _text("policy_name"), _text("policy_name")
        ),
        count=pl.when(pl.col("counted") > 0).then(pl.col("counted").clip(upper_bound=MOST_COUNTED)),
        readable=_readable(),
    ).with_columns(
        _port("src_port"),
        _port("dst_port"),
        pl.col("tcp_flags").cast(pl.UInt8, strict=False),
        src=endpoints.workloads(source),
        dst=endpoints.workloads(destination),
        src_pod=endpoints.pods(source),
        dst_pod=endpoints.pods(destination),
    )
    if layer7.height:
        rows = (
            rows.with_row_index("row")
            .join(_layer7(layer7), on="row", how="left", maintain_order="left")
            .drop("row")
        )
    return rows


def faults_of(messages: pl.DataFrame, most: int) -> list[tuple[int, str]]:
    """The first `most` messages that are not readable: which, and why in a few words."""
    wrong = messages.filter(~_readable() & (pl.col("event") != OTHER_EVENT))
    return [(row["message"], _fault(row)) for row in wrong.head(most).iter_rows(named=True)]


def _fault(row: dict[str, object]) -> str:
    if row["event"] == NO_EVENT:
        return "no Hubble event"
    seconds = row["seconds"]
    if not seconds:
        return "it has no time"
    if not (isinstance(seconds, int) and _EARLIEST <= seconds < _LATEST):
        return f"its time is {seconds} s after 1970"
    for name in ("src_port", "dst_port"):
        port = row[name]
        if isinstance(port, int) and port >= 1 << 16:
            return f"its {name} is {port}"
    for name in ("source", "destination"):
        if row[name] == MALFORMED:
            return f"its {name} is no endpoint"
    if row["tcp_flags"] == MALFORMED:
        return "its flags are none"
    return f"its addresses are {_shown(row['src_ip'])} and {_shown(row['dst_ip'])}"


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _readable() -> pl.Expr:
    """Whether a row is a flow or a loss with a time, ports and addresses that can be."""
    return pl.all_horizontal(
        pl.col("event").is_in([FLOW_EVENT, LOST_EVENT]),
        pl.col("seconds").is_between(_EARLIEST, _LATEST, closed="left"),
        pl.col("nanos").is_between(0, _SECOND, closed="left"),
        pl.col("src_port") < 1 << 16,
        pl.col("dst_port") < 1 << 16,
        pl.col("source") != MALFORMED,
        pl.col("destination") != MALFORMED,
        (pl.col("tcp_flags") != MALFORMED).fill_null(True),
        *((pl.col(ip) == "") | pl.col(ip).str.contains(ADDRESS) for ip in ("src_ip", "dst_ip")),
    )


def _text(column: str) -> pl.Expr:
    """JSON leaves out what is empty; so it is null there, and here."""
    return pl.when(pl.col(column) != "").then(pl.col(column))


def _port(column: str) -> pl.Expr:
    """Port 0 is left out of JSON like any zero, and so is unknown there."""
    return pl.when(pl.col(column) != 0).then(pl.col(column).cast(pl.UInt16, strict=False))


def _drop_reasons(messages: pl.DataFrame) -> pl.Series:
    """Names where there are any; most batches have few reasons, and most rows none."""
    number = pl.coalesce(
        pl.when(pl.col("drop_reason_desc") != 0).then(pl.col("drop_reason_desc").cast(pl.Int64)),
        pl.when(pl.col("drop_reason") != 0).then(pl.col("drop_reason").cast(pl.Int64)),
    )
    numbers = messages.select(number).to_series()
    distinct = numbers.unique().drop_nulls()
    names = [DROP_REASONS.get(str(each), str(each)) for each in distinct]
    return numbers.replace_strict(
        distinct, pl.Series(names, dtype=pl.String), default=None, return_dtype=pl.String
    )


def _layer7(layer7: pl.DataFrame) -> pl.DataFrame:
    answer = (pl.col("type") == _RESPONSE) & (pl.col("l7") == "dns")
    addresses = pl.col("ips").list.eval(pl.element().filter(pl.element().str.contains(ADDRESS)))
    code = pl.col("code").cast(pl.UInt16, strict=False)
    return layer7.select(
        "row",
        "l7",
        dns_name=dns_names(layer7.select(_text("query")).to_series()),
        dns_type="qtype",
        dns_rcode=pl.when(answer).then(pl.col("rcode").cast(pl.UInt8, strict=False)),
        dns_answers=pl.when(answer).then(addresses.fill_null([])),
        method=_text("method"),
        path=path_of(_text("url")),
        status=pl.when(pl.col("code") != 0).then(code),
    )
