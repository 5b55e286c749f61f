"""Receivers: what is sent, with which headers, and what counts as taken."""

import json
import os
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trustme
from alert_forms import HOSTILE, hostile, message, shop_incidents
from standardwebhooks import Webhook
from web_server import Request, WebServer, serving

from sidelong.alerts.receiver import Sent, Undelivered
from sidelong.alerts.receiver_settings import ReceiverSettings
from sidelong.alerts.receivers import build_receiver, build_receivers
from sidelong.alerts.sample import sample_incident
from sidelong.errors import ConfigError

LOOPBACK = {"allow_http": True, "allow_private": ["127.0.0.1"]}
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"


@pytest.fixture
def server() -> Iterator[WebServer]:
    with serving() as running:
        yield running


def settings(type_: str, **given: Any) -> ReceiverSettings:
    told = {"type": type_, "name": "test", **given}
    converted: ReceiverSettings = msgspec.convert(told, ReceiverSettings)
    return converted


def sent(server: WebServer, type_: str, events: Any = None, **given: Any) -> Sent:
    url = given.pop("url", f"http://127.0.0.1:{server.port}/hook")
    if type_ in ("slack", "teams"):
        os.environ["SIDELONG_TEST_URL"] = url
        url = {"env": "SIDELONG_TEST_URL"}
    receiver = build_receiver(settings(type_, url=url, **LOOPBACK, **given))
    return receiver.send(message(events or shop_incidents(), {"team": "pay"}))


def bodies(server: WebServer) -> list[Any]:
    return [json.loads(request.body) for request in server.requests]


def answering(status: int, body: bytes) -> Any:
    return lambda _: (status, {}, body)


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIDELONG_TEST_KEY", SECRET)
    monkeypatch.setenv("SIDELONG_TEST_OTHER", OTHER)
    monkeypatch.setenv("SIDELONG_TEST_URL", "-")


def test_a_strict_receiver_verifies_a_webhook(server: WebServer) -> None:
    signing = [{"env": "SIDELONG_TEST_KEY"}, {"env": "SIDELONG_TEST_OTHER"}]
    assert sent(server, "webhook", signing=signing).status == "200 OK"
    (request,) = server.requests
    for secret in (SECRET, OTHER):
        told = Webhook(secret).verify(request.body, request.headers)
        assert [one["id"] for one in told["incidents"]] == [one.id for one in shop_incidents()]
        assert told["labels"] == {"team": "pay"}
    assert request.headers["webhook-id"] == message(shop_incidents(), {"team": "pay"}).id


def test_a_repetition_bears_the_same_id(server: WebServer) -> None:
    sent(server, "webhook")
    sent(server, "webhook")
    first, second = server.requests
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body


