"""What an Envoy tells of requests and connections, as flows; however it was told.

Text lines, JSON, the gRPC access log service and OTLP give the same fields in other wrappings.
Their decoders fill the columns of `ENVOY_FIELDS`; everything that is to be known about them is
here and, for what became of a request, in envoy_outcomes.py.

Which end the proxy stands at is told by the name of the upstream cluster: `outbound|...` and
Istio's pass-through and black hole are the client's proxy, `inbound...` the server's. Without such
a name a loopback upstream is the application beside the proxy (inbound), any other upstream is
elsewhere (outbound).

Both ends give the 5-tuple as it is between them: outbound from the proxy's own end of the upstream
connection to the upstream host, inbound from the peer to the local end of the downstream
connection. An outbound record without a connection has the client's address and no port of it.

What a client can write decides nothing. Method and path are passed on, authority, user agent,
request id and SNI are not even looked at for who is who. Behind `x-forwarded-for` an Envoy reports
the address claimed there, with port 0: such an address is not taken; the peer's own
(`downstream_direct_remote`) is, and without it the client is `reserved:unknown`, unless a
certificate names it. The same holds for an address without a port in an HTTP record, unless it is
known that there was no such header. `trusted_remote` lifts both, for a proxy that is set to believe
the load balancer before it.

`x-forwarded-client-cert` counts on inbound records, in its last element: the one this proxy adds.
"""

from typing import Final

import polars as pl

from sidelong.ingest.addresses import external_network
from sidelong.ingest.envoy_outcomes import chosen_here, outcome, policy_of, wants_tls, was_denied
from sidelong.ingest.exchanges import exchange_flows
from sidelong.ingest.identity import registered_domain
from sidelong.ingest.schema import FLOW_SCHEMA, line_of, schema_of

__all__ = ["ENVOY_FIELDS", "envoy_flows"]

_TEXTS: Final = (
    *("method", "path", "protocol", "grpc_status"),
    *("flags", "details", "termination", "upstream_failure", "route"),
    *("downstream_remote", "downstream_direct_remote", "downstream_local"),
    *("upstream_host", "upstream_local", "upstream_cluster"),
    *("sni", "tls_version", "x_forwarded_for", "xfcc"),
    *("local_uri_san", "peer_uri_san", "upstream_peer_uri_san", "upstream_local_uri_san"),
    *("rbac_result", "rbac_policy", "log_type"),
    *("node", "pod", "workload", "ip"),
)

ENVOY_FIELDS: Final = schema_of(
    {
        "start_time": FLOW_SCHEMA["time"],
        "duration_ms": pl.Float64,
        "status": pl.UInt16,
        "bytes_received": pl.UInt64,
        "bytes_sent": pl.UInt64,
        "trusted_remote": pl.Boolean,
        **dict.fromkeys(_TEXTS, pl.String),
    }
)
"""One access log entry; every column but `start_time` may be missing, from the frame too.

Texts are as Envoy's operators of that name print them, with null for `-`:

- addresses `1.2.3.4:80`, `[2001:db8::1]:80`, or either without a port; pipes and internal listeners
  name nobody. `upstream_host` is where the request went, `upstream_local` the proxy's end of that.
- `flags` are response flags, short or long names, separated by commas. `details` are those of the
  response code, `termination` of the connection, `upstream_failure` the transport failure reason.
- `protocol` is null for a TCP connection. `status` 0 is none. `grpc_status` makes it gRPC.
- `bytes_received` came from downstream, that is from the client; `bytes_sent` went there.
- `x_forwarded_for` is "" where it is known that there was none.
- `*_uri_san` are those of certificates, the first counts: `local` and `peer` downstream,
  `upstream_peer` and `upstream_local` upstream. Istio's form without `spiffe://` is understood.
- `rbac_result`, `rbac_policy`: the enforced (not the shadow) result and policy id in the metadata
  of the RBAC filter.
- `node`, `pod` (`namespace/pod`), `workload` (`namespace/name`), `ip`: the proxy that reports, and
  the pod it belongs to.
- `log_type`: as ACCESS_LOG_TYPE says it. What is reported before the end is passed over.
- `trusted_remote`: `downstream_remote` counts even if it may come from `x-forwarded-for`.
"""

