from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SampledFlow(_message.Message):
    __slots__ = ("sampling_rate", "src_addr", "dst_addr", "octets", "packets", "sampler_address", "proto", "src_port", "dst_port", "forwarding_status", "tcp_flags", "etype", "time_received_ns", "time_flow_start_ns", "time_flow_end_ns")
    SAMPLING_RATE_FIELD_NUMBER: _ClassVar[int]
    SRC_ADDR_FIELD_NUMBER: _ClassVar[int]
    DST_ADDR_FIELD_NUMBER: _ClassVar[int]
    OCTETS_FIELD_NUMBER: _ClassVar[int]
    PACKETS_FIELD_NUMBER: _ClassVar[int]
    SAMPLER_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    PROTO_FIELD_NUMBER: _ClassVar[int]
    SRC_PORT_FIELD_NUMBER: _ClassVar[int]
    DST_PORT_FIELD_NUMBER: _ClassVar[int]
    FORWARDING_STATUS_FIELD_NUMBER: _ClassVar[int]
    TCP_FLAGS_FIELD_NUMBER: _ClassVar[int]
    ETYPE_FIELD_NUMBER: _ClassVar[int]
    TIME_RECEIVED_NS_FIELD_NUMBER: _ClassVar[int]
    TIME_FLOW_START_NS_FIELD_NUMBER: _ClassVar[int]
    TIME_FLOW_END_NS_FIELD_NUMBER: _ClassVar[int]
    sampling_rate: int
    src_addr: bytes
    dst_addr: bytes
    octets: int
    packets: int
    sampler_address: bytes
    proto: int
    src_port: int
    dst_port: int
    forwarding_status: int
    tcp_flags: int
    etype: int
    time_received_ns: int
    time_flow_start_ns: int
    time_flow_end_ns: int
    def __init__(self, sampling_rate: _Optional[int] = ..., src_addr: _Optional[bytes] = ..., dst_addr: _Optional[bytes] = ..., octets: _Optional[int] = ..., packets: _Optional[int] = ..., sampler_address: _Optional[bytes] = ..., proto: _Optional[int] = ..., src_port: _Optional[int] = ..., dst_port: _Optional[int] = ..., forwarding_status: _Optional[int] = ..., tcp_flags: _Optional[int] = ..., etype: _Optional[int] = ..., time_received_ns: _Optional[int] = ..., time_flow_start_ns: _Optional[int] = ..., time_flow_end_ns: _Optional[int] = ...) -> None: ...

class AgentFlow(_message.Message):
    __slots__ = ("eth_protocol", "direction", "time_flow_start", "time_flow_end", "network", "transport", "octets", "packets", "duplicate", "agent_ip", "flags", "pkt_drop_packets", "pkt_drop_latest_drop_cause", "dns_flags", "dns_latency", "network_events_metadata")
    ETH_PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    TIME_FLOW_START_FIELD_NUMBER: _ClassVar[int]
    TIME_FLOW_END_FIELD_NUMBER: _ClassVar[int]
    NETWORK_FIELD_NUMBER: _ClassVar[int]
    TRANSPORT_FIELD_NUMBER: _ClassVar[int]
    OCTETS_FIELD_NUMBER: _ClassVar[int]
    PACKETS_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    AGENT_IP_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    PKT_DROP_PACKETS_FIELD_NUMBER: _ClassVar[int]
    PKT_DROP_LATEST_DROP_CAUSE_FIELD_NUMBER: _ClassVar[int]
    DNS_FLAGS_FIELD_NUMBER: _ClassVar[int]
    DNS_LATENCY_FIELD_NUMBER: _ClassVar[int]
    NETWORK_EVENTS_METADATA_FIELD_NUMBER: _ClassVar[int]
    eth_protocol: int
    direction: int
    time_flow_start: Span
    time_flow_end: Span
    network: Network
    transport: Transport
    octets: int
    packets: int
    duplicate: bool
    agent_ip: Address
    flags: int
    pkt_drop_packets: int
    pkt_drop_latest_drop_cause: int
    dns_flags: int
    dns_latency: Span
    network_events_metadata: _containers.RepeatedCompositeFieldContainer[NetworkEvent]
    def __init__(self, eth_protocol: _Optional[int] = ..., direction: _Optional[int] = ..., time_flow_start: _Optional[_Union[Span, _Mapping[str, object]]] = ..., time_flow_end: _Optional[_Union[Span, _Mapping[str, object]]] = ..., network: _Optional[_Union[Network, _Mapping[str, object]]] = ..., transport: _Optional[_Union[Transport, _Mapping[str, object]]] = ..., octets: _Optional[int] = ..., packets: _Optional[int] = ..., duplicate: _Optional[bool] = ..., agent_ip: _Optional[_Union[Address, _Mapping[str, object]]] = ..., flags: _Optional[int] = ..., pkt_drop_packets: _Optional[int] = ..., pkt_drop_latest_drop_cause: _Optional[int] = ..., dns_flags: _Optional[int] = ..., dns_latency: _Optional[_Union[Span, _Mapping[str, object]]] = ..., network_events_metadata: _Optional[_Iterable[_Union[NetworkEvent, _Mapping[str, object]]]] = ...) -> None: ...

class Span(_message.Message):
    __slots__ = ("seconds", "nanos")
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    NANOS_FIELD_NUMBER: _ClassVar[int]
    seconds: int
    nanos: int
    def __init__(self, seconds: _Optional[int] = ..., nanos: _Optional[int] = ...) -> None: ...

class Network(_message.Message):
    __slots__ = ("src_addr", "dst_addr")
    SRC_ADDR_FIELD_NUMBER: _ClassVar[int]
    DST_ADDR_FIELD_NUMBER: _ClassVar[int]
    src_addr: Address
    dst_addr: Address
    def __init__(self, src_addr: _Optional[_Union[Address, _Mapping[str, object]]] = ..., dst_addr: _Optional[_Union[Address, _Mapping[str, object]]] = ...) -> None: ...

class Address(_message.Message):
    __slots__ = ("ipv4", "ipv6")
    IPV4_FIELD_NUMBER: _ClassVar[int]
    IPV6_FIELD_NUMBER: _ClassVar[int]
    ipv4: int
    ipv6: bytes
    def __init__(self, ipv4: _Optional[int] = ..., ipv6: _Optional[bytes] = ...) -> None: ...

class Transport(_message.Message):
    __slots__ = ("src_port", "dst_port", "protocol")
    SRC_PORT_FIELD_NUMBER: _ClassVar[int]
    DST_PORT_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    src_port: int
    dst_port: int
    protocol: int
    def __init__(self, src_port: _Optional[int] = ..., dst_port: _Optional[int] = ..., protocol: _Optional[int] = ...) -> None: ...

class NetworkEvent(_message.Message):
    __slots__ = ("events",)
    class EventsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: _containers.ScalarMap[str, str]
    def __init__(self, events: _Optional[_Mapping[str, str]] = ...) -> None: ...
