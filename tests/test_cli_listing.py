"""How incidents look: the table for a person, the JSON lines for a program."""

import io
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from sidelong.alerts.incident import Actor, Incident, Target
from sidelong.listing import JsonLines, Table
from sidelong.terminal import Terminal

START: Final = datetime(2026, 11, 23, 2, 18, 41, tzinfo=UTC)
SCAN: Final = Incident(
    id="4f2a",
    status="open",
    kind="scan",
    severity="high",
    score=0.5,
    detected_at=START,
    first_seen=START,
    last_seen=START,
    actor=Actor("shop/frontend"),
    objects=(Target("payments/payments", port=22), Target("payments/payments", port=23)),
    story="4f2a",
    summary="shop/frontend tries the ports of payments/payments.",
)


@pytest.fixture
def screen() -> io.StringIO:
    """What reaches standard output, a pipe."""
    return io.StringIO()


def test_an_incident_is_a_line_to_scan_and_a_sentence_to_read(screen: io.StringIO) -> None:
    table = Table(Terminal(screen))
    table.show([replace(SCAN, status="closed")])
    assert screen.getvalue().splitlines() == [
        "2026-11-23 02:18:41Z  HIGH      scan              shop/frontend -> "
        "payments/payments (2 ports)",
        "                      shop/frontend tries the ports of payments/payments.  id 4f2a",
    ]


def test_where_there_is_little_room_who_and_whom_have_a_line_of_their_own(
    screen: io.StringIO,
) -> None:
    terminal = Terminal(screen)
    terminal.out.width = 60
    Table(terminal).show([replace(SCAN, status="closed", summary="word " * 30)])
    lines = screen.getvalue().splitlines()
    assert lines[0].split() == ["2026-11-23", "02:18:41Z", "HIGH", "scan"]
    assert lines[1] == "            shop/frontend -> payments/payments (2 ports)"
    assert all(len(line) <= 60 for line in lines)


def test_ports_and_peers_beyond_those_that_are_told_are_counted(screen: io.StringIO) -> None:
    many = replace(SCAN, status="closed", counts={"ports": 1_000, "peers": 1})
    Table(Terminal(screen)).show([many])
    assert "payments/payments (1,000 ports)" in screen.getvalue()


def test_a_story_is_shown_together_and_says_what_it_goes_on_from(screen: io.StringIO) -> None:
    other = replace(SCAN, id="9c", story="9c", detected_at=START + timedelta(seconds=1))
    third = replace(SCAN, id="77", detected_at=START + timedelta(seconds=2))
    table = Table(Terminal(screen))
    table.show([SCAN, other, third])
    table.end()
    ends = [line.rpartition("id ")[2] for line in screen.getvalue().splitlines() if "id " in line]
    assert ends == ["4f2a", "77, story 4f2a", "9c"]


def test_updates_fold_into_the_final_entry(screen: io.StringIO) -> None:
    table = Table(Terminal(screen))
    table.show([SCAN, replace(SCAN, status="update", summary="More.")])
    assert screen.getvalue() == ""
    table.show([replace(SCAN, status="closed", summary="All of it.")])
    table.end()
    assert screen.getvalue().count("shop/frontend ->") == 1
    assert "All of it." in screen.getvalue()


def test_what_is_open_at_the_end_is_shown_in_order_of_detection(screen: io.StringIO) -> None:
    earlier = replace(SCAN, id="11", detected_at=START - timedelta(hours=1), summary="First.")
    table = Table(Terminal(screen))
    table.show([SCAN, earlier])
    table.end()
    assert screen.getvalue().index("First.") < screen.getvalue().index("tries the ports")


def test_every_change_is_an_entry_when_asked_for(screen: io.StringIO) -> None:
    table = Table(Terminal(screen), every_change=True)
    table.show([SCAN, replace(SCAN, status="update"), replace(SCAN, status="closed")])
    heads = [line.split()[0] for line in screen.getvalue().splitlines() if "->" in line]
    assert heads == ["open", "update", "closed"]


def test_a_long_sentence_wraps_under_itself(screen: io.StringIO) -> None:
    table = Table(Terminal(screen))
    table.show([replace(SCAN, status="closed", summary="word " * 60)])
    lines = screen.getvalue().splitlines()[1:]
    assert len(lines) > 1
    assert all(line.startswith(" " * 22) and len(line) <= 100 for line in lines)


def test_many_objects_are_named_by_the_first_three(screen: io.StringIO) -> None:
    objects = tuple(Target(ip=f"10.0.0.{host}", port=22) for host in range(9))
    table = Table(Terminal(screen))
    table.show([replace(SCAN, status="closed", objects=objects)])
    assert "-> 10.0.0.0:22, 10.0.0.1:22, 10.0.0.2:22 and 6 more" in screen.getvalue()


HOSTILE: Final = "\x1b[2J\x9b31m\u202e\u200b\r\n[red]:smile:"


def test_a_hostile_name_cannot_move_the_cursor(screen: io.StringIO) -> None:
    hostile = replace(
        SCAN,
        status="closed",
        actor=Actor(HOSTILE),
        objects=(Target(domain=HOSTILE),),
        summary=f"asks for {HOSTILE}",
    )
    Table(Terminal(screen)).show([hostile])
    shown = screen.getvalue()
    assert shown.replace("\n", "").isprintable()
    assert shown.count("\\x1b[2J\\x9b31m\\u202e\\u200b\\x0d\\x0a[red]:smile:") >= 2


def test_a_hostile_name_stays_the_same_value_in_json(screen: io.StringIO) -> None:
    name = HOSTILE + "é\U000e0001\ud800"
    JsonLines(Terminal(screen)).show([replace(SCAN, actor=Actor(name))])
    (line,) = screen.getvalue().splitlines()
    assert line.isprintable()
    assert json.loads(line)["actor"]["workload"] == name


def test_json_shows_every_change_as_one_line(screen: io.StringIO) -> None:
    listing = JsonLines(Terminal(screen))
    listing.show([SCAN])
    listing.show([replace(SCAN, status="closed")])
    listing.end()
    assert [json.loads(line)["status"] for line in screen.getvalue().splitlines()] == [
        "open",
        "closed",
    ]
