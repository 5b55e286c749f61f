"""What may be named on the command line, and how several sources become one stream."""

import gzip
import json
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import pytest
import zstandard

from sidelong.errors import ConfigError, SourceError
from sidelong.ingest.files import InputFile
from sidelong.ingest.inputs import open_inputs
from sidelong.ingest.merge import merged
from sidelong.ingest.parquet import ParquetFile, write_flows
from sidelong.ingest.schema import FLOW_SCHEMA, MOST_ANSWERS, conform, empty_flows
from sidelong.ingest.source import BadRows, Batch


def line(second: int, port: int = 1) -> bytes:
    flow = {
        "time": f"2026-11-23T09:14:{second:02d}Z",
        "IP": {"source": "10.0.0.1", "destination": "10.0.0.2"},
        "l4": {"UDP": {"source_port": port, "destination_port": 53}},
        "node_name": "n",
    }
    return json.dumps({"flow": flow}).encode() + b"\n"


def written(path: Path, *content: bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(content))
    return str(path)


def ports(*paths: str, format: str | None = None) -> list[int]:
    batches = merged(open_inputs(paths, format))
    return [port for batch in batches for port in batch.flows["src_port"].to_list()]


# Files, folders, patterns


def test_a_file_is_what_it_begins_like_whatever_its_name(tmp_path: Path, shop: Path) -> None:
    later = conform(
        pl.DataFrame(
            {"time": ["2026-11-24T00:00:00Z"], "src": ["a/b"], "src_port": [7]}
        ).with_columns(pl.col("time").str.to_datetime("%+"))
    )
    files = [
        written(tmp_path / "one.pcap", line(1, port=1)),
        written(tmp_path / "two.txt", gzip.compress(line(2, port=2))),
        written(tmp_path / "three.json", zstandard.compress(line(3, port=3))),
        str(tmp_path / "four"),
        str(tmp_path / "five"),
        str(tmp_path / "six"),
    ]
    later.write_parquet(files[3])
    later.write_ipc(files[4])
    later.write_ipc_stream(files[5])
    assert ports(*files) == [1, 2, 3, 7, 7, 7]


def test_a_folder_is_read_with_all_below_it_that_is_a_capture(tmp_path: Path) -> None:
    written(tmp_path / "b" / "node.log", line(2, port=2))
    written(tmp_path / "a.json", line(1, port=1))
    written(tmp_path / "readme.md", b"# captures\n")
    written(tmp_path / "empty.json")
    written(tmp_path / ".hidden.json", line(3, port=3))
    written(tmp_path / ".git" / "x.json", line(4, port=4))
    assert ports(str(tmp_path)) == [1, 2]


def test_a_pattern_may_be_quoted(tmp_path: Path) -> None:
    for number in (1, 2):
        written(tmp_path / f"node-{number}.json", line(number, port=number))
    written(tmp_path / "other.json", line(3, port=3))
    assert ports(str(tmp_path / "node-*.json")) == [1, 2]


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(tmp_path: Path) -> None:
    assert ports(written(tmp_path / "run[1].json", line(1, port=9))) == [9]


def test_a_file_that_is_named_twice_is_read_once(tmp_path: Path) -> None:
    path = written(tmp_path / "a.json", line(1))
    (tmp_path / "link.json").symlink_to(path)
    assert len(open_inputs([path, str(tmp_path), str(tmp_path / "*.json")])) == 1


def test_a_named_pipe_is_read(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(gzip.compress(line(1, port=5))))
    writer.start()
    assert ports(str(pipe)) == [5]
    writer.join()


def test_a_pipe_can_be_read_only_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(line(1)))
    writer.start()
    (source,) = open_inputs([str(pipe)])
    assert len(list(source.batches())) == 1
    writer.join()
    with pytest.raises(SourceError, match="only once"):
        list(source.batches())


