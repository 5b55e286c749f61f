"""What every source of flows must hold to. A source joins by a `Case` in test_source_contract.py.

The rules are functions of a case; the test module runs each of them over every case there is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from sidelong.ingest.schema import FLOW_SCHEMA, empty_flows
from sidelong.ingest.source import BadRows, Batch, Source

__all__ = ["RULES", "Case"]


@dataclass(frozen=True)
class Case:
    """A source to be put to the rules, with a few hundred rows or more in it.

    small, large: the same content in small and in large batches. empty: without any flow. damaged:
    cut off or spoilt at its end.
    """

    small: Callable[[], Source]
    large: Callable[[], Source]
    empty: Callable[[], Source]
    damaged: Callable[[], Source]


def flows(batches: Sequence[Batch]) -> pl.DataFrame:
    return pl.concat([empty_flows(), *(batch.flows for batch in batches)])


def bad(batches: Sequence[Batch]) -> int:
    return sum((batch.bad for batch in batches), BadRows()).count


def the_schema_is_exact(case: Case) -> None:
    for source in (case.small(), case.large(), case.empty(), case.damaged()):
        for batch in source.batches():
            assert batch.flows.schema == FLOW_SCHEMA
            assert list(batch.flows.columns) == list(FLOW_SCHEMA)
            assert batch.flows["time"].null_count() == 0


def a_position_resumes_exactly_there(case: Case) -> None:
    for make in (case.small, case.damaged):
        batches = list(make().batches())
        for number, batch in enumerate(batches, 1):
            rest = list(make().batches(since=batch.position))
            assert flows(rest).equals(flows(batches[number:]))
            assert bad(rest) == bad(batches[number:])


def reading_again_gives_the_same_rows(case: Case) -> None:
    source = case.small()
    assert flows(list(source.batches())).equals(flows(list(source.batches())))


def batch_size_does_not_matter(case: Case) -> None:
    small, large = list(case.small().batches()), list(case.large().batches())
    assert len(small) > len(large)
    assert flows(small).height > 0
    assert flows(small).equals(flows(large))
    assert bad(small) == bad(large)


def an_empty_source_yields_nothing(case: Case) -> None:
    assert flows(list(case.empty().batches())).is_empty()


def damage_at_the_end_is_counted(case: Case) -> None:
    whole, damaged = list(case.small().batches()), list(case.damaged().batches())
    assert bad(damaged) > bad(whole)
    assert 0 < flows(damaged).height <= flows(whole).height
    samples = [sample for batch in damaged for sample in batch.bad.samples]
    assert samples
    assert all(case.damaged().name in sample for sample in samples)


def progress_is_monotone_and_ends_at_the_size(case: Case) -> None:
    source = case.small()
    read = [batch.read_bytes for batch in source.batches()]
    assert read == sorted(read)
    if source.size_bytes is not None:
        assert read[-1] == source.size_bytes


RULES: Final = (
    the_schema_is_exact,
    a_position_resumes_exactly_there,
    reading_again_gives_the_same_rows,
    batch_size_does_not_matter,
    an_empty_source_yields_nothing,
    damage_at_the_end_is_counted,
    progress_is_monotone_and_ends_at_the_size,
)
