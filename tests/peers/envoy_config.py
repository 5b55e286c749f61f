"""What the two real Envoys of the tests are told: a client's sidecar and a server's.

    shop/cart    outbound HTTP and TCP listeners, plain on loopback as iptables would lead to them
    pay/ledger   inbound HTTP and TCP listeners with mutual TLS and RBAC, and the application

Each writes every request to all its places at once: a text file, a JSON file, gRPC ALS, OTLP over
gRPC and, where it is asked for, OTLP over HTTP.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

__all__ = [
    "CART",
    "JSON_KEYS",
    "LABELS",
    "LEDGER",
    "TEXT_FORMAT",
    "Ports",
    "Sinks",
    "cart_config",
    "ledger_config",
]

CART: Final = "spiffe://cluster.local/ns/shop/sa/cart"
LEDGER: Final = "spiffe://cluster.local/ns/pay/sa/ledger"

_HCM: Final = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_HTTP_RBAC: Final = "envoy.extensions.filters.http.rbac.v3.RBAC"
_TCP_RBAC: Final = "envoy.extensions.filters.network.rbac.v3.RBAC"
_SERVER_TLS: Final = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
_CLIENT_TLS: Final = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
_HTTP_OPTIONS: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_LOG: Final = "envoy.extensions.access_loggers"

LABELS: Final = {
    "start_time": "%START_TIME%",
    "route_name": "%ROUTE_NAME%",
    "method": "%REQ(:METHOD)%",
    "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
    "protocol": "%PROTOCOL%",
    "response_code": "%RESPONSE_CODE%",
    "response_flags": "%RESPONSE_FLAGS%",
    "response_code_details": "%RESPONSE_CODE_DETAILS%",
    "connection_termination_details": "%CONNECTION_TERMINATION_DETAILS%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "duration": "%DURATION%",
    "upstream_service_time": "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
    "x_forwarded_for": "%REQ(X-FORWARDED-FOR)%",
    "user_agent": "%REQ(USER-AGENT)%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "authority": "%REQ(:AUTHORITY)%",
    "upstream_host": "%UPSTREAM_HOST%",
    "upstream_cluster": "%UPSTREAM_CLUSTER%",
    "upstream_local_address": "%UPSTREAM_LOCAL_ADDRESS%",
    "downstream_local_address": "%DOWNSTREAM_LOCAL_ADDRESS%",
    "downstream_remote_address": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "requested_server_name": "%REQUESTED_SERVER_NAME%",
    "upstream_transport_failure_reason": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
}
"""Istio's keys of a JSON log, and its operators."""

_SANS: Final = (
    "%DOWNSTREAM_PEER_URI_SAN%",
    "%DOWNSTREAM_LOCAL_URI_SAN%",
    "%UPSTREAM_PEER_URI_SAN%",
    "%UPSTREAM_LOCAL_URI_SAN%",
)

JSON_KEYS: Final = {
    "downstream_peer": _SANS[0],
    "downstream_local": _SANS[1],
    "upstream_peer": _SANS[2],
    "upstream_local": _SANS[3],
}
"""What is logged beside Istio's keys, under names of our own."""

_ISTIO_TEXT: Final = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" '
    "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% "
    '%CONNECTION_TERMINATION_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" '
    "%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "
    '"%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" '
    '"%UPSTREAM_HOST%" %UPSTREAM_CLUSTER% %UPSTREAM_LOCAL_ADDRESS% '
    "%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%"
)

TEXT_FORMAT: Final = f"{_ISTIO_TEXT} {' '.join(_SANS)}"
"""Istio's line with the SPIFFE ids of both ends after it, as `envoy.format` takes it."""


@dataclass(frozen=True, slots=True)
class Sinks:
    """Where the access logs of one Envoy go: ports on loopback, and a folder for the files.

    otlp_http: None leaves it out, for Envoy counts it together with `otlp`. buffer_bytes,
    flush_seconds: how Envoy gathers entries before it sends them.
    """

    folder: Path
    als: int
    otlp: int
    otlp_http: int | None = None
    buffer_bytes: int = 16 << 10
    flush_seconds: float = 0.2


