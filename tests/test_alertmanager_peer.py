"""The real Alertmanager takes our alerts, groups them, and says when they are resolved."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from alert_forms import HOSTILE, hostile, message, shop_incidents
from peers.alertmanager_peer import Alertmanager
from web_server import WebServer, serving

from sidelong.alerts.incident import Incident
from sidelong.alerts.receiver import Receiver
from sidelong.alerts.receiver_settings import AlertmanagerSettings
from sidelong.alerts.receivers import build_receiver

pytestmark = pytest.mark.usefixtures("alertmanager_installed")


@pytest.fixture
def told() -> Iterator[WebServer]:
    """What Alertmanager sends on."""
    with serving() as server:
        yield server


@pytest.fixture
def alertmanager(tmp_path: Path, told: WebServer) -> Iterator[Alertmanager]:
    with Alertmanager(tmp_path, f"http://127.0.0.1:{told.port}/back") as running:
        yield running


def receiver(alertmanager: Alertmanager) -> Receiver:
    given = {"name": "am", "url": alertmanager.url, "allow_http": True}
    return build_receiver(
        msgspec.convert(
            {"type": "alertmanager", "allow_private": ["127.0.0.1"], **given}, AlertmanagerSettings
        )
    )


def happening(event: Incident) -> Incident:
    """The same, and now: what began yesterday, Alertmanager takes for over."""
    now = datetime.now(UTC)
    began = now - timedelta(seconds=30)
    return replace(event, detected_at=began, first_seen=began, last_seen=now, status="open")


def notified(told: WebServer) -> set[tuple[str, str, str]]:
    """(alert, severity, status) of which it notified; it may do so more than once, for it tells a
    group anew when another alert joins."""
    found: set[tuple[str, str, str]] = set()
    for request in list(told.requests):
        for alert in json.loads(request.body)["alerts"]:
            labels: dict[str, Any] = alert["labels"]
            found.add((labels["alertname"], labels["severity"], alert["status"]))
    return found


def test_it_takes_groups_and_resolves_what_we_tell(
    alertmanager: Alertmanager, told: WebServer
) -> None:
    ours = receiver(alertmanager)
    scan, tunnel, visit = (happening(event) for event in shop_incidents())
    ours.send(message([scan, tunnel, visit], {"cluster": "shop-1"}))
    assert len(alertmanager.alerts(active="true")) == 3
    groups = {
        group["labels"]["namespace"]: sorted(one["labels"]["kind"] for one in group["alerts"])
        for group in alertmanager.groups()
    }
    assert groups == {"shop": ["lateral_movement", "scan"], "payments": ["dns_exfiltration"]}
    alertmanager.wait(lambda: len(notified(told)) == 3, "all fire")
    assert {status for *_, status in notified(told)} == {"firing"}

    ours.send(message([replace(scan, status="closed")], {"cluster": "shop-1"}))
    over = ("SidelongScan", scan.severity, "resolved")
    alertmanager.wait(lambda: over in notified(told), "the scan is resolved")
    assert {one for one in notified(told) if one[2] == "resolved"} == {over}
    assert len(alertmanager.alerts(active="true")) == 2


def test_an_update_is_no_other_alert(alertmanager: Alertmanager, told: WebServer) -> None:
    ours = receiver(alertmanager)
    scan = happening(shop_incidents()[0])
    ours.send(message([scan]))
    alertmanager.wait(lambda: bool(notified(told)), "it fires")
    ours.send(message([replace(scan, status="update", summary="It goes on.")]))
    (alert,) = alertmanager.alerts()
    assert alert["annotations"]["summary"] == "It goes on."
    assert datetime.fromisoformat(alert["endsAt"]) > datetime.now(UTC) + timedelta(hours=23)


def test_one_that_grew_severe_fires_anew_and_is_no_longer_what_it_was(
    alertmanager: Alertmanager, told: WebServer
) -> None:
    ours = receiver(alertmanager)
    scan = happening(shop_incidents()[0])
    ours.send(message([scan]))
    alertmanager.wait(lambda: bool(notified(told)), "it fires")
    ours.send(message([replace(scan, status="update", severity="high")]))
    changed = ("SidelongScan", "medium", "resolved")
    alertmanager.wait(lambda: changed in notified(told), "medium is over")
    (active,) = alertmanager.alerts(active="true")
    assert active["labels"]["severity"] == "high"
    ours.send(message([replace(scan, status="closed", severity="high")]))
    over = ("SidelongScan", "high", "resolved")
    alertmanager.wait(lambda: over in notified(told), "high is over")
    assert alertmanager.alerts(active="true") == []


def test_it_takes_hostile_names_too(alertmanager: Alertmanager) -> None:
    ours = receiver(alertmanager)
    for name in HOSTILE.values():
        ours.send(message([happening(hostile(name))], {name: name}))
    assert len(alertmanager.alerts()) == len(HOSTILE)
