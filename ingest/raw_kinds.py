"""What a message of a topic is: by its headers, by its first bytes, by what its JSON is called.

A file is one thing from start to end; a topic may hold anything, so each message is looked at for
itself, and of lines each line. Protobuf says nothing of what it is; it is told by which fields
there are and of which type.
"""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from sidelong.errors import SourceError
from sidelong.ingest.raw_settings import AUTO
from sidelong.ingest.raw_values import Unreadable, begins, deframed
from sidelong.ingest.sniff import HEAD_BYTES, format_of
from sidelong.ingest.wire import delimited, fields_of, varint, whole_delimited

__all__ = ["PROTOBUF", "Kind", "kind_of", "line_format", "messages_of"]

PROTOBUF: Final = ("hubble-protobuf", "otlp-protobuf", "netobserv-protobuf", "goflow2-protobuf")
_ALONE: Final = ("pcap", "csv", "vpc")
_LINES, _BATCH, _FILE, _MESSAGES = "lines", "batch", "file", "messages"

_JSON: Final = re.compile(rb'(?:\xef\xbb\xbf)?[ \t\r\n]*(?:\{[ \t\r\n]*["}]|\[[ \t\r\n]*[\[{\]])')
_PRINTED: Final = re.compile(rb"[^\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]*\Z")
_ARROW_STREAM: Final = b"\xff\xff\xff\xff"
_AVRO_FILE: Final = b"Obj\x01"
_CONTENT_TYPES: Final = {
    "application/vnd.apache.arrow.stream": "arrow",
    "application/vnd.apache.parquet": "parquet",
    "application/json": "JSON",
    "application/x-ndjson": "JSON",
    "application/ndjson": "JSON",
    "application/jsonl": "JSON",
    "text/plain": "text",
    "application/x-protobuf": "protobuf",
    "application/protobuf": "protobuf",
    "application/vnd.google.protobuf": "protobuf",
    "avro/binary": "Avro",
    "application/avro": "Avro",
}

_BY_KEY: Final = {
    **dict.fromkeys(
        (
            *("flow", "lost_events", "lostEvents", "node_status", "nodeStatus", "agent_event"),
            *("agentEvent", "debug_event", "debugEvent", "verdict", "IP"),
        ),
        "hubble",
    ),
    "resourceLogs": "otlp-json",
    **dict.fromkeys(("id.orig_h", "id_orig_h"), "zeek"),
    **dict.fromkeys(("sampler_address", "time_flow_start_ns"), "goflow2"),
    **dict.fromkeys(("src4_addr", "src6_addr", "export_sysid"), "nfdump"),
    **dict.fromkeys(("TimeFlowStartMs", "TimeFlowEndMs"), "netobserv"),
    **dict.fromkeys(("client.addr", "client.id"), "linkerd-json"),
    **dict.fromkeys(
        ("response_flags", "upstream_cluster", "downstream_remote_address"), "envoy-json"
    ),
    **dict.fromkeys(("src.addr", "dst.addr"), "ztunnel-json"),
}
_RANK: Final = {format: rank for rank, format in enumerate(dict.fromkeys(_BY_KEY.values()))}
_HUBBLE_STARTS: Final = (b'{"flow":{', b'{"flow": {')
_WRAPPERS: Final = ("log", "message")
_DEEPEST_WRAPPING: Final = 3
_RUNTIME: Final = re.compile(
    rb"\d{4}-\d\d-\d\dT[0-9:.]+(?:Z|[+-]\d\d:\d\d) (?:stdout|stderr) F (?=.)"
)

_object_keys = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_text = msgspec.json.Decoder(str).decode


class Kind(NamedTuple):
    """How a message is to be read.

    way: "lines" of text or JSON, a columnar "batch", a "file" that stands for itself, or protobuf
    "messages". format: of a declared topic, or what was found; `AUTO` for lines that are still to
    be looked at one by one. content: without what was around it.
    """

    way: str
    format: str
    content: bytes


