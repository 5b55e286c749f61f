"""What one exchange between two ends looks like to Hubble: its rows, and when each of them comes.

A row of an exchange that begins at t comes at t + trips * (the way there and back) + share * (how
long it lasts) + pause. All of an exchange that is one connection bears the same ports.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sidelong.ingest.schema import PROTOCOLS, TCP_FLAGS, VERDICTS

__all__ = [
    "DENIED",
    "DNS",
    "HTTP",
    "LENGTHS",
    "REFUSED",
    "REQUEST",
    "RESPONSE",
    "ROWS",
    "SILENT",
    "STARTS",
    "TCP",
    "UDP",
    "UNANSWERED",
    "Rows",
]

TCP, HTTP, REFUSED, SILENT, DENIED, UDP, UNANSWERED, DNS = range(8)
"""Kinds of exchange: a connection; one whose requests are seen too; one that is reset; SYNs into
the void, sent again twice; one that policy drops; a datagram and its answer; a SYN that nobody
answers and that is not sent again; a lookup."""

REQUEST, RESPONSE = 1, 2
"""What of layer 7 a row shows."""

_SYN, _SYN_ACK = TCP_FLAGS["SYN"], TCP_FLAGS["SYN"] | TCP_FLAGS["ACK"]
_FIN_ACK, _RST_ACK = TCP_FLAGS["FIN"] | TCP_FLAGS["ACK"], TCP_FLAGS["RST"] | TCP_FLAGS["ACK"]
_SECOND: Final = 1_000_000_000

# trips, share, pause, back, flags (-1 for none seen), layer 7
_OPENED: Final = ((0, 0, 0, 0, _SYN, 0), (1, 0, 0, 1, _SYN_ACK, 0))
_CLOSED: Final = ((2, 1, 0, 0, _FIN_ACK, 0), (3, 1, 0, 1, _FIN_ACK, 0))
_ASKED: Final = ((2, 0, 0, 0, -1, REQUEST), (2, 0.9, 0, 1, -1, RESPONSE))  # without flags
_EXCHANGES: Final = {
    TCP: (*_OPENED, *_CLOSED),
    HTTP: (*_OPENED, *_ASKED, *_CLOSED),
    REFUSED: ((0, 0, 0, 0, _SYN, 0), (1, 0, 0, 1, _RST_ACK, 0)),
    SILENT: tuple((0, 0, pause * _SECOND, 0, _SYN, 0) for pause in (0, 1, 3)),
    DENIED: ((0, 0, 0, 0, _SYN, 0),),
    UDP: ((0, 0, 0, 0, -1, 0), (1, 0, 0, 1, -1, 0)),
    UNANSWERED: ((0, 0, 0, 0, _SYN, 0),),
    DNS: ((0, 0, 0, 0, -1, REQUEST), (2, 0, 0, 1, -1, RESPONSE)),
}
_CATEGORIES: Final = PROTOCOLS.categories.to_list()
_DROPPED: Final = VERDICTS.categories.to_list().index("DROPPED")


class Rows(NamedTuple):
    """The rows of all kinds of exchange, one after the other, as columns."""

    trips: NDArray[np.int64]
    share: NDArray[np.float64]
    pause: NDArray[np.int64]
    back: NDArray[np.bool_]
    flags: NDArray[np.uint8]
    flags_seen: NDArray[np.bool_]
    layer7: NDArray[np.uint8]
    protocol: NDArray[np.uint8]
    verdict: NDArray[np.uint8]


def _rows() -> Rows:
    kinds = [kind for kind, rows in _EXCHANGES.items() for _ in rows]
    trips, share, pause, back, flags, layer7 = zip(
        *(row for rows in _EXCHANGES.values() for row in rows), strict=True
    )
    datagrams = np.isin(kinds, (UDP, DNS))
    tcp, udp = _CATEGORIES.index("TCP"), _CATEGORIES.index("UDP")
    return Rows(
        trips=np.array(trips, np.int64),
        share=np.array(share, np.float64),
        pause=np.array(pause, np.int64),
        back=np.array(back, np.bool_),
        flags=np.clip(flags, 0, 255).astype(np.uint8),
        flags_seen=np.array(flags) >= 0,
        layer7=np.array(layer7, np.uint8),
        protocol=np.where(datagrams, udp, tcp).astype(np.uint8),
        verdict=np.where(np.array(kinds) == DENIED, _DROPPED, 0).astype(np.uint8),
    )


ROWS: Final = _rows()
LENGTHS: Final = np.array([len(rows) for rows in _EXCHANGES.values()], np.int64)
"""How many rows an exchange of each kind has."""

STARTS: Final = np.cumsum(LENGTHS) - LENGTHS
"""Where the rows of each kind begin in `ROWS`."""
