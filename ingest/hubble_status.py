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

__all__ = ["HubbleNode", "HubbleStatus", "hubble_nodes", "hubble_status", "too_early_to_follow"]

_Request = GetNodesRequest | ServerStatusRequest

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
        _call(target, "ServerStatus", ServerStatusRequest(), seconds)
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
        content = _ask(target, "GetNodes", GetNodesRequest(), seconds)
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


def too_early_to_follow(channel: grpc.Channel, seconds: float) -> bool:
    """Whether this is an agent that has just started: its ring does not hold two events yet.

    Who follows such a ring hears nothing until all of it was filled once, 4,095 events by default,
    and is then overtaken: `Ring.LastWriteParallel` and `Ring.readFrom` of Cilium 1.19. Waits up to
    `seconds`; False if there is no answer, for the call that is wanted will tell why.
    """
    try:
        content = _unary(channel, "ServerStatus", ServerStatusRequest(), seconds)
    except grpc.RpcError:
        return False
    answer = ServerStatusResponse.FromString(content)
    return answer.num_flows < 2 and not answer.HasField("num_connected_nodes")


def _call(target: Target, method: str, request: _Request, seconds: float) -> bytes:
    try:
        return _ask(target, method, request, seconds)
    except grpc.RpcError as error:
        raise explain(error, target) from error


def _ask(target: Target, method: str, request: _Request, seconds: float) -> bytes:
    with target.connect() as channel:
        return _unary(channel, method, request, seconds)


def _unary(channel: grpc.Channel, method: str, request: _Request, seconds: float) -> bytes:
    call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(_SERVICE + method)
    return call(request.SerializeToString(), timeout=seconds)
