"""What Zeek's logs say of a connection, as flows."""

import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import polars as pl
import pytest

from sidelong.features.events import ANSWER, PROBE, REFUSAL, event_of
from sidelong.ingest.files import InputFile
from sidelong.ingest.inputs import open_inputs
from sidelong.ingest.lines import line_blocks
from sidelong.ingest.schema import TCP_FLAGS
from sidelong.ingest.unordered import UnorderedFile
from sidelong.ingest.zeek_lines import Told, ZeekLines
from sidelong.ingest.zeek_logs import ZeekLog, ZeekLogs

CONN: Final = {
    "ts": 1_764_000_000.25,
    "uid": "C1",
    "id.orig_h": "10.0.0.1",
    "id.orig_p": 40_000,
    "id.resp_h": "10.0.0.2",
    "id.resp_p": 443,
    "proto": "tcp",
    "duration": 3.5,
    "conn_state": "SF",
    "missed_bytes": 0,
    "history": "ShADadFf",
    "orig_pkts": 6,
    "orig_ip_bytes": 700,
    "resp_pkts": 5,
    "resp_ip_bytes": 900,
}
LOOKUP: Final = {
    **{name: CONN[name] for name in ("ts", "uid", "id.orig_h", "id.orig_p", "id.resp_h")},
    "id.resp_p": 53,
    "proto": "udp",
    "query": "Example.ORG",
    "qtype": 1,
    "qtype_name": "A",
    "rcode": 0,
    "rejected": False,
    "rtt": 0.02,
    "answers": ["www.example.org", "192.0.2.7", "2001:DB8::1"],
}
REQUEST: Final = {
    **{name: CONN[name] for name in ("ts", "uid", "id.orig_h", "id.orig_p", "id.resp_h")},
    "id.resp_p": 80,
    "method": "GET",
    "uri": "/cart?user=7",
    "status_code": 404,
    "request_body_len": 0,
}
HANDSHAKE: Final = {
    **{name: CONN[name] for name in ("ts", "uid", "id.orig_h", "id.orig_p", "id.resp_h")},
    "id.resp_p": 443,
    "version": "TLSv13",
    "established": True,
}
HEADER: Final = "#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t-\n"


def read(content: bytes, block_bytes: int = 1 << 20) -> Told:
    with ZeekLines() as lines:
        parts = [lines.told(block) for block in line_blocks(io.BytesIO(content), 0, block_bytes)]
    faults = tuple(fault for part in parts for fault in part.faults)
    return Told(pl.concat([part.flows for part in parts]), sum(part.bad for part in parts), faults)


def as_json(*records: dict[str, Any]) -> bytes:
    return "".join(f"{json.dumps(record)}\n" for record in records).encode()


def text(path: str, fields: str, *rows: str, types: bool = True) -> bytes:
    head = HEADER + f"#path\t{path}\n#fields\t" + fields.replace(" ", "\t") + "\n"
    return (head + "".join(f"{row}\n" for row in rows)).encode()


def conn(**changes: Any) -> pl.DataFrame:
    told = read(as_json({**CONN, **changes}))
    assert told.bad == 0
    return told.flows


def events(flows: pl.DataFrame) -> list[int]:
    return event_of(flows).to_list()


def source(tmp_path: Path, **logs: bytes) -> pl.DataFrame:
    for name, content in logs.items():
        (tmp_path / f"{name}.log").write_bytes(content)
    (only,) = open_inputs([str(tmp_path)])
    return pl.concat([batch.flows for batch in only.batches()])


def test_a_connection_is_its_first_packet_and_the_first_answer() -> None:
    flows = conn()
    assert flows["src_ip"].to_list() == ["10.0.0.1", "10.0.0.2"]
    assert flows["reply"].to_list() == [False, True]
    assert flows["tcp_flags"].to_list() == [TCP_FLAGS["SYN"], TCP_FLAGS["SYN"] | TCP_FLAGS["ACK"]]
    assert flows["bytes"].to_list() == [700, 900]
    assert flows["packets"].to_list() == [6, 5]
    assert flows["time"].to_list() == [
        datetime(2025, 11, 24, 16, 0, 0, 250_000, UTC),
        datetime(2025, 11, 24, 16, 0, 0, 350_000, UTC),
    ]


