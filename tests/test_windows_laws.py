"""The three laws, and that partitions change nothing, over windows."""

from collections.abc import Callable, Iterable
from typing import Any, Final

import polars as pl
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from streams import cuts, events, flows_of, pieces

from sidelong.features.bounds import Bounds
from sidelong.features.observed import NOTHING_KNOWN, Observer, window_features
from sidelong.features.windows import Closed
from sidelong.ingest.keys import hash_column
from sidelong.ingest.stream import Stream, Stretch

LAW = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),  # shrinking would run for longer than CI waits
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

TINY: Final = Bounds(contacts=12, waiting=3, edges=5, names=3, tried=5, windows=3, beginnings=4)
BOUNDS: Final = st.sampled_from([Bounds(), TINY])
PARTS: Final = 3


def together(found: Iterable[Closed]) -> Closed:
    return Closed(*(pl.concat(parts) for parts in zip(*found, strict=True)))


def in_order(closed: Closed) -> Closed:
    return Closed(*(frame.sort("row", "window", "group") for frame in closed))


def same(one: Closed, other: Closed) -> None:
    for ours, theirs in zip(one, other, strict=True):
        assert_frame_equal(ours, theirs, check_exact=True)


class Observed:
    """A stream and what observes it."""

    def __init__(
        self, bounds: Bounds, part: Callable[[pl.DataFrame], pl.DataFrame] = lambda flows: flows
    ) -> None:
        self.stream, self.observer = Stream(), Observer(NOTHING_KNOWN, bounds)
        self.part = part

    def closed(self, batches: Iterable[pl.DataFrame], *, end: bool = True) -> Closed:
        """The windows that these batches close, and what is open at the end if that is it."""
        found = [self.take(one) for batch in batches for one in self.stream.stretches(batch)]
        if end:
            found.append(self.observer.finish(self.stream.rows)[1])
        return together(found)

    def take(self, stretch: Stretch) -> Closed:
        if stretch.tick_ns is not None:
            for part in self.observer.parts.values():
                part.tidy(stretch.tick_ns)
        return self.observer.observe(self.part(stretch.flows), stretch.pulse).closed


@LAW
@given(st.data())
def test_where_a_stream_is_cut_changes_no_window(data: st.DataObject) -> None:
    flows = flows_of(data.draw(events))
    at = data.draw(cuts(flows.height))
    bounds = data.draw(BOUNDS)
    same(Observed(bounds).closed(pieces(flows, at)), Observed(bounds).closed([flows]))


@LAW
@given(st.data())
def test_windows_go_on_from_a_snapshot_as_if_nothing_had_happened(data: st.DataObject) -> None:
    flows = flows_of(data.draw(events))
    cut = data.draw(st.integers(1, flows.height))
    bounds = data.draw(BOUNDS)
    first, second = Observed(bounds), Observed(bounds)
    first.closed([flows[:cut]], end=False)
    state = {name: part.snapshot() for name, part in first.observer.parts.items()}
    second.stream.restore(first.stream.snapshot())
    after = first.closed([flows[cut:]])
    for name, part in second.observer.parts.items():
        part.restore(state[name])  # taken before `first` went on: it must not have changed since
    same(second.closed([flows[cut:]]), after)


@LAW
@given(events)
def test_all_rows_of_an_actor_and_the_pulse_are_enough(
    happened: list[tuple[str, int, int, int, int, int]],
) -> None:
    flows = flows_of(happened)

    def part(number: int) -> Callable[[pl.DataFrame], pl.DataFrame]:
        actor = pl.when("reply").then("dst").otherwise("src")
        return lambda rows: rows.filter(
            pl.Series(hash_column(rows.select(actor.alias("actor"))["actor"]) % PARTS == number)
        )

    parts = [Observed(Bounds(), part(number)).closed([flows]) for number in range(PARTS)]
    same(in_order(together(parts)), in_order(Observed(Bounds()).closed([flows])))


@LAW
@given(events)
def test_a_whole_frame_at_once_gives_what_its_pieces_give(
    happened: list[tuple[str, int, int, int, int, int]],
) -> None:
    stream = Stream()
    stretches = list(stream.stretches(flows_of(happened)))
    observer = Observer(NOTHING_KNOWN, Bounds())
    found = [observer.observe(one.flows, one.pulse).closed for one in stretches]
    last = max(int(one.flows["row"].to_numpy().max(initial=0)) for one in stretches)
    found.append(observer.finish(last + 1)[1])
    flows = pl.concat([one.flows for one in stretches])
    pulse = pl.concat([one.pulse for one in stretches])
    same(window_features(flows, pulse), together(found))


BOUND_OF: Final = {
    "edges": "windows",
    "lookups": "windows",
    "names": "names",
    "edge_rhythm": "beginnings",
    "lookup_rhythm": "beginnings",
}


@LAW
@given(events)
def test_after_a_tick_no_memory_is_larger_than_its_bound(
    happened: list[tuple[str, int, int, int, int, int]],
) -> None:
    flows = flows_of(happened)
    observed = Observed(TINY)
    observed.closed([flows], end=False)
    windows = observed.observer.parts["windows"]
    windows.tidy(int(flows["time"].to_physical().max()))  # type: ignore[arg-type]
    state = windows.snapshot()
    for name, bound in BOUND_OF.items():
        assert size(state[name]) <= getattr(TINY, bound), name
    assert state.keys() == {*BOUND_OF, "clock", "late"}, "a part without a bound"
    assert len(state["clock"]["entered"]) <= 4  # of the windows that are open


def size(state: dict[str, Any]) -> int:
    return len(state["key"] if "key" in state else state["rows"])


def test_what_is_evicted_is_counted() -> None:
    observed = Observed(TINY)
    many = [("syn", 0, 1, port, 50, 0) for port in range(20)]
    observed.closed([flows_of(many)], end=False)
    windows = observed.observer.parts["windows"]
    assert windows.evicted == 0
    windows.tidy(0)
    assert windows.evicted == (20 - 3) + (20 - 4)  # edges, and when they began