def test_an_empty_file_among_others_is_worth_a_word(tmp_path: Path) -> None:
    empty = written(tmp_path / "empty.json")
    batches = list(merged(open_inputs([empty, written(tmp_path / "a.json", line(1))])))
    assert sum(batch.flows.height for batch in batches) == 1
    assert [sample for batch in batches for sample in batch.bad.samples] == [f"{empty}: empty"]


# What cannot be opened


def refusal(*paths: str, format: str | None = None) -> str:
    with pytest.raises(SourceError) as raised:
        list(merged(open_inputs(paths, format)))
    assert raised.value.hint
    return raised.value.problem


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert refusal(str(tmp_path / "none")) == f"there is no {tmp_path / 'none'}"


def test_a_pattern_without_a_match_is_named(tmp_path: Path) -> None:
    assert refusal(str(tmp_path / "*.x")) == f"no file matches {tmp_path / '*.x'}"


def test_a_folder_without_a_capture_says_what_was_looked_for(tmp_path: Path) -> None:
    written(tmp_path / "notes.txt", b"nothing")
    problem = refusal(str(tmp_path))
    assert str(tmp_path) in problem
    assert "none of 1 files is hubble, pcap, " in problem


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_says_so(tmp_path: Path) -> None:
    path = Path(written(tmp_path / "a.json", line(1)))
    path.chmod(0)
    assert "permission denied" in refusal(str(path))


def test_an_unknown_format_is_shown_by_its_first_bytes(tmp_path: Path) -> None:
    path = written(tmp_path / "a", b"PK\x03\x04\xff\x1b[2J")
    problem = refusal(path)
    assert r"'PK\x03\x04\xff\x1b[2J'" in problem
    assert problem.isprintable()


def test_a_wrong_format_is_named_with_the_right_one(tmp_path: Path) -> None:
    path = written(tmp_path / "a", line(1))
    assert refusal(path, format="pcap") == f"{path} is not pcap, it looks like hubble"


def test_a_format_may_be_given_for_what_cannot_be_recognised(tmp_path: Path) -> None:
    head = b"node-1 says: this is not a flow\n" * 3_000
    path = written(tmp_path / "a", head, line(1, port=4))
    assert ports(path, format="hubble") == [4]


def test_parquet_cannot_come_compressed(tmp_path: Path) -> None:
    write_flows([empty_flows()], tmp_path / "flows.parquet")
    packed = gzip.compress((tmp_path / "flows.parquet").read_bytes())
    assert "unpack" in str(_refused(written(tmp_path / "flows.gz", packed)))


def _refused(path: str) -> SourceError:
    with pytest.raises(SourceError) as raised:
        list(merged(open_inputs([path])))
    return raised.value


# Merging


@dataclass(frozen=True)
class Recorded:
    """A source of given times (in seconds) in given batches; its ports are numbered from `port`."""

    name: str
    batched: list[list[int]]
    port: int = 0
    size_bytes: int | None = 100
    begun: list[int] = field(default_factory=list)

    def batches(self, since: int = 0) -> Iterator[Batch]:
        self.begun.append(since)
        at = 0
        for times in self.batched:
            rows = range(at, at + len(times))
            at += len(times)
            if at > since:
                ports = [self.port + row for row in rows]
                frame = pl.DataFrame(
                    {"time": [time * 1_000_000_000 for time in times], "src_port": ports},
                    schema={"time": pl.Int64, "src_port": pl.UInt16},
                )
                yield Batch(conform(frame), at, at, BadRows(1, (f"{self.name} {at}",)))


def order(*sources: Recorded) -> list[int]:
    return [port for batch in merged(sources) for port in batch.flows["src_port"].to_list()]


def test_flows_of_several_sources_come_in_the_order_of_time() -> None:
    node_1 = Recorded("1", [[1, 4], [5, 9]], port=10)
    node_2 = Recorded("2", [[2, 3], [6, 7, 8]], port=20)
    assert order(node_1, node_2) == [10, 20, 21, 11, 12, 22, 23, 24, 13]


