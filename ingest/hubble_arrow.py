"""Hubble's protobuf, a batch at a time, to columns: the way of ptars, in the extra `fast`."""

from collections.abc import Sequence
from typing import Final

import polars as pl

from sidelong.ingest.hubble_columns import (
    FLOW_EVENT,
    LAYER7_COLUMNS,
    LOST_EVENT,
    MESSAGE_COLUMNS,
    NO_EVENT,
    OTHER_EVENT,
    OTHER_TRANSPORT,
    TRANSPORTS,
)
from sidelong.ingest.hubble_endpoints import EndpointTable, FlagTable
from sidelong.ingest.hubble_messages import GRPC, Messages, NodeStatus
from sidelong.ingest.hubble_pb2 import DESCRIPTOR, GetFlowsResponse

__all__ = ["ArrowReader"]

_POLICIES: Final = (
    "ingress_denied_by",
    "egress_denied_by",
    "ingress_allowed_by",
    "egress_allowed_by",
)


class ArrowReader:
    """Reads whole batches; a message that cannot be parsed is a ValueError for its batch."""

    def __init__(self, endpoints: EndpointTable, flags: FlagTable) -> None:
        self._endpoints = endpoints
        self._flags = flags
        from ptars import HandlerPool  # the extra

        self._handler = HandlerPool([DESCRIPTOR]).get_for_message(GetFlowsResponse.DESCRIPTOR)

    def read(self, messages: Sequence[bytes]) -> Messages:
        """The batch in columns. Errors: ValueError."""
        events = pl.DataFrame(self._handler.list_to_record_batch(list(messages)))
        # A part that is missing is null all the way down, whatever its fields may be.
        flow = pl.col("flow").struct
        names = ("IP", "l4", "source", "destination", "is_reply", "aggregate", "l7")
        parts = events.select(*(flow.field(name) for name in names))
        _refuse_merged(events, parts)
        rows = events.select(
            message=pl.int_range(pl.len()),
            event=_event(),
            node=_first(pl.col("node_name"), flow.field("node_name")),
            verdict=flow.field("verdict"),
            drop_reason=flow.field("drop_reason"),
            drop_reason_desc=flow.field("drop_reason_desc"),
            reply=flow.field("reply"),
            uuid=flow.field("uuid"),
            lost=pl.col("lost_events").struct.field("num_events_lost"),
            **_time(),
            **_policy(),
            **_event_type(),
        ).with_columns(
            source=self._endpoints.numbers_of(parts["source"]),
            destination=self._endpoints.numbers_of(parts["destination"]),
            **_addresses(parts["IP"]),
            **_transport(parts["l4"], self._flags),
            **_rest(parts),
        )
        filled = rows.select(_filled(name, dtype) for name, dtype in MESSAGE_COLUMNS.items())
        statuses = events["node_status"].drop_nulls().to_list()
        return Messages(
            filled,
            _layer7(parts["l7"]),
            (),
            tuple(
                NodeStatus.of(each["state_change"], each["node_names"], each["message"])
                for each in statuses
            ),
            int((filled["event"] == OTHER_EVENT).sum()),
        )


def _refuse_merged(events: pl.DataFrame, parts: pl.DataFrame) -> None:
    """Of one choice several made, protobuf takes the last; here it is no longer known which."""
    choices = (
        events.select("flow", "node_status", "lost_events", "agent_event", "debug_event"),
        parts["l4"].struct.unnest(),
        parts["l7"].struct.unnest().select("dns", "http", "kafka"),
    )
    for choice in choices:
        made = choice.select(pl.sum_horizontal(pl.all().is_not_null())).to_series()
        if (made > 1).any():
            raise ValueError("of one choice several were made")


_NULLABLE: Final = ("tcp_flags", "is_reply", "lost")


def _filled(name: str, dtype: pl.DataType) -> pl.Expr:
    column = pl.col(name).cast(dtype)
    if name in _NULLABLE:
        return column
    return column.fill_null("" if dtype == pl.String else False if dtype == pl.Boolean else 0)


def _event() -> pl.Expr:
    others = ("node_status", "agent_event", "debug_event")
    return (
        pl.when(pl.col("flow").is_not_null())
        .then(FLOW_EVENT)
        .when(pl.col("lost_events").is_not_null())
        .then(LOST_EVENT)
        .when(pl.any_horizontal(pl.col(name).is_not_null() for name in others))
        .then(OTHER_EVENT)
        .otherwise(NO_EVENT)
    )


