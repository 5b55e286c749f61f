"""Delivery: who is tried when, what becomes of what fails, and that nobody waits for another."""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from alert_builders import incident, message

from sidelong.alerts.breaker import Breaker, pause
from sidelong.alerts.delivery import Dispatcher
from sidelong.alerts.delivery_settings import DeliverySettings
from sidelong.alerts.incident import Status
from sidelong.alerts.outbox import Outbox
from sidelong.alerts.outbox_file import OutboxError
from sidelong.alerts.receiver import Message, Receiver, Sent, Undelivered
from sidelong.errors import ConfigError


@dataclass
class Clock:
    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Scripted:
    """A receiver that fails as it is told to, then takes everything."""

    name: str = "pager"
    errors: Sequence[Exception] = ()
    got: list[Message] = field(default_factory=list)
    tried: list[float] = field(default_factory=list)
    clock: Callable[[], float] = float

    def send(self, message: Message) -> Sent:
        self.tried.append(self.clock())
        if self.errors:
            error, *self.errors = self.errors
            raise error
        self.got.append(message)
        return Sent("200 OK")

    @property
    def ids(self) -> list[str]:
        return [event.id for message in self.got for event in message.events]


@pytest.fixture
def clock() -> Clock:
    return Clock()


Starting = Callable[..., Dispatcher]


@pytest.fixture
def starting(tmp_path: Path, clock: Clock) -> Iterator[Starting]:
    every: list[Outbox] = []

    def started(*receivers: Receiver, **settings: object) -> Dispatcher:
        given = DeliverySettings(outbox=str(tmp_path / "outbox"), **settings)  # type: ignore[arg-type]
        every.append(Outbox(given, clock=clock))
        return Dispatcher(
            every[-1], receivers, clock=clock, ticks=clock, jitter=lambda: 0.999_999_999
        )

    yield started
    for outbox in every:
        outbox.close()


def run(dispatcher: Dispatcher, clock: Clock, seconds: int, receiver: str = "pager") -> None:
    """Let the time pass, a second at a time."""
    for _ in range(seconds):
        while dispatcher.turn(receiver):
            pass
        clock.now += 1


def mine(dispatcher: Dispatcher, receiver: str = "pager") -> dict[str, float]:
    return dispatcher.counters()[receiver]


# Attempts


def test_a_message_is_delivered_and_counted(starting: Starting, clock: Clock) -> None:
    pager = Scripted()
    dispatcher = starting(pager)
    dispatcher.put([message()])
    assert mine(dispatcher)["queued"] == 1
    clock.now += 2
    assert mine(dispatcher)["oldest_seconds"] == 2
    assert dispatcher.turn("pager")
    assert not dispatcher.turn("pager")
    assert pager.got == [message()]
    assert mine(dispatcher) == {
        "delivered": 1,
        "retried": 0,
        "dead": 0,
        "latency_seconds": 2.0,
        "open": 0,
        "queued": 0,
        "dead_letters": 0,
        "oldest_seconds": 0.0,
    }


def test_pauses_double_up_to_their_bound(starting: Starting, clock: Clock) -> None:
    pager = Scripted(errors=[Undelivered("503")] * 7, clock=clock)
    dispatcher = starting(pager, longest_retry_seconds=20.0, breaker_failures=99)
    dispatcher.put([message()])
    run(dispatcher, clock, 100)
    assert [round(b - a) for a, b in zip(pager.tried, pager.tried[1:], strict=False)] == [
        1, 2, 4, 8, 16, 20, 20,
    ]  # fmt: skip
    assert [got.attempt for got in pager.got] == [8]
    assert mine(dispatcher)["retried"] == 7


@pytest.mark.parametrize("jitter", [0.0, 0.5, 0.999])
def test_a_pause_is_scattered_between_half_and_whole(jitter: float) -> None:
    assert 2.0 <= pause(1.0, 300.0, 3, jitter) == 2.0 + 2.0 * jitter < 4.0
    assert pause(1.0, 300.0, 10_000, jitter) <= 300.0