def test_the_order_does_not_depend_on_the_batches() -> None:
    times_1, times_2 = [1, 2, 2, 5, 5, 9], [0, 2, 2, 2, 5, 7, 11]
    whole = order(Recorded("1", [times_1], 10), Recorded("2", [times_2], 20))
    for size in (1, 2, 3):
        cut_1, cut_2 = (
            [times[at : at + size] for at in range(0, len(times), size)]
            for times in (times_1, times_2)
        )
        assert order(Recorded("1", cut_1, 10), Recorded("2", cut_2, 20)) == whole


def test_at_equal_times_the_first_source_comes_first() -> None:
    assert order(Recorded("1", [[3], [3]], 10), Recorded("2", [[3, 3]], 20)) == [10, 11, 20, 21]


def test_a_source_whose_times_jitter_keeps_its_order() -> None:
    assert order(Recorded("1", [[5, 3], [4, 6]], 10), Recorded("2", [[4, 5]], 20)) == [
        20,
        10,
        11,
        12,
        21,
        13,
    ]


def test_one_source_passes_through_as_it_is() -> None:
    source = Recorded("1", [[5, 3], [1]], 10)
    assert [batch.position for batch in merged([source])] == [2, 3]


def test_files_of_later_days_wait_for_those_before(tmp_path: Path) -> None:
    days = [Recorded(str(day), [[day * 100], [day * 100 + 1]], day * 10) for day in (3, 1, 2)]
    assert order(*days) == [10, 11, 20, 21, 30, 31]


def test_more_sources_than_may_be_open_are_resumed_where_they_stopped() -> None:
    sources = [Recorded(str(number), [[number], [100 + number]]) for number in range(20)]
    assert len(order(*sources)) == 40
    assert sources[0].begun == [0]
    assert sources[-1].begun == [0, 1]


def test_a_pipe_is_never_begun_twice() -> None:
    sources = [
        Recorded(str(number), [[number], [100 + number]], size_bytes=None) for number in range(20)
    ]
    assert len(order(*sources)) == 40
    assert {tuple(source.begun) for source in sources} == {(0,)}


def test_bad_rows_and_progress_add_up() -> None:
    sources = [Recorded("1", [[1], [4]]), Recorded("2", [[2], [3]])]
    batches = list(merged(sources))
    assert sum((batch.bad for batch in batches), BadRows()).count == 4
    assert [batch.read_bytes for batch in batches] == sorted(batch.read_bytes for batch in batches)
    assert batches[-1].read_bytes == 4


def test_no_source_gives_no_flow() -> None:
    assert list(merged([])) == []


# Parquet


def test_what_is_written_is_read_back(shop: Path, tmp_path: Path) -> None:
    (source,) = open_inputs([str(shop / "test.hubble.jsonl.zst")])
    frames = [batch.flows for batch in source.batches()]
    path = tmp_path / "flows.parquet"
    assert write_flows(frames, path) == sum(frame.height for frame in frames)
    read = [batch.flows for batch in ParquetFile("flows", path, rows_per_batch=1_000).batches()]
    assert pl.concat(read).equals(pl.concat(frames))


def test_enumerations_are_written_as_text(tmp_path: Path) -> None:
    write_flows([empty_flows()], tmp_path / "flows.parquet")
    schema = pl.read_parquet_schema(tmp_path / "flows.parquet")
    assert list(schema) == list(FLOW_SCHEMA)
    assert schema["verdict"] == schema["protocol"] == pl.String


