"""What only looks like an attack raises nothing above info: each by itself, on a baseline of a day
and on one of ten minutes, while everybody else goes on with their work."""

from collections.abc import Callable
from typing import TypeAlias

import pytest
from benign_world import CALLS, DAY, HOUR, MINUTE, World
from builders import incidents, learnt

from sidelong.models.baseline import Baseline

Happening: TypeAlias = Callable[[World], None]

SPAN = 15 * MINUTE
EARLY = -3 * HOUR  # six in the morning: the world begins at nine


def six_o_clock(world: World, day: float) -> None:
    """A report that is made every morning: it reads everywhere, for three minutes."""
    job = f"shop/report-{29_700_000 + round(day)}-x2x4z"
    at = day * DAY + EARLY
    for name in ("orders.data.svc.cluster.local", "cache.data.svc.cluster.local"):
        world.look_up(at, "shop/report", name)
    world.resolve(at, "shop/report", "reports.storage.example.com")
    for second in range(180):
        for server, port in (("data/orders", 5432), ("data/cache", 6379), ("shop/mail", 8025)):
            if second % 4 == 0:
                world.call(at + 1 + second, "shop/report", server, port, pod=job)
    world.call(at + 200, "shop/report", "storage.example.com", 443, pod=job)


@pytest.fixture(scope="module")
def a_day() -> Baseline:
    world = World(seed=1)
    for hour in (-25, -3.5, -1):
        world.ordinary(hour * HOUR, (hour + 0.8) * HOUR)
        blacklists(world, hour * HOUR, 0.8 * HOUR)
    six_o_clock(world, 0)
    return learnt(world.flows())


@pytest.fixture(scope="module")
def ten_minutes() -> Baseline:
    world = World(seed=2)
    world.ordinary(-10 * MINUTE, 0, pace=0.5)
    return learnt(world.flows())


@pytest.fixture(params=["a_day", "ten_minutes"])
def baseline(request: pytest.FixtureRequest) -> Baseline:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Baseline)
    return found


def above_info(baseline: Baseline, happening: Happening, *without: str) -> list[str]:
    world = World(seed=3)
    world.ordinary(0, SPAN, without=without)
    happening(world)
    told = incidents(world.flows(), baseline)
    return [one.summary for one in told if one.severity != "info"]


def nothing(world: World) -> None:
    """Work goes on."""


def rollout(world: World) -> None:
    """Three pods of the front end after another, which know two more services and one more host."""
    world.templates["shop/web"] = "6c5d7f8b9"
    for number in range(3):
        at, pod = 60 + 90.0 * number, world.pod("shop/web", number)
        for name in ("api.shop", "search.shop", "flags.shop", "session.shop"):
            world.look_up(at, "shop/web", f"{name}.svc.cluster.local")
        world.resolve(at + 0.1, "shop/web", "telemetry.example.net")
        # The first one comes before what it depends on.
        for second in range(8):
            ends = "refused" if number == 0 and second < 5 else "answered"
            world.call(at + 1 + second, "shop/web", "shop/flags", 8080, ends, pod=pod)
            world.call(at + 1.5 + second, "shop/web", "shop/session", 6379, ends, pod=pod)
        for second in range(60):
            for server in ("shop/api", "shop/search"):
                world.call(at + 5 + second, "shop/web", server, 8080, pod=pod)
        world.call(at + 9, "shop/web", "telemetry.example.net", 443, pod=pod)
    world.probes(60, SPAN, ["shop/web"], every=10)
    world.scrapes(60, SPAN, ["shop/web"], every=30)


def added_dependency(world: World) -> None:
    """A new version begins to use a new service, a database of its own and one more host."""
    world.templates["shop/api"] = "6c5d7f8b9"
    new = (("shop/rates", 8080), ("shop/rates-db", 5432), ("tax/calculator", 8080))
    for second in range(0, 600, 5):
        pod = world.pod("shop/api", second % 3)
        for server, port in new:
            world.call(120 + second, "shop/api", server, port, pod=pod)
        world.call(121 + second, "shop/rates", "shop/rates-db", 5432)
    world.resolve(119, "shop/api", "rates.example.org")
    world.call(122, "shop/api", "rates.example.org", 443)


def configured_dependency(world: World) -> None:
    """The same without a new template: a setting was changed."""
    for second in range(0, 600, 5):
        world.call(120 + second, "shop/api", "shop/rates", 8080)
        world.call(120 + second, "shop/api", "tax/calculator", 8080)


def wide_scraper(world: World) -> None:
    """Five hundred targets for the scraper that is known, of which some come and go."""
    targets = [f"app{n // 20}/svc{n % 20}" for n in range(500)]
    world.replicas = 1
    for n, target in enumerate(targets):
        for turn in range(3):
            at = 30 + turn * 60 + n * 0.11
            ends = "silent" if n % 50 == 7 and turn == 0 else "answered"
            world.call(at, "monitoring/prometheus", target, 9100, ends)