@dataclass(frozen=True, slots=True)
class Ports:
    """Of one pair: `http` to `denied` are cart's, the `in_` ones ledger's."""

    http: int
    tcp: int
    tcp_denied: int
    tcp_plain: int
    tcp_refused: int
    in_http: int
    in_tcp: int
    in_tcp_denied: int
    app: int
    app_tcp: int
    nobody: int


def cart_config(ports: Ports, sinks: Sinks, tls: Path) -> str:
    """The bootstrap of the client's sidecar; `tls` holds ca.pem, cart.pem and cart.key."""
    ledger = "outbound|8080||ledger.pay.svc.cluster.local"
    gone = "outbound|8080||gone.pay.svc.cluster.local"
    cache = "outbound|9000||cache.data.svc.cluster.local"
    vault = "outbound|9001||vault.data.svc.cluster.local"
    plain = "outbound|5432||db.data.svc.cluster.local"
    routes: list[dict[str, Any]] = [
        {"match": {"prefix": "/gone"}, "route": {"cluster": gone}},
        {"match": {"prefix": "/nowhere"}, "direct_response": {"status": 404}},
        {"match": {"prefix": "/"}, "route": {"cluster": ledger}},
    ]
    return _bootstrap(
        node=("sidecar~127.0.0.1~cart-6d9f7c5b4-x2x4k.shop~shop.svc.cluster.local", "cart"),
        namespace="shop",
        listeners=[
            _http_listener("outbound", ports.http, routes, [], sinks),
            *(
                _tcp_listener(f"outbound_{number}", port, cluster, [], sinks)
                for number, (port, cluster) in enumerate(
                    [
                        (ports.tcp, cache),
                        (ports.tcp_denied, vault),
                        (ports.tcp_plain, plain),
                        (ports.tcp_refused, gone),
                    ]
                )
            ),
        ],
        clusters=[
            _cluster(ledger, ports.in_http, _client_tls(tls, "cart", ledger)),
            _cluster(cache, ports.in_tcp, _client_tls(tls, "cart", cache)),
            _cluster(vault, ports.in_tcp_denied, _client_tls(tls, "cart", vault)),
            _cluster(plain, ports.app_tcp),
            _cluster(gone, ports.nobody),
        ],
        sinks=sinks,
    )


def ledger_config(ports: Ports, sinks: Sinks, tls: Path) -> str:
    """The bootstrap of the server's sidecar, the application with it."""
    inbound, inbound_tcp = "inbound|8080||", "inbound|9000||"
    rbac = {
        "name": "envoy.filters.http.rbac",
        "typed_config": _typed(
            _HTTP_RBAC, rules=_rules("ns[pay]-policy[no-admin]-rule[0]", "http")
        ),
    }
    denial = {
        "name": "envoy.filters.network.rbac",
        "typed_config": _typed(
            _TCP_RBAC, stat_prefix="tcp.", rules=_rules("ns[data]-policy[no-cart]-rule[0]", "tcp")
        ),
    }
    server_tls = _server_tls(tls, "ledger")
    routes = [{"match": {"prefix": "/"}, "route": {"cluster": inbound}}]
    return _bootstrap(
        node=("sidecar~127.0.0.1~ledger-7c4d8b9f6d-q9w2z.pay~pay.svc.cluster.local", "ledger"),
        namespace="pay",
        listeners=[
            _http_listener("inbound", ports.in_http, routes, [rbac], sinks, server_tls),
            _tcp_listener("inbound_tcp", ports.in_tcp, inbound_tcp, [], sinks, server_tls),
            _tcp_listener(
                "inbound_no", ports.in_tcp_denied, inbound_tcp, [denial], sinks, server_tls
            ),
            _application(ports.app),
            _echo(ports.app_tcp),
        ],
        clusters=[_cluster(inbound, ports.app), _cluster(inbound_tcp, ports.app_tcp)],
        sinks=sinks,
    )


