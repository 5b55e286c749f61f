"""What Envoy's access logs become: who, whether, and how; from text and from JSON alike."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import polars as pl
import pytest
from mesh_lines import INBOUND, OUTBOUND, TCP, case_of, decode, envoy, text_of, view
from source_contract import RULES, Case

from sidelong.errors import ConfigError
from sidelong.features.events import ANSWER, DENIAL, PROBE, REFUSAL, event_of
from sidelong.ingest.envoy_exchanges import envoy_flows
from sidelong.ingest.envoy_logs import EnvoySettings, envoy_json, envoy_lines
from sidelong.ingest.inputs import open_inputs
from sidelong.ingest.log_lines import unwrapped
from sidelong.ingest.source import BadRows

SAMPLES: Final = Path(__file__).resolve().parent / "envoy_samples"
"""What an Envoy 1.40 wrote on loopback, by Istio's default formats; all names are invented."""
WHO: Final = ("src_ip", "src_port", "dst_ip", "dst_port", "reply")


DEFAULTS: Final = EnvoySettings()


def told(
    base: dict[str, Any], settings: EnvoySettings = DEFAULTS, **changes: object
) -> pl.DataFrame:
    """The flows of one entry, which must be the same from text and from JSON."""
    flows, bad = decode(partial(envoy_json, settings), envoy(base, **changes))
    assert bad == BadRows()
    if not settings.json and set(changes) <= set(base):
        text, bad = decode(partial(envoy_lines, settings), text_of(base, **changes))
        assert bad == BadRows()
        assert text.equals(flows)
    return flows


def events(flows: pl.DataFrame) -> list[int]:
    return event_of(flows).to_list()


# Who is who


def test_the_clients_proxy_tells_its_own_end_of_the_upstream_connection() -> None:
    flows = told(OUTBOUND)
    assert view(flows, *WHO) == [
        ("10.0.0.1", 40_000, "10.0.0.2", 8_080, False),
        ("10.0.0.2", 8_080, "10.0.0.1", 40_000, True),
    ]
    assert set(flows["origin"]) == {"envoy:outbound"}


def test_both_ends_tell_the_same_of_one_request() -> None:
    there, here = told(OUTBOUND), told(INBOUND)
    same = [name for name in there.columns if name not in ("origin", "encrypted")]
    assert there.select(same).equals(here.select(same))
    assert set(here["origin"]) == {"envoy:inbound"}


def test_a_request_keeps_method_and_path_without_its_query() -> None:
    assert view(told(OUTBOUND), "method", "path", "status", "l7", "bytes") == [
        ("GET", "/v1/items", None, "http", 7),
        ("GET", "/v1/items", 200, "http", 12),
    ]


def test_the_answer_comes_when_the_request_has_ended() -> None:
    began, ended = told(OUTBOUND)["time"]
    assert (ended - began).total_seconds() == 0.043


def test_an_address_with_an_upstream_is_left_to_identity() -> None:
    assert told(OUTBOUND)["dst"].to_list() == [None, None]


def test_a_service_stands_in_where_there_is_no_address() -> None:
    flows = told(
        OUTBOUND,
        response_flags="UH",
        upstream_host=None,
        upstream_local_address=None,
        response_code=503,
        response_code_details="no_healthy_upstream",
    )
    assert view(flows, "src_ip", "dst", "dst_ip", "dst_port") == [
        ("10.0.0.1", "pay/ledger", None, 8_080)
    ]
    assert events(flows) == [PROBE]


def test_a_host_outside_is_its_domain() -> None:
    flows = told(
        OUTBOUND,
        upstream_cluster="outbound|443||api.eu.example.com",
        upstream_host="203.0.113.7:443",
    )
    assert flows["dst"][0] == "example.com"


def test_a_host_inside_by_another_name_is_left_to_identity() -> None:
    flows = told(OUTBOUND, upstream_cluster="outbound|443||db.corp.example.com")
    assert flows["dst"][0] is None


