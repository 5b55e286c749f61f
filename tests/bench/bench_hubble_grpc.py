"""Hubble flows per second by gRPC: decoded, and end to end over loopback.

The shop's flows, over and over, masked as they are asked for. Decoding: serialized messages in
memory to columns, by both ways, beside protobuf's own MessageToDict; rates are per second of
processor time, medians over the rounds. End to end: a server in another process sends them as fast
as it is read, one HTTP/2 DATA frame per message as grpc-go does; the source in this one makes
frames of `FLOW_SCHEMA` of them. That rate, too, is per second of processor time of the reading
process, all its threads together: what one core sustains. `share` is how much of a core it used:
below 1, the sender was the limit, and not the reader.
"""

import json
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

__all__ = ["run"]

HERE: Final = Path(__file__).resolve().parent
SHOP: Final = HERE.parents[1] / "examples" / "shop-incident"
FLOWS: Final = 200_000
ROUNDS: Final = 5
BATCH: Final = 10_000
SPAN_SECONDS: Final = 86_400  # longer than the shop was watched

_PREFACE: Final = len(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")


def messages() -> list[bytes]:
    """The shop's flows as a server sends them under our field mask; some 46,000 of them."""
    sys.path.insert(0, str(HERE.parent))
    import zstandard
    from hubble_api import wire

    unpack = zstandard.ZstdDecompressor()
    names = ("train.hubble.jsonl.zst", "test.hubble.jsonl.zst")
    whole = b"".join(unpack.stream_reader((SHOP / name).read_bytes()).read() for name in names)
    made = []
    for line in whole.splitlines():
        event = json.loads(line)
        flow = event.get("flow", {})
        for key in ("ethernet", "Summary", "Type", "traffic_direction", "trace_reason"):
            flow.pop(key, None)
        made.append(wire(event))
    return made


def over_and_over(once: Sequence[bytes]) -> list[bytes]:
    """`FLOWS` of them, each time later than before and with another uuid, as new flows are."""
    from hubble_api import response_class

    parse = response_class().FromString
    made = []
    for number in range(FLOWS):
        event: Any = parse(once[number % len(once)])
        later = number // len(once) * SPAN_SECONDS
        event.time.seconds += later
        if event.HasField("flow"):
            event.flow.time.seconds += later
            event.flow.uuid = f"{number:08x}-8a51-4e0c-9c1f-51b8d6e7a1c4"
        made.append(event.SerializeToString())
    return made


def batches(all: Sequence[bytes]) -> list[Sequence[bytes]]:
    return [all[start : start + BATCH] for start in range(0, len(all), BATCH)]


def decode(all: Sequence[bytes], *, fast: bool) -> int:
    from sidelong.ingest.hubble_protobuf import HubbleDecoder

    decoder = HubbleDecoder("bench", fast=fast)
    return sum(decoder.decode(batch).flows().height for batch in batches(all))


def message_to_dict(all: Sequence[bytes]) -> int:
    """The obvious way: protobuf's dictionaries, and a frame of a few of their fields."""
    import polars as pl
    from google.protobuf.json_format import MessageToDict
    from hubble_api import response_class

    parse = response_class().FromString
    rows = []
    for content in all:
        event = MessageToDict(parse(content), preserving_proto_field_name=True)
        flow = event.get("flow", {})
        ip = flow.get("IP", {})
        rows.append(
            (flow.get("time"), flow.get("verdict"), ip.get("source"), ip.get("destination"))
        )
    return pl.DataFrame(rows, orient="row", infer_schema_length=None).height


WAYS: Final[dict[str, tuple[Callable[[Sequence[bytes]], int], int]]] = {
    "decode, protobuf": (lambda all: decode(all, fast=False), FLOWS),
    "decode, ptars": (lambda all: decode(all, fast=True), FLOWS),
    "protobuf MessageToDict": (message_to_dict, FLOWS // 20),
}


def measure_decoding(all: Sequence[bytes]) -> dict[str, list[float]]:
    rates: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(ROUNDS):
        for name, (way, count) in WAYS.items():
            began = time.process_time()
            assert way(all[:count]) == count
            rates[name].append(count / (time.process_time() - began))
    return rates


def measure_live(port: int, *, fast: bool) -> tuple[float, float]:
    """Flows per second of processor time, and how much of a core that took."""
    from sidelong.ingest.hubble_channel import HubbleSettings
    from sidelong.ingest.hubble_live import open_hubble

    settings = HubbleSettings(follow=False, fast=fast, batch_milliseconds=1_000)
    source = open_hubble(f"hubble://127.0.0.1:{port}", settings)
    wall, processor = time.perf_counter(), time.process_time()
    rows = sum(batch.flows.height for batch in source.batches())
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    assert rows == FLOWS, rows
    return FLOWS / processor, processor / wall


def frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    """A frame of HTTP/2 (RFC 9113, section 4.1)."""
    head = len(content).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big")
    return head + content


def serve(all: Sequence[bytes]) -> None:
    """Send all of it to each client that comes, a frame per message, within its windows.

    What a client says besides opening its windows is not looked at: whatever it calls, it gets
    these messages. HPACK is spelt by hand: only literals that are never indexed.
    """
    grpc_messages = [b"\0" + len(each).to_bytes(4, "big") + each for each in all]
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    while True:
        client, _ = listener.accept()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=Sending(client).run, args=(grpc_messages,), daemon=True).start()


def literal(name: bytes, value: bytes) -> bytes:
    """A header field that is not indexed (RFC 7541, section 6.2.2)."""
    return bytes((0, len(name))) + name + bytes((len(value),)) + value


class Sending:
    """One connection of HTTP/2 with one call on it."""

    def __init__(self, client: socket.socket) -> None:
        self.client = client
        self.changed = threading.Condition()
        self.window, self.stream_window, self.initial = 65_535, 0, 65_535
        self.stream = 0

    def run(self, messages: Sequence[bytes]) -> None:
        self.client.sendall(frame(4, 0, 0, b""))
        threading.Thread(target=self.receive, daemon=True).start()
        with self.changed:
            self.changed.wait_for(lambda: self.stream)
        head = b"\x88" + literal(b"content-type", b"application/grpc")  # :status 200
        self.client.sendall(frame(1, 4, self.stream, head))
        waiting = bytearray()
        for message in messages:
            if min(self.window, self.stream_window) < len(message) or len(waiting) > 60_000:
                self.client.sendall(waiting)
                waiting.clear()
                self.wait_for_room(len(message))
            with self.changed:
                self.window -= len(message)
                self.stream_window -= len(message)
            waiting += frame(0, 0, self.stream, message)
        self.client.sendall(waiting)
        self.client.sendall(frame(1, 5, self.stream, literal(b"grpc-status", b"0")))

    def wait_for_room(self, size: int) -> None:
        with self.changed:
            self.changed.wait_for(lambda: min(self.window, self.stream_window) >= size)

    def receive(self) -> None:
        reader = self.client.makefile("rb")
        reader.read(_PREFACE)
        while len(head := reader.read(9)) == 9:
            content = reader.read(int.from_bytes(head[:3], "big"))
            kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
            with self.changed:
                if kind == 1:  # HEADERS
                    self.stream, self.stream_window = stream, self.stream_window + self.initial
                elif kind == 4 and not flags & 1:  # SETTINGS
                    for at in range(0, len(content), 6):
                        if content[at : at + 2] == b"\0\4":  # INITIAL_WINDOW_SIZE
                            value = int.from_bytes(content[at + 2 : at + 6], "big")
                            if self.stream:
                                self.stream_window += value - self.initial
                            self.initial = value
                    self.client.sendall(frame(4, 1, 0, b""))
                elif kind == 6 and not flags & 1:  # PING
                    self.client.sendall(frame(6, 1, 0, content))
                elif kind == 8:  # WINDOW_UPDATE
                    if stream:
                        self.stream_window += int.from_bytes(content, "big")
                    else:
                        self.window += int.from_bytes(content, "big")
                self.changed.notify_all()


def run() -> list[dict[str, Any]]:
    """One row for each way; `ratio` says how much faster than MessageToDict it is."""
    # In processes of their own: polars counts its threads once.
    environment = {**os.environ, "POLARS_MAX_THREADS": "1"}
    command = [sys.executable, __file__]
    with subprocess.Popen([*command, "serve"], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout
            port = server.stdout.readline().strip()
            live = subprocess.run(
                [*command, "live", port],
                env=environment,
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            ).stdout
        finally:
            server.kill()
    decoding = subprocess.run(
        [*command, "decode"], env=environment, stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    rates = {name: statistics.median(each) for name, each in json.loads(decoding).items()}
    base = rates["protobuf MessageToDict"]
    rows = [
        {"name": name, "rate": rate, "unit": "flows/s", "ratio": rate / base}
        for name, rate in rates.items()
    ]
    for name, pairs in json.loads(live).items():
        rate, share = (statistics.median(each) for each in zip(*pairs, strict=True))
        rows.append(
            {"name": name, "rate": rate, "unit": "flows/s", "ratio": rate / base, "share": share}
        )
    return rows


def main(what: str, *arguments: str) -> None:
    if what == "live":
        measured: dict[str, list[tuple[float, float]]] = {}
        for _ in range(ROUNDS):
            for name, fast in (("live, protobuf", False), ("live, ptars", True)):
                measured.setdefault(name, []).append(measure_live(int(arguments[0]), fast=fast))
        print(json.dumps(measured))
        return
    all = over_and_over(messages())
    if what == "serve":
        serve(all)
    else:
        print(json.dumps(measure_decoding(all)))


if __name__ == "__main__":
    main(*sys.argv[1:])
