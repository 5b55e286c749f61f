"""Routes: which receivers are told of an incident, and what is wrong with a tree before it runs."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from told_incidents import NOW, opened

from sidelong.alerts.incident import Incident
from sidelong.alerts.mute_times import MuteSettings, MuteTimes
from sidelong.alerts.route_settings import AlertSettings
from sidelong.alerts.routes import Routes, with_route_file
from sidelong.errors import ConfigError

RECEIVERS = ("pager", "chat", "siem")


def routes(tree: dict[str, Any] | None, **alerts: Any) -> Routes:
    settings = msgspec.convert({"route": tree, **alerts}, AlertSettings)
    return Routes(settings, RECEIVERS, settings.mute)


def receivers(tree: dict[str, Any] | None, incident: Incident, **alerts: Any) -> list[str]:
    return [name for route in routes(tree, **alerts).of(incident) for name in route.receivers]


def below(*children: dict[str, Any]) -> dict[str, Any]:
    return {"receivers": ["chat"], "routes": list(children)}


def test_without_routes_every_receiver_is_told_everything() -> None:
    assert receivers(None, opened()) == list(RECEIVERS)


def test_what_no_route_takes_goes_the_default_way() -> None:
    assert receivers(below({"kind": "anomaly", "receivers": "pager"}), opened()) == ["chat"]


def test_the_first_route_that_takes_an_incident_keeps_it() -> None:
    tree = below({"kind": "scan", "receivers": "pager"}, {"kind": "scan", "receivers": "siem"})
    assert receivers(tree, opened()) == ["pager"]


def test_continue_lets_the_routes_after_it_take_the_incident_too() -> None:
    tree = below({"receivers": "siem", "continue": True}, {"kind": "scan", "receivers": "pager"})
    assert receivers(tree, opened()) == ["siem", "pager"]


def test_where_no_route_below_takes_it_the_route_above_does() -> None:
    inner = {"kind": "scan", "receivers": "siem", "routes": [{"severity": "high"}]}
    assert receivers(below(inner), opened()) == ["siem"]


def test_receivers_and_intervals_are_those_of_the_route_above() -> None:
    tree = {**below({"kind": "scan"}), "group_interval": "5m", "group_by": "actor"}
    (route,) = routes(tree).of(opened())
    assert (route.receivers, route.interval, route.group_by) == (("chat",), 300.0, ("actor",))


def test_mute_times_are_not_those_of_the_route_above() -> None:
    tree = {**below({"kind": "scan"}), "mute": "nights"}
    (route,) = routes(tree, mute={"nights": {"hours": "22:00-06:00"}}).of(opened())
    assert route.mute == ()


def test_an_empty_list_of_receivers_tells_nobody() -> None:
    assert receivers(below({"kind": "scan", "receivers": []}), opened()) == []


@pytest.mark.parametrize(
    ("matcher", "taken", "left"),
    [
        ({"kind": ["scan", "anomaly"]}, opened(), opened(kind="lateral_movement")),
        ({"severity": "medium"}, opened(severity="critical"), opened(severity="low")),
        ({"min_score": 0.6}, opened(score=0.6), opened(score=0.59)),
        ({"namespace": "sh*"}, opened(), opened(actor={"workload": "payments/api"})),
        ({"workload": "shop/front*"}, opened(), opened(actor={"workload": "shop/cart"})),
        ({"technique": "T1021"}, opened(techniques=["T1021.004"]), opened()),
        ({"labels": {"cluster": "prod-*"}}, opened(), None),
        ({"labels": {"cluster": "lab"}}, None, opened()),
        ({"namespace": "*"}, None, opened(actor={"workload": "world:93.184.0.0/16"})),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_matcher_takes(
    matcher: dict[str, Any], taken: Incident | None, left: Incident | None
) -> None:
    tree = below({**matcher, "receivers": "pager"})
    for incident, receiver in ((taken, "pager"), (left, "chat")):
        if incident is not None:
            whole = msgspec.convert(incident.to_dict(), Incident)
            assert receivers(tree, whole, labels={"cluster": "prod-1"}) == [receiver]


@pytest.mark.parametrize(
    ("tree", "problem"),
    [
        (below({"receivers": "pagr"}), r"routes\[0\]: there is no receiver 'pagr'"),
        ({"routes": []}, "the default route, names no receiver"),
        ({"receivers": [], "routes": [{"kind": "scan"}]}, "no route .* has a receiver"),
        (below({"mute": "nights"}), "there is no mute time 'nights'"),
        (below({"group_wait": "soon"}), "group_wait is 'soon'"),
        (below({"status": "closed"}), "status leaves out open"),
        (below({"min_score": 7}), "min_score is 7"),
        (below({"name": "a"}, {"name": "a"}), "another route is called 'a' too"),
    ],
)
def test_a_tree_that_cannot_work_is_refused(tree: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        routes(tree)


def test_a_matcher_that_nobody_knows_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="unknown field `sevrity`"):
        routes(below({"sevrity": "high"}))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"kind": "scan"}),
        ({"severity": "low"}, {"severity": "high", "kind": "scan"}),
        ({"workload": "shop/*"}, {"workload": "shop/front*"}),
        ({"technique": "T1021"}, {"technique": ["T1021.004", "T1021.001"]}),
        ({"kind": ["scan", "anomaly"]}, {"kind": "scan"}),
    ],
)
def test_a_route_behind_one_that_takes_all_of_its_is_warned_of(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    assert any("never reached" in line for line in routes(below(before, after)).warnings)
    before = {**before, "continue": True}
    assert not any("never reached" in line for line in routes(below(before, after)).warnings)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"severity": "high"}, {"severity": "low"}),
        ({"workload": "shop/front*"}, {"workload": "shop/*"}),
        ({"kind": "scan"}, {"severity": "high"}),
        ({"technique": "T1021.004"}, {"technique": "T1021"}),
    ],
)
def test_a_route_behind_one_that_takes_some_of_its_is_not(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    assert not any("never reached" in line for line in routes(below(before, after)).warnings)


def test_a_kind_that_the_route_above_refuses_is_warned_of() -> None:
    tree = below({"kind": "scan", "routes": [{"kind": "anomaly"}]})
    assert any("asks for what" in line for line in routes(tree).warnings)


def test_a_receiver_that_no_route_leads_to_is_warned_of() -> None:
    assert "no route leads to the receiver 'siem'" in routes(below()).warnings


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("routes.yaml", "route:\n  receivers: pager\n  routes:\n  - kind: scan\n    mute: n\n"),
        (
            "routes.toml",
            '[route]\nreceivers = "pager"\n[[route.routes]]\nkind = "scan"\nmute = "n"\n',
        ),
    ],
)
def test_routes_may_be_in_a_file_of_their_own(tmp_path: Path, name: str, text: str) -> None:
    pytest.importorskip("yaml")
    mute = "[mute.n]\nzone = 'UTC'\n" if name.endswith("toml") else "mute: {n: {zone: UTC}}\n"
    (tmp_path / name).write_text(text + mute, encoding="utf-8")
    settings = with_route_file(AlertSettings(routes=str(tmp_path / name)))
    (route,) = Routes(settings, RECEIVERS, settings.mute).of(opened())
    assert (route.receivers, route.mute) == (("pager",), ("n",))


def test_routes_in_two_places_are_refused(tmp_path: Path) -> None:
    settings = msgspec.convert({"route": below(), "routes": "x.toml"}, AlertSettings)
    with pytest.raises(ConfigError, match=r"routes are in \[alerts.route\] and in x.toml"):
        with_route_file(settings)


def test_what_is_wrong_in_a_file_of_routes_is_said_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "routes.toml"
    path.write_text("[route]\nkind = 'scann'\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"routes.toml: Invalid enum value 'scann'"):
        with_route_file(AlertSettings(routes=str(path)))


NIGHT_OF_FRIDAY = NOW + 2 * 86_400 + 12 * 3600  # 23:06 UTC


@pytest.mark.parametrize(
    ("window", "moment", "muted"),
    [
        (MuteSettings(), NOW, True),
        (MuteSettings(weekdays="wed"), NOW, True),
        (MuteSettings(weekdays="sat-tue"), NOW, False),
        (MuteSettings(weekdays="fri-wed"), NOW, True),
        (MuteSettings(hours="11:00-11:07"), NOW, True),
        (MuteSettings(hours="11:07-12:00"), NOW, False),
        (MuteSettings(hours=("00:00-01:00", "11:00-24:00")), NOW, True),
        (MuteSettings(hours="12:00-13:00", zone="Europe/Berlin"), NOW, True),
        (MuteSettings(weekdays="fri", hours="22:00-06:00"), NIGHT_OF_FRIDAY, True),
        (MuteSettings(weekdays="fri", hours="22:00-06:00"), NIGHT_OF_FRIDAY + 5 * 3600, True),
        (MuteSettings(weekdays="sat", hours="22:00-06:00"), NIGHT_OF_FRIDAY + 5 * 3600, False),
    ],
)
def test_a_mute_time_holds(window: MuteSettings, moment: float, muted: bool) -> None:
    assert MuteTimes({"w": window}).mutes(("w",), moment) is muted


@pytest.mark.parametrize(
    ("window", "problem"),
    [
        (MuteSettings(weekdays="someday"), "'someday' is no weekday"),
        (MuteSettings(weekdays="mon-"), "'mon-' is no weekday"),
        (MuteSettings(hours="25:00-26:00"), "'25:00-26:00' is no stretch of a day"),
        (MuteSettings(hours="6-8"), "'6-8' is no stretch of a day"),
        (MuteSettings(zone="Mars/Base"), "there is no time zone 'Mars/Base'"),
        (MuteSettings(zone="../etc"), "there is no time zone"),
    ],
)
def test_a_mute_time_that_never_is_is_refused(window: MuteSettings, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        MuteTimes({"w": window})
