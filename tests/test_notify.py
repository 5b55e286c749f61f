"""From incidents to receivers, end to end: what arrives, what is kept back, what survives."""

import itertools
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import polars as pl
import pytest
from builders import flows, incidents
from hypothesis import given, settings
from hypothesis import strategies as st
from told_incidents import NOW, closed, opened, updated

from sidelong.alerts.audit import Entry, Verdict, append
from sidelong.alerts.incident import Incident
from sidelong.alerts.outbox import Outbox
from sidelong.alerts.outbox_file import OutboxError
from sidelong.alerts.receiver import Message
from sidelong.config import Config, read_config
from sidelong.errors import ConfigError
from sidelong.notify import Notifier

SUPPRESSION = """
[[suppressions]]
id = "known"
match = { actor = "shop/*" }
owner = "platform"
reason = "a test"
expires = 2027-01-31
"""


THREE = [opened(id, story="s") for id in ("a", "b", "c")]


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def config(folder: Path, **alerts: Any) -> Config:
    return msgspec.convert(
        {
            "receivers": [{"type": "file", "name": "log", "path": str(folder / "told.jsonl")}],
            "delivery": {"outbox": str(folder / "outbox")},
            "alerts": {"audit": str(folder / "audit.jsonl"), **alerts},
        },
        Config,
    )


@contextmanager
def notifying(settings: Config, clock: Clock, **options: Any) -> Iterator[Notifier]:
    notifier = Notifier(settings, clock=clock, **options)
    notifier.start()
    try:
        yield notifier
    finally:
        assert notifier.drain(20) == 0
        notifier.close()


def told(folder: Path) -> list[str]:
    """What arrived, as "open a1"."""
    path = folder / "told.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [f"{one['status']} {one['id']}" for one in map(json.loads, lines)]


def test_an_incident_arrives_from_its_opening_to_its_close(tmp_path: Path, clock: Clock) -> None:
    with notifying(config(tmp_path), clock) as notifier:
        notifier.emit([opened(), updated(opened())])
        clock.now += 60
        notifier.tick()
        clock.now += 60
        notifier.emit([closed(opened())])
    assert told(tmp_path) == ["open a1", "update a1", "closed a1"]


def scan_of(ports: int) -> pl.DataFrame:
    """Every port refuses, a hundred in a second."""
    lines: list[str] = []
    for port in range(1, ports + 1):
        at = port / 100
        lines += [
            f"{at:.3f}s shop/web -> data/db:{port} SYN",
            f"{at + 0.001:.3f}s shop/web <- data/db:{port} RST",
        ]
    return flows(*lines)


def test_a_scan_of_5000_ports_is_one_alert_with_updates_as_it_grows_and_one_close(
    tmp_path: Path, clock: Clock
) -> None:
    events = [one for one in incidents(scan_of(5_000)) if one.kind == "scan"]
    with notifying(config(tmp_path), clock) as notifier:
        for event in events:
            clock.now = event.last_seen.timestamp() + (600 if event.status == "closed" else 0)
            notifier.tick()
            notifier.emit([event])
        clock.now += 60
        notifier.tick()
    arrived = [json.loads(line) for line in (tmp_path / "told.jsonl").read_text().splitlines()]
    assert len({one["id"] for one in arrived}) == 1
    statuses = [one["status"] for one in arrived]
    assert (statuses[0], statuses[-1]) == ("open", "closed")
    assert 1 <= statuses.count("update") <= 6
    assert set(statuses[1:-1]) == {"update"}
    contacts = [one["counts"]["contacts"] for one in arrived]
    assert contacts[-1] == 5_000
    grown = contacts[1:-1]
    assert all(later >= 4 * before for before, later in itertools.pairwise(grown))


def test_what_is_suppressed_is_counted_and_told_nobody(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "s.toml").write_text(SUPPRESSION, encoding="utf-8")
    settings = config(tmp_path, suppressions=[str(tmp_path / "s.toml")])
    with notifying(settings, clock) as notifier:
        notifier.emit([opened(), updated(opened())])
        assert notifier.suppressed(opened()) == "known"
        counters = notifier.counters()
    assert told(tmp_path) == []
    assert (counters["suppressed"], counters["suppressions"]) == (2, {"known": 1})


