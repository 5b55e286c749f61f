"""When a destination fails for everybody, failing there is nobody's scan."""

import polars as pl
from builders import flows, incidents

from sidelong.alerts.outages import Outages
from sidelong.models.evidence import EVIDENCE_SCHEMA

SECOND = 1_000_000_000
OTHERS = ("b/one", "b/two", "b/three")


def seen(*ends: tuple[str, str, int, str]) -> Outages:
    """Outcomes: (actor, object, second, reason)."""
    outages = Outages(1_000)
    columns = {name: [end[n] for end in ends] for n, name in ((0, "actor"), (1, "object"))}
    frame = pl.DataFrame(
        columns
        | {
            "row": list(range(len(ends))),
            "time": [end[2] * SECOND for end in ends],
            "reason": [end[3] for end in ends],
            "statistic": ["horizontal"] * len(ends),
        }
    )
    outages.add(
        frame.select(
            (pl.col(name) if name in frame.columns else pl.lit(None)).cast(dtype).alias(name)
            for name, dtype in EVIDENCE_SCHEMA.items()
        )
    )
    return outages


def excused(outages: Outages, *, second: int = 60, row: int = 99) -> set[str]:
    return outages.excuse(pl.Series(["db"]), "a/x", second * SECOND, row)


def refused(*actors: str, second: int = 30) -> list[tuple[str, str, int, str]]:
    return [(actor, "db", second, "REFUSED") for actor in actors]


def test_three_others_that_fail_excuse() -> None:
    assert excused(seen(*refused(*OTHERS))) == {"db"}


def test_two_others_do_not() -> None:
    assert excused(seen(*refused(*OTHERS[:2]))) == set()


def test_the_actor_is_no_witness_for_itself() -> None:
    assert excused(seen(*refused(*OTHERS[:2], "a/x"))) == set()


def test_silence_is_a_failure_like_a_refusal_but_a_denial_is_not() -> None:
    silent = [(actor, "db", 30, "UNANSWERED") for actor in OTHERS]
    denied = [(actor, "db", 30, "DENIED") for actor in OTHERS]
    assert excused(seen(*silent)) == {"db"}
    assert excused(seen(*denied)) == set()


def test_a_destination_that_serves_most_others_is_not_down() -> None:
    served = [(f"c/{n}", "db", 30, "ANSWERED") for n in range(4)]
    assert excused(seen(*refused(*OTHERS), *served)) == set()


def test_only_the_minute_before_counts() -> None:
    assert excused(seen(*refused(*OTHERS, second=0)), second=60) == {"db"}
    assert excused(seen(*refused(*OTHERS, second=0)), second=61) == set()
    assert excused(seen(*refused(*OTHERS, second=70)), second=60) == set()


def test_rows_beyond_the_watermark_are_not_known_yet() -> None:
    assert excused(seen(*refused(*OTHERS)), row=1) == set()


def sweep(actor: str, start: float) -> list[tuple[float, str]]:
    told = []
    for n in range(5):
        at = start + n
        told.append((at, f"{at:.3f}s {actor} -> app/dead{n}:80 SYN"))
        told.append((at + 0.001, f"{at + 0.001:.3f}s {actor} <- app/dead{n}:80 RST"))
    return told


def scanners(*sweeps: list[tuple[float, str]]) -> set[str]:
    told = sorted(line for one in sweeps for line in one)
    found = incidents(flows(*(line for _, line in told)))
    return {incident.actor.workload for incident in found}


def test_a_sweep_over_destinations_that_are_down_for_all_is_no_scan() -> None:
    others = [sweep(actor, 0.01 * n) for n, actor in enumerate(OTHERS, start=1)]
    assert scanners(sweep("a/x", 0.05), *others) == set()


def test_without_the_others_the_same_sweep_is_one() -> None:
    assert scanners(sweep("a/x", 0.05)) == {"a/x"}


def test_others_that_failed_there_long_ago_excuse_nothing() -> None:
    others = [sweep(actor, 0.01 * n) for n, actor in enumerate(OTHERS, start=1)]
    assert "a/x" in scanners(sweep("a/x", 90), *others)
