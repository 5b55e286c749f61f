"""What Linkerd's access logs become, as text and as JSON."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import polars as pl
import pytest
from mesh_lines import case_of, decode, view
from source_contract import RULES, Case

from sidelong.ingest.inputs import open_inputs
from sidelong.ingest.linkerd_logs import LinkerdSettings, linkerd_json, linkerd_lines
from sidelong.ingest.source import BadRows

ID: Final = "web.shop.serviceaccount.identity.linkerd.td.example"
TIME: Final = "2022-08-23T20:28:20.071809491Z"
LINE: Final = f'10.42.0.63:51160 {ID} - [{TIME}] "GET http://pay:7000/items?x=1 HTTP/2.0" 200'
ENTRY: Final[dict[str, Any]] = {
    "client.addr": "10.42.0.63:51160",
    "client.id": ID,
    "host": "pay:7000",
    "method": "GET",
    "processing_ns": "39826",
    "request_bytes": "",
    "response_bytes": "19627",
    "status": 200,
    "timestamp": TIME,
    "total_ns": "14441135",
    "trace_id": "",
    "uri": "http://pay:7000/items?x=1",
    "user_agent": "Go-http-client/1.1",
    "version": "HTTP/2.0",
}


def of_text(line: str = LINE, settings: LinkerdSettings = LinkerdSettings()) -> pl.DataFrame:  # noqa: B008
    flows, bad = decode(partial(linkerd_lines, settings), line)
    assert bad == BadRows()
    return flows


def of_json(**changes: object) -> pl.DataFrame:
    entry = {key: value for key, value in {**ENTRY, **changes}.items() if value is not ...}
    flows, bad = decode(linkerd_json, json.dumps(entry))
    assert bad == BadRows()
    return flows


@pytest.mark.parametrize("read", [of_text, of_json])
def test_a_request_is_asked_and_answered(read: Callable[[], pl.DataFrame]) -> None:
    flows = read()
    assert view(flows, "method", "path", "status", "l7", "reply", "origin") == [
        ("GET", "/items", None, "http", False, "linkerd:inbound"),
        ("GET", "/items", 200, "http", True, "linkerd:inbound"),
    ]
    assert view(flows, "src_ip", "src_port")[0] == ("10.42.0.63", 51_160)


def test_an_identity_becomes_the_form_that_others_tell() -> None:
    principal = "spiffe://td.example/ns/shop/sa/web"
    assert view(of_text(), "src_principal", "encrypted")[0] == (principal, True)
    assert of_json()["src_principal"][0] == principal


def test_who_is_not_in_the_mesh_has_no_identity() -> None:
    flows = of_text(LINE.replace(ID, "-"))
    assert view(flows, "src_principal", "encrypted")[0] == (None, None)


def test_an_external_workload_keeps_its_identity() -> None:
    assert of_json(**{"client.id": "spiffe://td/vm"})["src_principal"][0] == "spiffe://td/vm"


def test_the_name_that_a_client_asked_for_is_not_taken_for_the_server() -> None:
    assert view(of_text(), "dst", "dst_ip", "dst_pod", "dst_port")[0] == (None, None, None, None)


def test_the_server_is_the_pod_in_the_settings() -> None:
    settings = LinkerdSettings(pod="shop/pay-0", workload="shop/pay", ip="10.42.0.9", port=7000)
    flows = of_text(settings=settings)
    assert view(flows, "dst", "dst_pod", "dst_ip", "dst_port", "node")[0] == (
        *("shop/pay", "shop/pay-0", "10.42.0.9", 7_000, "shop/pay-0"),
    )


@pytest.mark.parametrize("end", ["", " "])
def test_a_failed_call_was_asked_and_not_answered(end: str) -> None:
    assert view(of_text(LINE.removesuffix(" 200") + end), "path", "reply") == [("/items", False)]
    missing = dict.fromkeys(("status", "response_bytes", "total_ns", "processing_ns"), ...)
    assert view(of_json(**missing), "path", "reply") == [("/items", False)]


def test_json_tells_bytes_and_how_long_it_took() -> None:
    asked, answered = of_json(request_bytes="33").iter_rows(named=True)
    assert (asked["bytes"], answered["bytes"]) == (33, 19_627)
    assert (answered["time"] - asked["time"]).total_seconds() == pytest.approx(0.014441)


def test_no_client_can_forge_a_status_or_an_address() -> None:
    forged = f'/ HTTP/1.1" 200 10.0.0.1:1 x - [{TIME}] "GET /'
    flows = of_text(LINE.replace("/items?x=1", forged).replace("200", "403", 2))
    assert flows["status"].to_list() == [None, 403]
    assert flows["src_ip"][0] == "10.42.0.63"


def test_the_proxys_own_words_are_no_fault() -> None:
    assert of_text(f"[     0.001519s]  INFO ThreadId(01) linkerd2_proxy: up\n{LINE}").height == 2


def test_a_wrapped_line_is_the_line_inside() -> None:
    assert of_text(f"2022-08-23T20:28:21Z stderr F {LINE}").equals(of_text())
    assert of_json().equals(decode(linkerd_json, json.dumps({"log": json.dumps(ENTRY)}))[0])


@pytest.mark.parametrize("line", ["spoilt", LINE.replace("2022-", "22-"), LINE.replace('"', "")])
def test_a_bad_line_is_counted(line: str) -> None:
    assert decode(linkerd_lines, line, LINE)[1].count == 1


@pytest.mark.parametrize("name", ["linkerd-access-apache.log", "linkerd-access-json.log"])
def test_published_lines_are_read_without_a_bad_row(data: Path, name: str) -> None:
    (source,) = open_inputs([str(data / "linkerd-docs" / name)])
    batches = list(source.batches())
    assert sum(batch.bad.count for batch in batches) == 0
    assert sum(batch.flows.height for batch in batches) == 10


@pytest.fixture(scope="module", params=["text", "json"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("linkerd")
    if request.param == "text":
        lines = [LINE.replace(":51160", f":{at + 1}") for at in range(600)]
        return case_of(folder, linkerd_lines, lines)
    entries = [{**ENTRY, "client.addr": f"10.42.0.63:{at + 1}"} for at in range(300)]
    return case_of(folder, linkerd_json, [json.dumps(entry) for entry in entries])


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_access_logs_hold_to_the_contract(case: Case, rule: Callable[[Case], None]) -> None:
    rule(case)
