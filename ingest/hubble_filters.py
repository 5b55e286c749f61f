"""Which flows to be sent: filters as a user writes them, to those of Hubble.

A filter is a table of conditions that must all hold; each has one value, or several of which any
will do. A flow is sent if it fits any filter of `allow`, or there is none, and none of `deny`:

    allow = [{ namespace = "shop" }, { verdict = "DROPPED", port = [53, 443] }]
    deny  = [{ label = "k8s:app=load-test" }]

`namespace`, `pod`, `ip`, `port`, `label`, `identity`, `service`, `fqdn` and `workload` fit either
end of a flow; with `source_` or `destination_` before them, that end.

Source: `FlowFilter` in `flow/flow.proto` of Cilium 1.19, and the options of its `hubble observe`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import Final

from sidelong.errors import ConfigError
from sidelong.ingest.hubble_names import VERDICTS_BY_NUMBER
from sidelong.ingest.hubble_pb2 import FlowFilter, Workload

__all__ = ["FILTER_KEYS", "flow_filters"]

Value = str | int | bool

_ENDS: Final = ("source", "destination")
_EITHER: Final = (
    "namespace",
    "pod",
    "ip",
    "port",
    "label",
    "identity",
    "service",
    "fqdn",
    "workload",
)
_NUMBERED: Final = {name: int(number) for number, name in VERDICTS_BY_NUMBER.items()}
_DIRECTIONS: Final = {"ingress": 1, "egress": 2}


def _text(value: Value) -> str:
    if isinstance(value, bool) or value == "":
        raise ValueError("a text")
    return str(value)


def _number(value: Value) -> int:
    if isinstance(value, bool) or not str(value).isdecimal():
        raise ValueError("a number")
    return int(value)


def _port(value: Value) -> str:
    if not 0 < _number(value) < 1 << 16:
        raise ValueError("a port, 1 to 65535")
    return str(value)


def _identity(value: Value) -> int:
    if _number(value) >= 1 << 32:
        raise ValueError("a number of 32 bits")
    return int(value)


def _boolean(value: Value) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _verdict(value: Value) -> int:
    if str(value).upper() not in _NUMBERED:
        raise ValueError(f"one of {', '.join(_NUMBERED)}")
    return _NUMBERED[str(value).upper()]


def _direction(value: Value) -> int:
    if str(value).lower() not in _DIRECTIONS:
        raise ValueError("ingress or egress")
    return _DIRECTIONS[str(value).lower()]


def _pod(value: Value) -> str:
    """NAMESPACE/PREFIX; without a slash, in any namespace."""
    return _text(value) if "/" in str(value) else f"/{_text(value)}"


def _namespace(value: Value) -> str:
    if "/" in str(value):
        raise ValueError("a namespace alone; pod takes NAMESPACE/PREFIX")
    return f"{_text(value)}/"


def _workload(value: Value) -> Workload:
    """NAME, or KIND/NAME."""
    kind, _, name = _text(value).rpartition("/")
    return Workload(name=name, kind=kind)


_Read = Callable[[Value], object]

# By key: the field of FlowFilter, without its end where it has one, and how a value is read.
_ENDED: Final[dict[str, tuple[str, _Read]]] = {
    "namespace": ("pod", _namespace),
    "pod": ("pod", _pod),
    "ip": ("ip", _text),
    "port": ("port", _port),
    "label": ("label", _text),
    "identity": ("identity", _identity),
    "service": ("service", _text),
    "fqdn": ("fqdn", _text),
    "workload": ("workload", _workload),
}
_WHOLE: Final[dict[str, tuple[str, _Read]]] = {
    "verdict": ("verdict", _verdict),
    "protocol": ("protocol", _text),
    "reply": ("reply", _boolean),
    "direction": ("traffic_direction", _direction),
    "node_name": ("node_name", _text),
    "dns_query": ("dns_query", _text),
    "http_method": ("http_method", _text),
    "http_path": ("http_path", _text),
    "http_status": ("http_status_code", _text),
}

FILTER_KEYS: Final = (*_EITHER, *(f"{end}_{key}" for end in _ENDS for key in _EITHER), *_WHOLE)
"""What a filter may be about."""


def flow_filters(name: str, filters: Sequence[Mapping[str, object]]) -> list[FlowFilter]:
    """Hubble's filters for those that a user wrote as `name`, "allow" or "deny".

    One about either end of a flow becomes two. Errors: ConfigError for keys and values that cannot
    be; a pattern or a selector of labels is left for Hubble to judge.
    """
    return [made for written in filters for made in _expanded(name, written)]


def _expanded(name: str, written: Mapping[str, object]) -> Iterator[FlowFilter]:
    if not written:
        raise ConfigError(
            f"a filter of hubble.{name} is empty", hint=f"one of {', '.join(FILTER_KEYS)}"
        )
    either = [key for key in written if key in _EITHER]
    for chosen in product(_ENDS, repeat=len(either)):
        ends = dict(zip(either, chosen, strict=True))
        made = FlowFilter()
        said_by: dict[str, str] = {}
        for key, value in written.items():
            field, read = _field(name, key, ends.get(key))
            if field in said_by:  # Hubble would take either, a user who writes both means both
                raise ConfigError(
                    f"a filter of hubble.{name} has both {said_by[field]} and {key}",
                    hint='one of them: a pod may be "NAMESPACE/PREFIX", and values a list',
                )
            said_by[field] = key
            getattr(made, field).extend(_values(name, key, value, read))
        yield made


def _field(name: str, key: str, end: str | None) -> tuple[str, _Read]:
    if key in _WHOLE:
        return _WHOLE[key]
    if end is None:
        end, _, key_there = key.partition("_")
        if end not in _ENDS or key_there not in _ENDED:
            raise ConfigError(
                f"a filter of hubble.{name} is about {key!r}, which is nothing to filter by",
                hint=f"one of {', '.join(FILTER_KEYS)}",
            )
        key = key_there
    field, read = _ENDED[key]
    return f"{end}_{field}", read


def _values(name: str, key: str, value: object, read: _Read) -> list[object]:
    values = list(value) if isinstance(value, list | tuple) else [value]
    if not values:
        raise ConfigError(f"{key} in hubble.{name} is empty", hint="a value, or several")
    made = []
    for each in values:
        try:
            if not isinstance(each, str | int):
                raise ValueError("a text or a number")
            made.append(read(each))
        except ValueError as error:
            raise ConfigError(f"{key} in hubble.{name} is {each!r}", hint=str(error)) from error
    return made
