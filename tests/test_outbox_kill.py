"""A receiver that is down, and workers that are killed: every alert arrives, and counts once."""

import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from outbox_worker import STATES
from web_server import Request, WebServer, serving

from sidelong.alerts.delivery_settings import DeliverySettings
from sidelong.alerts.outbox import Outbox

WORKER: Final = Path(__file__).with_name("outbox_worker.py")
INCIDENTS: Final = 40
REFUSED: Final = "n007"
DOWN_SECONDS: Final = 1.0  # ten minutes, at the pace of the worker's settings

pytestmark = pytest.mark.slow


class Pager:
    """Down at first; refuses one incident until it is mended; takes its time with the others."""

    def __init__(self) -> None:
        self.down = self.strict = True
        self.taken: list[tuple[str, str, str]] = []
        self._lock = threading.Lock()
        self._random = random.Random(5)

    def __call__(self, request: Request) -> tuple[int, dict[str, str], bytes]:
        event = json.loads(request.body)
        if self.down:
            return 503, {}, b"down"
        if self.strict and event["id"] == REFUSED:
            return 400, {}, b"what is that"
        with self._lock:
            self.taken.append((request.headers["idempotency-key"], event["id"], event["status"]))
            pause = self._random.uniform(0, 0.01)
        time.sleep(pause)  # the moment in which a kill makes a repetition
        return 200, {}, b"ok"


def begin(outbox: Path, server: WebServer) -> subprocess.Popen[str]:
    worker = subprocess.Popen(
        [sys.executable, WORKER, outbox, f"http://127.0.0.1:{server.port}/", str(INCIDENTS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert worker.stdout
    assert worker.stdout.readline() == "ready\n"
    return worker


def end(worker: subprocess.Popen[str], sign: signal.Signals | None = None) -> None:
    if sign:
        worker.send_signal(sign)
    worker.communicate(timeout=60)


def until(done: Callable[[], bool], seconds: float = 60.0) -> None:
    ends = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < ends
        time.sleep(0.02)


def test_every_alert_arrives_once_though_the_receiver_was_down_and_workers_were_killed(
    tmp_path: Path,
) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")  # shown when it fails
    moments = random.Random(seed)
    path, pager = tmp_path / "outbox", Pager()
    every = {(f"n{number:03}", state) for number in range(INCIDENTS) for state in STATES}
    mends = threading.Timer(DOWN_SECONDS, lambda: setattr(pager, "down", False))
    with serving(pager) as server:
        mends.start()
        workers = [begin(path, server), begin(path, server)]
        try:
            for _ in range(3):
                time.sleep(moments.uniform(0, 0.7))
                end(workers.pop(0), signal.SIGKILL)
                workers.append(begin(path, server))
            refused = {event for event in every if event[0] == REFUSED}
            until(
                lambda: {(ident, state) for _, ident, state in list(pager.taken)} >= every - refused
            )
        finally:
            for worker in workers:
                end(worker)
            mends.join()

        outbox = Outbox(DeliverySettings(outbox=str(path)))
        queue = outbox.queues()["pager"]
        assert (queue.waiting, queue.dead) == (0, len(STATES))
        assert {letter.message.events[0].id for letter in outbox.dead_letters()} == {REFUSED}
        assert all("400" in letter.why for letter in outbox.dead_letters())
        lines = Path(f"{path}.dead.jsonl").read_text().splitlines()
        assert {json.loads(line)["id"] for line in lines} == {
            letter.id for letter in outbox.dead_letters()
        }
        pager.strict = False
        assert outbox.redeliver() == len(STATES)
        outbox.close()
        end(begin(path, server))

    keys: dict[tuple[str, str], set[str]] = defaultdict(set)
    order: dict[str, list[str]] = defaultdict(list)
    for key, ident, state in dict.fromkeys(pager.taken):  # as a receiver counts that remembers keys
        keys[ident, state].add(key)
        order[ident].append(state)
    assert set(keys) == every
    assert {len(of_one) for of_one in keys.values()} == {1}
    assert {tuple(states) for states in order.values()} == {STATES}
    # What came twice was under way when a worker was killed: at most what it may have under way.
    assert len(pager.taken) - len(every) <= 3 * 3