def test_newer_names_of_clusters_end_in_a_semicolon() -> None:
    flows = told(OUTBOUND, upstream_cluster="outbound|8080||ledger.pay.svc.cluster.local;")
    assert view(flows, *WHO)[0] == ("10.0.0.1", 40_000, "10.0.0.2", 8_080, False)


def test_a_waypoint_tells_of_client_and_server_behind_it() -> None:
    flows = told(
        INBOUND,
        upstream_cluster="inbound-vip|8000|http|barista.caffeine.svc.cluster.local;",
        upstream_host="envoy://connect_originate/10.244.2.63:8080",
        upstream_local_address="envoy://internal_client_address/",
        downstream_local_address="10.0.81.76:8000",
        downstream_remote_address="10.244.2.250:37022",
    )
    assert view(flows, *WHO)[0] == ("10.244.2.250", 37_022, "10.244.2.63", 8_080, False)


def test_the_application_beside_a_proxy_is_no_server_elsewhere() -> None:
    flows = told(INBOUND, upstream_cluster="local_app", upstream_host="127.0.0.1:8080")
    assert flows["origin"][0] == "envoy:inbound"


def test_any_other_upstream_is_elsewhere() -> None:
    assert told(OUTBOUND, upstream_cluster="backend")["origin"][0] == "envoy:outbound"


def test_ipv6_addresses_lose_their_brackets() -> None:
    flows = told(INBOUND, downstream_remote_address="[2a02:cf40::4E36]:5000")
    assert view(flows, "src_ip", "src_port")[0] == ("2a02:cf40::4e36", 5_000)


def test_a_pipe_names_nobody() -> None:
    flows = told(OUTBOUND, upstream_host="/var/run/app.sock")
    assert view(flows, "dst_ip", "dst")[0] == (None, "pay/ledger")


# What a client claims


def test_an_address_out_of_a_header_is_not_taken() -> None:
    flows = told(INBOUND, downstream_remote_address="10.0.0.66:0", x_forwarded_for="10.0.0.66")
    assert view(flows, "src_ip", "src_port", "src")[0] == (None, None, "reserved:unknown")


def test_the_clients_proxy_is_not_misled_by_that_header() -> None:
    flows = told(OUTBOUND, downstream_remote_address="10.0.0.66:0", x_forwarded_for="10.0.0.66")
    assert view(flows, *WHO)[0] == ("10.0.0.1", 40_000, "10.0.0.2", 8_080, False)


def test_the_peers_own_address_counts_before_the_one_claimed() -> None:
    settings = EnvoySettings(json={"DOWNSTREAM_DIRECT_REMOTE_ADDRESS": "direct"})
    flows = told(INBOUND, settings, downstream_remote_address="10.0.0.66:0", direct="10.0.0.1:4")
    assert view(flows, "src_ip", "src_port", "src")[0] == ("10.0.0.1", 4, None)


def test_an_address_without_its_port_is_no_proof() -> None:
    flows, _ = decode(envoy_json, envoy(INBOUND, downstream_remote_address="10.0.0.66"))
    assert view(flows, "src_ip", "src")[0] == (None, "reserved:unknown")


def test_an_address_without_its_port_counts_where_no_header_was() -> None:
    lines = "%START_TIME% %PROTOCOL% %UPSTREAM_CLUSTER% %DOWNSTREAM_LOCAL_ADDRESS% "
    lines += '%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% "%REQ(X-FORWARDED-FOR)%"'
    decoder = partial(envoy_lines, EnvoySettings(format=lines))
    start = "2026-11-23T02:18:27.763Z HTTP/2 inbound|80|| 10.0.0.2:80 10.0.0.1"
    flows, bad = decode(decoder, f'{start} "-"', f'{start} "10.0.0.1"')
    assert bad.count == 0
    assert view(flows, "src_ip", "src") == [("10.0.0.1", None), (None, "reserved:unknown")]


def test_a_proxy_may_be_told_to_believe_what_is_before_it() -> None:
    believing = EnvoySettings(trusted_remote=True)
    flows = told(INBOUND, believing, downstream_remote_address="10.0.0.66:0")
    assert flows["src_ip"][0] == "10.0.0.66"


