"""What the log of Istio's ambient mesh becomes, as text and as JSON."""

import json
from collections.abc import Callable
from typing import Any, Final

import polars as pl
import pytest
from mesh_lines import case_of, decode, view
from source_contract import RULES, Case

from sidelong.features.events import ANSWER, DENIAL, PROBE, REFUSAL, event_of
from sidelong.ingest.source import BadRows
from sidelong.ingest.ztunnel_logs import ztunnel_json, ztunnel_lines

OUTBOUND: Final[dict[str, Any]] = {
    "src.addr": "10.42.0.9:33772",
    "src.workload": "cart-7656cf8794-6lsm4",
    "src.namespace": "shop",
    "src.identity": "spiffe://td/ns/shop/sa/cart",
    "dst.addr": "10.42.0.5:15008",
    "dst.hbone_addr": "10.42.0.5:9080",
    "dst.service": "ledger.pay.svc.cluster.local",
    "dst.workload": "ledger-857849f66-ft8wx",
    "dst.namespace": "pay",
    "dst.identity": "spiffe://td/ns/pay/sa/ledger",
    "direction": "outbound",
    "bytes_sent": 84,
    "bytes_recv": 358,
    "duration": "15ms",
}
INBOUND: Final[dict[str, Any]] = {
    **OUTBOUND,
    "src.addr": "10.42.0.9:58866",
    "direction": "inbound",
    "bytes_sent": 358,
    "bytes_recv": 84,
}
PLAIN: Final[dict[str, Any]] = {
    "src.addr": "10.217.0.2:44480",
    "dst.addr": "10.217.0.248:8080",
    "dst.workload": "ledger-0",
    "dst.namespace": "pay",
    "direction": "inbound",
    "bytes_sent": 0,
    "bytes_recv": 0,
    "duration": "0ms",
}
UNQUOTED: Final = ("src.addr", "dst.addr", "dst.hbone_addr", "bytes_sent", "bytes_recv")
TIME: Final = "2026-08-21T15:32:05.754291Z"


def text_of(entry: dict[str, Any], message: str = "connection complete") -> str:
    level = "error" if "error" in entry else "info"
    values = " ".join(
        f"{key}={value if key in UNQUOTED else json.dumps(value)}" for key, value in entry.items()
    )
    return f"{TIME}\t{level}\taccess\t{message}\t{values}"


def json_of(entry: dict[str, Any], message: str = "connection complete") -> str:
    head = {"level": "info", "time": TIME, "scope": "access", "message": message}
    return json.dumps(head | entry)


def told(entry: dict[str, Any], **changes: object) -> pl.DataFrame:
    """The flows of one entry, which must be the same from text and from JSON."""
    entry = {key: value for key, value in {**entry, **changes}.items() if value is not None}
    flows, bad = decode(ztunnel_lines, text_of(entry))
    again, worse = decode(ztunnel_json, json_of(entry))
    assert bad == worse == BadRows()
    assert flows.equals(again)
    return flows


def events(flows: pl.DataFrame) -> list[int]:
    return event_of(flows).to_list()


def test_a_connection_leads_where_the_client_wanted_to_go() -> None:
    flows = told(OUTBOUND)
    assert view(flows, "src_ip", "src_port", "dst_ip", "dst_port", "bytes", "reply") == [
        ("10.42.0.9", None, "10.42.0.5", 9_080, 84, False),
        ("10.42.0.5", 9_080, "10.42.0.9", None, 358, True),
    ]
    assert events(flows) == [PROBE, ANSWER]


def test_both_ends_tell_the_same_of_one_connection() -> None:
    there, here = told(OUTBOUND), told(INBOUND)
    same = [name for name in there.columns if name != "origin"]
    assert there.select(same).equals(here.select(same))
    assert (there["origin"][0], here["origin"][0]) == ("ztunnel:outbound", "ztunnel:inbound")


def test_both_ends_have_pods_and_identities() -> None:
    columns = ("src_pod", "dst_pod", "src_principal", "dst_principal", "encrypted")
    assert view(told(INBOUND), *columns)[0] == (
        "shop/cart-7656cf8794-6lsm4",
        "pay/ledger-857849f66-ft8wx",
        "spiffe://td/ns/shop/sa/cart",
        "spiffe://td/ns/pay/sa/ledger",
        True,
    )


def test_a_connection_began_its_duration_before_it_was_told() -> None:
    flows = told(OUTBOUND)
    assert (flows["end"][0] - flows["time"][0]).total_seconds() == 0.015
    assert flows["end"][0].isoformat() == "2026-08-21T15:32:05.754291+00:00"