def test_an_expired_suppression_says_so_and_keeps_nothing_back(
    tmp_path: Path, clock: Clock
) -> None:
    (tmp_path / "s.toml").write_text(SUPPRESSION, encoding="utf-8")
    settings = config(tmp_path, suppressions=[str(tmp_path / "s.toml")])
    clock.now += 365 * 86_400
    said: list[str] = []
    with notifying(settings, clock, say=said.append) as notifier:
        notifier.emit([opened()])
        assert notifier.counters()["expired"] == 1
    assert told(tmp_path) == ["open a1"]
    assert "the suppression 'known' has expired" in said[0]


def test_one_that_expires_while_sidelong_runs_says_so_once(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "s.toml").write_text(SUPPRESSION, encoding="utf-8")
    settings = config(tmp_path, suppressions=[str(tmp_path / "s.toml")])
    said: list[str] = []
    with notifying(settings, clock, say=said.append) as notifier:
        assert said == []
        for _ in range(3):
            clock.now += 365 * 86_400
            notifier.tick()
    assert len(said) == 1


def acknowledge(folder: Path, incident: Incident, verdict: Verdict = "ack") -> None:
    moment = datetime.fromtimestamp(NOW, UTC)
    append(folder / "audit.jsonl", Entry.on(incident, verdict, at=moment, by="ada"))


def test_an_acknowledgement_silences_updates_while_it_runs(tmp_path: Path, clock: Clock) -> None:
    with notifying(config(tmp_path), clock) as notifier:
        notifier.emit([opened()])
        acknowledge(tmp_path, opened())
        clock.now += 100
        notifier.tick()
        notifier.emit([updated(opened())])
        worse = updated(updated(opened()), "critical")
        notifier.emit([worse])
        clock.now += 100
        notifier.emit([closed(worse)])
    assert told(tmp_path) == ["open a1", "update a1", "closed a1"]
    assert "critical" in (tmp_path / "told.jsonl").read_text(encoding="utf-8").splitlines()[1]


ROUTES = '[route]\nreceivers = ["log"]\nmin_score = {score}\n'


