"""`sidelong collect`: everything that came is in the folder once, whatever happens meanwhile."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import namedtuple
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import polars as pl
import pytest
from builders import flows, incidents
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_live import ScriptedLive
from streams import START_NS, cuts, events, flows_of, pieces

from sidelong import resuming
from sidelong.cli import run
from sidelong.collector import Collector, CollectSettings, Feed
from sidelong.errors import ConfigError, SourceError
from sidelong.ingest import flow_folder
from sidelong.ingest.flow_folder import FlowFolder
from sidelong.ingest.inputs import open_inputs
from sidelong.ingest.merge import merged
from sidelong.ingest.parquet import write_flows
from sidelong.ingest.schema import FLOW_SCHEMA, conform, empty_flows
from sidelong.ingest.source import BadRows, Batch, Source
from sidelong.resuming import resume

Captured = pytest.CaptureFixture[str]
Usage = namedtuple("Usage", "total used free")
PROGRAM: Final = (sys.executable, str(Path(__file__).with_name("scripted_live.py")))


def stream(size: int, *, every_ms: int = 10) -> pl.DataFrame:
    """Flows that differ, `every_ms` apart, every third told 25 ms late."""
    number = pl.int_range(size, eager=True)
    late = pl.when(number % 3 == 0).then(25).otherwise(0)
    times = (
        START_NS + 60_000_000_000 + (number * every_ms - pl.select(late).to_series()) * 1_000_000
    )
    return conform(
        pl.DataFrame(
            {
                "time": times.cast(FLOW_SCHEMA["time"]),
                "src_ip": "10.0.0.1",
                "dst_ip": "10.0.0.2",
                "src_port": number % 60_000,
                "origin": "hubble",
            }
        )
    )


def read(folder: Path) -> pl.DataFrame:
    """All that is in the folder, as replay reads it."""
    if not list(folder.rglob("*.parquet")):
        return empty_flows()
    batches = merged(open_inputs([str(folder)]))
    return pl.concat([empty_flows(), *(batch.flows for batch in batches)])


def same_rows(one: pl.DataFrame, other: pl.DataFrame) -> bool:
    """Whether two frames hold the same rows, each as often."""
    return one.hash_rows().sort().equals(other.hash_rows().sort())


def collected(source: Source, folder: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
    """Run the command over a live source."""
    monkeypatch.setattr(resuming, "open_inputs", lambda *_: [source])
    return run(["collect", source.name, "--to", str(folder), *options])


def feed(source: ScriptedLive) -> Feed:
    return Feed(source.name, source, close=source.close)


def until(condition: Callable[[], object], seconds: float = 30) -> None:
    """Wait for something to happen."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


# Files


def test_a_file_is_collected_whole(shop: Path, tmp_path: Path, capsys: Captured) -> None:
    recorded = str(shop / "test.hubble.jsonl.zst")
    assert run(["collect", recorded, "--to", str(tmp_path)]) == 0
    original = pl.concat(batch.flows for batch in merged(open_inputs([recorded])))
    assert same_rows(read(tmp_path), original)
    assert "collected 17,036 flows over 2 min 17 s" in capsys.readouterr().out


def test_replay_of_the_folder_finds_what_replay_of_the_original_finds(
    shop: Path, tmp_path: Path
) -> None:
    recorded = str(shop / "test.hubble.jsonl.zst")
    options = ["--to", str(tmp_path), "--rotate-rows", "5000"]
    assert run(["collect", recorded, *options]) == 0
    original = incidents(batch.flows for batch in merged(open_inputs([recorded])))
    kept = incidents(batch.flows for batch in merged(open_inputs([str(tmp_path)])))
    assert [one.id for one in kept] == [one.id for one in original]
    assert kept == original


