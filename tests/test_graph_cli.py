"""`sidelong graph`: from traffic, from a baseline, from both; errors say what to try."""

from pathlib import Path
from typing import Final

import pytest

from sidelong.cli import run

BASELINE: Final = "shop.baseline"


@pytest.fixture(scope="module")
def learnt(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("graph") / BASELINE
    assert run(["learn", str(shop / "train.hubble.jsonl.zst"), "--baseline", str(folder)]) == 0
    return str(folder)


def test_a_baseline_is_drawn_alone(learnt: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["graph", "--baseline", learnt, "--around", "shop/catalog"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("shop/catalog\n├─ calls\n")
    assert "shop/redis  6379  227 active seconds" in told


def test_traffic_beside_a_baseline_shows_what_is_strange(
    learnt: str, shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    traffic = str(shop / "test.hubble.jsonl.zst")
    assert run(["graph", traffic, "--baseline", learnt, "--around", "shop/catalog"]) == 0
    told = capsys.readouterr().out
    assert "!! payments/postgres  5432" in told
    assert "reserved:host  dynamic  not seen here, 1 active second in the baseline" in told


def test_an_unknown_workload_is_answered_with_those_that_come_close(
    learnt: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["graph", "--baseline", learnt, "--around", "shop/frontnd"]) == 2
    assert "try: there is shop/frontend" in capsys.readouterr().err


def test_nothing_to_draw_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["graph"]) == 2
    assert "nothing to draw" in capsys.readouterr().err


def test_the_name_of_the_file_says_what_it_becomes(learnt: str, tmp_path: Path) -> None:
    for name, begins in (("map.svg", "<svg"), ("map.dot", "digraph"), ("map.graphml", "<?xml")):
        file = tmp_path / name
        assert run(["graph", "--baseline", learnt, "--output-file", str(file)]) == 0
        assert file.read_text(encoding="utf-8").startswith(begins)


@pytest.mark.parametrize("place", ["/dev/full", "absent/map.svg", "."])
def test_what_cannot_be_written_is_said_before_anything_is_read(
    place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["graph", "no-such-capture.pcap", "--output-file", place]) == 2
    told = capsys.readouterr().err
    assert f"{place} cannot be written" in told
    assert "no-such-capture" not in told


def test_what_was_folded_is_said(learnt: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["graph", "--baseline", learnt, "--most", "6", "--format", "mermaid"]) == 0
    told = capsys.readouterr()
    assert "nodes are folded" in told.err
    assert "  %% " in told.out
