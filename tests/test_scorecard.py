"""No number of the scorecard gets worse than docs/scorecard.json says, as far as it is quick."""

import json
from pathlib import Path
from typing import Any

import pytest
from scorecard.captures import cluster_lab, public
from scorecard.card import totals
from scorecard.judged import judge, poisson
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
