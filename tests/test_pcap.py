"""Captures as a source: formats, summaries, positions, damage."""

import contextlib
import io
import struct

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pcap_builder import (
    DB,
    SECOND,
    START,
    WEB,
    dns,
    enhanced,
    ethernet,
    interface,
    ipv4,
    old,
    option,
    pcap,
    question,
    record,
    section,
    simple,
    tcp,
    udp,
)

from sidelong.errors import SourceError
from sidelong.ingest.pcap import PcapFile
from sidelong.ingest.seconds import span_starts
from sidelong.ingest.source import BadRows, Batch

PING = ethernet(ipv4(tcp(), 6))
SYN = ethernet(ipv4(tcp(flags=0x02), 6))
SYN_ACK = ethernet(ipv4(tcp(80, 40000, 0x12), 6, DB, WEB))
RST = ethernet(ipv4(tcp(flags=0x04), 6))
FIN = ethernet(ipv4(tcp(flags=0x11), 6))
LOOKUP = ethernet(ipv4(udp(dns(question("example.com")), dst=53), 17))
MICROSECONDS = START // 1000


def batches(capture: bytes, per_batch: int = 200_000, since: int = 0) -> list[Batch]:
    return list(PcapFile("t.pcap", lambda: io.BytesIO(capture), None, per_batch).batches(since))


def joined(parts: list[Batch]) -> tuple[pl.DataFrame, BadRows]:
    bad = sum((part.bad for part in parts), BadRows())
    return pl.concat([part.flows for part in parts]), bad


def flows(capture: bytes) -> pl.DataFrame:
    found, bad = joined(batches(capture))
    assert bad == BadRows()
    return found


