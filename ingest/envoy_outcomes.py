"""What became of a request or connection that an Envoy tells of: by flags, details, reasons.

The client's proxy ("outbound") tells of what it sent upstream, the server's ("inbound") of what
came to it. What a proxy answers in its own name is no answer of the server.

| seen | outbound: client to server | inbound: client to this pod |
| --- | --- | --- |
| details `rbac_access_denied*`, RBAC metadata, UAEX | DENIED | DENIED |
| `BlackHoleCluster`, route `block_all` | DENIED | - |
| `filter_chain_not_found`: no mutual TLS where it must be | - | DENIED, AUTH_REQUIRED |
| UF, connection refused | REFUSED, nothing of the request | HTTP: 503 ANSWERED; TCP: REFUSED |
| UF, TLS failed | ANSWERED: connected, no request sent | the same as above |
| UF, timed out, unreachable | UNANSWERED, nothing of the request | HTTP ANSWERED; TCP UNANSWERED |
| UH, no healthy endpoint | UNANSWERED, by the name of the service | ANSWERED, 503 |
| NR NC UO DF RL, direct response: no upstream host | no row: nothing was sent | ANSWERED |
| UT UC UR UPE LR SI UMSDR, 5xx made here | the request, no answer | ANSWERED, by the proxy |
| DC, status 0 | the request, no answer | the request, no answer |
| anything else | ANSWERED, status if `via_upstream` | ANSWERED, status |

A rate limit (RL) is no policy in this sense, and neither is a token that is missing or wrong.

Sources: Envoy's documentation of access logs and of response code details; its RBAC filters, which
write the details quoted here; Istio's names of clusters and routes.
"""

from typing import Final

import polars as pl

__all__ = ["chosen_here", "outcome", "policy_of", "wants_tls", "was_denied"]


def _flag(*names: str) -> str:
    return rf"(?:^|,)(?:{'|'.join(names)})(?:,|$)"


# Short and long names (RESPONSE_FLAGS, RESPONSE_FLAGS_LONG).
_NOT_CONNECTED: Final = _flag("UF", "UpstreamConnectionFailure")
_NOT_HEALTHY: Final = _flag("UH", "NoHealthyUpstream")
_NOT_ALLOWED: Final = _flag("UAEX", "UnauthorizedExternalService")
_NOT_SENT: Final = _flag(
    *("NR", "NC", "UO", "UH", "DF", "NFCF"),
    *("NoRouteFound", "NoClusterFound", "UpstreamOverflow", "NoHealthyUpstream"),
    *("DnsResolutionFailed", "NoFilterConfigFound"),
)
_ANSWERED_HERE: Final = _flag(
    *("UF", "UH", "UO", "UT", "UC", "UR", "UPE", "LR", "SI", "UMSDR", "NR", "NC", "DF", "RL"),
    *("UpstreamConnectionFailure", "NoHealthyUpstream", "UpstreamOverflow", "NoRouteFound"),
    *("UpstreamRequestTimeout", "UpstreamConnectionTermination", "UpstreamRemoteReset"),
    *("UpstreamProtocolError", "LocalReset", "StreamIdleTimeout", "NoClusterFound"),
    *("UpstreamMaxStreamDurationReached", "DnsResolutionFailed", "RateLimited"),
)
_REFUSED: Final = r"(?i)connection[ _](?:refused|reset)|connect[ _]error:[ _]*111\b"
_TLS_FAILED: Final = r"(?i)\bTLS[ _]error|CERTIFICATE_VERIFY_FAILED"
_RBAC: Final = "rbac_access_denied"
_POLICY: Final = r"ns\[([^\]]+)\]-policy\[([^\]]+)\]"
_OTHER_POLICY: Final = r"^(?:rbac_access_denied_matched_policy\[)?([^\[\]]+)\]?$"
_NO_POLICY: Final = "none"

_FLAGS, _DETAILS = pl.col("flags"), pl.col("details")
_HOST: Final = pl.col("upstream_host").is_not_null()