_ENDED: Final = ("NotSet", "DownstreamEnd", "TcpConnectionEnd")
_OUTBOUND: Final = ("PassthroughCluster", "BlackHoleCluster")
_LOOPBACK: Final = r"^(?:127\.|\[?::1\]?(?::\d+)?$)"
_ADDRESS: Final = (
    r"^(?:envoy://[^/]*/)?"
    r"(?:(?<four>\d{1,3}(?:\.\d{1,3}){3})|\[(?<six>[0-9A-Fa-f:.]+)(?:%\w+)?\]"
    r"|(?<bare>[0-9A-Fa-f]*:[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*))(?::(?<port>\d{1,5}))?$"
)
_IPV4: Final = r"^(?<ip>[0-9]{1,3}(?:\.[0-9]{1,3}){3}):(?<port>[0-9]{1,5})$"
_WITH_PORT: Final = r"(?:\]|\.\d{1,3}):\d+$"
_SERVICE: Final = r"^(?:outbound|inbound-vip)\|(?<port>\d{1,5})\|[^|]*\|(?<host>[^|;]+);?$"
_IN_CLUSTER: Final = r"^(?<service>[^.]+)\.(?<namespace>[^.]+)\.svc(?:\.|$)"
_DOMAIN: Final = r"^(?:\*\.)?((?:[a-z0-9_-]+\.)+[a-z][a-z0-9-]*)\.?$"
_XFCC_URI: Final = r';URI=([^;,"]+)(?:;DNS=[^;,"]*)*$'
_ISTIO_PRINCIPAL: Final = r"^([^/:]+/ns/[^/]+/sa/[^/]+)$"
_UNKNOWN: Final = "reserved:unknown"


def envoy_flows(fields: pl.DataFrame) -> pl.DataFrame:
    """Flows in `FLOW_SCHEMA` out of columns of `ENVOY_FIELDS`, in the order of the entries.

    An entry makes an attempt and, if it was answered, an answer; one of a client's proxy that sent
    nothing anywhere makes none.
    """
    have = fields.columns
    entries = fields.select(
        *(
            (pl.col(name) if name in have else pl.lit(None)).cast(dtype).alias(name)
            for name, dtype in ENVOY_FIELDS.items()
        ),
        *line_of(fields),
    )
    entries = entries.with_columns(pl.col("upstream_cluster").str.strip_suffix(";"))
    if entries["log_type"].null_count() < entries.height:
        entries = entries.filter(pl.col("log_type").fill_null(_ENDED[0]).is_in(_ENDED))
    entries = entries.with_columns(
        inbound=_inbound(),
        denied=was_denied(),
        http=pl.col("protocol").is_not_null()
        | pl.col("method").is_not_null()
        | (pl.col("status") > 0).fill_null(False),
    )
    entries = entries.with_columns(*outcome(), policy=policy_of()).drop_nulls("outcome")
    named = _with_principals(_with_servers(_with_ends(entries)))
    return exchange_flows(_exchanges(named))


def _inbound() -> pl.Expr:
    cluster, host = pl.col("upstream_cluster"), pl.col("upstream_host")
    return (
        pl.when(cluster.str.starts_with("outbound|") | cluster.is_in(_OUTBOUND))
        .then(False)
        .when(cluster.str.starts_with("inbound") | cluster.str.starts_with("InboundPassthrough"))
        .then(True)
        .when(cluster.is_null() & pl.col("sni").str.starts_with("outbound_."))
        .then(True)
        .when(host.is_null())
        .then(~chosen_here() & (cluster.is_null() | wants_tls()))
        .otherwise(host.str.contains(_LOOPBACK))
        .fill_null(False)
    )