def test_a_secret_that_is_missing_is_named_when_it_is_needed(
    server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SIDELONG_TEST_KEY")
    with pytest.raises(ConfigError, match="the variable SIDELONG_TEST_KEY"):
        sent(server, "webhook", signing=[{"env": "SIDELONG_TEST_KEY"}])


def test_the_body_of_a_webhook_may_be_a_template(server: WebServer) -> None:
    body = '{"message": "{{ incident.summary }}", "priority": {{ incident.score }}}'
    sent(server, "webhook", [sample_incident()], body=body)
    assert bodies(server) == [{"message": sample_incident().summary, "priority": 0.62}]


def test_a_template_that_gives_no_json_is_refused_before_anything_starts() -> None:
    with pytest.raises(ConfigError, match=r"test\.body gives no JSON"):
        build_receiver(settings("webhook", url="https://x.example", body='{"a": {{ title }}}'))


def test_a_template_that_fails_later_is_told_and_ours_is_sent(server: WebServer) -> None:
    text = "{{ 1 // incident.objects|length if incident.kind == 'lateral_movement' }}"
    event = replace(shop_incidents()[2], objects=())
    answer = sent(server, "slack", [event], text=text).answer
    assert "the template test.text failed: line 1: integer" in answer
    assert "shop/catalog" in bodies(server)[0]["blocks"][1]["text"]["text"]


def test_headers_may_hold_secrets_and_no_answer_shows_them(server: WebServer) -> None:
    server.answer = lambda request: (200, {}, request.headers["x-api-key"].encode())
    answer = sent(server, "ocsf", headers={"X-Api-Key": {"env": "SIDELONG_TEST_KEY"}})
    assert server.requests[0].headers["x-api-key"] == SECRET
    assert SECRET not in repr(answer)


@pytest.mark.parametrize("name", ["Authorization", "X-Api-Key", "X-Auth-Token", "Cookie"])
def test_a_confidential_header_is_no_text_of_the_configuration(name: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=f"the header {name} is a secret"):
        settings("webhook", url="https://x.example", headers={name: "x"})


def test_cloudevents_come_each_in_its_own_request_unless_a_batch_is_wanted(
    server: WebServer,
) -> None:
    sent(server, "cloudevents")
    sent(server, "cloudevents", batch=True)
    kinds = [request.headers["content-type"] for request in server.requests]
    assert kinds == ["application/cloudevents+json"] * 3 + ["application/cloudevents-batch+json"]
    assert bodies(server)[3] == bodies(server)[:3]


def test_slack_gets_blocks_and_a_template_may_say_it_otherwise(server: WebServer) -> None:
    sent(server, "slack", [sample_incident()], title="Look", text="*{{ incident.actor.workload }}*")
    (body,) = bodies(server)
    assert body["blocks"][0]["text"]["text"] == "Look"
    said = {"type": "mrkdwn", "text": "*sample-shop/sample-frontend*", "verbatim": True}
    assert body["blocks"][1]["text"] == said


def test_slack_may_refuse_with_200(server: WebServer) -> None:
    server.answer = answering(200, b'{"ok":false,"error":"channel_not_found"}')
    with pytest.raises(Undelivered, match="channel_not_found") as caught:
        sent(server, "slack", channel="#x")
    assert caught.value.permanent
    assert bodies(server)[0]["channel"] == "#x"
    server.answer = answering(200, b'{"ok":false,"error":"ratelimited"}')
    with pytest.raises(Undelivered) as caught:
        sent(server, "slack")
    assert not caught.value.permanent


@pytest.mark.parametrize("type_", ["slack", "teams"])
def test_a_reminder_says_that_it_is_one(
    server: WebServer, monkeypatch: pytest.MonkeyPatch, type_: str
) -> None:
    monkeypatch.setenv("SIDELONG_TEST_URL", f"http://127.0.0.1:{server.port}/hook")
    receiver = build_receiver(settings(type_, url={"env": "SIDELONG_TEST_URL"}, **LOOPBACK))
    receiver.send(replace(message([sample_incident()]), occasion="reminder 1"))
    assert b"sample-shop/sample-frontend (still open)" in server.requests[0].body


def test_a_configured_header_takes_the_place_of_ours(server: WebServer) -> None:
    sent(server, "ocsf", headers={"content-type": "application/x-ocsf"})
    assert server.requests[0].headers["content-type"] == "application/x-ocsf"


def test_teams_may_refuse_with_200(server: WebServer) -> None:
    failed = b"delivery failed with error: Microsoft Teams endpoint returned HTTP error 429"
    server.answer = answering(200, failed)
    with pytest.raises(Undelivered, match="429") as caught:
        sent(server, "teams")
    assert not caught.value.permanent


def test_teams_gets_a_card_and_a_template_is_markdown(server: WebServer) -> None:
    sent(server, "teams", text="**{{ incident.actor.workload }}** {{ incident.actor.pod }}")
    body = bodies(server)[0]["attachments"][0]["content"]["body"]
    assert body[1]["type"] == "TextBlock"
    assert body[1]["text"].startswith("**shop/catalog** ")


def test_pagerduty_gets_one_event_a_request_and_no_answer_shows_its_key(
    server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIDELONG_TEST_KEY", "0123456789abcdef0123456789abcdef")
    server.answer = lambda request: (202, {}, request.body)
    answer = sent(server, "pagerduty", routing_key={"env": "SIDELONG_TEST_KEY"})
    told = bodies(server)
    assert [one["event_action"] for one in told] == ["trigger", "trigger", "resolve"]
    assert told[0]["routing_key"] == "0123456789abcdef0123456789abcdef"
    assert "0123456789abcdef" not in repr(answer)


def test_pagerduty_may_be_left_to_resolve_by_hand(server: WebServer) -> None:
    key = {"env": "SIDELONG_TEST_KEY"}
    closed = [shop_incidents()[2]]
    assert sent(server, "pagerduty", closed, routing_key=key, resolve=False).status == (
        "nothing to send"
    )
    assert server.requests == []


def test_alertmanager_resolves_what_an_incident_was_when_it_grows_severe(
    server: WebServer,
) -> None:
    url = f"http://127.0.0.1:{server.port}"
    receiver = build_receiver(settings("alertmanager", url=url, **LOOPBACK))
    event = sample_incident()
    receiver.send(message([event]))
    receiver.send(message([replace(event, status="update", severity="high")]))
    receiver.send(message([replace(event, status="closed", severity="high")]))
    told = [[alert["labels"]["severity"] for alert in body] for body in bodies(server)]
    assert told == [["medium"], ["high", "medium"], ["high"]]
    assert {request.target for request in server.requests} == {"/api/v2/alerts"}


def test_what_was_not_taken_is_not_remembered(server: WebServer) -> None:
    url = f"http://127.0.0.1:{server.port}"
    receiver = build_receiver(settings("alertmanager", url=url, **LOOPBACK))
    event = sample_incident()
    receiver.send(message([event]))
    server.answer = answering(503, b"")
    worse = message([replace(event, status="update", severity="high")])
    with pytest.raises(Undelivered):
        receiver.send(worse)
    server.answer = answering(200, b"")
    receiver.send(worse)
    assert len(bodies(server)[2]) == 2


def test_elasticsearch_is_asked_only_for_what_failed(server: WebServer) -> None:
    server.answer = answering(200, b'{"errors":true,"items":[{"create":{"status":409}}]}')
    sent(server, "ecs", url=f"http://127.0.0.1:{server.port}/logs-sidelong-x/_bulk")
    (request,) = server.requests
    assert request.target.startswith("/logs-sidelong-x/_bulk?filter_path=errors,")
    assert request.headers["content-type"] == "application/x-ndjson"


@pytest.mark.parametrize(("status", "permanent"), [(400, True), (429, False), (503, False)])
def test_elasticsearch_may_refuse_a_document_with_200(
    server: WebServer, status: int, permanent: bool
) -> None:
    item = {"create": {"status": status, "error": {"reason": "no such field"}}}
    server.answer = answering(200, json.dumps({"errors": True, "items": [item]}).encode())
    with pytest.raises(Undelivered, match="no such field") as caught:
        sent(server, "ecs")
    assert caught.value.permanent is permanent


def test_ecs_and_ocsf_may_go_to_a_collector_as_an_array(server: WebServer) -> None:
    sent(server, "ecs", bulk=False)
    sent(server, "ocsf")
    documents, findings = bodies(server)
    assert [one["event"]["kind"] for one in documents] == ["alert"] * 3
    assert [one["class_uid"] for one in findings] == [2004] * 3


def test_a_url_that_may_not_be_sent_to_is_refused_before_anything_starts() -> None:
    with pytest.raises(ConfigError, match="allow_http"):
        build_receiver(settings("webhook", url="http://x.example/token"))
    with pytest.raises(ConfigError, match="loopback"):
        build_receiver(settings("webhook", url="https://127.0.0.1/token"))


@pytest.mark.parametrize(
    "given",
    [
        {"type": "nobody", "name": "x"},
        {"type": "file", "name": "x y", "path": "p"},
        {"type": "file", "name": "x", "path": "p", "colour": "red"},
        {"type": "slack", "name": "x", "url": "https://hooks.slack.com/services/T/B/secret"},
        {"type": "syslog", "name": "x", "url": "tls://x", "facility": "kitchen"},
        {"type": "webhook", "name": "x", "url": {"env": "A", "file": "b"}},
        {"type": "webhook", "name": "x", "url": {}},
    ],
)
def test_settings_that_mean_nothing_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(given, ReceiverSettings)


def test_two_receivers_of_one_name_are_refused(tmp_path: Path) -> None:
    one = settings("file", path=str(tmp_path / "a"))
    assert list(build_receivers([one])) == ["test"]
    with pytest.raises(ConfigError, match="two receivers are called test"):
        build_receivers([one, one])


def test_no_receiver_shows_what_it_is_configured_with() -> None:
    receiver = build_receiver(settings("webhook", url="https://x.example/token-123"))
    assert "token-123" not in repr(receiver)


HTTP = ("webhook", "cloudevents", "slack", "teams", "pagerduty", "alertmanager", "ocsf", "ecs")


def any_sent(server: WebServer, type_: str, events: Any = None) -> Sent:
    given = {"routing_key": {"env": "SIDELONG_TEST_KEY"}} if type_ == "pagerduty" else {}
    return sent(server, type_, events, **given)


@pytest.mark.parametrize("type_", HTTP)
def test_every_receiver_takes_any_name(server: WebServer, type_: str) -> None:
    for name in HOSTILE.values():
        assert any_sent(server, type_, [hostile(name)]).status == "200 OK"
    for request in server.requests:
        for line in request.body.splitlines():
            json.loads(line)


@pytest.mark.parametrize("type_", HTTP)
def test_every_receiver_passes_on_that_it_is_to_be_left_alone(
    server: WebServer, type_: str
) -> None:
    server.answer = lambda _: (429, {"Retry-After": "17"}, b"")
    with pytest.raises(Undelivered) as caught:
        any_sent(server, type_)
    assert (caught.value.permanent, caught.value.retry_after) == (False, 17.0)


@pytest.mark.parametrize("type_", HTTP)
def test_every_receiver_gives_up_what_will_never_be_taken(server: WebServer, type_: str) -> None:
    server.answer = answering(400, b"no such thing")
    with pytest.raises(Undelivered, match="no such thing") as caught:
        any_sent(server, type_)
    assert caught.value.permanent


# A file


@pytest.mark.parametrize("format", ["json", "cloudevents", "ocsf", "ecs", "cef"])
def test_a_file_gets_a_line_for_each_event(tmp_path: Path, format: str) -> None:
    path = tmp_path / "alerts.log"
    receiver = build_receiver(settings("file", path=str(path), format=format))
    assert receiver.send(message(shop_incidents())).status == "3 added"
    receiver.send(message(shop_incidents()))
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 6
    if format != "cef":
        assert all(isinstance(json.loads(line), dict) for line in lines)


def test_a_file_that_was_moved_away_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "alerts.log"
    receiver = build_receiver(settings("file", path=str(path)))
    receiver.send(message(shop_incidents()))
    path.rename(tmp_path / "alerts.log.1")
    receiver.send(message([sample_incident()]))
    assert len(path.read_text().splitlines()) == 1


def test_a_line_that_was_cut_off_is_not_continued(tmp_path: Path) -> None:
    path = tmp_path / "alerts.log"
    path.write_text('{"id": "cut')
    build_receiver(settings("file", path=str(path))).send(message([sample_incident()]))
    cut, whole = path.read_text().splitlines()
    assert cut == '{"id": "cut'
    assert json.loads(whole)["id"] == sample_incident().id


def test_a_file_that_cannot_be_written_is_tried_again(tmp_path: Path) -> None:
    receiver = build_receiver(settings("file", path=str(tmp_path / "no" / "alerts.log")))
    with pytest.raises(Undelivered, match="No such file") as caught:
        receiver.send(message([sample_incident()]))
    assert not caught.value.permanent


# Syslog


@contextmanager
def syslog_server(tls: ssl.SSLContext | None = None) -> Iterator[tuple[int, list[bytes]]]:
    """A port, and what each connection to it brought."""
    came: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(10)

        def serve() -> None:
            try:
                connected: socket.socket = listening.accept()[0]
                with connected:
                    connected.settimeout(10)
                    if tls:
                        connected = tls.wrap_socket(connected, server_side=True)
                    content = b""
                    while piece := connected.recv(65_536):
                        content += piece
                    came.append(content)
                    connected.close()
            except OSError:
                pass  # the test says what should have come

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listening.getsockname()[1], came
        finally:
            thread.join(10)


def frames(content: bytes) -> list[bytes]:
    found = []
    while content:
        size, _, content = content.partition(b" ")
        found.append(content[: int(size)])
        content = content[int(size) :]
    return found


def syslog(url: str, **given: Any) -> Sent:
    told = {"allow_private": ["127.0.0.1"], "hostname": "watcher", **given}
    return build_receiver(settings("syslog", url=url, **told)).send(message(shop_incidents()))


def test_syslog_over_tcp_counts_octets() -> None:
    with syslog_server() as (port, came):
        answer = syslog(f"tcp://127.0.0.1:{port}", allow_plain=True)
    assert answer.status == "3 over tcp"
    told = frames(came[0])
    assert [re.findall(rb"externalId=(\w+)", one)[0].decode() for one in told] == [
        event.id for event in shop_incidents()
    ]


def test_syslog_over_tls_checks_the_certificate(tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca)
    with syslog_server(context) as (port, came):
        syslog(f"tls://127.0.0.1:{port}", ca=str(ca))
    assert len(frames(came[0])) == 3
    not_trusted = pytest.raises(Undelivered, match="certificate is not trusted")
    with syslog_server(context) as (port, came), not_trusted:
        syslog(f"tls://127.0.0.1:{port}")
    assert came == []


def test_a_syslog_server_that_wants_another_certificate_has_taken_nothing(tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    ca, client = tmp_path / "ca.pem", tmp_path / "client.pem"
    authority.cert_pem.write_to_path(ca)
    authority.issue_cert("sidelong.example").private_key_and_cert_chain_pem.write_to_path(client)
    with syslog_server(context) as (port, came), pytest.raises(Undelivered):
        syslog(f"tls://127.0.0.1:{port}", ca=str(ca))
    assert came == []
    with syslog_server(context) as (port, came):
        syslog(f"tls://127.0.0.1:{port}", ca=str(ca), cert=str(client), key=str(client))
    assert len(came) == 1


def test_syslog_over_udp_is_a_datagram_for_each_event() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.settimeout(10)
        syslog(f"udp://127.0.0.1:{listening.getsockname()[1]}", allow_plain=True, facility="auth")
        came = [listening.recv(65_536) for _ in range(3)]
    assert [one[:4] for one in came] == [b"<36>", b"<34>", b"<35>"]
    assert all(len(one) <= 2_048 for one in came)


def test_a_syslog_server_that_is_away_is_tried_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(Undelivered, match="refused") as caught:
        syslog(f"tcp://127.0.0.1:{port}", allow_plain=True)
    assert not caught.value.permanent


@pytest.mark.parametrize(
    ("url", "given", "problem"),
    [
        ("syslog://x", {}, "no address of syslog"),
        ("tcp://x", {"allow_plain": True}, "no address of syslog"),
        ("tls://x/path", {}, "no address of syslog"),
        ("tls://x:port", {}, "no address of syslog"),
        ("udp://x", {}, "unencrypted"),
        ("tls://127.0.0.1", {"allow_private": []}, "loopback"),
        ("tls://169.254.169.254", {"allow_private": ["169.254.0.0/16"]}, "metadata"),
    ],
)
def test_a_syslog_address_that_may_not_be_is_refused_before_anything_starts(
    url: str, given: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem):
        syslog(url, **given)


# Apprise


def apprise(server: WebServer, monkeypatch: pytest.MonkeyPatch, **given: Any) -> Sent:
    monkeypatch.setenv("SIDELONG_TEST_URL", f"json://user:pass-word@127.0.0.1:{server.port}/x")
    receiver = build_receiver(settings("apprise", url={"env": "SIDELONG_TEST_URL"}, **given))
    return receiver.send(message([sample_incident()]))


def test_apprise_is_handed_a_title_and_a_text(
    server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert apprise(server, monkeypatch).status == "taken by Apprise"
    (body,) = bodies(server)
    assert body["title"] == "[MEDIUM] Scan by sample-shop/sample-frontend"
    assert body["message"].startswith("This is a sample: ")
    assert body["type"] == "warning"


def test_apprise_is_handed_what_the_templates_say(
    server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    apprise(server, monkeypatch, title="Look", text="{{ incident.id }} {{ '{{7*7}}' }}")
    (body,) = bodies(server)
    assert (body["title"], body["message"]) == ("Look", f"{sample_incident().id} {{{{7*7}}}}")


def test_what_apprise_could_not_hand_on_is_undelivered_and_shows_no_secret(
    server: WebServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server.answer = answering(500, b"")
    with pytest.raises(Undelivered) as caught:
        apprise(server, monkeypatch)
    assert "pass-word" not in caught.value.why
    assert caplog.text == ""


def test_a_redirect_is_not_followed_by_apprise(
    server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(request: Request) -> tuple[int, dict[str, str], bytes]:
        return 307, {"Location": f"http://127.0.0.1:{server.port}/elsewhere"}, b""

    server.answer = away
    with pytest.raises(Undelivered):
        apprise(server, monkeypatch)
    assert len(server.requests) == 1


def test_a_url_that_apprise_does_not_know_is_told_without_it(
    server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIDELONG_TEST_OTHER", "nosuch://token-123")
    receiver = build_receiver(settings("apprise", url={"env": "SIDELONG_TEST_OTHER"}))
    with pytest.raises(ConfigError) as caught:
        receiver.send(message([sample_incident()]))
    assert "token-123" not in str(caught.value)
