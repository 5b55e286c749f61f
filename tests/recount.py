"""What incidents claim, counted again by hand: one flow after the other, in plain Python.

Knows nothing of how detectors count, only what docs/detection.md says: slow, and independent.
"""

import ipaddress
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import polars as pl
from publicsuffixlist import PublicSuffixList

from sidelong.ingest.schema import TCP_FLAGS

__all__ = ["Contact", "Naming", "Turned", "contacts", "edge_seconds", "new_names", "turned"]

Naming = Callable[[dict[str, Any], str], str]
"""Who stands at a side (`src` or `dst`) of a row."""

_SYN, _ACK, _RST, _FIN, _PSH, _URG = (
    TCP_FLAGS[name] for name in ("SYN", "ACK", "RST", "FIN", "PSH", "URG")
)
_SECOND: Final = 1_000_000_000
_SUFFIXES: Final = PublicSuffixList()


@dataclass(frozen=True)
class Turned:
    """A row as its actor saw it: when, with whom, and which of an attempt, an answer, ..."""

    time: int
    actor: str
    peer: str
    peer_ip: str
    port: int
    protocol: str
    what: str
    row: dict[str, Any]

    @property
    def service(self) -> tuple[int, str]:
        """The port and the protocol."""
        return self.port, self.protocol

    @property
    def edge(self) -> tuple[str, int, str]:
        """The peer and its service; ports that clients are given are one."""
        return self.peer, self.port if self.port < 32_768 else 0, self.protocol


@dataclass
class Contact:
    """The first use of a service, and how it ended. late: an answer came when its second was over.

    borderline: or nearly so, which depends on what else the stream showed by then.
    """

    begun: int
    peer: str
    port: int
    ends: str = ""
    ended: int = 0
    late: bool = False
    borderline: bool = False


def turned(flows: pl.DataFrame, who: Naming) -> Iterator[Turned]:
    """All rows with two sides, the server's replies turned round."""
    opener: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    for row in flows.with_columns(pl.col("time").to_physical()).iter_rows(named=True):
        if row["src_ip"] is None or row["dst_ip"] is None or row["protocol"] is None:
            continue
        here, there = ((row[f"{s}_ip"], row[f"{s}_port"]) for s in ("src", "dst"))
        pair = (*sorted([here, there], key=str), row["protocol"])
        flags = row["tcp_flags"] or 0
        if flags & _SYN:  # what a handshake says comes before what a source says
            opener[pair] = there if flags & _ACK else here
            back = opener[pair] != here
        elif row["verdict"] == "ERROR" and pair in opener:  # it goes against what it quotes
            back = opener[pair] != here
        elif row["reply"] is not None:
            back = row["reply"]
        else:
            opener.setdefault(pair, there if _serves(here[1], there[1]) else here)
            back = opener[pair] != here
        ours, theirs = ("dst", "src") if back else ("src", "dst")
        actor, peer = who(row, ours), who(row, theirs)
        if actor == peer or nobody(row[f"{theirs}_ip"]):
            continue
        yield Turned(
            row["time"],
            actor,
            peer,
            row[f"{theirs}_ip"],
            0 if row["protocol"] == "ICMP" else row[f"{theirs}_port"],
            row["protocol"],
            _what(row, back=back),
            row,
        )


def _serves(port: int | None, other: int | None) -> bool:
    """Whether who sends first from a port is the server: nothing was seen of how it began."""
    if port is None or other is None:
        return False
    return port < 1_024 <= other or port < 32_768 <= other


def nobody(address: str) -> bool:
    """Whether an address belongs to none or to many."""
    ip = ipaddress.ip_address(address)
    many = ip.is_multicast or ip.is_loopback or ip.is_unspecified or address.endswith(".255")
    metadata = address == "169.254.169.254"
    return many or (ip.is_link_local and not metadata) or address.startswith(("0.", "255."))


def _what(row: dict[str, Any], *, back: bool) -> str:
    flags, verdict = row["tcp_flags"] if row["protocol"] == "TCP" else None, row["verdict"]
    if verdict == "DROPPED":
        return "" if back else "denied"
    if back:
        reset = flags is not None and flags & _RST and not flags & (_SYN | _PSH)
        return "refused" if reset or verdict == "ERROR" else "answered"
    if flags is None:
        return "tried"
    stealthy = flags in (0, _FIN, _FIN | _PSH | _URG)
    return "tried" if stealthy or flags & (_SYN | _ACK) == _SYN else ""


def contacts(
    seen: Iterable[Turned], actor: str, known: frozenset[tuple[str, int, str]] = frozenset()
) -> list[Contact]:
    """An actor's first contacts, those in `known` apart, in the order in which they began."""
    found: dict[tuple[str, int, str], Contact] = {}
    for one in seen:
        if one.actor != actor or not one.what:
            continue
        there = one.peer_ip if one.peer.startswith(("ip:", "world:")) else one.peer
        key = (there, one.port, one.protocol)
        if key in known:
            continue
        if one.what == "tried":
            found.setdefault(key, Contact(one.time, there, one.port))
            continue
        contact = found.setdefault(key, Contact(one.time, there, one.port))
        if not contact.ends:
            contact.ends, contact.ended = one.what, one.time
            contact.late = one.time >= contact.begun + _SECOND
            contact.borderline = abs(one.time - contact.begun - _SECOND) < _SECOND // 20
    for contact in found.values():
        if not contact.ends or (contact.late and contact.ends != "answered"):
            contact.ends, contact.ended = "unanswered", contact.begun + _SECOND
    return list(found.values())


def edge_seconds(seen: Iterable[Turned], actor: str) -> dict[tuple[str, int, str], set[int]]:
    """The seconds in which an actor used each (peer, port, protocol)."""
    used: dict[tuple[str, int, str], set[int]] = defaultdict(set)
    for one in seen:
        if one.actor == actor:
            used[one.edge].add(one.time // _SECOND)
    return used


def new_names(seen: Iterable[Turned], actor: str, domain: str) -> Iterator[tuple[int, str, str]]:
    """When an actor asked for a name below a domain that it never asked for, and of which type."""
    asked: set[str] = set()
    for one in seen:
        name = one.row["dns_name"]
        if one.actor != actor or not name or name in asked:
            continue
        if (_SUFFIXES.privatesuffix(name) or name) == domain and name != domain:
            asked.add(name)
            yield one.time, name, one.row["dns_type"] or "QUERY"
