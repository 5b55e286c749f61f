"""Made-up Hubble flows as the lines of JSON that Cilium writes, the same for the same seed."""

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

__all__ = ["hubble_lines", "uuid_of"]

_START_NS: Final = 1_795_425_242_000_000_000
_NODES: Final = ("prod/worker-a", "prod/worker-b", "prod/worker-c")
_WORKLOADS: Final = tuple(
    (namespace, name, kind)
    for namespace, names in {
        "shop": ("web", "checkout", "cart"),
        "data": ("orders-db", "cache"),
        "pay": ("ledger", "fraud-check"),
        "batch": ("report",),
    }.items()
    for name, kind in ((name, "StatefulSet" if "db" in name else "Deployment") for name in names)
)
_RESOLVER: Final = ("kube-system", "coredns", "Deployment")
_PATHS: Final = ("/", "/v1/entries", "/v1/entries/17?full=true", "/cart/3/items", "/healthz")
_NAMES: Final = ("ledger.pay.svc.cluster.local.", "api.partner.example.", "db.internal.example.")
_SYN: Final = {"SYN": True}
_FLAGS: Final = (
    (_SYN, False, "NEW"),
    ({"SYN": True, "ACK": True}, True, "REPLY"),
    ({"ACK": True, "PSH": True}, False, "ESTABLISHED"),
    ({"FIN": True, "ACK": True}, False, "ESTABLISHED"),
    ({"RST": True}, True, "REPLY"),
)


def hubble_lines(count: int, seed: int = 7, *, nodes: tuple[str, ...] = _NODES) -> list[bytes]:
    """`count` lines, about one a millisecond and a few out of order by some, as in a real ring.

    One in two hundred has no uuid, as those of some versions.
    """
    chance = random.Random(seed)
    return [
        json.dumps(event, separators=(",", ":")).encode() for event in _events(count, chance, nodes)
    ]


def uuid_of(line: bytes) -> str | None:
    """Which flow a line is about."""
    event: dict[str, Any] = json.loads(line)
    uuid: str | None = event.get("flow", {}).get("uuid")
    return uuid


