"""What an alert costs detection, and how fast an outbox is emptied."""

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from alert_builders import incident, message

from sidelong.alerts.delivery import Dispatcher
from sidelong.alerts.delivery_settings import DeliverySettings
from sidelong.alerts.outbox import Outbox
from sidelong.alerts.receiver import Message, Sent, Undelivered

COUNT = 3_000


class Quick:
    """Takes everything at once."""

    name = "pager"

    def send(self, message: Message) -> Sent:
        return Sent("200")


class Dead:
    """Takes nothing."""

    name = "dead"

    def send(self, message: Message) -> Sent:
        raise Undelivered("503")


def put_one_by_one(dispatcher: Dispatcher) -> list[float]:
    """Milliseconds of each put, to both receivers."""
    took = []
    for number in range(COUNT):
        pair = [message(incident(f"n{number}"), to=to) for to in ("pager", "dead")]
        begun = time.perf_counter()
        dispatcher.put(pair)
        took.append((time.perf_counter() - begun) * 1e3)
    return took


def run() -> list[dict[str, Any]]:
    """Puts a second alone, and while threads deliver; then what the threads deliver a second."""
    rows = []
    for name, serving in (("put alone", False), ("put while it delivers", True)):
        with tempfile.TemporaryDirectory() as folder:
            outbox = Outbox(DeliverySettings(outbox=f"{folder}/outbox"))
            dispatcher = Dispatcher(outbox, [Quick(), Dead()])
            if serving:
                dispatcher.start()
            took = sorted(put_one_by_one(dispatcher))
            rows.append(
                {
                    "name": name,
                    "rate": COUNT / sum(took) * 1e3,
                    "unit": "incidents/s",
                    "milliseconds_median": statistics.median(took),
                    "milliseconds_p99": took[int(COUNT * 0.99)],
                }
            )
            if not serving:
                begun = time.perf_counter()
                while dispatcher.turn("pager"):
                    pass
                rate = COUNT / (time.perf_counter() - begun)
                rows.append({"name": "deliver", "rate": rate, "unit": "messages/s"})
            dispatcher.drain(0.5)
            outbox.close()
    return rows
