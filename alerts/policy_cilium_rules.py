"""How Cilium judges one direction of connections.

Denials win over everything; a pod is open in a direction until a policy that selects it asks for
the default to deny there; a DNS rule refuses other names even where nothing is denied by default;
a domain's addresses are known only from answers that passed a DNS rule.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sidelong.alerts.policy_ends import CILIUM_NAMESPACE, End, Ends, matches_name

__all__ = ["cilium_passes"]

_Mask = NDArray[np.bool_]
_TRANSPORTS: Final = ("TCP", "UDP", "SCTP")
_NAMELESS: Final = ("ToPorts", "toPorts", "icmps")


def cilium_passes(
    policies: Sequence[Mapping[str, Any]],
    rows: pl.DataFrame,
    subjects: Ends,
    fars: Ends,
    direction: str,
) -> _Mask:
    """Row for row, whether the policies of the subjects let a connection pass in a direction.

    rows: `port`, `protocol`, `name`. subjects: the ends whose policies are asked, fars the others.
    """
    nothing = np.zeros(rows.height, np.bool_)
    isolated, denied, plain, limited, named = (nothing.copy() for _ in range(5))
    side = "from" if direction == "ingress" else "to"
    if direction == "ingress":  # the kubelet must be able to probe
        plain |= fars.where(lambda end: end.far.kind == "nodes" and end.far.name == "host")
    for policy in policies:
        spec = policy["spec"]
        allow, deny = spec.get(direction, ()), spec.get(f"{direction}Deny", ())
        subject = subjects.where(_selected(policy))
        if (allow or deny) and spec.get("enableDefaultDeny", {}).get(direction, True):
            isolated |= subject
        for rule in deny:
            denied |= subject & _far(rule, side, fars, ()) & _ports(rule, rows)
        for rule in allow:
            known = _resolved(policies, subjects) if f"{side}FQDNs" in rule else ()
            hit = subject & _far(rule, side, fars, known)
            lists = [one for one in rule.get("toPorts", ()) if "rules" in one]
            for one in lists:
                here = hit & _port_list(one["ports"], rows)
                limited |= here
                named |= here & _names(one["rules"]["dns"], rows)
            if len(lists) < len(rule.get("toPorts", ())) or "toPorts" not in rule:
                rest = {**rule}
                if lists:
                    rest["toPorts"] = [one for one in rule["toPorts"] if "rules" not in one]
                plain |= hit & _ports(rest, rows)
    passing: _Mask = ~denied & (plain | named | ~(isolated | limited))
    return passing


def _selected(policy: Mapping[str, Any]) -> Any:
    namespace = policy["metadata"]["namespace"]
    labels = policy["spec"]["endpointSelector"].get("matchLabels", {})
    return lambda end: end.bears({**labels, CILIUM_NAMESPACE: namespace})


def _far(
    rule: Mapping[str, Any],
    side: str,
    fars: Ends,
    known: Iterable[tuple[_Mask, Sequence[Mapping[str, Any]]]],
) -> _Mask:
    if f"{side}FQDNs" in rule:
        names = rule[f"{side}FQDNs"]
        good = fars.where(lambda end: end.far.kind == "domain" and _is_named(end, names))
        learnt = np.zeros(good.size, np.bool_)
        for subject, asked in known:
            learnt |= subject & fars.where(lambda end, asked=asked: _is_named(end, asked))  # type: ignore[misc]  # mypy: bound defaults
        return good & learnt
    if not any(key.startswith(side) and key not in _NAMELESS for key in rule):
        return fars.where(lambda end: True)
    return fars.where(lambda end: _is_far(end, rule, side))


def _is_far(end: End, rule: Mapping[str, Any], side: str) -> bool:
    labels = [one.get("matchLabels", {}) for one in rule.get(f"{side}Endpoints", ())]
    return (
        any(end.bears(one) for one in labels)
        or any(end.is_entity(name) for name in rule.get(f"{side}Entities", ()))
        or any(end.is_within(cidr) for cidr in rule.get(f"{side}CIDR", ()))
    )


def _is_named(end: End, selectors: Sequence[Mapping[str, Any]]) -> bool:
    if end.far.kind != "domain":
        return False
    return any(bool(matches_name(one, [end.far.name])[0]) for one in selectors)


def _resolved(
    policies: Sequence[Mapping[str, Any]], subjects: Ends
) -> list[tuple[_Mask, list[Mapping[str, Any]]]]:
    """Whose lookups pass a DNS rule, and of which names."""
    found = []
    for policy in policies:
        lists = [
            one for rule in policy["spec"].get("egress", ()) for one in rule.get("toPorts", ())
        ]
        asked = [name for one in lists for name in one.get("rules", {}).get("dns", ())]
        if asked:
            found.append((subjects.where(_selected(policy)), asked))
    return found


def _ports(rule: Mapping[str, Any], rows: pl.DataFrame) -> _Mask:
    if "icmps" in rule:
        return np.asarray(rows["protocol"].cast(pl.String).to_numpy() == "ICMP")
    if "toPorts" not in rule:
        return np.ones(rows.height, np.bool_)
    good = np.zeros(rows.height, np.bool_)
    for one in rule["toPorts"]:
        good |= _port_list(one["ports"], rows)
    return good


def _port_list(ports: Sequence[Mapping[str, Any]], rows: pl.DataFrame) -> _Mask:
    number, protocol = rows["port"].to_numpy(), rows["protocol"].cast(pl.String).to_numpy()
    good = np.zeros(rows.height, np.bool_)
    for one in ports:
        first = int(one["port"])
        wanted = one.get("protocol", "ANY")
        carried = np.isin(protocol, _TRANSPORTS) if wanted == "ANY" else protocol == wanted
        everywhere = first == 0
        within = (number >= first) & (number <= one.get("endPort", first))
        good |= carried & (within | everywhere)
    return good


def _names(selectors: Sequence[Mapping[str, Any]], rows: pl.DataFrame) -> _Mask:
    """Which names the rule lets through; a row that asks for none is the connection itself."""
    distinct = rows["name"].unique().drop_nulls().to_list()
    good = np.zeros(len(distinct), np.bool_)
    for one in selectors:
        good |= matches_name(one, distinct)
    passing = [name for name, passed in zip(distinct, good, strict=True) if passed]
    return (rows["name"].is_in(passing) | rows["name"].is_null()).to_numpy()
