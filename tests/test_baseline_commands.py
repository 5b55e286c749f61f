"""`sidelong baseline show`, `diff` and `forget`, and `learn --update`, as a person runs them."""

import json
from pathlib import Path
from typing import Any

import fsspec
import polars as pl
import pytest
from builders import flows, known, learnt, lookups

from sidelong.cli import run
from sidelong.models.baseline import Baseline
from sidelong.models.feedback import Allowance, Edge, Feedback
from sidelong.models.store import ModelStore

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def shop(tmp_path: Path) -> str:
    """A baseline of two clients of a database, one of which asks DNS."""
    told = [
        f"{n}s {client} {way} data/db:5432 {what}"
        for n in range(3)
        for client in ("shop/web", "shop/api")
        for way, what in (("->", "SYN"), ("<-", "SYN-ACK"))
    ]
    baseline = learnt(flows(*told), lookups("shop/web", ["a.example.org", "b.example.org"]))
    folder = tmp_path / "shop.baseline"
    baseline.save(folder)
    return str(folder)


def objects(printed: Captured) -> list[dict[str, Any]]:
    return [json.loads(line) for line in printed.readouterr().out.splitlines()]


def test_a_workload_is_shown_with_its_edges_and_domains(shop: str, capsys: Captured) -> None:
    assert run(["baseline", "show", "shop/web", "--baseline", shop, "--output", "table"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("shop/web  learning  watched 2 s  ")
    assert "-> data/db:5432/TCP  3 s, in 1 hour on 1 day, last 2026-11-23 09:00:02Z" in shown
    assert ".........1..............  1 weekday, 09-10 h" in shown
    assert "asks example.org" in shown
    assert "shop/api" not in shown


def test_who_is_called_is_shown_with_its_clients(shop: str, capsys: Captured) -> None:
    assert run(["baseline", "show", "data/db", "--baseline", shop, "--output", "table"]) == 0
    shown = capsys.readouterr().out
    assert "<- shop/api:5432/TCP" in shown
    assert "<- shop/web:5432/TCP" in shown


def test_without_a_workload_all_are_listed(shop: str, capsys: Captured) -> None:
    assert run(["baseline", "show", "--baseline", shop, "--output", "table"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "2 workloads, 3 edges"


def test_a_program_gets_an_object_a_line(shop: str, capsys: Captured) -> None:
    assert run(["baseline", "show", "shop/web", "--baseline", shop]) == 0
    shown = objects(capsys)
    assert [one["what"] for one in shown] == ["workload", "edge", "edge", "domain"]
    assert shown[1]["last"] == "2026-11-23T09:00:02Z"
    assert shown[1]["hours"] == [9]


def test_of_a_stranger_nothing_is_known(shop: str, capsys: Captured) -> None:
    assert run(["baseline", "show", "no/body", "--baseline", shop]) == 2
    assert "knows nothing of 'no/body'" in capsys.readouterr().err


def test_two_baselines_are_compared(shop: str, tmp_path: Path, capsys: Captured) -> None:
    other = tmp_path / "other"
    known({"shop/web -> data/db:5432": 3, "shop/web -> data/db:22": 3}).save(other)
    assert run(["baseline", "diff", shop, str(other), "--output", "table"]) == 1
    shown = capsys.readouterr().out
    assert "  + shop/web -> data/db:22/TCP" in shown
    assert "  - shop/api -> data/db:5432/TCP  1 weekday, 09-10 h" in shown
    assert "  - shop/web asks example.org" in shown
    assert run(["baseline", "diff", shop, str(other)]) == 1
    assert {one["change"] for one in objects(capsys)} == {"new", "gone"}


def test_the_same_baseline_shows_no_difference(shop: str, capsys: Captured) -> None:
    assert run(["baseline", "diff", shop, shop, "--output", "table"]) == 0
    assert capsys.readouterr().out == "nothing changed\n"


@pytest.mark.parametrize(
    ("subject", "edges", "workloads", "domains"),
    [
        ("shop/web -> data/db:5432", {"shop/api", "shop/web"}, {"shop/api", "shop/web"}, 1),
        ("shop/web->data/db", {"shop/api", "shop/web"}, {"shop/api", "shop/web"}, 1),
        ("shop/web", {"shop/api"}, {"shop/api"}, 0),
        ("data/db", {"shop/web"}, {"shop/web"}, 1),
        ("example.org", {"shop/api", "shop/web"}, {"shop/api", "shop/web"}, 0),
    ],
)
def test_what_is_forgotten_is_gone_and_nothing_else(
    shop: str, subject: str, edges: set[str], workloads: set[str], domains: int
) -> None:
    before = Baseline.load(Path(shop))
    assert run(["baseline", "forget", subject, "--baseline", shop]) == 0
    after = Baseline.load(Path(shop))
    assert set(after.contacts["actor"]) == edges
    assert set(after.workloads["actor"]) == workloads
    assert after.domains.height == domains
    gone = subject != "example.org"
    assert (after.contacts.height < before.contacts.height) is gone
    assert after.names.equals(before.names)


def test_a_workload_that_lost_an_edge_is_known_by_the_rest(shop: str) -> None:
    assert run(["baseline", "forget", "shop/web -> data/db", "--baseline", shop]) == 0
    left = Baseline.load(Path(shop)).workloads.filter(pl.col("actor") == "shop/web")
    assert left["active_seconds"].item() == 1  # a lookup


def test_who_had_it_forgotten_is_written_down(shop: str) -> None:
    asked = ["--by", "ann", "--why", "not ours"]
    assert run(["baseline", "forget", "shop/api", "--baseline", shop, *asked]) == 0
    (line,) = (Path(shop) / "history.jsonl").read_text(encoding="utf-8").splitlines()
    entry = json.loads(line)
    assert entry["what"] == ["1 workload", "1 edge"]
    assert (entry["by"], entry["forgot"], entry["why"]) == ("ann", "shop/api", "not ours")


def test_what_people_said_of_it_is_forgotten_too(shop: str) -> None:
    said = Feedback(
        known_edges=(
            Edge(actor="shop/web", peer="pay/api", port=80),
            Edge(actor="shop/api", peer="pay/api", port=80),
        ),
        allowed_domains=(Allowance(actor="shop/web", domain="example.net", bytes=9),),
    )
    said.save(Path(shop))
    assert run(["baseline", "forget", "shop/web", "--baseline", shop]) == 0
    left = Feedback.read(Path(shop))
    assert [one.actor for one in left.known_edges] == ["shop/api"]
    assert left.allowed_domains == ()


def test_a_store_forgets_by_a_new_version(shop: str, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    store = ModelStore(str(folder))
    before = store.publish(Baseline.load(Path(shop)))
    assert run(["baseline", "forget", "shop/api", "--baseline", str(folder)]) == 0
    assert store.latest() != before
    assert set(store.load().workloads["actor"]) == {"shop/web"}
    assert (folder / "history.jsonl").is_file()


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_so_does_a_store_at_a_url_with_what_people_said(
    shop: str, tmp_path: Path, kind: str
) -> None:
    url = f"{kind}://{tmp_path}/models"
    store = ModelStore(url)
    store.publish(Baseline.load(Path(shop)))
    known_edge = Edge(actor="shop/api", peer="pay/api", port=80)
    store.save_feedback(Feedback(known_edges=(known_edge,)))
    for subject in ("shop/api", "example.org"):
        assert run(["baseline", "forget", subject, "--baseline", url, "--by", "ann"]) == 0
    assert set(ModelStore(url).load().workloads["actor"]) == {"shop/web"}
    assert ModelStore(url).feedback().known_edges == ()
    history = fsspec.core.url_to_fs(url)[0].cat_file(f"{tmp_path}/models/history.jsonl")
    entries = [json.loads(line) for line in history.splitlines()]
    assert [(one["by"], one["forgot"]) for one in entries] == [
        ("ann", "shop/api"),
        ("ann", "example.org"),
    ]


def test_what_is_not_known_cannot_be_forgotten(shop: str, capsys: Captured) -> None:
    assert run(["baseline", "forget", "no/body", "--baseline", shop]) == 2
    assert "knows nothing of 'no/body'" in capsys.readouterr().err
    assert not (Path(shop) / "history.jsonl").exists()


def test_an_update_shows_its_drift(shop: str, tmp_path: Path, capsys: Captured) -> None:
    told = tmp_path / "later.parquet"
    flows("9s shop/web -> data/db:5432 SYN", "10s shop/web <- shop/cache:80 SYN-ACK").write_parquet(
        told
    )
    assert run(["learn", str(told), "--baseline", shop, "--update"]) == 0
    shown = capsys.readouterr().out
    assert "1 edge on trial: new, and vouched for by nobody yet" in shown
    assert "  shop/web -> shop/cache:80/TCP" in shown
    assert Baseline.load(Path(shop)).trial["peer"].to_list() == ["shop/cache"]


def test_there_must_be_a_baseline_to_bring_up_to_date(tmp_path: Path, capsys: Captured) -> None:
    told = tmp_path / "flows.parquet"
    flows("9s shop/web -> data/db:5432 SYN").write_parquet(told)
    assert run(["learn", str(told), "--baseline", str(tmp_path / "no"), "--update"]) == 2
    assert "no manifest.json there" in capsys.readouterr().err