def test_without_a_tunnel_the_client_has_its_port() -> None:
    columns = ("src_ip", "src_port", "dst_ip", "dst_port", "src_pod", "encrypted")
    assert view(told(PLAIN), *columns)[0] == (
        *("10.217.0.2", 44_480, "10.217.0.248", 8_080, None, False),
    )


def test_a_waypoint_is_not_the_server_behind_it() -> None:
    flows = told(OUTBOUND, **{"dst.hbone_addr": "10.96.249.127:8080"})
    assert view(flows, "dst_ip", "dst_port", "dst_pod", "dst_principal")[0] == (
        *("10.96.249.127", 8_080, None, None),
    )


def test_a_tunnel_by_name_leads_to_the_service() -> None:
    flows = told(OUTBOUND, **{"dst.hbone_addr": "ledger.pay.svc.cluster.local:9080"})
    assert view(flows, "dst", "dst_ip", "dst_port")[0] == ("pay/ledger", None, 9_080)


DENIED: Final = "connection closed due to policy rejection: "


@pytest.mark.parametrize(
    ("error", "expected", "policy"),
    [
        (f"{DENIED}explicitly denied by: istio-system/strict", [DENIAL], "istio-system/strict"),
        (f"{DENIED}allow policies exist, but none allowed", [DENIAL], None),
        ("http status: 401 Unauthorized", [DENIAL], None),
        ("connection failed: Connection refused (os error 111)", [PROBE, REFUSAL], None),
        ("connection timed out, maybe a NetworkPolicy is blocking HBONE", [PROBE], None),
        ("connection failed: No route to host (os error 113)", [PROBE], None),
    ],
)
def test_an_error_says_what_became_of_it(
    error: str, expected: list[int], policy: str | None
) -> None:
    flows = told(OUTBOUND, bytes_sent=0, bytes_recv=0, error=error)
    assert events(flows) == expected
    assert flows["policy"][0] == policy


def test_a_connection_that_broke_later_was_answered() -> None:
    assert events(told(OUTBOUND, error="io error: broken pipe")) == [PROBE, ANSWER]


def test_one_connection_is_told_once() -> None:
    for decoder, line in ((ztunnel_lines, text_of), (ztunnel_json, json_of)):
        opened = line(OUTBOUND, "connection opened")
        flows, bad = decode(decoder, opened, line(OUTBOUND))
        assert (flows.height, bad) == (2, BadRows())


def test_what_else_ztunnel_says_is_no_fault() -> None:
    text = f"{TIME}\tinfo\txds::client:xds{{id=1}}\tconnected"
    assert decode(ztunnel_lines, text, text_of(OUTBOUND))[1] == BadRows()
    own = json.dumps({"level": "info", "time": TIME, "scope": "xds", "message": "connected"})
    assert decode(ztunnel_json, own, json_of(OUTBOUND))[1] == BadRows()


def test_blanks_and_missing_quotes_are_understood() -> None:
    older = text_of(OUTBOUND).replace("\t", " ").replace('"', "")
    assert decode(ztunnel_lines, older)[0].equals(told(OUTBOUND))


def test_a_wrapped_line_is_the_line_inside() -> None:
    assert decode(ztunnel_lines, f"{TIME} stdout F {text_of(OUTBOUND)}")[0].equals(told(OUTBOUND))
    wrapped = json.dumps({"log": json_of(OUTBOUND)})
    assert decode(ztunnel_json, wrapped)[0].equals(told(OUTBOUND))


def test_what_is_said_in_an_error_names_nobody() -> None:
    flows = told(PLAIN, error='odd " src.identity="spiffe://td/ns/x/sa/admin" src.workload="y')
    assert view(flows, "src_principal", "src_pod")[0] == (None, None)


@pytest.mark.parametrize("line", ["spoilt", f"{TIME} info access connection complete nothing"])
def test_a_bad_line_is_counted(line: str) -> None:
    assert decode(ztunnel_lines, line, text_of(OUTBOUND))[1].count == 1


@pytest.fixture(scope="module", params=["text", "json"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("ztunnel")
    entries = [{**OUTBOUND, "src.addr": f"10.42.0.9:{at + 1}"} for at in range(300)]
    if request.param == "text":
        return case_of(folder, ztunnel_lines, [text_of(entry) for entry in entries])
    return case_of(folder, ztunnel_json, [json_of(entry) for entry in entries])


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_connection_logs_hold_to_the_contract(case: Case, rule: Callable[[Case], None]) -> None:
    rule(case)
