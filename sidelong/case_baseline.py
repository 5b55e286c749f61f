"""What a baseline knows of one workload: its edges, its domains, how well it is known."""

from datetime import datetime, timedelta
from typing import Any, Final

import polars as pl

from sidelong.case_frames import Framed, escaped, html_table
from sidelong.features.edges import EDGE
from sidelong.ingest.schema import schema_of
from sidelong.models.acquaintance import states
from sidelong.models.allowances import ALERT_BYTES, LEAK_BYTES_PER_DAY, SCALE, allowances
from sidelong.models.baseline import Baseline
from sidelong.models.contact_history import edges_of
from sidelong.models.forests import Forests, features_of
from sidelong.terminal import duration, printable

__all__ = ["USUAL_SCHEMA", "KnownWorkload", "usual_of"]

_TIME: Final = pl.Datetime("ns", "UTC")
_EDGES_SCHEMA: Final = schema_of(
    {
        "direction": pl.String,
        "peer": pl.String,
        "port": pl.UInt16,
        "protocol": pl.String,
        "active_seconds": pl.Int64,
        "hours_seen": pl.Int64,
        "days_seen": pl.Int64,
        "pods": pl.Int64,
        "last": _TIME,
        "on_trial": pl.Boolean,
    }
)
_DOMAINS_SCHEMA: Final = schema_of(
    {
        "domain": pl.String,
        "new_names": pl.Int64,
        "new_bytes": pl.Int64,
        "highest_bytes": pl.Int64,
        "limit_bytes": pl.Int64,
        "leak_bytes_per_day": pl.Int64,
    }
)

USUAL_SCHEMA: Final = schema_of(
    {
        "workload": pl.String,
        "scope": pl.String,
        "forest": pl.String,
        "own": pl.Boolean,
        "feature": pl.String,
        "usual": pl.Float64,
        "unit": pl.String,
    }
)
"""What isolation forests take for usual: by scope of windows the value of each feature. forest:
whose it is; own: whether the workload was seen often enough to be held against itself."""


class KnownWorkload(Framed):
    """What is known of a workload.

    frame: its edges, `direction` calls or called by. domains: the registered domains it asks for,
    with what it may say to them in never-seen names, in bytes. usual: see `USUAL_SCHEMA`; empty
    where no forest judges it. declared: what policies expressly allow. state: unknown, learning,
    provisional or known. watched: for how long. active_seconds: in how many it used its edges;
    singletons: edges used in one of them only. facts: all that as plain values.
    """

    def __init__(self, workload: str, baseline: Baseline, usual: pl.DataFrame) -> None:
        self.workload: Final = workload
        row = baseline.workloads.filter(actor=workload).join(states(baseline), on="actor")
        known = row.row(0, named=True) if row.height else {}
        self.state: Final[str] = known.get("state") or "unknown"
        self.watched: Final[timedelta] = known.get("watched") or timedelta()
        self.active_seconds: Final[int] = known.get("active_seconds") or 0
        self.singletons: Final[int] = known.get("singletons") or 0
        self.first_contacts: Final[int] = known.get("first_contacts") or 0
        self.answered: Final[int] = known.get("answered") or 0
        self.owner: Final[str | None] = known.get("owner")
        self.accounts: Final[tuple[str, ...]] = tuple(known.get("accounts") or ())
        self.first: Final[datetime | None] = known.get("first")
        self.last: Final[datetime | None] = known.get("last")
        self.domains: Final = _domains(baseline, workload)
        self.declared: Final = _declared(baseline, workload)
        self.usual: Final = usual.filter(workload=workload)
        super().__init__(_edges(baseline, workload), f"{workload}: {self._known()}", self._told())

    @property
    def facts(self) -> dict[str, Any]:
        """Everything but the tables, for programs."""
        names = ("workload", "state", "active_seconds", "singletons", "first_contacts", "answered")
        return {
            **{name: getattr(self, name) for name in (*names, "owner", "accounts")},
            "watched_seconds": int(self.watched.total_seconds()),
        }

    def __repr__(self) -> str:
        lines = [super().__repr__()]
        lines += [
            f"asks {printable(row['domain'])}, may say {row['limit_bytes']:,} bytes in new names "
            f"at once and {row['leak_bytes_per_day']:,} a day"
            for row in self.domains.head(10).iter_rows(named=True)
        ]
        if self.domains.height > 10:
            lines.append(f"and {self.domains.height - 10:,} domains more; all are in .domains")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        parts = [super()._repr_html_()]
        if self.domains.height:
            parts.append(html_table(self.domains, "domains it asks for"))
        if self.declared.height:
            parts.append(html_table(self.declared, "declared by policies"))
        if self.usual.height:
            usual = self.usual.select("scope", "feature", "usual", "unit")
            table = html_table(usual, "what isolation forests take for usual", most=60)
            parts.append(f"<details><summary>{escaped(self._judged())}</summary>{table}</details>")
        return "".join(parts)

    def _known(self) -> str:
        if self.state == "unknown":
            return "the baseline does not know it"
        told = f"{self.state}, watched {duration(self.watched)}"
        return f"{told}, {self.active_seconds:,} active seconds"

    def _told(self) -> str:
        told = [f"owner {self.owner}"] if self.owner else []
        told += [f"bears {one}" for one in self.accounts]
        if self.first_contacts:
            told.append(f"{self.answered:,} of {self.first_contacts:,} first contacts answered")
        told += [self._judged()] if self.usual.height else []
        return "; ".join(told)

    def _judged(self) -> str:
        by = self.usual.unique(["scope", "forest"], maintain_order=True)
        return "judged by forests: " + ", ".join(
            f"{scope} windows by {forest}" for scope, forest in by.select("scope", "forest").rows()
        )


