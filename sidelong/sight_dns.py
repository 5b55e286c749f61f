"""What can be seen of DNS: names, answers, and what is encrypted."""

from typing import Final

import polars as pl

from sidelong.ingest.schema import TCP_FLAGS
from sidelong.models.resolver_bypass import PUBLIC_RESOLVERS
from sidelong.sight import Check, Cures, Finding, Sample, named, percent
from sidelong.terminal import plural

__all__ = ["DNS_CHECKS", "encrypted_dns", "no_dns_answers", "no_dns_names", "some_dns_names"]

_TO_DNS: Final = (pl.col("dst_port") == 53) & pl.col("reply").not_().fill_null(True)
_NAMED: Final = pl.col("dns_name").is_not_null()

_VISIBILITY: Final = (
    "let Cilium's DNS proxy see lookups, with a CiliumNetworkPolicy that allows egress to kube-dns "
    'port 53 with rules: dns: [{matchPattern: "*"}] (the pod annotation '
    "policy.cilium.io/proxy-visibility did that up to Cilium 1.16 and is gone since 1.17)"
)
_NAMES: Final = Cures(
    "collect a source that shows DNS names as well, such as Hubble with DNS visibility, or Zeek's "
    "dns.log",
    hubble=f"{_VISIBILITY}; if you have one, see that no filter or field mask leaves out L7 flows",
    pcap="capture port 53 too, between the pods and their resolver",
    zeek="give the folder with Zeek's dns.log beside its conn.log",
)
_ANSWERS: Final = Cures(
    "collect both directions of port 53",
    hubble="see that no filter leaves out replies (--reply=false, or an allowlist of requests)",
)


def no_dns_names(sample: Sample) -> Finding | None:
    """No flow shows which name was asked."""
    if sample.seen.is_empty() or sample.seen.select(_NAMED.any()).item():
        return None
    lookups = sample.seen.filter(_TO_DNS).height
    seen = f"{plural(lookups, 'flow')} to port 53 among them" if lookups else "none to port 53"
    return Finding(
        code="no-dns-names",
        effects={"dns_exfiltration": "blind"},
        observed=f"none of {plural(sample.seen.height, 'flow')} shows a DNS name, {seen}",
        cure=_NAMES.of(sample),
        measured={"flows": sample.seen.height, "flows_to_port_53": lookups},
    )


def some_dns_names(sample: Sample) -> Finding | None:
    """Some workloads ask where names are seen, and others where they are not."""
    asked = sample.normal.filter(_TO_DNS | (_NAMED & ~pl.col("reply").fill_null(False)))
    by_actor = asked.group_by("src").agg(shown=_NAMED.any()).drop_nulls("src").sort("src")
    # A resolver asks others beyond the proxy that shows what it is asked.
    resolvers = asked["dst"].unique().implode()
    clients = by_actor.filter(~pl.col("src").is_in(resolvers))
    hidden = clients.filter(~pl.col("shown"))["src"].to_list()
    if not hidden or len(hidden) == clients.height:
        return None
    return Finding(
        code="some-dns-names",
        effects={"dns_exfiltration": "partly"},
        observed=f"{len(hidden):,} of {plural(clients.height, 'workload')} that use DNS show no "
        f"names: {named(hidden)}",
        cure=_NAMES.of(sample),
        measured={"workloads": clients.height, "without_names": hidden},
    )


def no_dns_answers(sample: Sample) -> Finding | None:
    """Questions are seen, answers are not."""
    rows = sample.normal.filter(_NAMED)
    if rows.is_empty():
        return None
    answers = rows.filter(pl.col("reply") | pl.col("dns_rcode").is_not_null()).height
    if answers:
        return None
    return Finding(
        code="no-dns-answers",
        effects={"scan": "partly", "lateral_movement": "partly"},
        observed=f"{plural(rows.height, 'DNS question')} and not one answer: names that do not "
        "exist are not noticed, and outside peers are called by their network, not their domain",
        cure=_ANSWERS.of(sample),
        measured={"questions": rows.height},
    )


def encrypted_dns(sample: Sample) -> Finding | None:
    """Somebody asks where nobody can see what."""
    port, server = pl.col("src_port"), pl.col("src_ip")
    # Only what is answered: whoever scans a network meets port 853 too.
    rows = sample.normal.filter(
        "reply",
        (port == 853) | ((port == 443) & server.is_in(PUBLIC_RESOLVERS)),
        (pl.col("tcp_flags").fill_null(0) & TCP_FLAGS["RST"]) == 0,
        ~pl.col("verdict").cast(pl.String).is_in(["DROPPED", "ERROR"]).fill_null(False),
    )
    if rows.is_empty():
        return None
    actors = rows["dst"].drop_nulls().unique().sort().to_list()
    servers = rows["src_ip"].unique().sort().to_list()
    return Finding(
        code="encrypted-dns",
        effects={"dns_exfiltration": "partly"},
        observed=f"{named(actors)}: encrypted DNS to {named(servers)}, of which only the "
        f"connection shows ({percent(rows.height, sample.normal.height)} % of the flows)",
        cure="deny egress to port 853 and to public resolvers, so that lookups go through the "
        "cluster's resolver",
        measured={"flows": rows.height, "workloads": actors, "servers": servers},
    )


DNS_CHECKS: Final[tuple[Check, ...]] = (
    no_dns_names,
    some_dns_names,
    no_dns_answers,
    encrypted_dns,
)