def _claimed() -> pl.Expr:
    """Whether `downstream_remote` may be what a client wrote into `x-forwarded-for`."""
    remote, forwarded = pl.col("downstream_remote"), pl.col("x_forwarded_for")
    no_port = ~remote.str.contains(_WITH_PORT) & (forwarded != "").fill_null(True)
    return pl.col("http") & (remote.str.ends_with(":0") | no_port)


def _with_ends(entries: pl.DataFrame) -> pl.DataFrame:
    """Each entry with `client` and `server`, addresses as text, and the service it was sent to.

    own: whether the client is the pod of the proxy. hidden: it is not known who the client is.
    """
    inbound, host = pl.col("inbound"), pl.col("upstream_host").is_not_null()
    shown = pl.coalesce(
        "downstream_direct_remote",
        pl.when(pl.col("trusted_remote").fill_null(False) | ~_claimed()).then("downstream_remote"),
    )
    connected = ~inbound & pl.col("upstream_local").is_not_null()
    alone = ~inbound & ~host & ~connected  # no connection: whoever asked this proxy is the client
    known = pl.any_horizontal(pl.col("pod", "workload", "ip").is_not_null())
    cluster = pl.col("upstream_cluster")
    vip = cluster.str.starts_with("inbound-vip|").fill_null(False)
    piped = pl.col("upstream_host").str.contains("^[/@]").fill_null(False)
    wanted = ~cluster.str.contains(".svc.", literal=True) | ~host | piped
    service = pl.when(~inbound | vip, wanted).then(cluster).str.extract_groups(_SERVICE)
    return entries.with_columns(
        client=pl.when(connected)
        .then("upstream_local")
        .when(inbound | alone | ~known)
        .then(shown)
        .otherwise("ip"),
        port_told=inbound | connected,
        own=~inbound & (~alone | shown.is_null() | (_ip_of(shown) == pl.col("ip"))),
        hidden=shown.is_null() & pl.any_horizontal(pl.col("^downstream_.*remote$").is_not_null()),
        server=pl.when(~inbound | (vip & host)).then("upstream_host").otherwise("downstream_local"),
        service_port=service.struct.field("port"),
        host=service.struct.field("host").str.to_lowercase(),
    ).with_columns(
        server=pl.when(pl.col("server").is_null() & pl.col("host").is_null() & pl.col("denied"))
        .then("downstream_local")
        .otherwise("server")
    )


def _ip_of(address: pl.Expr) -> pl.Expr:
    return address.str.replace(r":\d+$", "").str.strip_chars("[]")


def _with_servers(entries: pl.DataFrame) -> pl.DataFrame:
    """Each entry with addresses and ports apart, and the server's name where its address has none.

    A service is not a workload: its name stands in only where no address is known. A host outside
    the cluster is its domain, known from the mesh's own configuration.
    """
    entries = entries.with_columns(
        part
        for end in ("client", "server")
        for part in _apart(entries[end], ip=f"{end}_ip", port=f"{end}_port")
    )
    inside = pl.col("host").str.extract_groups(_IN_CLUSTER).struct
    service = inside.field("namespace") + "/" + inside.field("service")
    domain = pl.when(service.is_null()).then(pl.col("host").str.extract(_DOMAIN, 1))
    entries = entries.with_columns(service=service, domain=domain)
    outside = pl.lit(True)
    if entries["domain"].null_count() < entries.height:
        asked = entries.select(pl.when(pl.col("domain").is_not_null()).then("server_ip"))
        outside = pl.lit(external_network(asked.to_series()).is_not_null())
        names = entries["domain"].unique().drop_nulls()
        registered = pl.Series([registered_domain(name) for name in names], dtype=pl.String)
        entries = entries.with_columns(
            pl.col("domain").replace_strict(names, registered, default=None)
        )
    no_address = pl.col("server_ip").is_null()
    return entries.with_columns(
        server_name=pl.when(no_address)
        .then(pl.coalesce("service", "domain"))
        .when(outside)
        .then("domain"),
        server_port=pl.coalesce(
            "server_port",
            pl.when(no_address).then(pl.col("service_port").cast(pl.UInt16, strict=False)),
        ),
    )


