"""The incidents of a case: a sequence of `Incident`, and the same as a table."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, overload

import polars as pl

from sidelong.alerts.incident import Incident, Target
from sidelong.alerts.plain_text import printable_json
from sidelong.case_frames import Framed
from sidelong.incident_finding import chosen
from sidelong.ingest.schema import schema_of
from sidelong.terminal import plural

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["INCIDENT_SCHEMA", "Incidents", "incident_frame", "target_text"]

_TIME: Final = pl.Datetime("us", "UTC")
INCIDENT_SCHEMA: Final = schema_of(
    {
        "id": pl.String,
        "detected_at": _TIME,
        "severity": pl.String,
        "kind": pl.String,
        "actor": pl.String,
        "objects": pl.List(pl.String),
        "summary": pl.String,
        "score": pl.Float64,
        "techniques": pl.List(pl.String),
        "first_seen": _TIME,
        "last_seen": _TIME,
        "pod": pl.String,
        "ip": pl.String,
        "story": pl.String,
        "status": pl.String,
        "completeness": pl.Float64,
        "policy": pl.Boolean,
    }
)
"""A row is an incident in its last state; policy: whether one is suggested."""

_SHOWN: Final = ("id", "detected_at", "severity", "kind", "actor", "summary")


class Incidents(Sequence[Incident]):
    """Incidents in order of first appearance; `frame` is the same as `INCIDENT_SCHEMA`."""

    def __init__(self, incidents: Iterable[Incident], where: str) -> None:
        self._all: Final = tuple(incidents)
        self._by_id: Final = {one.id: one for one in self._all}
        self._where: Final = where
        self.frame: Final = incident_frame(self._all)

    @overload
    def __getitem__(self, index: int) -> Incident: ...
    @overload
    def __getitem__(self, index: slice) -> "Incidents": ...
    def __getitem__(self, index: int | slice) -> "Incident | Incidents":
        if isinstance(index, slice):
            return Incidents(self._all[index], self._where)
        return self._all[index]

    def __len__(self) -> int:
        return len(self._all)

    def find(self, id: str) -> Incident:
        """The incident with that id, or the only one whose id begins so, from four characters on.

        Errors: ConfigError.
        """
        hint = "look for it in the traffic of its time, or with the baseline that it was found by"
        return chosen(id, self._by_id, self._where, hint)

    def to_pandas(self) -> "pd.DataFrame":
        """The table for pandas. Errors: ConfigError where pandas is not installed."""
        return self._framed().to_pandas()

    def to_jsonl(self) -> str:
        """The last state of each, a line of JSON as `sidelong replay --output json` writes it."""
        return "".join(printable_json(one.to_json()) + "\n" for one in self._all)

    def __repr__(self) -> str:
        return repr(self._framed())

    def _repr_html_(self) -> str:
        return self._framed()._repr_html_()

    def _framed(self) -> Framed:
        return Framed(self.frame, f"{plural(len(self), 'incident')} in {self._where}", "", _SHOWN)


def incident_frame(incidents: Iterable[Incident]) -> pl.DataFrame:
    """Incidents as a frame of `INCIDENT_SCHEMA`, in their order."""
    rows = [
        {
            **one.to_dict(),
            "detected_at": one.detected_at,
            "first_seen": one.first_seen,
            "last_seen": one.last_seen,
            "actor": one.actor.workload,
            "pod": one.actor.pod,
            "ip": one.actor.ip,
            "objects": [target_text(target) for target in one.objects],
            "policy": one.policy is not None,
        }
        for one in incidents
    ]
    kept = [{name: row[name] for name in INCIDENT_SCHEMA} for row in rows]
    return pl.DataFrame(kept, schema=INCIDENT_SCHEMA)


def target_text(target: Target) -> str:
    """Towards what, in a few words: `data/db:5432`, `example.org`."""
    name = target.domain or target.workload or target.ip or "?"
    return name if target.port is None else f"{name}:{target.port}"
