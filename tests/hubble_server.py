"""A small Hubble server for tests: a ring of events, and whatever a test wants it to do wrong."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import grpc
from hubble_api import wire

from sidelong.ingest.hubble_pb2 import (
    GetFlowsRequest,
    GetNodesResponse,
    ServerStatusResponse,
)

__all__ = ["START_NS", "HubbleServer", "Ring", "event", "lost", "node_status"]

START_NS = 1_795_425_242_000_000_000  # 2026-11-23T09:14:02Z

Answer = Callable[[GetFlowsRequest, grpc.ServicerContext], Iterator[bytes]]


def timestamp(ns: int) -> str:
    """RFC 3339, as JSON of protobuf has it."""
    from datetime import UTC, datetime

    whole, nanos = divmod(ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(whole, UTC):%Y-%m-%dT%H:%M:%S}.{nanos:09d}Z"


def event(
    number: int, *, at: int | None = None, node: str = "n1", uuid: bool = True, **changes: Any
) -> tuple[int, bytes]:
    """Flow `number`, told by its source port, at START_NS and so many milliseconds; serialized."""
    at = START_NS + number * 1_000_000 if at is None else at
    time = timestamp(at)
    flow: dict[str, Any] = {
        "time": time,
        "verdict": "FORWARDED",
        "IP": {"source": "10.0.0.1", "destination": "10.0.0.2"},
        "l4": {"TCP": {"source_port": 1 + number % 65_535, "destination_port": 5432}},
        "node_name": node,
        **({"uuid": f"uuid-{node}-{number}"} if uuid else {}),
        **changes,
    }
    return at, wire({"flow": flow, "node_name": node, "time": time})


def lost(number: int, at: int, node: str = "n1") -> tuple[int, bytes]:
    """Events that were lost, as serialized."""
    losses = {"source": "HUBBLE_RING_BUFFER", "num_events_lost": str(number)}
    return at, wire({"lost_events": losses, "node_name": node, "time": timestamp(at)})


def node_status(state: str, *nodes: str, message: str = "") -> bytes:
    """What Relay says of nodes."""
    status = {"state_change": state, "node_names": list(nodes), "message": message}
    return wire({"node_status": status, "node_name": "relay", "time": timestamp(START_NS)})


class Ring:
    """Events in order of their arrival, sent as Hubble does: since, number, first and follow."""

    def __init__(self, *events: tuple[int, bytes]) -> None:
        self.events = list(events)
        self.changed = threading.Condition()
        self.cuts = 0
        self.code = grpc.StatusCode.UNAVAILABLE

    def add(self, *events: tuple[int, bytes]) -> None:
        """More events, for followers at once."""
        with self.changed:
            self.events += events
            self.changed.notify_all()

    def cut(self) -> None:
        """End every call with an error."""
        with self.changed:
            self.cuts += 1
            self.changed.notify_all()

    def __call__(self, request: GetFlowsRequest, context: grpc.ServicerContext) -> Iterator[bytes]:
        context.add_callback(self._wake)
        since = None
        if request.HasField("since"):
            since = request.since.seconds * 1_000_000_000 + request.since.nanos
        with self.changed:
            cuts, at = self.cuts, 0
            if since is None and request.first:
                at = 0
            elif since is None and (request.number or request.follow):
                at = max(len(self.events) - request.number, 0)
        left = request.number if request.first and since is None else None
        while context.is_active():
            with self.changed:
                if self.cuts != cuts:
                    break
                if at == len(self.events):
                    if not request.follow:
                        return
                    self.changed.wait(1.0)
                    continue
                time, content = self.events[at]
            at += 1
            if since is not None and time < since:
                continue
            if left is not None:
                if not left:
                    return
                left -= 1
            yield content
        if context.is_active():
            context.abort(self.code, "cut")

    def _wake(self) -> None:
        with self.changed:
            self.changed.notify_all()


class HubbleServer(grpc.GenericRpcHandler):
    """Serves `answer` as GetFlows at `address`; notes each request."""

    def __init__(
        self,
        answer: Answer,
        *,
        credentials: grpc.ServerCredentials | None = None,
        address: str = "127.0.0.1:0",
        relay: bool = True,
    ) -> None:
        self._answer = answer
        self._relay = relay
        self.requests: list[GetFlowsRequest] = []
        options = [("grpc.so_reuseport", 0), ("grpc.max_send_message_length", -1)]
        self._server = grpc.server(ThreadPoolExecutor(8), handlers=[self], options=options)
        if credentials:
            self.port = self._server.add_secure_port(address, credentials)
        else:
            self.port = self._server.add_insecure_port(address)

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.stop(0).wait()

    @property
    def url(self) -> str:
        """Without TLS."""
        return f"hubble://127.0.0.1:{self.port}"

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> "grpc.RpcMethodHandler[Any, Any] | None":
        """Which of the three calls it is."""
        match handler_call_details.method:
            case "/observer.Observer/GetFlows":
                return grpc.unary_stream_rpc_method_handler(self._get_flows)
            case "/observer.Observer/ServerStatus":
                return grpc.unary_unary_rpc_method_handler(self._status)
            case "/observer.Observer/GetNodes" if self._relay:
                return grpc.unary_unary_rpc_method_handler(self._nodes)
        return None

    def _get_flows(self, content: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        request = GetFlowsRequest.FromString(content)
        self.requests.append(request)
        yield from self._answer(request, context)

    def _status(self, content: bytes, context: grpc.ServicerContext) -> bytes:
        status = ServerStatusResponse(
            num_flows=4_095, max_flows=4_095, seen_flows=9_000, uptime_ns=60_000_000_000
        )
        status.version = "cilium v1.19.4"
        status.flows_rate = 12.5
        status.num_connected_nodes.value = 2
        status.num_unavailable_nodes.value = 1
        status.unavailable_nodes.append("n3")
        return status.SerializeToString()

    def _nodes(self, content: bytes, context: grpc.ServicerContext) -> bytes:
        answer = GetNodesResponse()
        answer.nodes.add(name="n1", version="1.19.4", address="10.0.0.1:4244", state=1)
        answer.nodes.add(name="n3", state=2)
        return answer.SerializeToString()
