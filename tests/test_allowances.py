"""What a workload may say to a domain is a rate, and one that knows how little was seen."""

from dataclasses import replace

import polars as pl
import pytest
from builders import lookups, observed

from sidelong.ingest.schema import conform
from sidelong.models.allowances import ALERT_BYTES, LEAK_BYTES_PER_DAY, SCALE, allowances
from sidelong.models.baseline import Baseline
from sidelong.models.baseline_tables import DOMAINS_SCHEMA
from sidelong.models.detectors import Detectors
from sidelong.models.feedback import Allowance, Feedback

HOUR = 3_600


def baseline(*, names: int, hours: float, size: int = 40, level: int = 0) -> Baseline:
    row = ("a/x", "example.net", level, names, names * size, round(hours * HOUR))
    domains = pl.DataFrame([row], schema=DOMAINS_SCHEMA, orient="row")
    return replace(Baseline.empty(), domains=domains)


def names_an_hour(known: Baseline, size: int = 40) -> float:
    leak = allowances(known)["leak_per_day"].item()
    return float(leak / SCALE - LEAK_BYTES_PER_DAY) / 24 / size


def test_a_week_makes_a_rate_credible() -> None:
    assert names_an_hour(baseline(names=20 * 168, hours=168)) == pytest.approx(18, abs=0.6)


def test_ten_minutes_make_no_rate_credible_however_busy() -> None:
    assert names_an_hour(baseline(names=20, hours=1 / 6)) == pytest.approx(1.17, abs=0.03)


def test_the_less_was_seen_the_lower_the_rate() -> None:
    rates = [names_an_hour(baseline(names=round(20 * t), hours=t)) for t in (1, 6, 24, 96)]
    assert rates == sorted(rates)
    assert rates[-1] < 20


def test_nothing_new_allows_nothing() -> None:
    (row,) = allowances(baseline(names=0, hours=100)).rows()
    assert row[2:] == (ALERT_BYTES * SCALE, LEAK_BYTES_PER_DAY * SCALE)


def hashes(hours: float, an_hour: int, size: int = 40) -> pl.DataFrame:
    """A scanner of files: it asks for new names at a steady rate."""
    names = [f"{n:0{size}d}.hashes.example.net" for n in range(round(hours * an_hour))]
    return conform(lookups("a/x", names, gap_seconds=HOUR / an_hour))


def alarms(flows: pl.DataFrame, known: Baseline) -> int:
    found = observed(Detectors(known), flows)
    return found.filter(pl.col("statistic") == "bucket", pl.col("decisive")).height


def test_who_always_asks_for_new_names_may_go_on_for_ever() -> None:
    scanner = hashes(96, 20)  # 77 kB
    assert alarms(scanner, Baseline.empty()) > 0
    assert alarms(scanner, baseline(names=20 * 168, hours=168)) == 0


def test_three_times_the_rate_alarms() -> None:
    assert alarms(hashes(24, 60), baseline(names=20 * 168, hours=168)) > 0


def test_what_a_person_calls_ordinary_may_go_on_as_fast_as_it_went() -> None:
    said = Allowance(actor="a/x", domain="example.net", bytes=1_600, seconds=2 * HOUR)
    known = Baseline.empty().heeding(Feedback(allowed_domains=(said,)))
    assert alarms(hashes(96, 20), known) == 0
    assert alarms(hashes(24, 60), known) > 0