def test_a_file_that_was_collected_adds_nothing(
    shop: Path, tmp_path: Path, capsys: Captured
) -> None:
    recorded = str(shop / "test.hubble.jsonl.zst")
    for _ in range(2):
        assert run(["collect", recorded, "--to", str(tmp_path)]) == 0
    assert read(tmp_path).height == 17_036
    assert "no flow to collect that is not there already" in capsys.readouterr().err


def hubble_line(second: int) -> str:
    return (
        f'{{"flow":{{"time":"2026-11-23T09:00:{second:02}Z","verdict":"FORWARDED",'
        '"IP":{"source":"10.0.0.1","destination":"10.0.0.2"},'
        f'"l4":{{"TCP":{{"source_port":{40_000 + second},"destination_port":80}}}}}}}}\n'
    )


def test_of_a_file_that_has_grown_only_the_new_is_added(tmp_path: Path) -> None:
    log, folder = tmp_path / "hubble.log", tmp_path / "flows"
    for seconds in (range(3), range(3, 7)):
        with log.open("a") as file:
            file.writelines(map(hubble_line, seconds))
        assert run(["collect", str(log), "--to", str(folder)]) == 0
    assert read(folder)["src_port"].to_list() == list(range(40_000, 40_007))


def test_of_a_file_that_is_not_in_order_only_the_new_is_added(tmp_path: Path) -> None:
    """Its flows are sorted before they are given, so that a position says nothing of what grew."""
    log, folder = tmp_path / "conn.log", tmp_path / "flows"
    for seconds in ((1, 2, 5), (3, 2, 9)):
        with log.open("a") as file:
            file.writelines(
                f'{{"ts":{1_795_425_242 + second}.0,"uid":"C{second}","id.orig_h":"10.0.0.1",'
                f'"id.orig_p":{40_000 + second},"id.resp_h":"10.0.0.2","id.resp_p":80,'
                '"proto":"tcp","conn_state":"S0"}\n'
                for second in seconds
            )
        assert run(["collect", str(log), "--to", str(folder)]) == 0
    seen = read(folder).filter(~pl.col("reply"))
    assert seen["src_port"].to_list() == [40_001, 40_002, 40_002, 40_003, 40_005, 40_009]


def test_another_file_of_the_same_name_is_collected_from_its_start(
    tmp_path: Path, capsys: Captured
) -> None:
    log, folder = tmp_path / "hubble.log", tmp_path / "flows"
    for seconds in (range(3), range(30, 37)):
        log.write_text("".join(map(hubble_line, seconds)))
        assert run(["collect", str(log), "--to", str(folder)]) == 0
    assert read(folder).height == 10
    assert "is another file than the one collected before" in capsys.readouterr().err


def test_the_position_in_a_file_that_is_gone_is_forgotten(tmp_path: Path) -> None:
    folder = tmp_path / "flows"
    for name in ("a.log", "b.log"):
        log = tmp_path / name
        log.write_text(hubble_line(1))
        assert run(["collect", str(log), "--to", str(folder)]) == 0
        log.unlink()
    kept = (folder / ".collect" / "state.json").read_text()
    assert "b.log" in kept
    assert "a.log" not in kept
    assert read(folder).height == 2


def test_several_files_make_one_stream(tmp_path: Path) -> None:
    told = stream(60)
    for name, rows in (("b", told[::2]), ("a", told[1::2])):
        write_flows([rows], tmp_path / f"{name}.parquet")
    folder = tmp_path / "flows"
    assert run(["collect", *map(str, tmp_path.glob("*.parquet")), "--to", str(folder)]) == 0
    seen = read(folder)
    assert same_rows(seen, told)


def test_what_cannot_be_read_is_counted(tmp_path: Path, capsys: Captured) -> None:
    log = tmp_path / "hubble.log"
    log.write_text(hubble_line(1) + "{oops\n" + hubble_line(2))
    assert run(["collect", str(log), "--to", str(tmp_path / "flows")]) == 0
    assert "1 row could not be read" in capsys.readouterr().err


