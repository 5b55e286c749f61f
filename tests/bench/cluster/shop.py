"""The lab's cluster: a shop at work, with all that makes detectors cry wolf.

A mesh of HTTP services, a scraper that visits everybody, probes by the node, a nightly job that
comes every half minute, search paths tried for every outside name, a scanner of mail that asks
blacklists and a synchroniser of files that never asks for the same name twice.
"""

import random
from typing import Any, Final

from cluster.lab import Lab, Pod

__all__ = ["RESOLVER", "SEARCH", "TARGETS", "WORLD", "Shop"]

RESOLVER: Final = "10.244.0.10"
WORLD: Final = "198.51.100"
TUNNEL: Final = "203.0.113.66"
DROP: Final = "203.0.113.77"  # where exfiltrated names are answered
TARGETS: Final = tuple(
    f"10.244.{16 + half}.{host}" for half in (0, 1) for host in range(1, 251)
)  # five hundred pods, which one namespace stands for
_TARGET_NETWORK: Final = "10.244.16.0/23"
SEARCH: Final = ("svc.cluster.local", "cluster.local", "lab.internal")

_SERVICES: Final = {
    # name, namespace/workload, addresses, port, whom it calls (name, port, every so many seconds)
    "web": (
        "shop/web",
        ("10.244.1.10", "10.244.1.11"),
        8080,
        (("api", 8080, 0.7), ("cdn", 443, 6)),
    ),
    "api": (
        "shop/api",
        ("10.244.1.20", "10.244.1.21"),
        8080,
        (("cart", 8080, 1), ("stock", 8080, 2)),
    ),
    "cart": ("shop/cart", ("10.244.2.10",), 8080, (("cache", 6379, 0.8), ("orders", 5432, 2))),
    "stock": ("shop/stock", ("10.244.2.20",), 8080, (("orders", 5432, 1.5),)),
    "pay": ("pay/pay", ("10.244.3.10",), 8443, (("bank", 443, 4), ("ledger", 5432, 3))),
    "cache": ("data/cache", ("10.244.4.10",), 6379, ()),
    "orders": ("data/orders", ("10.244.4.20",), 5432, ()),
    "ledger": ("data/ledger", ("10.244.4.30",), 5432, ()),
    "mail": ("shop/mail", ("10.244.5.10",), 8025, (("relay", 25, 8),)),
    "files": ("shop/files", ("10.244.5.20",), 8080, (("store", 443, 5),)),
}
_OUTSIDE: Final = {
    "cdn": "cdn.assets.example.com",
    "bank": "api.bank.example.org",
    "relay": "mx.example.org",
    "store": "bucket.objects.example.com",
}


class Shop:
    """The pods of the shop in a lab. seed: of all chance."""

    def __init__(self, lab: Lab, seed: int) -> None:
        self.lab = lab
        self.chance = random.Random(seed)
        self._seed = seed

    def open(self) -> None:
        """Start all of it."""
        world = {f"{WORLD}.{n}" for n in (100, 120, 140, 160, 180)}
        # Whoever is asked for in the world answers: a few pods stand for all of it.
        for address in sorted(self._outside_addresses() | world):
            self.lab.pod(f"world-{address}", address, "world/host", {"serve": [25, 80, 443]})
        self.lab.pod("tunnel", TUNNEL, "world/tunnel")
        drop = self.lab.pod("drop", DROP, "world/drop")
        self.lab.program(drop, "resolver.py", {"cluster": {}, "zones": {}, "world": WORLD})
        names = {
            f"{name}.svc.cluster.local": addresses[0]
            for name, (_, addresses, _, _) in _SERVICES.items()
        }
        resolver = self.lab.pod("coredns", RESOLVER, "kube-system/coredns")
        zones = {"t.evil.example": TUNNEL, "d.evil.example": TUNNEL, "x.evil.example": DROP}
        told = {"cluster": names, "zones": zones, "world": WORLD, "empty": SEARCH}
        self.lab.program(resolver, "resolver.py", told)
        for name in _SERVICES:
            for number in range(len(_SERVICES[name][1])):
                self.begin(name, number)
        self._watchers()
        apps = self.lab.pod("apps", "10.244.6.30", "apps/any", {"serve": [9100]})
        names = {ip: f"apps{n // 20}/app{n % 20}" for n, ip in enumerate(TARGETS)}
        self.lab.hold(apps, _TARGET_NETWORK, names)

    def begin(
        self, name: str, number: int = 0, address: str | None = None, more: tuple[Any, ...] = ()
    ) -> Pod:
        """Start a pod of a service, at another address if it is new, with calls it did not make."""
        identity, addresses, port, calls = _SERVICES[name]
        suffix = f"-{address.rpartition('.')[2]}" if address else f"-{number}"
        behaviour = self._behaviour(serve=[port, 9100])
        behaviour["calls"] = [
            {"to": self._called(to), "port": at, "path": f"/{to}", "every": every}
            for to, at, every in (*calls, *more)
        ]
        if name == "mail":
            behaviour["lookups"] = [
                {"name": "{}.zen.blocklist.example.org", "new": "address", "every": 1.5}
            ]
        if name == "files":
            behaviour["lookups"] = [{"name": "{}.sync.example.com", "every": 20}]
        return self.lab.pod(f"{name}{suffix}", address or addresses[number], identity, behaviour)

    def address(self, name: str) -> str:
        """The first address of a service."""
        return _SERVICES[name][1][0]

    def _called(self, name: str) -> str | list[str]:
        if name in _OUTSIDE:
            return _OUTSIDE[name]
        return list(_SERVICES[name][1]) if len(_SERVICES[name][1]) > 1 else name

    def _behaviour(self, **more: Any) -> dict[str, Any]:
        seed = self.chance.randrange(1 << 30)
        return {"dns": RESOLVER, "search": list(SEARCH), "seed": seed, **more}

    def _watchers(self) -> None:
        everybody = [(name, at) for name, (_, at, _, _) in _SERVICES.items()]
        scrapes = [
            {"to": address, "port": 9100, "path": "/metrics", "every": 5}
            for _, addresses in everybody
            for address in addresses
        ]
        probes = [
            {"to": address, "port": _SERVICES[name][2], "path": "/healthz", "every": 3}
            for name, addresses in everybody
            for address in addresses
        ]
        self.lab.pod(
            "prometheus", "10.244.6.10", "monitoring/prometheus", self._behaviour(calls=scrapes)
        )
        self.lab.pod("node", "10.244.0.1", "kube-system/node", self._behaviour(calls=probes))
        nightly = [{"to": "orders", "port": 5432, "path": "/report", "every": 30}]
        self.lab.pod("report", "10.244.6.20", "shop/report", self._behaviour(calls=nightly))

    def _outside_addresses(self) -> set[str]:
        from cluster.resolver import address_of

        return {address_of(name, WORLD) for name in _OUTSIDE.values()}
