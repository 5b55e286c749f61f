"""Lateral movement: a new edge that is rare, and leads where an intruder would want to go.

The evidence of an edge is its rarity under the baseline (models/rarity.py) plus what its target
adds (models/edge_weights.py), less what declared policies expect. One edge can alarm alone, on its
first record, when a well-known workload reaches a sensitive service of another namespace; otherwise
edges meet in chains (alerts/chains.py).

A workload that the baseline does not know has no rarity, so nothing it does alarms here alone.
"""

from typing import Final

import polars as pl

from sidelong.features.edges import EDGE
from sidelong.features.sides import METADATA_ADDRESS, is_external, principal
from sidelong.ingest.keys import mix
from sidelong.models.baseline import Baseline
from sidelong.models.declared_intent import Intent
from sidelong.models.edge_weights import weighed
from sidelong.models.evidence import ALERT, NO_EVIDENCE, as_evidence
from sidelong.models.feedback import edge_rows
from sidelong.models.rarity import Rarity
from sidelong.models.sensitive_services import crosses_namespaces, sensitive_target

__all__ = ["COMMON_PORTS", "LateralMovementDetector"]

# Looked up or synchronised by everybody; DNS has a detector of its own.
COMMON_PORTS: Final = (53, 67, 68, 123, 137, 138, 1900, 5353, 5355)


class LateralMovementDetector:
    """Judges new edges against a frozen baseline; it has no state of its own.

    The edges that people forbade (`Baseline.feedback`) alarm whatever they lead to.
    """

    def __init__(self, baseline: Baseline, rarity: Rarity) -> None:
        self._rarity = rarity
        self._intent = Intent(baseline)
        self._accounts = _Accounts(baseline)
        forbidden = edge_rows(baseline.feedback.forbidden_edges)
        self._forbidden = forbidden.select(EDGE).unique().with_columns(forbidden=True)

    def judge(self, new_edges: pl.DataFrame) -> pl.DataFrame:
        """Evidence from new edges (`Edges.observe`), one row each; `parts` says of what."""
        if new_edges.is_empty():
            return NO_EVIDENCE
        rows = new_edges.filter(
            ~is_external(pl.col("peer")) | (pl.col("peer_ip") == METADATA_ADDRESS),
            pl.col("protocol").is_in(["TCP", "UDP"]),
            ~pl.col("edge_port").is_in(COMMON_PORTS),
        )
        if rows.is_empty():
            return NO_EVIDENCE
        rows = self._accounts.of(self._intent.of(self._rarity.of(rows)))
        rows = rows.with_columns(
            crossing=crosses_namespaces(),
            target=sensitive_target(pl.col("peer_ip")),
            denied=(pl.col("verdict") == "DROPPED").fill_null(False),
        )
        rows = rows.join(self._forbidden, on=list(EDGE), how="left", maintain_order="left")
        rows = weighed(rows)
        changes = pl.col("rollout").is_not_null() & _ordinary()
        return pl.concat([self._strange(rows.filter(~changes)), _changes(rows.filter(changes))])

    def _strange(self, rows: pl.DataFrame) -> pl.DataFrame:
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


def _ordinary() -> pl.Expr:
    """Whether nothing but its being new speaks against an edge."""
    wrong = ("denied", "impostor", "unlawful", "forbidden")
    return pl.col("target").is_null() & ~pl.any_horizontal(pl.col(wrong).fill_null(False))


def _changes(rows: pl.DataFrame) -> pl.DataFrame:
    """What a rollout brings, as information: the new edges of one rollout in one incident."""
    rows = rows.filter(~pl.col("again"))
    groups = mix(rows["actor_key"].to_numpy(), rows["rollout"].cast(pl.UInt64).to_numpy())
    return as_evidence(
        rows.with_columns(
            kind=pl.lit("anomaly"),
            statistic=pl.lit("changed_dependencies"),
            sub=pl.lit(2),
            group=pl.Series(groups, dtype=pl.UInt64),
            object="peer",
            object_ip="peer_ip",
            port="port",
            reason=pl.lit("ROLLOUT"),
            level="log_evidence",
            decisive=pl.lit(True),
        )
    )


class _Accounts:
    """Which mesh identities the workloads of a baseline bore, or were declared to bear."""

    def __init__(self, baseline: Baseline) -> None:
        borne = baseline.workloads.filter(pl.col("accounts").list.len() > 0)
        space = pl.col("workload").str.extract(r"^([^/]+)/")
        declared = baseline.guarded.select(
            actor="workload", due=pl.format("/ns/{}/sa/{}", space, "account")
        )
        self._own = borne.select("actor", own="accounts").join(
            declared, on="actor", how="full", coalesce=True
        )

    def of(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Rows with `impostor`, and `own_accounts`, what the workload bore so far, in words.

        An impostor bears an identity that its workload neither had nor should have, or where none
        is known, one of another namespace.
        """
        namespace = principal().str.extract(r"^spiffe://[^/]+/ns/([^/]+)/sa/")
        elsewhere = (namespace != pl.col("actor").str.extract(r"^([^/:]+)/")).fill_null(False)
        borne = pl.col("own").list.contains(principal()).fill_null(False)
        due = principal().str.ends_with(pl.col("due")).fill_null(False)
        return (
            rows.join(self._own, on="actor", how="left", maintain_order="left")
            .with_columns(
                impostor=pl.when(namespace.is_null())
                .then(False)
                .when(pl.col("own").is_null() & pl.col("due").is_null())
                .then(elsewhere)
                .otherwise(~(borne | due)),
                own_accounts=pl.coalesce(pl.col("own").list.join(", "), "due", "actor"),
            )
            .drop("own", "due")
        )
