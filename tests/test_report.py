"""The report: what it says, that nothing in a name can break it, and that it is written whole."""

import re
import resource
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Final

import pytest
import zstandard
from test_service_map import LATERAL, START, baseline, contacts

from sidelong.alerts.incident import Actor, Incident, Observation, Target
from sidelong.cli import run
from sidelong.recorded_names import NAME_SCHEMA
from sidelong.recorded_timeline import TIMELINE_SCHEMA
from sidelong.recording import Recording, Sight
from sidelong.report_page import About, page
from sidelong.report_stories import stories_of
from sidelong.whole_file import WholeFile

HOSTILE: Final = "<script>alert(1)</script>\"'{{ 7*7 }}\u202e\x1b[2J</style>"


def recording(*incidents: Incident, sight: Sight | None = None) -> Recording:
    return Recording(
        incidents=incidents,
        contacts=contacts("shop/web data/db 5432", "shop/web shop/api 80"),
        names=NAME_SCHEMA.to_frame(),
        samples={},
        timeline=TIMELINE_SCHEMA.to_frame(),
        sight=sight or Sight(flows=2, first=START, last=START, dropped={}),
    )


def later(seconds: int, **changes: object) -> Incident:
    at = START + timedelta(seconds=seconds)
    moved = replace(LATERAL, id=f"bb{seconds}", detected_at=at, first_seen=at, last_seen=at)
    return replace(moved, **changes)  # type: ignore[arg-type]


