"""Envoy's command operators: what each prints, and which of it a client can have written.

An operator is *strict* when what it prints is the proxy's own and has a known form, and *free* when
it may be anything, as all that a client or a certificate says may. An operator that is not known
here is free. SNI is free too: it was printed raw until Envoy 1.31.2 (CVE-2024-45808).

Source: Envoy's documentation of access log formats, 1.40.
"""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from sidelong.errors import ConfigError

__all__ = [
    "APART",
    "ISTIO_KEYS",
    "Form",
    "Operator",
    "TimeForm",
    "field_of",
    "operator",
    "time_form",
]


class Form(Enum):
    """What a strict operator may print: a pattern, and the characters that never occur in it."""

    NUMBER = (r"[0-9]*|-", r"[^0-9-]")
    FLAGS = (r"[A-Za-z,]+|-", r"[^A-Za-z,-]")
    PROTOCOL = (r"HTTP/[0-9.]+|-", r"[^HTP/0-9.-]")
    ADDRESS = (r'[^\s",|;]*', r'[\s",|;]')
    TOKEN = (r'[^\s"]*', r'[\s"]')
    QUOTED = (r'[^"]*', r'["]')
    TIME = ("", r"[^0-9A-Za-z:.+-]")

    @property
    def pattern(self) -> str:
        """A regular expression without groups or anchors."""
        return self.value[0]

    @property
    def foreign(self) -> re.Pattern[str]:
        """Finds a character that this form cannot contain, so that it ends there."""
        return re.compile(self.value[1])


