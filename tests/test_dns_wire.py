"""DNS off the wire: names, types, codes and sizes; over UDP and over TCP."""

import io
import ipaddress
import struct

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pcap_builder import DB, SECOND, WEB, dns, ethernet, ipv4, pcap, question, tcp, udp

from sidelong.ingest.pcap import PcapFile
from sidelong.ingest.schema import MOST_ANSWERS

QUERY = dns(question("example.com"))
ANSWER_FLAGS = 0x8180


def over_udp(message: bytes, *, back: bool = False) -> bytes:
    if back:
        return ethernet(ipv4(udp(message, 53, 40000), 17, DB, WEB))
    return ethernet(ipv4(udp(message, 40000, 53), 17))


def over_tcp(data: bytes, sequence: int = 1) -> bytes:
    return ethernet(ipv4(tcp(dst=53, flags=0x18, payload=data, sequence=sequence), 6))


def framed(message: bytes) -> bytes:
    return struct.pack(">H", len(message)) + message


def flows(*frames: bytes | tuple[int, bytes], snap: int | None = None) -> pl.DataFrame:
    capture = pcap(*frames, snap=snap)
    parts = PcapFile("t.pcap", lambda: io.BytesIO(capture)).batches()
    return pl.concat([part.flows for part in parts])


def names(*frames: bytes | tuple[int, bytes], snap: int | None = None) -> list[str | None]:
    return flows(*frames, snap=snap)["dns_name"].to_list()


DNS_COLUMNS = ("dns_name", "dns_type", "dns_rcode", "dns_answer_bytes", "reply")


def test_a_query_is_a_row_without_code_and_answers() -> None:
    found = flows(over_udp(QUERY))
    assert found.select(DNS_COLUMNS).rows() == [("example.com", "A", None, None, False)]
    assert found.select("packets", "bytes").rows() == [(1, 28 + len(QUERY))]


def test_a_reply_has_its_code_and_the_size_of_its_answers() -> None:
    message = dns(question("example.com", 16), flags=ANSWER_FLAGS | 3, answers=[b"x" * 9, b"y"])
    found = flows(over_udp(message, back=True))
    assert found.select(DNS_COLUMNS).rows() == [("example.com", "TXT", 3, 10, True)]


def test_a_reply_without_answers_has_zero_bytes_of_them() -> None:
    message = dns(question("example.com"), flags=ANSWER_FLAGS)
    assert flows(over_udp(message))["dns_answer_bytes"].to_list() == [0]


A, CNAME, AAAA = 1, 5, 28


def four(address: str) -> tuple[int, bytes]:
    return A, ipaddress.IPv4Address(address).packed


def six(address: str) -> tuple[int, bytes]:
    return AAAA, ipaddress.IPv6Address(address).packed


def answers(*records: tuple[int, bytes], snap: int | None = None) -> list[str] | None:
    """The addresses read of a reply with these answers."""
    message = dns(question("example.com"), flags=ANSWER_FLAGS, answers=records)
    rows: list[list[str] | None] = flows(over_udp(message, back=True), snap=snap)[
        "dns_answers"
    ].to_list()
    return rows[0]


def test_the_addresses_of_an_answer_are_read_in_order() -> None:
    given = four("203.0.113.7"), six("2001:db8::1"), four("198.51.100.255")
    assert answers(*given) == ["203.0.113.7", "2001:db8::1", "198.51.100.255"]


def test_addresses_behind_an_alias_are_those_of_the_name_asked() -> None:
    alias = CNAME, b"\x03cdn\xc0\x0c"
    assert answers(alias, four("203.0.113.7")) == ["203.0.113.7"]


def test_an_address_mapped_into_ipv6_is_written_as_such() -> None:
    assert answers(six("::ffff:203.0.113.7")) == ["::ffff:203.0.113.7"]


def test_an_answer_without_an_address_has_none() -> None:
    assert answers((16, b"\x04text")) == []
    assert answers() == []


def test_a_query_has_no_answers_at_all() -> None:
    assert flows(over_udp(QUERY))["dns_answers"].to_list() == [None]


def test_a_record_of_the_wrong_size_is_no_address() -> None:
    assert answers((A, b"\x01\x02\x03"), (AAAA, b"\0" * 4), four("203.0.113.7")) == ["203.0.113.7"]


def test_of_the_addresses_of_one_answer_only_the_first_few_are_kept() -> None:
    given = [f"203.0.113.{n}" for n in range(MOST_ANSWERS + 9)]
    assert answers(*map(four, given)) == given[:MOST_ANSWERS]


HEADERS = 14 + 20 + 8 + len(dns(question("example.com")))


