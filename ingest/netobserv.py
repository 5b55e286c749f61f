"""Flows of NetObserv, in the JSON that flowlogs-pipeline writes to Kafka, to Loki or to stdout.

A record sums up one direction of a connection for some seconds, as one node saw it at one of its
interfaces.

Source: `docs/flows-format.adoc` of the NetObserv operator; `bpf/types.h` of its eBPF agent.
"""

from typing import Final

import polars as pl

from sidelong.ingest.checked_rows import checked
from sidelong.ingest.exchanges import exchange_flows
from sidelong.ingest.flat_json import FlatJson, Format, Records
from sidelong.ingest.hubble_flows import dns_names
from sidelong.ingest.schema import FLOW_SCHEMA, TCP_FLAGS, conform, line_of
from sidelong.ingest.text_values import (
    address_of,
    epoch_time,
    is_address,
    is_port_if_any,
    natural,
    port_of,
    protocol_of,
)

__all__ = ["NETOBSERV", "NetObservLines"]

_ENDS: Final = ("Src", "Dst")
_DNS: Final = ("DnsName", "DnsFlags", "DnsFlagsResponseCode", "DnsLatencyMs")
_FIELDS: Final = (
    *(f"{end}{name}" for end in _ENDS for name in ("Addr", "Port")),
    *(
        f"{end}K8S_{name}"
        for end in _ENDS
        for name in ("Namespace", "Name", "Type", "OwnerName", "OwnerType", "HostName")
    ),
    *("Proto", "Etype", "Bytes", "Packets", "Flags", "TimeFlowStartMs", "TimeFlowEndMs"),
    *("FlowDirection", "AgentIP", "Duplicate", "_RecordType", "NetworkEvents"),
    *("PktDropPackets", "PktDropLatestDropCause"),
    *_DNS,
)
_IP: Final = r"^(?:2048|34525)$"  # IPv4 and IPv6
_SYN, _ACK, _RST, _FIN = (TCP_FLAGS[name] for name in ("SYN", "ACK", "RST", "FIN"))
# The agent tells a packet with two flags apart from packets with one each: bits of its own.
_SYN_ACK, _FIN_ACK, _RST_ACK = 0x100, 0x200, 0x400
_FLAG_NAMES: Final = {**TCP_FLAGS, "SYN_ACK": _SYN_ACK, "FIN_ACK": _FIN_ACK, "RST_ACK": _RST_ACK}
_DNS_RESPONSE: Final = 0x8000
_LATEST_MS: Final = 60_000
_RCODES: Final = {
    **{"noerror": 0, "formerr": 1, "servfail": 2, "nxdomain": 3, "notimp": 4, "refused": 5},
    **{"yxdomain": 6, "yxrrset": 7, "nxrrset": 8, "notauth": 9},
}


def NetObservLines() -> FlatJson:  # stands for a class
    """Decodes lines of NetObserv's JSON. Use as a context manager."""
    return FlatJson(NETOBSERV)


def _records(rows: pl.DataFrame) -> Records:
    rows = rows.with_columns(
        time=epoch_time(pl.col("TimeFlowStartMs"), 1000), protocol=protocol_of(pl.col("Proto"))
    )
    other = ~pl.col("Etype").str.contains(_IP) & pl.col("SrcAddr").is_null()
    again = pl.col("Duplicate") == "true"
    counted = pl.col("_RecordType").is_in(["allConnections", "newConnection"])
    passed = other | again | counted | pl.col("_RecordType").is_in(["heartbeat", "endConnection"])
    wanted = rows.with_row_index("at").filter(~passed.fill_null(False))
    found = checked(wanted, _CHECKS, wanted["at"])
    return Records(_flows(found.rows), found.bad, found.faults)


_CHECKS: Final = {
    "TimeFlowStartMs": pl.col("time").is_not_null(),
    **{f"{end}Addr": is_address(pl.col(f"{end}Addr")) for end in _ENDS},
    **{f"{end}Port": is_port_if_any(pl.col(f"{end}Port")) for end in _ENDS},
}


def _flows(rows: pl.DataFrame) -> pl.DataFrame:
    if rows.is_empty():
        return FLOW_SCHEMA.to_frame()
    rows = rows.with_columns(
        flags=pl.when(pl.col("protocol") == "TCP").then(_flags()),
        dropped_packets=natural(pl.col("PktDropPackets")).fill_null(0),
        packets=natural(pl.col("Packets")),
    )
    action = pl.col("NetworkEvents").str.extract(r'"Action"\s*:\s*"([^"]*)"').str.to_lowercase()
    denied = (action == "drop") | (action == "reject")
    lost = (pl.col("dropped_packets") > 0) & (
        pl.col("packets").fill_null(0) <= pl.col("dropped_packets")
    )
    cause = pl.col("PktDropLatestDropCause")
    # What the kernel drops of a connection that stands says nothing of who may reach whom.
    standing = (pl.col("flags") & pl.lit(_SYN, pl.UInt32)) == 0
    verdict = (
        pl.when(denied.fill_null(False) | (lost & ~standing.fill_null(False)))
        .then(pl.lit("DROPPED"))
        .when(lost)
        .then(pl.lit("ERROR"))
        .when(action.str.starts_with("allow"))
        .then(pl.lit("FORWARDED"))
    )
    ported = (pl.col("protocol") != "ICMP").fill_null(True)
    flows = rows.select(
        "time",
        "protocol",
        "packets",
        *line_of(rows),
        end=epoch_time(pl.col("TimeFlowEndMs"), 1000),
        src_ip=address_of(pl.col("SrcAddr")),
        dst_ip=address_of(pl.col("DstAddr")),
        src_port=pl.when(ported).then(port_of(pl.col("SrcPort"))),
        dst_port=pl.when(ported).then(port_of(pl.col("DstPort"))),
        **{name: value for end in _ENDS for name, value in _identity(end).items()},
        reply=_direction(),
        verdict=verdict,
        drop_reason=pl.when(denied.fill_null(False))
        .then(pl.lit("POLICY_DENIED"))
        .when(lost)
        .then(cause),
        policy=_policy(),
        tcp_flags=(pl.col("flags") & 0xFF).cast(pl.UInt8),
        bytes=natural(pl.col("Bytes")),
        origin=_origin(),
        node=_node(),
    )
    return _with_lookups(conform(flows), rows)


