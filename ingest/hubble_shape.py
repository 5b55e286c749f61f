"""What is read of a Hubble event, and where it may stand.

A shape declares the nested columns that DuckDB is to read from lines of JSON, and gives the value
at a place such as `flow.source.workloads[].name` as a polars expression on them; `[]` stands for
the first element of a list. Every value is declared as text, so that one of the wrong type costs
nobody but itself.

There are two: lines as Cilium's exporter writes them, and every shape there is, which is slower:
with or without the envelope, by proto names or in camelCase.

Sources: `flow/flow.proto` and `observer/observer.proto` of Cilium 1.19.
"""

import re
from collections.abc import Iterator
from typing import Final

import polars as pl

__all__ = ["DECISIONS", "DIRECTIONS", "EVERY_SHAPE", "EXPORTER_SHAPE", "OTHER_EVENTS", "Shape"]

DIRECTIONS: Final = ("ingress", "egress")
DECISIONS: Final = ("denied", "allowed")
OTHER_EVENTS: Final = ("node_status", "agent_event", "debug_event")

_ENDPOINT: Final = ("namespace", "pod_name", "workloads[].name", "labels[]")
_PORTS: Final = ("source_port", "destination_port")
_FLOW: Final = (
    "time",
    "verdict",
    "drop_reason",
    "drop_reason_desc",
    "is_reply",
    "reply",
    "node_name",
    *(f"IP.{key}" for key in ("source", "destination", "encrypted")),
    *(f"l4.{name}.{port}" for name in ("TCP", "UDP", "SCTP") for port in _PORTS),
    "l4.TCP.flags",
    "l4.ICMPv4",
    "l4.ICMPv6",
    *(f"{end}.{key}" for end in ("source", "destination") for key in _ENDPOINT),
    "l7.type",
    *(f"l7.dns.{key}" for key in ("query", "rcode", "qtypes[]", "ips[]")),
    *(f"l7.http.{key}" for key in ("code", "method", "url", "headers")),
    "l7.kafka",
    *(
        f"{direction}_{decision}_by[].{key}"
        for direction in DIRECTIONS
        for decision in DECISIONS
        for key in ("namespace", "name")
    ),
    *(f"aggregate.{name}_flow_count" for name in (*DIRECTIONS, "unknown_direction")),
)
_EVENT: Final = (*(f"flow.{place}" for place in _FLOW), "lost_events.num_events_lost")
_ENVELOPE: Final = ("time", "node_name")


class Shape:
    """The columns to read, and expressions for what stands in them.

    `columns` is the argument of DuckDB's read_json by that name.
    """

    def __init__(self, *, every: bool) -> None:
        self._every = every
        places = [*_EVENT, *_ENVELOPE, *(OTHER_EVENTS if every else ())]
        tree = _tree(spelling for place in places for spelling in self._spellings(place))
        declared = (f"'{key}': '{type}'" for key, type in _types(tree))
        self.columns = f"{{{', '.join(declared)}}}"

    def value(self, *places: str) -> pl.Expr:
        """What stands at the first of `places` that has anything: text, for a leaf."""
        found = [_expression(spelling) for place in places for spelling in self._spellings(place)]
        return found[0] if len(found) == 1 else pl.coalesce(found)

    def present(self, *places: str) -> pl.Expr:
        """Whether something stands at one of `places`; for those inside of which others lie,
        whether it is an object.
        """
        spellings = (spelling for place in places for spelling in self._spellings(place))
        return pl.any_horizontal(_expression(spelling).is_not_null() for spelling in spellings)

    def _spellings(self, place: str) -> list[str]:
        if not self._every:
            return [place]
        shapes = [place, *([place.removeprefix("flow.")] if "." in place else [])]
        return list(dict.fromkeys([*shapes, *map(_camel, shapes)]))


_Tree = dict[str, "_Tree"]


def _tree(places: Iterator[str]) -> _Tree:
    root: _Tree = {}
    for place in places:
        node = root
        for key in place.split("."):
            node = node.setdefault(key, {})
    return root


def _types(tree: _Tree) -> Iterator[tuple[str, str]]:
    for key, below in tree.items():
        inner = ", ".join(f'"{name}" {type}' for name, type in _types(below))
        whole = f"STRUCT({inner})" if inner else "VARCHAR"
        yield key.removesuffix("[]"), whole + ("[]" if key.endswith("[]") else "")


def _expression(place: str) -> pl.Expr:
    column, *below = re.findall(r"\w+|\[\]", place)
    expression = pl.col(column)
    for key in below:
        if key == "[]":
            expression = expression.list.get(0, null_on_oob=True)
        else:
            expression = expression.struct.field(key)
    return expression


def _camel(place: str) -> str:
    return re.sub(r"_([a-z])", lambda found: found[1].upper(), place)


EXPORTER_SHAPE: Final = Shape(every=False)
EVERY_SHAPE: Final = Shape(every=True)