def test_of_addresses_cut_off_by_the_capture_those_before_are_kept() -> None:
    given = four("203.0.113.7"), four("203.0.113.8")
    assert answers(*given, snap=HEADERS + 16 + 15) == ["203.0.113.7"]


@pytest.mark.parametrize("captured", [0, 11, 12, 15])
def test_an_answer_whose_only_address_is_cut_off_says_nothing(captured: int) -> None:
    assert answers(four("203.0.113.7"), snap=HEADERS + captured) is None


def test_the_addresses_belong_to_the_first_of_several_questions() -> None:
    message = dns(question("a.x"), question("b.x"), flags=ANSWER_FLAGS, answers=[four("9.9.9.9")])
    found = flows(over_udp(message, back=True))
    assert found.select("dns_name", "dns_answers").rows() == [("a.x", ["9.9.9.9"]), ("b.x", None)]


def test_each_answer_of_a_capture_has_its_own_addresses() -> None:
    frames = [QUERY] + [
        dns(question("example.com"), flags=ANSWER_FLAGS, answers=map(four, given))
        for given in (["9.9.9.9", "9.9.9.8"], [], ["9.9.9.7"])
    ]
    wanted = [None, ["9.9.9.9", "9.9.9.8"], [], ["9.9.9.7"]]
    assert flows(*map(over_udp, frames))["dns_answers"].to_list() == wanted
    joined = flows(over_tcp(b"".join(map(framed, frames))))
    assert joined["dns_answers"].to_list() == wanted


@pytest.mark.parametrize(
    ("number", "name"),
    [(1, "A"), (28, "AAAA"), (10, "NULL"), (65, "HTTPS"), (255, "ANY"), (65399, "TYPE65399")],
)
def test_types_are_written_by_name(number: int, name: str) -> None:
    assert flows(over_udp(dns(question("a.b", number))))["dns_type"].to_list() == [name]


def test_queries_are_never_summarised() -> None:
    assert flows(over_udp(QUERY), over_udp(QUERY))["packets"].to_list() == [1, 1]


def test_each_question_is_a_row_and_the_packet_counts_once() -> None:
    found = flows(over_udp(dns(question("a.x"), question("b.x", 28))))
    assert found.select("dns_name", "dns_type", "packets").rows() == [
        ("a.x", "A", 1),
        ("b.x", "AAAA", 0),
    ]
    assert found["bytes"].to_list()[1] == 0


def test_names_are_lower_case() -> None:
    assert names(over_udp(dns(question("ExAmPle.COM")))) == ["example.com"]


def test_bytes_that_cannot_be_printed_are_escaped() -> None:
    wire = b"\x05a \x00\xff.\x02\\B\x00"
    assert names(over_udp(dns(question(wire)))) == ["a\\032\\000\\255\\..\\\\b"]


def test_the_root_is_an_empty_name() -> None:
    assert names(over_udp(dns(question(""))), over_udp(QUERY)) == ["", "example.com"]


def test_a_second_question_may_point_into_the_first() -> None:
    pointing = question(b"\x03www\xc0\x0c")
    assert names(over_udp(dns(question("example.com"), pointing))) == [
        "example.com",
        "www.example.com",
    ]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(b"\xc0\x0c", id="itself"),
        pytest.param(b"\x01a\xc0\x0c", id="its own beginning"),
        pytest.param(b"\xc0\x40\0", id="forward"),
        pytest.param(b"\x41" + b"a" * 65 + b"\0", id="a label of 65 bytes"),
        pytest.param(b"\x3f" + b"a" * 63 + b"\x3f" + b"b" * 63 + b"\x3f" + b"c" * 63
                     + b"\x3f" + b"d" * 63 + b"\0", id="a name of 257 bytes"),
    ],
)  # fmt: skip
def test_a_name_that_no_server_would_read_is_no_name(name: bytes) -> None:
    assert names(over_udp(dns(question(name)))) == [None]


def test_a_name_of_255_bytes_is_read() -> None:
    labels = ["a" * 63, "b" * 63, "c" * 63, "d" * 61]
    assert names(over_udp(dns(question(".".join(labels))))) == [".".join(labels)]


def test_edns_does_no_harm() -> None:
    message = bytearray(QUERY + b"\0" + struct.pack(">HHIH", 41, 1232, 0, 4) + b"\0\x0a\0\0")
    message[10:12] = b"\0\x01"
    assert names(over_udp(bytes(message))) == ["example.com"]


def test_a_question_is_read_however_much_behind_it_was_cut_off() -> None:
    message = dns(question("example.com", 16), flags=ANSWER_FLAGS, answers=[b"x" * 200, b"y" * 9])
    whole = 14 + 20 + 8 + len(dns(question("example.com")))
    found = flows(over_udp(message), snap=whole + 12)
    assert found.select("dns_name", "dns_answer_bytes").rows() == [("example.com", 200)]


