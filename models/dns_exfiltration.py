"""DNS exfiltration: bounded by how much a client can say, not by how its names look.

A never-seen name carries at most its own text to whoever owns the registered domain (Paxson et al.,
USENIX Security 2013). So each (actor, domain) has a leaky bucket of never-seen subdomain bytes that
leaks 4,096 bytes a day and alarms at 1,024, on the query that crosses. What the baseline saw asked
is free, and who always says something new to a domain may go on at that rate (`allowances`).
Names for reverse lookups are charged the address they hold, names of the cluster's own zone
nothing, what a search path makes of a name next to nothing (`search_paths`), and a resolver that
forwards what a pod asked is not the culprit.

Below 4 kB a day and domain nothing is seen; that is the limit of any test of volume.
"""

from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sidelong.features.bounds import Bounds
from sidelong.features.membership import is_member
from sidelong.features.sums import OneSidedSums
from sidelong.ingest.keys import hash_columns
from sidelong.ingest.table import Table
from sidelong.models.allowances import ALERT_BYTES, LEAK_BYTES_PER_DAY, SCALE, allowances
from sidelong.models.baseline import Baseline
from sidelong.models.evidence import ALERT, NO_EVIDENCE, SILENCE_NS, as_evidence, crosses
from sidelong.models.expectation import expecting
from sidelong.models.search_paths import EXISTING_BYTES, TAKEN_BACK, SearchPaths

__all__ = [
    "TUNNEL_TYPES",
    "DnsExfiltrationDetector",
    "bucket_level",
    "name_keys",
]

_WEEK_NS: Final = 7 * 86_400_000_000_000

# An address written as labels says no more than the address: reverse lookups, also of networks, and
# blacklists, which put it in front of their own name.
_IPV4_LABELS: Final = r"^\d{1,3}(\.\d{1,3}){1,2}$|^\d{1,3}(\.\d{1,3}){3}(\.|$)"
_IPV6_LABELS: Final = r"^[0-9a-f](\.[0-9a-f]){15,30}$|^[0-9a-f](\.[0-9a-f]){31}(\.|$)"

TUNNEL_TYPES: Final = ("NULL", "KEY", "TYPE65399")
"""No stub resolver asks for these of its own accord; tunnels like them for the room they give. They
count double."""

_ALLOWED: Final = pl.format(
    "below {}, leaking {} a day", pl.col("limit") // SCALE, pl.col("leak_per_day") // SCALE
)


def name_keys(lookups: pl.DataFrame) -> NDArray[np.uint64]:
    """The 64-bit key of each lookup's (actor, domain, subdomain)."""
    return hash_columns(lookups, ["actor", "domain", "subdomain"])


def bucket_level(level: pl.Expr) -> pl.Expr:
    """The bucket behind an evidence level, in thousandths of a byte, where no allowance applied."""
    return level * (ALERT_BYTES * SCALE) // ALERT