@dataclass(frozen=True, slots=True)
class TimeForm:
    """How a time is printed. pattern: as a regular expression; chrono: what polars reads it by.

    epoch: with how many decimals, if it is seconds since 1970. utc: it says no zone.
    """

    pattern: str
    chrono: str
    epoch: int | None = None
    utc: bool = True


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator of a format. field: the column it fills, if any; form: None where it is free."""

    name: str
    field: str | None = None
    form: Form | None = None
    time: TimeForm | None = None

    @property
    def pattern(self) -> str:
        """What it may print, as a regular expression without groups."""
        if self.time:
            return self.time.pattern
        return self.form.pattern if self.form else ".*"


_NUMBERS: Final = {
    "RESPONSE_CODE": "status",
    "BYTES_RECEIVED": "bytes_received",
    "BYTES_SENT": "bytes_sent",
    "DURATION": "duration_ms",
    "GRPC_STATUS_NUMBER": "grpc_status",
    **{
        f"{end}_PORT": f"{field}_port"
        for end, field in (
            ("DOWNSTREAM_REMOTE", "downstream_remote"),
            ("DOWNSTREAM_DIRECT_REMOTE", "downstream_direct_remote"),
            ("DOWNSTREAM_LOCAL", "downstream_local"),
            ("UPSTREAM_REMOTE", "upstream_remote"),
            ("UPSTREAM_LOCAL", "upstream_local"),
        )
    },
}
_UNUSED_NUMBERS: Final = frozenset(
    {
        *("REQUEST_DURATION", "REQUEST_TX_DURATION", "RESPONSE_DURATION"),
        *("RESPONSE_TX_DURATION", "CONNECTION_ID", "UPSTREAM_CONNECTION_ID"),
        *("UPSTREAM_REQUEST_ATTEMPT_COUNT", "UPSTREAM_WIRE_BYTES_SENT"),
        *("UPSTREAM_WIRE_BYTES_RECEIVED", "UPSTREAM_HEADER_BYTES_SENT"),
        *("UPSTREAM_HEADER_BYTES_RECEIVED", "DOWNSTREAM_WIRE_BYTES_SENT"),
        *("DOWNSTREAM_WIRE_BYTES_RECEIVED", "DOWNSTREAM_HEADER_BYTES_SENT"),
        *("DOWNSTREAM_HEADER_BYTES_RECEIVED", "REQUEST_HEADERS_BYTES"),
        *("RESPONSE_HEADERS_BYTES", "RESPONSE_TRAILERS_BYTES", "COMMON_DURATION"),
    }
)
_ADDRESSES: Final = {
    "DOWNSTREAM_REMOTE_ADDRESS": "downstream_remote",
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS": "downstream_direct_remote",
    "DOWNSTREAM_LOCAL_ADDRESS": "downstream_local",
    "UPSTREAM_HOST": "upstream_host",
    "UPSTREAM_REMOTE_ADDRESS": "upstream_remote",
    "UPSTREAM_LOCAL_ADDRESS": "upstream_local",
}
_WITHOUT_PORT: Final = "_WITHOUT_PORT"

APART: Final = "APART"
"""The argument by which an address stands for itself without its port, a colon, and its port."""

_TOKENS: Final = {
    "RESPONSE_CODE_DETAILS": "details",
    "CONNECTION_TERMINATION_DETAILS": "termination",
    "UPSTREAM_CLUSTER": "upstream_cluster",
    "UPSTREAM_CLUSTER_RAW": "upstream_cluster",
    "ROUTE_NAME": "route",
    "GRPC_STATUS": "grpc_status",
    "DOWNSTREAM_TLS_VERSION": "tls_version",
    "DOWNSTREAM_LOCAL_URI_SAN": "local_uri_san",
    "DOWNSTREAM_PEER_URI_SAN": "peer_uri_san",
    "UPSTREAM_PEER_URI_SAN": "upstream_peer_uri_san",
    "UPSTREAM_LOCAL_URI_SAN": "upstream_local_uri_san",
    "ACCESS_LOG_TYPE": "log_type",
    "HOSTNAME": "node",
}
_UNUSED_TOKENS: Final = frozenset(
    {
        *("UPSTREAM_PROTOCOL", "UPSTREAM_TLS_VERSION", "UPSTREAM_TLS_CIPHER"),
        *("UPSTREAM_TLS_SESSION_ID", "DOWNSTREAM_TLS_CIPHER", "DOWNSTREAM_TLS_SESSION_ID"),
        *("DOWNSTREAM_PEER_FINGERPRINT_256", "DOWNSTREAM_PEER_FINGERPRINT_1"),
        *("DOWNSTREAM_PEER_SERIAL", "DOWNSTREAM_PEER_CERT_V_START"),
        *("DOWNSTREAM_PEER_CERT_V_END", "VIRTUAL_CLUSTER_NAME", "STREAM_ID"),
        *("UPSTREAM_HOST_NAME", "ENVIRONMENT", "UPSTREAM_HOST_NAME_WITHOUT_PORT"),
    }
)
_ENVIRONMENT: Final = {
    "POD_NAME": "pod_name",
    "POD_NAMESPACE": "pod_namespace",
    "INSTANCE_IP": "ip",
    "POD_IP": "ip",
}
_HEADERS: Final = {
    ":METHOD": "method",
    ":PATH": "path",
    "X-ENVOY-ORIGINAL-PATH": "path",
    "X-FORWARDED-FOR": "x_forwarded_for",
    "X-FORWARDED-CLIENT-CERT": "xfcc",
}
_RBAC: Final = {
    "enforced_engine_result": "rbac_result",
    "enforced_effective_policy_id": "rbac_policy",
}
_RBAC_FILTERS: Final = ("envoy.filters.http.rbac", "envoy.filters.network.rbac")

ISTIO_KEYS: Final = {
    "start_time": "start_time",
    "method": "method",
    "path": "path",
    "protocol": "protocol",
    "status": "response_code",
    "flags": "response_flags",
    "details": "response_code_details",
    "termination": "connection_termination_details",
    "upstream_failure": "upstream_transport_failure_reason",
    "duration_ms": "duration",
    "bytes_received": "bytes_received",
    "bytes_sent": "bytes_sent",
    "upstream_host": "upstream_host",
    "upstream_cluster": "upstream_cluster",
    "upstream_local": "upstream_local_address",
    "downstream_local": "downstream_local_address",
    "downstream_remote": "downstream_remote_address",
    "downstream_direct_remote": "downstream_direct_remote_address",
    "sni": "requested_server_name",
    "route": "route_name",
    "x_forwarded_for": "x_forwarded_for",
}
"""The key in Istio's JSON of each field that it has."""