def test_a_receiver_that_asks_for_time_gets_it_for_every_message(
    starting: Starting, clock: Clock
) -> None:
    pager = Scripted(errors=[Undelivered("429", retry_after=30.0)], clock=clock)
    dispatcher = starting(pager)
    begun = clock.now
    dispatcher.put([message(incident("a")), message(incident("b"))])
    run(dispatcher, clock, 40)
    assert [moment - begun for moment in pager.tried] == [0, 30, 30]


def test_a_receiver_cannot_ask_for_more_than_the_longest(starting: Starting, clock: Clock) -> None:
    pager = Scripted(errors=[Undelivered("429", retry_after=1e9)])
    dispatcher = starting(pager, longest_retry_after_seconds=60.0)
    dispatcher.put([message()])
    run(dispatcher, clock, 62)
    assert pager.ids == ["a"]


@pytest.mark.parametrize(
    "error",
    [Undelivered("503"), ConfigError("no secret", hint="x"), ConnectionResetError(104, "reset")],
)
def test_what_may_pass_is_tried_again(starting: Starting, clock: Clock, error: Exception) -> None:
    pager = Scripted(errors=[error])
    dispatcher = starting(pager)
    dispatcher.put([message()])
    run(dispatcher, clock, 3)
    assert pager.ids == ["a"]


# Dead letters