def _apart(addresses: pl.Series, *, ip: str, port: str) -> list[pl.Series]:
    """The addresses and the ports in texts; most are IPv4, which is read in half the time."""
    parts = addresses.str.extract_groups(_IPV4).struct.unnest()
    if parts["ip"].null_count() > addresses.null_count():
        full = addresses.str.extract_groups(_ADDRESS).struct.unnest()
        ips = pl.coalesce("four", "six", "bare").str.to_lowercase()
        parts = full.select(ips.alias("ip"), "port")
    ports = parts["port"].cast(pl.UInt16, strict=False).replace(0, None)
    return [parts["ip"].alias(ip), ports.alias(port)]


def _with_principals(entries: pl.DataFrame) -> pl.DataFrame:
    """Each entry with `caller` and `callee`, the identities that certificates prove."""

    def principal(name: str, pattern: str = r"^([^,]+)") -> pl.Expr:
        if entries[name].null_count() == entries.height:  # as in most logs
            return pl.lit(None, pl.String)
        return pl.col(name).str.extract(pattern).str.replace(_ISTIO_PRINCIPAL, "spiffe://${1}")

    inbound = pl.col("inbound")
    peer = pl.coalesce(principal("peer_uri_san"), principal("xfcc", _XFCC_URI))
    return entries.with_columns(
        caller=pl.when(inbound).then(peer).otherwise(principal("upstream_local_uri_san")),
        callee=pl.when(inbound)
        .then(principal("local_uri_san"))
        .otherwise(principal("upstream_peer_uri_san")),
    )


def _exchanges(entries: pl.DataFrame) -> pl.DataFrame:
    inbound, own, sent = pl.col("inbound"), pl.col("own"), pl.col("sent")
    http = pl.col("http") & sent
    caller, callee = pl.col("caller"), pl.col("callee")
    secured = pl.any_horizontal(
        caller.is_not_null(),
        callee.is_not_null(),
        pl.col("sni").is_not_null(),
        inbound & pl.col("tls_version").is_not_null(),
    )
    nobody = pl.col("client_ip").is_null() & caller.is_null() & pl.col("hidden")
    of_client = pl.when(own).then("workload")
    return entries.select(
        *line_of(entries),
        "outcome",
        "policy",
        "client_ip",
        "server_ip",
        "server_port",
        time="start_time",
        end=pl.col("start_time")
        + pl.duration(nanoseconds=pl.col("duration_ms") * 1e6, time_unit="ns"),
        client_port=pl.when("port_told").then("client_port"),
        client=pl.coalesce(
            of_client,
            pl.when(nobody & pl.coalesce(pl.when(own).then("pod"), of_client).is_null()).then(
                pl.lit(_UNKNOWN)
            ),
        ),
        client_pod=pl.when(own).then("pod"),
        client_principal=caller,
        server=pl.coalesce("server_name", pl.when(inbound).then("workload")),
        server_pod=pl.when(inbound).then("pod"),
        server_principal=callee,
        bytes_sent="bytes_received",
        bytes_received=pl.when(sent).then("bytes_sent"),  # else it was the proxy that spoke
        protocol=pl.when(pl.col("protocol") == "HTTP/3")
        .then(pl.lit("UDP"))
        .otherwise(pl.lit("TCP")),
        l7=pl.when(http & pl.col("grpc_status").is_not_null())
        .then(pl.lit("grpc"))
        .when(http)
        .then(pl.lit("http")),
        method=pl.when(http).then("method"),
        path=pl.when(http).then(_path()),
        status=pl.when(http).then("status"),
        drop_reason=pl.when(wants_tls()).then(pl.lit("AUTH_REQUIRED")),
        encrypted=pl.when(secured).then(True),
        origin=pl.when(inbound).then(pl.lit("envoy:inbound")).otherwise(pl.lit("envoy:outbound")),
        node=pl.coalesce("node", "pod"),
    )


def _path() -> pl.Expr:
    path = pl.col("path")
    longer = path.str.contains("[?#]")
    return pl.when(longer).then(path.str.extract(r"^([^?#]*)")).otherwise(path)
