"""First contacts and their outcomes."""

import numpy as np
import polars as pl
from builders import flows, normal, oriented, pulse

from sidelong.features.bounds import Bounds
from sidelong.features.contacts import Contacts
from sidelong.features.sides import sides


def outcomes(*told: str) -> list[str]:
    contacts = Contacts(np.empty(0, np.uint64), Bounds())
    rows = oriented(*told)
    found = contacts.observe(rows, pulse(rows))
    return found["outcome"].cast(pl.String).to_list()


def test_a_syn_ack_answers() -> None:
    assert outcomes("0s a/x -> b/y:80 SYN", "0.1s a/x <- b/y:80 SYN-ACK") == ["ANSWERED"]


def test_a_reset_refuses() -> None:
    assert outcomes("0s a/x -> b/y:80 SYN", "0.1s a/x <- b/y:80 RST") == ["REFUSED"]


def test_an_icmp_error_that_quotes_the_attempt_refuses() -> None:
    assert outcomes("0s a/x -> b/y:99 UDP", "0.1s a/x <- b/y:99 UNREACHABLE") == ["REFUSED"]


def test_a_policy_drop_denies() -> None:
    assert outcomes("0s a/x -> b/y:80 DENIED") == ["DENIED"]


def test_a_second_use_is_no_first_contact() -> None:
    again = ["0s a/x -> b/y:80 SYN", "0.1s a/x <- b/y:80 RST", "1s a/x -> b/y:80 SYN"]
    assert outcomes(*again, "1.1s a/x <- b/y:80 RST") == ["REFUSED"]


def test_silence_counts_once_a_second_has_passed_for_anybody() -> None:
    assert outcomes("0s a/x -> b/y:80 SYN", "0.9s c/z -> b/y:80 ACK") == []
    assert outcomes("0s a/x -> b/y:80 SYN", "1s c/z -> b/y:80 ACK") == ["UNANSWERED"]


def test_the_moment_of_silence_is_the_attempt_plus_one_second() -> None:
    contacts = Contacts(np.empty(0, np.uint64), Bounds())
    rows = oriented("0s a/x -> b/y:80 SYN", "7s c/z -> b/y:80 ACK")
    silence = contacts.observe(rows, pulse(rows))["time"][0] - rows["time"][0]
    assert silence.total_seconds() == 1


def test_an_answer_after_the_second_takes_the_silence_back() -> None:
    late = ["0s a/x -> b/y:80 SYN", "1.5s c/z -> b/y:80 ACK", "2s a/x <- b/y:80 SYN-ACK"]
    assert outcomes(*late) == ["UNANSWERED", "TAKEN_BACK"]


def test_probes_without_syn_are_attempts() -> None:
    for probe in ("FIN", "NULL", "XMAS"):
        assert outcomes(f"0s a/x -> b/y:80 {probe}", "2s c/z -> b/y:80 ACK") == ["UNANSWERED"]


def test_the_silence_after_a_lone_ack_says_nothing() -> None:
    assert outcomes("0s a/x -> b/y:80 ACK", "2s c/z -> b/y:80 ACK") == []


def test_the_reset_after_a_lone_ack_refuses() -> None:
    assert outcomes("0s a/x -> b/y:80 ACK", "0.1s a/x <- b/y:80 RST") == ["REFUSED"]


def test_two_addresses_of_one_workload_are_one_peer() -> None:
    rows = oriented("0s a/x -> b/y:80 SYN", "0.1s a/x <- b/y:80 SYN-ACK", "1s a/x -> b/y:80 SYN")
    moved = rows.with_columns(
        peer_ip=pl.when(pl.col("row") == 2).then(pl.lit("10.9.9.9")).otherwise("peer_ip")
    )
    assert Contacts(np.empty(0, np.uint64), Bounds()).observe(moved, pulse(moved)).height == 1


def test_two_addresses_without_a_name_are_two_peers() -> None:
    assert outcomes(
        "0s a/x -> world:203.0.0.0/16:80 SYN",
        "0.1s a/x <- world:203.0.0.0/16:80 RST",
        "0.2s a/x -> ip:10.0.0.8:80 SYN",
        "0.3s a/x <- ip:10.0.0.8:80 RST",
    ) == ["REFUSED", "REFUSED"]


def test_an_ended_stream_leaves_the_rest_unanswered() -> None:
    contacts = Contacts(np.empty(0, np.uint64), Bounds())
    rows = oriented("0s a/x -> b/y:80 SYN")
    contacts.observe(rows, pulse(rows))
    assert contacts.finish(1)["outcome"].to_list() == ["UNANSWERED"]


def test_what_was_lost_while_an_attempt_waited_is_told_with_its_silence() -> None:
    rows = normal(
        flows(
            "0s LOST 7",
            "0.5s a/x -> b/y:80 SYN",
            "1s LOST 6",
            "1.2s c/z -> b/y:80 ACK",
            "2s c/z -> b/y:80 ACK",
        )
    )
    found = Contacts(np.empty(0, np.uint64), Bounds()).observe(sides(rows), pulse(rows))
    # From row 1 to row 4, three rows came and six events did not.
    assert found["missing"].to_list() == [666_666]
