"""Messages of Envoy's access log service, made with Envoy's own API."""

from pathlib import Path
from typing import Any, Final

from envoy.service.accesslog.v3 import als_pb2  # type: ignore[import-untyped]
from google.protobuf.json_format import Parse, ParseDict

__all__ = ["HTTP", "IDENTIFIER", "METHOD", "SAMPLE", "TCP", "http", "message", "samples", "tcp"]

# The messages are made at import, where no type checker looks.
StreamAccessLogsMessage: Final[Any] = getattr(als_pb2, "StreamAccessLogsMessage")  # noqa: B009

Json = dict[str, Any]

METHOD: Final = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"
SAMPLE: Final = Path(__file__).parent / "samples" / "envoy_als_stream.ndjson"

IDENTIFIER: Final[Json] = {
    "node": {
        "id": "sidecar~10.0.1.9~ledger-7c4d8b9f6d-q9w2z.pay~pay.svc.cluster.local",
        "cluster": "ledger.pay",
        "metadata": {"NAMESPACE": "pay", "WORKLOAD_NAME": "ledger"},
        "extensions": [{"name": f"envoy.filters.{number}"} for number in range(500)],
    },
    "log_name": "http_envoy_accesslog",
}
COMMON: Final[Json] = {
    "start_time": "2026-11-23T02:18:27.763793Z",
    "duration": "0.001418035s",
    "downstream_direct_remote_address": "10.0.1.7:52814",
    "downstream_remote_address": "10.0.1.7:52814",
    "downstream_local_address": "10.0.1.9:8080",
    "upstream_remote_address": "127.0.0.1:8080",
    "upstream_local_address": "127.0.0.1:46934",
    "upstream_cluster": "inbound|8080||",
    "access_log_type": "DownstreamEnd",
    "tls_properties": {
        "tls_version": "TLSv1_3",
        "local_certificate_properties": {
            "subject_alt_name": [{"uri": "spiffe://cluster.local/ns/pay/sa/ledger"}]
        },
        "peer_certificate_properties": {
            "subject_alt_name": [{"uri": "spiffe://cluster.local/ns/shop/sa/cart"}]
        },
    },
}
HTTP: Final[Json] = {
    "protocol_version": "HTTP11",
    "request": {"request_method": "GET", "path": "/v1/items/1?token=x", "request_body_bytes": 7},
    "response": {
        "response_code": 200,
        "response_body_bytes": 12,
        "response_code_details": "via_upstream",
    },
}
TCP: Final[Json] = {"connection_properties": {"received_bytes": 82, "sent_bytes": 118}}


def http(*, request: Json | None = None, response: Json | None = None, **common: Any) -> Json:
    """An entry of a request with some of it changed; None removes."""
    entry = {key: dict(value) if isinstance(value, dict) else value for key, value in HTTP.items()}
    entry["request"].update(request or {})
    entry["response"].update(response or {})
    return {**entry, "common_properties": _common(common)}


def tcp(**common: Any) -> Json:
    """An entry of a connection, likewise."""
    ended = {"access_log_type": "TcpConnectionEnd", **common}
    return {**TCP, "common_properties": _common(ended)}


def message(*entries: Json, identifier: Json | None = None) -> bytes:
    """As it is on the wire; entries are all of one kind."""
    kind = "http_logs" if entries and "request" in entries[0] else "tcp_logs"
    content: Json = {kind: {"log_entry": list(entries)}} if entries else {}
    if identifier:
        content["identifier"] = identifier
    made: bytes = ParseDict(content, StreamAccessLogsMessage()).SerializeToString()
    return made


def samples() -> list[bytes]:
    """What a real Envoy sent."""
    lines = SAMPLE.read_text().splitlines()
    return [
        Parse(line, StreamAccessLogsMessage(), ignore_unknown_fields=True).SerializeToString()
        for line in lines
    ]


def _common(changes: Json) -> Json:
    merged = {key: value for key, value in {**COMMON, **changes}.items() if value is not None}
    return {
        key: _address(value) if key.endswith("_address") else value for key, value in merged.items()
    }


def _address(text: str) -> Json:
    host, _, port = text.rpartition(":")
    return {"socket_address": {"address": host.strip("[]"), "port_value": int(port)}}
