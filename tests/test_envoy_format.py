"""Envoy's format strings as parsers: every operator, and no client that can forge a field."""

import os
from typing import Any, Final

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from sidelong.errors import ConfigError
from sidelong.ingest.envoy_entries import envoy_fields
from sidelong.ingest.envoy_format import ENVOY_FORMAT, ISTIO_FORMAT, EnvoyFormat
from sidelong.ingest.envoy_grammar import parts_of
from sidelong.ingest.envoy_operators import Form, Operator

EXAMPLES: Final = 4_000 if os.environ.get("CI") == "true" else 250

CLEAN: Final = (
    '[2026-11-23T02:18:27.763Z] "GET /v1/items?x=1 HTTP/1.1" 200 - via_upstream - "-" 7 12 43 41 '
    '"-" "curl/7.88.1" "a12c1a54" "ledger:8080" "10.0.0.2:8080" '
    "outbound|8080||ledger.pay.svc.cluster.local 10.0.0.1:40000 10.96.0.9:8080 10.0.0.1:39000 "
    "- default"
)


def read(format: str, *lines: str) -> list[dict[str, Any]]:
    return EnvoyFormat(format).read(pl.Series(lines, dtype=pl.String)).to_dicts()


def fields(format: str, line: str) -> dict[str, Any]:
    parser = EnvoyFormat(format)
    return envoy_fields(parser.read(pl.Series([line])), parser.time).row(0, named=True)


def test_the_default_of_istio_is_read_in_whole() -> None:
    (row,) = read(ISTIO_FORMAT, CLEAN)
    assert row["fault"] is None
    assert row["usable"]
    assert row["method"] == "GET"
    assert row["path"] == "/v1/items?x=1"
    assert row["status"] == "200"
    assert row["flags"] is None
    assert row["details"] == "via_upstream"
    assert row["upstream_host"] == "10.0.0.2:8080"
    assert row["upstream_local"] == "10.0.0.1:40000"
    assert row["downstream_remote"] == "10.0.0.1:39000"
    assert row["sni"] is None
    assert row["route"] == "default"


def test_a_header_that_is_known_to_be_absent_is_empty() -> None:
    assert read(ISTIO_FORMAT, CLEAN)[0]["x_forwarded_for"] == ""


def test_quotes_in_a_user_agent_do_not_move_the_fields() -> None:
    (row,) = read(ISTIO_FORMAT, CLEAN.replace("curl/7.88.1", 'odd "quoted" agent'))
    assert row["fault"] is None
    assert (row["status"], row["upstream_host"]) == ("200", "10.0.0.2:8080")
    assert row["x_forwarded_for"] is None, "where it ends is the client's to say"


def test_blanks_in_a_path_do_not_move_the_fields() -> None:
    (row,) = read(ISTIO_FORMAT, CLEAN.replace("/v1/items?x=1", "/a b HTTP/2 c"))
    assert row["fault"] is None
    assert (row["method"], row["path"], row["protocol"]) == ("GET", "/a b HTTP/2 c", "HTTP/1.1")


FORGED: Final = ' HTTP/1.1" 200 - via_upstream - "-" 0 0 1 1 "-" "x" "y" "z'


@pytest.mark.parametrize("place", ["/v1/items?x=1", "curl/7.88.1", "a12c1a54", "ledger:8080"])
def test_a_forged_status_is_not_taken(place: str) -> None:
    denied = CLEAN.replace("200 - via_upstream", "403 - rbac_access_denied_matched_policy[none]")
    (row,) = read(ISTIO_FORMAT, denied.replace(place, place + FORGED))
    assert row["status"] is None
    assert row["details"] is None
    assert "more than one reading" in row["fault"]
    assert row["usable"], "who talked to whom is still known"
    assert row["upstream_local"] == "10.0.0.1:40000"
    assert row["upstream_host"] == "10.0.0.2:8080"


def test_a_server_name_that_forges_addresses_is_not_taken() -> None:
    forged = 'a" "6.6.6.6:1" outbound|1||x 6.6.6.6:2 6.6.6.6:3 6.6.6.6:4 -'
    (row,) = read(ISTIO_FORMAT, CLEAN.replace(" - default", f" {forged} default"))
    assert row["fault"] is not None
    assert row["upstream_host"] is None
    assert row["status"] == "200", "what stands before is not in doubt"


def test_a_line_of_another_kind_is_not_read() -> None:
    (row,) = read(ISTIO_FORMAT, "2026-11-23T02:18:27Z info envoy starting")
    assert not row["usable"]
    assert row["fault"] == "not in the format"