def kind_of(content: bytes, headers: Mapping[str, bytes], declared: str) -> Kind:
    """What an unpacked message is. Errors: Unreadable, with why."""
    said = _said(headers)
    if said == "Avro" or content.startswith(_AVRO_FILE):
        raise Unreadable("it is Avro, which is not read: write JSON, protobuf, Arrow or Parquet")
    inner, schema = deframed(content)
    if schema is None:
        return _plain(content, said, declared)
    if _JSON.match(inner):
        return _plain(inner, None, declared)
    for start in _message_indexes(inner):
        if found := _protobuf(inner[start:]):
            return Kind(_MESSAGES, declared if declared in PROTOBUF else found, inner[start:])
    raise Unreadable(
        f"it is framed for a schema registry (schema {schema}), and Avro or another kind that is "
        "not read: write JSON, protobuf, Arrow or Parquet"
    )


def _said(headers: Mapping[str, bytes]) -> str | None:
    given = headers.get("content-type")
    if given is None:
        return None
    name = given.decode(errors="replace").partition(";")[0].strip().lower()
    return "JSON" if name.endswith("+json") else _CONTENT_TYPES.get(name)


def _plain(content: bytes, said: str | None, declared: str) -> Kind:
    batch = _batch(content)
    json = batch is None and _JSON.match(content) is not None
    if said in ("arrow", "parquet") and batch != said:
        raise Unreadable(f"its content-type says {said}, and it begins with {begins(content)}")
    if said == "JSON" and not json:
        raise Unreadable(f"its content-type says JSON, and it begins with {begins(content)}")
    if said == "protobuf" and (batch or json or not fields_of(content)):
        raise Unreadable(f"its content-type says protobuf, and it begins with {begins(content)}")
    if declared != AUTO:
        return Kind(_way(declared), declared, content)
    if batch:
        return Kind(_BATCH, batch, content)
    if json or said == "text":
        return Kind(_LINES, AUTO, content)
    if said != "protobuf" and _PRINTED.match(content[:256]):
        return _of_text(content)
    if found := _protobuf(content):
        return Kind(_MESSAGES, found, content)
    return _of_text(content)


def _way(format: str) -> str:
    if format in PROTOBUF:
        return _MESSAGES
    if format in ("arrow", "parquet"):
        return _BATCH
    return _FILE if format in _ALONE else _LINES


def _batch(content: bytes) -> str | None:
    if content.startswith(b"PAR1"):
        return "parquet"
    return "arrow" if content.startswith(_ARROW_STREAM) else None


def _of_text(content: bytes) -> Kind:
    """Lines of a log, unless what they mean depends on their first line."""
    found = _format_of(content)
    if found in _ALONE or (found == "zeek" and content.startswith(b"#")):
        return Kind(_FILE, found, content)
    if found is None and not _PRINTED.match(content[:256]):
        raise Unreadable(f"of no known format: it begins with {begins(content)}")
    return Kind(_LINES, AUTO, content)


def _format_of(content: bytes) -> str | None:
    try:
        return format_of(content[:HEAD_BYTES], "it")
    except SourceError:
        return None


def line_format(line: bytes) -> tuple[str, bytes]:
    """The format of a line, and the line without what a runtime or shippers wrapped it in.

    The format is "" for an empty line inside a wrapping. Errors: Unreadable, with why.
    """
    for _ in range(_DEEPEST_WRAPPING):
        if line.startswith(_HUBBLE_STARTS):
            return "hubble", line
        if not line.lstrip(b"\xef\xbb\xbf \t").startswith(b"{"):
            if found := _RUNTIME.match(line):
                line = line[found.end() :]
                continue
            return _text_format(line), line
        try:
            keys = _object_keys(line.removeprefix(b"\xef\xbb\xbf"))
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise Unreadable(f"not JSON: {str(error)[:80]}") from error
        found_formats = [_BY_KEY[key] for key in keys if key in _BY_KEY]
        if found_formats:
            return min(found_formats, key=_RANK.__getitem__), line
        inner = _unwrapped(keys)
        if inner is None:
            names = ", ".join(map(_shown, list(keys)[:5]))
            raise Unreadable(f"JSON of no known format: its keys are {names or 'none'}")
        line = inner
        if not line:
            return "", line
    raise Unreadable("wrapped too often in other JSON")


