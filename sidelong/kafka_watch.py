"""Whether Kafka is there: said once when it goes and once when it is back, whatever waits for it.

The roles notice by themselves when what they do fails, each in its own time, and begin anew. A
person wants to know at once, and to read it once.
"""

import threading
import time
from collections.abc import Callable
from typing import Final

from sidelong.ingest.kafka_client import KafkaError, reach
from sidelong.ingest.kafka_settings import KafkaSettings

__all__ = ["KafkaWatch"]

_EVERY_SECONDS: Final = 1.0
_FAILURES: Final = 2  # in a row; one may be chance


class KafkaWatch:
    """Looks every second whether one of the brokers takes connections. say: tells a person."""

    def __init__(self, settings: KafkaSettings, say: Callable[[str], None]) -> None:
        self._settings: Final = settings
        self._say: Final = say
        self._stop: Final = threading.Event()
        self._thread: Final = threading.Thread(target=self._run, name="kafka-watch", daemon=True)
        self._reached = False  # ever
        self._away = ""

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """End it; safe to repeat."""
        self._stop.set()
        self._thread.join(self._settings.connect_seconds + 1)

    def away(self) -> str:
        """Why Kafka is not there; "" when it is, as far as is known."""
        return self._away

    def _run(self) -> None:
        failures, since = 0, time.monotonic()
        while not self._stop.is_set():
            try:
                reach(self._settings)
            except KafkaError as error:
                if not failures:
                    since = time.monotonic()
                failures += 1
                if failures >= _FAILURES and not self._away and not self._stop.is_set():
                    self._away = error.problem
                    begins = "Kafka is away" if self._reached else "waiting for Kafka"
                    self._say(f"{begins}: {error.problem}")
            else:
                if self._away:
                    self._say(f"Kafka answers after {time.monotonic() - since:.0f} s")
                failures, self._away, self._reached = 0, "", True
            self._stop.wait(_EVERY_SECONDS)