def test_answers_of_which_none_was_captured_have_no_known_size() -> None:
    message = dns(question("example.com", 16), flags=ANSWER_FLAGS, answers=[b"x" * 200])
    whole = 14 + 20 + 8 + len(dns(question("example.com")))
    found = flows(over_udp(message), snap=whole)
    assert found.select("dns_name", "dns_answer_bytes").rows() == [("example.com", None)]


def test_a_question_that_was_cut_off_leaves_an_ordinary_flow() -> None:
    found = flows(over_udp(QUERY), snap=60)
    assert found.select("dns_name", "dst_port", "packets").rows() == [(None, 53, 1)]


@pytest.mark.parametrize("port", [5353, 5355, 5300])
def test_only_port_53_is_dns(port: int) -> None:
    assert names(ethernet(ipv4(udp(QUERY, port, port), 17))) == [None]


def test_a_message_in_one_tcp_segment_is_read() -> None:
    found = flows(over_tcp(framed(QUERY)))
    assert found.select("dns_name", "protocol", "tcp_flags").rows() == [("example.com", "TCP", 24)]


def test_several_messages_in_one_tcp_segment_are_read() -> None:
    other = dns(question("other.com"))
    found = flows(over_tcp(framed(QUERY) + framed(other)))
    assert found.select("dns_name", "packets").rows() == [("example.com", 1), ("other.com", 0)]


@pytest.mark.parametrize("cut", [1, 2, 9, 20])
def test_a_message_split_over_segments_is_read(cut: int) -> None:
    data = framed(QUERY)
    found = flows(over_tcp(data[:cut], 7), over_tcp(data[cut:], 7 + cut))
    assert found.select("dns_name", "packets").rows() == [("example.com", 1), (None, 1)]


def test_segments_with_a_gap_are_not_joined() -> None:
    data = framed(QUERY)
    assert names(over_tcp(data[:9], 7), over_tcp(data[9:], 17)) == [None]


def test_sequence_numbers_wrap() -> None:
    data = framed(QUERY)
    joined = names(over_tcp(data[:9], (1 << 32) - 9), over_tcp(data[9:], 0))
    assert joined == ["example.com", None]


def test_the_handshake_of_dns_over_tcp_is_not_hidden() -> None:
    syn = ethernet(ipv4(tcp(dst=53, flags=0x02), 6))
    found = flows(syn, over_tcp(framed(QUERY)))
    assert found.select("tcp_flags", "dns_name").rows() == [(2, None), (24, "example.com")]


def test_segments_without_data_are_ordinary_flows() -> None:
    found = flows(ethernet(ipv4(tcp(dst=53, flags=0x02), 6)))
    assert found.select("tcp_flags", "dns_name").rows() == [(2, None)]


def test_the_questions_of_one_message_have_a_limit() -> None:
    pointing = [question(b"\xc0\x0c")] * 40
    assert names(over_udp(dns(question("example.com"), *pointing))) == ["example.com"] * 8


def test_rows_of_dns_keep_their_place() -> None:
    found = flows((0, over_udp(QUERY)), (1, over_tcp(framed(QUERY))), (SECOND, over_udp(QUERY)))
    assert found["protocol"].to_list() == ["UDP", "TCP", "UDP"]


LABEL = st.binary(min_size=1, max_size=63)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.lists(LABEL, max_size=3), min_size=1, max_size=8))
def test_any_name_is_written_as_its_labels_are(wanted: list[list[bytes]]) -> None:
    def written(label: bytes) -> str:
        marks = {ord("."): "\\.", ord("\\"): "\\\\"}
        return "".join(
            marks.get(byte) or (chr(byte).lower() if 33 <= byte <= 126 else f"\\{byte:03}")
            for byte in label
        )

    frames = [
        over_udp(dns(question(b"".join(bytes([len(part)]) + part for part in labels) + b"\0")))
        for labels in wanted
    ]
    assert names(*frames) == [".".join(map(written, labels)) for labels in wanted]


@settings(deadline=None, max_examples=150)
@given(st.lists(st.binary(max_size=80), min_size=1, max_size=6), st.booleans())
def test_no_payload_on_port_53_is_fatal(payloads: list[bytes], dressed: bool) -> None:
    head = struct.pack(">HHHHHH", 1, ANSWER_FLAGS, 2, 3, 0, 0) if dressed else b""
    frames = [over_udp(head + payload) for payload in payloads]
    frames += [over_tcp(framed(head + payload)) for payload in payloads]
    packets = flows(*frames)["packets"].sum()
    assert packets == len(frames)
