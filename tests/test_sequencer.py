"""One stream of many partitions: always the same, whoever dies, freezes or thinks he is alone."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sequencer_world import Batches, Crash, Raw, World, by_key, decided_order, heard, same, whole
from streams import START_NS, cuts, events, flows_of, pieces

from sidelong.ingest import sequencer as module
from sidelong.ingest import stretch_pieces
from sidelong.ingest.raw_merge import Position, RawChunk, RawMerge
from sidelong.ingest.schema import conform, empty_flows
from sidelong.ingest.sequencer import Sequencer, Superseded

LAW = settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.fixture(scope="module", autouse=True)
def _small() -> Iterator[None]:
    """Rounds and stretches so small that every stream has several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ROUND_ROWS", 7)
        patch.setattr(stretch_pieces, "PIECE_ROWS", 3)
        patch.setattr(module, "_WORTH_ROWS", 2)
        patch.setattr(module, "_HELD_ROWS", 20)
        patch.setattr(module, "_LEAST_HELD_ROWS", 5)
        yield


@st.composite
def raw_topics(draw: st.DrawFn) -> list[list[pl.DataFrame]]:
    """Flows in messages of some partitions; some messages hold none."""
    flows = flows_of(draw(events))
    count = draw(st.integers(1, 3))
    of = draw(st.lists(st.integers(0, count - 1), min_size=flows.height, max_size=flows.height))
    topics = []
    for place in range(count):
        mine = flows.filter(pl.Series(of) == place)
        topics.append(pieces(mine, draw(cuts(mine.height))))
    return topics


def all_of(raw: list[list[pl.DataFrame]]) -> pl.DataFrame:
    parts = [pl.concat([empty_flows(), *messages]) for messages in raw]
    return by_key(parts, [-(2**63)] * len(parts))


actions = st.lists(
    st.one_of(
        st.tuples(st.just("step"), st.integers(0, 1), st.integers(1, 4)),
        st.tuples(st.just("crash"), st.integers(0, 1), st.integers(0, 9)),
        st.tuples(st.just("freeze"), st.integers(0, 1), st.integers(0, 9)),
        st.tuples(st.just("save"), st.integers(0, 1), st.just(0)),
        st.tuples(st.just("arrive"), st.just(0), st.integers(1, 20)),
        st.tuples(st.just("wait"), st.just(0), st.integers(1, 30)),
        st.tuples(st.just("add"), st.just(0), st.integers(0, 9)),
    ),
    max_size=25,
)