def test_a_file_is_replaced_only_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "flows.parquet"
    write_flows([empty_flows()], path)
    before = path.read_bytes()

    def failing() -> Iterator[pl.DataFrame]:
        yield empty_flows()
        raise SourceError("the node went away", hint="wait")

    with pytest.raises(SourceError, match="the node went away"):
        write_flows(failing(), path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["flows.parquet"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written"):
        write_flows([empty_flows()], tmp_path / "none" / "flows.parquet")


def test_columns_may_be_missing_more_or_wider(tmp_path: Path) -> None:
    path = tmp_path / "flows.parquet"
    pl.DataFrame(
        {
            "mark": ["x"],
            "src_port": [443],
            "src": ["shop/web"],
            "verdict": pl.Series(["FORWARDED"], dtype=pl.Categorical),
            "time": pl.Series(["2026-11-23T10:00:00"]).str.to_datetime(time_unit="ms"),
        }
    ).write_parquet(path)
    (batch,) = ParquetFile("flows", path).batches()
    assert batch.flows.schema == FLOW_SCHEMA
    row = batch.flows.row(0, named=True)
    assert (row["src_port"], row["src"], row["verdict"]) == (443, "shop/web", "FORWARDED")
    assert row["time"].isoformat() == "2026-11-23T10:00:00+00:00"


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("src", [["shop/web"]]),
        ("dns_answers", ["203.0.113.7"]),
        ("dns_answers", [[["203.0.113.7"]]]),
    ],
)
def test_a_list_in_place_of_a_value_or_the_other_way_round_is_refused(
    tmp_path: Path, column: str, values: list[object]
) -> None:
    path = tmp_path / "flows.parquet"
    time = pl.Series([0]).cast(pl.Datetime("ns", "UTC"))
    pl.DataFrame({"src_ip": ["10.0.0.1"], column: values}).with_columns(time=time).write_parquet(
        path
    )
    with pytest.raises(SourceError, match=f"in its column {column}"):
        list(ParquetFile("flows", path).batches())


def test_of_one_answers_addresses_a_file_can_bring_only_so_many(tmp_path: Path) -> None:
    path = tmp_path / "flows.parquet"
    many = [f"203.0.113.{n}" for n in range(99)]
    pl.DataFrame({"src_ip": "10.0.0.1", "dns_answers": [many, [], None]}).with_columns(
        time=pl.lit("2026-11-23T10:00:00").str.to_datetime()
    ).write_parquet(path)
    (batch,) = ParquetFile("flows", path).batches()
    assert batch.flows["dns_answers"].to_list() == [many[:MOST_ANSWERS], [], None]


def test_rows_that_do_not_fit_are_counted_and_left_out(tmp_path: Path) -> None:
    path = tmp_path / "flows.parquet"
    years = ["2026-11-23", "2026-11-23", "9999-01-01", None]
    pl.DataFrame(
        {
            "time": pl.Series(years).str.to_datetime(time_unit="us"),
            "src": ["a/a"] * 4,
            "src_port": [1, 70_000, 1, 1],
        }
    ).write_parquet(path)
    (batch,) = ParquetFile("flows", path).batches()
    assert (batch.flows.height, batch.bad.count) == (1, 3)
    assert batch.bad.samples[0] == "flows, row 1: its src_port is 70000"
    assert batch.bad.samples[1].startswith("flows, row 2: its time is ")


def test_a_table_that_holds_no_flows_names_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    pl.DataFrame({"name": ["x"], "age": [7]}).write_parquet(path)
    assert "its columns are name, age" in refusal(str(path))


# Streams


def test_a_stream_counts_what_lies_on_disk(tmp_path: Path) -> None:
    packed = gzip.compress(b"x" * 1_000_000)
    file = InputFile(written(tmp_path / "a", packed))
    with file.open() as stream:
        assert len(stream.read()) == 1_000_000
        assert (stream.consumed, stream.damage) == (len(packed), None)
    assert file.size_bytes == len(packed)


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress], ids=["gzip", "zstd"])
def test_members_that_follow_each_other_are_one_stream(
    tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    path = written(tmp_path / "a", pack(line(1, port=1)), pack(line(2, port=2)))
    assert ports(path) == [1, 2]