class DnsExfiltrationDetector:
    """Charges never-seen names. Bounded by `bounds.names` and `bounds.sums`."""

    def __init__(self, baseline: Baseline, bounds: Bounds) -> None:
        self._known = baseline.name_keys
        self._allowances = allowances(baseline)
        self._names = Table({}, capacity=bounds.names, ttl_ns=_WEEK_NS)
        self._buckets = OneSidedSums(
            threshold=ALERT_BYTES * SCALE,
            silence_ns=SILENCE_NS,
            capacity=bounds.sums,
        )
        self._search_paths = SearchPaths(bounds.waiting)

    @property
    def evicted(self) -> int:
        """Names and buckets dropped because there were too many."""
        return self._names.evicted + self._buckets.evicted

    def judge(self, lookups: pl.DataFrame) -> pl.DataFrame:
        """Evidence from DNS rows: one row per never-seen name, and what is taken back of others.

        Takes rows of `sides` with `dns_name` and the columns of `name_parts`.
        """
        asked = lookups.filter(~pl.col("forwarded"))
        fresh = self._never_seen(asked)
        if fresh.is_empty() and self._search_paths.is_empty:
            return NO_EVIDENCE
        charged = self._charged(fresh)
        self._search_paths.charged(charged)
        back = self._search_paths.answered(asked)
        rows = charged.with_columns(leak=pl.lit(0, pl.Int64))
        if not back.is_empty():
            both = pl.concat([rows, self._taken_back(back)], how="diagonal_relaxed")
            rows = both.sort("row", maintain_order=True)
        if rows.is_empty():
            return NO_EVIDENCE
        filled = self._buckets.add(
            rows["group"].to_numpy(),
            charge=rows["charge"].to_numpy(),
            leak=rows["leak"].to_numpy(),
            time_ns=rows["time"].to_physical().to_numpy(),
            leak_per_day=rows["leak_per_day"].to_numpy(),
        )
        rows = rows.with_columns(filled=pl.Series(filled, dtype=pl.Int64))
        return as_evidence(
            rows.with_columns(
                kind=pl.lit("dns_exfiltration"),
                statistic=pl.lit("bucket"),
                sub=pl.lit(1),
                object="domain",
                reason=pl.col("dns_type").fill_null("QUERY"),
                sample="dns_name",
                # In nats, a full bucket is an alert: the limit is what h stands for.
                log_evidence=pl.col("charge") * ALERT // pl.col("limit")
                - pl.col("leak") * ALERT // pl.col("limit"),
                level=pl.col("filled") * ALERT // pl.col("limit"),
            )
            .with_columns(decisive=crosses(pl.col("level"), pl.col("log_evidence")))
            .with_columns(expecting(_ALLOWED))
        )

    def _never_seen(self, asked: pl.DataFrame) -> pl.DataFrame:
        """The first lookup of each never-seen name below a domain."""
        rows = asked.filter(pl.col("domain").is_not_null(), pl.col("subdomain") != "")
        if rows.is_empty():
            return rows
        keys = name_keys(rows)
        new = (self._names.find(keys) < 0) & ~is_member(keys, self._known)
        rows = rows.with_columns(key=pl.Series(keys, dtype=pl.UInt64)).filter(pl.Series(new))
        rows = rows.unique("key", keep="first", maintain_order=True)
        self._names.put(rows["key"].to_numpy(), seen=rows["time"].to_physical().to_numpy())
        return rows

    def _charged(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Never-seen names with their bytes, their charge and their bucket."""
        doubled = pl.col("dns_type").is_in(TUNNEL_TYPES).fill_null(False)
        rows = rows.with_columns(bytes=self._new_bytes(rows)).with_columns(
            charge=pl.col("bytes") * pl.when(doubled).then(2 * SCALE).otherwise(SCALE),
            group=pl.Series(hash_columns(rows, ["actor", "domain"]), dtype=pl.UInt64),
        )
        return rows.join(
            self._allowances, on=["actor", "domain"], how="left", maintain_order="left"
        ).with_columns(
            pl.col("limit").fill_null(ALERT_BYTES * SCALE),
            pl.col("leak_per_day").fill_null(LEAK_BYTES_PER_DAY * SCALE),
        )

    def _new_bytes(self, rows: pl.DataFrame) -> pl.Series:
        """How much each name says that its actor never said before: its text below the domain.

        Of a name that spells an address, the address, and what follows it (`.zen` of a blacklist)
        the first time.
        """
        text = pl.col("subdomain")
        spelt = rows.select(
            address=pl.when(text.str.contains(_IPV6_LABELS))
            .then(16)
            .when(text.str.contains(_IPV4_LABELS))
            .then(4)
            .cast(pl.Int64),
            whole=text.str.len_bytes().cast(pl.Int64),
        )
        said, addressed = spelt["whole"], spelt["address"].is_not_null()
        if not addressed.any():
            return said
        rests = rows.filter(addressed).with_columns(
            subdomain=text.str.replace(_IPV6_LABELS, "").str.replace(_IPV4_LABELS, "")
        )
        first = self._first(rests)
        rest = rests["subdomain"].str.len_bytes().cast(pl.Int64).to_numpy() * first
        charge = said.to_numpy().copy()
        charge[addressed.to_numpy()] = spelt["address"].drop_nulls().to_numpy() + rest
        return pl.Series(charge, dtype=pl.Int64)

    def _taken_back(self, back: pl.DataFrame) -> pl.DataFrame:
        """What lookups proved to be of a search path were charged too much: `bytes` below zero."""
        new = pl.Series(self._first(back.with_columns(subdomain="between")), dtype=pl.Int64)
        said = EXISTING_BYTES + pl.col("between").str.len_bytes().cast(pl.Int64) * new
        spare = (pl.col("bytes") - said).clip(0)
        return back.with_columns(
            bytes=-spare,
            leak=spare * (pl.col("charge") // pl.col("bytes")),
            charge=pl.lit(0, pl.Int64),
            dns_type=pl.lit(TAKEN_BACK),
        )

    def _first(self, rows: pl.DataFrame) -> NDArray[np.bool_]:
        """Which (actor, domain, subdomain) are new, even within these rows; they are no more."""
        # The key that came along is that of the whole name.
        keys = name_keys(rows.drop("subdomain_key", strict=False))
        first = np.zeros(rows.height, np.bool_)
        first[np.unique(keys, return_index=True)[1]] = True
        first &= (self._names.find(keys) < 0) & (rows["subdomain"] != "").to_numpy()
        self._names.put(keys[first], seen=rows.filter(first)["time"].to_physical().to_numpy())
        return first

    def tidy(self, now_ns: int) -> None:
        """Forget at an event-time tick what is old or beyond the bounds."""
        self._names.tidy(now_ns)
        self._buckets.tidy(now_ns)
        self._search_paths.tidy(now_ns)

    def snapshot(self) -> dict[str, Any]:
        """Names and buckets as a value."""
        return {
            "names": self._names.snapshot(),
            "buckets": self._buckets.snapshot(),
            "search_paths": self._search_paths.snapshot(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        self._names.restore(state["names"])
        self._buckets.restore(state["buckets"])
        self._search_paths.restore(state["search_paths"])