def test_a_file_of_nonsense_is_an_error(tmp_path: Path) -> None:
    log = tmp_path / "hubble.log"
    log.write_text("{oops\n")
    assert run(["collect", str(log), "--format", "hubble", "--to", str(tmp_path / "flows")]) == 3


# Live sources


@settings(max_examples=25, deadline=None)
@given(events.flatmap(lambda told: st.tuples(st.just(told), cuts(len(told)), cuts(len(told)))))
def test_wherever_a_stream_is_cut_the_folder_holds_the_same(
    drawn: tuple[list[tuple[str, int, int, int, int, int]], list[int], list[int]],
) -> None:
    told = flows_of(drawn[0])

    class Cut(ScriptedLive):
        def batches(self, since: int = 0) -> Iterator[Batch]:
            for number, piece in enumerate(pieces(told, drawn[1])):
                yield Batch(piece, number)

    with tempfile.TemporaryDirectory() as folder, FlowFolder(Path(folder)) as sink:
        source = Cut(told)
        few = CollectSettings(rotate_rows=1 + len(drawn[2]))
        Collector([[feed(source)]], sink, few).run(threading.Event())
        assert same_rows(read(Path(folder)), told)


def test_losses_and_silence_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = flows("0s a/b -> c/d:1", "1s LOST 7", "1800s a/b -> c/d:1")
    assert collected(ScriptedLive(told), tmp_path, monkeypatch) == 0
    assert read(tmp_path).equals(told)


@settings(max_examples=20, deadline=None)
@given(first=st.integers(0, 40), batch=st.sampled_from([1, 7, 100]))
def test_a_restart_neither_loses_nor_doubles(first: int, batch: int) -> None:
    """The first run dies with `first` flows written, of a stream that is not in order of time."""
    told = stream(40)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for ring in (told[:first], told):
            with FlowFolder(folder) as sink:
                source = feed(ScriptedLive(ring, batch=batch))
                resume(source, sink, 1)
                Collector([[source]], sink, CollectSettings()).run(threading.Event())
        assert same_rows(read(folder), told)


def test_what_comes_again_after_a_restart_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    told = pl.concat([stream(30), stream(30)[7:8]])  # one of them twice
    for ring in (told, pl.concat([told, stream(31)[30:]])):
        assert collected(ScriptedLive(ring), tmp_path, monkeypatch) == 0
    assert same_rows(read(tmp_path), pl.concat([told, stream(31)[30:]]))
    assert "31 flows given again by their source and left out" in capsys.readouterr().err


def test_files_rotate_by_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = ScriptedLive(stream(1_000), batch=100)
    assert collected(source, tmp_path, monkeypatch, "--rotate-rows", "300") == 0
    heights = [pl.read_parquet(file).height for file in sorted(tmp_path.rglob("*.parquet"))]
    assert sorted(heights) == [100, 300, 300, 300]


def test_files_rotate_by_memory(tmp_path: Path) -> None:
    wide = stream(3_000).with_columns(path=pl.format("/{}", pl.col("time").hash().cast(pl.String)))
    wide = wide.with_columns(pl.col("path").str.pad_end(1_100, "x"))
    with FlowFolder(tmp_path) as sink:
        source = ScriptedLive(wide, batch=1_000)
        collector = Collector([[feed(source)]], sink, CollectSettings(rotate_megabytes=1))
        collector.run(threading.Event())
    assert collector.written.files == 3


def test_files_rotate_by_age(tmp_path: Path) -> None:
    clock = iter(range(0, 100_000, 40))
    with FlowFolder(tmp_path) as sink:
        source = ScriptedLive(stream(300), batch=100, pause=0.05)
        collector = Collector(
            [[feed(source)]], sink, CollectSettings(), now=lambda: float(next(clock))
        )
        collector.run(threading.Event())
    assert collector.written.files > 1


def test_a_source_that_fails_leaves_what_came_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failure = SourceError("hubble went away", hint="look for it")
    source = ScriptedLive(stream(250), failure=failure)
    assert collected(source, tmp_path, monkeypatch) == 3
    assert read(tmp_path).height == 250


