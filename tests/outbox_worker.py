"""A worker that may be killed: puts the same stream of alerts as every other, and delivers them.

python outbox_worker.py OUTBOX URL INCIDENTS
"""

import sys

from alert_builders import incident, message

from sidelong.alerts.delivery import Dispatcher
from sidelong.alerts.delivery_settings import DeliverySettings
from sidelong.alerts.http_client import HttpClient, HttpSettings
from sidelong.alerts.incident import Status
from sidelong.alerts.outbox import Outbox
from sidelong.alerts.receiver import Message, Sent

STATES: tuple[Status, ...] = ("open", "update", "closed")


class Hook:
    """The plainest of receivers: the JSON of the incident, its key in a header."""

    name = "pager"

    def __init__(self, url: str) -> None:
        self._url = url
        limits = HttpSettings(
            allow_http=True, allow_private=("127.0.0.1",), total_seconds=1.5, read_seconds=1.5
        )
        self._client = HttpClient(limits)

    def send(self, message: Message) -> Sent:
        (event,) = message.events
        key = {"Idempotency-Key": message.id}
        return self._client.post(self._url, event.to_json().encode(), key).sent


def main(outbox: str, url: str, incidents: str) -> None:
    # A minute of a real service is here a tenth of a second.
    settings = DeliverySettings(
        outbox=outbox,
        lease_seconds=600.0,  # the dead are known by more than that
        first_retry_seconds=0.02,
        longest_retry_seconds=0.3,
        breaker_seconds=0.05,
        parallel=3,
    )
    dispatcher = Dispatcher(Outbox(settings), [Hook(url)])
    dispatcher.start()
    print("ready", flush=True)
    for state in STATES:
        for number in range(int(incidents)):
            dispatcher.put([message(incident(f"n{number:03}", state))])
    print("put", flush=True)
    sys.stdin.read()  # until the test lets go
    dispatcher.drain()


if __name__ == "__main__":
    main(*sys.argv[1:])
