"""Attacks that others recorded and labelled are found; what they recorded as benign is left alone.

`make score` prints the same as a table.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import score
from score import Result

pytestmark = pytest.mark.slow


def missed(suite: Callable[[Path], Iterator[Result]], data: Path) -> list[Result]:
    results = list(suite(data))
    assert results
    return [result for result in results if not result.right]


def test_every_labelled_scan_is_found_without_a_baseline(data: Path) -> None:
    assert missed(score.scans, data) == []


def test_internet_scanners_are_found_among_a_day_of_one_computer(data: Path) -> None:
    assert missed(score.scanners, data) == []


def test_every_labelled_dns_tunnel_is_found_without_a_baseline(data: Path) -> None:
    assert missed(score.tunnels, data) == []


def test_benign_dns_raises_no_dns_incident(data: Path) -> None:
    assert missed(score.benign_dns, data) == []


def test_the_new_edge_of_apt29_is_found_on_its_first_flow(data: Path) -> None:
    assert missed(score.lateral, data) == []
