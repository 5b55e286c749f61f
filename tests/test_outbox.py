"""The outbox: nothing lost, nothing twice, in order of an incident, bounded, never in silence."""

import json
import logging
import os
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from alert_builders import incident, message

from sidelong.alerts.delivery_settings import DeliverySettings
from sidelong.alerts.outbox import Outbox, Taken
from sidelong.alerts.outbox_file import OutboxError
from sidelong.alerts.receiver import Message


@dataclass
class Clock:
    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox"


Opening = Callable[..., Outbox]


@pytest.fixture
def opening(path: Path, clock: Clock) -> Iterator[Opening]:
    """Opens the outbox, again and again: each as another worker."""
    every: list[Outbox] = []

    def opened(**settings: object) -> Outbox:
        given = DeliverySettings(outbox=str(path), **settings)  # type: ignore[arg-type]
        every.append(Outbox(given, clock=clock))
        return every[-1]

    yield opened
    for outbox in every:
        with suppress(OSError, OutboxError):  # those that a test has closed
            outbox.close()


@pytest.fixture
def outbox(opening: Opening) -> Outbox:
    return opening()


def taken(outbox: Outbox, receiver: str = "pager", *, early: bool = False) -> Taken:
    got = outbox.take(receiver, early=early)
    assert got is not None
    return got


