"""What a file is, by its first bytes; its name is not asked."""

import re
from typing import Final

from sidelong.errors import SourceError

__all__ = ["FORMATS", "HEAD_BYTES", "format_of", "is_loki"]

FORMATS: Final = (
    "hubble",
    "pcap",
    "parquet",
    "otlp-json",
    "zeek",
    "netobserv",
    "goflow2",
    "nfdump",
    "vpc",
    "csv",
    "envoy",
    "envoy-json",
    "linkerd",
    "linkerd-json",
    "ztunnel",
    "ztunnel-json",
)
"""What `--format` takes. "parquet" stands for both forms in which sidelong keeps flows."""

HEAD_BYTES: Final = 64 << 10
"""How much of the start of a file `format_of` may need."""

_HUBBLE_KEYS: Final = (
    "flow",
    "lost_events",
    "lostEvents",
    "node_status",
    "nodeStatus",
    "agent_event",
    "agentEvent",
    "debug_event",
    "debugEvent",
    "verdict",
    "IP",
)
_ARROW_STREAM: Final = rb"\xff{4}[\x00-\xff]{2}[\x00-\x0f]\x00[\x04-\x40]\x00\x00\x00"

# In one of its first lines: a rotated log may begin inside one.
_IN_A_LINE: Final = rb'(?:[^\n]*\n)*?[ \t]*\{(?:[^\n]*[{,])?[ \t]*"(?:%b)"[ \t]*:'
_LOKI: Final = (
    rb'\s*\{\s*(?:"status"\s*:\s*"success"\s*,\s*)?'
    rb'"data"\s*:\s*\{\s*"resultType"\s*:\s*"streams"'
)
_LATER: Final = rb"(?s:.*?)"  # what follows begins with a literal, so that one pass will do
_ISO_TIME: Final = rb"\d{4}-\d\d-\d\dT[0-9:.]+Z"

_MARKS: Final = {
    "pcap": (
        rb"(?:\xd4\xc3\xb2\xa1|\xa1\xb2\xc3\xd4"  # microseconds
        rb"|\x4d\x3c\xb2\xa1|\xa1\xb2\x3c\x4d"  # nanoseconds
        rb"|\x0a\x0d\x0d\x0a)[\x00-\xff]{20}"  # pcapng; and the rest of the shorter header
    ),
    "parquet": rb"PAR1|ARROW1\x00\x00|" + _ARROW_STREAM,
    "otlp-json": rb'\s*\{\s*"resourceLogs"\s*:',
    # In one of its first lines: a rotated log may begin inside one.
    "hubble": (
        rb"(?:[^\n]*\n)*?(?:\xef\xbb\xbf)?[ \t]*"
        rb'\{(?:[^\n]*[{,])?[ \t]*"(?:%s)"[ \t]*:' % "|".join(_HUBBLE_KEYS).encode()
    ),
    "zeek": (
        rb"#(?:separator|set_separator|fields|path)[ \t]"
        rb"|" + _IN_A_LINE % rb"id[._]orig_h"
    ),
    "goflow2": _IN_A_LINE % rb"sampler_address|time_flow_start_ns",
    "nfdump": rb'\s*(?:\[\s*)?\{[^}]*"(?:src[46]_addr|export_sysid)"\s*:',
    "netobserv": _IN_A_LINE % rb"TimeFlowStartMs|TimeFlowEndMs" + rb"|" + _LOKI,
    "vpc": (
        rb"(?:[a-z][a-z0-9-]* )*(?:pkt-)?srcaddr(?: [a-z][a-z0-9-]*)*[ \r]*\n"
        rb"|2 (?:\d{12}|unknown|-)(?: \S+){8} \d+ \d+ (?:ACCEPT|REJECT|-) (?:OK|NODATA|SKIPDATA)\s"
    ),
    # Access logs, in one of the first lines too; a runtime or a shipper may have wrapped them.
    "linkerd": _LATER + rb"[^ \n] - \[%s\] \\?\"" % _ISO_TIME,
    "linkerd-json": _LATER + rb'"client\.(?:addr|id)\\?"[ \t]*:',
    "envoy": rb"(?:%s(?:\n|F |\"))?\[%s\] \\?\"" % (_LATER, _ISO_TIME),
    "envoy-json": _LATER
    + rb'"(?:response_flags|upstream_cluster|downstream_remote_address)\\?"[ \t]*:',
    "ztunnel": _LATER
    + rb"(?:[ \t]|\\t)access(?:[ \t]{1,8}|\\t)connection (?:complete|failed|opened)\b",
    "ztunnel-json": _LATER + rb'"(?:src|dst)\.addr\\?"[ \t]*:',
}
"""A pattern for the start of each format; the first that matches is it."""

_LINES_OF_JSON: Final = re.compile(rb"\s*[{\[]")


def format_of(head: bytes, name: str) -> str:
    """The format, one of `FORMATS`, of a file that begins with `head`.

    Errors: SourceError when it is none of them; `name` is for the message.
    """
    for format, pattern in _MARKS.items():
        if re.match(pattern, head):
            return format
    what = "JSON of some other kind" if _LINES_OF_JSON.match(head) else "none that is known"
    raise SourceError(
        f"the format of {name} is {what}; it begins with {_shown(head)}",
        hint=f"say what it is with --format {'|'.join(FORMATS)}",
    )


def is_loki(head: bytes) -> bool:
    """Whether a file that begins with `head` is an answer of Loki's API, not the lines in it."""
    return re.match(_LOKI, head) is not None


def _shown(head: bytes, most: int = 24) -> str:
    start = head[:most]
    return ascii(start)[1:] + ("..." if len(head) > most else "")
