"""The clock of a chunk, told without the chunks before it."""

from functools import partial
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from streams import START_NS, cuts

from sidelong import spark_clock
from sidelong.ingest import clock as clock_module
from sidelong.ingest.clock import Clock
from sidelong.spark_clock import FIRST, after, passage

gaps = st.lists(
    st.sampled_from([0, 1, 900, 5_000, 12_000, 300_000, 3_700_000, 9_000_000, -800, -4_000_000]),
    min_size=1,
    max_size=80,
)


@pytest.fixture(autouse=True)
def _small_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (clock_module, spark_clock):
        monkeypatch.setattr(module, "TICK_ROWS", 4)
        monkeypatch.setattr(module, "CROWDED_TICK_ROWS", 13)


@given(st.data(), gaps)
def test_the_clock_after_chunks_follows_from_their_passages(
    data: st.DataObject, steps: list[int]
) -> None:
    times = START_NS + np.cumsum(np.array(steps, np.int64)) * 1_000_000
    state, clock = FIRST, Clock()
    for low, high in pairwise([0, *data.draw(cuts(len(times))), len(times)]):
        if low == high:
            continue
        own = times[low:high]
        state = after(state, passage(own), partial(np.copy, own))
        clock.cut(pl.DataFrame({"time": pl.Series(own).cast(pl.Datetime("ns", "UTC"))}))
        assert state == clock.snapshot()
