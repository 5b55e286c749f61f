"""No number of the scorecard gets worse than docs/scorecard.json says, as far as it is quick."""

import json
from pathlib import Path
from typing import Any

import pytest
from scorecard.captures import cluster_lab, public
from scorecard.card import totals
from scorecard.judged import judge, poisson
from scorecard.simulated import benign
from scorecard.worse import worse

ROOT = Path(__file__).resolve().parent.parent
KEPT = json.loads((ROOT / "docs" / "scorecard.json").read_text(encoding="utf-8"))


def test_the_captures_are_judged_no_worse_than_before(data: Path) -> None:
    judged = [judge(capture) for capture in (*cluster_lab(data), *public(data))]
    groups = {
        group: totals([one for one in judged if one.capture.group == group])
        for group in ("lab", "public")
    }
    assert worse(KEPT, {"by_group": groups}) == []


@pytest.mark.parametrize(
    ("name", "was", "worsened"), [("found", 7, 6), ("false_alarms", 0, 1), ("events_max", 12, 13)]
)
def test_what_gets_worse_is_told(name: str, was: int, worsened: int) -> None:
    scans = {"attacks": 7, "found": 7, "false_alarms": 0, "events_max": 12, name: was}
    before: dict[str, Any] = {"by_group": {"lab": {"scan": scans, "workload_days": 1.0}}}
    now: dict[str, Any] = {"by_group": {"lab": {"scan": scans | {name: worsened}}}}
    assert worse(before, before) == []
    (line,) = worse(before, now)
    assert line.startswith("lab, scan: ")


def test_the_limits_of_a_rate_are_exact() -> None:
    low, high = poisson(0, 1.0)
    assert (low, round(high, 2)) == (0.0, 3.69)
    assert [round(limit, 2) for limit in poisson(3, 1.0)] == [0.62, 8.77]


def test_simulated_days_bring_no_false_alarm() -> None:
    """A small part of what `make score` judges: fourteen workloads for two hours."""
    told = benign(workloads=14, rate=10, learn_hours=1, watch_hours=2, seed=5)
    assert told["false_alarms_told"] == []
    assert told["workload_days"] == pytest.approx(14 / 12, abs=0.05)


def test_false_alarms_of_simulated_days_that_were_none_before_are_told() -> None:
    def card(count: int) -> dict[str, Any]:
        return {"by_group": {}, "simulated": {"benign": {"false_alarms": {"scan": count}}}}

    assert worse(card(0), card(1)) == ["simulated: false alarms 0 -> 1"]
    assert worse(card(1), card(1)) == worse(card(1), card(0)) == []
    assert worse(card(0), {"by_group": {}}) == []


def test_a_scan_is_told_beside_what_any_test_could_know(data: Path) -> None:
    """nmap had ten ports under way when the first five had ended."""
    capture = next(one for one in public(data) if one.name.endswith("TCP_SYN_SCAN.pcap"))
    judged = judge(capture, closely=True)
    (found,) = judged.found
    assert (found.ended, found.events, found.limit) == (5, 10, 10)
    assert (judged.recounted, len(judged.incidents)) == (1, 1)