def _unwrapped(keys: dict[str, msgspec.Raw]) -> bytes | None:
    """The line that a shipper put into its own JSON, or the object it made of it."""
    for name in _WRAPPERS:
        inner = bytes(keys[name]) if name in keys else b""
        if inner.startswith(b"{"):
            return inner
        if inner.startswith(b'"'):
            return _text(inner).strip("\r\n").encode()
    return None


def _text_format(line: bytes) -> str:
    found = _format_of(line + b"\n")
    if found is None:
        raise Unreadable(f"of no known format: it begins with {begins(line)}")
    return found


def _shown(key: str) -> str:
    text = ascii(key)
    return text if len(text) <= 24 else f"{text[:21]}..."


def _message_indexes(content: bytes) -> tuple[int, ...]:
    """Where a message may begin behind the list of indexes that the frame has for protobuf."""
    if content[:1] == b"\0":
        return (1,)
    # A count and as many numbers, each in a byte: messages are rarely nested deeper.
    count = content[0] >> 1 if content and content[0] < 0x80 and not content[0] & 1 else 0
    return (1 + count, 0) if 0 < count < 8 else (0,)


def _protobuf(content: bytes) -> str | None:
    """Which protobuf of those that are known, single or each after its length."""
    if found := _signature(content):
        return found
    first = whole_delimited(content)
    return _signature(first) if first else None


def _signature(content: bytes) -> str | None:
    fields = fields_of(content)
    if not fields:
        return None
    types = {number: kind for number, (kind, _) in fields.items()}
    if types.get(1000) == 2 or types.get(1001) == 2:
        return "hubble-protobuf" if set(types) <= {1, 2, 3, 4, 5, 1000, 1001} else None
    if types.get(110) == 0 or types.get(111) == 0:
        return "goflow2-protobuf"
    if types.get(3) == 2 and types.get(7) == 2 and types.get(6) == 2:
        return "netobserv-protobuf"
    if set(types) == {1} and types[1] == 2:
        return _inside_first(fields[1][1])
    return "hubble-protobuf" if _is_flow(types) else None


def _inside_first(content: bytes) -> str | None:
    """Of a message with one field of others: logs by resource, or a flow without its node."""
    inner = fields_of(content)
    if inner is None:
        return None
    types = {number: kind for number, (kind, _) in inner.items()}
    if _is_flow(types):
        return "hubble-protobuf"
    logs = bool(types) and set(types) <= {1, 2, 3, 1000} and set(types.values()) == {2}
    return "otlp-protobuf" if logs else None


def _is_flow(types: Mapping[int, int]) -> bool:
    """Whether it may be Hubble's Flow: a time, and a verdict or addresses."""
    return types.get(1) == 2 and (types.get(2) == 0 or types.get(5) == 2) and types.get(3) != 2


def messages_of(kind: Kind) -> list[bytes]:
    """The messages of protobuf in a value: one, or several, each after its length."""
    content = kind.content
    bare = _signature(content) is not None
    several = not bare and whole_delimited(content) is not None
    messages = delimited(content) if several else [content]
    if kind.format != "hubble-protobuf":
        return messages
    return [_as_response(message) for message in messages]


def _as_response(message: bytes) -> bytes:
    """A bare flow of Hubble as the response that it would have come in."""
    fields = fields_of(message)
    if fields is None or not _is_flow({number: kind for number, (kind, _) in fields.items()}):
        return message
    return b"\x0a" + varint(len(message)) + message