def test_a_connection_has_no_headers_to_claim_anything() -> None:
    flows = told({**INBOUND, **TCP}, downstream_remote_address="10.0.0.66")
    assert flows["src_ip"][0] == "10.0.0.66"


SPIFFE: Final = "spiffe://td/ns/{0}/sa/{0}".format
CERTIFICATES: Final = EnvoySettings(
    json={
        "%DOWNSTREAM_PEER_URI_SAN%": "peer",
        "local_uri_san": "local",
        "upstream_peer_uri_san": "upstream_peer",
        "xfcc": "xfcc",
        "grpc_status": "grpc",
        "log_type": "type",
    }
)


def principals(flows: pl.DataFrame) -> tuple[str | None, str | None, bool | None]:
    (row,) = view(flows.head(1), "src_principal", "dst_principal", "encrypted")
    return row


def test_certificates_name_both_ends_to_the_server() -> None:
    flows = told(INBOUND, CERTIFICATES, peer=SPIFFE("shop"), local=SPIFFE("pay"))
    assert principals(flows) == (SPIFFE("shop"), SPIFFE("pay"), True)


def test_the_servers_certificate_is_all_a_client_sees() -> None:
    flows = told(OUTBOUND, CERTIFICATES, upstream_peer=SPIFFE("pay"), xfcc=f"URI={SPIFFE('x')}")
    assert principals(flows) == (None, SPIFFE("pay"), True)


def test_istios_own_form_of_an_identity_is_understood() -> None:
    assert (
        principals(told(INBOUND, CERTIFICATES, peer="td/ns/a/sa/b"))[0] == "spiffe://td/ns/a/sa/b"
    )


def test_of_forwarded_certificates_the_last_hop_counts() -> None:
    forged = f'By={SPIFFE("pay")};Hash=00;Subject="";URI={SPIFFE("admin")}'
    real = f'By={SPIFFE("pay")};Hash=0a;Subject="CN=a,O=b";URI={SPIFFE("shop")}'
    flows = told(INBOUND, CERTIFICATES, xfcc=f"{forged},{real}")
    assert principals(flows) == (SPIFFE("shop"), None, True)


def test_forwarded_certificates_can_be_left_alone() -> None:
    settings = EnvoySettings(json=CERTIFICATES.json, xfcc=False)
    flows = told(INBOUND, settings, xfcc=f"By=x;Hash=0;URI={SPIFFE('shop')}")
    assert principals(flows)[0] is None


def test_a_server_name_is_proof_of_tls() -> None:
    assert told(INBOUND)["encrypted"][0] is True
    assert told(INBOUND, requested_server_name=None)["encrypted"][0] is None


def test_a_claimed_client_with_a_certificate_is_whom_it_names() -> None:
    flows = told(
        INBOUND, CERTIFICATES, downstream_remote_address="10.0.0.66:0", peer=SPIFFE("shop")
    )
    assert view(flows, "src", "src_ip", "src_principal")[0] == (None, None, SPIFFE("shop"))


def test_a_status_of_grpc_makes_it_grpc() -> None:
    assert told(INBOUND, CERTIFICATES, grpc="Unavailable")["l7"][0] == "grpc"


def test_only_the_end_of_a_request_counts() -> None:
    for type in ("DownstreamStart", "DownstreamPeriodic", "UpstreamEnd", "TcpPeriodic"):
        assert told(INBOUND, CERTIFICATES, type=type).is_empty()
    assert told(INBOUND, CERTIFICATES, type="DownstreamEnd").height == 2


# What became of it

NS_POLICY: Final = "rbac_access_denied_matched_policy[ns[pay]-policy[deny-admin]-rule[0]]"
UNSENT: Final[dict[str, Any]] = {"upstream_host": None, "upstream_local_address": None}
REFUSED_WHY: Final = "delayed_connect_error:_Connection_refused"


def test_a_request_that_policy_denied_is_denied_and_answered() -> None:
    flows = told(INBOUND, response_code=403, response_code_details=NS_POLICY, **UNSENT)
    assert events(flows) == [DENIAL, ANSWER]
    assert flows["policy"][0] == "pay/deny-admin"
    assert flows["status"].to_list() == [None, 403]