def test_two_live_sources_are_read_at_once(tmp_path: Path) -> None:
    one = ScriptedLive(stream(200), endless=True, name="scripted://one")
    other = ScriptedLive(stream(100), endless=True, name="scripted://other")
    with FlowFolder(tmp_path) as sink:
        collector = Collector([[feed(one)], [feed(other)]], sink, CollectSettings())
        collector.run(threading.Event(), most_flows=300)
    assert read(tmp_path).height == 300
    assert {source.position for source in sink.state.sources.values()} == {
        max(stream(size)["time"].to_physical().to_list()) for size in (100, 200)
    }


def test_it_ends_by_itself_after_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = ScriptedLive(stream(100), endless=True)
    assert collected(source, tmp_path, monkeypatch, "--for", "1s") == 0
    assert read(tmp_path).height == 100


def test_it_ends_by_itself_after_so_many_flows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = ScriptedLive(stream(100_000), batch=100, pause=0.05, endless=True)
    assert collected(source, tmp_path, monkeypatch, "--max-flows", "250") == 0
    assert 250 <= read(tmp_path).height < 1_000


def test_the_end_tells_what_the_source_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    assert collected(ScriptedLive(stream(5)), tmp_path, monkeypatch) == 0
    told = capsys.readouterr()
    assert "collected 5 flows" in told.out
    assert "scripted://ring: received 5, reconnects 2" in told.err


def test_a_password_in_a_url_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = ScriptedLive(stream(5), name="scripted://me:secret@host:1/x?node=a")
    assert collected(source, tmp_path, monkeypatch) == 0
    kept = (tmp_path / ".collect" / "state.json").read_text()
    assert "scripted://host:1/x?node=a" in kept
    assert "secret" not in kept


# Room


def test_without_room_nothing_is_read_until_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    free = [10 << 20]
    monkeypatch.setattr(
        shutil, "disk_usage", lambda _: Usage(1 << 40, (1 << 40) - free[0], free[0])
    )
    monkeypatch.setattr("sidelong.collector._ROOM_SECONDS", 0.01)
    source = ScriptedLive(stream(20_000), batch=100)
    said: list[str] = []
    with FlowFolder(tmp_path, free_bytes=11 << 20) as sink:
        chosen = CollectSettings(rotate_rows=200, free_megabytes=11)
        collector = Collector([[feed(source)]], sink, chosen, say=said.append)
        running = threading.Thread(target=collector.run, args=(threading.Event(),))
        running.start()
        until(lambda: said)
        time.sleep(0.3)
        held_back = source.given
        assert read(tmp_path).is_empty()
        free[0] = 1 << 30
        running.join(30)
    assert held_back < 1_000
    assert "no room for 200 flows: 10 MiB are free, 11 MiB are to stay free" in said[0]
    assert said[-1] == "they are written: reading on"
    assert same_rows(read(tmp_path), stream(20_000))


def test_the_end_may_use_the_reserve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1 << 40, 0, 10 << 20))
    stop = threading.Event()
    source = ScriptedLive(stream(100), endless=True)
    with FlowFolder(tmp_path, free_bytes=1 << 30) as sink:
        collector = Collector([[feed(source)]], sink, CollectSettings())
        threading.Timer(0.5, stop.set).start()
        collector.run(stop)
    assert same_rows(read(tmp_path), stream(100))


def test_a_stop_while_it_waits_for_room_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1 << 40, 0, 10 << 20))
    stop = threading.Event()
    source = ScriptedLive(stream(1_000), endless=True)
    said: list[str] = []
    with FlowFolder(tmp_path, free_bytes=1 << 30) as sink:
        chosen = CollectSettings(rotate_rows=200)
        collector = Collector([[feed(source)]], sink, chosen, say=said.append)
        running = threading.Thread(target=collector.run, args=(stop,))
        running.start()
        until(lambda: said)
        stop.set()
        running.join(30)
    seen = read(tmp_path)
    assert seen.height == source.given
    assert same_rows(seen, stream(seen.height))


