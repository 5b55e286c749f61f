"""A receiver of webhooks that prints every incident when it first hears of it.

    python compose/receiver.py [--listen 0.0.0.0:8080]

What is told again, for an incident grew or a message was repeated, is counted and not printed.
"""

import argparse
import json
import signal
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

__all__ = ["Receiver"]

_LARGEST: Final = 1 << 20


class Receiver:
    """Listens until `close`. tell: called once for each incident, with its sentence.

    port: where, 0 for any. `told` has the ids in their order, `repeated` how many messages (by
    their idempotency key) came more than once.
    """

    def __init__(self, host: str, port: int, tell: Callable[[str], None]) -> None:
        self._tell: Final = tell
        self._lock: Final = threading.Lock()
        self._messages: set[str] = set()
        self.told: list[str] = []
        self.repeated = 0
        self._server: Final = ThreadingHTTPServer((host, port), self._handler())
        self._server.daemon_threads = True
        self.port: Final[int] = self._server.server_address[1]
        self._thread: Final = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _take(self, message: str, body: bytes) -> None:
        incidents: list[dict[str, Any]] = json.loads(body)["incidents"]
        with self._lock:
            self.repeated += message in self._messages
            self._messages.add(message)
            for incident in incidents:
                if incident["id"] not in self.told:
                    self.told.append(incident["id"])
                    self._tell(f"{incident['detected_at']}  {incident['kind']}  {incident['id']}")
                    self._tell(f"  {incident['summary']}")

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        take = self._take

        class Handler(BaseHTTPRequestHandler):
            timeout = 10

            def do_GET(self) -> None:
                self._answer(200)

            def do_POST(self) -> None:
                length = self.headers.get("Content-Length", "")
                if not length.isdecimal() or int(length) > _LARGEST:
                    self._answer(413)
                    return
                try:
                    take(self.headers.get("webhook-id", ""), self.rfile.read(int(length)))
                except (KeyError, TypeError, ValueError):
                    self._answer(400)
                else:
                    self._answer(200)

            def _answer(self, status: int) -> None:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler


def main() -> int:
    """Receive until a signal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listen", default="127.0.0.1:8080", metavar="HOST:PORT")
    host, _, port = parser.parse_args().listen.rpartition(":")
    ending = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, ending)
    receiver = Receiver(host, int(port), lambda text: print(text, flush=True))
    signal.sigwait(ending)
    receiver.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