def test_the_formats_of_istio_and_envoy_exclude_each_other() -> None:
    envoy = CLEAN[: CLEAN.index(" outbound|")].replace(' via_upstream - "-"', "")
    assert read(ENVOY_FORMAT, envoy)[0]["fault"] is None
    assert read(ISTIO_FORMAT, envoy)[0]["fault"] is not None
    assert read(ENVOY_FORMAT, CLEAN)[0]["fault"] is not None


def test_addresses_and_ports_may_stand_apart() -> None:
    format = (
        "%START_TIME% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_REMOTE_PORT% "
        "%UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%:%UPSTREAM_REMOTE_PORT% %BYTES_SENT%"
    )
    row = fields(format, "2026-11-23T02:18:27.763Z 2a02::1 4000 2a02::2:8080 5")
    assert row["downstream_remote"] == "[2a02::1]:4000"
    assert row["upstream_host"] == "[2a02::2]:8080"


def test_a_percent_sign_is_written_twice() -> None:
    assert read("100%% %START_TIME% %RESPONSE_CODE%", "100% 2026-11-23T02:18:27.763Z 204")[0][
        "status"
    ] == ("204")


def test_a_length_limit_is_no_part_of_an_operator() -> None:
    assert read("%START_TIME% %REQ(:PATH):8%", "2026-11-23T02:18:27.763Z /a")[0]["path"] == "/a"


def test_the_last_free_text_of_several_is_where_the_identity_is_taken_from() -> None:
    format = '%START_TIME% "%REQ(USER-AGENT)%" "%REQ(X-FORWARDED-CLIENT-CERT)%" %BYTES_SENT%'
    xfcc = 'By=spiffe://td/ns/b/sa/b;Hash=0a;Subject="";URI=spiffe://td/ns/a/sa/a'
    (row,) = read(format, f'2026-11-23T02:18:27.763Z "x" y" "{xfcc}" 5')
    assert row["xfcc"].endswith("URI=spiffe://td/ns/a/sa/a")


@pytest.mark.parametrize(
    ("format", "text", "microseconds"),
    [
        ("", "2026-11-23T02:18:27.763Z", 763_000),
        ("(%Y/%m/%dT%H:%M:%S%z %3f)", "2026/11/23T03:18:27+0100 763", 763_000),
        ("(%s)", "1795400307", 0),
        ("(%s.%3f)", "1795400307.763", 763_000),
        ("(%s%6f)", "1795400307763001", 763_001),
        ("(%d/%b/%Y:%T %Z)", "23/Nov/2026:02:18:27 UTC", 0),
        ("(%FT%T.%fZ)", "2026-11-23T02:18:27.763001002Z", 763_001),
    ],
)
def test_a_time_is_read_as_it_is_printed(format: str, text: str, microseconds: int) -> None:
    row = fields(f"[%START_TIME{format}%] %RESPONSE_CODE%", f"[{text}] 200")
    assert row["fault"] is None
    assert row["start_time"].isoformat() == (
        f"2026-11-23T02:18:27{f'.{microseconds:06}' if microseconds else ''}+00:00"
    )


