"""What can be seen of connections: how they begin, what they carry, who forbade them."""

from typing import Final

import polars as pl

from sidelong.ingest.schema import TCP_FLAGS
from sidelong.sight import Check, Cures, Finding, Sample, percent
from sidelong.terminal import plural

__all__ = [
    "CONNECTION_CHECKS",
    "aggregated",
    "no_bytes",
    "no_connection_starts",
    "no_denials",
    "no_http",
    "no_policy_names",
    "no_replies",
]

_FEW_ANSWERED: Final = 0.1
_ENOUGH: Final = 20
_SYN, _ACK = TCP_FLAGS["SYN"], TCP_FLAGS["ACK"]
_STARTS: Final = (pl.col("tcp_flags") & (_SYN | _ACK)) == _SYN
_DENIED: Final = pl.col("verdict").cast(pl.String).is_in(["DROPPED", "AUDIT"])

_STARTS_CURE: Final = Cures(
    "collect a source below HTTP as well, such as Hubble or Zeek's conn.log",
    hubble="see that no filter or field mask leaves out L3/L4 flows, their l4 and their verdict",
    zeek="give the folder with Zeek's conn.log",
    pcap="capture TCP too: a filter has left it out",
)
_BYTES_CURE: Final = Cures(
    "collect a source that counts bytes as well, such as mesh access logs or Zeek",
    hubble="Hubble counts no bytes: collect mesh access logs, NetObserv, IPFIX or Zeek as well",
)
_REPLIES_CURE: Final = Cures(
    "collect both directions",
    hubble="see that no filter leaves out replies, and that the nodes of both ends are observed",
    pcap="capture on an interface where both directions pass",
)


def no_connection_starts(sample: Sample) -> Finding | None:
    """No TCP connection is seen to begin."""
    seen = sample.seen
    if seen.is_empty() or seen.select(_STARTS.any()).item():
        return None
    requests = seen.filter(pl.col("status").is_not_null() | pl.col("method").is_not_null()).height
    tcp = seen.filter(pl.col("protocol").cast(pl.String) == "TCP").height
    what = (
        f"of {plural(tcp, 'TCP flow')} none opens a connection"
        if tcp
        else "there is no TCP flow at all"
    )
    only = ", only HTTP requests show" if requests else ""
    return Finding(
        code="no-connection-starts",
        effects={
            "scan": "partly" if requests else "blind",
            "lateral_movement": "partly" if requests else "blind",
            "anomaly": "partly",
        },
        observed=f"{what}{only}: probes that fail, and new connections, go unnoticed",
        cure=_STARTS_CURE.of(sample),
        measured={"tcp_flows": tcp, "requests": requests},
    )


def no_replies(sample: Sample) -> Finding | None:
    """Connections are seen to be opened, and hardly any to be answered."""
    ends = ("src_ip", "src_port", "dst_ip", "dst_port")
    opened = sample.seen.filter(_STARTS).select(ends).unique()
    if opened.height < _ENOUGH:
        return None
    back = sample.seen.select(
        pl.col(here).alias(there)
        for here, there in zip(ends, ("dst_ip", "dst_port", "src_ip", "src_port"), strict=True)
    )
    answered = opened.join(back, on=ends, how="semi", nulls_equal=True).height
    if answered >= _FEW_ANSWERED * opened.height:
        return None
    return Finding(
        code="no-replies",
        effects={"scan": "partly", "lateral_movement": "partly"},
        observed=f"{answered:,} of {plural(opened.height, 'TCP connection')} show an answer: "
        "either everything fails here, or the way back is not seen, and all looks like failure",
        cure=_REPLIES_CURE.of(sample),
        measured={"opened": opened.height, "answered": answered},
    )


def no_bytes(sample: Sample) -> Finding | None:
    """Nobody counts how much is sent."""
    if sample.seen.is_empty() or sample.seen["bytes"].count():
        return None
    return Finding(
        code="no-bytes",
        effects={"anomaly": "partly"},
        observed="no flow says how many bytes it carried: unusual volumes go unnoticed",
        cure=_BYTES_CURE.of(sample),
        measured={"flows": sample.seen.height},
    )


def aggregated(sample: Sample) -> Finding | None:
    """Most rows stand for several events."""
    rows = sample.seen.filter(pl.col("count") > 1, pl.col("origin") != "pcap")
    if rows.height * 2 <= sample.seen.height:
        return None
    return Finding(
        code="aggregated",
        effects={"scan": "partly"},
        observed=f"{percent(rows.height, sample.seen.height)} % of the flows stand for several "
        "events: how a single connection began and ended does not show",
        cure=Cures(
            "export without aggregation or sampling, or with the shortest interval there is",
            hubble="take aggregationOptions out of the exporter's flow log, or read Hubble itself",
        ).of(sample),
        measured={"flows": rows.height, "events": int(rows["count"].sum())},
    )


def no_denials(sample: Sample) -> Finding | None:
    """Not one flow was denied; a note, for there may have been nothing to deny."""
    if sample.seen.is_empty() or sample.seen.select(_DENIED.any()).item():
        return None
    return Finding(
        code="no-denials",
        observed="no flow was denied by a policy: a denial is strong evidence where it shows",
        cure=Cures(
            "collect Hubble, or logs of a mesh that enforces policies, to see denials",
            hubble="if there are policies, see that drops and policy verdicts are exported",
        ).of(sample),
        measured={"flows": sample.seen.height},
    )


def no_policy_names(sample: Sample) -> Finding | None:
    """Flows are denied, and none says by which policy; a note."""
    denied = sample.seen.filter(_DENIED)
    if denied.is_empty() or denied["policy"].count() or "hubble" not in sample.kinds:
        return None
    return Finding(
        code="no-policy-names",
        observed=f"{plural(denied.height, 'flow')} denied, and none says by which policy",
        cure="set hubble.networkPolicyCorrelation.enabled in Cilium's Helm values (on by default "
        "in new versions); a denial for want of any rule has no policy to name",
        measured={"denied": denied.height},
    )


def no_http(sample: Sample) -> Finding | None:
    """Requests and their status do not show; a note."""
    if sample.seen.is_empty() or sample.seen["status"].count():
        return None
    return Finding(
        code="no-http",
        observed="no flow shows an HTTP status: scans of paths go unnoticed",
        cure=Cures(
            "collect mesh access logs as well",
            hubble="add an L7 rule to a CiliumNetworkPolicy: rules: http: [{}], or collect mesh "
            "access logs as well",
        ).of(sample),
        measured={"flows": sample.seen.height},
    )


CONNECTION_CHECKS: Final[tuple[Check, ...]] = (
    no_connection_starts,
    no_replies,
    aggregated,
    no_bytes,
    no_denials,
    no_policy_names,
    no_http,
)
