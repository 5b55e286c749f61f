"""Access log lines of meshes for tests: whole entries with a few values changed, and decoding."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import polars as pl
from source_contract import Case

from sidelong.ingest.files import InputFile
from sidelong.ingest.line_files import LineDecoder, LineFile
from sidelong.ingest.schema import empty_flows
from sidelong.ingest.source import BadRows, Source

__all__ = ["INBOUND", "OUTBOUND", "TCP", "Decoder", "case_of", "decode", "envoy", "text_of", "view"]

Decoder = Callable[[], AbstractContextManager[LineDecoder]]
Json = dict[str, Any]

OUTBOUND: Final[Json] = {
    "authority": "ledger:8080",
    "bytes_received": 7,
    "bytes_sent": 12,
    "connection_termination_details": None,
    "downstream_local_address": "10.96.0.9:8080",
    "downstream_remote_address": "10.0.0.1:39000",
    "duration": 43,
    "method": "GET",
    "path": "/v1/items?x=1",
    "protocol": "HTTP/1.1",
    "request_id": "a12c1a54",
    "requested_server_name": None,
    "response_code": 200,
    "response_code_details": "via_upstream",
    "response_flags": "-",
    "route_name": "default",
    "start_time": "2026-11-23T02:18:27.763Z",
    "upstream_cluster": "outbound|8080||ledger.pay.svc.cluster.local",
    "upstream_host": "10.0.0.2:8080",
    "upstream_local_address": "10.0.0.1:40000",
    "upstream_service_time": "41",
    "upstream_transport_failure_reason": None,
    "user_agent": "curl/7.88.1",
    "x_forwarded_for": None,
}
INBOUND: Final[Json] = {
    **OUTBOUND,
    "downstream_local_address": "10.0.0.2:8080",
    "downstream_remote_address": "10.0.0.1:40000",
    "requested_server_name": "outbound_.8080_._.ledger.pay.svc.cluster.local",
    "upstream_cluster": "inbound|8080||",
    "upstream_host": "10.0.0.2:8080",
    "upstream_local_address": "127.0.0.6:46934",
}
TCP: Final[Json] = {
    "authority": None,
    "method": None,
    "path": None,
    "protocol": None,
    "request_id": None,
    "response_code": 0,
    "response_code_details": None,
    "route_name": None,
    "user_agent": None,
    "upstream_service_time": None,
}

_TEXT: Final = (
    '[{start_time}] "{method} {path} {protocol}" {response_code} {response_flags} '
    '{response_code_details} {connection_termination_details} "{upstream_transport_failure_reason}"'
    " {bytes_received} {bytes_sent} {duration} {upstream_service_time} "
    '"{x_forwarded_for}" "{user_agent}" "{request_id}" "{authority}" "{upstream_host}" '
    "{upstream_cluster} {upstream_local_address} {downstream_local_address} "
    "{downstream_remote_address} {requested_server_name} {route_name}"
)


def envoy(base: Json, **changes: object) -> str:
    """An entry as a line of JSON."""
    return json.dumps({**base, **changes})


def text_of(base: Json, **changes: object) -> str:
    """The same as Istio's line of text."""
    entry = {**base, **changes}
    return _TEXT.format(**{key: "-" if value is None else value for key, value in entry.items()})


def decode(decoder: Decoder, *lines: str | bytes) -> tuple[pl.DataFrame, BadRows]:
    """Flows and bad rows of the lines."""
    content = b"\n".join(line if isinstance(line, bytes) else line.encode() for line in lines)
    batches = list(LineFile("test", lambda: BytesIO(content), None, decoder).batches())
    flows = pl.concat([empty_flows(), *(batch.flows for batch in batches)])
    return flows, sum((batch.bad for batch in batches), BadRows())


def view(flows: pl.DataFrame, *columns: str) -> list[tuple[Any, ...]]:
    return flows.select(columns).rows()


def case_of(folder: Path, decoder: Decoder, lines: list[str]) -> Case:
    """A source of these lines, with bad ones among them, to be put to the contract."""
    content = "\n".join([*lines[:200], "spoilt", "", *lines[200:], ""]).encode()
    paths = {"whole": content, "empty": b"", "damaged": content[:-30]}
    for name, part in paths.items():
        (folder / name).write_bytes(part)

    def source(name: str, block_bytes: int) -> Source:
        file = InputFile(str(folder / name))
        return LineFile(file.name, file.open, file.size_bytes, decoder, block_bytes)

    return Case(
        small=lambda: source("whole", 20_000),
        large=lambda: source("whole", 16 << 20),
        empty=lambda: source("empty", 20_000),
        damaged=lambda: source("damaged", 20_000),
    )
