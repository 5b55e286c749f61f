"""Hubble's API as a server has it, for tests: JSON of an exporter to messages as they are sent.

The schema is wider than what ingest/hubble.proto reads of it, names its enumerations and has real
messages where that has bytes. Sources: the protos of Cilium 1.19.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.message import Message

from sidelong.ingest.hubble_names import DROP_REASONS

__all__ = ["message_of", "response_class", "wire", "wire_lines"]

_PROTO: Final = """
syntax = "proto3";
package api;
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";

message GetFlowsResponse {
  oneof response_types {
    Flow flow = 1;
    NodeStatusEvent node_status = 2;
    LostEvent lost_events = 3;
    AgentEvent agent_event = 4;
    AgentEvent debug_event = 5;
  }
  string node_name = 1000;
  google.protobuf.Timestamp time = 1001;
}
message AgentEvent { uint32 type = 1; }
enum NodeState {
  UNKNOWN_NODE_STATE = 0; NODE_CONNECTED = 1; NODE_UNAVAILABLE = 2; NODE_GONE = 3; NODE_ERROR = 4;
}
message NodeStatusEvent {
  NodeState state_change = 1; repeated string node_names = 2; string message = 3;
}
enum LostEventSource {
  UNKNOWN_LOST = 0; PERF_EVENT_RING_BUFFER = 1; OBSERVER_EVENTS_QUEUE = 2; HUBBLE_RING_BUFFER = 3;
}
message LostEvent {
  LostEventSource source = 1; uint64 num_events_lost = 2; google.protobuf.Int32Value cpu = 3;
  google.protobuf.Timestamp first = 4; google.protobuf.Timestamp last = 5;
}
enum Verdict {
  VERDICT_UNKNOWN = 0; FORWARDED = 1; DROPPED = 2; ERROR = 3; AUDIT = 4; REDIRECTED = 5;
  TRACED = 6; TRANSLATED = 7;
}
enum DropReason { DROP_REASON_UNKNOWN = 0; %(reasons)s }
enum FlowType { UNKNOWN_TYPE = 0; L3_L4 = 1; L7 = 2; SOCK = 3; }
enum TrafficDirection { TRAFFIC_DIRECTION_UNKNOWN = 0; INGRESS = 1; EGRESS = 2; }
enum TraceReason {
  TRACE_REASON_UNKNOWN = 0; NEW = 1; ESTABLISHED = 2; REPLY = 3; RELATED = 4; REOPENED = 5;
}
message Flow {
  google.protobuf.Timestamp time = 1;
  Verdict verdict = 2;
  uint32 drop_reason = 3;
  Ethernet ethernet = 4;
  IP IP = 5;
  Layer4 l4 = 6;
  Endpoint source = 8;
  Endpoint destination = 9;
  FlowType Type = 10;
  string node_name = 11;
  repeated string source_names = 13;
  repeated string destination_names = 14;
  Layer7 l7 = 15;
  bool reply = 16;
  EventType event_type = 19;
  Service source_service = 20;
  Service destination_service = 21;
  TrafficDirection traffic_direction = 22;
  uint32 policy_match_type = 23;
  DropReason drop_reason_desc = 25;
  google.protobuf.BoolValue is_reply = 26;
  string uuid = 34;
  TraceReason trace_reason = 36;
  repeated string node_labels = 37;
  repeated Policy egress_allowed_by = 21001;
  repeated Policy ingress_allowed_by = 21002;
  repeated Policy egress_denied_by = 21004;
  repeated Policy ingress_denied_by = 21005;
  repeated string policy_log = 21006;
  Aggregate aggregate = 21007;
  string Summary = 100000;
}
message Ethernet { string source = 1; string destination = 2; }
enum IPVersion { IP_NOT_USED = 0; IPv4 = 1; IPv6 = 2; }
message IP {
  string source = 1; string destination = 2; IPVersion ipVersion = 3; bool encrypted = 4;
  string source_xlated = 5;
}
message Layer4 {
  oneof protocol {
    TCP TCP = 1; UDP UDP = 2; ICMP ICMPv4 = 3; ICMP ICMPv6 = 4; UDP SCTP = 5; VRRP VRRP = 6;
  }
}
message TCP { uint32 source_port = 1; uint32 destination_port = 2; TCPFlags flags = 3; }
message TCPFlags {
  bool FIN = 1; bool SYN = 2; bool RST = 3; bool PSH = 4; bool ACK = 5; bool URG = 6;
  bool ECE = 7; bool CWR = 8; bool NS = 9;
}
message UDP { uint32 source_port = 1; uint32 destination_port = 2; }
message ICMP { uint32 type = 1; uint32 code = 2; }
message VRRP { uint32 type = 1; }
message Endpoint {
  uint32 ID = 1; uint32 identity = 2; string namespace = 3; repeated string labels = 4;
  string pod_name = 5; repeated Workload workloads = 6; string cluster_name = 7;
}
message Workload { string name = 1; string kind = 2; }
message EventType { int32 type = 1; int32 sub_type = 2; }
message Service { string name = 1; string namespace = 2; }
enum L7FlowType { UNKNOWN_L7_TYPE = 0; REQUEST = 1; RESPONSE = 2; SAMPLE = 3; }
message Layer7 {
  L7FlowType type = 1; uint64 latency_ns = 2;
  oneof record { DNS dns = 100; HTTP http = 101; Kafka kafka = 102; }
}
message DNS {
  string query = 1; repeated string ips = 2; uint32 ttl = 3; repeated string cnames = 4;
  string observation_source = 5; uint32 rcode = 6; repeated string qtypes = 7;
  repeated string rrtypes = 8;
}
message HTTP {
  uint32 code = 1; string method = 2; string url = 3; string protocol = 4;
  repeated Header headers = 5;
}
message Header { string key = 1; string value = 2; }
message Kafka { int32 error_code = 1; string topic = 5; }
message Policy {
  string name = 1; string namespace = 2; repeated string labels = 3; uint64 revision = 4;
  string kind = 5;
}
message Aggregate {
  uint32 ingress_flow_count = 1; uint32 egress_flow_count = 2;
  uint32 unknown_direction_flow_count = 3;
}
"""


@cache
def response_class() -> type[Message]:
    """The message that a server sends; compiled anew, and apart from every other pool."""
    reasons = " ".join(f"{name} = {number};" for number, name in DROP_REASONS.items())
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "api.proto").write_text(_PROTO % {"reasons": reasons})
        out = Path(folder, "api.bin")
        arguments = [f"-I{folder}", "--include_imports", f"-o{out}", "api.proto"]
        subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *arguments], check=True)
        files = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("api.GetFlowsResponse"))


def message_of(event: dict[str, Any]) -> Message:
    """The message of an event as the exporter writes it; one without an envelope gets one."""
    if not {"flow", "lost_events", "node_status", "agent_event", "debug_event"} & event.keys():
        event = {"flow": event}
    return json_format.ParseDict(event, response_class()(), ignore_unknown_fields=True)


def wire(event: dict[str, Any]) -> bytes:
    """The same, serialized."""
    return message_of(event).SerializeToString()


def wire_lines(lines: Iterable[bytes | str]) -> list[bytes]:
    """The serialized message of each line of JSON."""
    return [wire(json.loads(line)) for line in lines if line.strip()]