def test_a_connection_that_policy_denied_is_denied() -> None:
    flows = told({**INBOUND, **TCP}, connection_termination_details=NS_POLICY)
    assert events(flows) == [DENIAL]
    assert flows["policy"][0] == "pay/deny-admin"


def test_a_policy_that_none_matched_has_no_name() -> None:
    flows = told(
        INBOUND,
        response_code=403,
        response_code_details="rbac_access_denied_matched_policy[none]",
        **UNSENT,
    )
    assert events(flows) == [DENIAL, ANSWER]
    assert flows["policy"][0] is None


def test_an_external_authorizer_denies_too() -> None:
    flows = told(
        INBOUND,
        response_code=403,
        response_flags="UAEX",
        response_code_details="ext_authz_denied",
        **UNSENT,
    )
    assert events(flows) == [DENIAL, ANSWER]


def test_a_rate_limit_is_no_denial() -> None:
    flows = told(
        INBOUND,
        response_code=429,
        response_flags="RL",
        response_code_details="local_rate_limited",
        **UNSENT,
    )
    assert events(flows) == [ANSWER, ANSWER]


def test_the_black_hole_denies() -> None:
    flows = told(
        {**OUTBOUND, **TCP},
        response_flags="UH",
        upstream_cluster="BlackHoleCluster",
        downstream_local_address="203.0.113.9:5432",
        **UNSENT,
    )
    assert events(flows) == [DENIAL]
    assert view(flows, "src_ip", "dst_ip", "dst_port") == [("10.0.0.1", "203.0.113.9", 5_432)]


def test_the_route_that_blocks_all_denies() -> None:
    flows = told(
        OUTBOUND,
        response_code=502,
        route_name="block_all",
        upstream_cluster=None,
        response_code_details="direct_response",
        **UNSENT,
    )
    assert events(flows)[0] == DENIAL
    assert flows["origin"][0] == "envoy:outbound"


def test_a_server_that_wants_a_certificate_denies_who_has_none() -> None:
    flows = told(
        {**INBOUND, **TCP},
        response_flags="NR",
        upstream_cluster=None,
        response_code_details="filter_chain_not_found",
        requested_server_name=None,
        **UNSENT,
    )
    assert events(flows) == [DENIAL]
    assert flows["drop_reason"][0] == "AUTH_REQUIRED"


@pytest.mark.parametrize("base", [OUTBOUND, {**OUTBOUND, **TCP}])
def test_a_refused_upstream_was_probed_and_refused(base: dict[str, Any]) -> None:
    flows = told(
        base,
        response_flags="UF,URX",
        upstream_local_address=None,
        upstream_transport_failure_reason=REFUSED_WHY,
        response_code=503 if base["method"] else 0,
    )
    assert events(flows) == [PROBE, REFUSAL]
    assert view(flows, "src_ip", "src_port", "dst_ip", "path", "status")[0] == (
        "10.0.0.1",
        None,
        "10.0.0.2",
        None,
        None,
    )


def test_an_error_number_is_a_reason_too() -> None:
    flows = told(
        OUTBOUND,
        response_flags="UF",
        upstream_local_address=None,
        response_code=503,
        response_code_details="upstream_reset_before_response_started"
        "{connection_failure,delayed_connect_error:_111}",
    )
    assert events(flows) == [PROBE, REFUSAL]


def test_an_upstream_that_never_spoke_was_probed() -> None:
    flows = told(
        OUTBOUND,
        response_flags="UF",
        upstream_local_address=None,
        response_code=503,
        response_code_details="upstream_reset_before_response_started{connection_timeout}",
    )
    assert events(flows) == [PROBE]


def test_a_failed_handshake_was_answered() -> None:
    flows = told(
        OUTBOUND,
        response_flags="UF",
        upstream_local_address=None,
        response_code=503,
        upstream_transport_failure_reason="TLS_error:|268435703:SSL_routines",
    )
    assert events(flows) == [PROBE, ANSWER]
    assert flows["status"].null_count() == 2


