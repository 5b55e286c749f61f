"""Log records out of OpenTelemetry's protobuf and JSON (OTLP), with who reported them.

Who reports is told by the resource: OpenTelemetry's names for pods and their owners, or Envoy's own
of its node. Source: opentelemetry/proto/logs/v1/logs.proto, and OTLP's mapping to JSON.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from google.protobuf.message import DecodeError

from sidelong.ingest.envoy_reporter import NOBODY, Reporter, by_resource
from sidelong.ingest.otlp_logs_pb2 import AnyValue, ExportRequest, Resource

__all__ = ["Export", "OtlpRecord", "RecordReader"]

_LATEST: Final = 9_000_000_000_000_000_000
_MOST_KNOWN: Final = 1 << 12

_decode_json = msgspec.json.Decoder(dict[str, Any]).decode


class OtlpRecord(NamedTuple):
    """One log record. time: nanoseconds since 1970, 0 if it has none. text: a body of text; labels:
    what is in one of JSON. line: the body of JSON as it was."""

    time: int
    text: str | None
    labels: Mapping[str, str]
    reporter: Reporter
    line: str | None = None


class Export(NamedTuple):
    """The records of a request, or a line; fault: why there are none."""

    records: Sequence[OtlpRecord]
    fault: str | None = None


class RecordReader:
    """Reads exports, each for itself; keeps resources that it has seen."""

    def __init__(self) -> None:
        self._reporters: dict[bytes, Reporter] = {}

    def read(self, content: bytes, *, json: bool) -> Export:
        """The records of an ExportLogsServiceRequest in protobuf, or in OTLP's JSON."""
        try:
            return Export(list(_of_json(content) if json else self._of_protobuf(content)))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return Export([], "not OTLP logs in JSON")
        except DecodeError:
            return Export([], "not OTLP logs in protobuf")

    def _of_protobuf(self, content: bytes) -> Iterable[OtlpRecord]:
        for of_resource in ExportRequest.FromString(content).resource_logs:
            reporter = self._reporter(of_resource.resource) if of_resource.resource else NOBODY
            for of_scope in of_resource.scope_logs:
                for record in of_scope.log_records:
                    text, labels, line = _body(record.body)
                    for pair in record.attributes:
                        text_value = pair.value.string_value
                        # Nearly all are text, and UTF-8; the rest costs more.
                        if text_value.__class__ is not str or not text_value:
                            text_value = _text(pair.value)
                        labels[pair.key] = text_value
                    time = record.time_unix_nano or record.observed_time_unix_nano
                    yield OtlpRecord(time if time < _LATEST else 0, text, labels, reporter, line)

    def _reporter(self, resource: bytes) -> Reporter:
        known = self._reporters.get(resource)
        if known is None:
            if len(self._reporters) >= _MOST_KNOWN:
                self._reporters.clear()
            attributes = Resource.FromString(resource).attributes
            known = by_resource({_readable(pair.key): _text(pair.value) for pair in attributes})
            self._reporters[resource] = known
        return known


_Body = tuple[str | None, dict[str, str], str | None]


def _body(body: AnyValue) -> _Body:
    text = body.string_value
    if text:
        return _text_or_json(_readable(text))
    return None, {_readable(pair.key): _text(pair.value) for pair in body.kvlist_value.values}, None


def _text_or_json(text: str) -> _Body:
    """A body of text, or what is in it if it is a JSON object, and that."""
    if text.startswith("{"):
        try:
            return None, {key: _plain(value) for key, value in _decode_json(text).items()}, text
        except (msgspec.MsgspecError, RecursionError):
            pass
    return text, {}, None


def _text(value: AnyValue) -> str:
    """A value of one kind or another as text; of lists nothing."""
    kind = value.WhichOneof("value")
    if kind in ("string_value", "int_value", "double_value", "bool_value", "bytes_value"):
        return _plain(getattr(value, kind))
    return ""


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return str(value) if isinstance(value, str | int | float) else ""


def _readable(text: str | bytes) -> str:
    """Text that is not UTF-8 comes as bytes."""
    return text if isinstance(text, str) else text.decode(errors="replace")


class _Value(msgspec.Struct):
    stringValue: str | None = None
    intValue: int | str | None = None
    doubleValue: float | str | None = None
    boolValue: bool | None = None
    kvlistValue: "_Pairs | None" = None

    @property
    def text(self) -> str:
        for value in (self.stringValue, self.intValue, self.doubleValue, self.boolValue):
            if value is not None:
                return _plain(value)
        return ""


class _Pair(msgspec.Struct):
    key: str = ""
    value: _Value | None = None


class _Pairs(msgspec.Struct):
    values: list[_Pair] = []


class _Record(msgspec.Struct):
    timeUnixNano: int | str | None = None
    observedTimeUnixNano: int | str | None = None
    body: _Value | None = None
    attributes: list[_Pair] = []


class _Scope(msgspec.Struct):
    logRecords: list[_Record] = []


class _ResourceAttributes(msgspec.Struct):
    attributes: list[_Pair] = []


class _OfResource(msgspec.Struct):
    resource: _ResourceAttributes | None = None
    scopeLogs: list[_Scope] = []


class _Request(msgspec.Struct):
    resourceLogs: list[_OfResource] = []


_decode_request: Final = msgspec.json.Decoder(_Request).decode


def _of_json(content: bytes) -> Iterable[OtlpRecord]:
    for of_resource in _decode_request(content).resourceLogs:
        resource = of_resource.resource
        reporter = by_resource(_labels(resource.attributes)) if resource else NOBODY
        for of_scope in of_resource.scopeLogs:
            for record in of_scope.logRecords:
                body = record.body or _Value()
                text, labels, line = None, {}, None
                if body.kvlistValue is not None:
                    labels = _labels(body.kvlistValue.values)
                elif body.stringValue:
                    text, labels, line = _text_or_json(body.stringValue)
                labels |= _labels(record.attributes)
                time = _nanoseconds(record.timeUnixNano or 0) or _nanoseconds(
                    record.observedTimeUnixNano or 0
                )
                yield OtlpRecord(time, text, labels, reporter, line)


def _labels(pairs: Sequence[_Pair]) -> dict[str, str]:
    return {pair.key: pair.value.text for pair in pairs if pair.value is not None}


def _nanoseconds(value: int | str) -> int:
    """64 bits are text in the JSON of protobuf, and a number where it is not minded."""
    number = int(value) if isinstance(value, int) or (value.isascii() and value.isdigit()) else 0
    return number if 0 < number < _LATEST else 0