def new_application(world: World) -> None:
    """Twelve services are installed at once; the scraper asks them before they listen."""
    world.replicas = 1
    for n in range(12):
        for turn in range(6):
            ends = "refused" if turn < 2 and n % 2 else "silent" if turn == 0 else "answered"
            world.call(60 + turn * 30 + n, "monitoring/prometheus", f"crm/part{n}", 9100, ends)


def new_scraper(world: World) -> None:
    """A second scraper begins its work: all is new to it, one target in forty is down."""
    world.replicas = 1
    for n in range(500):
        ends = "refused" if n % 40 == 11 else "answered"
        world.call(30 + n * 0.12, "monitoring/agent", f"app{n // 20}/svc{n % 20}", 9100, ends)


def morning_job(world: World) -> None:
    """The same again, a day later."""
    six_o_clock(world, 1)


def outage(world: World) -> None:
    """A database refuses, then is silent, for five minutes; everybody tries again and again."""
    for client in ("shop/cart", "shop/stock"):
        for second in range(300):
            ends = "refused" if second < 120 else "silent"
            port = 5432
            world.call(100 + second, client, "data/orders", port, ends)
    for second in range(0, 300, 3):
        for port in (5432, 5433, 6432):  # the standby, and the pooler
            world.call(100 + second, "shop/cart", "data/orders", port, "refused")


def resolver_outage(world: World) -> None:
    """Nobody answers to lookups; what is asked by name is not reached."""
    for client in sorted({client for client, *_ in CALLS}):
        for second in range(60):
            world.call(100 + second, client, "kube-system/coredns", 53, "silent")


def blacklists(world: World, since: float = 10, span: float = SPAN, every: float = 12) -> None:
    """A mail scanner asks a blacklist for each address that it hears from."""
    for n in range(round(span / every)):
        ip = ".".join(str(world.chance.randrange(1, 255)) for _ in range(4))
        for zone in ("zen.blocklist.example.org", "dnsbl.example.com"):
            name = f"{ip}.{zone}"
            world.look_up(since + n * every, "shop/mail", name, exists=n % 9 == 0)


def content_networks(world: World) -> None:
    """A front end asks for the shards of content networks, and for buckets of a store."""
    for n in range(240):
        at = 10 + n * 3.0
        world.look_up(at, "shop/web", f"e{9_000 + n % 40}.dscb.edgekey.example.net")
        world.look_up(at + 0.1, "shop/web", f"img{n % 16}.cdn.example.com")
        world.look_up(at + 0.2, "shop/web", f"media-{n % 25}.s3.eu-west-1.amazonaws.com")
        world.call(at + 0.3, "shop/web", "cdn.example.com", 443)


def search_paths(world: World) -> None:
    """Sixty hosts are looked up, and each through four search paths that do not hold it."""
    for n in range(60):
        world.resolve(10 + n * 2.0, "shop/api", f"host{n}.partner{n % 30}.example.org")


def wrong_names(world: World) -> None:
    """A program asks again and again for two services that were renamed."""
    for n in range(200):
        for name in ("billing.shop", "billing-v2.shop"):
            world.look_up(10 + n, "shop/api", f"{name}.svc.cluster.local", exists=False)


def many_probes(world: World) -> None:
    """Kubelets probe three hundred new pods, half of which are not up yet."""
    world.replicas = 1
    for n in range(300):
        for turn in range(5):
            ends = "refused" if turn < 2 and n % 2 else "answered"
            world.call(10 + n / 5 + turn * 10, "reserved:host", f"batch/b{n}", 8080, ends)
            # Where a node masks its address, its probes come from another node's.
            if n < 20:
                world.call(11 + n / 5 + turn * 10, "reserved:remote-node", f"batch/b{n}", 8080)


def endpoint_deaths(world: World) -> None:
    """Pods are gone, and their callers and the scraper go on to call where they were."""
    for number in range(3):
        pod = world.pod("shop/cart", number)
        other = world.pod("shop/stock", number)
        for second in range(40):
            for by in ("shop/api", "monitoring/prometheus"):
                port = 8080 if by == "shop/api" else 9100
                for gone, of in ((pod, "shop/cart"), (other, "shop/stock")):
                    ends = "refused" if second < 3 else "silent"
                    at = 100 + 20 * number + second
                    world.call(at, by, of, port, ends, peer_pod=gone, named=False)


HAPPENINGS = (
    nothing,
    rollout,
    added_dependency,
    configured_dependency,
    wide_scraper,
    new_application,
    new_scraper,
    morning_job,
    resolver_outage,
    blacklists,
    content_networks,
    search_paths,
    wrong_names,
    many_probes,
    endpoint_deaths,
)


@pytest.mark.parametrize("happening", HAPPENINGS, ids=lambda one: one.__name__)
def test_what_only_looks_like_an_attack_raises_nothing_above_info(
    baseline: Baseline, happening: Happening
) -> None:
    assert above_info(baseline, happening) == []


def test_nor_does_a_database_that_is_down(baseline: Baseline) -> None:
    assert above_info(baseline, outage, "data/orders") == []