@pytest.mark.parametrize(
    ("flags", "details"),
    [
        ("UT", "response_timeout"),
        ("UC", "upstream_reset_before_response_started{connection_termination}"),
        ("UR", "upstream_reset_before_response_started{remote_reset}"),
        ("SI", "stream_idle_timeout"),
    ],
)
def test_what_a_proxy_answers_itself_is_no_answer(flags: str, details: str) -> None:
    flows = told(OUTBOUND, response_flags=flags, response_code=504, response_code_details=details)
    assert view(flows, "path", "status", "reply") == [("/v1/items", None, False)]


def test_a_client_that_went_away_has_asked() -> None:
    flows = told(
        INBOUND,
        response_flags="DC",
        response_code=0,
        response_code_details="downstream_remote_disconnect",
    )
    assert view(flows, "path", "reply") == [("/v1/items", False)]


@pytest.mark.parametrize(
    ("flags", "details"),
    [
        ("NR", "route_not_found"),
        ("NC", "cluster_not_found"),
        ("UO", "upstream_reset_before_response_started{overflow}"),
        ("DF", "dns_resolution_failure"),
        ("-", "direct_response"),
        ("RL", "local_rate_limited"),
    ],
)
def test_what_was_never_sent_is_no_flow(flags: str, details: str) -> None:
    changes: dict[str, Any] = {
        "response_flags": flags,
        "response_code_details": details,
        "response_code": 404,
    }
    assert told(OUTBOUND, **changes, **UNSENT).is_empty()


def test_what_came_to_a_server_came_whatever_was_made_of_it() -> None:
    flows = told(
        INBOUND,
        response_flags="DPE",
        response_code=400,
        upstream_cluster=None,
        response_code_details="http1.codec_error",
        method=None,
        path=None,
        requested_server_name=None,
        **UNSENT,
    )
    assert view(flows, "src_ip", "dst_ip", "status") == [
        ("10.0.0.1", "10.0.0.2", None),
        ("10.0.0.2", "10.0.0.1", 400),
    ]


def test_an_application_that_is_down_refuses_a_connection() -> None:
    flows = told(
        {**INBOUND, **TCP},
        response_flags="UF,URX",
        upstream_local_address=None,
        upstream_transport_failure_reason=REFUSED_WHY,
    )
    assert events(flows) == [PROBE, REFUSAL]


def test_a_connection_is_an_attempt_and_an_answer() -> None:
    flows = told({**OUTBOUND, **TCP})
    assert events(flows) == [PROBE, ANSWER]
    assert view(flows, "l7", "method", "status")[0] == (None, None, None)


def test_a_short_format_still_tells_of_what_was_sent() -> None:
    format = "%START_TIME% %REQ(:METHOD)% %PROTOCOL% %RESPONSE_CODE% %UPSTREAM_CLUSTER% "
    format += "%DOWNSTREAM_REMOTE_ADDRESS%"
    line = "2026-11-23T02:18:27.763Z GET HTTP/2 200 outbound|80||a.b.svc.cluster.local 10.0.0.1:5"
    flows, bad = decode(partial(envoy_lines, EnvoySettings(format=format)), line)
    assert bad.count == 0
    assert view(flows, "src_ip", "dst", "dst_port")[0] == ("10.0.0.1", "b/a", 80)


# Whose log it is

OWN: Final = EnvoySettings(pod="shop/web-0", workload="shop/web", ip="10.0.0.1", node="n1")


def test_a_client_is_whose_log_it_is() -> None:
    assert view(told(OUTBOUND, OWN), "src", "src_pod", "node")[0] == (
        "shop/web",
        "shop/web-0",
        "n1",
    )


def test_a_server_is_whose_log_it_is() -> None:
    assert view(told(INBOUND, OWN), "dst", "dst_pod", "src")[0] == ("shop/web", "shop/web-0", None)


def test_a_gateway_is_not_the_client_it_turned_away() -> None:
    flows = told(
        OUTBOUND,
        OWN,
        downstream_remote_address="203.0.113.5:777",
        response_code=403,
        response_code_details=NS_POLICY,
        **UNSENT,
    )
    assert view(flows, "src", "src_ip", "dst")[0] == (None, "203.0.113.5", "pay/ledger")


