"""Lateral movement: a new edge that is rare, and leads where an intruder would want to go.

The evidence of an edge is its rarity under the baseline (models/rarity.py) plus what its target
adds: each addition is how much likelier an intruder's edge has that property than a benign new
edge, at least. One edge can alarm alone, on its first record, when a well-known workload reaches a
sensitive service of another namespace; otherwise edges meet in chains (alerts/chains.py).

A workload that the baseline does not know has no rarity, so nothing it does alarms here alone.
"""

from typing import Final

import numpy as np
import polars as pl

from sidelong.features.edges import EDGE
from sidelong.features.sides import METADATA_ADDRESS, is_external, principal
from sidelong.models.evidence import ALERT, NO_EVIDENCE, PARTS, as_evidence, micro_nats
from sidelong.models.rarity import Rarity
from sidelong.models.sensitive_services import crosses_namespaces, sensitive_target

__all__ = ["COMMON_PORTS", "LateralMovementDetector"]

SENSITIVE: Final = micro_nats(np.log(100))
"""At most one benign new edge in a hundred leads to an administrative or data service."""

CROSSING: Final = micro_nats(np.log(10))
"""At most one in ten crosses namespaces."""

CLIENT_ONLY: Final = micro_nats(np.log(20))
"""And of those that lead to a sensitive service, at most one in twenty to one that only was a
client: servers are administered every day, two clients rarely log in to each other."""

DENIED: Final = micro_nats(3.0)
"""Policy denied it: at most one in twenty."""

IMPOSTOR: Final = micro_nats(5.0)
"""The mesh saw another identity than the pod's own."""

FORBIDDEN: Final = ALERT
"""A person confirmed an incident in which the edge was used: no more is needed."""

# Looked up or synchronised by everybody; DNS has a detector of its own.
COMMON_PORTS: Final = (53, 67, 68, 123, 137, 138, 1900, 5353, 5355)


class LateralMovementDetector:
    """Judges new edges against a frozen baseline; it has no state of its own.

    forbidden: edges (columns `EDGE`) that alarm whatever they lead to.
    """

    def __init__(self, rarity: Rarity, forbidden: pl.DataFrame) -> None:
        self._rarity = rarity
        self._forbidden = forbidden.select(EDGE).unique().with_columns(forbidden=True)

    def judge(self, new_edges: pl.DataFrame) -> pl.DataFrame:
        """Evidence from new edges (`Edges.observe`), one row each; `parts` says of what."""
        rows = new_edges.filter(
            ~is_external(pl.col("peer")) | (pl.col("peer_ip") == METADATA_ADDRESS),
            pl.col("protocol").is_in(["TCP", "UDP"]),
            ~pl.col("edge_port").is_in(COMMON_PORTS),
        )
        if rows.is_empty():
            return NO_EVIDENCE
        rows = self._rarity.of(rows)
        rows = rows.with_columns(
            crossing=crosses_namespaces(),
            target=sensitive_target(pl.col("peer_ip")),
            denied=(pl.col("verdict") == "DROPPED").fill_null(False),
            impostor=_impostor(),
        )
        rows = rows.join(self._forbidden, on=list(EDGE), how="left", maintain_order="left")
        rows = self._weigh(rows)
        return as_evidence(
            rows.with_columns(
                kind=pl.lit("lateral_movement"),
                statistic=pl.lit("edge"),
                sub=pl.lit(2),
                group="edge",
                object="peer",
                object_ip="peer_ip",
                port="port",
                reason=pl.when("denied")
                .then(pl.lit("DENIED"))
                .when("again")
                .then(pl.lit("STILL_USED"))
                .otherwise(pl.lit("NEW_EDGE")),
                level="log_evidence",
                decisive=pl.col("log_evidence") >= ALERT,
                # What alarmed by itself alarms once a day while it is used and nobody says that it
                # is ordinary: to be repeated makes it no better.
            ).filter(~pl.col("again") | pl.col("decisive"))
        )

    def _weigh(self, rows: pl.DataFrame) -> pl.DataFrame:
        rows = rows.with_columns(
            sensitive=pl.when(pl.col("target").is_not_null()).then(SENSITIVE).otherwise(0),
            unserved=pl.when(pl.col("target").is_not_null() & pl.col("never_served"))
            .then(CLIENT_ONLY)
            .otherwise(0),
            crossed=pl.when("crossing").then(CROSSING).otherwise(0),
            refused=pl.when("denied").then(DENIED).otherwise(0),
            impersonated=pl.when("impostor").then(IMPOSTOR).otherwise(0),
            confirmed=pl.when("forbidden").then(FORBIDDEN).otherwise(0),
        )
        parts = [
            _part(
                "new_edge",
                pl.format("{}:{}", "peer", "port"),
                pl.format(
                    "in {} active seconds it used {} other{}",
                    "active_seconds",
                    "used",
                    pl.when(pl.col("used") == 1).then(pl.lit("")).otherwise(pl.lit("s")),
                ),
                "rarity",
            ),
            _part("sensitive_service", pl.col("target"), pl.lit("1 in 100 new edges"), "sensitive"),
            _part("only_a_client", pl.col("peer"), pl.lit("never served anybody"), "unserved"),
            _part(
                "other_namespace",
                pl.col("peer").str.extract(r"^([^/]+)/"),
                pl.col("actor").str.extract(r"^([^/]+)/"),
                "crossed",
            ),
            _part("policy_denied", pl.lit("denied"), pl.lit("allowed"), "refused"),
            _part("identity", principal(), pl.col("actor"), "impersonated"),
            _part("confirmed_before", pl.lit("seen again"), pl.lit("forbidden"), "confirmed"),
        ]
        return rows.with_columns(
            log_evidence=pl.sum_horizontal(
                "rarity", "sensitive", "unserved", "crossed", "refused", "impersonated", "confirmed"
            ),
            parts=pl.concat_list(parts)
            .list.eval(pl.element().filter(pl.element().struct.field("log_evidence") > 0))
            .cast(PARTS),
        )


def _impostor() -> pl.Expr:
    """The principal is a service account, and not one of the pod's own namespace."""
    account = principal().str.extract(r"^spiffe://[^/]+/ns/([^/]+)/sa/")
    return (account != pl.col("actor").str.extract(r"^([^/:]+)/")).fill_null(False)


def _part(feature: str, observed: pl.Expr, expected: pl.Expr, evidence: str) -> pl.Expr:
    return pl.struct(
        feature=pl.lit(feature),
        observed=observed.cast(pl.String),
        expected=expected.cast(pl.String),
        log_evidence=pl.col(evidence).cast(pl.Int64),
    )