def letters(path: Path) -> list[dict[str, Any]]:
    file = Path(f"{path}.dead.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def first_incidents(path: Path) -> list[str]:
    """Of each dead letter in the file."""
    return [Message.of(json.dumps(letter["message"])).events[0].id for letter in letters(path)]


# Kept


def test_what_was_put_is_there_after_a_restart(outbox: Outbox, opening: Opening) -> None:
    whole = replace(message(incident(), incident("b")), context={"group": "shop"})
    assert outbox.put([whole]) == 1
    assert taken(opening()).message == whole


def test_what_is_delivered_is_not_taken_again(outbox: Outbox, opening: Opening) -> None:
    outbox.put([message()])
    outbox.delivered(taken(outbox))
    assert outbox.take("pager") is None
    assert opening().take("pager") is None


def test_a_receiver_is_given_its_own_messages_only(outbox: Outbox) -> None:
    outbox.put([message(to="chat"), message(to="pager")])
    assert taken(outbox, "pager").message.receiver == "pager"
    assert outbox.take("pager") is None


def test_messages_are_taken_in_the_order_they_were_put(outbox: Outbox) -> None:
    outbox.put([message(incident(name)) for name in "abc"])
    assert [taken(outbox).message.events[0].id for _ in "abc"] == ["a", "b", "c"]


def test_the_file_is_for_its_owner_only(outbox: Outbox, path: Path) -> None:
    outbox.put([message()])
    outbox.give_up(taken(outbox), "gone")
    for part in ("", "-wal", ".dead.jsonl"):
        assert stat.S_IMODE(os.stat(f"{path}{part}").st_mode) == 0o600


def test_a_name_that_is_no_unicode_is_kept(outbox: Outbox, opening: Opening) -> None:
    odd = replace(incident(), summary="\ud800\n\x00")
    outbox.put([message(odd)])
    assert taken(opening()).message.events == (odd,)


# Once


def test_an_event_is_put_once_whoever_puts_it(outbox: Outbox, opening: Opening) -> None:
    assert outbox.put([message(), message()]) == 1
    other = opening()
    assert other.put([message()]) == 0
    assert (outbox.repeated, other.repeated) == (1, 1)


def test_an_event_is_known_while_it_waits_when_delivered_and_when_dead(outbox: Outbox) -> None:
    outbox.put([message(incident(name)) for name in "ab"])
    outbox.delivered(taken(outbox))
    outbox.give_up(taken(outbox), "gone")
    assert outbox.put([message(incident(name)) for name in "ab"]) == 0


@pytest.mark.parametrize(
    "other",
    [
        message(incident(status="update")),
        message(incident(ports=2)),
        message(incident("b")),
        message(to="chat"),
        message(occasion="reminder 1"),
    ],
)
def test_another_status_content_incident_receiver_or_occasion_is_another_event(
    outbox: Outbox, other: Message
) -> None:
    assert outbox.put([message(), other]) == 2


def test_of_a_group_only_what_is_new_is_put(outbox: Outbox) -> None:
    outbox.put([message(incident("a"))])
    outbox.put([message(incident("a"), incident("b"), incident("b"))])
    outbox.delivered(taken(outbox))
    assert [event.id for event in taken(outbox).message.events] == ["b"]


def test_what_was_delivered_is_forgotten_after_its_time(opening: Opening, clock: Clock) -> None:
    outbox = opening(remember_seconds=100.0)
    outbox.put([message()])
    outbox.delivered(taken(outbox))
    clock.now += 99
    outbox.tidy()
    assert outbox.put([message()]) == 0
    clock.now += 2
    outbox.tidy()
    assert outbox.put([message()]) == 1


def test_so_many_delivered_messages_are_remembered_the_latest(opening: Opening) -> None:
    outbox = opening(remember_messages=2)
    outbox.put([message(incident(name)) for name in "abc"])
    for _ in "abc":
        outbox.delivered(taken(outbox))
    outbox.tidy()
    assert [outbox.put([message(incident(name))]) for name in "abc"] == [1, 0, 0]


# In order


def test_the_next_of_an_incident_waits_for_the_one_before(outbox: Outbox) -> None:
    outbox.put([message(incident("a")), message(incident("a", "closed")), message(incident("b"))])
    first, other = taken(outbox), taken(outbox)
    assert (first.message.events[0].status, other.message.events[0].id) == ("open", "b")
    assert outbox.take("pager") is None
    outbox.delivered(first)
    assert taken(outbox).message.events[0].status == "closed"


def test_also_while_the_one_before_waits_for_another_attempt(outbox: Outbox, clock: Clock) -> None:
    outbox.put([message(incident("a")), message(incident("a", "closed"))])
    outbox.later(taken(outbox), clock.now + 60, "busy")
    assert outbox.take("pager") is None
    assert taken(outbox, early=True).message.events[0].status == "open"


def test_a_group_waits_for_every_incident_in_it(outbox: Outbox) -> None:
    outbox.put([message(incident("a")), message(incident("b"))])
    outbox.put([message(incident("b", "closed"), incident("c"))])
    outbox.delivered(taken(outbox))
    second = taken(outbox)
    assert outbox.take("pager") is None
    outbox.delivered(second)
    assert len(taken(outbox).message.events) == 2


def test_a_dead_letter_holds_up_nothing(outbox: Outbox) -> None:
    outbox.put([message(incident("a")), message(incident("a", "closed"))])
    outbox.give_up(taken(outbox), "refused")
    assert taken(outbox).message.events[0].status == "closed"


def test_a_receiver_does_not_hold_up_another(outbox: Outbox) -> None:
    outbox.put([message(to="chat"), message(incident(status="closed"), to="pager")])
    taken(outbox, "chat")
    assert taken(outbox, "pager").message.events[0].status == "closed"


# Leases


def test_what_a_worker_holds_no_other_takes_until_the_lease_ends(
    outbox: Outbox, opening: Opening, clock: Clock
) -> None:
    outbox.put([message()])
    assert taken(outbox).message.attempt == 1
    other = opening()
    clock.now += 59.9
    assert other.take("pager") is None
    clock.now += 0.1
    assert taken(other).message.attempt == 2


def test_what_a_worker_held_that_is_no_more_is_taken_at_once(
    outbox: Outbox, opening: Opening
) -> None:
    outbox.put([message(incident("a")), message(incident("b"))])
    dying = opening()
    taken(dying)
    taken(outbox)
    dying._file.close()
    os.close(dying._presence._file)  # as when the process is killed: its file stays
    outbox.settle_down()
    assert taken(outbox).message.events[0].id == "a"
    assert outbox.take("pager") is None
    assert len(list(Path(outbox.settings.outbox).parent.glob("*.worker-*"))) == 1


def test_the_idempotency_key_is_the_same_in_every_attempt(
    outbox: Outbox, opening: Opening, clock: Clock
) -> None:
    outbox.put([message()])
    first = taken(outbox)
    clock.now += 60
    assert taken(opening()).message.id == first.message.id == message().id


def test_who_lost_the_lease_can_only_say_that_it_was_delivered(
    outbox: Outbox, opening: Opening, clock: Clock
) -> None:
    outbox.put([message()])
    late = taken(outbox)
    clock.now += 60
    other = opening()
    held = taken(other)
    outbox.later(late, clock.now, "busy")
    assert not outbox.give_up(late, "refused")
    assert outbox.take("pager") is None
    outbox.delivered(late)
    other.later(held, clock.now, "busy")
    assert other.take("pager") is None


def test_a_clock_that_was_far_ahead_blocks_nothing(
    outbox: Outbox, opening: Opening, clock: Clock
) -> None:
    outbox.put([message(incident("a")), message(incident("b"))])
    clock.now += 1e9
    taken(outbox)
    outbox.later(taken(outbox), clock.now + 30, "busy")
    clock.now -= 1e9
    assert {taken(outbox).message.events[0].id for _ in "ab"} == {"a", "b"}


def test_a_pause_is_kept_and_ends_early_when_the_receiver_is_back(
    outbox: Outbox, clock: Clock
) -> None:
    outbox.put([message()])
    outbox.later(taken(outbox), clock.now + 100, "busy")
    clock.now += 50
    assert outbox.take("pager") is None
    outbox.hurry("chat")
    assert outbox.take("pager") is None
    outbox.hurry("pager")
    assert taken(outbox).message.attempt == 2


# Dead letters


def test_a_dead_letter_is_in_the_file_and_in_the_list_with_its_reason(
    outbox: Outbox, path: Path, clock: Clock
) -> None:
    outbox.put([message()])
    assert outbox.give_up(taken(outbox), "400 Bad Request")
    (listed,) = outbox.dead_letters()
    (written,) = letters(path)
    assert written == listed.to_dict()
    assert (listed.message, listed.attempts, listed.dead_at, listed.why) == (
        message(),
        1,
        clock.now,
        "400 Bad Request",
    )
    assert outbox.dead_letters("chat") == []


def test_what_waits_too_long_is_dead_with_its_last_reason(
    outbox: Outbox, clock: Clock, path: Path
) -> None:
    outbox.put([message(incident("a")), message(incident("b")), message(to="chat")])
    outbox.later(taken(outbox), clock.now, "503")
    clock.now += 86_399
    assert outbox.expire("pager") == 0
    clock.now += 1
    assert outbox.expire("pager") == 2
    assert [letter["why"] for letter in letters(path)] == [
        "not delivered in time; last: 503",
        "not delivered in time; last: never tried",
    ]
    assert taken(outbox, "chat")


def test_what_is_under_way_does_not_expire(outbox: Outbox, clock: Clock) -> None:
    outbox.put([message()])
    clock.now += 86_400
    taken(outbox)
    assert outbox.expire("pager") == 0


@pytest.mark.parametrize(
    ("choice", "count"),
    [({}, 3), ({"receiver": "pager"}, 2), ({"ids": [message().id]}, 1), ({"ids": []}, 0),
     ({"ids": [message().id], "receiver": "chat"}, 0)],
)  # fmt: skip
def test_dead_letters_are_redelivered_by_choice(
    outbox: Outbox, clock: Clock, choice: dict[str, object], count: int
) -> None:
    outbox.put([message(), message(incident("b")), message(to="chat")])
    for receiver in ("pager", "pager", "chat"):
        outbox.give_up(taken(outbox, receiver), "refused")
    clock.now += 90_000
    assert outbox.redeliver(**choice) == count  # type: ignore[arg-type]
    assert len(outbox.dead_letters()) == 3 - count
    assert outbox.expire("pager") == 0


def test_what_is_redelivered_begins_anew_and_comes_first(outbox: Outbox) -> None:
    outbox.put([message(incident("a")), message(incident("b"))])
    outbox.give_up(taken(outbox), "refused")
    outbox.redeliver()
    again = taken(outbox)
    assert (again.message.events[0].id, again.message.attempt) == ("a", 1)


def test_a_message_that_cannot_be_read_is_a_dead_letter_not_a_stop(
    outbox: Outbox, path: Path
) -> None:
    outbox.put([message(incident("a")), message(incident("b"))])
    with sqlite3.connect(path) as other:
        other.execute("UPDATE messages SET body='{' WHERE seq=1")
    other.close()
    assert taken(outbox).message.events[0].id == "b"
    assert "cannot be read" in str(letters(path)[0]["why"])


def test_so_many_dead_letters_are_kept_the_latest_and_the_file_has_all(
    opening: Opening, path: Path, clock: Clock
) -> None:
    outbox = opening(most_dead=1)
    outbox.put([message(incident(name)) for name in "abc"])
    for _ in "abc":
        outbox.give_up(taken(outbox), "refused")
        clock.now += 1
    outbox.tidy()
    assert [letter.message.events[0].id for letter in outbox.dead_letters()] == ["c"]
    assert len(letters(path)) == 3


def test_a_file_of_dead_letters_that_grows_too_large_is_rotated(
    opening: Opening, path: Path
) -> None:
    outbox = opening(dead_letters_bytes=1000)
    outbox.put([message(incident(name)) for name in "abc"])
    for _ in "abc":
        outbox.give_up(taken(outbox), "refused")
    assert len(letters(path)) == 1
    assert Path(f"{path}.dead.jsonl.1").read_text().count("\n") == 1


def test_a_file_of_dead_letters_that_cannot_be_written_is_counted_and_logged(
    opening: Opening, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = opening(dead_letters=str(tmp_path))
    outbox.put([message()])
    outbox.give_up(taken(outbox), "refused")
    assert outbox.dead_letter_file.failures == 1
    assert str(tmp_path) in caplog.text
    assert len(outbox.dead_letters()) == 1


# Bounds


def test_when_too_many_wait_the_oldest_of_the_longest_queue_are_dead_letters(
    opening: Opening, path: Path
) -> None:
    outbox = opening(most_messages=3)
    outbox.put([message(to="chat"), *(message(incident(name)) for name in "abcd")])
    assert outbox.overflowed == 2
    assert [letter["receiver"] for letter in letters(path)] == ["pager", "pager"]
    assert first_incidents(path) == ["a", "b"]
    assert taken(outbox, "chat")


def test_when_too_many_bytes_wait_it_is_the_same(opening: Opening, path: Path) -> None:
    size = len(message().to_json())
    outbox = opening(most_bytes=2 * size)
    outbox.put([message(incident(name)) for name in "abc"])
    assert first_incidents(path) == ["a"]
    outbox.delivered(taken(outbox))
    outbox.put([message(incident("d"))])
    assert outbox.overflowed == 1


def test_a_full_outbox_says_so(opening: Opening, caplog: pytest.LogCaptureFixture) -> None:
    opening(most_messages=1).put([message(incident(name)) for name in "ab"])
    assert "outbox is full" in caplog.text


def test_queues_tell_what_waits_since_when_and_what_is_dead(outbox: Outbox, clock: Clock) -> None:
    outbox.put([message(to="chat"), message(incident("a")), message(incident("b"))])
    outbox.give_up(taken(outbox), "refused")
    clock.now += 5
    outbox.put([message(incident("c"))])
    shown = {
        receiver: (queue.waiting, queue.oldest_at, queue.dead)
        for receiver, queue in outbox.queues().items()
    }
    assert shown == {"chat": (1, clock.now - 5, 0), "pager": (2, clock.now - 5, 1)}


# What goes wrong


def test_a_full_disk_is_told_and_loses_nothing_that_was_put(outbox: Outbox, path: Path) -> None:
    outbox.put([message(incident("a"))])
    outbox._file.read("PRAGMA max_page_count=1")
    with pytest.raises(OutboxError, match="full") as caught:
        outbox.put([message(incident(f"n{number}")) for number in range(200)])
    assert str(path) in caught.value.problem
    assert "free space" in caught.value.hint
    outbox._file.read("PRAGMA max_page_count=1000000")
    assert outbox.put([message(incident("b"))]) == 1
    assert [taken(outbox).message.events[0].id for _ in "ab"] == ["a", "b"]
    assert outbox.take("pager") is None


def test_a_file_that_another_holds_is_told(outbox: Outbox, path: Path) -> None:
    outbox._file.read("PRAGMA busy_timeout=1")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(OutboxError, match="locked") as caught:
        outbox.put([message()])
    assert "another process" in caught.value.hint
    other.close()
    assert outbox.put([message()]) == 1


def test_a_directory_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutboxError, match="file/outbox"):
        Outbox(DeliverySettings(outbox=str(tmp_path / "file" / "outbox")))


def test_a_file_that_is_none_of_ours_is_set_aside_not_deleted(
    opening: Opening, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_text("my notes, which are dear to me\n" * 100)
    assert opening().put([message()]) == 1
    (aside,) = path.parent.glob("outbox.broken-*")
    assert aside.read_text().startswith("my notes")
    assert "outbox is broken and set aside" in caplog.text


def test_what_waits_in_a_broken_file_is_saved_as_far_as_it_is_readable(
    opening: Opening, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = opening()
    outbox.put([message(incident(f"n{number:03}")) for number in range(300)])
    outbox.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2)
        file.write(os.urandom(4096 * 3))
    caplog.set_level(logging.WARNING)
    again = opening()
    assert 50 < again.salvaged < 300
    assert f"messages={again.salvaged}" in caplog.text
    assert taken(again).message.events[0].id == "n000"
    (aside,) = path.parent.glob("outbox.broken-*.saved")
    assert aside.stat().st_size == size
    assert opening().salvaged == 0


def test_an_outbox_of_a_newer_version_is_left_alone(opening: Opening, path: Path) -> None:
    opening().close()
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version=99")
    other.close()
    with pytest.raises(OutboxError, match="newer"):
        opening()
    assert list(path.parent.glob("*.broken-*")) == []


def test_a_database_of_something_else_is_left_alone(opening: Opening, path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE theirs (a)")
    other.close()
    with pytest.raises(OutboxError, match="something else"):
        opening()


def test_several_may_open_it_at_once(opening: Opening) -> None:
    opened: list[Outbox] = []
    threads = [threading.Thread(target=lambda: opened.append(opening())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 8


def test_threads_and_workers_together_take_each_message_once(
    outbox: Outbox, opening: Opening
) -> None:
    workers = [outbox, opening()]
    got: list[str] = []

    def work(which: Outbox, mine: str) -> None:
        which.put([message(incident(f"{mine}{number}")) for number in range(20)])
        while held := which.take("pager"):
            got.append(held.message.events[0].id)
            which.delivered(held)

    threads = [
        threading.Thread(target=work, args=(workers[number % 2], f"t{number}-"))
        for number in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == sorted(f"t{a}-{b}" for a in range(4) for b in range(20))


@pytest.mark.parametrize("name", ["lease_seconds", "most_messages", "parallel"])
def test_a_setting_below_its_least_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        DeliverySettings(**{name: 0})  # type: ignore[arg-type]