@pytest.mark.parametrize(
    ("format", "said"),
    [
        ("%RESPONSE_CODE%", "no time"),
        ("%START_TIME(%Q)%", "%Q"),
        ("%START_TIME% 100% sure", "broken"),
        ("%START_TIME% %PROTOCOL%%RESPONSE_CODE%", "nothing stands between"),
        ("%START_TIME% %REQ(:PATH)%%RESPONSE_CODE%", "nothing stands between"),
        ("%START_TIME%|%UPSTREAM_CLUSTER%|%RESPONSE_CODE%", "may itself contain"),
        ("%START_TIME%,%RESPONSE_FLAGS%,%RESPONSE_CODE%", "may itself contain"),
        ("%START_TIME% %UPSTREAM_TRANSPORT_FAILURE_REASON% %RESPONSE_CODE%", "may itself contain"),
        ("%START_TIME%\n%RESPONSE_CODE%", "broken"),
    ],
)
def test_a_format_that_cannot_be_read_back_is_refused(format: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        EnvoyFormat(format)
    assert caught.value.hint


# No client can forge a field


CUSTOM: Final = (
    "%START_TIME% %REQ(:METHOD)% %REQ(:PATH)% %PROTOCOL% %RESPONSE_CODE% %RESPONSE_FLAGS% "
    "%REQ(USER-AGENT)% %UPSTREAM_HOST% %DOWNSTREAM_DIRECT_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME%"
)
PRINCIPALS: Final = (
    '%REQ(X-FORWARDED-FOR)% [%START_TIME%] "%REQ(:PATH)%" %DOWNSTREAM_PEER_URI_SAN% '
    '"%REQ(USER-AGENT)%" %UPSTREAM_CLUSTER%|%RESPONSE_CODE% "%REQ(:AUTHORITY)%" '
    "%DOWNSTREAM_LOCAL_URI_SAN% %DOWNSTREAM_REMOTE_ADDRESS%"
).replace("%UPSTREAM_CLUSTER%|", "%UPSTREAM_CLUSTER% |")
LIKE_JSON: Final = (
    '{"t":"%START_TIME%","path":"%REQ(:PATH)%","status":%RESPONSE_CODE%,"ua":"%REQ(USER-AGENT)%",'
    '"host":"%UPSTREAM_HOST%","details":"%RESPONSE_CODE_DETAILS%"}'
)
FORMATS: Final = (ISTIO_FORMAT, ENVOY_FORMAT, CUSTOM, PRINCIPALS, LIKE_JSON)

VALUES: Final[dict[Form, list[str]]] = {
    Form.TIME: ["2026-11-23T02:18:27.763Z", "2026-11-24T00:00:00.000Z"],
    Form.NUMBER: ["0", "200", "403", "-"],
    Form.FLAGS: ["-", "UF,URX", "UAEX"],
    Form.PROTOCOL: ["HTTP/1.1", "HTTP/2", "-"],
    Form.ADDRESS: ["10.0.0.1:80", "[2a02::1]:443", "-"],
    Form.TOKEN: ["-", "via_upstream", "spiffe://td/ns/a/sa/b", "outbound|80||a.b.svc"],
    Form.QUOTED: ["-", "TLS error: 26: x"],
}


ODD: Final = ('"', " ", "-", "x", '" "', "\\", "é", "\t", "|", ",")


@st.composite
def lines(draw: st.DrawFn) -> tuple[str, str, dict[str, str]]:
    """A format, a line of it whose free texts an attacker wrote, and what is true."""
    format = draw(st.sampled_from(FORMATS))
    parts = parts_of(format)

    def rendered(first: int, last: int, depth: int) -> tuple[str, dict[str, str]]:
        text, truth = "", {}
        for part in parts[first:last]:
            if isinstance(part, str):
                text += part
            elif part.form:
                value = draw(st.sampled_from(VALUES[part.form]))
                text += value
                if part.field:
                    truth[part.field] = value
            else:
                text += forged(depth)
        return text, truth

    def forged(depth: int) -> str:
        """Plain and odd characters, and pieces of what the proxy itself would print."""
        text = ""
        for _ in range(draw(st.integers(0, 3 if depth else 1))):
            if depth and draw(st.booleans()):
                first = draw(st.integers(0, len(parts) - 1))
                last = draw(st.integers(first + 1, min(first + 14, len(parts))))
                text += rendered(first, last, depth - 1)[0]
            else:
                text += draw(
                    st.sampled_from(['"', " ", "-", "x", '" "', "\\", "é", "\t", "|", ","])
                )
        return text

    line, truth = rendered(0, len(parts), 2)
    return format, line, truth


PARSERS: Final = {format: EnvoyFormat(format) for format in FORMATS}


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@example((ISTIO_FORMAT, CLEAN, {"status": "200", "upstream_host": "10.0.0.2:8080"}))
@given(lines())
def test_no_client_can_forge_a_field(case: tuple[str, str, dict[str, str]]) -> None:
    format, line, truth = case
    (row,) = PARSERS[format].read(pl.Series([line])).to_dicts()
    assert row["usable"], "a true line always fits"
    for field, value in truth.items():
        expected = None if value == "-" else value
        if row["fault"] is None:
            assert row[field] == expected, field
        elif row[field] is not None:
            assert row[field] == expected or (field == "protocol" and row[field] == "HTTP"), field


def test_what_the_proxy_alone_writes_cannot_be_free_text() -> None:
    """A guard on the table: these decide who, whether and how."""
    deciding = {
        *("status", "flags", "details", "termination", "upstream_host", "upstream_local"),
        *("downstream_remote", "downstream_local", "upstream_cluster", "peer_uri_san"),
    }
    strict = {
        part.field
        for format in (ISTIO_FORMAT, PRINCIPALS)
        for part in parts_of(format)
        if isinstance(part, Operator) and part.form
    }
    assert deciding <= strict
