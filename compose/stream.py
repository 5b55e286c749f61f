"""The service on a real Kafka, as plain processes on this machine: `make stream`.

What compose.yaml has in containers, with the same settings: Kafka, collector, detector, correlator,
a generator that plays the shop's incident as live traffic, and a receiver of webhooks, which prints
each incident once. Ctrl-C ends all of it; nothing stays behind.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from receiver import Receiver

__all__ = ["main"]

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parent
SHOP: Final = ROOT / "examples" / "shop-incident"
INCIDENTS: Final = 4
"""In the two minutes that are played; see examples/shop-incident."""

_SPEED: Final = 8.0
_SETTINGS: Final = HERE / "sidelong.toml"
_SIDELONG: Final = (sys.executable, "-m", "sidelong")
_ROLES: Final = {
    "collector": ("collect",),
    "detector": ("normalise", "detect"),
    "correlator": ("correlate", "deliver"),
}
_KAFKA_SECONDS: Final = 90
_SETUP_SECONDS: Final = 180
_STOP_SECONDS: Final = 30
_LOOK_SECONDS: Final = 0.1


class Broken(Exception):
    """Something did not start, or ended by itself."""


class Interrupted(Exception):
    """It is to end before it has begun."""


class Part:
    """A process beside us, whose output goes to a file. It ends when we do, however that happens.

    It is in a session of its own: Ctrl-C reaches us alone, and we end the parts in their order.
    """

    def __init__(
        self, name: str, command: Sequence[str | Path], environment: Mapping[str, str], folder: Path
    ) -> None:
        self.name: Final = name
        self._log: Final = folder / f"{name}.log"
        setpriv = shutil.which("setpriv")
        guard = [setpriv, "--pdeathsig", "TERM"] if setpriv else []
        with self._log.open("wb") as log:
            self._process: Final = subprocess.Popen(
                [*guard, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(environment),
                cwd=ROOT,
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        """All that it wrote."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def ended(self) -> bool:
        """Whether it has ended well. Errors: Broken if it has not."""
        status = self._process.poll()
        if status:
            raise Broken(f"{self.name} ended with status {status}:\n{self.said[-4000:]}")
        return status == 0

    def finish(self, seconds: float, stop: threading.Event) -> None:
        """Wait for its end. Errors: Broken; Interrupted when `stop` is set meanwhile."""
        ends = time.monotonic() + seconds
        while not self.ended():
            if stop.wait(_LOOK_SECONDS):
                raise Interrupted
            if time.monotonic() > ends:
                raise Broken(f"{self.name} takes more than {seconds:.0f} s:\n{self.said[-4000:]}")

    def close(self) -> None:
        """Ask it to end, and see to it that it does."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                print(f"{self.name} did not end; killed", file=sys.stderr)
                self._process.kill()
                self._process.wait()


def main() -> int:
    """Run it until SIGINT or SIGTERM, or with --once until the incidents have arrived."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--once", action="store_true", help="end when all incidents have arrived")
    once: bool = parser.parse_args().once
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        with ExitStack() as opened:
            _stream(opened, stop, once)
            if not once:
                _tell("ending")
    except Interrupted:
        pass
    except Broken as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _stream(opened: ExitStack, stop: threading.Event, once: bool) -> None:
    """Everything, in the order in which it is needed; `opened` closes it the other way round."""
    began = time.monotonic()
    folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="sidelong-stream-")))
    receiver = Receiver("127.0.0.1", 0, _tell)
    opened.callback(receiver.close)
    environment = _environment(folder, f"http://127.0.0.1:{receiver.port}/")

    def start(name: str, *command: str | Path) -> Part:
        part = Part(name, command, environment, folder)
        opened.callback(part.close)
        return part

    _tell(f"Kafka starts, and the baseline is learnt from {SHOP.relative_to(ROOT)}/train...")
    kafka = start("kafka", sys.executable, "-u", ROOT / "tests" / "peers" / "kafka_peer.py")
    train = SHOP / "train.hubble.jsonl.zst"
    learn = start("learn", *_SIDELONG, "learn", train, "--baseline", folder / "shop.baseline")
    environment["SIDELONG_KAFKA__SERVERS"] = _server(kafka, stop)
    start("topics", *_SIDELONG, "topics", "create", "--config", _SETTINGS).finish(
        _SETUP_SECONDS, stop
    )
    learn.finish(_SETUP_SECONDS, stop)
    parts = [kafka]
    # What writes to the others is ended before them.
    for name, roles in reversed(_ROLES.items()):
        options = [option for role in roles for option in ("--role", role)]
        parts.append(start(name, *_SIDELONG, "run", "--config", _SETTINGS, *options))
    test = SHOP / "test.hubble.jsonl.zst"
    command = (sys.executable, HERE / "generator.py", test, "--speed", str(_SPEED))
    generator = start("generator", *command)
    _tell(f"Kafka at {environment['SIDELONG_KAFKA__SERVERS']}, logs of all in {folder}")
    _tell(
        f"The two minutes of {test.name} begin, at {_SPEED:.0f} times their speed; now they come:"
    )
    complete = False
    while not stop.wait(_LOOK_SECONDS):
        played = generator.ended()
        for part in parts:
            if part.ended():
                raise Broken(f"{part.name} has ended:\n{part.said[-4000:]}")
        if not complete and len(receiver.told) >= INCIDENTS and played:
            complete = True
            took = time.monotonic() - began
            _tell(f"All {INCIDENTS} have arrived, {took:.0f} s after the start. Ctrl-C ends this.")
            if once:
                return


def _environment(folder: Path, webhook: str) -> dict[str, str]:
    """What is otherwise here than in containers."""
    return os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "PYTHONUNBUFFERED": "1",
        "TMPDIR": str(folder),  # of Kafka, so that nothing of it stays
        "SIDELONG_SERVICE__INPUTS": "otlp://127.0.0.1:0",
        "SIDELONG_SERVICE__BASELINE": str(folder / "shop.baseline"),
        "SIDELONG_SERVICE__STATE": str(folder / "state"),
        "SIDELONG_SERVICE__LISTEN": "127.0.0.1:0",
        "SIDELONG_DELIVERY__OUTBOX": str(folder / "outbox.db"),
        "SIDELONG_ALERTS__AUDIT": str(folder / "audit.jsonl"),
        "SIDELONG_ALERTS__ROUTE__RECEIVERS": "webhook",  # there is no Alertmanager here
        "WEBHOOK_URL": webhook,
    }


def _server(kafka: Part, stop: threading.Event) -> str:
    """Where it listens, once it does. Errors: Broken, Interrupted."""
    ends = time.monotonic() + _KAFKA_SECONDS
    while not (said := kafka.said).endswith("\n"):
        if stop.wait(_LOOK_SECONDS):
            raise Interrupted
        if kafka.ended() or time.monotonic() > ends:
            raise Broken(f"Kafka does not start:\n{said}")
    return said.strip()


def _tell(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
