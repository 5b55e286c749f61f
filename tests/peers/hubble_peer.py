"""The real Hubble for tests: Cilium's server, Relay and CLI, built from the Go sources beside this.

    .venv/bin/python tests/peers/hubble_peer.py

builds the program ahead of the tests; it is built again when its sources have changed.
"""

import json
import os
import selectors
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from peers.go_programs import GoError, built

__all__ = ["Agent", "PeerError", "Relay", "TlsFiles", "build", "hubble"]

SOURCES: Final = Path(__file__).resolve().parent / "hubble"

_ANSWER_SECONDS: Final = 60


class PeerError(Exception):
    """The real Hubble cannot be had: no Go, or it does not build, or it did not start."""


def build() -> Path:
    """The program, built if need be. Errors: PeerError."""
    try:
        return built("hubblepeer", SOURCES)
    except GoError as error:
        raise PeerError(str(error)) from error


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Paths of PEM files. Where `ca` is given, the other side must show a certificate of it."""

    cert: Path
    key: Path
    ca: Path | None = None

    @property
    def arguments(self) -> list[str]:
        given = {"cert": self.cert, "key": self.key, "ca": self.ca}
        return [part for name, path in given.items() if path for part in (f"-{name}", str(path))]


class _Process:
    """One run of the program; `addresses` is where it listens."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed in close)
        self._process = subprocess.Popen(
            [build(), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        try:
            self.addresses: list[str] = self.answer()["listening"]
        except BaseException:
            self.close()
            raise

    @property
    def address(self) -> str:
        """The first of `addresses`."""
        return self.addresses[0]

    def answer(self) -> dict[str, Any]:
        """The next line of JSON that it writes."""
        assert self._process.stdout
        with selectors.DefaultSelector() as ready:
            ready.register(self._process.stdout, selectors.EVENT_READ)
            line = self._process.stdout.readline() if ready.select(_ANSWER_SECONDS) else b""
        if not line:
            raise PeerError(f"the real Hubble says nothing; its log: {self.log()[-2000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def log(self) -> str:
        """What it wrote to standard error so far."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def kill(self) -> None:
        """As when its node loses power: no goodbye to anyone."""
        self._process.kill()
        self.close()

    def close(self) -> None:
        """End it and wait for that."""
        self._process.terminate()
        self._process.communicate()
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Agent(_Process):
    """The Hubble server of a Cilium agent: a ring of events, those that it is fed.

    listen: HOST:PORT or unix:///PATH, each. ring: how many events it keeps, one below a power of
    two and at most 65,535. node: what it calls itself when it reports losses. tls: for all that is
    not a Unix socket. lost_interval: least time between two reports of losses to one reader.
    """

    def __init__(
        self,
        *listen: str,
        ring: int = 65_535,
        node: str = "worker-a",
        tls: TlsFiles | None = None,
        lost_interval: str = "1s",
    ) -> None:
        arguments = ["agent", "-ring", str(ring), "-node", node, "-lost-interval", lost_interval]
        for address in listen or ("127.0.0.1:0",):
            arguments += ["-listen", address]
        super().__init__([*arguments, *(tls.arguments if tls else [])])

    def feed(self, lines: Iterable[bytes], *, settle: bool = True) -> None:
        """Put events into the ring: lines of JSON as `hubble observe -o jsonpb` writes them.

        settle: wait until all can be asked for. Without, the last of them may be out of reach, as
        in any ring, until another follows.
        """
        assert self._process.stdin
        for line in lines:
            self._process.stdin.write(line.rstrip(b"\n") + b"\n")
        if settle:
            self._process.stdin.write(b"\n")
        self._process.stdin.flush()
        if settle:
            self.answer()


class Relay(_Process):
    """Hubble Relay over agents, given as their names and addresses.

    tls: towards its clients and, as a client, towards its agents, which it then expects to be
    called `NAME.default.hubble-grpc.cilium.io`.
    """

    def __init__(self, agents: dict[str, str], *, tls: TlsFiles | None = None) -> None:
        arguments = ["relay"]
        for name, address in agents.items():
            called = f"={name}.default.hubble-grpc.cilium.io" if tls else ""
            arguments += ["-peer", f"{name}={address}{called}"]
        super().__init__([*arguments, *(tls.arguments if tls else [])])


def hubble(*arguments: str, input: bytes | None = None) -> bytes:
    """What `hubble` prints. Errors: CalledProcessError, with what it complained of in `stderr`."""
    # Its own configuration, if the person at this machine has one, is none of the test's affair.
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("HUBBLE_")
    } | {"XDG_CONFIG_HOME": "/nonexistent"}
    ran = subprocess.run(
        [build(), "hubble", *arguments],
        check=True,
        input=input,
        capture_output=True,
        env=environment,
        timeout=_ANSWER_SECONDS,
    )
    return ran.stdout


if __name__ == "__main__":
    try:
        print(build())
    except PeerError as error:
        sys.exit(str(error))
