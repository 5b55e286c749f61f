"""Requests that Linkerd's proxies log at the server's end, as text ("apache") and as JSON.

A proxy tells who called, by address and, within the mesh, by identity, but not whom: that is the
pod that logs. The name a client asked for is the client's to write and is not taken for it. So the
pod has to be said in the settings; flows without one count as traffic but have no server.

A failed call has no status; it was asked, and not answered. Linkerd's `SA.NS.serviceaccount.
identity.linkerd.TRUST-DOMAIN` becomes `spiffe://TRUST-DOMAIN/ns/NS/sa/SA`, the form in which every
other mesh tells the same.

Source: linkerd2-proxy's http/access-log, 2.12 and later.
"""

from typing import Final

import msgspec
import polars as pl

from sidelong.ingest.exchanges import exchange_flows
from sidelong.ingest.hubble_flows import path_of
from sidelong.ingest.iso_times import iso_times
from sidelong.ingest.log_lines import JsonLog, TextLog
from sidelong.ingest.schema import line_of

__all__ = ["LinkerdSettings", "linkerd_json", "linkerd_lines"]

# From both ends: the client's words stand in the middle.
_LINE: Final = (
    r"^(?P<client>\S+) (?P<id>\S+) - \[(?P<time>[0-9T:.+Z-]+)\] "
    r'"(?P<method>[^ ]*) (?P<uri>(?s:.*)) HTTP/[0-9.]+"(?: (?P<status>[0-9]{3}))? ?$'
)
_KEYS: Final = {
    "client": "client.addr",
    "id": "client.id",
    "time": "timestamp",
    "method": "method",
    "uri": "uri",
    "status": "status",
    "sent": "request_bytes",
    "received": "response_bytes",
    "total_ns": "total_ns",
}
_ADDRESS: Final = r"^\[?(?P<ip>[0-9A-Fa-f.:]+?)\]?:(?P<port>\d{1,5})$"
_IDENTITY: Final = r"^([^.]+)\.([^.]+)\.serviceaccount\.identity\.[^.]+\.(.+)$"
_OWN_LINE: Final = r"^\[\s*\d+\.\d+s\]\s"


class LinkerdSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose log it is. Section [linkerd].

    pod (`namespace/pod`), workload (`namespace/name`), ip, port, principal: the server.
    """

    pod: str | None = None
    workload: str | None = None
    ip: str | None = None
    port: int | None = None
    principal: str | None = None


def linkerd_lines(settings: LinkerdSettings = LinkerdSettings()) -> TextLog:  # noqa: B008
    """Decodes lines of text."""
    return TextLog(_of_text, lambda entries: _flows(entries, settings))


def linkerd_json(settings: LinkerdSettings = LinkerdSettings()) -> JsonLog:  # noqa: B008
    """Decodes lines of JSON."""
    return JsonLog(_KEYS, _judged, lambda entries: _flows(entries, settings))


def _of_text(lines: pl.Series) -> pl.DataFrame:
    entries = lines.str.extract_groups(_LINE).struct.unnest()
    absent = (pl.lit(None, pl.String).alias(name) for name in ("sent", "received", "total_ns"))
    own = lines.str.contains(_OWN_LINE)
    judged = _judged(entries.with_columns(absent))
    return judged.with_columns(fault=pl.when(~own).then("fault"))


def _judged(entries: pl.DataFrame) -> pl.DataFrame:
    typed = entries.with_columns(
        time=iso_times(entries["time"]),
        status=pl.col("status").cast(pl.UInt16, strict=False),
    )
    usable = pl.col("time").is_not_null() & pl.col("client").is_not_null()
    return typed.with_columns(usable=usable).with_columns(
        fault=pl.when(~pl.col("usable")).then(pl.lit("no line of Linkerd's access log"))
    )


def _flows(entries: pl.DataFrame, settings: LinkerdSettings) -> pl.DataFrame:
    known = entries.with_columns(pl.col("client").str.extract_groups(_ADDRESS).alias("address"))
    address = pl.col("address").struct
    principal = pl.when(~pl.col("id").is_in(["-", ""])).then(
        pl.col("id").str.replace(_IDENTITY, "spiffe://${3}/ns/${2}/sa/${1}")
    )
    number = {
        name: pl.col(name).cast(pl.UInt64, strict=False)
        for name in ("sent", "received", "total_ns")
    }
    return exchange_flows(
        known.select(
            "time",
            "status",
            *line_of(known),
            end=pl.col("time") + pl.duration(nanoseconds=number["total_ns"].fill_null(0)),
            outcome=pl.when(pl.col("status").is_null())
            .then(pl.lit("UNANSWERED"))
            .otherwise(pl.lit("ANSWERED")),
            client_ip=address.field("ip").str.to_lowercase(),
            client_port=address.field("port").cast(pl.UInt16, strict=False),
            client_principal=principal,
            server=pl.lit(settings.workload),
            server_ip=pl.lit(settings.ip),
            server_port=pl.lit(settings.port),
            server_pod=pl.lit(settings.pod),
            server_principal=pl.lit(settings.principal),
            bytes_sent=number["sent"],
            bytes_received=number["received"],
            protocol=pl.lit("TCP"),
            l7=pl.lit("http"),
            method="method",
            path=path_of(pl.col("uri")),
            encrypted=pl.when(principal.is_not_null()).then(True),
            origin=pl.lit("linkerd:inbound"),
            node=pl.lit(settings.pod),
        )
    )
