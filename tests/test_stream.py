"""`make stream`: the topology of compose.yaml as processes, on a real Kafka."""

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from peers.kafka_jars import kafka_jars

ROOT = Path(__file__).resolve().parent.parent
INCIDENT = re.compile(r"^\S+Z  (?P<kind>\w+)  (?P<id>[0-9a-f]{16})$", re.MULTILINE)


@pytest.mark.slow
def test_the_four_incidents_arrive_once_each_and_an_interrupt_leaves_nothing(
    tmp_path: Path,
) -> None:
    if os.environ.get("SIDELONG_PEERS") == "off" and os.environ.get("CI") != "true":
        pytest.skip("SIDELONG_PEERS is off: no real Kafka")
    kafka_jars()
    streaming = subprocess.Popen(
        [sys.executable, ROOT / "compose" / "stream.py"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    assert streaming.stdout
    guard = threading.Timer(240, streaming.kill)
    guard.start()
    try:
        said = ""
        for line in streaming.stdout:
            said += line
            if line.startswith("All 4 have arrived"):
                streaming.send_signal(signal.SIGINT)
        assert streaming.wait() == 0, said
    finally:
        guard.cancel()
        streaming.kill()
        streaming.wait()
        streaming.stdout.close()
    found = [match.groupdict() for match in INCIDENT.finditer(said)]
    kinds = sorted(one["kind"] for one in found)
    assert kinds == ["dns_exfiltration", "dns_exfiltration", "lateral_movement", "scan"], said
    assert len({one["id"] for one in found}) == 4
    assert list(tmp_path.iterdir()) == []
    assert _processes_naming(tmp_path) == []


def _processes_naming(folder: Path) -> list[str]:
    """Command lines of what still runs and was given something in the folder."""
    found = []
    for place in Path("/proc").glob("[0-9]*/environ"):
        try:
            if os.fsencode(f"={folder}/sidelong-stream-") in place.read_bytes():
                found.append(place.with_name("cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # it ended, or is not ours
            continue
    return found


def test_the_generator_moves_times_and_keeps_all_else(tmp_path: Path) -> None:
    script = """
import sys; sys.path.insert(0, sys.argv[1])
from datetime import timedelta
from generator import messages, restamped
line = '{"flow": {"time": "2026-11-23T02:18:07.821431001Z", "x": 1}, "node_name": "a", \
"time": "2026-11-23T02:18:07.821431001Z"}'
print(restamped(line, timedelta(days=1, microseconds=9)))
later = line.replace("07.82", "07.99").replace('"a"', '"b"')
print([(message.due / timedelta(milliseconds=1), message.node, len(message.lines))
       for message in messages([line, line, later])])
"""
    done = subprocess.run(
        [sys.executable, "-c", script, ROOT / "compose"],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    moved, sent = done.stdout.splitlines()
    assert moved == (
        '{"flow": {"time": "2026-11-24T02:18:07.821440001Z", "x": 1}, "node_name": "a", '
        '"time": "2026-11-24T02:18:07.821440001Z"}'
    )
    assert sent == "[(50.0, 'a', 2), (200.0, 'b', 1)]"
