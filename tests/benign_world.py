"""A cluster at work, and what in it only looks like an attack: flows as telemetry shows them.

Forty pods of a shop that calls itself, a scraper, kubelets, a mail scanner; every call looked up
through search paths first. Deterministic: chance comes from a seed.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import polars as pl
from builders import address
from streams import START_NS

from sidelong.ingest.schema import TCP_FLAGS, conform

__all__ = ["CALLS", "DAY", "HOUR", "MINUTE", "World"]

MINUTE: Final = 60.0
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR

_SYN: Final = TCP_FLAGS["SYN"]
_SYN_ACK: Final = TCP_FLAGS["SYN"] | TCP_FLAGS["ACK"]
_RESET: Final = TCP_FLAGS["RST"] | TCP_FLAGS["ACK"]
_SEARCH: Final = (
    "shop.svc.cluster.local",
    "svc.cluster.local",
    "cluster.local",
    "corp.example.com",  # the node's own domain
)
_DNS: Final = "kube-system/coredns"

CALLS: Final = (
    # client, server, port, every so many seconds
    ("shop/web", "shop/api", 8080, 20),
    ("shop/web", "shop/search", 8080, 45),
    ("shop/api", "shop/cart", 8080, 30),
    ("shop/api", "shop/stock", 8080, 50),
    ("shop/api", "pay/pay", 8443, 60),
    ("shop/cart", "data/cache", 6379, 25),
    ("shop/cart", "data/orders", 5432, 60),
    ("shop/stock", "data/orders", 5432, 40),
    ("shop/search", "data/index", 9200, 35),
    ("pay/pay", "data/ledger", 5432, 55),
    ("pay/pay", "bank.example.org", 443, 90),
    ("shop/mail", "mx.example.org", 25, 70),
    ("shop/web", "cdn.example.com", 443, 80),
    ("ops/queue", "shop/mail", 8025, 65),
)
"""The ordinary calls."""


@dataclass
class World:
    """Tells what happens, second by second from `START`; `flows` puts it in order.

    templates: the hash in the names of a workload's pods, where it is not the first.
    """

    seed: int = 1
    replicas: int = 3
    templates: dict[str, str] = field(default_factory=dict)
    _rows: list[dict[str, Any]] = field(default_factory=list)
    _port: int = 32_768

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)

    def flows(self) -> pl.DataFrame:
        """All that was told, in `FLOW_SCHEMA`, in the order of time."""
        frame = pl.DataFrame(self._rows, infer_schema_length=None)
        frame = frame.with_columns(pl.col("time").cast(pl.Datetime("ns", "UTC")))
        return conform(frame.sort("time", maintain_order=True))

    def pod(self, workload: str, number: int | None = None) -> str | None:
        """The name of a pod of a workload; None of what has none."""
        if "/" not in workload:
            return None
        number = self.chance.randrange(self.replicas) if number is None else number
        suffix = ("b2c4d", "f5g6h", "j7k8l", "m9n2p", "q4r5s")[number % 5]
        return f"{workload}-{self.templates.get(workload, '7d9f8c6b5')}-{suffix}"

    def call(
        self,
        at: float,
        client: str,
        server: str,
        port: int,
        ends: str = "answered",
        *,
        pod: str | None = None,
        peer_pod: str | None = None,
        named: bool = True,
    ) -> None:
        """A connection: answered, refused, silent or denied. named: whether the source knows who
        the server is."""
        pod = pod or self.pod(client)
        peer_pod = peer_pod or self.pod(server)
        self._port = 32_768 + (self._port + 1) % 28_000
        here = (client, pod, address(pod or client), self._port)
        shown = (server, peer_pod) if named else (None, None)
        there = (*shown, address(peer_pod or server), port)
        self._row(at, here, there, False, flags=_SYN, denied=ends == "denied")
        if ends in ("answered", "refused"):
            flags = _SYN_ACK if ends == "answered" else _RESET
            self._row(at + 0.002, here, there, True, flags=flags)

    def look_up(
        self, at: float, client: str, name: str, *, exists: bool = True, kind: str = "A"
    ) -> None:
        """A question to the resolver of the cluster, and its answer."""
        pod = self.pod(client)
        self._port = 32_768 + (self._port + 1) % 28_000
        here = (client, pod, address(pod or client), self._port)
        there = (_DNS, f"{_DNS}-5d78c9869d-x2x4z", address(_DNS), 53)
        dns: dict[str, Any] = {"dns_name": name, "dns_type": kind, "l7": "dns", "protocol": "UDP"}
        self._row(at, here, there, False, **dns)
        self._row(at + 0.001, here, there, True, **dns, dns_rcode=0 if exists else 3)

    def resolve(self, at: float, client: str, name: str) -> None:
        """What a stub resolver with `ndots:5` makes of a name: the search paths first."""
        for suffix in _SEARCH:
            for kind in ("A", "AAAA"):
                self.look_up(at, client, f"{name}.{suffix}", exists=False, kind=kind)
        self.look_up(at, client, name)
        self.look_up(at, client, name, kind="AAAA")

    def ordinary(
        self, since: float, until: float, *, pace: float = 1.0, without: Iterable[str] = ()
    ) -> None:
        """Everybody's calls, as they always are. without: servers that are down meanwhile."""
        down = set(without)
        for client, server, port, every in CALLS:
            at = since + self.chance.uniform(0, every * pace)
            while at < until:
                outside = "/" not in server
                if outside and self.chance.random() < 0.2:
                    self.resolve(at, client, server)
                elif not outside and self.chance.random() < 0.2:
                    self.look_up(at, client, f"{server.split('/')[1]}.svc.cluster.local")
                if server not in down:
                    self.call(at + 0.01, client, server, port)
                at += every * pace * self.chance.uniform(0.6, 1.4)
        self.scrapes(since, until, _everybody(), every=60 * pace)
        self.probes(since, until, _everybody(), every=60 * pace)

    def scrapes(
        self,
        since: float,
        until: float,
        targets: Iterable[str],
        every: float,
        by: str = "monitoring/prometheus",
    ) -> None:
        """A scraper that visits each pod of its targets, again and again."""
        for target in targets:
            for number in range(self.replicas):
                at = since + self.chance.uniform(0, every)
                while at < until:
                    self.call(at, by, target, 9100, peer_pod=self.pod(target, number))
                    at += every

    def probes(self, since: float, until: float, targets: Iterable[str], every: float) -> None:
        """Kubelets that ask each pod on their node whether it is well."""
        for target in targets:
            for number in range(self.replicas):
                at = since + self.chance.uniform(0, every)
                while at < until:
                    self.call(at, "reserved:host", target, 8080, peer_pod=self.pod(target, number))
                    at += every

    def _row(
        self,
        at: float,
        here: tuple[Any, ...],
        there: tuple[Any, ...],
        back: bool,
        *,
        flags: int | None = None,
        denied: bool = False,
        protocol: str = "TCP",
        **more: Any,
    ) -> None:
        source, target = (there, here) if back else (here, there)
        row: dict[str, Any] = {"time": START_NS + round(at * 1e9)}
        for side, (name, pod, ip, port) in (("src", source), ("dst", target)):
            row |= {side: name, f"{side}_pod": pod, f"{side}_ip": ip, f"{side}_port": port}
        row |= {
            "protocol": protocol,
            "reply": back,
            "verdict": "DROPPED" if denied else "FORWARDED",
            "drop_reason": "POLICY_DENIED" if denied else None,
            "tcp_flags": flags,
            "origin": "hubble",
        }
        self._rows.append(row | more)


def _everybody() -> list[str]:
    return sorted(
        {name for client, server, *_ in CALLS for name in (client, server) if "/" in name}
    )
