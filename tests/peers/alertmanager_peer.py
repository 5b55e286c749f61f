"""The real Alertmanager for tests: alone, on loopback, and telling a webhook what it would tell."""

import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlencode

from peers.debian import debian_program
from peers.envoy_peer import free_ports
from peers.go_programs import BUILT

__all__ = ["Alertmanager", "AlertmanagerError", "alertmanager_program"]

_START_SECONDS: Final = 30
_POLL_SECONDS: Final = 0.05

_CONFIG: Final = """
route:
  receiver: back
  group_by: [namespace]
  group_wait: 200ms
  group_interval: 500ms
  repeat_interval: 1h
receivers:
  - name: back
    webhook_configs:
      - url: {url}
        send_resolved: true
"""


class AlertmanagerError(Exception):
    """It did not start, or not say what was waited for."""


def alertmanager_program() -> Path:
    """Where it is; Debian's package has it. Errors: peers.debian.DebianError."""
    program = debian_program("prometheus-alertmanager", "prometheus-alertmanager")
    return _movable(program) if program.is_relative_to(BUILT) else program


def _movable(program: Path) -> Path:
    """One that finds its templates in the unpacked package: Debian's only looks in /usr/share.

    The path is compiled in; written relative, with as many letters, it is one below the folder in
    which the program runs.
    """
    moved = program.with_name("alertmanager-movable")
    if not moved.exists():
        fixed, loose = b"/usr/share/prometheus/", b"usr//share/prometheus/"
        fresh = moved.with_name(f"{moved.name}.{os.getpid()}")
        fresh.write_bytes(program.read_bytes().replace(fixed, loose))
        fresh.chmod(0o755)
        fresh.rename(moved)
    return moved


class Alertmanager:
    """One that runs; `url` is what a receiver of ours is configured with.

    webhook: a URL to which it sends its notifications, grouped by namespace.
    """

    def __init__(self, folder: Path, webhook: str) -> None:
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self._log = folder / "alertmanager.log"
        config = folder / "alertmanager.yml"
        config.write_text(_CONFIG.format(url=webhook), encoding="utf-8")
        program = alertmanager_program()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    str(program),
                    f"--config.file={config}",
                    f"--storage.path={folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{port}",
                    "--cluster.listen-address=",
                    "--log.level=debug",
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=program.parents[2],
            )

    def __enter__(self) -> Self:
        try:
            self.wait(lambda: self._status() == 200, "it is ready", _START_SECONDS)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)

    def alerts(self, **query: str) -> list[dict[str, Any]]:
        """Its alerts that fire, and those that are resolved as long as it keeps them."""
        return self._get(f"/api/v2/alerts?{urlencode(query)}")

    def groups(self) -> list[dict[str, Any]]:
        """Its groups."""
        return self._get("/api/v2/alerts/groups")

    def wait(self, met: Callable[[], bool], what: str, seconds: float = 20) -> None:
        """Wait until `met` is. Errors: AlertmanagerError, with the end of its log."""
        ends = time.monotonic() + seconds
        while not met():
            if time.monotonic() > ends or self._process.poll() is not None:
                log = self._log.read_text(encoding="utf-8", errors="replace")[-6_000:]
                raise AlertmanagerError(f"not in {seconds:g} s: {what}\n{log}")
            time.sleep(_POLL_SECONDS)

    def _status(self) -> int:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5) as answer:
                return int(answer.status)
        except (urllib.error.URLError, OSError):
            return 0

    def _get(self, path: str) -> list[dict[str, Any]]:
        with urllib.request.urlopen(f"{self.url}{path}", timeout=10) as answer:
            told: list[dict[str, Any]] = json.load(answer)
        return told
