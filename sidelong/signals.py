"""What SIGINT, SIGTERM and SIGHUP do to work that goes on until it is told to end."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["stop_by_signal"]


@contextmanager
def stop_by_signal(reload: Callable[[], None] | None = None) -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set; a second signal does what it always did.

    reload: called on SIGHUP, between two instructions of the main thread: it sets something and
    returns.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread may say what signals do
        return
    ending = (signal.SIGINT, signal.SIGTERM)
    taken = ending if reload is None else (*ending, signal.SIGHUP)
    before: dict[signal.Signals, Any] = {one: signal.getsignal(one) for one in taken}

    def ended(number: int, _: FrameType | None) -> None:
        stop.set()
        signal.signal(number, before[signal.Signals(number)] or signal.SIG_DFL)

    def changed(_number: int, _: FrameType | None) -> None:
        assert reload is not None
        reload()

    for one in taken:
        signal.signal(one, ended if one in ending else changed)
    try:
        yield stop
    finally:
        for one, handler in before.items():
            signal.signal(one, handler or signal.SIG_DFL)
