"""The zone that the names under a domain share."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidelong.alerts.zones import Zones


def zone(*names: str, domain: str = "example.net") -> str:
    zones = Zones()
    zones.add(pl.DataFrame({"domain": [domain] * len(names), "sample": list(names)}))
    return zones.of(domain)


def test_names_below_one_label_share_the_zone_with_it() -> None:
    assert zone("a.t.example.net", "b.t.example.net") == "t.example.net"


def test_names_that_differ_below_the_domain_share_only_the_domain() -> None:
    assert zone("a.example.net", "b.example.net") == "example.net"


def test_one_name_alone_shares_nothing_with_anybody() -> None:
    assert zone("a.t.example.net") == "example.net"


def test_labels_are_shared_whole_not_letter_by_letter() -> None:
    assert zone("x.at.example.net", "x.bt.example.net") == "example.net"


def test_a_name_may_be_the_zone_of_the_others() -> None:
    assert zone("t.example.net", "a.t.example.net") == "t.example.net"


def test_what_was_never_added_is_its_own_zone() -> None:
    assert Zones().of("example.net") == "example.net"


@pytest.mark.parametrize("missing", ["domain", "sample"])
def test_rows_without_a_name_are_passed_over(missing: str) -> None:
    rows = {"domain": ["example.net"], "sample": ["a.example.net"], missing: [None]}
    zones = Zones()
    zones.add(pl.DataFrame(rows, schema={"domain": pl.String, "sample": pl.String}))
    assert zones.extremes == {}


labels = st.text("ab-", min_size=1, max_size=3)
names = st.lists(
    st.lists(labels, min_size=1, max_size=4).map(lambda path: ".".join([*path, "example.net"])),
    min_size=2,
    max_size=12,
    unique=True,
)


@given(names, st.integers(1, 11))
def test_the_zone_is_the_longest_common_ending_however_names_arrive(
    asked: list[str], cut: int
) -> None:
    zones = Zones()
    for part in (asked[:cut], asked[cut:]):
        zones.add(
            pl.DataFrame(
                {"domain": ["example.net"] * len(part), "sample": part},
                schema={"domain": pl.String, "sample": pl.String},
            )
        )
    endings = [name.split(".")[::-1] for name in asked]
    common = []
    for of_all in zip(*endings, strict=False):
        if len(set(of_all)) > 1:
            break
        common.append(of_all[0])
    assert zones.of("example.net") == ".".join(reversed(common))
