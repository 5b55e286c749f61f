"""State as bytes: what comes out is what went in, and damage is told."""

import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from streams import START_NS, events, flows_of
from test_laws import BOUNDS, ORDINARY, told

from sidelong.ingest.state_values import DamagedState, decode, encode
from sidelong.ingest.stream import Stream
from sidelong.learning import Learning
from sidelong.models.baseline import Baseline
from sidelong.pipeline import Pipeline

LAW = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.fixture(scope="module")
def baseline() -> Baseline:
    learning = Learning()
    learning.observe(flows_of(ORDINARY))
    return learning.finish()


def alike(one: Any, other: Any) -> bool:
    """Whether two values are the same, types, dtypes and the order of keys included."""
    if type(one) is not type(other):
        return False
    if isinstance(one, pl.DataFrame):
        return one.schema == other.schema and one.equals(other)
    if isinstance(one, pl.Series):
        return one.name == other.name and one.dtype == other.dtype and one.equals(other)
    if isinstance(one, np.ndarray | np.generic):
        same = one.dtype == other.dtype and one.shape == other.shape
        return bool(same and np.array_equal(one, other, equal_nan=one.dtype.kind == "f"))
    if isinstance(one, dict):
        return alike(list(one), list(other)) and alike(list(one.values()), list(other.values()))
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    return bool(one == other or one != one)


PLAIN = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(max_size=20)
)
KEYS = st.one_of(st.text(max_size=5), st.integers(), st.tuples(st.text(max_size=3), st.booleans()))
ARRAYS = st.sampled_from(
    [
        np.array(7),
        np.arange(6, dtype=np.uint64).reshape(2, 3).T,
        np.array([True, False]),
        np.array([1.5, np.nan], np.float32),
        np.array(["a", None, "é"], object),
        np.empty((0, 2), np.int8),
        np.empty(0, object),
        np.array([1, 2], "m8[ns]"),
        np.array(["x", "yy"]),
        np.float64(0.25),
        np.uint16(9),
    ]
)
FRAMES = st.sampled_from(
    [
        flows_of(ORDINARY[:5]),
        flows_of(ORDINARY[:5]).clear(),
        pl.DataFrame(),
        pl.DataFrame(height=3),
        pl.DataFrame({"a": [[1], None], "b": [{"x": 1, "y": "z"}, None], "c": [None, None]}),
        pl.Series("s", ["a", None], pl.Enum(["a", "b"])),
        pl.Series("", [2], pl.Duration("ns")),
    ]
)
VALUES = st.recursive(
    st.one_of(PLAIN, ARRAYS, FRAMES, st.just(datetime(2026, 11, 24, 9, 1, 2, 3, UTC))),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(KEYS, inner, max_size=4),
        st.sets(st.integers(), max_size=4),
        st.frozensets(st.text(max_size=4), max_size=4),
    ),
    max_leaves=12,
)


@LAW
@given(VALUES)
def test_a_value_comes_out_as_it_went_in(value: Any) -> None:
    assert alike(decode(encode(value)), value)


def test_an_array_that_was_read_can_be_written_to() -> None:
    array = decode(encode(np.arange(3)))
    array[0] = 9
    assert array[0] == 9


@dataclass
class Thing:
    a: int = 1


@pytest.mark.parametrize("value", [Thing(), [Thing()], {"a": object()}, np.array([1j]), print])
def test_what_is_no_plain_value_is_refused_when_it_is_written(value: object) -> None:
    with pytest.raises(TypeError, match="no plain value"):
        encode(value)


@LAW
@given(st.data())
def test_a_flipped_bit_or_a_missing_end_is_damage(data: st.DataObject) -> None:
    whole = encode({"rows": list(range(50)), "frame": flows_of(ORDINARY[:3])})
    if data.draw(st.booleans()):
        damaged = bytearray(whole)
        damaged[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    else:
        damaged = bytearray(whole[: data.draw(st.integers(0, len(whole) - 1))])
    # A bit of zstd's header may say what it said before; then the value is whole.
    with suppress(DamagedState):
        assert alike(decode(bytes(damaged)), decode(whole))


@LAW
@given(st.data())
def test_a_pipeline_goes_on_from_the_bytes_of_a_snapshot(
    baseline: Baseline, data: st.DataObject
) -> None:
    flows = flows_of(data.draw(events))
    cut = data.draw(st.integers(0, flows.height))
    bounds = data.draw(BOUNDS)
    first = Pipeline(baseline, bounds=bounds)
    first.process(flows[:cut])
    state = first.snapshot()
    read = decode(encode(state))
    assert alike(read, state)
    second = Pipeline(baseline, bounds=bounds)
    second.restore(read)
    assert told(second, [flows[cut:]]) == told(first, [flows[cut:]])


def test_open_incidents_go_through_bytes_too(baseline: Baseline) -> None:
    scan = [("refused", 4, target, port, 5, 0) for port in range(40) for target in (0, 1, 2, 3)]
    flows = flows_of(scan)
    first = Pipeline(baseline)
    first.process(flows[:80])
    state = first.snapshot()
    assert state["correlator"]["open"]
    read = decode(encode(state))
    assert alike(read, state)
    second = Pipeline(baseline)
    second.restore(read)
    assert told(second, [flows[80:]]) == told(first, [flows[80:]])


@LAW
@given(st.data())
def test_a_stream_goes_on_from_the_bytes_of_a_snapshot(data: st.DataObject) -> None:
    flows = flows_of(data.draw(events))
    cut = data.draw(st.integers(0, flows.height))
    first, second = Stream(), Stream()
    list(first.stretches(flows[:cut]))
    second.restore(decode(encode(first.snapshot())))
    ours, theirs = (list(each.stretches(flows[cut:])) for each in (first, second))
    assert alike(theirs, ours)


def test_a_state_of_many_workloads_is_written_within_a_second() -> None:
    """The stream stands still for the copy alone, but a snapshot shall not last for long either."""
    rng = np.random.default_rng(1)
    rows = 400_000
    state = {
        "table": {
            "key": np.sort(rng.integers(0, 2**63, rows, dtype=np.uint64)),
            "seen": START_NS + rng.integers(0, 10**12, rows),
            "name": np.array([f"shop/web-{i % 5_000}" for i in range(rows)], object),
        }
    }
    began = time.process_time()
    content = encode(state)
    assert time.process_time() - began < 1.0
    assert len(content) < 8_000_000
