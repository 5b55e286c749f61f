"""`sidelong alerts` and `replay --notify` from end to end: what is printed, sent and written."""

import json
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from builders import known
from told_incidents import NOW, closed, opened, updated

from sidelong.alerts.delivery import Dispatcher
from sidelong.alerts.delivery_settings import DeliverySettings
from sidelong.alerts.incident import Incident, Target
from sidelong.alerts.outbox import Outbox
from sidelong.alerts.receiver import Message, Sent, Undelivered
from sidelong.cli import run
from sidelong.models.baseline import Baseline
from sidelong.models.feedback import Feedback
from sidelong.models.store import ModelStore

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


RECEIVER = """
[[receivers]]
type = "file"
name = "log"
path = "told.jsonl"
"""


def config(folder: Path, more: str = "", name: str = "sidelong.toml") -> str:
    (folder / name).write_text(RECEIVER + more, encoding="utf-8")
    return str(folder / name)


def recorded(folder: Path, *events: Incident) -> str:
    path = folder / "found.jsonl"
    path.write_text("".join(f"{event.to_json()}\n" for event in events), encoding="utf-8")
    return str(path)


def suppressions(folder: Path, expires: str, match: str = 'kind = "scan"') -> str:
    (folder / "s.toml").write_text(
        f'[[suppressions]]\nid = "s1"\nmatch = {{ {match} }}\nowner = "ops"\nreason = "r"\n'
        f"expires = {expires}\n",
        encoding="utf-8",
    )
    return '[alerts]\nsuppressions = ["s.toml"]\n'


# check


def test_check_lists_routes_and_finds_nothing_wrong(tmp_path: Path, capsys: Captured) -> None:
    assert run(["alerts", "check", "--config", config(tmp_path)]) == 0
    captured = capsys.readouterr()
    assert captured.out == "route alerts.route: log\n"
    assert captured.err == "1 receiver, 0 suppressions, 0 warnings\n"


def test_check_tells_of_an_expired_suppression_by_its_exit_status(
    tmp_path: Path, capsys: Captured
) -> None:
    path = config(tmp_path, suppressions(tmp_path, "2025-01-31"))
    assert run(["alerts", "check", "--config", path]) == 1
    captured = capsys.readouterr()
    assert "suppression s1: EXPIRED 2025-01-31, kept back 0 incidents, ops: r" in captured.out
    assert "the suppression 's1' has expired" in captured.err


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ('[alerts.route]\nreceivers = ["nobody"]\n', "there is no receiver 'nobody'"),
        ('[alerts.route]\nreceivers = ["log"]\nsevrity = "high"\n', "unknown field `sevrity`"),
        ('[alerts]\nsuppressions = ["no.toml"]\n', "no.toml cannot be read"),
        (RECEIVER, "two receivers are called log"),
    ],
)
def test_check_refuses_what_cannot_work(
    tmp_path: Path, capsys: Captured, more: str, problem: str
) -> None:
    assert run(["alerts", "check", "--config", config(tmp_path, more)]) == 2
    assert problem in capsys.readouterr().err


# test


class Hook(BaseHTTPRequestHandler):
    """Takes what comes, and repeats the secret it was shown."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = f"thanks for {self.headers['Authorization']}".encode()
        self.send_response(202)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hook() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Hook) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/path-that-is-secret"
        server.shutdown()
        thread.join()


def webhook(url: str) -> str:
    return f"""