def test_a_gateway_is_the_client_of_what_it_failed_to_reach() -> None:
    flows = told(
        OUTBOUND,
        OWN,
        downstream_remote_address="203.0.113.5:777",
        response_flags="UF",
        response_code=503,
        upstream_local_address=None,
        upstream_transport_failure_reason=REFUSED_WHY,
    )
    assert view(flows, "src", "src_ip", "dst_ip")[0] == ("shop/web", "10.0.0.1", "10.0.0.2")


# Lines


def test_the_proxys_own_words_are_no_fault() -> None:
    text = "2026-11-23T02:18:27.763102Z\tinfo\tenvoy main\tstarting"
    assert decode(envoy_lines, text, text_of(OUTBOUND))[1] == BadRows()
    own = {"level": "info", "time": "2026-11-23T02:18:27Z", "scope": "xds", "msg": "connected"}
    assert decode(envoy_json, json.dumps(own), envoy(OUTBOUND))[1] == BadRows()


@pytest.mark.parametrize(
    "wrap",
    [
        "2026-11-23T02:18:28.1+01:00 stdout F {}".format,
        lambda line: json.dumps({"date": 1.5, "log": line + "\n", "stream": "stdout"}),
        lambda line: json.dumps({"message": line, "kubernetes": {"pod_name": "web-0"}}),
    ],
)
def test_a_wrapped_line_is_the_line_inside(wrap: Callable[[str], str]) -> None:
    for decoder, line in ((envoy_lines, text_of(OUTBOUND)), (envoy_json, envoy(OUTBOUND))):
        flows, bad = decode(decoder, wrap(line), line, wrap(line))
        assert bad == BadRows()
        assert flows.height == 6
        assert flows[:2].equals(flows[2:4])
        assert flows[:2].equals(flows[4:])


def test_a_shipper_may_have_parsed_the_line() -> None:
    flows, bad = decode(envoy_json, json.dumps({"log": OUTBOUND}))
    assert (flows.height, bad.count) == (2, 0)


def test_what_is_not_wrapped_is_left_alone() -> None:
    lines = pl.Series(["{", "{}", '{"log": 7}', "plain", '["log"]', ""])
    assert unwrapped(lines).null_count() == len(lines)


def test_no_client_makes_its_line_pass_for_a_wrapping() -> None:
    format = '{"t":"%START_TIME%","path":"%REQ(:PATH)%","to":"%UPSTREAM_HOST%"}'
    inner = '{\\"t\\":\\"2026-11-23T02:18:27.763Z\\",\\"path\\":\\"/\\",\\"to\\":\\"6.6.6.6:6\\"}'
    line = (
        f'{{"t":"2026-11-23T02:18:27.763Z","path":"/","log":"{inner}","x":"","to":"10.0.0.2:80"}}'
    )
    flows, _ = decode(partial(envoy_lines, EnvoySettings(format=format)), line)
    assert set(flows["dst_ip"].drop_nulls()) <= {"10.0.0.2"}


def test_bytes_that_are_not_utf_8_cost_nobody_a_line() -> None:
    clean = text_of(OUTBOUND).encode()
    flows, bad = decode(envoy_lines, clean.replace(b"curl", b"\xff\xfe"), clean)
    assert bad == BadRows()
    assert flows.height == 4
    spoilt = envoy(OUTBOUND).encode().replace(b"curl", b"\xff\xfe")
    assert decode(envoy_json, spoilt)[0].height == 2


def test_a_bad_line_is_counted_with_where_and_why() -> None:
    _, bad = decode(
        envoy_json,
        envoy(OUTBOUND),
        "{spoilt",
        "{}",
        envoy(OUTBOUND, start_time="x"),
        envoy(OUTBOUND, response_code=70_000),
    )
    assert bad.count == 4
    size = len(envoy(OUTBOUND)) + 1
    assert bad.samples[0].startswith(f"test at byte {size:,}: not JSON")
    assert "no entry of an access log" in bad.samples[1]
    assert "its time is x" in bad.samples[2]
    assert "its status is 70000" in bad.samples[3]


