from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class StreamAccessLogsMessage(_message.Message):
    __slots__ = ("identifier", "http_logs", "tcp_logs")
    IDENTIFIER_FIELD_NUMBER: _ClassVar[int]
    HTTP_LOGS_FIELD_NUMBER: _ClassVar[int]
    TCP_LOGS_FIELD_NUMBER: _ClassVar[int]
    identifier: Identifier
    http_logs: HttpLogs
    tcp_logs: TcpLogs
    def __init__(self, identifier: _Optional[_Union[Identifier, _Mapping[str, object]]] = ..., http_logs: _Optional[_Union[HttpLogs, _Mapping[str, object]]] = ..., tcp_logs: _Optional[_Union[TcpLogs, _Mapping[str, object]]] = ...) -> None: ...

class HttpLogs(_message.Message):
    __slots__ = ("log_entry",)
    LOG_ENTRY_FIELD_NUMBER: _ClassVar[int]
    log_entry: _containers.RepeatedCompositeFieldContainer[HttpEntry]
    def __init__(self, log_entry: _Optional[_Iterable[_Union[HttpEntry, _Mapping[str, object]]]] = ...) -> None: ...

class TcpLogs(_message.Message):
    __slots__ = ("log_entry",)
    LOG_ENTRY_FIELD_NUMBER: _ClassVar[int]
    log_entry: _containers.RepeatedCompositeFieldContainer[TcpEntry]
    def __init__(self, log_entry: _Optional[_Iterable[_Union[TcpEntry, _Mapping[str, object]]]] = ...) -> None: ...

class Identifier(_message.Message):
    __slots__ = ("node", "log_name")
    NODE_FIELD_NUMBER: _ClassVar[int]
    LOG_NAME_FIELD_NUMBER: _ClassVar[int]
    node: Node
    log_name: str
    def __init__(self, node: _Optional[_Union[Node, _Mapping[str, object]]] = ..., log_name: _Optional[str] = ...) -> None: ...

class Node(_message.Message):
    __slots__ = ("id", "cluster", "metadata")
    ID_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    id: str
    cluster: str
    metadata: Struct
    def __init__(self, id: _Optional[str] = ..., cluster: _Optional[str] = ..., metadata: _Optional[_Union[Struct, _Mapping[str, object]]] = ...) -> None: ...

class Struct(_message.Message):
    __slots__ = ("fields",)
    class FieldsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Value, _Mapping[str, object]]] = ...) -> None: ...
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    fields: _containers.MessageMap[str, Value]
    def __init__(self, fields: _Optional[_Mapping[str, Value]] = ...) -> None: ...

class Value(_message.Message):
    __slots__ = ("string_value",)
    STRING_VALUE_FIELD_NUMBER: _ClassVar[int]
    string_value: str
    def __init__(self, string_value: _Optional[str] = ...) -> None: ...

class HttpEntry(_message.Message):
    __slots__ = ("common_properties", "protocol_version", "request", "response")
    COMMON_PROPERTIES_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    common_properties: Common
    protocol_version: int
    request: Request
    response: Response
    def __init__(self, common_properties: _Optional[_Union[Common, _Mapping[str, object]]] = ..., protocol_version: _Optional[int] = ..., request: _Optional[_Union[Request, _Mapping[str, object]]] = ..., response: _Optional[_Union[Response, _Mapping[str, object]]] = ...) -> None: ...

class TcpEntry(_message.Message):
    __slots__ = ("common_properties", "connection_properties")
    COMMON_PROPERTIES_FIELD_NUMBER: _ClassVar[int]
    CONNECTION_PROPERTIES_FIELD_NUMBER: _ClassVar[int]
    common_properties: Common
    connection_properties: Connection
    def __init__(self, common_properties: _Optional[_Union[Common, _Mapping[str, object]]] = ..., connection_properties: _Optional[_Union[Connection, _Mapping[str, object]]] = ...) -> None: ...

