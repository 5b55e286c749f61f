"""A partition of `flows.batches` judged in one micro-batch of Spark, as the role detect judges it.

The state goes from one micro-batch to the next in two snapshots that take turns. A batch that is
done again, after a crash or by a second attempt, begins with the state of the batch before it, and
so gives the same once more; it writes over nothing that another attempt needs.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sidelong.errors import SourceError
from sidelong.features.bounds import Bounds
from sidelong.ingest.state_store import StateStore
from sidelong.ingest.stretch_messages import StretchMessage, decode
from sidelong.judged_partition import JudgedPartition
from sidelong.models.baseline import Baseline
from sidelong.models.detectors import Detectors
from sidelong.models.evidence_messages import encode

__all__ = ["Arrived", "Judgement", "judged_batch"]

_MOST_ROWS: Final = 50_000  # judged at once, as in the role
_FORMAT: Final = 1


class Arrived(NamedTuple):
    """A message of `flows.batches`."""

    offset: int
    value: bytes
    headers: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the partitions of a micro-batch are judged by, and where their state is.

    networks: see `Detectors`. prefix: of names of snapshots.
    """

    baseline: Baseline
    networks: frozenset[str]
    bounds: Bounds
    budget: float
    state: str
    prefix: str

    def detectors(self) -> Detectors:
        """New ones."""
        return Detectors(self.baseline, self.networks, self.bounds, budget=self.budget)


def judged_batch(
    judgement: Judgement,
    batch: int,
    partition: int,
    arrived: Iterable[Arrived],
    say: Callable[[str], None] = lambda _: None,
) -> Iterator[tuple[bytes, dict[str, bytes]]]:
    """The messages of evidence on what has arrived, in the order of offsets.

    All are to be taken; then the state after them is kept. Errors: SourceError when the state
    before the batch is gone, or cannot be kept.
    """
    store = StateStore(judgement.state, say)
    judged = JudgedPartition(judgement.detectors)
    turn, before = _before(store, judgement, batch, partition)
    offset = 0
    if before is not None:
        judged.restore(before["judged"])
        offset = int(before["offset"])
    elif batch:
        # Spark's own checkpoint knows of batches before; without their state this is no going on.
        if _begins_anew(arrived := list(arrived)):
            say(f"partition {partition} begins with this batch")
        else:
            raise SourceError(
                f"there is no state of partition {partition} before batch {batch} in "
                f"{judgement.state}",
                hint="begin with a new --checkpoint; the memory of the detectors begins anew",
            )
    for stretches, reached in _decoded(arrived, offset, say):
        for part in judged.judge(stretches):
            yield encode(part)
        offset = reached
    state: dict[str, Any] = {
        "format": _FORMAT,
        "batch": batch,
        "offset": offset,
        "stream": judged.stream,
        "through": judged.through,
        "judged": judged.snapshot(),
    }
    store.save(_name(judgement, partition, turn), state)


def _before(
    store: StateStore, judgement: Judgement, batch: int, partition: int
) -> tuple[int, dict[str, Any] | None]:
    """Whose turn it is, and the newest state that is older than the batch."""
    found: list[tuple[int, int, dict[str, Any]]] = []
    for turn in range(2):
        state = store.load(_name(judgement, partition, turn))
        if state is not None and state.get("format") == _FORMAT and state["batch"] < batch:
            found.append((int(state["batch"]), turn, state))
    if not found:
        return 0, None
    _, turn, state = max(found, key=lambda one: one[:2])
    return 1 - turn, state


def _name(judgement: Judgement, partition: int, turn: int) -> str:
    return f"{judgement.prefix}spark.{partition}.{turn}"


def _begins_anew(arrived: list[Arrived]) -> bool:
    """Whether these messages begin a stream, as those of a partition that had none before do."""
    return bool(arrived) and arrived[0].headers.get("low") == b"0"


def _decoded(
    arrived: Iterable[Arrived], since: int, say: Callable[[str], None]
) -> Iterator[tuple[list[StretchMessage], int]]:
    """What the messages tell, a bounded number of rows at a time, and the offset to go on from."""
    held: list[StretchMessage] = []
    rows, reached = 0, since
    for message in arrived:
        if message.offset < since:
            continue
        reached = message.offset + 1
        try:
            stretch = decode(message.value, message.headers)
        except ValueError as error:
            say(f"a message is damaged and left out (offset {message.offset}): {error}")
            continue
        if stretch.at not in (None, message.offset):
            continue  # of a writer that had been replaced already
        held.append(stretch)
        rows += stretch.flows.height
        if rows >= _MOST_ROWS:
            yield held, reached
            held, rows = [], 0
    yield held, reached
