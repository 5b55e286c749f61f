"""Who does what in a slot of simulated time: exchanges by edges, probes, scrapes, jobs, lookups."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sidelong.simulation_cluster import Cluster, Edges, Kind
from sidelong.simulation_exchanges import DNS, LENGTHS, REFUSED, SILENT, TCP
from sidelong.simulation_places import TURNS, Names, Places
from sidelong.simulation_schedule import ALWAYS, SECOND, Schedule

__all__ = ["Exchanges", "Traffic", "joined"]

Ints = NDArray[np.int64]

_PROBE_SECONDS: Final = 10.0
_SCRAPE_SECONDS: Final = 30.0
_ROUTINE: Final = 0.2  # the most of all rows that probes and scrapes may be
_LEAST_RATE: Final = 1 / 240  # of an edge, exchanges/s, so that none is a rarity
_LEAST_SHARE: Final = 0.2  # as long as that takes no more than so much of all
_METRICS: Final = 9102
_FAILING: Final = 0.001  # of exchanges, at any time
_A_LOOKUP: Final = 1_500_000
_TURN: Final = 300 * SECOND


class Exchanges(NamedTuple):
    """Exchanges as columns: when they begin, of which kind, between which ends of `Places`, over
    which ports, how long the way there and back takes, and how long they last, in nanoseconds.

    name: of the name or path asked for. asks: the type of a question, 0 A, 1 AAAA, 2 TXT.
    """

    time: Ints
    kind: Ints
    client: Ints
    server: Ints
    client_port: Ints
    server_port: Ints
    trip: Ints
    lasts: Ints
    name: Ints
    asks: Ints

    @property
    def size(self) -> int:
        """How many."""
        return len(self.time)

    def of(self, which: NDArray[np.int64] | NDArray[np.bool_]) -> "Exchanges":
        """Some of them."""
        return Exchanges(*(column[which] for column in self))


def joined(parts: Sequence[Exchanges]) -> Exchanges:
    """All of the parts, one after the other."""
    return Exchanges(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


class Traffic:
    """Draws the exchanges of a slot. rate: rows a second that are wanted at the mean load."""

    def __init__(
        self, cluster: Cluster, schedule: Schedule, places: Places, names: Names, rate: float
    ) -> None:
        self._cluster, self._schedule, self._places, self._names = cluster, schedule, places, names
        self._seats = schedule.first.copy()
        self._before = 0  # changes of seats that lie behind
        pods = len(self._seats)
        routine = LENGTHS[TCP] * pods * (1 / _PROBE_SECONDS + 1 / _SCRAPE_SECONDS)
        self._stretch = max(1.0, routine / (_ROUTINE * rate))
        self._rates = _scaled(cluster.edges, names, rate - min(routine, _ROUTINE * rate))
        self._doubles = np.arange(len(cluster.workloads)) % 2 == 0  # these ask for AAAA as well
        self._kinds = np.array([one.kind for one in cluster.workloads])
        self._ports = np.array([one.port for one in cluster.workloads], np.int64)
        workload = np.repeat(np.arange(len(cluster.workloads)), schedule.replicas)
        self._seat_port = np.where(self._kinds == Kind.DNS, 8080, self._ports)[workload]
        self._job_first = np.searchsorted(cluster.jobs.client, np.arange(len(self._kinds)))
        self._job_count = np.bincount(cluster.jobs.client, minlength=len(self._kinds))

    def drawn(
        self, start: int, length: int, load: float, chance: np.random.Generator
    ) -> list[Exchanges]:
        """The exchanges that begin within `length` ns from `start`; slots must be asked for in
        order. load: as a multiple of the mean."""
        end = start + length
        times, seats, pods = self._schedule.changes
        until = int(np.searchsorted(times, end))
        now = slice(self._before, until)
        moves = np.full(len(self._seats), ALWAYS, np.int64)
        after = self._seats.copy()
        moves[seats[now]], after[seats[now]] = times[now], pods[now]
        slot = _Slot(start, end, self._seats, moves, after, chance)
        found = [
            *self._steady(slot, load),
            *self._jobs(slot),
            self._probes(slot),
            self._scrapes(slot),
        ]
        self._seats, self._before = after, until
        return found

    def pod_of(self, workload: int) -> int:
        """The pod that is the first replica of a workload at the end of the last slot."""
        return int(self._seats[self._schedule.first_seat[workload]])

    def _steady(self, slot: "_Slot", load: float) -> list[Exchanges]:
        edges = self._cluster.edges
        counts = slot.chance.poisson(self._rates * load * ((slot.end - slot.start) / SECOND))
        edge = np.repeat(np.arange(len(counts)), counts)
        time = slot.start + (slot.chance.random(len(edge)) * (slot.end - slot.start)).astype(
            np.int64
        )
        client = self._ends(edges.client[edge], time, slot)
        return self._called(edges, edge, client, time, slot, 0)

    def _jobs(self, slot: "_Slot") -> list[Exchanges]:
        runs, edges = self._schedule.runs, self._cluster.jobs
        low, high = np.searchsorted(runs.start, (slot.start, slot.end))
        if low == high:
            return []
        workload = runs.workload[low:high]
        run = np.repeat(np.arange(low, high), self._job_count[workload])
        edge = self._job_first[runs.workload[run]] + _within(self._job_count[workload])
        counts = slot.chance.poisson(edges.rate[edge])
        run, edge = np.repeat(run, counts), np.repeat(edge, counts)
        share = slot.chance.random(len(run)) * 0.9
        time = runs.start[run] + (share * (runs.end - runs.start)[run]).astype(np.int64)
        return self._called(edges, edge, runs.pod[run], time, slot, len(self._rates))

    def _called(
        self, edges: Edges, edge: Ints, client: Ints, time: Ints, slot: "_Slot", asked_from: int
    ) -> list[Exchanges]:
        """The exchanges of edges, each after the lookups that it needs."""
        chance, count = slot.chance, len(edge)
        server_number = edges.server[edge]
        kind = edges.kind[edge]
        lookups = np.where(
            chance.random(count, np.float32) < edges.lookups[edge],
            self._names.count[asked_from + edge],
            0,
        )
        client_number = edges.client[edge]
        inside = client_number < len(self._kinds)
        doubled = inside & self._doubles[np.where(inside, client_number, 0)]
        lookups = lookups << doubled
        port = chance.integers(32_768, 61_000, count)
        trip = chance.integers(150_000, 700_000, count)
        asked = self._lookups(
            client, time, lookups, doubled, port, self._names.first[asked_from + edge], slot
        )
        time = time + lookups * _A_LOOKUP
        streams = kind <= 1
        kind = np.where(streams & (chance.random(count, np.float32) < _FAILING), REFUSED, kind)
        kind = self._failing(kind, server_number, time, streams)
        lasts = (3_000_000 + 200_000_000 * chance.random(count, np.float32) ** 6).astype(np.int64)
        paths = len(self._names.paths)
        name = (server_number * 7919 + chance.integers(0, 128, count)) % paths
        made = Exchanges(
            time, kind, client, self._ends(server_number, time, slot), port, edges.port[edge],
            trip, lasts, name, np.zeros(count, np.int64),
        )  # fmt: skip
        return [asked, made]

    def _lookups(
        self, client: Ints, time: Ints, count: Ints, doubled: NDArray[np.bool_], port: Ints,
        first: Ints, slot: "_Slot",
    ) -> Exchanges:  # fmt: skip
        which = np.repeat(np.arange(len(count)), count)
        step = _within(count)
        twice = doubled[which]
        place = step >> twice
        when = time[which] + step * _A_LOOKUP
        server = self._ends(np.ones(len(which), np.int64), when, slot)
        return Exchanges(
            when,
            np.full(len(which), DNS),
            client[which],
            server,
            32_768 + (port[which] * 31 + step * 977) % 28_000,
            np.full(len(which), 53),
            np.full(len(which), 250_000),
            np.zeros(len(which), np.int64),
            self._names.asked[first[which] + place],
            np.where(twice, step & 1, 0),
        )

    def _failing(self, kind: Ints, server: Ints, time: Ints, streams: NDArray[np.bool_]) -> Ints:
        """The kinds of exchange, as the outages of servers have it."""
        outages = self._schedule.outages
        if not len(time):
            return kind
        low, high = time.min(), time.max()
        for one in np.flatnonzero((outages.start <= high) & (outages.end >= low)):
            within = (time >= outages.start[one]) & (time < outages.end[one])
            hit = streams & within & (server == outages.workload[one])
            kind = np.where(hit, SILENT if outages.silent[one] else REFUSED, kind)
        return kind

    def _probes(self, slot: "_Slot") -> Exchanges:
        """By the node of each pod."""
        seat, time = _regular(slot, _PROBE_SECONDS * self._stretch, len(self._seats))
        pod = slot.pod(seat, time)
        host = self._places.hosts + self._places.node[pod]
        return _routine(time, host, pod, self._seat_port[seat], slot.chance)

    def _scrapes(self, slot: "_Slot") -> Exchanges:
        seat, time = _regular(slot, _SCRAPE_SECONDS * self._stretch, len(self._seats))
        scraper = np.full(len(seat), self._schedule.first_seat[2])
        server = slot.pod(seat, time)
        ports = np.full(len(seat), _METRICS)
        found = _routine(time, slot.pod(scraper, time), server, ports, slot.chance)
        return found.of(found.client != found.server)

    def _ends(self, number: Ints, time: Ints, slot: "_Slot") -> Ints:
        """One of the ends that a number of the cluster stands for, at random."""
        workloads = len(self._kinds)
        inside = number < workloads
        share = slot.chance.random(len(number))
        workload = np.where(inside, number, 0)
        seat = self._schedule.first_seat[workload]
        seat = seat + (share * self._schedule.replicas[workload]).astype(np.int64)
        pod = slot.pod(seat, time)
        if inside.all():
            return pod
        beyond = np.where(inside, 0, number - workloads)
        turn = time // _TURN % TURNS
        choice = (share * self._places.count[beyond]).astype(np.int64)
        turning = self._places.turning[beyond]
        choice = np.where(turning == TURNS, (choice + turn) % TURNS, choice)
        return np.where(inside, pod, self._places.first[beyond] + choice)


class _Slot(NamedTuple):
    """A slot, and who sits where in it: `seats`, from `moves` on `after`."""

    start: int
    end: int
    seats: Ints
    moves: Ints
    after: Ints
    chance: np.random.Generator

    def pod(self, seat: Ints, time: Ints) -> Ints:
        """The pod of each seat at each time."""
        return np.where(time >= self.moves[seat], self.after[seat], self.seats[seat])


def _scaled(edges: Edges, names: Names, rows: float) -> NDArray[np.float64]:
    """The rates of edges, in exchanges a second, that make so many rows a second."""
    lookups = edges.lookups * names.count[: len(edges.client)] * LENGTHS[DNS]
    doubled = np.where(edges.client % 2 == 0, 2, 1)
    weight = LENGTHS[edges.kind] + lookups * doubled
    least = min(_LEAST_RATE, _LEAST_SHARE * rows / float(weight.sum()))
    rates: NDArray[np.float64] = edges.rate * (rows / float(edges.rate @ weight))
    for _ in range(20):  # what lifts the least takes from the others
        rates = np.maximum(rates, least)
        rates *= rows / float(rates @ weight)
    return rates


def _regular(slot: _Slot, every: float, count: int) -> tuple[Ints, Ints]:
    """Which of `count` does what it does every so many seconds in a slot, and when."""
    period = round(every * SECOND)
    phase = np.arange(count, dtype=np.int64) * 7_919_000_003 % period
    first = -((phase - slot.start) // period)
    last = -((phase - slot.end) // period)
    times = last - first
    which = np.repeat(np.arange(count), times)
    time = phase[which] + (first[which] + _within(times)) * period
    return which, time


def _routine(
    time: Ints, client: Ints, server: Ints, port: Ints, chance: np.random.Generator
) -> Exchanges:
    count = len(time)
    zeros = np.zeros(count, np.int64)
    ports = chance.integers(32_768, 61_000, count)
    trip = chance.integers(100_000, 400_000, count)
    lasts = np.full(count, 2_000_000)
    return Exchanges(
        time, np.full(count, TCP), client, server, ports, port, trip, lasts, zeros, zeros
    )


def _within(counts: Ints) -> Ints:
    """0, 1, ... for each of the counts, one after the other."""
    return np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