def _events(count: int, chance: random.Random, nodes: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    at = _START_NS
    for number in range(count):
        at += chance.randrange(1, 2_000_000)
        late = chance.randrange(5_000_000) if number % 50 == 0 else 0
        time = _rfc3339(at - late)
        node = chance.choice(nodes)
        flow = {"time": time, **_flow(chance), "node_name": node}
        if number % 200:
            flow["uuid"] = _uuid(chance)
        yield {"flow": flow, "node_name": node, "time": time}


def _rfc3339(ns: int) -> str:
    """As Go's protojson writes a time: three digits at a time, as many as it takes."""
    whole = datetime.fromtimestamp(ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    digits = f"{ns % 1_000_000_000:09d}"
    while digits.endswith("000"):
        digits = digits[:-3]
    return f"{whole}.{digits}Z" if digits else f"{whole}Z"


def _uuid(chance: random.Random) -> str:
    digits = f"{chance.getrandbits(128):032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _flow(chance: random.Random) -> dict[str, Any]:
    client, server = chance.sample(_WORKLOADS, 2)
    port = chance.randrange(32_768, 61_000)
    match chance.randrange(20):
        case 0 | 1 | 2:
            return _dns(chance, client, port)
        case 3 | 4 | 5:
            return _http(chance, client, server, port)
        case 6 | 7:
            return _drop(chance, client, server, port)
        case 8:
            return _world(chance, client, port)
        case 9:
            return _ping(client, server)
        case _:
            flags, back, reason = chance.choice(_FLAGS)
            return {
                **_between(client, server, back, {"TCP": {"flags": flags}}, port, 5432),
                "verdict": "FORWARDED",
                "Type": "L3_L4",
                "event_type": {"type": 4, "sub_type": 3},
                "traffic_direction": "EGRESS",
                "trace_observation_point": "TO_STACK",
                "trace_reason": reason,
                "is_reply": back,
                "Summary": "TCP Flags: " + ", ".join(flags),
            }


def _dns(chance: random.Random, client: tuple[str, str, str], port: int) -> dict[str, Any]:
    back = chance.random() < 0.5
    query = chance.choice(_NAMES)
    if chance.random() < 0.3:
        query = f"{chance.getrandbits(60):x}.{query}"
    dns: dict[str, Any] = {"query": query, "observation_source": "proxy"}
    dns["qtypes"] = [chance.choice(("A", "AAAA"))]
    if back and chance.random() < 0.3:
        dns["rcode"] = 3
    elif back:
        dns |= {"ips": [f"10.96.{chance.randrange(256)}.10"], "ttl": 30, "rrtypes": ["A"]}
    return {
        **_between(client, _RESOLVER, back, {"UDP": {}}, port, 53),
        **_l7({"type": "RESPONSE" if back else "REQUEST", "dns": dns}, back),
    }


def _http(
    chance: random.Random, client: tuple[str, str, str], server: tuple[str, str, str], port: int
) -> dict[str, Any]:
    back = chance.random() < 0.5
    http: dict[str, Any] = {
        "method": chance.choice(("GET", "POST", "DELETE")),
        "url": f"http://{server[1]}.{server[0]}:8080{chance.choice(_PATHS)}",
        "protocol": "HTTP/1.1",
        "headers": [{"key": "X-Request-Id", "value": _uuid(chance)}],
    }
    l7: dict[str, Any] = {"type": "RESPONSE" if back else "REQUEST", "http": http}
    if back:
        http["code"] = chance.choice((200, 201, 204, 404, 500, 503))
        l7["latency_ns"] = str(chance.randrange(10**6, 10**8))
    return {
        **_between(client, server, back, {"TCP": {}}, port, 8080),
        **_l7(l7, back),
    }


def _l7(l7: dict[str, Any], back: bool) -> dict[str, Any]:
    return {
        "verdict": "FORWARDED",
        "Type": "L7",
        "l7": l7,
        "event_type": {"type": 129},
        "traffic_direction": "EGRESS",
        "is_reply": back,
    }


def _drop(
    chance: random.Random, client: tuple[str, str, str], server: tuple[str, str, str], port: int
) -> dict[str, Any]:
    reason, number = chance.choice((("POLICY_DENIED", 133), ("POLICY_DENY", 181)))
    policy = {"name": f"{server[1]}-clients", "namespace": server[0], "revision": "41"}
    return {
        **_between(client, server, False, {"TCP": {"flags": _SYN}}, port, 6379),
        "verdict": "DROPPED",
        "drop_reason": number,
        "drop_reason_desc": reason,
        "Type": "L3_L4",
        "event_type": {"type": 5},
        "traffic_direction": "INGRESS",
        "ingress_denied_by": [{**policy, "kind": "CiliumNetworkPolicy"}],
        "Summary": "TCP Flags: SYN",
    }


def _world(chance: random.Random, client: tuple[str, str, str], port: int) -> dict[str, Any]:
    six = chance.random() < 0.3
    flow = _between(client, client, False, {"TCP": {"flags": _SYN}}, port, 443)
    host = chance.randrange(1, 250)
    addresses = (
        {"source": "fd00:10::25", "destination": f"2001:db8:77::{host:x}", "ipVersion": "IPv6"}
        if six
        else {**flow["IP"], "destination": f"203.0.113.{host}", "source_xlated": "192.0.2.21"}
    )
    return {
        **flow,
        "verdict": "FORWARDED",
        "IP": addresses,
        "destination": {"identity": 2, "labels": ["reserved:world"]},
        "destination_names": ["api.partner.example"],
        "Type": "L3_L4",
        "event_type": {"type": 4, "sub_type": 11},
        "traffic_direction": "EGRESS",
        "trace_observation_point": "TO_NETWORK",
        "trace_reason": "NEW",
        "is_reply": False,
        "egress_allowed_by": [{"name": "partner-egress", "namespace": client[0]}],
    }


def _ping(client: tuple[str, str, str], server: tuple[str, str, str]) -> dict[str, Any]:
    return {
        **_between(client, server, False, {"ICMPv4": {"type": 8}}, 0, 0),
        "verdict": "FORWARDED",
        "Type": "L3_L4",
        "event_type": {"type": 4, "sub_type": 3},
        "traffic_direction": "EGRESS",
        "trace_observation_point": "TO_STACK",
        "is_reply": False,
    }


def _between(
    client: tuple[str, str, str],
    server: tuple[str, str, str],
    back: bool,
    l4: dict[str, dict[str, Any]],
    client_port: int,
    server_port: int,
) -> dict[str, Any]:
    """Ends and addresses as the client's node knows them: only its own end has a workload."""
    ends = [(_endpoint(*client, local=True), client), (_endpoint(*server, local=False), server)]
    ports = [client_port, server_port]
    if back:
        ends.reverse()
        ports.reverse()
    ((transport, fields),) = l4.items()
    if transport in ("TCP", "UDP"):
        fields = {"source_port": ports[0], "destination_port": ports[1], **fields}
    return {
        "IP": {
            "source": _address(ends[0][1]),
            "destination": _address(ends[1][1]),
            "ipVersion": "IPv4",
        },
        "l4": {transport: fields},
        "source": ends[0][0],
        "destination": ends[1][0],
    }


def _address(workload: tuple[str, str, str]) -> str:
    place = (*_WORKLOADS, _RESOLVER).index(workload)
    return f"10.42.{place % 4}.{20 + place}"


def _endpoint(namespace: str, name: str, kind: str, *, local: bool) -> dict[str, Any]:
    identity = 40_000 + (*_WORKLOADS, _RESOLVER).index((namespace, name, kind))
    labels = [
        f"k8s:app={name}",
        f"k8s:io.cilium.k8s.policy.serviceaccount={name}",
        f"k8s:io.kubernetes.pod.namespace={namespace}",
    ]
    endpoint = {
        "identity": identity,
        "cluster_name": "prod",
        "namespace": namespace,
        "labels": labels,
        "pod_name": f"{name}-0" if kind == "StatefulSet" else f"{name}-6c7d5b9f4d-k2vxp",
    }
    if local:
        endpoint |= {"ID": identity - 39_000, "workloads": [{"name": name, "kind": kind}]}
    return endpoint