class Connection(_message.Message):
    __slots__ = ("received_bytes", "sent_bytes")
    RECEIVED_BYTES_FIELD_NUMBER: _ClassVar[int]
    SENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    received_bytes: int
    sent_bytes: int
    def __init__(self, received_bytes: _Optional[int] = ..., sent_bytes: _Optional[int] = ...) -> None: ...

class Common(_message.Message):
    __slots__ = ("downstream_remote_address", "downstream_local_address", "tls_properties", "start_time", "time_to_last_downstream_tx_byte", "upstream_remote_address", "upstream_local_address", "upstream_cluster", "response_flags", "metadata", "upstream_transport_failure_reason", "route_name", "downstream_direct_remote_address", "duration", "connection_termination_details", "access_log_type")
    DOWNSTREAM_REMOTE_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    DOWNSTREAM_LOCAL_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    TLS_PROPERTIES_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    TIME_TO_LAST_DOWNSTREAM_TX_BYTE_FIELD_NUMBER: _ClassVar[int]
    UPSTREAM_REMOTE_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    UPSTREAM_LOCAL_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    UPSTREAM_CLUSTER_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FLAGS_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    UPSTREAM_TRANSPORT_FAILURE_REASON_FIELD_NUMBER: _ClassVar[int]
    ROUTE_NAME_FIELD_NUMBER: _ClassVar[int]
    DOWNSTREAM_DIRECT_REMOTE_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    DURATION_FIELD_NUMBER: _ClassVar[int]
    CONNECTION_TERMINATION_DETAILS_FIELD_NUMBER: _ClassVar[int]
    ACCESS_LOG_TYPE_FIELD_NUMBER: _ClassVar[int]
    downstream_remote_address: Address
    downstream_local_address: Address
    tls_properties: bytes
    start_time: Span
    time_to_last_downstream_tx_byte: Span
    upstream_remote_address: Address
    upstream_local_address: Address
    upstream_cluster: str
    response_flags: bytes
    metadata: bytes
    upstream_transport_failure_reason: str
    route_name: str
    downstream_direct_remote_address: Address
    duration: Span
    connection_termination_details: str
    access_log_type: int
    def __init__(self, downstream_remote_address: _Optional[_Union[Address, _Mapping[str, object]]] = ..., downstream_local_address: _Optional[_Union[Address, _Mapping[str, object]]] = ..., tls_properties: _Optional[bytes] = ..., start_time: _Optional[_Union[Span, _Mapping[str, object]]] = ..., time_to_last_downstream_tx_byte: _Optional[_Union[Span, _Mapping[str, object]]] = ..., upstream_remote_address: _Optional[_Union[Address, _Mapping[str, object]]] = ..., upstream_local_address: _Optional[_Union[Address, _Mapping[str, object]]] = ..., upstream_cluster: _Optional[str] = ..., response_flags: _Optional[bytes] = ..., metadata: _Optional[bytes] = ..., upstream_transport_failure_reason: _Optional[str] = ..., route_name: _Optional[str] = ..., downstream_direct_remote_address: _Optional[_Union[Address, _Mapping[str, object]]] = ..., duration: _Optional[_Union[Span, _Mapping[str, object]]] = ..., connection_termination_details: _Optional[str] = ..., access_log_type: _Optional[int] = ...) -> None: ...

class Span(_message.Message):
    __slots__ = ("seconds", "nanos")
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    NANOS_FIELD_NUMBER: _ClassVar[int]
    seconds: int
    nanos: int
    def __init__(self, seconds: _Optional[int] = ..., nanos: _Optional[int] = ...) -> None: ...

class Address(_message.Message):
    __slots__ = ("socket_address",)
    SOCKET_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    socket_address: SocketAddress
    def __init__(self, socket_address: _Optional[_Union[SocketAddress, _Mapping[str, object]]] = ...) -> None: ...