def _typed(message: str, **fields: Any) -> dict[str, Any]:
    return {"@type": f"type.googleapis.com/{message}", **fields}


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _bootstrap(
    *,
    node: tuple[str, str],
    namespace: str,
    listeners: list[dict[str, Any]],
    clusters: list[dict[str, Any]],
    sinks: Sinks,
) -> str:
    identity, workload = node
    return json.dumps(
        {
            "node": {
                "id": identity,
                "cluster": f"{workload}.{namespace}",
                "metadata": {
                    "NAMESPACE": namespace,
                    "WORKLOAD_NAME": workload,
                    "CLUSTER_ID": "prod-eu",
                },
            },
            "admin": {"address": _address(0)},
            "static_resources": {
                "listeners": listeners,
                "clusters": [
                    *clusters,
                    _cluster("als", sinks.als, http2=True),
                    _cluster("otlp", sinks.otlp, http2=True),
                    *([_cluster("otlp_http", sinks.otlp_http)] if sinks.otlp_http else []),
                ],
            },
        }
    )


def _cluster(
    name: str, port: int, tls: dict[str, Any] | None = None, *, http2: bool = False
) -> dict[str, Any]:
    cluster: dict[str, Any] = {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "2s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(port)}}]}],
        },
    }
    if tls:
        cluster["transport_socket"] = tls
    if http2:
        options = _typed(_HTTP_OPTIONS, explicit_http_config={"http2_protocol_options": {}})
        cluster["typed_extension_protocol_options"] = {_HTTP_OPTIONS: options}
    return cluster


def _http_listener(
    direction: str,
    port: int,
    routes: list[dict[str, Any]],
    filters: list[dict[str, Any]],
    sinks: Sinks,
    tls: dict[str, Any] | None = None,
) -> dict[str, Any]:
    router = _typed("envoy.extensions.filters.http.router.v3.Router")
    manager = _typed(
        _HCM,
        stat_prefix=direction,
        # The id that the client gave is kept, so that a test can tell its requests apart.
        preserve_external_request_id=True,
        use_remote_address=False,
        route_config={
            "name": "routes",
            "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}],
        },
        http_filters=[*filters, {"name": "envoy.filters.http.router", "typed_config": router}],
        access_log=_logs(sinks, "http"),
    )
    return _listener(
        direction,
        port,
        [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}],
        tls,
    )


def _tcp_listener(
    name: str,
    port: int,
    cluster: str,
    filters: list[dict[str, Any]],
    sinks: Sinks,
    tls: dict[str, Any] | None = None,
) -> dict[str, Any]:
    proxy = _typed(
        "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        stat_prefix=name,
        cluster=cluster,
        access_log=_logs(sinks, "tcp"),
    )
    return _listener(
        name,
        port,
        [*filters, {"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy}],
        tls,
    )


def _listener(
    name: str, port: int, filters: list[dict[str, Any]], tls: dict[str, Any] | None = None
) -> dict[str, Any]:
    chain: dict[str, Any] = {"filters": filters}
    listener = {
        "name": name,
        "address": _address(port),
        "traffic_direction": "INBOUND" if name.startswith("inbound") else "OUTBOUND",
        "filter_chains": [chain],
    }
    if tls:
        chain["transport_socket"] = tls
        inspector = _typed("envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector")
        listener["listener_filters"] = [
            {"name": "envoy.filters.listener.tls_inspector", "typed_config": inspector}
        ]
    return listener


def _application(port: int) -> dict[str, Any]:
    """Answers each request itself, with a body of 12 bytes."""
    routes = [
        {
            "match": {"prefix": "/v1/missing"},
            "direct_response": {"status": 404, "body": {"inline_string": "no such item"}},
        },
        {
            "match": {"prefix": "/"},
            "direct_response": {"status": 200, "body": {"inline_string": "hello ledger"}},
        },
    ]
    router = _typed("envoy.extensions.filters.http.router.v3.Router")
    manager = _typed(
        _HCM,
        stat_prefix="app",
        route_config={
            "name": "app",
            "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}],
        },
        http_filters=[{"name": "envoy.filters.http.router", "typed_config": router}],
    )
    return _listener(
        "app",
        port,
        [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}],
    )


def _echo(port: int) -> dict[str, Any]:
    echo = _typed("envoy.extensions.filters.network.echo.v3.Echo")
    return _listener("echo", port, [{"name": "envoy.filters.network.echo", "typed_config": echo}])


def _rules(policy: str, kind: str) -> dict[str, Any]:
    path = {"url_path": {"path": {"prefix": "/admin"}}}
    permission = path if kind == "http" else {"any": True}
    principal = {"authenticated": {"principal_name": {"exact": CART}}}
    return {
        "action": "DENY",
        "policies": {policy: {"permissions": [permission], "principals": [principal]}},
    }


def _server_tls(folder: Path, name: str) -> dict[str, Any]:
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": _typed(
            _SERVER_TLS, require_client_certificate=True, common_tls_context=_context(folder, name)
        ),
    }


