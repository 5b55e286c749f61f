"""A TCP proxy that breaks connections, for sources that have to live with that."""

import contextlib
import socket
import struct
import threading
from collections import deque
from types import TracebackType
from typing import Final, Self

__all__ = ["Proxy"]

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class Proxy:
    """Passes connections on to `target`, HOST:PORT, which may be changed at any time.

    cuts: how many connections it has broken so far.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        self.cuts = 0
        self._limits: deque[int] = deque()
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    @property
    def address(self) -> str:
        host, port = self._listener.getsockname()
        return f"{host}:{port}"

    def cut_after(self, *sizes: int) -> None:
        """Break each of the coming connections once so many bytes have come back over it."""
        self._limits.extend(sizes)

    def cut(self) -> None:
        """Break what is connected now."""
        with self._lock:
            broken, self._open = self._open, set()
        self.cuts += bool(broken)
        for end in broken:
            _reset(end)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join()
        self.cut()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            host, _, port = self.target.rpartition(":")
            try:
                far = socket.create_connection((host, int(port)), timeout=5)
            except OSError:
                _reset(near)
                continue
            far.settimeout(None)
            limit = self._limits.popleft() if self._limits else None
            with self._lock:
                self._open |= {near, far}
            for ends in ((near, far, None), (far, near, limit)):
                threading.Thread(target=self._pump, args=ends, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, limit: int | None) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while limit is None or passed < limit:
                content = source.recv(1 << 16)
                if not content:
                    break
                passed += len(content)
                sink.sendall(content[: limit - passed] if limit and passed > limit else content)
            self.cuts += limit is not None and passed >= limit
        with self._lock:
            self._open -= {source, sink}
        _reset(source)
        _reset(sink)


def _reset(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        end.shutdown(socket.SHUT_RDWR)
    end.close()
