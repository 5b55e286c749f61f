"""Suppressions: what they keep back, what they do not, and when they say so."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from told_incidents import NOW, closed, opened

from sidelong.alerts.incident import Actor, Incident, Target
from sidelong.alerts.suppressions import Match, Suppression, Suppressions
from sidelong.errors import ConfigError


def rule(id: str = "s1", expires: str = "2027-01-31", **match: Any) -> Suppression:
    return msgspec.convert(
        {
            "id": id,
            "match": match or {"kind": "scan"},
            "owner": "platform",
            "reason": "the nightly inventory",
            "expires": expires,
        },
        Suppression,
    )


SSH = Target("data/db", "10.244.2.9", 22)
HTTP = Target("shop/cart", "10.244.1.8", 80)


@pytest.mark.parametrize(
    ("match", "incident", "held_back"),
    [
        ({"kind": "scan"}, opened(), True),
        ({"kind": ["anomaly", "scan"]}, opened(), True),
        ({"kind": "anomaly"}, opened(), False),
        ({"actor": "shop/*"}, opened(), True),
        ({"actor": "ops/*"}, opened(), False),
        ({"severity": "medium"}, opened(), True),
        ({"severity": "medium"}, opened(severity="high"), False),
        ({"technique": "T1046"}, opened(), True),
        ({"technique": "T1046"}, opened(techniques=("T1046", "T1210")), False),
        ({"object": "shop/*"}, opened(objects=(HTTP,)), True),
        ({"object": "shop/*"}, opened(objects=(HTTP, SSH)), False),
        ({"cidr": "10.244.0.0/16"}, opened(objects=(HTTP, SSH)), True),
        ({"cidr": ["10.244.1.0/24"]}, opened(objects=(HTTP, SSH)), False),
        ({"cidr": "10.0.0.0/8"}, opened(objects=(Target("shop/cart", None, 80),)), False),
        ({"port": 22}, opened(objects=(SSH,)), True),
        ({"port": [22, 80]}, opened(objects=(HTTP, SSH)), True),
        ({"port": 22}, opened(objects=(HTTP, SSH)), False),
        ({"port": 22}, opened(objects=()), False),
        ({"domain": "*.cdn.example"}, opened(objects=(Target(domain="a.cdn.example"),)), True),
        ({"domain": "*.cdn.example"}, opened(objects=(HTTP,)), False),
        ({"kind": "scan", "actor": "ops/*"}, opened(), False),
    ],
)
def test_a_suppression_keeps_back(
    match: dict[str, Any], incident: Incident, held_back: bool
) -> None:
    assert (Suppressions([rule(**match)]).of(incident, NOW) is not None) is held_back


def test_a_name_with_glob_characters_in_traffic_is_only_a_name() -> None:
    suppressions = Suppressions([rule(actor="shop/cart")])
    assert suppressions.of(opened(actor=Actor("shop/*")), NOW) is None


def test_a_suppression_holds_until_the_end_of_its_last_day() -> None:
    today, yesterday = rule(expires="2026-11-18"), rule(expires="2026-11-17")
    assert (today.is_expired(NOW), yesterday.is_expired(NOW)) == (False, True)
    assert rule(expires="2026-11-18T11:00:00Z").is_expired(NOW)
    assert not rule(expires="2026-11-18T11:00:00-05:00").is_expired(NOW)


def test_an_expired_one_keeps_nothing_back_and_is_listed() -> None:
    suppressions = Suppressions([rule(expires="2026-01-01")])
    assert suppressions.of(opened(), NOW) is None
    assert [one.id for one in suppressions.expired(NOW)] == ["s1"]


def test_hits_are_counted_once_for_each_incident() -> None:
    suppressions = Suppressions([rule()])
    for incident in (opened("a"), closed(opened("a")), opened("b")):
        suppressions.note(suppressions.rules[0], incident)
    assert suppressions.hits == {"s1": 2}


def test_counting_goes_on_from_a_snapshot() -> None:
    before = Suppressions([rule()])
    before.note(before.rules[0], opened("a"))
    after = Suppressions([rule()])
    after.restore(before.snapshot())
    after.note(after.rules[0], opened("a"))
    assert after.hits == {"s1": 1}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"owner": " "}, "owner is empty"),
        ({"reason": ""}, "reason is empty"),
        ({"expires": "soon"}, "expires is 'soon'"),
        ({"match": {}}, "would keep everything back"),
        ({"match": {"actr": "x"}}, "unknown field `actr`"),
        ({"match": {"cidr": "10.0.0.0/33"}}, "10.0.0.0/33"),
        ({"match": {"cidr": "10.0.0.1/8"}}, "host bits"),
    ],
)
def test_one_that_is_not_complete_is_refused(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=problem):
        msgspec.convert(msgspec.to_builtins(rule()) | changes, Suppression)


@pytest.mark.parametrize("missing", ["id", "match", "owner", "reason", "expires"])
def test_nothing_may_be_left_out(missing: str) -> None:
    plain = msgspec.to_builtins(rule())
    del plain[missing]
    with pytest.raises(msgspec.ValidationError, match=f"missing required field `{missing}`"):
        msgspec.convert(plain, Suppression)


def test_two_of_one_id_are_refused() -> None:
    with pytest.raises(ConfigError, match="two suppressions 's1'"):
        Suppressions([rule(), rule()])


YAML = """
suppressions:
  - id: inventory
    match: {kind: scan, actor: ops/inventory, port: [22, 443]}
    owner: platform
    reason: asks every node what it runs
    expires: 2027-01-31
"""
TOML = """
[[suppressions]]
id = "inventory"
match = { kind = "scan", actor = "ops/inventory", port = [22, 443] }
owner = "platform"
reason = "asks every node what it runs"
expires = 2027-01-31
"""


@pytest.mark.parametrize(("name", "text"), [("s.yaml", YAML), ("s.toml", TOML)])
def test_files_are_yaml_or_toml(tmp_path: Path, name: str, text: str) -> None:
    pytest.importorskip("yaml")
    (tmp_path / name).write_text(text, encoding="utf-8")
    (read,) = Suppressions.read([str(tmp_path / name)]).rules
    assert read.match == Match(kind="scan", actor="ops/inventory", port=(22, 443))
    assert read.expires == "2027-01-31"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("suppressions: [", "is not YAML"),
        ("suppressions:\n- id: a\n", "missing required field `match`"),
        ("[1, 2]", "Expected `object`"),
        ("? [a]\n: 1\n", "is not YAML|Expected"),
        ("!!python/object/apply:os.system ['true']", "is not YAML"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_its_name(
    tmp_path: Path, text: str, problem: str
) -> None:
    pytest.importorskip("yaml")
    path = tmp_path / "s.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"s\.yaml.*({problem})"):
        Suppressions.read([str(path)])


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no\.yaml cannot be read"):
        Suppressions.read([str(tmp_path / "no.yaml")])