@pytest.mark.parametrize(
    ("history", "answers", "said"),
    [
        ("S", 0, [PROBE]),  # S0
        ("Sr", 1, [PROBE, REFUSAL]),  # REJ
        ("ShR", 1, [PROBE, ANSWER]),  # RSTO
        ("ShADadr", 5, [PROBE, ANSWER]),  # RSTR
        ("SR", 0, [PROBE]),  # RSTOS0
        ("F", 0, [PROBE]),  # a FIN scan
        ("DdA", 2, [0, ANSWER]),  # OTH, from the middle of a connection
        ("DadAr", 2, [0, ANSWER]),  # its end is no refusal
        ("Ar", 1, [0, REFUSAL]),  # a segment that belonged nowhere
        ("^h", 1, [0, ANSWER]),  # the SYN was not seen
    ],
)
def test_history_tells_what_became_of_a_connection(
    history: str, answers: int, said: list[int]
) -> None:
    assert events(conn(history=history, resp_pkts=answers)) == said


def test_a_log_without_packet_counts_tells_answers_by_its_history() -> None:
    assert events(conn(history="Sr", resp_pkts=None)) == [PROBE, REFUSAL]
    assert events(conn(history="S", resp_pkts=None, resp_bytes=0)) == [PROBE]


def test_icmp_has_no_ports() -> None:
    flows = conn(proto="icmp", **{"id.orig_p": 8, "id.resp_p": 0}, history=None)
    assert flows["dst_port"].to_list() == [None, None]
    assert events(flows) == [PROBE, ANSWER]


def test_an_icmp_error_answers_somebody_else() -> None:
    flows = conn(proto="icmp", **{"id.orig_p": 3, "id.resp_p": 1}, history=None, resp_pkts=0)
    assert flows["reply"].to_list() == [True]


def test_tls_is_said_and_nothing_more() -> None:
    flows = conn(service="ssl")
    assert flows["l7"].to_list() == ["tls", "tls"]
    assert flows["encrypted"].to_list() == [None, None]


def test_a_lookup_is_a_query_and_an_answer() -> None:
    flows = read(as_json(LOOKUP)).flows
    assert flows["dns_name"].to_list() == ["example.org", "example.org"]
    assert flows["dns_type"].to_list() == ["A", "A"]
    assert flows["dns_rcode"].to_list() == [None, 0]
    assert flows["dns_answers"].to_list() == [None, ["192.0.2.7", "2001:db8::1"]]
    assert (flows["time"][1] - flows["time"][0]).total_seconds() == 0.02


def test_a_lookup_that_was_not_answered_is_a_query() -> None:
    assert read(as_json({**LOOKUP, "rcode": None})).flows["reply"].to_list() == [False]


def test_types_have_the_names_of_the_registry() -> None:
    flows = read(as_json({**LOOKUP, "qtype": 255, "qtype_name": "*"})).flows
    assert flows["dns_type"].to_list() == ["ANY", "ANY"]


def test_octets_of_a_name_are_written_as_in_rfc_4343() -> None:
    flows = read(as_json({**LOOKUP, "query": "a\\xffb\\x41.example.org"})).flows
    assert flows["dns_name"][0] == "a\\255ba.example.org"


def test_a_request_has_a_path_without_its_query() -> None:
    flows = read(as_json(REQUEST)).flows
    assert flows["method"].to_list() == ["GET", "GET"]
    assert flows["path"].to_list() == ["/cart", "/cart"]
    assert flows["status"].to_list() == [None, 404]
    assert flows["tcp_flags"].to_list() == [None, None]


def test_lookups_tell_of_their_connection(tmp_path: Path) -> None:
    of_lookup = {**CONN, "id.resp_p": 53, "proto": "udp", "service": "dns"}
    other = {**of_lookup, "uid": "C2", "id.orig_p": 40_001}
    flows = source(tmp_path, conn=as_json(of_lookup, other), dns=as_json(LOOKUP))
    assert flows["dns_name"].to_list() == [None, "example.org", "example.org", None]
    assert flows["src_port"].to_list() == [40_001, 40_000, 53, 53]