[[receivers]]
type = "webhook"
name = "hook"
url = "{url}"
allow_http = true
allow_private = ["127.0.0.0/8"]
headers = {{ Authorization = {{ env = "HOOK_TOKEN" }} }}
[alerts.route]
receivers = "log"
routes = [{{ severity = "high", receivers = "hook" }}]
"""


def test_test_prints_what_was_sent_and_answered_without_a_secret(
    tmp_path: Path, capsys: Captured, hook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK_TOKEN", "Bearer hush-hush-token")
    path = config(tmp_path, webhook(hook))
    assert run(["alerts", "test", "--config", path, "--severity", "critical"]) == 0
    out = capsys.readouterr().out
    assert "hook, by alerts.route.routes[0]" in out
    assert re.search(r"POST http://127\.0\.0\.1:\d+/…", out)
    assert "Authorization: ***" in out
    assert '"severity": "critical"' in out
    assert "answered: 202 Accepted thanks for ***" in out
    assert "hush" not in out
    assert "path-that-is-secret" not in out


def test_test_sends_nothing_in_a_dry_run(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK_TOKEN", "Bearer hush-hush-token")
    path = config(tmp_path, webhook("http://127.0.0.1:9/"))
    assert run(["alerts", "test", "--config", path, "--receiver", "hook", "--dry-run"]) == 0
    assert run(["alerts", "test", "--config", path, "--dry-run"]) == 0
    assert "answered: 200 not sent" in capsys.readouterr().out
    assert not (tmp_path / "told.jsonl").exists()


def test_test_says_when_a_receiver_does_not_take_it(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK_TOKEN", "x")
    path = config(tmp_path, webhook("http://127.0.0.1:9/"))
    assert run(["alerts", "test", "--config", path, "--receiver", "hook"]) == 1
    assert "NOT TAKEN" in capsys.readouterr().out


def test_test_says_that_a_secret_is_missing(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HOOK_TOKEN", raising=False)
    path = config(tmp_path, webhook("http://127.0.0.1:9/"))
    assert run(["alerts", "test", "--config", path, "--receiver", "hook"]) == 1
    assert "NOT SENT: a secret is in the variable HOOK_TOKEN" in capsys.readouterr().out


def test_test_takes_the_route_of_the_sample(tmp_path: Path, capsys: Captured) -> None:
    path = config(
        tmp_path,
        "[alerts.route]\nreceivers = []\n[[alerts.route.routes]]\n"
        'namespace = "shop"\nreceivers = "log"\n',
    )
    assert run(["alerts", "test", "--config", path]) == 1
    assert "nobody would be told" in capsys.readouterr().out
    assert run(["alerts", "test", "--config", path, "--workload", "shop/cart"]) == 0
    (line,) = (tmp_path / "told.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["actor"]["workload"] == "shop/cart"


# preview


DAY = (
    opened("a", score=0.55),
    opened("b", score=0.55, kind="lateral_movement"),
    updated(opened("b", score=0.8, kind="lateral_movement")),
    closed(opened("a", score=0.55)),
)


def rows(out: str) -> list[tuple[str, str, str]]:
    return [
        (row["change"], row["incident"], row["told"]) for row in map(json.loads, out.splitlines())
    ]


def test_preview_says_where_past_incidents_would_have_gone(
    tmp_path: Path, capsys: Captured
) -> None:
    found = recorded(tmp_path, *DAY)
    assert run(["alerts", "preview", "--config", config(tmp_path), found]) == 1
    captured = capsys.readouterr()
    assert rows(captured.out) == [("sent", "a", "open, closed"), ("sent", "b", "open, update")]
    assert not (tmp_path / "told.jsonl").exists()
    assert not (tmp_path / "sidelong.outbox").exists()


def test_preview_of_a_changed_threshold_lists_the_alerts_added_and_removed(
    tmp_path: Path, capsys: Captured
) -> None:
    found = recorded(tmp_path, *DAY)
    old = config(tmp_path)
    new = config(tmp_path, '[alerts.route]\nreceivers = "log"\nmin_score = 0.7\n', "new.toml")
    assert run(["alerts", "preview", "--config", new, "--against", old, found]) == 1
    removed = capsys.readouterr()
    assert rows(removed.out) == [("removed", "a", "open, closed"), ("kept", "b", "open")]
    assert "0 alerts added, 1 removed" in removed.err
    assert run(["alerts", "preview", "--config", old, "--against", new, found]) == 1
    assert rows(capsys.readouterr().out)[0] == ("added", "a", "open, closed")


def test_preview_of_nothing_new_finds_nothing(tmp_path: Path, capsys: Captured) -> None:
    path = config(tmp_path)
    found = recorded(tmp_path, *DAY)
    assert run(["alerts", "preview", "--config", path, "--against", path, found]) == 0
    assert {row[0] for row in rows(capsys.readouterr().out)} == {"kept"}


def test_preview_says_what_a_suppression_would_have_kept_back(
    tmp_path: Path, capsys: Captured
) -> None:
    old = config(tmp_path)
    new = config(tmp_path, suppressions(tmp_path, "2027-01-31"), "new.toml")
    found = recorded(tmp_path, *DAY)
    command = ["alerts", "preview", "--config", new, "--against", old, found]
    assert run([*command, "--output", "table"]) == 1
    captured = capsys.readouterr()
    assert re.search(r"^- log +a .*suppressed by s1$", captured.out, re.MULTILINE)
    assert "the suppression s1 keeps back 1 incident" in captured.err


def test_preview_replays_captures(shop: Path, tmp_path: Path, capsys: Captured) -> None:
    capture = str(shop / "test.hubble.jsonl.zst")
    assert run(["alerts", "preview", "--config", config(tmp_path), capture]) == 1
    assert len(rows(capsys.readouterr().out)) >= 3


def test_preview_says_which_line_is_no_incident(tmp_path: Path, capsys: Captured) -> None:
    found = recorded(tmp_path, opened())
    with Path(found).open("a", encoding="utf-8") as file:
        file.write("{}\n")
    assert run(["alerts", "preview", "--config", config(tmp_path), found]) == 2
    assert "line 2 of" in capsys.readouterr().err


# list and redeliver


class Down:
    """A receiver that refuses for good."""

    name = "log"

    def send(self, message: Message) -> Sent:
        raise Undelivered("it is\x1b[2J down", permanent=True)


def dead_letter() -> str:
    """One, in the outbox of the working directory; its id."""
    outbox = Outbox(DeliverySettings())
    message = Message(receiver="log", events=(opened(),), created_at=NOW)
    dispatcher = Dispatcher(outbox, [Down()])
    dispatcher.put([message])
    dispatcher.turn("log")
    outbox.close()
    return message.id


def test_list_without_an_outbox_makes_none(tmp_path: Path, capsys: Captured) -> None:
    assert run(["alerts", "list"]) == 0
    assert "nothing was sent yet" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_list_shows_dead_letters_and_why(capsys: Captured) -> None:
    id = dead_letter()
    assert run(["alerts", "list", "--output", "table"]) == 1
    out = capsys.readouterr().out
    assert "0 waiting, 1 dead" in out
    assert id in out
    assert "open a1" in out
    assert "\x1b" not in out


def test_list_as_json_is_for_programs(capsys: Captured) -> None:
    id = dead_letter()
    assert run(["alerts", "list"]) == 1
    queue, letter = map(json.loads, capsys.readouterr().out.splitlines())
    assert queue == {"receiver": "log", "waiting": 0, "dead": 1}
    assert (letter["id"], letter["attempts"]) == (id, 1)


def test_redeliver_delivers_what_was_dead(tmp_path: Path, capsys: Captured) -> None:
    id = dead_letter()
    assert run(["alerts", "redeliver", id, "--config", config(tmp_path)]) == 0
    assert "1 message taken up again: 1 delivered" in capsys.readouterr().err
    assert (tmp_path / "told.jsonl").exists()
    assert run(["alerts", "redeliver", "--all", "--config", config(tmp_path)]) == 1


def test_redeliver_wants_to_know_what(tmp_path: Path, capsys: Captured) -> None:
    assert run(["alerts", "redeliver", "--config", config(tmp_path)]) == 2
    assert "nothing is chosen" in capsys.readouterr().err


# ack, benign, confirm


@pytest.fixture
def baseline(tmp_path: Path) -> str:
    known({"shop/frontend -> shop/cart:80": 10}).save(tmp_path / "b")
    return str(tmp_path / "b")


def trail(folder: Path) -> list[dict[str, object]]:
    lines = (folder / "alerts-audit.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


MOVEMENT = opened(kind="lateral_movement", objects=(Target("data/db", "10.2.0.9", 5432),))


def test_ack_is_written_with_who_and_why(tmp_path: Path, capsys: Captured) -> None:
    found = recorded(tmp_path, opened("abcdef12"))
    command = ["alerts", "ack", "abcd", "--incidents", found, "--by", "ada", "--why", "rollout"]
    assert run(command) == 0
    (entry,) = trail(tmp_path)
    named = ("verdict", "incident", "by", "why")
    assert [entry[name] for name in named] == ["ack", "abcdef12", "ada", "rollout"]
    assert "written to alerts-audit.jsonl as ada" in capsys.readouterr().err


def test_benign_teaches_the_baseline(tmp_path: Path, baseline: str) -> None:
    found = recorded(tmp_path, MOVEMENT)
    assert run(["alerts", "benign", "a1", "--incidents", found, "--baseline", baseline]) == 0
    (edge,) = Feedback.read(Path(baseline)).known_edges
    assert (edge.actor, edge.peer, edge.port) == ("shop/frontend", "data/db", 5432)
    assert trail(tmp_path)[0]["taught"] == ["shop/frontend -> data/db:5432 is known"]


def test_benign_teaches_a_model_store_for_all_versions(tmp_path: Path, baseline: str) -> None:
    url = f"memory://{tmp_path}/models"
    store = ModelStore(url)
    store.publish(Baseline.load(Path(baseline)))
    found = recorded(tmp_path, MOVEMENT)
    assert run(["alerts", "benign", "a1", "--incidents", found, "--baseline", url]) == 0
    (edge,) = store.feedback().known_edges
    assert (edge.actor, edge.peer, edge.port) == ("shop/frontend", "data/db", 5432)
    store.publish(Baseline.load(Path(baseline)))
    assert store.load().feedback.known_edges == (edge,)


def test_confirm_forbids(tmp_path: Path, baseline: str) -> None:
    found = recorded(tmp_path, MOVEMENT)
    assert run(["alerts", "confirm", "a1", "--incidents", found, "--baseline", baseline]) == 0
    assert len(Feedback.read(Path(baseline)).forbidden_edges) == 1


def test_an_incident_that_is_open_is_found_without_a_file(
    tmp_path: Path, shop: Path, capsys: Captured
) -> None:
    dead_letter()
    assert run(["alerts", "ack", "a1"]) == 0
    assert "a1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("id", "problem"),
    [
        ("zzzz", "there is no incident 'zzzz'"),
        ("abcd", "2 incidents begin with 'abcd'"),
        ("ab", "there is no incident 'ab'"),
    ],
)
def test_an_incident_that_cannot_be_found_is_named(
    tmp_path: Path, capsys: Captured, id: str, problem: str
) -> None:
    found = recorded(tmp_path, opened("abcdef12"), opened("abcdef34"))
    assert run(["alerts", "ack", id, "--incidents", found]) == 2
    assert problem in capsys.readouterr().err
    assert not (tmp_path / "alerts-audit.jsonl").exists()


def test_a_baseline_that_is_none_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: Captured
) -> None:
    found = recorded(tmp_path, MOVEMENT)
    assert run(["alerts", "benign", "a1", "--incidents", found, "--baseline", "no"]) == 2
    assert "no is no baseline" in capsys.readouterr().err
    assert not (tmp_path / "alerts-audit.jsonl").exists()


# replay


def test_a_replay_tells_nobody_unless_it_is_asked_to(tmp_path: Path, shop: Path) -> None:
    capture = str(shop / "test.hubble.jsonl.zst")
    command = ["replay", capture, "--config", config(tmp_path)]
    assert run([*command, "--output", "json"]) == 1
    assert not (tmp_path / "told.jsonl").exists()
    assert run([*command, "--notify"]) == 1
    arrived = [json.loads(line) for line in (tmp_path / "told.jsonl").read_text().splitlines()]
    openings = [one["id"] for one in arrived if one["status"] == "open"]
    closes = [one["id"] for one in arrived if one["status"] == "closed"]
    assert len(openings) == len(set(openings)) >= 3
    assert sorted(openings) == sorted(closes)
    assert any(one["policy"] for one in arrived)
    assert run([*command, "--notify"]) == 1
    again = (tmp_path / "told.jsonl").read_text().splitlines()
    assert len(again) == len(arrived)  # the outbox knows them


def test_a_suppressed_incident_is_counted_and_listed_with_all(
    tmp_path: Path, shop: Path, capsys: Captured
) -> None:
    capture = str(shop / "test.hubble.jsonl.zst")
    path = config(tmp_path, suppressions(tmp_path, "2099-01-31"))
    command = ["replay", capture, "--config", path]
    assert run([*command, "--output", "table"]) == 1
    quiet = capsys.readouterr()
    assert " scan " not in quiet.out
    assert "1 more incident suppressed; --all lists them" in quiet.err
    assert run([*command, "--output", "table", "--all"]) == 1
    assert "(suppressed: s1)" in capsys.readouterr().out
    assert run([*command, "--output", "json"]) == 1
    assert '"kind": "scan"' in capsys.readouterr().out