def test_an_ambiguous_line_is_bad_and_still_tells_who() -> None:
    forged = ' HTTP/1.1" 200 - via_upstream - "-" 0 0 1 1 "-" "x" "y" "z'
    flows, bad = decode(envoy_lines, text_of(INBOUND, user_agent=forged, response_code=403))
    assert bad.count == 1
    assert "more than one reading" in bad.samples[0]
    assert view(flows, "src_ip", "dst_ip", "status", "l7") == [
        ("10.0.0.1", "10.0.0.2", None, "http")
    ]


def test_numbers_as_text_and_dashes_are_understood() -> None:
    flows = told(OUTBOUND)
    texts = {key: "-" if value is None else str(value) for key, value in OUTBOUND.items()}
    assert decode(envoy_json, json.dumps(texts))[0].equals(flows)


def test_a_field_that_nobody_knows_is_an_error() -> None:
    with pytest.raises(ConfigError, match="upstream_hots") as caught:
        envoy_json(EnvoySettings(json={"upstream_hots": "h"}))
    assert "upstream_host" in caught.value.hint


def test_a_key_of_ones_own_is_read() -> None:
    settings = EnvoySettings(json={"%UPSTREAM_HOST%": "to", "start_time": "@timestamp"})
    line = envoy(OUTBOUND, to="10.0.0.5:1", **{"@timestamp": "2026-11-23T02:18:27Z"})
    flows, bad = decode(partial(envoy_json, settings), line)
    assert (flows["dst_ip"][0], bad.count) == ("10.0.0.5", 0)


def test_no_entry_is_no_flow() -> None:
    assert envoy_flows(pl.DataFrame({"start_time": []})).is_empty()


@pytest.mark.parametrize(
    ("name", "entries", "flows"),
    [
        ("istio_default_inbound.log", 15, 28),
        ("istio_default_outbound.log", 21, 35),
        ("istio_default_tcp.log", 6, 11),
        ("istio_default.ndjson", 40, 70),
        ("istio_identity_fields.ndjson", 19, 36),
    ],
)
def test_a_real_envoys_lines_are_read_without_a_bad_row(
    name: str, entries: int, flows: int
) -> None:
    path = SAMPLES / name
    assert len(path.read_text().splitlines()) == entries
    (source,) = open_inputs([str(path)])
    batches = list(source.batches())
    assert sum(batch.bad.count for batch in batches) == 0
    assert sum(batch.flows.height for batch in batches) == flows


@pytest.mark.parametrize(
    "name", ["istio-json-2022", "istio-json-tcp-passthrough-2022", "istio-text-2022"]
)
def test_published_lines_of_istio_are_read_without_a_bad_row(data: Path, name: str) -> None:
    path = data / "istio-logs" / f"{name}.log"
    (source,) = open_inputs([str(path)])
    batches = list(source.batches())
    assert sum(batch.bad.count for batch in batches) == 0
    assert sum(batch.flows.height for batch in batches) == 2 * len(path.read_text().splitlines())


@pytest.fixture(scope="module", params=["text", "json", "wrapped"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    odd = {"user_agent": ' HTTP/1.1" 200 - via_upstream - "-" 0 0 1 1 "-" "x" "y" "z'}
    changes = [{"downstream_remote_address": f"10.0.1.{at % 200}:{at + 1}"} for at in range(300)]
    bases = [{**INBOUND, **change} for change in changes]
    bases[7:300:50] = [{**base, **odd} for base in bases[7:300:50]]
    folder = tmp_path_factory.mktemp("envoy")
    if request.param == "json":
        return case_of(folder, envoy_json, [envoy(base) for base in bases])
    lines = [text_of(base) for base in bases]
    if request.param == "wrapped":
        lines = [json.dumps({"log": line}) for line in lines]
    return case_of(folder, envoy_lines, lines)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_access_logs_hold_to_the_contract(case: Case, rule: Callable[[Case], None]) -> None:
    rule(case)