def _client_tls(folder: Path, name: str, cluster: str) -> dict[str, Any]:
    """Istio tells the server in its SNI which service was meant."""
    _, port, _, host = cluster.split("|")
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": _typed(
            _CLIENT_TLS,
            sni=f"outbound_.{port}_._.{host}",
            common_tls_context=_context(folder, name),
        ),
    }


def _context(folder: Path, name: str) -> dict[str, Any]:
    certificate = {
        "certificate_chain": {"filename": str(folder / f"{name}.pem")},
        "private_key": {"filename": str(folder / f"{name}.key")},
    }
    return {
        "tls_certificates": [certificate],
        "validation_context": {"trusted_ca": {"filename": str(folder / "ca.pem")}},
        "alpn_protocols": ["istio"],
    }


def _logs(sinks: Sinks, kind: str) -> list[dict[str, Any]]:
    buffered = {
        "buffer_size_bytes": sinks.buffer_bytes,
        "buffer_flush_interval": f"{sinks.flush_seconds}s",
    }
    grpc = {
        "log_name": f"{kind}_envoy_accesslog",
        "transport_api_version": "V3",
        "grpc_service": {"envoy_grpc": {"cluster_name": "als"}},
        **buffered,
    }
    ways: list[dict[str, Any]] = [{"grpc_service": {"envoy_grpc": {"cluster_name": "otlp"}}}]
    if sinks.otlp_http:
        ways.append({"http_service": {"http_uri": _over_http(sinks.otlp_http)}})
    als = "HttpGrpcAccessLogConfig" if kind == "http" else "TcpGrpcAccessLogConfig"
    text_json = {**LABELS, **JSON_KEYS}
    otlp = {
        "log_name": "otel_envoy_accesslog",
        "disable_builtin_labels": True,
        "body": {"string_value": _ISTIO_TEXT + "\n"},
        "attributes": {
            "values": [
                {"key": key, "value": {"string_value": operator}}
                for key, operator in text_json.items()
            ]
        },
        **buffered,
    }
    return [
        _log("file", _file(sinks.folder / "access.log", "text", TEXT_FORMAT + "\n")),
        _log("file", _file(sinks.folder / "access.json", "json", text_json)),
        _log(f"{kind}_grpc", _typed(f"{_LOG}.grpc.v3.{als}", common_config=grpc)),
        *(
            _log(
                "open_telemetry",
                _typed(f"{_LOG}.open_telemetry.v3.OpenTelemetryAccessLogConfig", **way, **otlp),
            )
            for way in ways
        ),
    ]


def _over_http(port: int) -> dict[str, str]:
    uri = f"http://127.0.0.1:{port}/v1/logs"
    return {"uri": uri, "cluster": "otlp_http", "timeout": "10s"}


def _log(name: str, config: dict[str, Any]) -> dict[str, Any]:
    return {"name": f"envoy.access_loggers.{name}", "typed_config": config}


def _file(path: Path, kind: str, format: str | dict[str, str]) -> dict[str, Any]:
    shape = (
        {"json_format": format}
        if kind == "json"
        else {"text_format_source": {"inline_string": format}}
    )
    return _typed(f"{_LOG}.file.v3.FileAccessLog", path=str(path), log_format=shape)
