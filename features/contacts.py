"""First contacts: the first use of an (actor, peer, port, protocol) within a day.

They are the unit of scan detection (Jung et al., "Fast Portscan Detection Using Sequential
Hypothesis Testing", 2004). A peer that is a known workload counts as one, whatever its addresses;
anything else by address. How a first contact can end stands in `outcomes`.
"""

from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sidelong.features.bounds import Bounds
from sidelong.features.events import ANSWER, DENIAL, PROBE, REFUSAL
from sidelong.features.membership import is_member
from sidelong.features.outcomes import (
    NO_ANSWER_NS,
    NO_OUTCOMES,
    OUTCOMES,
    WAITING_SCHEMA,
    decided_at,
    ordered,
    silences,
)
from sidelong.ingest.keys import hash_column, hash_columns, mix
from sidelong.ingest.schema import schema_of
from sidelong.ingest.table import Table

__all__ = ["Contacts", "contact_keys", "contact_object"]

_NEW, _PENDING, _ENDED, _SILENT = -1, 0, 1, 2
_DAY_NS: Final = 86_400_000_000_000
_FIRST: Final = schema_of(
    {
        "key": pl.UInt64,
        **dict.fromkeys(("probe", "answer", "refusal", "denial"), pl.Int64),
        "state": pl.Int8,
        "end": pl.Int64,
        "ending": OUTCOMES,
    }
)
_NO_CONTACTS: Final = _FIRST.to_frame()


def contact_object() -> pl.Expr:
    """What an actor contacts, from `peer` and `peer_ip`: a workload, a domain, or an address."""
    peer = pl.col("peer")
    addressed = peer.str.starts_with("ip:") | peer.str.starts_with("world:")
    return pl.when(addressed).then(pl.col("peer_ip")).otherwise(peer)


def contact_keys(rows: pl.DataFrame) -> NDArray[np.uint64]:
    """The 64-bit key of each row's contact, from actor, object, port and protocol."""
    return hash_columns(rows, ["actor", "object", "port", "protocol"])


_ICMP: Final = (pl.col("protocol") == "ICMP").fill_null(False)
_PORT: Final = pl.when(_ICMP).then(0).otherwise(pl.col("port")).cast(pl.UInt16)
_OBJECT: Final = contact_object()
_SAYS: Final = (pl.col("event") > 0) & (_ICMP | pl.col("port").is_not_null())


def _events(oriented: pl.DataFrame) -> pl.DataFrame:
    """Rows of `sides` with their place, `at`, and with what they are a contact with."""
    return oriented.with_columns(object=_OBJECT, object_ip="peer_ip", port=_PORT).with_row_index(
        "at"
    )


def _keys(oriented: pl.DataFrame) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """Each row's `contact_keys`, and which rows say something of a contact."""
    says, port = oriented.select_seq(_SAYS, _PORT)
    objects = np.where(
        oriented["addressed"].to_numpy(),
        oriented["peer_ip_key"].to_numpy(),
        oriented["peer_key"].to_numpy(),
    )
    keys = mix(
        oriented["actor_key"].to_numpy(),
        objects,
        hash_column(port),
        hash_column(oriented["protocol"]),
    )
    return keys, says.to_numpy()