def test_packets_of_one_second_are_summarised() -> None:
    found = flows(pcap((0, PING), (SECOND // 2, PING), (SECOND - 1000, FIN)))
    (flow,) = found.rows(named=True)
    assert (flow["packets"], flow["bytes"], flow["tcp_flags"], flow["count"]) == (3, 120, 0x11, 1)
    assert (flow["end"] - flow["time"]).total_seconds() == pytest.approx(0.999999)


def test_a_second_begins_with_the_clock() -> None:
    found = flows(pcap((SECOND - 1000, PING), (SECOND, PING), (SECOND + 5000, PING)))
    assert found["packets"].to_list() == [1, 2]


def test_a_summary_hides_no_handshake() -> None:
    found = flows(pcap(SYN, SYN_ACK, PING, SYN, FIN, RST, PING))
    assert found.select("tcp_flags", "packets").rows() == [
        (0x02, 2),
        (0x12, 1),
        (0x11, 3),
        (0x04, 1),
    ]


def test_both_directions_are_summarised_apart() -> None:
    back = ethernet(ipv4(tcp(80, 40000), 6, DB, WEB))
    assert flows(pcap(PING, back, PING))["packets"].to_list() == [2, 1]


def test_rows_are_in_the_order_of_their_first_packets() -> None:
    found = flows(pcap(PING, LOOKUP, SYN, PING, LOOKUP, RST))
    assert found["tcp_flags"].to_list() == [0x10, None, 0x02, None, 0x04]


def test_a_late_packet_makes_a_summary_of_its_own() -> None:
    found = flows(pcap((5 * SECOND, PING), (3 * SECOND, PING), (5 * SECOND, PING)))
    assert found["packets"].to_list() == [2, 1]
    assert found["time"].dt.epoch("s").to_list() == [START // SECOND + 5, START // SECOND + 3]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("unit", [1000, 1])
def test_pcap_is_read_in_either_order_and_unit(order: str, unit: int) -> None:
    found = flows(pcap((123_456_000, PING), order=order, unit=unit))
    assert found["time"].dt.epoch("ns").to_list() == [START + 123_456_000]


@pytest.mark.parametrize("order", ["<", ">"])
def test_pcapng_is_read_in_either_order(order: str) -> None:
    capture = section(order) + interface(order=order) + enhanced(PING, MICROSECONDS, order=order)
    assert flows(capture)["time"].dt.epoch("ns").to_list() == [START]


@pytest.mark.parametrize(
    ("resolution", "units"),
    [
        (9, START),
        (3, START // 1_000_000),
        (0, START // SECOND),
        (10, START * 10),
        (0x80 | 20, START // SECOND << 20),
        (0x80 | 32, START // SECOND << 32),
    ],
)
def test_the_interface_says_what_its_clock_counts(resolution: int, units: int) -> None:
    options = option(9, bytes([resolution]))
    found = flows(section() + interface(options=options) + enhanced(PING, units))
    assert found["time"].dt.epoch("ns").to_list() == [START]


def test_the_interface_says_how_far_its_clock_is_off() -> None:
    options = option(14, struct.pack("<q", 3600))
    found = flows(section() + interface(options=options) + enhanced(PING, MICROSECONDS))
    assert found["time"].dt.epoch("s").to_list() == [START // SECOND + 3600]


def test_interfaces_have_link_types_of_their_own() -> None:
    raw = PING[14:]
    capture = section() + interface(1) + enhanced(PING, MICROSECONDS) + interface(101)
    capture += enhanced(raw, MICROSECONDS, 1) + enhanced(PING, MICROSECONDS)
    assert flows(capture)["packets"].to_list() == [3]


def test_sections_have_interfaces_and_an_order_of_their_own() -> None:
    capture = section() + interface(1) + enhanced(PING, MICROSECONDS)
    capture += section(">") + interface(101, order=">")
    capture += enhanced(PING[14:], MICROSECONDS, order=">")
    capture += section() + interface(1) + enhanced(PING, MICROSECONDS)
    assert flows(capture)["packets"].to_list() == [3]


def test_any_number_of_sections_is_read() -> None:
    one = section() + interface(1) + enhanced(PING, MICROSECONDS)
    assert flows(one * 3000)["packets"].to_list() == [3000]


def test_blocks_of_any_size_are_read() -> None:
    big = ethernet(ipv4(tcp(payload=b"\6\0\0\0" * 16_000), 6))
    capture = section() + interface(1)
    capture += b"".join(enhanced(big, MICROSECONDS) + enhanced(PING, MICROSECONDS) for _ in "abc")
    assert flows(capture)["packets"].to_list() == [6]


def test_frames_full_of_what_looks_like_records_are_read() -> None:
    decoy = record(PING, START + SECOND)
    frame = ethernet(ipv4(tcp(payload=decoy * 9), 6))
    capture = pcap((0, frame), (1, frame), (2 * SECOND, PING), (2 * SECOND, frame))
    assert flows(capture)["packets"].to_list() == [2, 2]


def test_a_clock_that_jumps_by_days_loses_nothing() -> None:
    days = [0, 0, 90_000, 90_000, 400_000, 1, 400_000]
    capture = pcap(*[(day * SECOND, PING) for day in days])
    assert flows(capture)["packets"].sum() == len(days)


def test_simple_packets_take_the_time_of_the_packet_before() -> None:
    capture = section() + interface() + enhanced(PING, MICROSECONDS) + simple(SYN)
    assert flows(capture)["time"].dt.epoch("ns").to_list() == [START, START]


def test_obsolete_packet_blocks_are_read() -> None:
    for order in "<>":
        capture = section(order) + interface(order=order) + old(PING, MICROSECONDS, order=order)
        assert flows(capture)["packets"].to_list() == [1]


def test_other_blocks_are_stepped_over() -> None:
    names = struct.pack("<II", 4, 20) + b"\0" * 8 + struct.pack("<I", 20)
    capture = section() + interface() + names + enhanced(PING, MICROSECONDS) + names
    assert flows(capture)["packets"].to_list() == [1]


def times() -> st.SearchStrategy[list[int]]:
    """Milliseconds after the start: mostly on the way forward, now and then a step back."""
    steps = st.integers(-3000, 3000) | st.just(0) | st.integers(0, 400)
    return st.lists(steps, min_size=1, max_size=40)


CUT = ethernet(ipv4(tcp(), 6, "10.0.0.9"))[:30]
ARP = ethernet(b"\0" * 28, kind=0x0806)
KINDS = [PING, SYN, SYN_ACK, RST, FIN, LOOKUP, CUT, ARP]


@st.composite
def captures(draw: st.DrawFn) -> bytes:
    now, records = 10_000, []
    for step in draw(times()):
        now = max(0, now + step)
        frame = draw(st.sampled_from(KINDS))
        records.append((now, frame))
    if draw(st.booleans()):
        return pcap(*((now * 1_000_000, frame) for now, frame in records))
    blocks = [enhanced(frame, MICROSECONDS + now * 1000) for now, frame in records]
    return section() + interface() + b"".join(blocks)


@settings(deadline=None, max_examples=60)
@given(captures(), st.integers(1, 40))
def test_rows_do_not_depend_on_the_size_of_batches(capture: bytes, per_batch: int) -> None:
    whole, parts = joined(batches(capture)), joined(batches(capture, per_batch))
    assert parts[0].equals(whole[0])
    assert parts[1] == whole[1]


@settings(deadline=None, max_examples=60)
@given(captures())
def test_reading_on_from_a_position_gives_what_is_left(capture: bytes) -> None:
    parts = batches(capture, per_batch=1)
    for count, part in enumerate(parts[:-1], start=1):
        again = joined(batches(capture, since=part.position))
        rest = joined(parts[count:])
        assert again[0].equals(rest[0])
        assert again[1] == rest[1]


@settings(deadline=None, max_examples=60)
@given(captures())
def test_no_packet_is_lost_or_counted_twice(capture: bytes) -> None:
    found, bad = joined(batches(capture))
    whole = sum(capture.count(frame) for frame in KINDS if frame not in (CUT, ARP))
    assert found["packets"].sum() == whole
    assert bad.count == capture.count(CUT)


def test_after_the_last_batch_nothing_is_left() -> None:
    capture = pcap((0, PING), (SECOND, PING))
    last = batches(capture)[-1]
    assert (last.position, last.read_bytes) == (len(capture), len(capture))
    assert batches(capture, since=last.position) == []


def test_a_span_ends_where_memory_would(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that stands still must not gather the whole file."""
    monkeypatch.setattr(span_starts, "__defaults__", (200,))
    capture = pcap(*[PING] * 9)
    size = len(record(PING))
    per_span = -(-200 // size)
    whole = batches(capture)
    found, _ = joined(whole)
    assert found["packets"].sum() == 9
    assert found["packets"].max() == per_span
    assert joined(batches(capture, per_batch=1))[0].equals(found)


def test_a_file_that_is_cut_off_is_read_to_its_last_whole_record() -> None:
    capture = pcap((0, PING), (SECOND, PING), (2 * SECOND, PING))
    start = 24 + 2 * len(record(PING))
    found, bad = joined(batches(capture[:-1]))
    assert found["packets"].to_list() == [1, 1]
    assert bad == BadRows(1, (f"t.pcap: cut off inside the record at byte {start}",))


def test_a_pcapng_file_that_is_cut_off_is_read_to_its_last_whole_block() -> None:
    block = enhanced(PING, MICROSECONDS)
    head = section() + interface()
    found, bad = joined(batches(head + block + block[:-1]))
    assert found["packets"].to_list() == [1]
    where = len(head) + len(block)
    assert bad == BadRows(1, (f"t.pcap: cut off inside the record at byte {where}",))


def test_damage_is_reported_once() -> None:
    capture = pcap((0, PING), (SECOND, PING))[:-1]
    parts = batches(capture)
    assert joined(parts)[1].count == 1
    assert batches(capture, since=parts[-1].position) == []
    assert joined(batches(capture, since=parts[-2].position))[1].count == 1


def test_reading_stops_at_a_record_that_lies_about_its_length() -> None:
    lie = struct.pack("<IIII", START // SECOND, 0, 1 << 20, 1 << 20)
    capture = pcap(PING) + lie + b"\0" * (1 << 21)
    found, bad = joined(batches(capture))
    assert found["packets"].to_list() == [1]
    assert bad.count == 1
    assert f"the record at byte {24 + len(record(PING))} claims 1048576 bytes" in bad.samples[0]


def test_reading_stops_at_a_block_that_lies_about_its_length() -> None:
    head = section() + interface() + enhanced(PING, MICROSECONDS)
    capture = head + struct.pack("<II", 6, 4) + b"\0" * 40
    found, bad = joined(batches(capture))
    assert found["packets"].to_list() == [1]
    assert f"the block at byte {len(head)} claims 4 bytes" in bad.samples[0]


def test_reading_stops_at_a_packet_larger_than_its_block() -> None:
    head = section() + interface() + enhanced(PING, MICROSECONDS)
    lie = bytearray(enhanced(PING, MICROSECONDS))
    lie[20:24] = struct.pack("<I", 5000)
    found, bad = joined(batches(head + lie + enhanced(PING, MICROSECONDS)))
    assert found["packets"].to_list() == [1]
    assert f"the packet at byte {len(head)} claims more bytes" in bad.samples[0]


def test_times_that_cannot_be_true_are_bad() -> None:
    capture = pcap((-START, PING), (0, PING), (3_000_000_000 * SECOND - START, PING))
    found, bad = joined(batches(capture))
    assert found["packets"].to_list() == [1, 1]
    assert bad == BadRows(1, ("t.pcap: packet at byte 24: its time is outside of 1990 to 2100",))


def test_a_packet_of_an_interface_nobody_described_is_bad() -> None:
    capture = section() + interface() + enhanced(PING, MICROSECONDS, number=3)
    assert joined(batches(capture + enhanced(PING, MICROSECONDS)))[1].count == 1


@pytest.mark.parametrize(
    ("capture", "problem"),
    [
        (b"", "t.pcap has 0 bytes, too few for a capture"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "t.pcap begins with 47455420, which is no pcap"),
        (pcap(PING, link=147), "t.pcap holds frames of link type 147, which is not supported"),
        (
            section() + interface(147) + enhanced(PING, MICROSECONDS),
            "t.pcap holds frames of link type 147, which is not supported",
        ),
        (section()[:8] + b"\0" * 20, "t.pcap begins like pcapng but its byte order reads 00000000"),
    ],
)
def test_what_is_no_readable_capture_is_refused(capture: bytes, problem: str) -> None:
    with pytest.raises(SourceError) as refused:
        batches(capture)
    assert refused.value.problem.startswith(problem)


def test_a_capture_without_packets_has_no_flows() -> None:
    assert batches(pcap()) == []
    assert batches(section() + interface()) == []


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_no_damage_raises_anything_but_source_errors(data: st.DataObject) -> None:
    head = section() + interface() + enhanced(LOOKUP, MICROSECONDS) + enhanced(SYN, MICROSECONDS)
    capture = bytearray(data.draw(st.sampled_from([pcap(PING, SYN, LOOKUP, RST), head])))
    for _ in range(data.draw(st.integers(1, 6))):
        capture[data.draw(st.integers(0, len(capture) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(SourceError):
        batches(bytes(capture))
