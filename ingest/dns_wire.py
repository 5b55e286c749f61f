"""DNS messages off the wire: one row per question, for all messages of a batch at once.

Sources: RFC 1035 section 4.1 (header, question and record format), RFC 3597 section 5 (names of
types without one). EDNS needs no care: its record lies behind the answers.
"""

from typing import Final

import numpy as np
import polars as pl

from sidelong.ingest.dns_answers import read_answers
from sidelong.ingest.dns_names import name_text, walk_names
from sidelong.ingest.packet_headers import DNS, Bytes, Ints, gather
from sidelong.ingest.schema import schema_of

__all__ = ["QUESTIONS", "read_dns", "type_text"]

_TYPES: Final = {
    1: "A", 2: "NS", 3: "MD", 4: "MF", 5: "CNAME", 6: "SOA", 7: "MB", 8: "MG", 9: "MR", 10: "NULL",
    11: "WKS", 12: "PTR", 13: "HINFO", 14: "MINFO", 15: "MX", 16: "TXT", 17: "RP", 18: "AFSDB",
    19: "X25", 20: "ISDN", 21: "RT", 22: "NSAP", 24: "SIG", 25: "KEY", 26: "PX", 28: "AAAA",
    29: "LOC", 33: "SRV", 35: "NAPTR", 36: "KX", 37: "CERT", 39: "DNAME", 41: "OPT", 42: "APL",
    43: "DS", 44: "SSHFP", 45: "IPSECKEY", 46: "RRSIG", 47: "NSEC", 48: "DNSKEY", 49: "DHCID",
    50: "NSEC3", 51: "NSEC3PARAM", 52: "TLSA", 53: "SMIMEA", 55: "HIP", 59: "CDS", 60: "CDNSKEY",
    61: "OPENPGPKEY", 62: "CSYNC", 63: "ZONEMD", 64: "SVCB", 65: "HTTPS", 99: "SPF", 108: "EUI48",
    109: "EUI64", 249: "TKEY", 250: "TSIG", 251: "IXFR", 252: "AXFR", 253: "MAILB", 254: "MAILA",
    255: "ANY", 256: "URI", 257: "CAA", 32768: "TA", 32769: "DLV",
}  # fmt: skip

_HIGHEST_OPCODE: Final = 6
# RFC 9619 allows one question. More are read where they occur, but not without limit: by pointers
# a few bytes of message could become many long names.
_MOST_QUESTIONS: Final = 8
_TOGETHER: Final = 1 << 14  # messages read at once: enough to be fast, few enough to stay in cache
_AFTER_NAME: Final = 4  # type and class of a question
_QUESTION: Final = np.dtype([("type", ">u2"), ("class", ">u2")])


QUESTIONS: Final = schema_of(
    {
        "message": pl.Int64,
        "dns_name": pl.String,
        "dns_type": pl.String,
        "reply": pl.Boolean,
        "dns_rcode": pl.UInt8,
        "dns_answer_bytes": pl.UInt32,
        "dns_answers": pl.List(pl.String),
    }
)
"""What `read_dns` returns: the index of the message, then as in `FLOW_SCHEMA`.

A query has neither `dns_rcode` nor what is said of answers. In a reply whose answers are all cut
off, that is null too; where only some are, `dns_answer_bytes` counts the others.
"""


def type_text(numbers: Ints) -> pl.Series:
    """Names of record types: A, TXT, ..., and TYPE65399 for a number that has none."""
    distinct, place = np.unique(numbers, return_inverse=True)
    names = [_TYPES.get(number, f"TYPE{number}") for number in distinct.tolist()]
    return pl.Series(names, dtype=pl.String).gather(place)


def read_dns(window: Bytes, at: Ints, end: Ints) -> pl.DataFrame:
    """Read the messages that begin at `at`; `end` is where the captured part of each ends.

    Returns one row per question in `QUESTIONS`, in the order of the messages. A question counts
    when all of it is there, up to the eighth of a message; what does not look like DNS yields none.
    The window has `LOOKAHEAD` bytes more than the last message.
    """
    parts = [QUESTIONS.to_frame()]
    for first in range(0, at.size, _TOGETHER):
        some = slice(first, first + _TOGETHER)
        part = _read_some(window, at[some], end[some])
        parts.append(part.with_columns(pl.col("message") + first))
    return pl.concat(parts)


def _read_some(window: Bytes, at: Ints, end: Ints) -> pl.DataFrame:
    header = gather(window, at, DNS)
    flags = header["flags"].astype(np.int64)
    looks_right = (at + DNS.itemsize <= end) & (flags >> 11 & 0x0F <= _HIGHEST_OPCODE)
    asked = np.where(looks_right, header["questions"].astype(np.int64), 0)

    here = at + DNS.itemsize
    begins: list[Ints] = []
    owners: list[Ints] = []
    rows = np.flatnonzero(asked)
    for _ in range(_MOST_QUESTIONS):
        if not rows.size:
            break
        found = walk_names(window, here[rows], at[rows], end[rows], skim=True)
        fits = found.whole & (found.following + _AFTER_NAME <= end[rows])
        rows = rows[fits]
        begins.append(here[rows])
        owners.append(rows)
        here[rows] = found.following[fits] + _AFTER_NAME
        asked[rows] -= 1
        rows = rows[asked[rows] > 0]
    empty = np.zeros(0, dtype=np.int64)
    owner = np.concatenate(owners) if owners else empty
    begin = np.concatenate(begins) if begins else empty
    order = np.argsort(owner, kind="stable")
    owner, begin = owner[order], begin[order]

    names = walk_names(window, begin, at[owner], end[owner])
    whole = np.flatnonzero(names.whole)
    kind = gather(window, names.following[whole], _QUESTION)["type"].astype(np.int64)
    text = name_text(window, names)
    reply = flags & 0x8000 != 0
    stated = np.where(looks_right & reply, header["answers"].astype(np.int64), 0)
    # Where a question could not be read whole, the answers cannot be found either.
    answers = read_answers(window, at, here, np.where(asked == 0, end, 0), stated)
    owner = owner[whole]
    questions = pl.DataFrame(
        {
            "message": owner,
            "dns_name": text.gather(whole),
            "dns_type": type_text(kind),
            "reply": reply[owner],
            "dns_rcode": (flags & 0x0F)[owner],
            "dns_answer_bytes": answers.size[owner],
            "dns_answers": answers.addresses.gather(owner),
        }
    )
    size = pl.col("dns_answer_bytes")
    first = pl.col("message").is_first_distinct()
    return questions.with_columns(
        pl.when("reply").then("dns_rcode"),
        pl.when(pl.col("reply") & (size >= 0)).then(size),
        pl.when(pl.col("reply") & first).then("dns_answers"),
    ).cast(QUESTIONS)