def test_a_handshake_is_told_by_its_connection(tmp_path: Path) -> None:
    assert source(tmp_path, ssl=as_json(HANDSHAKE))["l7"].to_list() == ["tls", "tls"]
    both = source(tmp_path, ssl=as_json(HANDSHAKE), conn=as_json({**CONN, "service": "ssl"}))
    assert both.height == 2
    assert both["tcp_flags"].null_count() == 0


def test_a_request_is_told_beside_its_connection(tmp_path: Path) -> None:
    flows = source(tmp_path, http=as_json(REQUEST), conn=as_json(CONN))
    assert sorted(flows["l7"].fill_null("-")) == ["-", "-", "http", "http"]


def test_connections_without_a_uid_are_never_taken_for_another(tmp_path: Path) -> None:
    flows = source(
        tmp_path, conn=as_json({**CONN, "uid": None}), dns=as_json({**LOOKUP, "uid": None})
    )
    assert flows.height == 4


def test_flows_of_all_logs_are_in_the_order_of_time(tmp_path: Path) -> None:
    times = (30.0, 10.0, 20.0)
    conns = as_json(*({**CONN, "uid": f"C{ts}", "ts": 1_764_000_000 + ts} for ts in times))
    flows = source(tmp_path, conn=conns, http=as_json({**REQUEST, "ts": 1_764_000_015.0}))
    assert flows["time"].is_sorted()
    assert flows.height == 8


def test_a_log_that_is_rotated_is_read_with_its_rest(tmp_path: Path) -> None:
    names = ("conn.15:00:00-16:00:00", "conn.16:00:00-17:00:00")
    flows = source(tmp_path, **{name: as_json({**CONN, "uid": name}) for name in names})
    assert flows.height == 4


def test_logs_of_two_folders_are_two_sources(tmp_path: Path) -> None:
    for name in ("monday", "tuesday"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "conn.log").write_bytes(as_json(CONN))
        (tmp_path / name / "dns.log").write_bytes(as_json(LOOKUP))
    names = [source.name for source in open_inputs([str(tmp_path)])]
    assert names == [str(tmp_path / "monday"), str(tmp_path / "tuesday")]


def test_a_pattern_of_logs_is_one_source_too(tmp_path: Path) -> None:
    for name in ("conn", "dns"):
        (tmp_path / f"{name}.log").write_bytes(as_json(CONN))
    assert len(open_inputs([str(tmp_path / "*.log")])) == 1


def test_streams_that_are_mixed_are_told_apart() -> None:
    for name in ("_path", "@stream"):
        told = read(
            as_json(
                {**CONN, name: "conn"},
                {"ts": 1.0, "uid": "C1", "fuid": "F1", name: "files"},
                {**LOOKUP, name: "dns"},
                {**REQUEST, "trans_depth": 1, name: "weird"},
            )
        )
        assert told.bad == 0
        assert told.flows["l7"].to_list() == [None, None, "dns", "dns"]


def test_underscores_stand_for_dots() -> None:
    record = {key.replace(".", "_"): value for key, value in CONN.items()}
    assert read(as_json(record)).flows.height == 2


def test_a_sip_request_is_no_http_request() -> None:
    told = read(as_json({**REQUEST, "request_path": ["SIP/2.0/UDP"]}))
    assert (told.flows.height, told.bad) == (0, 0)


@pytest.mark.parametrize(
    "ts", [1_764_000_000.25, 1_764_000_000_250, "2025-11-24T16:00:00.250000Z", "1764000000.250000"]
)
def test_times_are_seconds_or_milliseconds_or_dates(ts: object) -> None:
    assert conn(ts=ts)["time"][0] == datetime(2025, 11, 24, 16, 0, 0, 250_000, UTC)


def test_columns_are_those_of_the_header() -> None:
    fields = "uid proto id.resp_p id.resp_h id.orig_p id.orig_h ts history resp_pkts new_field"
    told = read(text("conn", fields, "C1\ttcp\t443\t10.0.0.2\t40000\t10.0.0.1\t5.5\tSr\t1\tx"))
    assert told.flows["dst_port"].to_list() == [443, 40_000]
    assert told.flows["bytes"].to_list() == [None, None]