def _flags() -> pl.Expr:
    """The flags by number or by names, SYN without the ACKs that followed it.

    The agent has its own bit for a SYN with ACK, so a plain SYN is a client's.
    """
    number = pl.col("Flags").cast(pl.UInt32, strict=False)
    named = pl.sum_horizontal(
        pl.when(pl.col("Flags").str.contains(f'"{name}"', literal=True)).then(bit).otherwise(0)
        for name, bit in _FLAG_NAMES.items()
    ).cast(pl.UInt32)
    flags = pl.coalesce(number, pl.when(pl.col("Flags").str.starts_with("[")).then(named))

    def has(bit: int) -> pl.Expr:
        return (flags & pl.lit(bit, pl.UInt32)) != 0

    whole = pl.lit(_SYN | _ACK, pl.UInt32)
    return (
        pl.when(has(_SYN_ACK))
        .then(whole)
        .when(has(_SYN))
        .then(flags & pl.lit(0xFF & ~(_ACK | _RST), pl.UInt32))
        .when(has(_RST_ACK))
        .then((flags & 0xFF) | pl.lit(_RST | _ACK, pl.UInt32))
        .when(has(_FIN_ACK))
        .then((flags & 0xFF) | pl.lit(_FIN | _ACK, pl.UInt32))
        .otherwise(flags & 0xFF)
    )


def _direction() -> pl.Expr:
    """Known where the opening of the connection, or a DNS answer, is in the record."""
    flags = pl.col("DnsFlags").cast(pl.UInt32, strict=False)
    answered = (flags & pl.lit(_DNS_RESPONSE, pl.UInt32)) != 0
    return pl.when(answered).then(True)


def _identity(end: str) -> dict[str, pl.Expr]:
    """Workload and pod. A node is no workload: it is left to its address."""
    name = end.lower()
    namespace = pl.col(f"{end}K8S_Namespace")
    kind = pl.coalesce(f"{end}K8S_Type", f"{end}K8S_OwnerType")
    pod = (kind != "Service").fill_null(True)
    return {
        name: namespace + "/" + pl.coalesce(f"{end}K8S_OwnerName", f"{end}K8S_Name"),
        f"{name}_pod": pl.when(pod).then(namespace + "/" + pl.col(f"{end}K8S_Name")),
    }


def _origin() -> pl.Expr:
    side = pl.col("FlowDirection").replace_strict(
        {"0": ":ingress", "1": ":egress"}, default="", return_dtype=pl.String
    )
    return pl.lit("netobserv") + side.fill_null("")


def _node() -> pl.Expr:
    hosts = (
        pl.when(pl.col("FlowDirection") == direction).then(pl.col(f"{end}K8S_HostName"))
        for direction, end in (("0", "Dst"), ("1", "Src"), ("2", "Src"))
    )
    return pl.coalesce(*hosts, "AgentIP")


def _policy() -> pl.Expr:
    """Of a policy's own events: its namespace, if it has one, and its name."""
    events = pl.col("NetworkEvents")
    namespace = events.str.extract(r'"Namespace"\s*:\s*"([^"]+)"')
    name = events.str.extract(r'"Name"\s*:\s*"([^"]+)"')
    return pl.coalesce(namespace + "/" + name, name)


def _with_lookups(flows: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """The flows, those of named DNS answers as the query that they quote, and the answer."""
    named = rows["DnsName"].is_not_null() & flows["reply"].fill_null(False)
    if not named.any():
        return flows
    numbered = flows.with_row_index("at")
    answers = numbered.filter(named).with_columns(rows.filter(named).select(_DNS))
    number = pl.col("DnsFlags").cast(pl.UInt32, strict=False)
    in_header = (number & pl.lit(0xF, pl.UInt32)).cast(pl.UInt8)
    code = pl.col("DnsFlagsResponseCode").str.to_lowercase()
    milliseconds = natural(pl.col("DnsLatencyMs")).fill_null(0).clip(upper_bound=_LATEST_MS)
    ends = {
        f"{to}{part}": f"{of}{part}"
        for of, to in (("src", "server"), ("dst", "client"))
        for part in ("", "_ip", "_port", "_pod")
    }
    lookups = exchange_flows(
        answers.select(
            *("protocol", "origin", "node"),
            *line_of(answers),
            **ends,
            time=pl.col("end") - pl.duration(milliseconds=milliseconds, time_unit="ns"),
            answer_time="end",
            dns_name=dns_names(answers["DnsName"]),
            dns_rcode=code.replace_strict(_RCODES, default=None, return_dtype=pl.UInt8).fill_null(
                in_header
            ),
            packets_received="packets",
            bytes_received="bytes",
            l7=pl.lit("dns"),
        )
    )
    record = (~lookups["reply"]).cast(pl.UInt32).cum_sum() - 1
    lookups = lookups.with_columns(at=answers["at"].gather(record)).select(numbered.columns)
    told = pl.concat([numbered.filter(~named), lookups])
    return told.sort("at", maintain_order=True).drop("at")


NETOBSERV: Final = Format(_FIELDS, _records, "record of NetObserv")
"""The format of its records; every column text."""