class Play:
    """Two processes that each run a sequencer, built again whenever it is gone."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.running: list[Sequencer | None] = [None, None]
        self.busy = [False, False]

    def act(self, what: str, who: int, number: int) -> None:
        if self.busy[who]:
            return  # it is frozen
        match what:
            case "step":
                self.step(who, number)
            case "crash":
                self.fused(who, number, None)
            case "freeze":
                self.fused(who, number, lambda: self.step(1 - who, 6))
            case "save":
                if (sequencer := self.running[who]) is not None:
                    self.world.save(sequencer)
            case "wait":
                self.world.now += number / 10

    def step(self, who: int, times: int, fuse: int | None = None, at_the_end: Any = None) -> None:
        self.busy[who] = True
        try:
            sequencer = self.running[who] or self.world.sequencer(self.world.random.choice([0, 1]))
            self.running[who] = sequencer
            batches = sequencer._batches
            assert isinstance(batches, Batches)
            batches.fuse = fuse
            if at_the_end is not None:
                batches.at_the_end = at_the_end
            for _ in range(times):
                sequencer.step(0.0)
            batches.fuse = None
        except (Superseded, Crash):
            self.running[who] = None
        finally:
            self.busy[who] = False

    def fused(self, who: int, fuse: int, at_the_end: Any) -> None:
        self.step(who, 5, fuse, at_the_end)
        if (sequencer := self.running[who]) is not None:
            sequencer._batches.at_the_end = Batches._die  # type: ignore[attr-defined]


@LAW
@given(raw_topics(), actions, st.integers(1, 3), st.integers(0, 99))
def test_the_stream_is_that_of_the_merged_flows_whatever_happens(
    raw: list[list[pl.DataFrame]],
    happening: list[tuple[str, int, int]],
    partitions: int,
    seed: int,
) -> None:
    """All flows are there from the beginning, so that their order is determined."""
    world = World(raw, partitions, seed)
    flows = all_of(raw)
    play = Play(world)
    for what, who, number in happening:
        if sum(map(len, map(heard, world.batches))) and whole_rows(world) >= flows.height:
            break  # nothing but silence follows
        if what != "wait":
            play.act(what, who, number)
    world.finish(flows.height)
    found = whole(world)
    beyond = [one for one in found if one.low >= flows.height]
    same(found[: len(found) - len(beyond)], flows)
    assert world.said == []


def whole_rows(world: World) -> int:
    return max(lane[-1].high if lane else 0 for lane in map(heard, world.batches))


@LAW
@given(raw_topics(), actions, st.integers(1, 3), st.integers(0, 99))
def test_the_stream_is_what_was_decided_however_flows_arrive(
    raw: list[list[pl.DataFrame]],
    happening: list[tuple[str, int, int]],
    partitions: int,
    seed: int,
) -> None:
    """Flows come bit by bit, with pauses in which partitions are silent and rows stand for it; and
    partitions are added, to which others of them come."""
    waiting = [(place, message) for place, messages in enumerate(raw) for message in messages]
    world = World([[] for _ in raw], partitions, seed)
    world.random.shuffle(waiting)
    waiting = [(place, raw[place].pop(0)) for place, _ in waiting]
    play = Play(world)
    for what, who, number in happening:
        if what == "arrive":
            for place, message in waiting[:number]:
                world.raw[place].append(message)
            del waiting[:number]
        elif what == "add":
            moved = waiting[number:]
            waiting[number:] = [(len(world.raw), message) for _, message in moved]
            world.raw.append([])
        else:
            play.act(what, who, number)
    for place, message in waiting:
        world.raw[place].append(message)
    total = sum(message.height for messages in world.raw for message in messages)
    world.finish(total)
    while (decided := decided_order(world)).filter(pl.col("count") > 0).height < total:
        world.finish(decided.height + 1)
    same(whole(world), decided)
    assert all("is new" in said for said in world.said)


def one_partition(rows: int) -> list[list[pl.DataFrame]]:
    happened = [("syn", n % 3, 3, n % 7, 50, 0) for n in range(rows)]
    return [[flows_of(happened)[n : n + 1] for n in range(rows)]]


def test_a_partition_that_is_silent_is_waited_for_no_longer_than_that() -> None:
    flows = one_partition(6)[0]
    world = World([flows, []], 1, 0)
    sequencer = world.sequencer()
    began = world.now
    while sequencer.rows < 6:
        sequencer.step(0.0)
    assert world.now - began < 1.0


def test_nothing_is_silent_while_no_broker_answers() -> None:
    world = World([one_partition(6)[0], []], 1, 0)
    sequencer = world.sequencer()
    raw = sequencer._raw
    assert isinstance(raw, Raw)
    raw.answers = False
    for _ in range(400):
        sequencer.step(0.0)
    assert sequencer.rows == 0
    raw.answers = True
    for _ in range(40):
        sequencer.step(0.0)
    assert sequencer.rows == 6


def test_rows_stand_for_silence_ever_more_rarely() -> None:
    world = World(one_partition(3), 2, 0)
    sequencer = world.finish(3)
    clock_ns, now = sequencer.clock_ns, world.now
    while world.now < now + 40:
        sequencer.step(0.0)
    assert sequencer.counters["idle"] in (5, 6)  # after 1, 2, 4, 8, 10 and 10 seconds
    passed = (sequencer.clock_ns - clock_ns) / 1e9
    assert 20 < passed <= 40
    same(whole(world), decided_order(world))


def test_one_absurd_time_does_not_silence_a_partition() -> None:
    """Its rows have the latest time so far as their key, and that is in the year 2100."""
    absurd = one_partition(1)[0][0].with_columns(pl.col("time").dt.offset_by("74y"))
    ordinary = one_partition(40)[0]
    world = World([[absurd, *ordinary], ordinary], 1, 0)
    sequencer = world.sequencer()
    while sequencer.rows < 60:
        sequencer.step(0.0)
        world.raw[1].append(ordinary[-1])  # never silent, and never done
        if sequencer.rows >= 60:
            break
        assert world.now < 1_200, sequencer.positions()
    assert sequencer.positions()[0].offset > 10


def chunk(*seconds: float, offset: int = 0) -> RawChunk:
    """A message for each time."""
    times = [START_NS + int(second * 1e9) for second in seconds]
    frame = conform(
        pl.DataFrame({"time": times, "src_port": range(offset, offset + len(times))}).with_columns(
            pl.col("time").cast(pl.Datetime("ns", "UTC"))
        )
    )
    return RawChunk(frame, np.arange(offset, offset + len(times)), np.ones(len(times), np.int64))


def test_of_equal_times_the_lower_partition_goes_first_though_it_is_read_later() -> None:
    merge = RawMerge({0: Position(0), 1: Position(0)})
    merge.add(1, chunk(1, 2, 3))
    merge.add(0, chunk(1))
    assert merge.releasable((), 9) == {0: 1, 1: 0}  # 0 may bring another of second 1
    merge.add(0, chunk(2, offset=1))
    assert merge.releasable((), 9) == {0: 2, 1: 1}
    assert merge.releasable((), 2) == {0: 1, 1: 1}
    assert merge.releasable({0}, 9) == {0: 2, 1: 3}


def test_a_row_that_is_late_keeps_its_place_in_its_partition_across_a_restart() -> None:
    merge = RawMerge({0: Position(0), 1: Position(0)})
    merge.add(0, chunk(5))
    merge.take({0: 1})
    again = RawMerge(merge.positions, merge.reached)
    for one in (merge, again):
        one.add(0, chunk(1, 6, offset=1))
        one.add(1, chunk(3, 4))
        counts = one.releasable((), 9)
        assert counts == {0: 0, 1: 2}  # its key is second 5


def test_positions_within_a_message_are_found_again() -> None:
    whole = chunk(1, 2, 3, 4, 5)
    message = RawChunk(whole.flows, np.array([7, 8, 9]), np.array([3, 0, 2]))
    merge = RawMerge({0: Position(7)})
    merge.add(0, message)
    taken = [merge.take({0: 1})["src_port"].to_list() for _ in range(2)]
    assert taken == [[0], [1]]
    assert merge.positions == {0: Position(7, 2)}
    again = RawMerge(merge.positions, merge.reached)
    assert again.counts_to({0: Position(9, 1)}) is None
    again.add(0, message)
    assert again.counts_to({0: Position(9, 1)}) == {0: 2}
    assert again.counts_to({0: Position(10)}) == {0: 3}
    assert again.take({0: 2})["src_port"].to_list() == [2, 3]
    assert again.positions == {0: Position(9, 1)}


def until_rows(sequencer: Sequencer, rows: int) -> None:
    for _ in range(50):
        if sequencer.rows < rows:
            sequencer.step(0.0)


def test_what_came_second_to_the_journal_counts_nowhere() -> None:
    """A sequencer that was frozen before it decided sends its round after another has."""
    world = World(one_partition(9), 2, 0)
    slow = world.sequencer()
    until_rows(slow, 1)
    batches = slow._batches
    assert isinstance(batches, Batches)

    def overtaken() -> None:
        world.finish(9)

    batches.fuse, batches.at_the_end = 0, overtaken
    world.raw[0] += one_partition(2)[0]
    with pytest.raises(Superseded):
        until_rows(slow, 1_000)
    log = world.batches[0]
    stale = [n for n, (_, headers) in enumerate(log) if headers.get("at") not in (None, b"%d" % n)]
    assert len(stale) == 1
    world.finish(11)
    same(whole(world), decided_order(world))


def test_without_snapshot_and_beginning_a_new_stream_goes_on_where_the_last_ended() -> None:
    world = World(one_partition(9), 2, 0)
    first = world.finish(9)
    world.deleted = max(n for n, (_, headers) in enumerate(world.batches[0]) if "at" in headers)
    world.raw[0] += one_partition(4)[0]
    second = world.finish(4)
    assert second.snapshot()["stream"] != first.snapshot()["stream"]  # type: ignore[index]
    assert second.rows == 4
    assert "a new stream begins" in world.said[0]


def test_another_number_of_partitions_begins_a_new_stream() -> None:
    world = World(one_partition(9), 2, 0)
    world.save(world.finish(9))
    world.batches.append([])
    sequencer = world.sequencer()
    assert sequencer.rows == 0
    assert "flows.batches has 3 partitions, and had 2" in world.said[0]
    assert {len(heard(log)) for log in world.batches} == {0}


def test_messages_that_were_deleted_before_they_were_read_are_counted() -> None:
    world = World(one_partition(9), 1, 0)
    world.save(world.finish(9))
    state = world.sequencer()
    raw = state._raw
    assert isinstance(raw, Raw)
    world.raw[0] += one_partition(9)[0]

    class Later(Raw):
        def bounds(self) -> dict[int, tuple[int, int]]:
            return {0: (12, 18)}

    snapshot = state.snapshot()
    later = Sequencer(
        Later(world), Batches(world), snapshot, say=world.said.append, clock=lambda: world.now
    )
    assert later.counters["lost"] == 3
    assert "3 messages of raw partition 0 were deleted" in world.said