class SocketAddress(_message.Message):
    __slots__ = ("address", "port_value")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    PORT_VALUE_FIELD_NUMBER: _ClassVar[int]
    address: str
    port_value: int
    def __init__(self, address: _Optional[str] = ..., port_value: _Optional[int] = ...) -> None: ...

class Request(_message.Message):
    __slots__ = ("request_method", "path", "forwarded_for", "request_body_bytes")
    REQUEST_METHOD_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    FORWARDED_FOR_FIELD_NUMBER: _ClassVar[int]
    REQUEST_BODY_BYTES_FIELD_NUMBER: _ClassVar[int]
    request_method: int
    path: str
    forwarded_for: str
    request_body_bytes: int
    def __init__(self, request_method: _Optional[int] = ..., path: _Optional[str] = ..., forwarded_for: _Optional[str] = ..., request_body_bytes: _Optional[int] = ...) -> None: ...

class Response(_message.Message):
    __slots__ = ("response_code", "response_body_bytes", "response_trailers", "response_code_details")
    class ResponseTrailersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    RESPONSE_CODE_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_BODY_BYTES_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_TRAILERS_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_CODE_DETAILS_FIELD_NUMBER: _ClassVar[int]
    response_code: UInt32
    response_body_bytes: int
    response_trailers: _containers.ScalarMap[str, str]
    response_code_details: str
    def __init__(self, response_code: _Optional[_Union[UInt32, _Mapping[str, object]]] = ..., response_body_bytes: _Optional[int] = ..., response_trailers: _Optional[_Mapping[str, str]] = ..., response_code_details: _Optional[str] = ...) -> None: ...

class UInt32(_message.Message):
    __slots__ = ("value",)
    VALUE_FIELD_NUMBER: _ClassVar[int]
    value: int
    def __init__(self, value: _Optional[int] = ...) -> None: ...

class Tls(_message.Message):
    __slots__ = ("tls_version", "tls_sni_hostname", "local_certificate_properties", "peer_certificate_properties")
    TLS_VERSION_FIELD_NUMBER: _ClassVar[int]
    TLS_SNI_HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    LOCAL_CERTIFICATE_PROPERTIES_FIELD_NUMBER: _ClassVar[int]
    PEER_CERTIFICATE_PROPERTIES_FIELD_NUMBER: _ClassVar[int]
    tls_version: int
    tls_sni_hostname: str
    local_certificate_properties: Certificate
    peer_certificate_properties: Certificate
    def __init__(self, tls_version: _Optional[int] = ..., tls_sni_hostname: _Optional[str] = ..., local_certificate_properties: _Optional[_Union[Certificate, _Mapping[str, object]]] = ..., peer_certificate_properties: _Optional[_Union[Certificate, _Mapping[str, object]]] = ...) -> None: ...

class Certificate(_message.Message):
    __slots__ = ("subject_alt_name",)
    SUBJECT_ALT_NAME_FIELD_NUMBER: _ClassVar[int]
    subject_alt_name: _containers.RepeatedCompositeFieldContainer[Name]
    def __init__(self, subject_alt_name: _Optional[_Iterable[_Union[Name, _Mapping[str, object]]]] = ...) -> None: ...

class Name(_message.Message):
    __slots__ = ("uri",)
    URI_FIELD_NUMBER: _ClassVar[int]
    uri: str
    def __init__(self, uri: _Optional[str] = ...) -> None: ...