def operator(name: str, argument: str | None) -> Operator:
    """The operator `%NAME(ARGUMENT)%`. Errors: ConfigError for a time that cannot be read back."""
    whole = f"{name}({argument})" if argument is not None else name
    if name == "START_TIME":
        return Operator(whole, "start_time", Form.TIME, time_form(argument))
    if name in ("START_TIME_LOCAL", "EMIT_TIME", "EMIT_TIME_LOCAL"):
        return Operator(whole, None, Form.TIME, time_form(argument))
    if name == "PROTOCOL":
        return Operator(whole, "protocol", Form.PROTOCOL)
    if name in ("RESPONSE_FLAGS", "RESPONSE_FLAGS_LONG"):
        return Operator(whole, "flags", Form.FLAGS)
    if name == "RESPONSE_CODE_DETAILS" and argument:  # ALLOW_WHITESPACES
        return Operator(whole, "details", Form.QUOTED)
    if name == "UPSTREAM_TRANSPORT_FAILURE_REASON":  # with blanks before Envoy 1.26
        return Operator(whole, "upstream_failure", Form.QUOTED)
    if name in _NUMBERS or name in _UNUSED_NUMBERS:
        return Operator(whole, _NUMBERS.get(name), Form.NUMBER)
    bare = name.removesuffix(_WITHOUT_PORT)
    if bare in _ADDRESSES:
        suffix = "_ip" if bare != name else "_apart" if argument == APART else ""
        return Operator(
            bare if suffix == "_apart" else whole, _ADDRESSES[bare] + suffix, Form.ADDRESS
        )
    if name in _TOKENS or name in _UNUSED_TOKENS:
        field = _ENVIRONMENT.get(argument or "") if name == "ENVIRONMENT" else _TOKENS.get(name)
        return Operator(whole, field, Form.TOKEN)
    if name == "RESP" and (argument or "").upper() == "X-ENVOY-UPSTREAM-SERVICE-TIME":
        return Operator(whole, None, Form.NUMBER)  # the router writes it, over what was there
    if name == "DYNAMIC_METADATA":
        filter_, _, key = (argument or "").partition(":")
        if filter_ in _RBAC_FILTERS and key in _RBAC:
            return Operator(whole, _RBAC[key], Form.TOKEN)
    return Operator(whole, _free_field(name, argument or ""))


def field_of(name: str) -> str | None:
    """The field of an operator as it may stand in settings: `%REQ(:PATH)%`, `UPSTREAM_HOST`."""
    found = re.fullmatch(r"%?(?P<name>[A-Z0-9_]+)(?:\((?P<argument>.*)\))?%?", name)
    return operator(found["name"], found["argument"]).field if found else None


def _free_field(name: str, argument: str) -> str | None:
    if name == "REQ":
        names = argument.upper().split("?")
        return next((_HEADERS[header] for header in names if header in _HEADERS), None)
    return {"REQUESTED_SERVER_NAME": "sni", "PATH": "path"}.get(name)


_SPECIFIERS: Final = {
    "Y": r"[0-9]{4}",
    **dict.fromkeys("mdHMS", r"[0-9]{2}"),
    "T": r"[0-9]{2}:[0-9]{2}:[0-9]{2}",
    "F": r"[0-9]{4}-[0-9]{2}-[0-9]{2}",
    "b": r"[A-Z][a-z]{2}",
    "e": r"[ 0-9][0-9]",
    "z": r"[+-][0-9]{4}",
}
_DEFAULT_TIME: Final = "%Y-%m-%dT%H:%M:%S.%3fZ"
_SPECIFIER: Final = re.compile(r"%(?P<digits>[369]?)(?P<letter>.)|(?P<text>[^%]+)")
_EPOCH: Final = re.compile(r"%s(?:(?P<point>[.,]?)%(?P<digits>[369]?)f)?")


def time_form(format: str | None) -> TimeForm:
    """How `%START_TIME(FORMAT)%` prints a time, ISO with milliseconds by default.

    Errors: ConfigError for a specifier that is not understood.
    """
    format = format or _DEFAULT_TIME
    if epoch := _EPOCH.fullmatch(format):
        digits = epoch["digits"]
        places = 0 if digits is None else int(digits or 9)
        point = re.escape(epoch["point"] or "")
        return TimeForm("[0-9]{10}" + point + f"[0-9]{{{places}}}", "", epoch=places)
    pattern, chrono = "", ""
    for part in _SPECIFIER.finditer(format):
        letter, digits, text = part["letter"], part["digits"], part["text"]
        if text:
            pattern += re.escape(text)
            chrono += text
        elif letter == "f":
            pattern += f"[0-9]{{{digits or 9}}}"
            chrono += f"%{digits or 9}f"
        elif letter == "Z" and not digits:
            pattern += "UTC"
            chrono += "UTC"
        elif letter in _SPECIFIERS and not digits:
            pattern += _SPECIFIERS[letter]
            chrono += f"%{letter}"
        else:
            raise ConfigError(
                f"the time format {format!r} has {part.group()!r}, which is not understood",
                hint="log %START_TIME% as it is by default",
            )
    return TimeForm(pattern, chrono, utc="%z" not in format)
