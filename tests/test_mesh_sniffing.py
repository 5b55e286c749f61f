"""Mesh logs are known by their first lines, wrapped or not, and take nobody else's."""

import json
import time
from contextlib import suppress
from pathlib import Path

import pytest
from mesh_lines import INBOUND, envoy, text_of

from sidelong.errors import ConfigError, SourceError
from sidelong.ingest.envoy_logs import EnvoySettings
from sidelong.ingest.inputs import open_inputs
from sidelong.ingest.settings import InputSettings
from sidelong.ingest.sniff import HEAD_BYTES, format_of

LINKERD = '10.42.0.63:51160 - - [2022-08-23T20:28:20.071809491Z] "GET / HTTP/2.0" 200'
LINKERD_JSON = '{"client.addr":"10.42.0.70:32996","client.id":"-","status":200}'
ZTUNNEL = "2026-08-21T15:32:05.754291Z\tinfo\taccess\tconnection complete\tsrc.addr=10.42.0.9:1"
ZTUNNEL_JSON = '{"level":"info","scope":"access","message":"connection complete","src.addr":"x"}'

LINES = {
    "envoy": text_of(INBOUND),
    "envoy-json": envoy(INBOUND),
    "linkerd": LINKERD,
    "linkerd-json": LINKERD_JSON,
    "ztunnel": ZTUNNEL,
    "ztunnel-json": ZTUNNEL_JSON,
}


@pytest.mark.parametrize("format", LINES)
def test_a_log_is_known_by_its_lines(format: str) -> None:
    line = LINES[format]
    runtime = f"2026-08-21T15:32:05.754Z stdout F {line}"
    shipped = json.dumps({"date": 1.5, "log": line})
    for head in (line, f"other words\n{line}", runtime, shipped):
        assert format_of(head.encode(), "log") == format, head


@pytest.mark.parametrize(
    "line",
    [
        '{"ts":1.5,"uid":"C1","id.orig_h":"10.0.0.1","id.resp_p":80,"proto":"tcp"}',
        '{"SrcAddr":"10.0.0.1","DstAddr":"10.0.0.2","Proto":6,"TimeFlowStartMs":1}',
        '10.0.0.1 - - [23/Aug/2022:20:28:20 +0000] "GET / HTTP/1.1" 200 5',
        '{"time":"2026-08-21T15:32:05Z","message":"started"}',
    ],
)
def test_lines_of_others_are_not_taken(line: str) -> None:
    with suppress(SourceError):
        assert format_of(line.encode(), "log") not in LINES


def test_a_format_that_cannot_be_read_back_is_an_error_at_once(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    path.write_text("anything\n")
    settings = InputSettings(envoy=EnvoySettings(format="%START_TIME%%RESPONSE_CODE%"))
    with pytest.raises(ConfigError, match="nothing stands between"):
        open_inputs([str(path)], "envoy", settings)


@pytest.mark.parametrize(
    "piece",
    [b"{", b"{ x\n", b"[2026-11-23T02:18:27.763Z] ", b'"F ', b" access ", b"1:1 1 - [", b"a", b" "],
)
def test_a_head_that_is_nothing_is_given_up_in_one_pass(piece: bytes) -> None:
    began = time.process_time()
    with pytest.raises(SourceError):
        format_of(piece * (HEAD_BYTES // len(piece)), "log")
    assert time.process_time() - began < 2
