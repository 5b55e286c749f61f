"""CSV of any origin, by a mapping of its columns."""

import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import polars as pl
import pytest

from sidelong.config import read_config
from sidelong.errors import ConfigError
from sidelong.ingest.csv_flows import CsvLines
from sidelong.ingest.csv_settings import CsvSettings, check_csv
from sidelong.ingest.inputs import open_inputs
from sidelong.ingest.line_files import Decoded
from sidelong.ingest.lines import line_blocks
from sidelong.ingest.schema import TCP_FLAGS

ENDS: Final = {"time": "when", "src_ip": "from", "dst_ip": "to"}
HEADER: Final = "when,from,to,port,more\n"
CIC: Final = """
[csv]
duration_unit = "us"

[csv.columns]
time = "Timestamp"
duration = "Flow Duration"
src_ip = "Src IP"
src_port = "Src Port"
dst_ip = "Dst IP"
dst_port = "Dst Port"
protocol = "Protocol"
packets = "Total Fwd Packet"
packets_received = "Total Bwd packets"
bytes = "Total Length of Fwd Packet"
bytes_received = "Total Length of Bwd Packet"
"""


def decoded(content: str, block_bytes: int = 1 << 20, **settings: Any) -> Decoded:
    with CsvLines(CsvSettings(**{"columns": ENDS, **settings})) as decoder:
        blocks = line_blocks(io.BytesIO(content.encode()), 0, block_bytes)
        parts = [decoder.decode(block) for block in blocks]
    faults = tuple(fault for part in parts for fault in part.faults)
    return Decoded(pl.concat([part.flows for part in parts]), sum(p.bad for p in parts), faults)


def refused(content: str, **settings: Any) -> str:
    with pytest.raises(ConfigError) as error:
        check_csv(CsvSettings(**settings), content.encode(), "flows.csv")
    return str(error.value)


def test_a_line_is_one_flow() -> None:
    found = decoded(
        f"{HEADER}2025-11-24 16:00:00.25,10.0.0.1,10.0.0.2,443,x\n",
        columns={**ENDS, "dst_port": "port"},
    )
    assert found.flows["time"].to_list() == [datetime(2025, 11, 24, 16, 0, 0, 250_000, UTC)]
    assert found.flows["dst_port"].to_list() == [443]
    assert found.flows["origin"].to_list() == ["csv"]
    assert found.flows["reply"].to_list() == [None]


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("1764000000.25", {"time_unit": "s"}),
        ("1764000000250", {"time_unit": "ms"}),
        ("1764000000250000000", {"time_unit": "ns"}),
        ("24/11/2025 04:00:00.25 PM", {"time_format": "%d/%m/%Y %I:%M:%S%.f %p"}),
        ("24/11/2025 17:00:00.25 +0100", {"time_format": "%d/%m/%Y %H:%M:%S%.f %z"}),
        ("2025-11-24T17:00:00.25+01:00", {}),
    ],
)
def test_times_are_numbers_or_dates(text: str, settings: dict[str, Any]) -> None:
    found = decoded(f"{HEADER}{text},10.0.0.1,10.0.0.2,443,x\n", **settings)
    assert found.flows["time"].to_list() == [datetime(2025, 11, 24, 16, 0, 0, 250_000, UTC)]


def test_a_file_may_have_no_header_and_another_delimiter() -> None:
    numbers = {"time": "1", "src_ip": "3", "dst_ip": "2"}
    found = decoded(
        "5;10.0.0.2;10.0.0.1\n", columns=numbers, header=False, delimiter=";", time_unit="s"
    )
    assert found.flows["src_ip"].to_list() == ["10.0.0.1"]


def test_identities_do_where_there_are_no_addresses() -> None:
    found = decoded(
        "when,a,b\n5,shop/web,shop/db\n",
        columns={"time": "when", "src": "a", "dst": "b"},
        time_unit="s",
    )
    assert found.flows.select("src", "dst").rows() == [("shop/web", "shop/db")]


@pytest.mark.parametrize("block_bytes", [1, 1 << 20])
def test_quotes_hold_delimiters(block_bytes: int) -> None:
    lines = f'{HEADER}5,10.0.0.1,10.0.0.2,443,"a, ""b"""\n6,10.0.0.1,10.0.0.3,443,c\n'
    found = decoded(lines, block_bytes, time_unit="s")
    assert found.flows["dst_ip"].to_list() == ["10.0.0.2", "10.0.0.3"]
    assert found.bad == 0


