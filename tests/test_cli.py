"""The command line from end to end: what is printed where, and with which exit status."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Final

import polars as pl
import pytest
import zstandard

from sidelong.cli import FORMATS, run
from sidelong.ingest import inputs
from sidelong.ingest.inputs import open_inputs
from sidelong.ingest.merge import merged
from sidelong.ingest.schema import empty_flows

FOUND: Final = {
    ("scan", "shop/frontend"),
    ("dns_exfiltration", "payments/payments"),
    ("dns_exfiltration", "jobs/batch"),
    ("lateral_movement", "shop/catalog"),
}
SIDELONG: Final = (sys.executable, "-m", "sidelong")

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def quiet(shop: Path) -> str:
    return str(shop / "train.hubble.jsonl.zst")


@pytest.fixture(scope="module")
def attacked(shop: Path) -> str:
    return str(shop / "test.hubble.jsonl.zst")


@pytest.fixture(scope="module")
def baseline(quiet: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("learnt") / "shop.baseline")
    assert run(["learn", quiet, "--baseline", folder]) == 0
    return folder


@pytest.fixture(scope="module")
def some(quiet: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The first flows of the quiet minutes, enough to learn something from."""
    return cut(quiet, 3_000, tmp_path_factory.mktemp("some"))


@pytest.fixture(scope="module")
def beginning(attacked: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The minutes under attack up to the scan."""
    return cut(attacked, 6_000, tmp_path_factory.mktemp("beginning"))


def cut(path: str, lines: int, folder: Path) -> str:
    text = zstandard.ZstdDecompressor().stream_reader(Path(path).read_bytes()).read()
    short = folder / "cut.jsonl"
    short.write_bytes(b"".join(text.splitlines(keepends=True)[:lines]))
    return str(short)


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    status: int
    out: str
    err: str


@pytest.fixture(scope="module")
def replayed(attacked: str, baseline: str) -> Ran:
    """The minutes under attack, replayed into a pipe."""
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = run(["replay", attacked, "--baseline", baseline])
    return Ran(status, out.getvalue(), err.getvalue())


def found(stdout: str) -> set[tuple[str, str]]:
    """Kind and actor of each incident above info in JSON lines."""
    events = [json.loads(line) for line in stdout.splitlines()]
    return {
        (event["kind"], event["actor"]["workload"])
        for event in events
        if event["severity"] != "info"
    }


# What is found


def test_the_four_attacks_are_found_in_hubble_flows(replayed: Ran) -> None:
    assert (replayed.status, found(replayed.out)) == (1, FOUND)


@pytest.mark.slow
def test_the_four_attacks_are_found_in_packets(
    data: Path, shop: Path, tmp_path: Path, capsys: Captured
) -> None:
    lab, pods = data / "cluster-lab", str(shop / "pods.json")
    folder = str(tmp_path / "shop.baseline")
    assert run(["learn", str(lab / "train.pcap"), "--pods", pods, "--baseline", folder]) == 0
    capsys.readouterr()
    assert run(["replay", str(lab / "test.pcap"), "--pods", pods, "--baseline", folder]) == 1
    assert found(capsys.readouterr().out) == FOUND


def test_quiet_traffic_exits_with_zero(quiet: str, baseline: str, capsys: Captured) -> None:
    assert run(["replay", quiet, "--baseline", baseline]) == 0
    assert capsys.readouterr().out == ""


def test_the_demo_prints_the_four_attacks_and_how_to_go_on(capsys: Captured) -> None:
    assert run(["demo"]) == 0
    shown = capsys.readouterr().out
    for kind, actor in FOUND:
        assert re.search(f"{kind.replace('_', ' ')} +{actor} -> ", shown)
    assert "sidelong learn " in shown


def test_the_demo_says_where_its_example_is_when_it_is_absent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sidelong.demo._ROOT", tmp_path)
    assert run(["demo"]) == 2
    assert "an installed package has not" in capsys.readouterr().err


# Output


def test_a_pipe_gets_json_lines_and_nothing_else(replayed: Ran) -> None:
    events = [json.loads(line) for line in replayed.out.splitlines()]
    assert all({"id", "status", "kind", "severity", "summary"} <= set(event) for event in events)
    assert "flows over" in replayed.err


def test_every_incident_opens_once_and_closes_once(replayed: Ran) -> None:
    events = [json.loads(line) for line in replayed.out.splitlines()]
    for status in ("open", "closed"):
        ids = [event["id"] for event in events if event["status"] == status]
        assert sorted(set(ids)) == sorted(ids) == sorted({event["id"] for event in events})


def test_the_table_has_one_entry_an_incident(
    attacked: str, baseline: str, capsys: Captured
) -> None:
    run(["replay", attacked, "--baseline", baseline, "--output", "table"])
    heads = re.findall(r"^2026-11-23 \S+Z  [A-Z]+ +(.*?) +(\S+) -> ", capsys.readouterr().out, re.M)
    assert sorted(heads) == sorted((kind.replace("_", " "), actor) for kind, actor in FOUND)


def test_all_shows_each_change_in_the_table(
    beginning: str, baseline: str, capsys: Captured
) -> None:
    run(["replay", beginning, "--baseline", baseline, "--output", "table", "--all"])
    shown = capsys.readouterr().out
    assert len(re.findall(r"^open ", shown, re.M)) == len(re.findall(r"^closed", shown, re.M)) == 2


def test_a_pipe_gets_no_escape_sequence(beginning: str, baseline: str, capsys: Captured) -> None:
    run(["replay", beginning, "--baseline", baseline, "--output", "table"])
    printed = capsys.readouterr()
    assert "->" in printed.out
    assert "\x1b" not in printed.out + printed.err


def test_learn_says_what_it_learnt(some: str, tmp_path: Path, capsys: Captured) -> None:
    assert run(["learn", some, "--baseline", str(tmp_path / "new")]) == 0
    said = capsys.readouterr().out
    assert re.fullmatch(r"learnt \d+ workloads and \d+ edges from 3,000 flows over .+\n", said)


def test_the_last_line_says_what_was_looked_at(replayed: Ran) -> None:
    last = replayed.err.splitlines()[-1]
    assert re.match(r"4 incidents in 1\d,\d{3} flows over 2 min 17 s \(.*\), [\d,]+ flows/s", last)


# Input


def test_standard_input_is_a_source(beginning: str, baseline: str) -> None:
    with open(beginning, "rb") as file:
        ran = subprocess.run(
            [*SIDELONG, "replay", "-", "--baseline", baseline],
            stdin=file,
            capture_output=True,
            text=True,
            check=False,
        )
    assert ran.returncode == 1
    assert ("scan", "shop/frontend") in found(ran.stdout)


def test_bad_rows_are_counted_with_samples_and_do_not_hide_the_others(
    beginning: str, baseline: str, tmp_path: Path, capsys: Captured
) -> None:
    damaged = tmp_path / "damaged.jsonl"
    damaged.write_bytes(b"{not json\n" + Path(beginning).read_bytes() + b'{"flow": {"time"')
    assert run(["replay", str(damaged), "--baseline", baseline]) == 1
    printed = capsys.readouterr()
    assert found(printed.out) == {("scan", "shop/frontend"), ("lateral_movement", "shop/catalog")}
    assert "sidelong: 2 rows could not be read and were left out, such as\n  " in printed.err
    assert "2 rows unreadable" in printed.err


def test_an_input_in_which_nothing_can_be_read_is_unreadable(
    tmp_path: Path, capsys: Captured
) -> None:
    junk = tmp_path / "junk.jsonl"
    junk.write_bytes(b"{not json\n" * 20)
    assert run(["replay", str(junk), "--format", "hubble"]) == 3
    assert "  try: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "arguments"),
    [
        (None, []),
        (b"", []),
        (os.urandom(5_000), []),
        (b"PK\x03\x04 something else entirely", []),
        (b'{"flow": {}}\n', ["--format", "pcap"]),
        (b'{"flow": {}}\n', ["--format", "parquet"]),
        (b"\xd4\xc3\xb2\xa1", []),
        (b"\x1f\x8b\x08", []),
        (b"\x28\xb5\x2f\xfd", []),
    ],
    ids=[
        "absent",
        "empty",
        "junk",
        "another format",
        "not pcap",
        "not parquet",
        "a pcap cut in its header",
        "a gzip cut in its header",
        "a zstd cut in its header",
    ],
)
def test_an_unreadable_input_exits_with_three_and_says_what_to_try(
    content: bytes | None, arguments: Sequence[str], tmp_path: Path, capsys: Captured
) -> None:
    path = tmp_path / "capture"
    if content is not None:
        path.write_bytes(content)
    assert run(["replay", str(path), *arguments]) == 3
    problem, attempt = capsys.readouterr().err.splitlines()
    assert problem.startswith("sidelong: ")
    assert str(path) in problem
    assert attempt.startswith("  try: ")


def test_a_folder_without_captures_is_unreadable(tmp_path: Path, capsys: Captured) -> None:
    assert run(["replay", str(tmp_path)]) == 3
    assert str(tmp_path) in capsys.readouterr().err


def test_the_formats_offered_are_those_that_are_read() -> None:
    assert set(FORMATS) == set(inputs.FORMATS)


# Options


def test_a_missing_baseline_is_a_matter_of_configuration(
    attacked: str, tmp_path: Path, capsys: Captured
) -> None:
    assert run(["replay", attacked, "--baseline", str(tmp_path / "none")]) == 2
    assert "sidelong learn" in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, b"", b"[1, 2]", b"\xff\xfe", b'{"web": 7}'])
def test_an_unusable_pod_map_is_a_matter_of_configuration(
    content: bytes | None, attacked: str, tmp_path: Path, capsys: Captured
) -> None:
    pods = tmp_path / "pods.json"
    if content is not None:
        pods.write_bytes(content)
    assert run(["replay", attacked, "--pods", str(pods)]) == 2
    assert "  try: " in capsys.readouterr().err


def test_learn_leaves_a_folder_alone_that_is_no_baseline(
    quiet: str, tmp_path: Path, capsys: Captured
) -> None:
    (tmp_path / "thesis.tex").write_text("dear")
    assert run(["learn", quiet, "--baseline", str(tmp_path)]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    assert "  try: " in capsys.readouterr().err


def test_learn_leaves_a_file_alone(quiet: str, tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "thesis.tex").write_text("dear")
    assert run(["learn", quiet, "--baseline", str(tmp_path / "thesis.tex")]) == 2
    assert (tmp_path / "thesis.tex").read_text() == "dear"
    assert "is a file" in capsys.readouterr().err


def test_learn_replaces_a_baseline(some: str, tmp_path: Path) -> None:
    folder = tmp_path / "shop.baseline"
    assert run(["learn", some, "--baseline", str(folder)]) == 0
    first = (folder / "manifest.json").read_bytes()
    assert run(["learn", some, "--baseline", str(folder)]) == 0
    assert (folder / "manifest.json").read_bytes() == first


def test_nothing_is_learnt_from_no_flow(tmp_path: Path, capsys: Captured) -> None:
    empty = tmp_path / "empty.parquet"
    empty_flows().write_parquet(empty)
    assert run(["learn", str(empty), "--baseline", str(tmp_path / "new")]) == 3
    assert not (tmp_path / "new").exists()
    assert "no flow to learn from" in capsys.readouterr().err


def test_flows_as_parquet_give_what_their_source_gives(
    beginning: str, baseline: str, tmp_path: Path, capsys: Captured
) -> None:
    table = tmp_path / "flows.parquet"
    pl.concat(batch.flows for batch in merged(open_inputs([beginning]))).write_parquet(table)
    run(["replay", beginning, "--baseline", baseline])
    direct = capsys.readouterr().out
    run(["replay", str(table), "--baseline", baseline])
    assert capsys.readouterr().out == direct


@pytest.mark.parametrize(
    "arguments",
    [
        ["replay"],
        ["learn", "x"],
        ["lern"],
        ["replay", "x", "--output", "xml"],
        ["replay", "x", "--format", "netflow"],
        ["replay", "x", "--report"],
    ],
)
def test_a_wrong_option_exits_with_two_and_points_to_the_help(
    arguments: Sequence[str], capsys: Captured
) -> None:
    assert run(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert re.fullmatch(r"sidelong: .+\n  try: sidelong( \w+)? --help\n", printed.err)


def test_a_hostile_path_cannot_repaint_the_screen(capsys: Captured) -> None:
    assert run(["replay", "\x1b[2J\u202egone"]) == 3
    message = capsys.readouterr().err
    assert "\\x1b[2J\\u202egone" in message
    assert message.replace("\n", "").isprintable()


def test_a_folder_that_cannot_be_written_is_named(
    some: str, tmp_path: Path, capsys: Captured
) -> None:
    (tmp_path / "file").write_text("")
    assert run(["learn", some, "--baseline", str(tmp_path / "file" / "below")]) == 2
    assert "  try: " in capsys.readouterr().err


# Signals


def test_an_interrupt_ends_quietly(baseline: str, beginning: str) -> None:
    """Sent once the first line of output is there: by then the run is under way."""
    with subprocess.Popen(
        [*SIDELONG, "replay", "-", "--baseline", baseline],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdin.write(Path(beginning).read_bytes())
        running.stdin.flush()  # and left open, as by `hubble observe --follow`
        assert json.loads(running.stdout.readline())["status"] == "open"
        running.send_signal(signal.SIGINT)
        message = running.stderr.read().decode()
        running.stdin.close()
    assert running.returncode == 130
    assert "Traceback" not in message
    assert "sidelong: interrupted" in message


def test_a_reader_that_leaves_ends_the_run_quietly(beginning: str, baseline: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    ran = subprocess.run(
        [*SIDELONG, "replay", beginning, "--baseline", baseline],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)
    assert ran.returncode == 141
    assert "Traceback" not in ran.stderr
    assert "Broken" not in ran.stderr