def test_what_cannot_succeed_is_a_dead_letter_at_once_and_the_next_goes_on(
    starting: Starting, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    pager = Scripted(errors=[Undelivered("400 Bad Request", permanent=True)])
    dispatcher = starting(pager)
    dispatcher.put([message(incident("a")), message(incident("a", "closed"))])
    run(dispatcher, clock, 1)
    assert [got.events[0].status for got in pager.got] == ["closed"]
    assert (mine(dispatcher)["dead"], mine(dispatcher)["dead_letters"]) == (1, 1)
    assert "message is dead receiver=pager" in caplog.text


def test_a_defect_of_a_receiver_is_a_dead_letter_that_says_where_and_no_more(
    starting: Starting, clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    pager = Scripted(errors=[KeyError("token=5ecret")])
    dispatcher = starting(pager)
    dispatcher.put([message()])
    run(dispatcher, clock, 1)
    written = (tmp_path / "outbox.dead.jsonl").read_text()
    assert "KeyError in the receiver (Scripted.send" in written
    assert "5ecret" not in written + caplog.text


def test_a_message_is_dead_after_its_time(starting: Starting, clock: Clock) -> None:
    pager = Scripted(errors=[Undelivered("503")] * 1000)
    dispatcher = starting(pager, dead_after_seconds=60.0, longest_retry_seconds=10.0)
    dispatcher.put([message(incident("a")), message(incident("b"))])
    run(dispatcher, clock, 58)
    assert mine(dispatcher)["dead"] == 0
    run(dispatcher, clock, 65)  # with the next attempt that fails
    assert (mine(dispatcher)["dead"], mine(dispatcher)["queued"]) == (2, 0)


def test_what_waited_while_sidelong_was_down_is_tried_before_it_is_given_up(
    starting: Starting, clock: Clock
) -> None:
    starting(Scripted()).put([message(incident(name)) for name in "ab"])
    clock.now += 10 * 86_400
    pager = Scripted()
    run(starting(pager), clock, 1)
    assert pager.ids == ["a", "b"]


def test_what_waits_for_a_receiver_that_is_no_more_is_dead_after_its_time(
    starting: Starting, clock: Clock
) -> None:
    dispatcher = starting(Scripted())
    dispatcher.put([message(to="gone")])
    dispatcher.tidy()
    assert mine(dispatcher, "gone")["queued"] == 1
    clock.now += 86_400
    dispatcher.tidy()
    assert mine(dispatcher, "gone") == {"queued": 0, "dead_letters": 1, "oldest_seconds": 0.0}


def test_dead_letters_are_redelivered(starting: Starting, clock: Clock) -> None:
    pager = Scripted(errors=[Undelivered("400", permanent=True)] * 2)
    dispatcher = starting(pager)
    dispatcher.put([message(incident(name)) for name in "ab"])
    run(dispatcher, clock, 1)
    assert dispatcher.redeliver([message(incident("b")).id]) == 1
    run(dispatcher, clock, 1)
    assert pager.ids == ["b"]
    assert dispatcher.redeliver() == 1
    run(dispatcher, clock, 1)
    assert pager.ids == ["b", "a"]


# The breaker


def test_a_receiver_that_fails_again_and_again_is_left_alone_then_asked_once(
    starting: Starting, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    pager = Scripted(errors=[Undelivered("503")] * 7, clock=clock)
    dispatcher = starting(pager, breaker_failures=5, breaker_seconds=10.0)
    begun = clock.now
    dispatcher.put([message(incident(f"n{number}")) for number in range(20)])
    run(dispatcher, clock, 5)
    assert [moment - begun for moment in pager.tried] == [0] * 5
    assert mine(dispatcher)["open"] == 1
    run(dispatcher, clock, 26)
    assert [moment - begun for moment in pager.tried[5:]] == [10, 30]
    assert mine(dispatcher)["delivered"] == 0
    run(dispatcher, clock, 41)
    # Once it answers, nothing that waits sits out its pause.
    assert {moment - begun for moment in pager.tried[7:]} == {70}
    assert sorted(pager.ids) == sorted(f"n{number}" for number in range(20))
    assert mine(dispatcher)["open"] == 0
    assert "left alone" in caplog.text
    assert "is back" in caplog.text


def test_failures_between_successes_open_nothing(starting: Starting, clock: Clock) -> None:
    breaker = Breaker(DeliverySettings(breaker_failures=2))
    for _ in range(10):
        breaker.failed("go", clock.now)
        breaker.answered("go")
    assert breaker.leave(clock.now) == "go"


def test_only_one_asks_a_receiver_that_may_be_back(clock: Clock) -> None:
    breaker = Breaker(DeliverySettings(breaker_failures=1, breaker_seconds=10.0))
    assert breaker.failed("go", clock.now)
    assert breaker.leave(clock.now + 10) == "probe"
    assert breaker.leave(clock.now + 10) is None
    breaker.unused("probe")
    assert breaker.leave(clock.now + 10) == "probe"


def test_what_was_under_way_when_it_opened_opens_it_no_further(clock: Clock) -> None:
    breaker = Breaker(
        DeliverySettings(breaker_failures=1, breaker_seconds=10.0), jitter=lambda: 0.0
    )
    breaker.failed("go", clock.now)
    assert not breaker.failed("go", clock.now + 1)
    assert breaker.leave(clock.now + 5) == "probe"


def test_an_answer_that_refuses_for_good_is_a_sign_of_life(
    starting: Starting, clock: Clock
) -> None:
    pager = Scripted(
        errors=[Undelivered("503"), Undelivered("400", permanent=True)] * 5 + [Undelivered("503")]
    )
    dispatcher = starting(pager, breaker_failures=2)
    dispatcher.put([message(incident(f"n{number}")) for number in range(11)])
    run(dispatcher, clock, 1)
    assert mine(dispatcher)["open"] == 0


def test_ten_minutes_without_the_receiver_and_three_restarts_lose_nothing_and_repeat_nothing(
    starting: Starting, clock: Clock
) -> None:
    begun = clock.now

    class Down(Scripted):
        def send(self, message: Message) -> Sent:
            self.tried.append(clock.now - begun)
            if clock.now - begun < 600:
                raise Undelivered("503")
            self.got.append(message)
            return Sent("200")

    pager = Down()
    states: tuple[Status, ...] = ("open", "update", "closed")
    stream = [message(incident(f"n{number:02}", state)) for state in states for number in range(50)]
    dispatcher = starting(pager)
    for start in range(4):
        dispatcher = starting(pager)
        dispatcher.put(stream[: 40 * (start + 1)])  # from the beginning, as a replay does
        run(dispatcher, clock, 150)
    assert pager.got == []
    assert len(pager.tried) < 70
    run(dispatcher, clock, 60)
    assert len({got.id for got in pager.got}) == len(pager.got) == len(stream)
    for name in {got.events[0].id for got in pager.got}:
        assert [got.events[0].status for got in pager.got if got.events[0].id == name] == list(
            states
        )


def test_what_takes_long_to_send_is_kept_but_not_for_ever(starting: Starting, clock: Clock) -> None:
    begun = clock.now
    until: list[float] = []

    class Long(Scripted):
        def send(self, message: Message) -> Sent:
            for _ in range(700):
                clock.now += 1
                dispatcher.renew()
                if not until and other.take("pager"):
                    until.append(clock.now - begun)
            return super().send(message)

    dispatcher = starting(Long())
    other = starting()._outbox
    dispatcher.put([message()])
    dispatcher.turn("pager")
    assert 600 <= until[0] <= 660


# What goes wrong with the outbox


def test_what_was_sent_is_not_sent_again_because_the_outbox_could_not_be_written(
    starting: Starting, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    pager = Scripted()
    dispatcher = starting(pager, breaker_failures=1)
    dispatcher.put([message()])

    def full(*_: object) -> None:
        raise OutboxError("the disk is full", hint="x")

    with monkeypatch.context() as patch:
        patch.setattr(dispatcher._outbox, "delivered", full)
        for _ in range(3):
            with pytest.raises(OutboxError):
                dispatcher.turn("pager")
    run(dispatcher, clock, 200)
    assert pager.ids == ["a"]
    assert mine(dispatcher)["queued"] == 0


# Threads


@dataclass
class Gated:
    """A receiver that answers only when its gate is open."""

    name: str
    gate: threading.Event = field(default_factory=threading.Event)
    entered: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    got: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def send(self, message: Message) -> Sent:
        self.entered.release()
        assert self.gate.wait(30)
        self.got.release()
        return Sent("200")


def test_a_receiver_that_hangs_holds_up_neither_the_others_nor_who_puts(
    starting: Starting,
) -> None:
    slow, quick = Gated("slow"), Gated("quick")
    quick.gate.set()
    dispatcher = starting(slow, quick)
    dispatcher.start()
    for name in "abc":
        dispatcher.put([message(incident(name), to="slow"), message(incident(name), to="quick")])
    for _ in "abc":
        assert quick.got.acquire(timeout=20)
    assert slow.entered.acquire(timeout=20)
    assert not slow.got.acquire(blocking=False)
    slow.gate.set()
    assert dispatcher.drain(20) == 0


def test_a_receiver_may_have_several_under_way_but_one_of_an_incident(starting: Starting) -> None:
    slow = Gated("slow")
    dispatcher = starting(slow, parallel=3)
    dispatcher.put(
        [
            message(event, to="slow")
            for event in (incident("a"), incident("a", "closed"), incident("b"))
        ]
    )
    dispatcher.start()
    for _ in "ab":
        assert slow.entered.acquire(timeout=20)
    assert not slow.entered.acquire(timeout=0.05)
    slow.gate.set()
    assert dispatcher.drain(20) == 0
    assert slow.entered.acquire(blocking=False)


def test_draining_delivers_what_is_due_and_tells_what_is_left(starting: Starting) -> None:
    quick, dead = Scripted("quick"), Scripted("dead", errors=[Undelivered("503")] * 99)
    dispatcher = starting(quick, dead)
    dispatcher.put([message(incident(name), to=to) for name in "abc" for to in ("quick", "dead")])
    dispatcher.start()
    assert dispatcher.drain(20) == 3
    assert quick.ids == ["a", "b", "c"]


def test_draining_leaves_a_receiver_behind_that_hangs(tmp_path: Path, clock: Clock) -> None:
    outbox = Outbox(DeliverySettings(outbox=str(tmp_path / "outbox")), clock=clock)
    hanging = Gated("hanging")
    dispatcher = Dispatcher(outbox, [hanging], clock=clock)
    dispatcher.put([message(to="hanging")])
    dispatcher.start()
    assert hanging.entered.acquire(timeout=20)
    assert dispatcher.drain(0.05) == 1
    hanging.gate.set()
    for thread in dispatcher._threads:
        thread.join(20)
    outbox.close()


def test_a_defect_of_ours_ends_no_thread(
    starting: Starting, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    quick = Gated("quick")
    quick.gate.set()
    dispatcher = starting(quick)
    turn, failed = dispatcher.turn, threading.Event()

    def once(name: str) -> bool:
        if not failed.is_set():
            failed.set()
            raise RuntimeError("defect")
        return turn(name)

    monkeypatch.setattr(dispatcher, "turn", once)
    dispatcher.start()
    assert failed.wait(20)
    dispatcher.put([message(to="quick")])
    assert quick.got.acquire(timeout=20)
    assert dispatcher.drain(20) == 0
    assert "delivery fails" in caplog.text
