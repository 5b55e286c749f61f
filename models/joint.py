"""Joint evidence: what the forests say counts where another detector was nearly sure.

A window stranger than one in a thousand of the actor's own supports what is held against the actor
for ten minutes, whichever came first:

    of an edge that is not new   a sum of scan or lateral movement alarms up to 3 nats sooner
    of (pod, domain)             the bucket of that domain alarms at half its limit

Windows of workloads support nothing: a scan or a new edge makes them strange by itself, and would
be counted twice. Whoever has too few windows to be calibrated by them gets no support either. All
of it follows from the actor's own rows.
"""

from typing import Any, Final

import numpy as np
import polars as pl

from sidelong.features.bounds import Bounds
from sidelong.ingest.keys import hash_columns
from sidelong.ingest.schema import schema_of
from sidelong.models.anomaly import STRANGE
from sidelong.models.evidence import ALERT, EVIDENCE_SCHEMA, SILENCE_NS, crosses, micro_nats

__all__ = ["JOINT", "Joint"]

JOINT: Final = "ANOMALY"
"""The reason of evidence that repeats a sum together with its support."""

_MOST: Final = micro_nats(3.0)
_HALF: Final = ALERT - ALERT // 2
_SUMS: Final = {"edge": ("scan", "lateral_movement"), "domain": ("dns_exfiltration",)}

_SUPPORT_SCHEMA: Final = schema_of(
    {
        "key": pl.UInt64,
        "row": pl.UInt64,
        "support": pl.Int64,
        "until": pl.Int64,
        "because": EVIDENCE_SCHEMA["parts"],
    }
)
_NEAR_SCHEMA: Final = schema_of({**EVIDENCE_SCHEMA, "key": pl.UInt64})


class Joint:
    """Lets strange windows support other evidence. Bounded by `bounds.sums`."""

    def __init__(self, bounds: Bounds) -> None:
        self._capacity = bounds.sums
        self._support = _SUPPORT_SCHEMA.to_frame()  # the latest of each key
        self._near = _NEAR_SCHEMA.to_frame()  # where each sum stands that is nearly an alarm
        self.evicted = 0

    def judge(self, evidence: pl.DataFrame, anomalies: pl.DataFrame) -> pl.DataFrame:
        """The evidence again, more of it decisive, and what windows that closed later decide.

        evidence: of the other detectors, in stream order. anomalies: `ANOMALY_SCHEMA`.
        """
        fresh = _supports(anomalies)
        if fresh.is_empty() and self._support.is_empty() and evidence.is_empty():
            return evidence
        rows = evidence.with_columns(key=pl.Series(_keys(evidence), dtype=pl.UInt64))
        supports = self._support.vstack(fresh).sort("row", maintain_order=True)
        if not supports.is_empty() and not rows.is_empty():
            rows = _supported(rows, supports)
        near = self._near.vstack(rows.select(_NEAR_SCHEMA.names()).match_to_schema(_NEAR_SCHEMA))
        late = [_decided(near, one) for one in fresh.iter_rows(named=True)]
        self._near = _latest(near)
        self._support = supports.unique("key", keep="last", maintain_order=True)
        told = rows.select(EVIDENCE_SCHEMA.names())
        return pl.concat([told, *late]) if late else told

    def tidy(self, now_ns: int) -> None:
        """Forget at an event-time tick what is ten minutes old, and the oldest beyond bounds."""
        self._support = self._bounded(self._support.filter(pl.col("until") >= now_ns))
        self._near = self._bounded(
            self._near.filter(pl.col("time").to_physical() >= now_ns - SILENCE_NS)
        )

    def snapshot(self) -> dict[str, Any]:
        """Supports and sums as a value."""
        return {"support": self._support, "near": self._near, "evicted": self.evicted}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        self._support, self._near = state["support"], state["near"]
        self.evicted = state["evicted"]

    def _bounded(self, rows: pl.DataFrame) -> pl.DataFrame:
        self.evicted += max(0, rows.height - self._capacity)
        return rows.tail(self._capacity)


