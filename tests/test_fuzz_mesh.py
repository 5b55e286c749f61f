"""Whatever stands in an access log: no crash, every line accounted for, each by itself alone."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from typing import Final

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mesh_lines import INBOUND, OUTBOUND, TCP, Decoder, envoy, text_of

from sidelong.ingest.envoy_logs import EnvoySettings, envoy_json, envoy_lines
from sidelong.ingest.line_files import SAMPLES, LineDecoder
from sidelong.ingest.lines import Block
from sidelong.ingest.linkerd_logs import linkerd_json, linkerd_lines
from sidelong.ingest.schema import FLOW_SCHEMA
from sidelong.ingest.ztunnel_logs import ztunnel_json, ztunnel_lines

FUZZ: Final = settings(
    max_examples=60 if os.environ.get("CI") == "true" else 20,
    deadline=timedelta(seconds=20),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

LINKERD: Final = (
    "10.42.0.63:51160 web.shop.serviceaccount.identity.linkerd.td - "
    '[2022-08-23T20:28:20.071809491Z] "GET http://pay:7000/items HTTP/2.0" 200'
)
LINKERD_JSON: Final = {
    "client.addr": "10.42.0.70:32996",
    "client.id": "web.shop.serviceaccount.identity.linkerd.td",
    "method": "GET",
    "request_bytes": "",
    "response_bytes": "19627",
    "status": 200,
    "timestamp": "2022-08-23T20:33:42.321746212Z",
    "total_ns": "14441135",
    "uri": "/",
}
ZTUNNEL: Final = (
    "2026-08-21T15:32:05.754291Z\tinfo\taccess\tconnection complete\tsrc.addr=10.42.0.9:33772 "
    'src.workload="cart-0" src.namespace="shop" dst.addr=10.42.0.5:15008 '
    'dst.hbone_addr=10.42.0.5:9080 direction="outbound" bytes_sent=84 bytes_recv=358 '
    'duration="15ms" error="http status: 401"'
)
ZTUNNEL_JSON: Final = {
    "level": "info",
    "time": "2026-08-21T15:32:05.754291Z",
    "scope": "access",
    "message": "connection complete",
    "src.addr": "10.42.0.9:33772",
    "dst.addr": "10.42.0.5:9080",
    "bytes_sent": 84,
    "duration": "15ms",
}
SPACED: Final = "%START_TIME% %REQ(:PATH)% %RESPONSE_CODE% %REQ(USER-AGENT)% %UPSTREAM_HOST%"

KINDS: Final[dict[str, tuple[Decoder, list[str]]]] = {
    "envoy": (envoy_lines, [text_of(INBOUND), text_of(OUTBOUND), text_of({**OUTBOUND, **TCP})]),
    "spaced": (
        partial(envoy_lines, EnvoySettings(format=SPACED)),
        ["2026-08-21T15:32:05.754Z /a 200 curl 10.0.0.1:80"],
    ),
    "envoy-json": (envoy_json, [envoy(INBOUND), envoy(OUTBOUND), envoy({**INBOUND, **TCP})]),
    "linkerd": (linkerd_lines, [LINKERD]),
    "linkerd-json": (linkerd_json, [json.dumps(LINKERD_JSON)]),
    "ztunnel": (ztunnel_lines, [ZTUNNEL]),
    "ztunnel-json": (ztunnel_json, [json.dumps(ZTUNNEL_JSON)]),
}

JUNK: Final = st.sampled_from(
    [
        b'"',
        b" ",
        b"-",
        b"\\",
        b"\xff",
        b"\x00",
        b"{",
        b"}",
        b"9" * 30,
        b"[",
        b"\xc3\xa9",
        b":",
        b"\r",
    ]
) | st.binary(max_size=8).map(lambda junk: junk.replace(b"\n", b""))


@st.composite
def spoilt(draw: st.DrawFn, lines: list[str]) -> bytes:
    """A line with pieces cut out, doubled, or put in; sometimes wrapped."""
    line = draw(st.sampled_from(lines)).encode()
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(line)))
        to = draw(st.integers(at, min(at + 12, len(line))))
        middle = draw(st.sampled_from([b"", line[at:to] * 2]) | JUNK)
        line = line[:at] + middle + line[to:]
    if draw(st.integers(0, 9)) == 0:
        line = json.dumps({"log": line.decode(errors="replace")}).encode()
    return line


@pytest.fixture(scope="module")
def opened() -> Iterator[dict[str, LineDecoder]]:
    with ExitStack() as stack:
        yield {kind: stack.enter_context(decoder()) for kind, (decoder, _) in KINDS.items()}


def decoded(decoder: LineDecoder, *lines: str | bytes) -> tuple[pl.DataFrame, int]:
    """Flows of the lines, and how many of them are bad."""
    content = b"".join(
        (line if isinstance(line, bytes) else line.encode()) + b"\n" for line in lines
    )
    flows, bad, faults = decoder.decode(Block(0, len(content), content, len(lines)))
    assert len(faults) == min(bad, SAMPLES)
    return flows, bad


@pytest.mark.parametrize("kind", KINDS)
def test_every_line_stands_for_itself(kind: str, opened: dict[str, LineDecoder]) -> None:
    decoder, (_, lines) = opened[kind], KINDS[kind]

    @FUZZ
    @given(st.lists(spoilt(lines), min_size=1, max_size=6))
    def holds(content: list[bytes]) -> None:
        flows, bad = decoded(decoder, *content)
        assert flows.schema == FLOW_SCHEMA
        assert flows["time"].null_count() == 0
        alone = [decoded(decoder, line) for line in content]
        assert flows.equals(pl.concat([each for each, _ in alone]))
        assert bad == sum(worse for _, worse in alone)

    holds()


@pytest.mark.parametrize("kind", KINDS)
def test_a_sound_line_is_no_worse_for_those_around_it(
    kind: str, opened: dict[str, LineDecoder]
) -> None:
    decoder, (_, lines) = opened[kind], KINDS[kind]
    sound, none = decoded(decoder, lines[0])
    assert none == 0

    @FUZZ
    @given(spoilt(lines), spoilt(lines))
    def holds(before: bytes, after: bytes) -> None:
        first, _ = decoded(decoder, before)
        flows, _ = decoded(decoder, before, lines[0], after)
        assert flows[first.height : first.height + sound.height].equals(sound)

    holds()


CLIENT: Final = st.text(
    st.characters(exclude_characters="\n", exclude_categories=["Cs"]), max_size=40
) | st.lists(
    st.sampled_from(
        [
            *('"', " ", '" "', "-", "/", "\\", " HTTP/1.1"),
            *(' 200 - via_upstream - "-" 0 0 1 1 "', '"6.6.6.6:6"', " inbound|80|| 6.6.6.6:1"),
            *(" 6.6.6.6:2 6.6.6.6:3", " UAEX ext_authz_denied - "),
        ]
    ),
    max_size=8,
).map("".join)
WRITTEN: Final = ("method", "path", "x_forwarded_for", "user_agent", "request_id", "authority")
TRUSTED: Final = (
    *("time", "src_ip", "dst_ip", "src_port", "dst_port", "src", "dst", "reply", "verdict"),
    *("policy", "drop_reason", "src_principal", "dst_principal", "status", "bytes", "origin"),
)
NS_POLICY: Final = "rbac_access_denied_matched_policy[ns[pay]-policy[deny-admin]-rule[0]]"
DENIED: Final = {"response_code": 403, "response_code_details": NS_POLICY, "upstream_host": None}


@pytest.mark.parametrize(
    ("kind", "line"),
    [("envoy", text_of), ("envoy-json", envoy)],
)
@pytest.mark.parametrize("base", [INBOUND, OUTBOUND, {**INBOUND, **DENIED}])
def test_no_client_changes_who_whether_or_how(
    kind: str,
    line: Callable[..., str],
    base: dict[str, object],
    opened: dict[str, LineDecoder],
) -> None:
    decoder = opened[kind]
    true = decoded(decoder, line(base))[0].select(TRUSTED)

    @FUZZ
    @given(st.fixed_dictionaries({name: CLIENT for name in WRITTEN}))
    def holds(written: dict[str, str]) -> None:
        flows, bad = decoded(decoder, line(base, **written))
        if bad:  # then of what is told nothing may be false
            flows, expected = flows.select(TRUSTED[:7]).head(1), true.select(TRUSTED[:7]).head(1)
            assert flows.equals(expected)
        else:
            assert flows.select(TRUSTED).equals(true)

    holds()
