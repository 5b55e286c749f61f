"""No change makes what is measured more than a fifth slower; the measuring notices if one does."""

import sys
from pathlib import Path
from typing import Final

import pytest

BENCH: Final = Path(__file__).resolve().parent / "bench"
sys.path.insert(0, str(BENCH))

import ratios  # noqa: E402 - see the line above

TRIALS: Final = 3


@pytest.mark.slow
def test_no_ratio_is_more_than_a_fifth_worse_than_recorded() -> None:
    """If it must be: `python tests/bench/ratios.py --record` writes tests/bench/ratios.json anew.

    Noise passes: only what is worse in each of three measurements is.
    """
    before = ratios.recorded()
    worse = {name: (ratio, 0.0) for name, ratio in before.items()}
    for _ in range(TRIALS):
        now = ratios.worse(before, ratios.measured())
        worse = {name: now[name] for name in worse.keys() & now.keys()}
        if not worse:
            return
    pytest.fail(f"slower than recorded, before and now: {worse}")


def test_what_is_done_twice_is_noticed() -> None:
    with ratios.packets() as (ours, theirs):

        def twice() -> None:
            ours()
            ours()

        before, after = ratios.ratio(ours, theirs), ratios.ratio(twice, theirs)
    assert list(ratios.worse({"pcap": before}, {"pcap": after})) == ["pcap"]


def test_a_fifth_is_let_pass_and_more_is_not() -> None:
    recorded = {"same": 2.0, "a little": 2.0, "much": 2.0, "gone": 2.0}
    now = {"same": 2.0, "a little": 1.61, "much": 1.59, "new": 0.1}
    assert ratios.worse(recorded, now) == {"much": (2.0, 1.59), "gone": (2.0, 0.0)}