class Outline(HTMLParser):
    """Headings in order, and ids."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.levels: list[int] = []
        self.ids: list[str] = []
        self.leads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if re.fullmatch("h[1-6]", tag):
            self.levels.append(int(tag[1]))
        self.ids += [value for name, value in attrs if name == "id" and value]
        self.leads += [
            value[1:] for name, value in attrs if name == "href" and value and value[0] == "#"
        ]


def test_a_story_is_told_with_its_sentence_evidence_and_policy() -> None:
    told = replace(
        LATERAL,
        evidence=(Observation("new_edge", "data/db:5432", "it used 3 others", 7.8),),
        policy="kind: CiliumNetworkPolicy\nspec: {}\n",
    )
    text = page(recording(told), baseline("shop/web shop/api 80"), About(baseline="shop.baseline"))
    assert "1 incident in 1 story" in text
    assert LATERAL.summary in text
    assert "<td>data/db:5432</td><td>it used 3 others</td>" in text
    assert "kind: CiliumNetworkPolicy\nspec: {}" in text
    assert "shop.baseline" in text


def test_no_incident_is_said_kindly_with_what_was_seen() -> None:
    text = page(recording(), baseline("shop/web shop/api 80"), About())
    assert "No incident was found" in text
    assert "Nothing in this traffic asked for attention" in text
    assert "data/db" in text


def test_what_is_only_informative_is_no_story() -> None:
    text = page(recording(replace(LATERAL, kind="anomaly", severity="info")), None, About())
    assert "No incident was found" in text
    assert "Other incidents" in text


def test_stories_come_worst_first() -> None:
    first, second = later(1, story="a", severity="medium"), later(2, story="b", severity="critical")
    assert [story.severity for story in stories_of([first, second])] == ["critical", "medium"]


def test_a_story_of_several_says_who_did_what_after_whom() -> None:
    scan = later(5, kind="scan", actor=Actor("data/db"), story=LATERAL.story)
    leaks = [
        later(9 + n, kind="dns_exfiltration", actor=Actor(f"x/{n}"), story=LATERAL.story)
        for n in range(2)
    ]
    (story,) = stories_of([*leaks, scan, LATERAL])
    assert story.sentence == (
        "4 incidents of 4 workloads within 10 s: lateral movement by shop/web, then a scan by "
        "data/db, then DNS exfiltration by x/0 and x/1."
    )
    assert story.title == "From shop/web on: lateral movement, a scan, DNS exfiltration"


def test_what_was_suppressed_is_counted_and_not_told() -> None:
    other = later(3, story="c", summary="Nobody wants to hear this.")
    text = page(recording(LATERAL, other), None, About(suppressed=frozenset({other.id})))
    assert "1 suppressed" in text
    assert "Nobody wants" not in text


def test_a_hostile_name_is_text_wherever_it_stands() -> None:
    told = replace(
        LATERAL,
        actor=Actor(HOSTILE, HOSTILE, HOSTILE),
        objects=(Target(HOSTILE, HOSTILE, 1), Target(domain=HOSTILE)),
        summary=HOSTILE,
        evidence=(Observation(HOSTILE, HOSTILE, HOSTILE, 1.0),),
        policy=f"# {HOSTILE}\n",
        story=HOSTILE,
        id=HOSTILE,
        techniques=(HOSTILE,),
    )
    seen = Sight(
        flows=1,
        bad=1,
        bad_samples=(HOSTILE,),
        sources=(HOSTILE,),
        first=START,
        last=START,
        dropped={},
    )
    text = page(recording(told, sight=seen), None, About(baseline=HOSTILE))
    assert "<script>alert" not in text
    assert "{{ 7*7 }}" in text  # it is no template
    assert "</style>\u202e" not in text
    assert all(line.isprintable() for line in text.split("\n"))
    assert text.count("<script>") == text.count("</script>") == 2


def test_headings_go_down_by_one_and_every_link_leads_somewhere_once() -> None:
    outline = Outline(page(recording(LATERAL, later(4)), baseline("a/x a/y 1"), About()))
    assert outline.levels[0] == 1
    assert all(low - high <= 1 for high, low in pairwise(outline.levels))
    assert len(outline.ids) == len(set(outline.ids))
    assert set(outline.leads) <= set(outline.ids)


def test_the_page_forbids_itself_everything_but_its_own_styles_and_scripts() -> None:
    text = page(recording(LATERAL), None, About())
    (allowed,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', text)
    assert allowed.startswith("default-src &#39;none&#39;")
    assert "unsafe" not in allowed
    assert 'style="' not in text
    assert not re.search(r"<[^>]+\son\w+=", text)


def test_the_same_recording_is_the_same_page() -> None:
    pages = {page(recording(LATERAL, later(4)), None, About()) for _ in range(2)}
    assert len(pages) == 1


def test_what_is_missing_is_said() -> None:
    seen = Sight(
        flows=90, completeness=0.9, lost=10, first=START, last=START, dropped={"contacts": 4}
    )
    text = page(recording(LATERAL, sight=seen), None, About(interrupted=True))
    assert "90.00 %: 10 events lost" in text
    assert "There was no baseline" in text
    assert "leaves out 4 edges" in text
    assert "the run was interrupted" in text


def test_when_it_was_written_is_told() -> None:
    written = datetime(2026, 11, 24, 13, tzinfo=UTC)
    assert "2026-11-24 13:00:00Z" in page(recording(), None, About(written=written))


@pytest.fixture
def traffic(shop: Path) -> str:
    return str(shop / "test.hubble.jsonl.zst")


def test_a_replay_writes_its_report_and_says_where(
    traffic: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "r.html"
    assert run(["replay", traffic, "--output", "json", "--report", str(file)]) == 1
    told = capsys.readouterr()
    assert f"report: {file}" in told.err
    assert all(line.startswith("{") for line in told.out.splitlines())
    assert "DNS exfiltration by payments/payments" in file.read_text(encoding="utf-8")
    assert [one.name for one in tmp_path.iterdir()] == ["r.html"]


@pytest.mark.parametrize("place", ["/dev/full", "absent/r.html", "."])
def test_a_place_where_nothing_can_be_written_is_said_before_the_run(
    place: str, traffic: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["replay", traffic, "--report", place]) == 2
    told = capsys.readouterr()
    assert f"{place} cannot be written" in told.err
    assert told.out == ""


def test_a_disk_without_room_is_said_before_the_run(traffic: str, tmp_path: Path) -> None:
    def small_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    ran = subprocess.run(
        [sys.executable, "-m", "sidelong", "replay", traffic, "--report", str(tmp_path / "r.html")],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=small_disk,
    )
    assert ran.returncode == 2
    assert "r.html cannot be written: File too large" in ran.stderr
    assert ran.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_what_was_there_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "r.html"
    path.write_text("before", encoding="utf-8")
    with WholeFile(str(path), 1_000) as file:
        assert path.read_text(encoding="utf-8") == "before"
        file.write("after")
    assert path.read_text(encoding="utf-8") == "after"
    assert path.stat().st_mode & 0o077 == 0o044


def test_a_run_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    assert run(["replay", "absent.pcap", "--report", str(tmp_path / "r.html")]) == 3
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_interrupted_makes_a_report_of_what_it_saw(
    traffic: str, tmp_path: Path
) -> None:
    file = tmp_path / "r.html"
    replaying = subprocess.Popen(
        [sys.executable, "-m", "sidelong", "replay", "-", "--report", str(file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert replaying.stdin
    assert replaying.stdout
    packed = Path(traffic).read_bytes()
    replaying.stdin.write(zstandard.ZstdDecompressor().stream_reader(packed).read())
    replaying.stdin.flush()  # and it stays open: there may be more
    assert replaying.stdout.readline().startswith(b"{")
    replaying.send_signal(signal.SIGINT)
    _, told = replaying.communicate(timeout=120)
    assert b"interrupted" in told
    assert "early: the run was interrupted" in file.read_text(encoding="utf-8")


def test_the_demo_writes_a_report_beside_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["demo"]) == 0
    assert "4 incidents in 1 story" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "report: report.html" in capsys.readouterr().err


def test_the_demo_leaves_a_stranger_s_report_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "report.html").write_text("<h1>Mine</h1>", encoding="utf-8")
    assert run(["demo"]) == 0
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == "<h1>Mine</h1>"
    assert "stays as it is" in capsys.readouterr().err