class Contacts:
    """Tells first contacts and their outcomes from a stream of oriented flows.

    known: sorted contact keys of the baseline, which are no first contacts. Bounded by
    `bounds.contacts` and `bounds.waiting`; what is beyond goes at ticks and counts as evicted.
    """

    def __init__(self, known: NDArray[np.uint64], bounds: Bounds) -> None:
        self._known = known
        self._table = Table({"state": np.int8}, capacity=bounds.contacts, ttl_ns=_DAY_NS)
        self._waiting_bound = bounds.waiting
        self._waiting = WAITING_SCHEMA.to_frame()
        self._lost = 0
        self._given_up = 0

    @property
    def evicted(self) -> int:
        """Contacts forgotten because there were too many at once."""
        return self._table.evicted + self._given_up

    def observe(self, oriented: pl.DataFrame, pulse: pl.DataFrame) -> pl.DataFrame:
        """The outcomes (`OUTCOME_SCHEMA`) that these rows decide.

        Takes rows of `sides`, in stream order, within one event-time tick, and the pulse
        (`PULSE_SCHEMA`) of the stretch: by it is noticed that nobody answered.
        """
        before = self._lost
        self._lost = int(pulse["lost"][-1]) if pulse.height else before
        if oriented.is_empty() and self._waiting.is_empty():
            return NO_OUTCOMES
        seen = self._undecided(oriented)
        if seen.is_empty() and not self._is_due(pulse):
            return NO_OUTCOMES
        rows = _events(oriented)
        first = self._first_events(seen)
        waiting = pl.concat([self._waiting, self._attempts(rows, first, pulse, before)])
        return self._decide(rows, pulse, first, waiting)

    def finish(self, row: int) -> pl.DataFrame:
        """The outcomes of an idle or ended stream: whatever still waits is UNANSWERED, at `row`."""
        here, lost = (
            pl.repeat(value, self._waiting.height, dtype=pl.UInt64, eager=True)
            for value in (row, self._lost)
        )
        outcomes = silences(self._waiting, here, lost)
        self._settle(outcomes)
        self._waiting = self._waiting.clear()
        return ordered(outcomes)

    def tidy(self, now_ns: int) -> None:
        """Forget at an event-time tick what is older than a day or beyond the bounds."""
        self._table.tidy(now_ns)
        excess = self._waiting.height - self._waiting_bound
        if excess > 0:
            self._waiting = self._waiting.slice(excess)
            self._given_up += excess

    def snapshot(self) -> dict[str, Any]:
        """Contacts and waiting attempts as a value."""
        return {
            "table": self._table.snapshot(),
            "waiting": self._waiting,
            "lost": self._lost,
            "given_up": self._given_up,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        self._table.restore(state["table"])
        self._waiting = state["waiting"]
        self._lost = state["lost"]
        self._given_up = state["given_up"]

    def _is_due(self, pulse: pl.DataFrame) -> bool:
        """Whether a second of waiting has passed by the end of a stretch."""
        if self._waiting.is_empty() or pulse.is_empty():
            return False
        due = self._waiting["due"].to_numpy()
        return bool(due.min() <= pulse["clock"].cast(pl.Int64)[-1])

    def _undecided(self, oriented: pl.DataFrame) -> pl.DataFrame:
        """What rows say of contacts that the baseline does not know and that have not ended.

        `at`, the row, `event` and `key`, the contact.
        """
        keys, says = _keys(oriented)
        at = np.flatnonzero(says & ~is_member(keys, self._known))
        open_still = self._table.get("state", self._table.find(keys[at]), _NEW) != _ENDED
        at = at[open_still]
        return pl.DataFrame(
            {
                "at": pl.Series(at, dtype=pl.UInt32),
                "event": oriented["event"].to_numpy()[at],
                "key": keys[at],
            }
        )

    def _first_events(self, seen: pl.DataFrame) -> pl.DataFrame:
        """Contacts that are undecided: their state so far, their first event of each kind."""
        if seen.is_empty():
            return _NO_CONTACTS
        first = seen.group_by("key", maintain_order=True).agg(
            pl.col("at").filter(pl.col("event") == event).min().cast(pl.Int64).alias(name)
            for event, name in (
                (PROBE, "probe"),
                (ANSWER, "answer"),
                (REFUSAL, "refusal"),
                (DENIAL, "denial"),
            )
        )
        found = self._table.find(first["key"].to_numpy())
        end = pl.min_horizontal("answer", "refusal", "denial")
        return first.with_columns(
            state=pl.Series(self._table.get("state", found, _NEW), dtype=pl.Int8),
            end=end,
            ending=pl.when(pl.col("answer") == end)
            .then(pl.lit("ANSWERED"))
            .when(pl.col("refusal") == end)
            .then(pl.lit("REFUSED"))
            .otherwise(pl.lit("DENIED"))
            .cast(OUTCOMES),
        )

    def _attempts(
        self, rows: pl.DataFrame, first: pl.DataFrame, pulse: pl.DataFrame, lost: int
    ) -> pl.DataFrame:
        """New contacts that begin with a probe: they wait, if only until a later row in hand."""
        probed = first.filter(
            pl.col("state") == _NEW, (pl.col("probe") < pl.col("end")).fill_null(True)
        ).drop_nulls("probe")
        begun = rows[probed["probe"].cast(pl.UInt32)]
        beat = np.searchsorted(pulse["row"].to_numpy(), begun["row"].to_numpy(), side="right")
        totals = np.append(np.uint64(lost), pulse["lost"].to_numpy())
        return begun.with_columns(
            key=probed["key"],
            sub=pl.lit(0, pl.UInt8),
            due=pl.col("time").to_physical() + NO_ANSWER_NS,
            lost=pl.Series(totals[beat], dtype=pl.UInt64),
        ).select(WAITING_SCHEMA.names())

    def _decide(
        self,
        rows: pl.DataFrame,
        pulse: pl.DataFrame,
        first: pl.DataFrame,
        waiting: pl.DataFrame,
    ) -> pl.DataFrame:
        numbers = rows["row"]
        first = first.with_columns(
            end_row=numbers.gather(first["end"]), answer_row=numbers.gather(first["answer"])
        )
        waiting = waiting.join(
            first.select("key", "end", "end_row", "ending"),
            on="key",
            how="left",
            maintain_order="left",
        ).hstack(_noticed(waiting, pulse))
        in_time = (pl.col("end_row") < pl.col("silent")) | pl.col("silent").is_null()
        in_time = in_time & pl.col("end").is_not_null()
        ended = waiting.filter(in_time)
        silent = waiting.filter(~in_time, pl.col("silent").is_not_null())
        self._waiting = waiting.filter(~in_time, pl.col("silent").is_null()).select(
            WAITING_SCHEMA.names()
        )
        immediate = first.filter(
            pl.col("state") == _NEW, (pl.col("end") <= pl.col("probe")).fill_null(True)
        ).drop_nulls("end")
        silent_keys = silent.select("key", since="silent")
        back = pl.concat(
            [
                first.filter(pl.col("state") == _SILENT).select("key", "answer"),
                first.join(silent_keys, on="key")
                .filter(pl.col("answer_row") >= pl.col("since"))
                .select("key", "answer"),
            ]
        ).drop_nulls("answer")
        outcomes = pl.concat(
            [
                decided_at(rows, ended["end"], ended["key"], ended["ending"], ended["stealth"]),
                decided_at(rows, immediate["end"], immediate["key"], immediate["ending"]),
                decided_at(rows, back["answer"], back["key"], pl.lit("TAKEN_BACK", OUTCOMES)),
                silences(silent, silent["silent"], silent["lost_by_then"]),
            ]
        )
        self._settle(outcomes)
        began = self._waiting.filter(pl.col("key").is_in(first["key"].implode()))
        self._put(began["key"], began["due"] - NO_ANSWER_NS, _PENDING)
        return ordered(outcomes)

    def _settle(self, outcomes: pl.DataFrame) -> None:
        last = outcomes.sort("row", "sub").unique("key", keep="last", maintain_order=True)
        silent = pl.col("outcome") == "UNANSWERED"
        for rows, state in ((last.filter(~silent), _ENDED), (last.filter(silent), _SILENT)):
            self._put(rows["key"], rows["time"].to_physical(), state)

    def _put(self, keys: pl.Series, seen_ns: pl.Series, state: int) -> None:
        self._table.put(
            keys.to_numpy(),
            state=np.full(keys.len(), state, np.int8),
            seen=seen_ns.cast(pl.Int64).to_numpy(),
        )


def _noticed(waiting: pl.DataFrame, pulse: pl.DataFrame) -> pl.DataFrame:
    """The row of the pulse at which each attempt's silence is noticed, null if not yet, as `silent`
    with `lost_by_then`.

    It is the first one after the attempt by which its second has passed; the clock may have been
    ahead of the attempt already, if its record came late.
    """
    after = np.searchsorted(pulse["row"].to_numpy(), waiting["row"].to_numpy(), side="right")
    clock = pulse["clock"].to_physical().to_numpy()
    beat = np.maximum(np.searchsorted(clock, waiting["due"].to_numpy()), after)
    at = pl.Series(np.where(beat < pulse.height, beat, -1), dtype=pl.Int64).replace(-1, None)
    return pulse.select(silent="row", lost_by_then="lost").select(pl.all().gather(at))
