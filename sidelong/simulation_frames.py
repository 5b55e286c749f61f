"""Exchanges to flows: their rows, in the order of time, then as columns of text."""

from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sidelong.ingest.schema import FLOW_SCHEMA, PROTOCOLS, VERDICTS
from sidelong.simulation_exchanges import (
    DENIED,
    DNS,
    HTTP,
    LENGTHS,
    RESPONSE,
    ROWS,
    STARTS,
)
from sidelong.simulation_places import DARK, MADE_UP, Names, Places
from sidelong.simulation_schedule import SECOND
from sidelong.simulation_traffic import Exchanges, joined

__all__ = ["Scribe", "made_up"]

Ints = NDArray[np.int64]

_ROW_BITS: Final = 23
_TYPES: Final = pl.Series(["A", "AAAA", "TXT"])
_TURN: Final = 300 * SECOND
_ALPHABET: Final = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz234567", np.uint8)
_LETTERS: Final = 40  # of a name that is made up: 25 bytes
_TUNNEL: Final = ".t.evil.example"
_POLICY: Final = "default-deny"


class Scribe:
    """Writes slots of exchanges down as flows, and keeps rows beyond a slot for the next."""

    def __init__(self, places: Places, names: Names, began_ns: int) -> None:
        self._places, self._names, self._began = places, names, began_ns
        none = Exchanges(*(np.zeros(0, np.int64) for _ in Exchanges._fields))
        self._kept = none, np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64)

    def flows(self, parts: list[Exchanges], start: int, end: int) -> pl.DataFrame:
        """The flows of a slot in `FLOW_SCHEMA`, in order of time."""
        old, old_of, old_row, old_time = self._kept
        new = joined([old, *parts])
        length = LENGTHS[new.kind[old.size :]]
        of = np.repeat(np.arange(old.size, new.size), length)
        row = np.repeat(STARTS[new.kind[old.size :]] - np.cumsum(length) + length, length)
        row += np.arange(len(row))
        time = new.time[of] + ROWS.trips[row] * new.trip[of] + ROWS.pause[row]
        time += (ROWS.share[row] * new.lasts[of]).astype(np.int64)
        of, row, time = (
            np.concatenate(pair) for pair in ((old_of, of), (old_row, row), (old_time, time))
        )
        later = time >= end
        kept, place = np.unique(of[later], return_inverse=True)
        self._kept = new.of(kept), place, row[later], time[later]
        of, row, time = of[~later], row[~later], time[~later]
        order = _in_time(time - start)
        return self._frame(new, of[order], row[order], time[order])

    def _frame(self, made: Exchanges, of: Ints, row: Ints, time: Ints) -> pl.DataFrame:
        back = ROWS.back[row]
        kind, client, server = made.kind[of], made.client[of], made.server[of]
        client_port, server_port = made.client_port[of], made.server_port[of]
        source, target = np.where(back, server, client), np.where(back, client, server)
        ends = self._places
        node = self._node(source, target)
        when = pl.Series("time", time + self._began).cast(FLOW_SCHEMA["time"])
        denied = kind == DENIED
        columns = {
            "time": when,
            "end": when,
            "src_ip": self._address(source),
            "dst_ip": self._address(target),
            "src_port": pl.Series(np.where(back, server_port, client_port).astype(np.uint16)),
            "dst_port": pl.Series(np.where(back, client_port, server_port).astype(np.uint16)),
            "protocol": pl.Series(ROWS.protocol[row]).cat.to(PROTOCOLS),
            "src": _text(ends.workload, source),
            "dst": _text(ends.workload, target),
            "src_pod": _text(ends.pod, source),
            "dst_pod": _text(ends.pod, target),
            "reply": pl.Series(back),
            "verdict": pl.Series(ROWS.verdict[row]).cat.to(VERDICTS),
            "tcp_flags": _where(ROWS.flags_seen[row], ROWS.flags[row], pl.UInt8()),
            "count": pl.repeat(1, len(of), dtype=pl.UInt32, eager=True),
            "origin": pl.repeat("hubble", len(of), eager=True),
            "node": ends.nodes.gather(node),
        }
        if denied.any():
            reason = pl.Series(denied)
            columns["drop_reason"] = _chosen(reason, "POLICY_DENIED")
            columns["policy"] = _chosen(reason, _POLICY)
        columns |= self._layer7(made, of, row, time, kind)
        return pl.DataFrame(
            [
                columns[name].alias(name)
                if name in columns
                else pl.repeat(None, len(of), dtype=dtype, eager=True).alias(name)
                for name, dtype in FLOW_SCHEMA.items()
            ]
        )

    def _layer7(
        self, made: Exchanges, of: Ints, row: Ints, time: Ints, kind: Ints
    ) -> dict[str, pl.Series]:
        """The columns of DNS and HTTP, as far as there are any."""
        size, layer = len(of), ROWS.layer7[row]
        asked, told = (kind == DNS), layer == RESPONSE
        dns, http = np.flatnonzero(asked), np.flatnonzero((kind == HTTP) & (layer > 0))
        found: dict[str, pl.Series] = {}
        names = self._names
        spoken = np.full(size, -1, np.int64)
        spoken[dns], spoken[http] = 0, 1
        found["l7"] = pl.Series(["dns", "http"]).gather(_nulls(spoken))
        asks = spoken.copy()
        asks[http], asks[dns] = -1, made.asks[of[dns]]
        found["dns_type"] = _TYPES.gather(_nulls(asks))
        name = np.full(size, -1, np.int64)
        name[dns] = made.name[of[dns]]
        found["dns_name"] = self._dns_names(name)
        answers = np.flatnonzero(asked & told)
        of_answer = made.name[of[answers]]
        invented = of_answer >= MADE_UP
        known = np.where(invented, 0, of_answer)
        rcode = np.zeros(size, np.uint8)
        rcode[answers] = np.where(invented, 0, names.rcode[known])
        found["dns_rcode"] = _where(asked & told, rcode, pl.UInt8())
        turn = time[answers] // _TURN % names.turns[known]
        given = np.full(size, -1, np.int64)
        silent = invented | (made.asks[of[answers]] > 0)
        given[answers] = np.where(silent, 0, names.answer[known] + turn)
        found["dns_answers"] = names.answers.gather(_nulls(given))
        path = np.full(size, -1, np.int64)
        path[http] = made.name[of[http]]
        found["path"] = names.paths.gather(_nulls(path))
        method = np.full(size, -1, np.int64)
        method[http] = path[http] % 4 == 0
        found["method"] = pl.Series(["GET", "POST"]).gather(_nulls(method))
        answered = (kind == HTTP) & told
        status = np.full(size, 200, np.uint16)
        status[(made.client_port[of] % 997) == 0] = 503
        status[(made.client_port[of] % 499) == 1] = 404
        found["status"] = _where(answered, status, pl.UInt16())
        return found

    def _dns_names(self, name: Ints) -> pl.Series:
        known = self._names.text.gather(_nulls(np.where(name >= MADE_UP, -1, name)))
        invented = np.flatnonzero(name >= MADE_UP)
        if not len(invented):
            return known
        return known.scatter(invented, made_up(name[invented] - MADE_UP))

    def _address(self, end: Ints) -> pl.Series:
        dark = np.flatnonzero(end >= DARK)
        if not len(dark):
            return self._places.address.gather(end)
        known = self._places.address.gather(np.where(end >= DARK, 0, end))
        number = pl.Series("n", end[dark] - DARK).to_frame()
        octets = (pl.col("n") // 256**place % 256 for place in (3, 2, 1, 0))
        return known.scatter(dark, number.select(pl.format("{}.{}.{}.{}", *octets)).to_series())

    def _node(self, source: Ints, target: Ints) -> Ints:
        """Who saw it: the node of the target, else that of the source."""
        node = self._places.node
        there = np.where(target >= DARK, -1, node[np.where(target >= DARK, 0, target)])
        here = np.where(source >= DARK, 0, node[np.where(source >= DARK, 0, source)])
        found: Ints = np.where(there >= 0, there, here)
        return found


def made_up(number: Ints) -> pl.Series:
    """The names that a tunnel asks for: 40 letters of base32 each, no two alike."""
    state = (number.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    letters = np.empty((len(number), _LETTERS), np.uint8)
    for place in range(_LETTERS):
        state ^= state >> np.uint64(29)
        state *= np.uint64(0xBF58476D1CE4E5B9)
        letters[:, place] = _ALPHABET[(state >> np.uint64(59)).astype(np.int64)]
    labels = letters.view(f"S{_LETTERS}").ravel().astype(str)
    return pl.Series(labels) + _TUNNEL


def _in_time(time: Ints) -> Ints:
    """The order of time; of equal times, that in which they stand."""
    if len(time) >> _ROW_BITS:
        return np.argsort(time, kind="stable")
    # Sorting what is packed together with its place takes a third of the time of an argsort.
    packed = np.sort((time << _ROW_BITS) | np.arange(len(time)))
    return packed & ((1 << _ROW_BITS) - 1)


def _text(column: pl.Series, end: Ints) -> pl.Series:
    """What stands at each end; null where nobody is."""
    if len(end) and end.max() >= DARK:
        return column.gather(_nulls(np.where(end >= DARK, -1, end)))
    return column.gather(end)


def _nulls(number: Ints) -> pl.Series:
    """The numbers as indices, null for those below zero."""
    index = pl.Series(np.where(number < 0, 0, number).astype(np.uint32))
    absent = number < 0
    if not absent.any():
        return index
    return index.set(pl.Series(absent), None)


def _where(seen: NDArray[np.bool_], value: NDArray[np.generic], dtype: pl.DataType) -> pl.Series:
    return pl.Series(value, dtype=dtype).set(pl.Series(~seen), None)


def _chosen(where: pl.Series, text: str) -> pl.Series:
    return pl.select(pl.when(where).then(pl.lit(text))).to_series()
