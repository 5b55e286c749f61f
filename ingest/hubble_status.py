"""What a Hubble server says of itself and, where it is Relay, of its nodes; for `sidelong doctor`.

Source: `observer/observer.proto` of Cilium 1.19.
"""

from dataclasses import dataclass
from typing import Final

import grpc

from sidelong.ingest.hubble_channel import Target, explain
from sidelong.ingest.hubble_messages import NODE_STATES
from sidelong.ingest.hubble_pb2 import (
    GetNodesRequest,
    GetNodesResponse,
    ServerStatusRequest,
    ServerStatusResponse,
)

__all__ = ["HubbleNode", "HubbleStatus", "hubble_nodes", "hubble_status"]

_SERVICE: Final = "/observer.Observer/"
_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class HubbleStatus:
    """Of an agent, or of all nodes behind Relay together.

    version: as the server puts it. kept, capacity: flows in the rings. seen: flows since the start.
    flows_per_second: over the last minute, 0 from servers that do not say. connected, unavailable:
    how many nodes; None from an agent. missing: names of some that are unavailable.
    """

    version: str
    kept: int
    capacity: int
    seen: int
    uptime_seconds: float
    flows_per_second: float
    connected: int | None
    unavailable: int | None
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HubbleNode:
    """A node as Relay sees it. state: unknown, connected, unavailable, gone or error."""

    name: str
    version: str
    address: str
    state: str
    uptime_seconds: float
    kept: int
    capacity: int
    seen: int


def hubble_status(target: Target, seconds: float = _SECONDS) -> HubbleStatus:
    """Ask for the server's status; waits up to `seconds`. Errors: SourceError, ConfigError."""
    answer = ServerStatusResponse.FromString(
        _call(target, "ServerStatus", ServerStatusRequest().SerializeToString(), seconds)
    )
    connected, unavailable = answer.num_connected_nodes, answer.num_unavailable_nodes
    return HubbleStatus(
        version=answer.version,
        kept=answer.num_flows,
        capacity=answer.max_flows,
        seen=answer.seen_flows,
        uptime_seconds=answer.uptime_ns / 1e9,
        flows_per_second=answer.flows_rate,
        connected=connected.value if answer.HasField("num_connected_nodes") else None,
        unavailable=unavailable.value if answer.HasField("num_unavailable_nodes") else None,
        missing=tuple(answer.unavailable_nodes),
    )


def hubble_nodes(target: Target, seconds: float = _SECONDS) -> tuple[HubbleNode, ...] | None:
    """Ask Relay for its nodes; None from an agent, which has none.

    Waits up to `seconds`. Errors: SourceError, ConfigError.
    """
    try:
        content = _ask(target, "GetNodes", GetNodesRequest().SerializeToString(), seconds)
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            return None
        raise explain(error, target) from error
    return tuple(
        HubbleNode(
            name=node.name,
            version=node.version,
            address=node.address,
            state=NODE_STATES[node.state] if node.state < len(NODE_STATES) else NODE_STATES[0],
            uptime_seconds=node.uptime_ns / 1e9,
            kept=node.num_flows,
            capacity=node.max_flows,
            seen=node.seen_flows,
        )
        for node in GetNodesResponse.FromString(content).nodes
    )


def _call(target: Target, method: str, request: bytes, seconds: float) -> bytes:
    try:
        return _ask(target, method, request, seconds)
    except grpc.RpcError as error:
        raise explain(error, target) from error


def _ask(target: Target, method: str, request: bytes, seconds: float) -> bytes:
    with target.connect() as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(_SERVICE + method)
        return call(request, timeout=seconds)
