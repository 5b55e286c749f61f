"""Records of one direction of a connection, summed over seconds or minutes by an exporter.

NetFlow, IPFIX and their like add up the TCP flags of all packets. A client that sends SYN and then
ACK so looks like a server's SYN-ACK: which it is only tells a record of a single packet.

Sources: RFC 7011 and IANA's registry of IPFIX elements: tcpControlBits (6), forwardingStatus (89).
"""

from typing import Final

import polars as pl

from sidelong.ingest.schema import TCP_FLAGS, VERDICTS

__all__ = ["flags_in_number", "forwarding", "summed_flags"]

_SYN, _ACK, _RST = (TCP_FLAGS[name] for name in ("SYN", "ACK", "RST"))
_OPENED: Final = _SYN | _ACK
_FORWARDED, _DROPPED, _CONSUMED = 64, 128, 192  # a status is one of these and a reason in 6 bits
_BY_POLICY: Final = (129, 130)  # denied by, or dropped by, an access list


def summed_flags(flags: pl.Expr, packets: pl.Expr) -> pl.Expr:
    """TCP flags as a flow may bear them, from the OR over `packets` packets.

    Where both SYN and ACK are set by more than one packet, who opened the connection is not to be
    told from them: SYN is left out, and RST too, for it ended what stood and refused nothing. Such
    a flow is judged by its ports and by what came first (ingest/orientation.py). No flag at all is
    what exporters write that do not know: null.
    """
    both = (flags & pl.lit(_OPENED, pl.UInt8)) == _OPENED
    single = (packets == 1).fill_null(False)
    kept = flags & pl.lit(0xFF & ~(_SYN | _RST), pl.UInt8)
    known = pl.when(flags != 0).then(flags)
    return pl.when(both & ~single).then(kept).otherwise(known)


def flags_in_number(text: pl.Expr) -> pl.Expr:
    """TCP flags from a number in text; of more than eight bits the lower ones."""
    number = text.cast(pl.UInt32, strict=False)
    return (number & pl.lit(0xFF, pl.UInt32)).cast(pl.UInt8)


def forwarding(status: pl.Expr) -> tuple[pl.Expr, pl.Expr]:
    """The verdict and the reason of a drop, from a forwardingStatus in text."""
    number = status.cast(pl.UInt32, strict=False)
    dropped = number.is_between(_DROPPED, _CONSUMED, closed="left")
    verdict = (
        pl.when(dropped)
        .then(pl.lit("DROPPED"))
        .when(number.is_between(_FORWARDED, 255))
        .then(pl.lit("FORWARDED"))
        .cast(VERDICTS)
    )
    policy = pl.when(number.is_in(_BY_POLICY)).then(pl.lit("POLICY_DENIED"))
    reason = pl.when(dropped).then(pl.coalesce(policy, pl.lit("FORWARDING_STATUS_") + status))
    return verdict, reason