OLD: Final = "ts uid id.orig_h id.orig_p id.resp_h id.resp_p proto history"
ROW: Final = "5.5\tC1\t10.0.0.1\t40000\t10.0.0.2\t443\ttcp\tSr"


@pytest.mark.parametrize("block_bytes", [1, 90, 1 << 20])
def test_headers_may_come_again_anywhere(block_bytes: int) -> None:
    newer = text("conn", f"{OLD} resp_pkts", f"{ROW}\t0")
    told = read(text("conn", OLD, ROW) + b"#close\t2025\n" + newer + newer, block_bytes)
    assert told.bad == 0
    assert told.flows["reply"].to_list() == [False, True, False, False]


def test_other_logs_are_passed_over() -> None:
    told = read(text("weird", "ts uid", "5.5\tC1", "spoilt") + text("conn", OLD, ROW))
    assert (told.flows.height, told.bad) == (2, 0)


def test_labels_behind_the_columns_may_be_apart_by_blanks_or_tabs() -> None:
    fields = f"{OLD} tunnel_parents".replace(" ", "\t") + "   label   detailed-label"
    rows = (
        f"{ROW}\t(empty)   Malicious   PartOfAHorizontalPortScan",
        f"{ROW}\t(empty)\tBenign\t-",
        f"{ROW}\t-",
    )
    head = f"{HEADER}#path\tconn\n#fields\t{fields}\n"
    told = read((head + "".join(f"{row}\n" for row in rows)).encode())
    assert (told.flows.height, told.bad) == (6, 0)


def test_lines_that_do_not_fit_are_bad_and_cost_no_other() -> None:
    told = read(text("conn", OLD, ROW, f"{ROW}\tmore", "5.5\tC1", ROW.replace("10.0.0.2", "relay")))
    assert told.flows.height == 2
    assert [why for _, why in told.faults] == [
        "it has 9 fields, not 8",
        "it has 2 fields, not 8",
        "its id.resp_h is 'relay'",
    ]


def test_a_fault_is_named_by_its_place() -> None:
    good = as_json(CONN)
    told = read(good + b'{"ts": "never", "uid": "C1", "conn_state": "S0"}\n' + b"{spoilt\n[]\n")
    assert [at for at, _ in told.faults] == [len(good), len(good) + 49, len(good) + 57]
    reasons = [why for _, why in told.faults]
    assert reasons[0] == "its ts is 'never'"
    assert reasons[1].startswith("not JSON: ")
    assert reasons[2] == "not a JSON object"


def test_rows_without_a_header_are_bad() -> None:
    told = read(ROW.encode() + b"\n" + text("conn", OLD, ROW))
    assert (told.flows.height, told.bad) == (2, 1)


def test_a_pipe_gives_flows_as_they_come() -> None:
    later, earlier = {**CONN, "ts": 1_764_000_009.0}, {**CONN, "ts": 1_764_000_001.0}
    content = as_json(later, earlier)
    pipe = UnorderedFile("pipe", lambda: io.BytesIO(content), None, ZeekLines)
    flows = pl.concat([batch.flows for batch in pipe.batches()])
    assert flows["time"].dt.second().to_list() == [9, 9, 1, 1]


def test_many_flows_are_sorted_on_disk_as_few_are_in_memory(tmp_path: Path) -> None:
    records = [
        {**CONN, "uid": f"C{n}", "ts": 1_764_000_000 + n * 7_919 % 1_000 / 10} for n in range(500)
    ]
    lookups = [{**LOOKUP, "uid": f"C{n}"} for n in range(0, 500, 3)]
    logs = []
    for name, content in {"conn": as_json(*records), "dns": as_json(*lookups)}.items():
        (tmp_path / name).write_bytes(content)
        file = InputFile(str(tmp_path / name))
        logs.append(ZeekLog(file.name, file.open, file.size_bytes or 0))
    in_memory, on_disk = ZeekLogs("logs", logs), ZeekLogs("logs", logs, held_rows=100)
    flows = [pl.concat([batch.flows for batch in one.batches()]) for one in (in_memory, on_disk)]
    assert flows[0].equals(flows[1])
    assert flows[0].height == 2 * (500 - 167 + 167)