def _keys(rows: pl.DataFrame) -> np.typing.NDArray[np.uint64]:
    """What supports and sums meet by: the actor, and the domain where it is about one."""
    dns = rows.with_columns(
        about=pl.when(pl.col("statistic").is_in(["bucket", "domain"])).then("domain")
    )
    return hash_columns(dns, ["actor", "about"])


def _supports(anomalies: pl.DataFrame) -> pl.DataFrame:
    """What of the anomalies supports anything, `_SUPPORT_SCHEMA`."""
    strange = anomalies.filter(
        pl.col("p") < STRANGE, "own", "old", pl.col("statistic").is_in(list(_SUMS))
    )
    dns = pl.col("statistic") == "domain"
    return strange.with_columns(
        key=pl.Series(_keys(strange), dtype=pl.UInt64),
        support=pl.when(dns).then(_HALF).otherwise(pl.col("log_evidence").clip(0, _MOST)),
        until=pl.col("time").to_physical() + SILENCE_NS,
        because="parts",
    ).select(pl.col(name).cast(dtype) for name, dtype in _SUPPORT_SCHEMA.items())


def _open_to_support() -> pl.Expr:
    dns = (pl.col("kind") == "dns_exfiltration") & (pl.col("statistic") == "bucket")
    return dns | pl.col("kind").is_in(["scan", "lateral_movement"])


def _supported(rows: pl.DataFrame, supports: pl.DataFrame) -> pl.DataFrame:
    """Rows with the support of windows that closed before them."""
    found = rows.with_row_index("at").join_asof(
        supports.rename({"row": "since"}),
        left_on="row",
        right_on="since",
        by="key",
        strategy="backward",
        allow_exact_matches=False,
        check_sortedness=False,
    )
    helped = (
        (pl.col("time").to_physical() <= pl.col("until"))
        & _open_to_support()
        & ~pl.col("decisive")
        & (pl.col("level") < ALERT)
        & crosses(pl.col("level") + pl.col("support"), pl.col("log_evidence"))
    ).fill_null(False)
    return found.sort("at").with_columns(
        level=pl.col("level") + pl.when(helped).then("support").otherwise(0),
        parts=pl.when(helped).then(_joined("parts", "because")).otherwise("parts"),
        decisive=pl.col("decisive") | helped,
    )


def _decided(near: pl.DataFrame, support: dict[str, Any]) -> pl.DataFrame:
    """The sums that the support of a window which has just closed makes an alarm."""
    row, nats = support["row"], support["support"]
    since = support["until"] - 2 * SILENCE_NS
    before = near.filter(pl.col("key") == support["key"], pl.col("row") <= row)
    chosen = _latest(before).filter(
        pl.col("time").to_physical() >= since, pl.col("level") + nats >= ALERT
    )
    because = pl.Series([support["because"]], dtype=EVIDENCE_SCHEMA["parts"])
    return chosen.with_columns(
        row=pl.lit(row, pl.UInt64),
        sub=pl.lit(2**16, pl.UInt32),  # after the window itself
        time=pl.lit(support["until"] - SILENCE_NS).cast(EVIDENCE_SCHEMA["time"]),
        reason=pl.lit(JOINT),
        sample=pl.lit(None, pl.String),
        bytes=pl.lit(None, pl.Int64),
        log_evidence=pl.lit(nats, pl.Int64),
        level=pl.col("level") + nats,
        decisive=pl.lit(True),
        parts=_joined("parts", pl.lit(because)),
    ).select(EVIDENCE_SCHEMA.names())


def _latest(near: pl.DataFrame) -> pl.DataFrame:
    """Where each sum stands, of those that support could make an alarm and that are none yet."""
    least = (
        pl.when(pl.col("kind") == "dns_exfiltration").then(ALERT - _HALF).otherwise(ALERT - _MOST)
    )
    last = near.unique("group", keep="last", maintain_order=True)
    return last.filter(
        ~pl.col("decisive"), _open_to_support(), pl.col("level").is_between(least, ALERT - 1)
    )


def _joined(parts: str, others: str | pl.Expr) -> pl.Expr:
    none = pl.lit([], EVIDENCE_SCHEMA["parts"])
    other = pl.col(others) if isinstance(others, str) else others
    return pl.concat_list(pl.col(parts).fill_null(none), other.fill_null(none))