def _has(text: pl.Expr, pattern: str) -> pl.Expr:
    return text.str.contains(pattern).fill_null(False)


def wants_tls() -> pl.Expr:
    """Whether a server's proxy found no way to take the connection: as a rule, for want of TLS."""
    return (_DETAILS == "filter_chain_not_found").fill_null(False)


def chosen_here() -> pl.Expr:
    """Whether a proxy failed to choose where to send: what a client's proxy does."""
    return (_has(_FLAGS, _NOT_SENT) & ~wants_tls()) | (pl.col("route") == "block_all").fill_null(
        False
    )


def was_denied() -> pl.Expr:
    """Whether policy kept the client out."""
    blackhole = (pl.col("upstream_cluster") == "BlackHoleCluster") | (
        (pl.col("route") == "block_all") & ~_HOST
    )
    return (
        _DETAILS.str.starts_with(_RBAC).fill_null(False)
        | pl.col("termination").str.starts_with(_RBAC).fill_null(False)
        | (pl.col("rbac_result") == "denied").fill_null(False)
        | (_DETAILS == "ext_authz_denied").fill_null(False)
        | _has(_FLAGS, _NOT_ALLOWED)
        | wants_tls()
        | blackhole.fill_null(False)
    )


def policy_of() -> pl.Expr:
    """The policy that denied, `namespace/name` for Istio's; null where none did or none matched."""
    told = pl.coalesce(
        *(
            pl.when(text.str.starts_with(_RBAC)).then(text)
            for text in (_DETAILS, pl.col("termination"))
        ),
        pl.when(pl.col("rbac_result") == "denied").then("rbac_policy"),
    )
    groups = told.str.extract_groups(_POLICY).struct
    istio = groups.field("1") + "/" + groups.field("2")
    return pl.coalesce(istio, told.str.extract(_OTHER_POLICY, 1).replace(_NO_POLICY, None))


def outcome() -> list[pl.Expr]:
    """Columns `outcome` (null: nothing was sent), `sent` of the request, `status` of the server.

    Takes `ENVOY_FIELDS` with `inbound`, `denied` and `http`.
    """
    inbound, denied, http = pl.col("inbound"), pl.col("denied"), pl.col("http")
    status = pl.when(pl.col("status") > 0).then("status")
    failed = _has(_FLAGS, _NOT_CONNECTED)
    why = pl.concat_str(
        [pl.when(failed).then(text) for text in (pl.col("upstream_failure"), _DETAILS)],
        separator=" ",
        ignore_nulls=True,
    )
    refused, tls = failed & _has(why, _REFUSED), failed & _has(why, _TLS_FAILED)
    broken = (
        pl.when(refused)
        .then(pl.lit("REFUSED"))
        .when(tls)
        .then(pl.lit("ANSWERED"))
        .otherwise(pl.lit("UNANSWERED"))
    )
    of_server = (
        pl.when(_DETAILS.is_null())
        .then(~_has(_FLAGS, _ANSWERED_HERE))
        .otherwise(
            _DETAILS.str.starts_with("via_upstream")
            | _DETAILS.str.contains("after_response_started", literal=True)
        )
    )
    reached = (
        _HOST
        | _DETAILS.str.starts_with("via_upstream").fill_null(False)
        | (_DETAILS.is_null() & _FLAGS.is_null() & pl.col("upstream_cluster").is_not_null())
    )
    spoke = pl.when(http & (~(inbound | of_server) | status.is_null())).then(pl.lit("UNANSWERED"))
    result = (
        pl.when(denied)
        .then(pl.lit("DENIED"))
        .when(~inbound & ~reached)
        .then(pl.when(_has(_FLAGS, _NOT_HEALTHY)).then(pl.lit("UNANSWERED")))
        .when(failed & ~(inbound & http))
        .then(broken)
        .otherwise(spoke.fill_null("ANSWERED"))
    )
    request = denied | (inbound & http) | (reached & ~failed)
    return [
        result.alias("outcome"),
        request.alias("sent"),
        pl.when(inbound | denied | of_server, request).then(status).alias("status"),
    ]