def test_words_and_numbers_mean_the_same() -> None:
    columns = {**ENDS, "protocol": "p", "verdict": "v", "tcp_flags": "f", "reply": "r"}
    head = "when,from,to,p,v,f,r\n"
    rows = "5,10.0.0.1,10.0.0.2,tcp,ALLOW,S,no\n5,10.0.0.1,10.0.0.2,6,forwarded,2,0\n"
    flows = decoded(head + rows, columns=columns, time_unit="s").flows
    assert flows["tcp_flags"].to_list() == [TCP_FLAGS["SYN"]] * 2
    assert flows[0].equals(flows[1])


def test_what_is_received_makes_a_line_a_connection() -> None:
    columns = {**ENDS, "packets": "port", "packets_received": "more", "protocol": "proto"}
    head = "when,from,to,port,more,proto\n"
    rows = "5,10.0.0.1,10.0.0.2,3,2,tcp\n6,10.0.0.1,10.0.0.3,1,0,tcp\n"
    flows = decoded(head + rows, columns=columns, time_unit="s").flows
    assert flows["reply"].to_list() == [False, True, False]
    assert flows["packets"].to_list() == [3, 2, 1]


def test_a_header_that_comes_again_is_passed_over() -> None:
    row = "5,10.0.0.1,10.0.0.2,443,x\n"
    found = decoded(HEADER + row + HEADER + row, time_unit="s")
    assert (found.flows.height, found.bad) == (2, 0)


def test_lines_that_do_not_fit_are_bad_and_cost_no_other() -> None:
    rows = "5,10.0.0.1,10.0.0.2,443,x\n", "5,10.0.0.1\n", "never,10.0.0.1,10.0.0.2,443,x\n"
    found = decoded(HEADER + "".join(rows) + "\n5,relay,10.0.0.2,443,x\n", time_unit="s")
    assert found.flows.height == 1
    assert [why for _, why in found.faults] == [
        "it has not 5 fields",
        "its time is 'never'",
        "its src_ip is 'relay'",
    ]


def test_without_a_mapping_it_says_how_to_write_one() -> None:
    assert "write a section [csv] with columns = {time" in refused(HEADER)


def test_a_column_of_ours_that_is_none_is_named() -> None:
    said = refused(HEADER, columns={**ENDS, "source": "from"})
    assert "csv.columns has source, which is no column of a flow" in said
    assert "src_ip" in said


def test_a_column_of_theirs_that_is_missing_is_named_with_those_there_are() -> None:
    said = refused(HEADER, columns={**ENDS, "dst_port": "dport"})
    assert "flows.csv has no column 'dport', which csv.columns names" in said
    assert "its columns are 'when', 'from', 'to', 'port', 'more'" in said


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"columns": {"time": "when"}}, "tells no flow"),
        ({"columns": {"src_ip": "from", "dst_ip": "to"}}, "tells no flow"),
        ({"columns": ENDS, "delimiter": ";;"}, "csv.delimiter is ';;'"),
        ({"columns": ENDS, "delimiter": "\n"}, "csv.delimiter is '\\n'"),
    ],
)
def test_a_mapping_that_cannot_work_is_refused(settings: dict[str, Any], why: str) -> None:
    assert why in refused(HEADER, **settings)


def test_flows_of_cicflowmeter_are_read_by_a_mapping(data: Path, tmp_path: Path) -> None:
    """The example of the documentation."""
    (tmp_path / "cic.toml").write_text(CIC)
    settings = read_config(str(tmp_path / "cic.toml"))
    path = data / "derived" / "k8s_benign_first30.csv"
    (source,) = open_inputs([str(path)], "csv", settings)
    batches = list(source.batches())
    flows = pl.concat([batch.flows for batch in batches])
    table = pl.read_csv(path, infer_schema_length=None)
    assert sum(batch.bad.count for batch in batches) == 0
    assert flows.filter(~pl.col("reply")).height == table.height
    assert flows.filter("reply").height == table.filter(pl.col("Total Bwd packets") > 0).height
    packets = table.select(pl.sum("Total Fwd Packet", "Total Bwd packets")).sum_horizontal().item()
    assert flows["packets"].sum() == packets
    assert flows["time"].is_sorted()
