"""Messages of Envoy's gRPC access log service (v3) as flows.

What repeats from entry to entry (TLS, flags, metadata) is decoded once per distinct value. Entries
tell of the end of a request or a connection; those of its beginning or middle are left out.

Sources: envoy/service/accesslog/v3/als.proto, envoy/data/accesslog/v3/accesslog.proto.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import polars as pl
from google.protobuf.message import DecodeError

from sidelong.ingest.envoy_als_pb2 import (
    Common,
    Flags,
    HttpEntry,
    Metadata,
    StreamAccessLogsMessage,
    Struct,
    TcpEntry,
    Tls,
)
from sidelong.ingest.envoy_exchanges import envoy_flows
from sidelong.ingest.envoy_reporter import NOBODY, Reporter, by_node
from sidelong.ingest.line_files import SAMPLES, Decoded
from sidelong.ingest.schema import FLOW_SCHEMA, schema_of

__all__ = ["AlsDecoder", "AlsMessage", "Sender"]

V = TypeVar("V")

_ENDS: Final = frozenset({0, 3, 6})  # not set (before Envoy 1.26), TcpConnectionEnd, DownstreamEnd
_METHODS: Final = (
    *(None, "GET", "HEAD", "POST", "PUT", "DELETE"),
    *("CONNECT", "OPTIONS", "TRACE", "PATCH"),
)
_PROTOCOLS: Final = ("HTTP", "HTTP/1.0", "HTTP/1.1", "HTTP/2", "HTTP/3")
_TLS_VERSIONS: Final = (None, "TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")
_RBAC: Final = ("envoy.filters.http.rbac", "envoy.filters.network.rbac")
_NO_RBAC: Final = (None, None)
_MOST_KNOWN: Final = 1 << 14

_NS: Final = 1_000_000_000
_LATEST: Final = 9_000_000_000  # seconds, within what a time in nanoseconds can be

_ADDRESSES: Final = (
    *("downstream_remote", "downstream_direct_remote", "downstream_local"),
    *("upstream_host", "upstream_local"),
)
_ROW: Final = schema_of(
    {
        "start_time": pl.Int64,
        "duration_ms": pl.Float64,
        **{
            name: dtype
            for end in _ADDRESSES
            for name, dtype in ((end, pl.String), (f"{end}_port", pl.UInt32))
        },
        **dict.fromkeys(
            ("upstream_cluster", "route", "upstream_failure", "termination", "flags"), pl.String
        ),
        **dict.fromkeys(("tls_version", "sni", "local_uri_san", "peer_uri_san"), pl.String),
        **dict.fromkeys(("rbac_result", "rbac_policy"), pl.String),
        "bytes_received": pl.UInt64,
        "bytes_sent": pl.UInt64,
        "status": pl.UInt32,
        "protocol": pl.String,
        **dict.fromkeys(("method", "path", "details", "grpc_status"), pl.String),
        "x_forwarded_for": pl.String,
        **dict.fromkeys(Reporter._fields, pl.String),
    }
)


class Sender:
    """One stream: who is at its other end, as it said in its first message."""

    __slots__ = ("peer", "reporter")

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.reporter: Reporter = NOBODY


class AlsMessage(NamedTuple):
    """A `StreamAccessLogsMessage` as it came."""

    sender: Sender
    content: bytes


class AlsDecoder:
    """Decodes messages of many streams, those of each in their order.

    counts: `received` entries, and `skipped` ones, which tell of no end, are added to there.
    """

    def __init__(self, counts: dict[str, int]) -> None:
        self._counts = counts
        self._tls: dict[bytes, tuple[str | None, ...]] = {b"": (None,) * 4}
        self._flags: dict[bytes, str | None] = {b"": None}
        self._rbac: dict[bytes, tuple[str | None, str | None]] = {b"": _NO_RBAC}

    def decode(self, messages: Sequence[AlsMessage]) -> tuple[Decoded, int]:
        """Their flows in their order; and how many bytes they were."""
        rows: list[tuple[Any, ...]] = []
        bad, size = 0, 0
        faults: list[tuple[int, str]] = []
        for number, (sender, content) in enumerate(messages):
            size += len(content)
            try:
                message = StreamAccessLogsMessage.FromString(content)
            except DecodeError:
                bad += 1
                if len(faults) < SAMPLES:
                    what = f"{len(content):,} bytes from {sender.peer}: not an access log message"
                    faults.append((number, what))
                continue
            if message.HasField("identifier"):
                sender.reporter = _reporter(message)
            unread = self._rows(message, sender.reporter, rows)
            bad += unread
            if unread and len(faults) < SAMPLES:
                faults.append((number, f"entry from {sender.peer}: no time, or one out of range"))
        return Decoded(_flows(rows), bad, tuple(faults)), size

    def done(self, messages: Sequence[AlsMessage]) -> None:
        """Nobody waits for an answer."""

    def lost(self, messages: Sequence[AlsMessage]) -> None:
        """Nobody waits for an answer."""

    def _rows(
        self, message: StreamAccessLogsMessage, reporter: Reporter, rows: list[tuple[Any, ...]]
    ) -> int:
        """Append a row for each entry; how many have no time."""
        before, ended, unended = len(rows), [], 0
        for http in message.http_logs.log_entry:
            if http.common_properties.access_log_type in _ENDS:
                ended.append((http.common_properties, _of_http(http)))
            else:
                unended += 1
        for tcp in message.tcp_logs.log_entry:
            if tcp.common_properties.access_log_type in _ENDS:
                ended.append((tcp.common_properties, _of_tcp(tcp)))
            else:
                unended += 1
        for common, own in ended:
            if 0 < common.start_time.seconds < _LATEST:
                rows.append(self._of_common(common) + own + reporter)
        self._counts["received"] += len(rows) - before
        self._counts["skipped"] += unended
        return len(ended) - (len(rows) - before)

    def _of_common(self, common: Common) -> tuple[Any, ...]:
        start = common.start_time
        remote = common.downstream_remote_address.socket_address
        direct = common.downstream_direct_remote_address.socket_address
        local = common.downstream_local_address.socket_address
        host = common.upstream_remote_address.socket_address
        from_ = common.upstream_local_address.socket_address
        metadata = common.metadata
        return (
            start.seconds * _NS + start.nanos,
            _milliseconds(common),
            remote.address,
            remote.port_value,
            direct.address,
            direct.port_value,
            local.address,
            local.port_value,
            host.address,
            host.port_value,
            from_.address,
            from_.port_value,
            common.upstream_cluster,
            common.route_name,
            common.upstream_transport_failure_reason,
            common.connection_termination_details,
            _known(self._flags, common.response_flags, _flags_of),
            *_known(self._tls, common.tls_properties, _tls_of),
            # Of metadata there is much, and most of it of no use.
            *(_known(self._rbac, metadata, _rbac_of) if b".rbac" in metadata else _NO_RBAC),
        )


def _known(cache: dict[bytes, V], key: bytes, made: Callable[[bytes], V]) -> V:
    value = cache.get(key)
    if value is None and key:
        if len(cache) >= _MOST_KNOWN:
            cache.clear()
            cache[b""] = made(b"")
        value = cache[key] = made(key)
    return value  # type: ignore[return-value]  # None is a value of V where it is kept


def _of_http(entry: HttpEntry) -> tuple[Any, ...]:
    request, response = entry.request, entry.response
    method, protocol = request.request_method, entry.protocol_version
    trailers = response.response_trailers
    return (
        request.request_body_bytes,
        response.response_body_bytes,
        response.response_code.value,
        _PROTOCOLS[protocol] if protocol < len(_PROTOCOLS) else "HTTP",
        _METHODS[method] if method < len(_METHODS) else None,
        _readable(request.path),
        response.response_code_details,
        trailers.get("grpc-status") if trailers else None,
        request.forwarded_for,
    )


def _of_tcp(entry: TcpEntry) -> tuple[Any, ...]:
    connection = entry.connection_properties
    return (connection.received_bytes, connection.sent_bytes, 0, *(None,) * 6)


def _milliseconds(common: Common) -> float:
    lasted = common.duration
    if not lasted.seconds and not lasted.nanos:  # before Envoy 1.25
        lasted = common.time_to_last_downstream_tx_byte
    return min(max(lasted.seconds, 0), _LATEST) * 1e3 + lasted.nanos / 1e6


def _reporter(message: StreamAccessLogsMessage) -> Reporter:
    node = message.identifier.node
    fields = node.metadata.fields.items()
    metadata = {_readable(key): _readable(value.string_value) for key, value in fields}
    return by_node(_readable(node.id), metadata)


def _readable(text: str | bytes) -> str:
    """Text that is not UTF-8 comes as bytes."""
    return text if isinstance(text, str) else text.decode(errors="replace")


def _flags_of(content: bytes) -> str | None:
    try:
        flags = Flags.FromString(content)
    except DecodeError:
        return None
    return ",".join(field.name for field, _ in flags.ListFields()) or None


def _tls_of(content: bytes) -> tuple[str | None, ...]:
    try:
        tls = Tls.FromString(content)
    except DecodeError:
        return (None,) * 4
    version = tls.tls_version
    return (
        _TLS_VERSIONS[version] if version < len(_TLS_VERSIONS) else None,
        tls.tls_sni_hostname or None,
        *(
            next((name.uri for name in names.subject_alt_name if name.uri), None)
            for names in (tls.local_certificate_properties, tls.peer_certificate_properties)
        ),
    )


def _rbac_of(content: bytes) -> tuple[str | None, str | None]:
    """What was enforced; a shadow rule enforces nothing."""
    try:
        of_filters = Metadata.FromString(content).filter_metadata
        told = [Struct.FromString(of_filters[name]).fields for name in _RBAC if name in of_filters]
    except DecodeError:
        return None, None
    for fields in told:
        if "enforced_engine_result" in fields:
            policy = fields["enforced_effective_policy_id"].string_value
            return fields["enforced_engine_result"].string_value or None, policy or None
    return None, None


def _flows(rows: Sequence[tuple[Any, ...]]) -> pl.DataFrame:
    columns = zip(*rows, strict=True) if rows else [()] * len(_ROW)
    frame = pl.DataFrame(
        [
            pl.Series(name, values, dtype, strict=False)
            for (name, dtype), values in zip(_ROW.items(), columns, strict=True)
        ]
    )
    texts = [name for name, dtype in _ROW.items() if dtype == pl.String]
    kept = {"x_forwarded_for"}  # where "" says that there was none
    return envoy_flows(
        frame.with_columns(
            pl.col(name).replace("", None) for name in texts if name not in kept
        ).with_columns(
            *(_address(name) for name in _ADDRESSES),
            start_time=pl.col("start_time").cast(FLOW_SCHEMA["time"]),
            status=pl.col("status").cast(pl.UInt16, strict=False),
        )
    )


def _address(name: str) -> pl.Expr:
    ip, port = pl.col(name), pl.col(f"{name}_port")
    host = pl.when(ip.str.contains(":", literal=True)).then("[" + ip + "]").otherwise(ip)
    return (host + ":" + port.cast(pl.String)).alias(name)
