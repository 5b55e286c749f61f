"""Several live sources at once, such as Hubble beside a mesh, as one stream in order of arrival."""

import queue
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from sidelong.ingest.live import LiveSource
from sidelong.ingest.source import Batch

__all__ = ["LiveTogether"]

_WAITING: Final = 4  # batches per source; beyond that its own back-pressure sets in
_PATIENCE_SECONDS: Final = 0.2


class LiveTogether:
    """All of `sources`, each read in a thread of its own; ends when all have ended.

    Rows keep the order of their source; between sources it is that of arrival, so that none waits
    for another that has nothing to tell. A position is the number of flows given out: this is not
    resumed, its sources are.
    """

    size_bytes: int | None = None

    def __init__(self, sources: Sequence[LiveSource]) -> None:
        self._sources: Final = tuple(sources)
        self._closed: Final = threading.Event()
        self._batches: Final[queue.Queue[Batch]] = queue.Queue(_WAITING * len(sources))
        self._failures: Final[list[Exception]] = []

    @property
    def name(self) -> str:
        """All names."""
        return ", ".join(source.name for source in self._sources)

    def close(self) -> None:
        """Let `batches` end soon; may be called from another thread, and twice."""
        self._closed.set()
        for source in self._sources:
            source.close()

    def counters(self) -> Mapping[str, int]:
        """The sums over the sources."""
        return dict(sum((Counter(source.counters()) for source in self._sources), Counter()))

    def batches(self, since: int = 0) -> Iterator[Batch]:
        """The flows as they come. Errors: that of the first source that fails; all are closed."""
        readers = [
            threading.Thread(target=self._read, args=(source,), name="live", daemon=True)
            for source in self._sources
        ]
        for reader in readers:
            reader.start()
        given = since
        try:
            while (batch := self._next(readers)) is not None:
                given += batch.flows.height
                yield Batch(batch.flows, given, bad=batch.bad)
        finally:
            self.close()
            for reader in readers:
                reader.join()
        if self._failures:
            raise self._failures[0]

    def _next(self, readers: Sequence[threading.Thread]) -> Batch | None:
        """The next batch of any source; None once all have ended."""
        while True:
            running = any(reader.is_alive() for reader in readers)
            try:
                return self._batches.get(timeout=_PATIENCE_SECONDS if running else 0)
            except queue.Empty:
                if not running:
                    return None

    def _read(self, source: LiveSource) -> None:
        try:
            for batch in source.batches():
                while not self._closed.is_set():
                    try:
                        self._batches.put(batch, timeout=_PATIENCE_SECONDS)
                        break
                    except queue.Full:
                        continue
                else:
                    return
        except Exception as error:
            self._failures.append(error)
            self.close()
