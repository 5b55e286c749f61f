"""What the service measures, as Prometheus reads it.

Roles keep plain counts; they are looked at when somebody asks, so that counting costs nothing. What
a role had counted when it failed is added to what its successor counts: in one process, counters
never fall.
"""

import logging
from collections.abc import Callable, Iterator
from threading import Lock
from typing import Final, Protocol, TypeAlias

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector, generate_latest
from prometheus_client.metrics_core import Metric

from sidelong import __version__
from sidelong.measures import BUCKETS, MEASURES, Measure
from sidelong.role import Labelled, Measures

__all__ = ["CONTENT_TYPE", "Measured", "Metrics"]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_log: Final = logging.getLogger(__name__)

_Key: TypeAlias = str | Labelled
_Labels: TypeAlias = tuple[str, ...]
_Sums: TypeAlias = dict[str, dict[_Labels, float]]

_BY_NAME: Final = {measure.name: measure for measure in MEASURES}


class Measured(Protocol):
    """A role, or anything else that counts. `name` is the value of the label `role`."""

    @property
    def name(self) -> str: ...
    def counters(self) -> Measures:
        """What only grows; read by any thread."""
        ...

    def gauges(self) -> Measures:
        """What goes up and down; read by any thread."""
        ...


class Metrics:
    """All that one process measures. May be used by any thread."""

    def __init__(self) -> None:
        self._reading = Lock()  # held while parts are asked, which may have locks of their own
        self._lock = Lock()
        self._measured: list[Measured] = []
        self._ended: dict[tuple[str, _Key], float] = {}  # counters of what is no more, and our own
        self._unknown: set[str] = set()
        self._registry = CollectorRegistry()
        self._histograms = {
            measure.name: Histogram(
                measure.metric, measure.meaning, measure.labels, buckets=BUCKETS, registry=None
            )
            for measure in MEASURES
            if measure.kind == "histogram"
        }
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    @property
    def unknown(self) -> frozenset[str]:
        """Names that something counts by and the table does not have; they are not exported."""
        return frozenset(self._unknown)

    def attach(self, measured: Measured) -> None:
        """Look at its counters and gauges from now on."""
        with self._reading:
            self._measured.append(measured)

    def detach(self, measured: Measured) -> None:
        """Keep what it has counted, and look at it no more; before it is closed. May come twice."""
        with self._reading:
            if measured not in self._measured:
                return
            self._measured.remove(measured)
            for key, value in _read(measured.counters).items():
                self._add(measured.name, key, value)

    def count(self, name: str, role: str = "", amount: float = 1, **labels: str) -> None:
        """Count something that belongs to no part that could keep it, such as a restart."""
        self._add(role, (name, *(part for label in labels.items() for part in label)), amount)

    def observe(self, name: str, role: str, seconds: float) -> None:
        """Take one duration for a histogram."""
        if name in self._histograms:
            self._histograms[name].labels(role).observe(max(0.0, seconds))
        else:
            self._miss(name)

    def observer(self, role: str) -> Callable[[str, float], None]:
        """`observe` for one role: called with the name and the seconds."""
        return lambda name, seconds: self.observe(name, role, seconds)

    def scrape(self) -> bytes:
        """All of it in Prometheus' text format, version 0.0.4."""
        return generate_latest(self._registry)

    def describe(self) -> Iterator[Metric]:
        """For the registry: the names."""
        for measure in MEASURES:
            yield _family(measure)

    def collect(self) -> Iterator[Metric]:
        """For the registry: what there is to say now."""
        sums: _Sums = {"build": {(__version__,): 1.0}}
        with self._reading:  # or what is detached meanwhile would be counted twice, or never
            with self._lock:
                ended = dict(self._ended)
            for (role, key), value in ended.items():
                self._sum(sums, role, key, value)
            for one in self._measured:
                for read in (one.counters, one.gauges):
                    for key, value in _read(read).items():
                        self._sum(sums, one.name, key, value)
        for measure in MEASURES:
            family = _family(measure)
            if measure.kind == "histogram":
                for sample in next(iter(self._histograms[measure.name].collect())).samples:
                    if not sample.name.endswith("_created"):
                        family.samples.append(sample)
            for values, value in sums.get(measure.name, {}).items():
                labels = dict(zip(measure.labels, values, strict=True))
                family.add_sample(measure.metric, labels, value)
            if family.samples:
                yield family

    def _add(self, role: str, key: _Key, value: float) -> None:
        with self._lock:
            self._ended[role, key] = self._ended.get((role, key), 0.0) + value

    def _sum(self, sums: _Sums, role: str, key: _Key, value: float) -> None:
        name, *given = (key,) if isinstance(key, str) else key
        measure = _BY_NAME.get(name)
        if measure is None:
            self._miss(name)
            return
        labels = {"role": role, **dict(zip(given[::2], given[1::2], strict=True))}
        values = tuple(labels.get(label, "") for label in measure.labels)
        family = sums.setdefault(name, {})
        family[values] = family.get(values, 0.0) + value

    def _miss(self, name: str) -> None:
        if name not in self._unknown:
            self._unknown.add(name)
            _log.warning("what is counted as %s is not exported: it is in no table", name)


def _read(read: Callable[[], Measures]) -> Measures:
    try:
        return dict(read())
    except Exception:  # of a part that is being closed; the rest is to be seen all the same
        _log.warning("counters cannot be read", exc_info=True)
        return {}


def _family(measure: Measure) -> Metric:
    # The library adds _total to the names of counters when it writes them.
    name = measure.metric.removesuffix("_total") if measure.kind == "counter" else measure.metric
    return Metric(name, measure.meaning, measure.kind)
