"""Several live sources as one: nothing waits for a silent one, nothing is left behind."""

import threading
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from scripted_live import ScriptedLive

from sidelong.errors import ConfigError, SourceError
from sidelong.ingest.inputs import open_inputs
from sidelong.ingest.live_together import LiveTogether
from sidelong.ingest.schema import conform

BEGAN = datetime(2026, 11, 24, tzinfo=UTC)


def told(port: int, count: int) -> pl.DataFrame:
    times = [BEGAN + timedelta(seconds=n) for n in range(count)]
    return conform(pl.DataFrame({"time": times, "dst_port": [port] * count}))


def test_every_flow_of_every_source_comes_once_and_in_its_order() -> None:
    together = LiveTogether([ScriptedLive(told(1, 950)), ScriptedLive(told(2, 430))])
    batches = list(together.batches())
    flows = pl.concat([batch.flows for batch in batches])
    assert flows["dst_port"].value_counts().sort("dst_port")["count"].to_list() == [950, 430]
    for port in (1, 2):
        assert flows.filter(dst_port=port)["time"].is_sorted()
    assert batches[-1].position == 1_380


def test_a_silent_source_holds_nobody_up() -> None:
    silent = ScriptedLive(told(1, 0), endless=True)
    together = LiveTogether([silent, ScriptedLive(told(2, 300))])
    seen = 0
    for batch in together.batches():
        seen += batch.flows.height
        if seen == 300:
            together.close()
    assert seen == 300


def test_closing_from_another_thread_ends_it() -> None:
    together = LiveTogether([ScriptedLive(told(1, 1), endless=True) for _ in range(3)])
    timer = threading.Timer(0.1, together.close)
    timer.start()
    assert sum(batch.flows.height for batch in together.batches()) == 3
    timer.join()


def test_the_failure_of_one_ends_all_and_is_told() -> None:
    failure = SourceError("no answer", hint="start it")
    failing = ScriptedLive(told(1, 10), failure=failure)
    together = LiveTogether([failing, ScriptedLive(told(2, 10), endless=True)])
    with pytest.raises(SourceError, match="no answer"):
        list(together.batches())


def test_a_reader_that_stops_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    stream = LiveTogether([ScriptedLive(told(1, 5_000), endless=True)]).batches()
    next(stream)
    stream.close()  # type: ignore[attr-defined]  # a generator
    assert threading.active_count() == before


def test_counters_are_sums() -> None:
    together = LiveTogether([ScriptedLive(told(1, 10)), ScriptedLive(told(2, 5))])
    list(together.batches())
    assert together.counters() == {"received": 15, "reconnects": 4}


def test_what_is_live_is_not_merged_with_files() -> None:
    with pytest.raises(ConfigError, match=r"hubble://a is live, and b\.pcap is not"):
        open_inputs(["hubble://a", "b.pcap"])


def test_a_scheme_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ConfigError, match="begins with hubbel://, which is no live source"):
        open_inputs(["hubbel://a"])