def test_what_cannot_be_written_at_the_end_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    stop = threading.Event()
    with FlowFolder(tmp_path) as sink:
        monkeypatch.setattr(flow_folder, "_write", write)
        source = ScriptedLive(stream(100), endless=True)
        collector = Collector([[feed(source)]], sink, CollectSettings(stop_seconds=1))
        threading.Timer(0.3, stop.set).start()
        with pytest.raises(ConfigError, match="100 flows could not be written"):
            collector.run(stop)
    assert collector.held == 100


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_a_disk_that_is_really_full_loses_nothing(tmp_path: Path) -> None:
    """A file system of its own, full but for a few pages, until somebody makes room."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(tmp_path)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("this machine does not let root mount")
    try:
        (tmp_path / "ballast").write_bytes(b"x" * (500 << 10))
        source = ScriptedLive(stream(3_000), batch=100)
        said: list[str] = []
        with FlowFolder(tmp_path / "flows") as sink:
            collector = Collector(
                [[feed(source)]], sink, CollectSettings(rotate_rows=1_000), say=said.append
            )
            running = threading.Thread(target=collector.run, args=(threading.Event(),))
            running.start()
            until(lambda: said)
            (tmp_path / "ballast").unlink()
            running.join(30)
        assert same_rows(read(tmp_path / "flows"), stream(3_000))
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


# Signals and deaths


@pytest.fixture
def playing(tmp_path: Path) -> Iterator[tuple[Path, "subprocess.Popen[str]"]]:
    """A process that collects 2,000 flows into the folder, 10,000 a second, and then waits."""
    write_flows([stream(2_000)], tmp_path / "ring.parquet")
    process = play(tmp_path, "--rotate-rows", "500")
    yield tmp_path / "flows", process
    process.kill()
    process.communicate()


def play(folder: Path, *options: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*PROGRAM, str(folder / "ring.parquet"), str(folder / "flows"), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_writes_all_that_was_held(
    playing: tuple[Path, "subprocess.Popen[str]"], number: signal.Signals
) -> None:
    folder, process = playing
    until(lambda: list(folder.rglob("*.parquet")))
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    seen = read(folder)
    assert seen.height % 100 == 0
    assert same_rows(seen, stream(seen.height))
    assert f"collected {seen.height:,} flows" in out


def test_after_a_death_the_next_run_goes_on_exactly(
    playing: tuple[Path, "subprocess.Popen[str]"],
) -> None:
    folder, process = playing
    until(lambda: list(folder.rglob("*.parquet")))
    process.kill()
    process.communicate(timeout=30)
    survived = read(folder)
    assert same_rows(survived, stream(survived.height))
    (folder / ".collect" / "left.parquet.draft").write_bytes(b"PAR1")

    again = play(folder.parent, "--max-flows", str(2_000 - survived.height))
    again.communicate(timeout=60)
    assert again.returncode == 0
    assert same_rows(read(folder), stream(2_000))
    assert not list(folder.rglob("*.draft"))


# What is refused


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--to", "hubble://broker"], "flows are collected into a folder or a topic"),
        (["--to", "{file}"], "which is a file"),
        (["--to", "{folder}"], "one lies in the other"),
        (["{folder}", "--to", "{folder}/flows"], "one lies in the other"),
        (["--to", "{folder}/x", "--keep", "soon"], "--keep is 'soon', which is no length of time"),
        (["--to", "{folder}/x", "--for", "0s"], "--for is '0s', which is no length of time"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_read(
    options: Sequence[str], told: str, tmp_path: Path, capsys: Captured
) -> None:
    file = tmp_path / "hubble.log"
    file.write_text(hubble_line(1))
    filled = [one.format(file=file, folder=tmp_path) for one in options]
    assert run(["collect", str(file), *filled]) == 2
    assert told in capsys.readouterr().err


def test_settings_stand_in_their_section(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "sidelong.toml").write_text("[collect]\nrotate_rows = 100\n")
    write_flows([stream(1_000)], tmp_path / "a.parquet")
    options = ["--to", str(tmp_path / "flows"), "--config", str(tmp_path / "sidelong.toml")]
    assert run(["collect", str(tmp_path / "a.parquet"), *options]) == 0
    (tmp_path / "sidelong.toml").write_text("[collect]\nrotate_rows = 0\n")
    assert run(["collect", str(tmp_path / "a.parquet"), *options]) == 2
    assert "collect.rotate_rows: Expected `int` >= 1" in capsys.readouterr().err


def test_old_hours_go_only_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = flows("0s a/b -> c/d:1", "90000s a/b -> c/d:2", "90001s a/b -> c/d:3")
    # Long past: what is old is judged by the newest flow, where that is before the clock.
    told = conform(told.with_columns(pl.col("time").dt.offset_by("-10y"), end=None))
    assert collected(ScriptedLive(told[:2]), tmp_path, monkeypatch) == 0
    assert read(tmp_path)["dst_port"].to_list() == [1, 2]
    assert collected(ScriptedLive(told), tmp_path, monkeypatch, "--keep", "1d") == 0
    assert read(tmp_path)["dst_port"].to_list() == [2, 3]


# Reading the folder


class Watched:
    """A source that remembers when it was read."""

    def __init__(self, inner: Source, log: list[str]) -> None:
        self._inner, self._log = inner, log
        self.name, self.size_bytes = inner.name, inner.size_bytes
        self.earliest_ns = getattr(inner, "earliest_ns", None)

    def batches(self, since: int = 0) -> Iterator[Batch]:
        self._log.append(self.name)
        for batch in self._inner.batches(since):
            yield batch
            self._log.append(f"{self.name} went on")


def test_a_file_is_not_opened_before_its_turn(tmp_path: Path) -> None:
    told = stream(300)
    with FlowFolder(tmp_path) as sink:
        for rows in (told[200:], told[:100], told[100:200]):
            sink.commit({"a": [rows]}, {})
    log: list[str] = []
    sources = [Watched(source, log) for source in open_inputs([str(tmp_path)])]
    stream_of = merged(sources)
    batches = [next(stream_of)]
    assert len(log) < 4
    batches += stream_of
    assert same_rows(pl.concat(batch.flows for batch in batches), told)
    assert [batch.position for batch in batches][-1] == 300
    assert batches[-1].read_bytes == sum(source.size_bytes or 0 for source in sources)


def test_files_merge_in_the_order_of_time_whoever_knows_when_they_begin(tmp_path: Path) -> None:
    told = stream(300).sort("time", maintain_order=True)
    for number in range(3):
        write_flows([told[number::3]], tmp_path / f"{number}.parquet")
    knowing = open_inputs([str(tmp_path)])
    unknowing = [Watched(source, []) for source in knowing]
    for one in unknowing[1:]:
        one.earliest_ns = None
    for sources in (knowing, unknowing):
        seen = pl.concat(batch.flows for batch in merged(sources))
        assert seen["time"].is_sorted()
        assert same_rows(seen, told)


def test_bad_rows_of_a_file_that_waited_are_told(tmp_path: Path) -> None:
    write_flows([stream(10)], tmp_path / "a.parquet")
    write_flows([stream(20)[10:]], tmp_path / "b.parquet")

    class Spoilt(Watched):
        def batches(self, since: int = 0) -> Iterator[Batch]:
            for batch in super().batches(since):
                yield replace(batch, bad=BadRows(1, ("spoilt",)))

    sources = [Spoilt(source, []) for source in open_inputs([str(tmp_path)])]
    assert sum((batch.bad for batch in merged(sources)), BadRows()).count == 2
