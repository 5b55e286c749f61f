"""Access log entries per second out of ALS and OTLP, beside protobuf's own way to dictionaries.

Rates are per second of processor time. Decoding is in memory; end to end is over loopback, from a
sender in another process to a reader of flows, and counts what the reader's process spent, gRPC
included.
"""

import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import grpc
from als_messages import METHOD, samples
from envoy.service.accesslog.v3 import als_pb2  # type: ignore[import-untyped]
from google.protobuf.json_format import MessageToDict

from sidelong.ingest.als_live import open_als
from sidelong.ingest.envoy_als import AlsDecoder, AlsMessage, Sender
from sidelong.ingest.envoy_logs import EnvoySettings
from sidelong.ingest.listening import ServerSettings
from sidelong.ingest.otlp_live import open_otlp
from sidelong.ingest.otlp_logs import OtlpDecoder
from sidelong.ingest.otlp_logs_pb2 import ExportRequest
from sidelong.ingest.otlp_records import RecordReader

__all__ = ["run"]

# The messages are made at import, where no type checker looks.
StreamAccessLogsMessage: Final[Any] = getattr(als_pb2, "StreamAccessLogsMessage")  # noqa: B009

ENTRIES: Final = 32  # in a message: what fits into the 16 KiB in which Envoy gathers them
MESSAGES: Final = 1_000
ROUNDS: Final = 5
OTLP: Final = Path(__file__).resolve().parents[1] / "samples" / "envoy_otlp_logs.ndjson"
OTLP_METHOD: Final = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"


def als_message() -> bytes:
    """`ENTRIES` entries as a real Envoy sent them."""
    known = [StreamAccessLogsMessage.FromString(content) for content in samples()]
    entries = [entry for one in known for entry in one.http_logs.log_entry]
    message = StreamAccessLogsMessage()
    for number in range(ENTRIES):
        message.http_logs.log_entry.add().CopyFrom(entries[number % len(entries)])
    made: bytes = message.SerializeToString()
    return made


def otlp_request(*, labels: bool, number: int = 0) -> bytes:
    """As many records as a real Envoy sent them, told by labels and text, or by text alone.

    No two have the same id, address or path, nor have those of a request of another number.
    """
    reader = RecordReader()
    records = [
        record
        for line in OTLP.read_bytes().splitlines()
        for record in reader.read(line, json=True).records
    ]
    request = ExportRequest()
    logs = request.resource_logs.add().scope_logs.add().log_records
    for at in range(number * ENTRIES, (number + 1) * ENTRIES):
        record = records[at % len(records)]
        own = {
            "request_id": f"a12c1a54-00ab-4b6c-b7bc-{at:012}",
            "path": f"/v1/items/{at}",
            "downstream_remote_address": f"10.1.{at // 250 % 250}.{at % 250}:{1024 + at % 60_000}",
            "start_time": f"2026-11-23T02:18:{at // 1000 % 60:02}.{at % 1000:03}Z",
        }
        made = logs.add(time_unix_nano=record.time)
        made.body.string_value = record.text or ""
        for key, value in {**record.labels, **own}.items() if labels else ():
            made.attributes.add(key=key).value.string_value = value
    return request.SerializeToString()


def rate(decode: Callable[[], object], entries: int) -> float:
    """Entries per second of processor time, the median of the rounds."""
    rates = []
    for _ in range(ROUNDS):
        start = time.process_time()
        decode()
        rates.append(entries / (time.process_time() - start))
    return statistics.median(rates)


def decoders() -> Iterator[dict[str, Any]]:
    content, sender = als_message(), Sender("bench")
    messages = [AlsMessage(sender, content)] * 256  # what a reader takes at a time
    decoder = AlsDecoder({"received": 0, "skipped": 0})
    parsed = [StreamAccessLogsMessage.FromString(content) for _ in range(8)]
    plain = rate(lambda: [MessageToDict(one) for one in parsed], 8 * ENTRIES)
    als = rate(lambda: decoder.decode(messages), 256 * ENTRIES)
    yield {"name": "ALS -> flows, beside MessageToDict", "rate": als, "ratio": als / plain}
    for labels, name in ((True, "labels and text"), (False, "text alone")):
        requests = [otlp_request(labels=labels, number=number) for number in range(128)]
        reader, otlp = RecordReader(), OtlpDecoder(EnvoySettings())
        known = [ExportRequest.FromString(request) for request in requests[:8]]
        plain = rate(lambda known=known: [MessageToDict(one) for one in known], 8 * ENTRIES)  # type: ignore[misc]

        def decode(
            reader: RecordReader = reader,
            otlp: OtlpDecoder = otlp,
            requests: Sequence[bytes] = requests,
        ) -> object:
            return otlp.flows([reader.read(request, json=False) for request in requests])

        found = rate(decode, 128 * ENTRIES)
        row = {"name": f"OTLP -> flows, {name}", "rate": found}
        # To MessageToDict a line of text is done with where it begins.
        yield row | ({"ratio": found / plain} if labels else {})


def send_als(port: int, content: bytes) -> None:
    with grpc.insecure_channel(f"localhost:{port}") as channel:
        stream: Any = channel.stream_unary(METHOD)
        stream(iter([content] * MESSAGES))


def send_otlp(port: int, content: bytes) -> None:
    with grpc.insecure_channel(f"localhost:{port}") as channel:
        export: Any = channel.unary_unary(OTLP_METHOD)
        waiting: list[Any] = []
        for _ in range(MESSAGES):
            waiting.append(export.future(content, timeout=60))
            if len(waiting) >= 64:
                waiting.pop(0).result()
        for call in waiting:
            call.result()


def end_to_end() -> Iterator[dict[str, Any]]:
    settings = ServerSettings(drain_seconds=1)
    for name, source, send, content in (
        ("ALS", open_als("als://localhost:0", settings), send_als, als_message()),
        (
            "OTLP",
            open_otlp("otlp://localhost:0", settings, EnvoySettings()),
            send_otlp,
            otlp_request(labels=True),
        ),
    ):
        port = source.listen()
        sender = multiprocessing.get_context("spawn").Process(target=send, args=(port, content))
        sender.start()
        start = time.process_time()
        for _ in source.batches():
            if source.counters()["received"] >= MESSAGES * ENTRIES:
                source.close()
        seconds = time.process_time() - start
        sender.join()
        yield {
            "name": f"{name} over loopback -> flows",
            "rate": MESSAGES * ENTRIES / seconds,
        }


def run() -> list[dict[str, Any]]:
    """All of it."""
    return [{"unit": "entries/s", **row} for row in (*decoders(), *end_to_end())]