def usual_of(forests: Forests, workloads: pl.Series) -> pl.DataFrame:
    """What the forests of a baseline take for usual of some workloads (`USUAL_SCHEMA`)."""
    frames = [USUAL_SCHEMA.to_frame()]
    for scope, found in forests.scopes.items():
        features = features_of(scope)
        named = {number: group for group, number in reversed(found.groups.items())}
        for workload in workloads:
            habit = found.habit(workload)
            frames.append(
                pl.DataFrame(
                    {
                        "workload": workload,
                        "scope": scope,
                        "forest": named.get(habit.forest, "cluster"),
                        "own": habit.own,
                        "feature": [one.name for one in features],
                        "usual": habit.ordinary.astype(float).tolist(),
                        "unit": [one.unit for one in features],
                    },
                    schema=USUAL_SCHEMA,
                )
            )
    return pl.concat(frames).with_columns(pl.col("usual").fill_nan(None))


def _edges(baseline: Baseline, workload: str) -> pl.DataFrame:
    trial = edges_of(baseline.trial)
    rows = [_EDGES_SCHEMA.to_frame()]
    for table, on_trial in ((baseline.edges, False), (trial, True)):
        for mine, other, direction in (
            ("actor", "peer", "calls"),
            ("peer", "actor", "called by"),
        ):
            found = table.filter(pl.col(mine) == workload).sort(EDGE)
            rows.append(
                found.select(
                    direction=pl.lit(direction),
                    peer=other,
                    port="edge_port",
                    protocol=pl.col("protocol").cast(pl.String),
                    active_seconds="active_seconds",
                    hours_seen="hours_seen",
                    days_seen="days_seen",
                    pods="pods",
                    last="last",
                    on_trial=pl.lit(on_trial),
                ).match_to_schema(_EDGES_SCHEMA, integer_cast="upcast")
            )
    return pl.concat(rows)


def _domains(baseline: Baseline, workload: str) -> pl.DataFrame:
    allowed = allowances(baseline).filter(actor=workload)
    return (
        baseline.domains.filter(actor=workload)
        .join(allowed, on=["actor", "domain"], how="full", coalesce=True)
        .select(
            "domain",
            new_names=pl.col("names").fill_null(0),
            new_bytes=pl.col("bytes").fill_null(0),
            highest_bytes=pl.col("level").fill_null(0) // SCALE,
            limit_bytes=pl.col("limit").fill_null(ALERT_BYTES * SCALE) // SCALE,
            leak_bytes_per_day=pl.col("leak_per_day").fill_null(LEAK_BYTES_PER_DAY * SCALE)
            // SCALE,
        )
        .sort("domain")
        .match_to_schema(_DOMAINS_SCHEMA)
    )


def _declared(baseline: Baseline, workload: str) -> pl.DataFrame:
    ours = (pl.col("actor") == workload) | (pl.col("peer") == workload)
    return (
        baseline.declared.filter(ours)
        .drop_nulls("breadth")
        .sort("actor", "peer", "protocol", "low")
        .with_columns(pl.col("protocol").cast(pl.String))
    )
