"""The address and the settings of Hubble: what they may say, and what is told if they cannot."""

from typing import Any

import msgspec
import pytest

from sidelong.errors import ConfigError
from sidelong.ingest.hubble_channel import HubbleSettings, Target
from sidelong.ingest.hubble_filters import FILTER_KEYS, flow_filters
from sidelong.ingest.hubble_live import open_hubble
from sidelong.ingest.hubble_pb2 import FlowFilter
from sidelong.ingest.hubble_times import moment

NOW = 1_795_425_242_000_000_000  # 2026-11-23T09:14:02Z
MINUTE = 60_000_000_000


@pytest.mark.parametrize(
    ("url", "address", "tls"),
    [
        ("hubble://relay:4245", "dns:///relay:4245", False),
        ("hubble://relay", "dns:///relay:4245", False),
        ("hubble://10.0.0.1:80/", "dns:///10.0.0.1:80", False),
        ("hubble://[2001:db8::1]:4244", "dns:///[2001:db8::1]:4244", False),
        ("hubble+tls://relay:443", "dns:///relay:443", True),
        ("hubble+unix:///var/run/cilium/hubble.sock", "unix:/var/run/cilium/hubble.sock", False),
    ],
)
def test_an_address_says_where_and_how(url: str, address: str, tls: bool) -> None:
    target = Target.parse(url)
    assert (target.address, target.tls) == (address, tls)


def test_what_the_address_sets_goes_before_the_settings() -> None:
    settings = HubbleSettings(last=5, since="1h", server_name="a")
    target = Target.parse(
        "hubble+tls://relay:443?since=5m&last=1000&follow=false&server-name=b&ca=/ca.crt", settings
    )
    got = target.settings
    assert (got.since, got.last, got.follow, got.server_name, got.ca) == (
        "5m",
        1_000,
        False,
        "b",
        "/ca.crt",
    )
    assert target.url == "hubble+tls://relay:443"


@pytest.mark.parametrize(
    ("url", "settings", "told"),
    [
        ("hubbel://relay", {}, "no address of Hubble"),
        ("hubble://", {}, "names no host and port"),
        ("hubble://relay:port", {}, "no port that can be"),
        ("hubble://relay:70000", {}, "no port that can be"),
        ("hubble://relay/path", {}, "names no host and port"),
        ("hubble://me:secret@relay", {}, "has a user name"),
        ("hubble+unix://run/hubble.sock", {}, "no path of a socket"),
        ("hubble+unix://", {}, "no path of a socket"),
        ("hubble://relay?sinse=5m", {}, "sinse is nothing"),
        ("hubble://relay?last=many", {}, "last in the address of Hubble is 'many'"),
        ("hubble://relay?follow=perhaps", {}, "follow in the address"),
        ("hubble://relay?since=soon", {}, "hubble.since is 'soon'"),
        ("hubble://relay", {"last": 0}, "hubble.last is 0"),
        ("hubble://relay", {"batch_rows": -1}, "hubble.batch_rows is -1"),
        ("hubble://relay?first=5", {}, "first is set, and follow"),
        ("hubble://relay?ca=/ca.crt", {}, "ca is set, but hubble:// has no TLS"),
        ("hubble+tls://relay?cert=/a", {}, "only one is set"),
        ("hubble://relay", {"allow": ({"namespase": "x"},)}, "about 'namespase'"),
    ],
)
def test_what_cannot_be_is_told_before_the_first_byte(
    url: str, settings: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=told) as raised:
        open_hubble(url, HubbleSettings(**settings))
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", NOW - 90 * MINUTE // 60),
        ("5m", NOW - 5 * MINUTE),
        ("1d1h1m", NOW - (24 * 60 + 60 + 1) * MINUTE),
        ("2026-11-23T09:14:02Z", NOW),
        ("2026-11-23T11:14:02.5+02:00", NOW + 500_000_000),
        ("2026-11-23 09:14:02", NOW),
    ],
)
def test_a_moment_is_ago_or_a_time(text: str, expected: int) -> None:
    assert moment("since", text, NOW) == expected