class Metadata(_message.Message):
    __slots__ = ("filter_metadata",)
    class FilterMetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: bytes
        def __init__(self, key: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...
    FILTER_METADATA_FIELD_NUMBER: _ClassVar[int]
    filter_metadata: _containers.ScalarMap[str, bytes]
    def __init__(self, filter_metadata: _Optional[_Mapping[str, bytes]] = ...) -> None: ...

class Flags(_message.Message):
    __slots__ = ("LH", "UH", "UT", "LR", "UR", "UF", "UC", "UO", "NR", "DI", "FI", "RL", "UAEX", "RLSE", "DC", "URX", "SI", "IH", "DPE", "UMSDR", "RFCF", "NFCF", "DT", "UPE", "NC", "OM", "DF", "DR")
    LH_FIELD_NUMBER: _ClassVar[int]
    UH_FIELD_NUMBER: _ClassVar[int]
    UT_FIELD_NUMBER: _ClassVar[int]
    LR_FIELD_NUMBER: _ClassVar[int]
    UR_FIELD_NUMBER: _ClassVar[int]
    UF_FIELD_NUMBER: _ClassVar[int]
    UC_FIELD_NUMBER: _ClassVar[int]
    UO_FIELD_NUMBER: _ClassVar[int]
    NR_FIELD_NUMBER: _ClassVar[int]
    DI_FIELD_NUMBER: _ClassVar[int]
    FI_FIELD_NUMBER: _ClassVar[int]
    RL_FIELD_NUMBER: _ClassVar[int]
    UAEX_FIELD_NUMBER: _ClassVar[int]
    RLSE_FIELD_NUMBER: _ClassVar[int]
    DC_FIELD_NUMBER: _ClassVar[int]
    URX_FIELD_NUMBER: _ClassVar[int]
    SI_FIELD_NUMBER: _ClassVar[int]
    IH_FIELD_NUMBER: _ClassVar[int]
    DPE_FIELD_NUMBER: _ClassVar[int]
    UMSDR_FIELD_NUMBER: _ClassVar[int]
    RFCF_FIELD_NUMBER: _ClassVar[int]
    NFCF_FIELD_NUMBER: _ClassVar[int]
    DT_FIELD_NUMBER: _ClassVar[int]
    UPE_FIELD_NUMBER: _ClassVar[int]
    NC_FIELD_NUMBER: _ClassVar[int]
    OM_FIELD_NUMBER: _ClassVar[int]
    DF_FIELD_NUMBER: _ClassVar[int]
    DR_FIELD_NUMBER: _ClassVar[int]
    LH: bool
    UH: bool
    UT: bool
    LR: bool
    UR: bool
    UF: bool
    UC: bool
    UO: bool
    NR: bool
    DI: bool
    FI: bool
    RL: bool
    UAEX: Unauthorized
    RLSE: bool
    DC: bool
    URX: bool
    SI: bool
    IH: bool
    DPE: bool
    UMSDR: bool
    RFCF: bool
    NFCF: bool
    DT: bool
    UPE: bool
    NC: bool
    OM: bool
    DF: bool
    DR: bool
    def __init__(self, LH: _Optional[bool] = ..., UH: _Optional[bool] = ..., UT: _Optional[bool] = ..., LR: _Optional[bool] = ..., UR: _Optional[bool] = ..., UF: _Optional[bool] = ..., UC: _Optional[bool] = ..., UO: _Optional[bool] = ..., NR: _Optional[bool] = ..., DI: _Optional[bool] = ..., FI: _Optional[bool] = ..., RL: _Optional[bool] = ..., UAEX: _Optional[_Union[Unauthorized, _Mapping[str, object]]] = ..., RLSE: _Optional[bool] = ..., DC: _Optional[bool] = ..., URX: _Optional[bool] = ..., SI: _Optional[bool] = ..., IH: _Optional[bool] = ..., DPE: _Optional[bool] = ..., UMSDR: _Optional[bool] = ..., RFCF: _Optional[bool] = ..., NFCF: _Optional[bool] = ..., DT: _Optional[bool] = ..., UPE: _Optional[bool] = ..., NC: _Optional[bool] = ..., OM: _Optional[bool] = ..., DF: _Optional[bool] = ..., DR: _Optional[bool] = ...) -> None: ...

class Unauthorized(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: int
    def __init__(self, reason: _Optional[int] = ...) -> None: ...