def changed(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    stamp = os.stat(path).st_mtime_ns + 1_000_000_000
    os.utime(path, ns=(stamp, stamp))


def test_a_changed_file_of_routes_is_taken_up(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "routes.toml"
    path.write_text(ROUTES.format(score=0.9), encoding="utf-8")
    with notifying(config(tmp_path, routes=str(path)), clock, say=lambda _: None) as notifier:
        notifier.emit([opened("a")])
        changed(path, ROUTES.format(score=0.5))
        clock.now += 6
        notifier.tick()
        notifier.emit([opened("b")])
        assert notifier.counters()["reloads"] == 1
    assert told(tmp_path) == ["open b"]


@pytest.mark.parametrize("broken", ["[route", ROUTES.format(score=7), '[route]\nreceivers = "x"'])
def test_a_broken_change_keeps_what_was_before_and_says_so(
    tmp_path: Path, clock: Clock, broken: str
) -> None:
    path = tmp_path / "routes.toml"
    path.write_text('[route]\nreceivers = ["log"]\n', encoding="utf-8")
    said: list[str] = []
    with notifying(config(tmp_path, routes=str(path)), clock, say=said.append) as notifier:
        changed(path, broken)
        clock.now += 6
        notifier.tick()
        notifier.emit([opened()])
        assert notifier.counters()["reload_failures"] == 1
        clock.now += 6
        notifier.tick()
    assert told(tmp_path) == ["open a1"]
    assert len(said) == 1
    assert "what was before stays" in said[0]


def test_the_alerts_in_the_configuration_itself_are_read_again(
    tmp_path: Path, clock: Clock
) -> None:
    path = tmp_path / "sidelong.toml"
    text = f"""
[[receivers]]
type = "file"
name = "log"
path = "{tmp_path}/told.jsonl"
[delivery]
outbox = "{tmp_path}/outbox"
[alerts]
audit = "{tmp_path}/audit.jsonl"
"""
    path.write_text(text, encoding="utf-8")
    with notifying(read_config(str(path)), clock, path=str(path), say=lambda _: None) as notifier:
        changed(path, text + '[alerts.route]\nreceivers = ["log"]\nkind = "anomaly"\n')
        assert notifier.reload()
        notifier.emit([opened()])
    assert told(tmp_path) == []


def test_what_waits_for_its_group_survives_a_death(tmp_path: Path, clock: Clock) -> None:
    first = Notifier(config(tmp_path), clock=clock)
    first.emit([opened(), updated(opened())])
    first.close()  # without a word to anybody, as kill -9 does
    clock.now += 3
    with notifying(config(tmp_path), clock) as second:
        assert second.counters()["waiting"] == 1
        second.emit([opened(), updated(opened())])  # the stream is read again from before
        clock.now += 60
        second.tick()
    assert told(tmp_path) == ["open a1", "update a1"]


class Death(BaseException):
    """As of kill -9: nothing of the process goes on."""


def dying(moment: str) -> pytest.MonkeyPatch:
    """A process that dies when it next puts, or has just put, messages into the outbox."""
    put: Callable[..., int] = Outbox.put

    def deadly(outbox: Outbox, messages: Sequence[Message]) -> int:
        if moment == "after":
            put(outbox, messages)
        raise Death

    patch = pytest.MonkeyPatch()
    if moment != "between":
        patch.setattr(Outbox, "put", deadly)
    return patch


@settings(max_examples=60, deadline=None)
@given(
    deaths=st.lists(
        st.tuples(st.integers(0, 11), st.sampled_from(["before", "after", "between"])), max_size=4
    ),
    pause=st.sampled_from([0.0, 30.0, 61.0]),
)
def test_whenever_it_dies_every_alert_is_told_and_none_twice(
    deaths: list[tuple[int, str]], pause: float
) -> None:
    grown = [(one, updated(one), closed(updated(one))) for one in THREE]
    stream = [event for step in zip(*grown, strict=True) for event in step]
    with TemporaryDirectory() as name:
        folder, clock = Path(name), Clock()
        for at, moment in [*deaths, (len(stream) + 1, "")]:
            notifier = Notifier(config(folder), clock=clock)
            for number, event in enumerate(stream):  # from the beginning, each time
                patch = dying(moment) if number == at else pytest.MonkeyPatch()
                try:
                    notifier.tick()
                    notifier.emit([event])
                except Death:
                    break
                finally:
                    patch.undo()
                if number == at:
                    break
                clock.now += pause
            notifier.close()
        with notifying(config(folder), clock) as notifier:
            clock.now += 120
            notifier.tick()
        arrived = told(folder)
        for one in THREE:
            mine = [line.split()[0] for line in arrived if line.endswith(f" {one.id}")]
            assert (mine[0], mine[-1]) == ("open", "closed")
            assert (mine.count("open"), mine.count("closed")) == (1, 1)
            assert len(mine) <= 3


def test_a_state_that_is_damaged_is_set_aside_and_said(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "outbox.groups.json").write_text('{"format": 1', encoding="utf-8")
    said: list[str] = []
    with notifying(config(tmp_path), clock, say=said.append) as notifier:
        notifier.emit([opened()])
    assert told(tmp_path) == ["open a1"]
    assert (tmp_path / "outbox.groups.json.broken").exists()
    assert "cannot be used" in said[0]


def test_when_the_outbox_cannot_be_written_nothing_is_lost(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    put: Callable[..., int] = Outbox.put
    full = OutboxError("the disk is full", hint="make room")

    def fail(*_: object) -> int:
        raise full

    with notifying(config(tmp_path), clock) as notifier:
        monkeypatch.setattr(Outbox, "put", fail)
        with pytest.raises(OutboxError):
            notifier.emit([opened()])
        monkeypatch.setattr(Outbox, "put", put)
        notifier.emit([opened()])
    assert told(tmp_path) == ["open a1"]


def test_at_the_end_of_a_replay_all_that_waits_is_told(tmp_path: Path, clock: Clock) -> None:
    notifier = Notifier(config(tmp_path), clock=clock, lasting=False)
    notifier.start()
    notifier.emit([opened(), updated(opened()), closed(opened())])
    assert notifier.drain(20, final=True) == 0
    notifier.close()
    assert told(tmp_path) == ["open a1", "closed a1"]
    assert not (tmp_path / "outbox.groups.json").exists()


def test_without_receivers_there_is_nobody_to_notify(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no receiver to notify"):
        Notifier(Config())