@pytest.mark.parametrize("text", ["", "5", "m5", "yesterday", "2026-13-01T00:00:00Z", "1m5h"])
def test_what_is_no_moment_is_told(text: str) -> None:
    with pytest.raises(ConfigError, match="is no time"):
        moment("since", text, NOW)


@pytest.mark.parametrize(
    ("written", "made"),
    [
        ({"source_pod": "shop/web"}, [FlowFilter(source_pod=["shop/web"])]),
        ({"destination_pod": ["web", "/db"]}, [FlowFilter(destination_pod=["/web", "/db"])]),
        (
            {"namespace": "shop"},
            [FlowFilter(source_pod=["shop/"]), FlowFilter(destination_pod=["shop/"])],
        ),
        ({"verdict": ["DROPPED", "error"]}, [FlowFilter(verdict=[2, 3])]),
        ({"source_port": 53}, [FlowFilter(source_port=["53"])]),
        ({"source_identity": 2}, [FlowFilter(source_identity=[2])]),
        ({"reply": False}, [FlowFilter(reply=[False])]),
        ({"direction": "egress"}, [FlowFilter(traffic_direction=[2])]),
        (
            {"http_status": "5+", "http_path": "^/v1"},
            [FlowFilter(http_status_code=["5+"], http_path=["^/v1"])],
        ),
        (
            {"source_workload": "Deployment/web"},
            [FlowFilter(source_workload=[{"kind": "Deployment", "name": "web"}])],
        ),
        (
            {"ip": "10.0.0.0/8", "port": 53},
            [
                FlowFilter(source_ip=["10.0.0.0/8"], source_port=["53"]),
                FlowFilter(source_ip=["10.0.0.0/8"], destination_port=["53"]),
                FlowFilter(destination_ip=["10.0.0.0/8"], source_port=["53"]),
                FlowFilter(destination_ip=["10.0.0.0/8"], destination_port=["53"]),
            ],
        ),
    ],
)
def test_a_filter_becomes_those_of_hubble(written: dict[str, Any], made: list[FlowFilter]) -> None:
    assert flow_filters("allow", [written]) == made


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ({}, "is empty"),
        ({"colour": "red"}, "about 'colour'"),
        ({"source_verdict": "DROPPED"}, "about 'source_verdict'"),
        ({"verdict": "LOST"}, "verdict in hubble.deny is 'LOST'"),
        ({"port": 70_000}, "port in hubble.deny is 70000"),
        ({"port": True}, "port in hubble.deny is True"),
        ({"reply": "yes"}, "reply in hubble.deny is 'yes'"),
        ({"direction": "up"}, "direction in hubble.deny is 'up'"),
        ({"namespace": "a/b"}, "namespace in hubble.deny is 'a/b'"),
        ({"namespace": "a", "pod": "b"}, "both namespace and pod"),
        ({"source_namespace": "a", "source_pod": "b"}, "both source_namespace and source_pod"),
        ({"label": []}, "label in hubble.deny is empty"),
        ({"label": 1.5}, "label in hubble.deny is 1.5"),
    ],
)
def test_a_filter_that_cannot_be_is_told(written: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        flow_filters("deny", [written])


def test_an_unknown_key_names_the_ones_there_are() -> None:
    with pytest.raises(ConfigError) as raised:
        flow_filters("allow", [{"colour": "red"}])
    assert all(key in raised.value.hint for key in FILTER_KEYS)


def test_settings_come_from_toml() -> None:
    document = """
        since = "5m"
        allow = [{ namespace = "shop" }, { port = [53, 443], reply = true }]
        field_mask = ["time", "node_name"]
    """
    settings = msgspec.toml.decode(document, type=HubbleSettings)
    assert settings.field_mask == ("time", "node_name")
    assert len(flow_filters("allow", settings.allow)) == 4