def _first(*texts: pl.Expr) -> pl.Expr:
    """The first that is not empty."""
    return pl.coalesce(pl.when(text != "").then(text) for text in texts)


def _time() -> dict[str, pl.Expr]:
    """That of the flow, or where it has none, of the envelope."""
    inner, outer = pl.col("flow").struct.field("time").struct, pl.col("time").struct
    inside = inner.field("seconds").fill_null(0) != 0
    return {
        name: pl.when(inside).then(inner.field(name)).otherwise(outer.field(name))
        for name in ("seconds", "nanos")
    }


def _event_type() -> dict[str, pl.Expr]:
    """Of flows without a uuid."""
    flow = pl.col("flow").struct
    kind = pl.when(flow.field("uuid") == "").then(flow.field("event_type")).struct
    return {"event_type": kind.field("type"), "sub_type": kind.field("sub_type")}


def _policy() -> dict[str, pl.Expr]:
    """Name and namespace of the first that denied, else of the first that allowed."""
    lists = (pl.col("flow").struct.field(name).list for name in _POLICIES)
    firsts = [each.get(0, null_on_oob=True) for each in lists]
    named = [pl.when(first.struct.field("name") != "").then(first) for first in firsts]
    chosen = pl.coalesce(named).struct
    return {f"policy_{part}": chosen.field(part) for part in ("name", "namespace")}


def _addresses(ip: pl.Series) -> dict[str, pl.Series]:
    return {
        "src_ip": ip.struct.field("source"),
        "dst_ip": ip.struct.field("destination"),
        "encrypted": ip.struct.field("encrypted"),
    }


def _transport(l4: pl.Series, flags: FlagTable) -> dict[str, pl.Series]:
    transports = l4.struct.unnest()
    number = pl.coalesce(
        pl.when(pl.col(name).is_not_null()).then(each) for each, name in enumerate(TRANSPORTS, 1)
    )
    columns = transports.select(
        number.alias("transport"),
        *(
            pl.coalesce(
                pl.col(name).struct.field(f"{end}_port") for name in ("TCP", "UDP", "SCTP")
            ).alias(f"{short}_port")
            for end, short in (("source", "src"), ("destination", "dst"))
        ),
    )
    found = {column.name: column for column in columns}
    other = pl.select(pl.when(l4.is_not_null()).then(OTHER_TRANSPORT)).to_series()
    found["transport"] = found["transport"].fill_null(other)
    found["tcp_flags"] = flags.bits_of(transports["TCP"].struct.field("flags"))
    return found


def _rest(parts: pl.DataFrame) -> dict[str, pl.Series]:
    sums = parts["aggregate"].struct.unnest()
    return {
        "is_reply": parts["is_reply"].struct.field("value"),
        "counted": sums.select(pl.sum_horizontal(pl.all().cast(pl.UInt64))).to_series(),
    }


def _layer7(l7: pl.Series) -> pl.DataFrame:
    there = l7.is_not_null()
    if not there.any():
        return LAYER7_COLUMNS.to_frame()
    record = l7.filter(there).struct.unnest()
    dns, http = pl.col("dns").struct, pl.col("http").struct
    header = pl.element().struct
    tells = pl.any_horizontal(
        header.field(text).str.contains(f"(?i){GRPC}") for text in ("key", "value")
    )
    grpc = http.field("headers").list.eval(tells).list.any()
    return record.select(
        row=there.arg_true(),
        type="type",
        l7=pl.when(pl.col("dns").is_not_null())
        .then(pl.lit("dns"))
        .when(grpc)
        .then(pl.lit("grpc"))
        .when(pl.col("http").is_not_null())
        .then(pl.lit("http"))
        .when(pl.col("kafka").is_not_null())
        .then(pl.lit("kafka")),
        query=dns.field("query").fill_null(""),
        qtype=dns.field("qtypes").list.get(0, null_on_oob=True),
        rcode=dns.field("rcode").fill_null(0),
        ips=dns.field("ips"),
        code=http.field("code").fill_null(0),
        method=http.field("method").fill_null(""),
        url=http.field("url").fill_null(""),
    ).cast(LAYER7_COLUMNS)
