"""Cold start from declared intent: which edges policies expressly allow, and who is guarded.

Policies, Services and workloads as people keep them in files tell much of what is ordinary before
any traffic was seen: a rule that lets three clients reach a database expects each of them there. It
says the less the more it allows. And where policies name all that may reach a workload, what gets
there all the same is evidence in itself.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sidelong.declared_cilium import cilium_policy
from sidelong.declared_istio import authorization_policy
from sidelong.declared_kubernetes import network_policy
from sidelong.declared_objects import inner, read_cluster
from sidelong.declared_rules import Rule, Selection, Span
from sidelong.declared_selectors import Mask, Population
from sidelong.models.baseline_tables import DECLARED_SCHEMA, GUARDED_SCHEMA

__all__ = ["Declared", "declared", "judged"]

_API_SERVER: Final = "reserved:kube-apiserver"
_API_PORTS: Final = (443, 6443)
_HANDFUL: Final = 100  # a range of ports counts for so many at most: nobody serves them all
_CELLS: Final = 4_000_000  # decided at once
_UNLIMITED: Final = np.iinfo(np.int32).max
_TRANSLATORS: Final = {
    "NetworkPolicy": network_policy,
    "CiliumNetworkPolicy": cilium_policy,
    "CiliumClusterwideNetworkPolicy": cilium_policy,
    "AuthorizationPolicy": authorization_policy,
}


@dataclass(frozen=True, slots=True)
class Declared:
    """edges: `DECLARED_SCHEMA`. guarded: `GUARDED_SCHEMA`. policies: how many were read."""

    edges: pl.DataFrame
    guarded: pl.DataFrame
    policies: int


def declared(paths: Sequence[str]) -> Declared:
    """What is declared in files and folders of YAML and JSON.

    Errors: ConfigError for a file that cannot be read, and without any workload in them.
    """
    cluster = read_cluster(paths)
    people = Population(cluster)
    said = [
        one for policy in cluster.policies for one in _TRANSLATORS[policy["kind"]](policy, people)
    ]
    edges, guarded = judged(said, people)
    bound = [
        (one.name, _API_SERVER, "TCP", port, port, len(_API_PORTS))
        for one in cluster.workloads
        if (one.namespace, one.account) in cluster.bound
        for port in _API_PORTS
    ]
    api = pl.DataFrame(bound, schema=DECLARED_SCHEMA, orient="row")
    return Declared(pl.concat([edges, api]), guarded, len(cluster.policies))


def judged(
    said: Sequence[Selection | Rule], people: Population
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The edges that policies expressly allow (`DECLARED_SCHEMA`), and who is guarded by them."""
    rules = [one for one in said if isinstance(one, Rule)]
    pieces = _pieces(rules, people)
    isolated = _isolated(said, people)
    guarded = {
        side: np.logical_or.reduce(
            [
                people.nobody(),
                *(mask for (_, direction), mask in isolated.items() if direction == side),
                *(one.subjects for one in rules if one.direction == side and one.denies),
            ]
        )
        for side in ("ingress", "egress")
    }
    size = max(1, _CELLS // (max(1, len(pieces)) * max(1, len(people.workloads))))
    found = [
        _allowed(rules, isolated, guarded, pieces, people, slice(low, low + size))
        for low in range(0, len(people.workloads), size)
    ]
    who = {
        "workload": [one.name for one in people.workloads],
        **guarded,
        "account": [one.account for one in people.workloads],
    }
    return (
        pl.concat([DECLARED_SCHEMA.to_frame(), *found]),
        pl.DataFrame(who, schema=GUARDED_SCHEMA),
    )


def _isolated(said: Sequence[Selection | Rule], people: Population) -> dict[tuple[str, str], Mask]:
    """By layer and direction, who may only do what rules allow; it may be nobody."""
    isolated: dict[tuple[str, str], Mask] = {}
    for one in said:
        mask = isolated.setdefault((one.layer, one.direction), people.nobody())
        if isinstance(one, Selection):
            mask |= one.subjects
    return isolated


def _pieces(rules: Sequence[Rule], people: Population) -> list[Span]:
    """Ranges of ports that no policy tells apart any further, the served ones each by itself."""
    found = []
    for protocol in ("TCP", "UDP"):
        cuts = {0, 65_536}
        for span in (span for rule in rules for span in rule.ports):
            cuts |= {span.low, span.high + 1} if span.protocol == protocol else set()
        for number in _served(protocol, people):
            cuts |= {number, number + 1}
        bounds = sorted(cuts)
        found += [Span(protocol, low, high - 1) for low, high in zip(bounds, bounds[1:])]  # noqa: B905, RUF007
    return found


def _served(protocol: str, people: Population) -> Iterator[int]:
    for one in people.workloads:
        yield from (port.number for port in one.ports if port.protocol == protocol)
    for service in people.cluster.services:
        ports: Any = inner(service, "spec").get("ports") or ()
        for port in ports:
            target = port.get("targetPort", port.get("port"))
            if isinstance(target, int) and (port.get("protocol") or "TCP") == protocol:
                yield target


def _allowed(
    rules: Sequence[Rule],
    isolated: dict[tuple[str, str], Mask],
    guarded: dict[str, Mask],
    pieces: Sequence[Span],
    people: Population,
    peers: slice,
) -> pl.DataFrame:
    """The edges into some of the workloads that may pass where one end is guarded.

    Almost all are expressly allowed, and the narrowest rule that does so gives the breadth.
    """
    everybody = len(people.workloads)
    shape = (everybody, len(range(*peers.indices(everybody))), len(pieces))
    passing = np.ones(shape, np.bool_)
    breadth = np.full(shape, _UNLIMITED, np.int32)
    for (layer, direction), mask in isolated.items():
        allowed, denied = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
        for rule in rules:
            if (rule.layer, rule.direction) != (layer, direction):
                continue
            opens, called = rule.fars, rule.subjects
            if direction == "egress":
                opens, called = called, opens
            cells = np.ix_(opens, called[peers], _within(rule.ports, pieces))
            if rule.denies:
                denied[cells] = True
                continue
            allowed[cells] = True
            ports = sum(min(span.high - span.low + 1, _HANDFUL) for span in rule.ports)
            given = min(_UNLIMITED, max(1, int(rule.fars.sum()) * ports))
            breadth[cells] = np.minimum(breadth[cells], given)
        alone = mask[peers][None, :, None] if direction == "ingress" else mask[:, None, None]
        passing &= ~denied & (allowed | ~(alone & _judged(layer, pieces)))
    touched = guarded["ingress"][peers][None, :, None] | guarded["egress"][:, None, None]
    return _rows(passing & touched, breadth, pieces, people, peers)


def _within(ports: Sequence[Span], pieces: Sequence[Span]) -> NDArray[np.bool_]:
    return np.array(
        [
            any(
                span.protocol == piece.protocol and span.low <= piece.low <= span.high
                for span in ports
            )
            for piece in pieces
        ],
        np.bool_,
    )


def _judged(layer: str, pieces: Sequence[Span]) -> NDArray[np.bool_]:
    """Istio knows nothing but TCP."""
    return np.array([layer != "istio" or piece.protocol == "TCP" for piece in pieces], np.bool_)


def _rows(
    edges: NDArray[np.bool_],
    breadth: NDArray[np.int32],
    pieces: Sequence[Span],
    people: Population,
    peers: slice,
) -> pl.DataFrame:
    actor, peer, piece = np.nonzero(edges)
    names = pl.Series([one.name for one in people.workloads], dtype=pl.String)
    spans = pl.DataFrame(
        [(one.protocol, one.low, one.high) for one in pieces],
        schema={name: DECLARED_SCHEMA[name] for name in ("protocol", "low", "high")},
        orient="row",
    )
    rows = spans[piece].with_columns(
        actor=names.gather(actor),
        peer=names.slice(peers.start).gather(peer),
        breadth=pl.Series(breadth[actor, peer, piece], dtype=pl.Int64),
    )
    rows = rows.with_columns(pl.col("breadth").replace(_UNLIMITED, None))
    same = ("actor", "peer", "protocol", "breadth")
    before = pl.col("high").shift(1).over(same).cast(pl.Int64) + 1
    return (
        rows.filter(pl.col("actor") != pl.col("peer"))
        .sort("actor", "peer", "protocol", "low")
        .with_columns(run=(before != pl.col("low")).fill_null(True).cum_sum().over(same))
        .group_by(*same, "run", maintain_order=True)
        .agg(pl.col("low").min(), pl.col("high").max())
        .select(DECLARED_SCHEMA.names())
    )
