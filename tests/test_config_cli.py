"""sidelong config: all that is wrong at once, and settings that explain themselves."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidelong.alerts.receiver_settings import ReceiverSettings
from sidelong.cli import run
from sidelong.config import Config, look_at
from sidelong.config_problems import struct_types
from sidelong.config_show import meanings, written
from sidelong.ingest.secret import Secret


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def file(text: str) -> str:
    Path("sidelong.toml").write_text(text, encoding="utf-8")
    return "sidelong.toml"


def checked(text: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    status = run(["config", "check", file(text)])
    return status, capsys.readouterr().out.splitlines()


def test_what_can_work_is_said_to(capsys: pytest.CaptureFixture[str]) -> None:
    status = run(["config", "check", file('[service]\ninputs = ["hubble://relay:4245"]\n')])
    captured = capsys.readouterr()
    assert status == 1  # without a baseline and receivers it can, and hardly should
    assert "warning: service.baseline is not set: few lateral movements are found" in captured.out
    assert captured.err == "sidelong.toml: 0 problems, 2 warnings\n"


def test_without_a_file_the_defaults_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "check"]) == 0
    assert capsys.readouterr().err == "the defaults: 0 problems, 0 warnings\n"


def test_every_mistake_is_told_not_only_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    status, lines = checked(
        """
        [hubbel]
        since = "5m"
        [service]
        snapshot_second = 4
        roles = ["detect", "detecting"]
        memory_megabytes = 3
        [kafka]
        linger_ms = "5"
        [[receivers]]
        type = "webhok"
        [[receivers]]
        type = "file"
        name = "f"
        [alerts.route]
        receivers = ["f"]
        [[alerts.route.routes]]
        sevrity = "high"
        """,
        capsys,
    )
    assert status == 2
    assert lines == [
        f"wrong: sidelong.toml: {problem}"
        for problem in (
            "the document has an unknown field `hubbel`: is it `hubble`?",
            "service has an unknown field `snapshot_second`: is it `snapshot_seconds`?",
            "service.roles[1]: Invalid enum value 'detecting', but one of collect, normalise,"
            " detect, correlate, deliver",
            "service.memory_megabytes: Expected `int` >= 256",
            "kafka.linger_ms: Expected `int`, got `str`",
            "receivers[0].type is unknown: is it `webhook`?",
            "receivers[1] lacks `path`",
            "alerts.route.routes[0] has an unknown field `sevrity`: is it `severity`?",
        )
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[als]\ncert = "a.pem"\nkey = "b.pem"', "als.cert: there is no a.pem"),
        ('[als]\ncert = "a.pem"', "als: a server with TLS needs both cert and key"),
        ('[hubble]\nca = "."', "hubble.ca: . is a folder"),
        ('[service]\npods = "pods.json"', "service.pods: there is no pods.json"),
        ('[service]\nbaseline = "shop"', "service.baseline: "),
        ('[service]\nlisten = "9464"', "service.listen: http://9464 is no address to listen at"),
        ('[service]\nstate = "s4://x"', "service.state: state cannot be kept at s4://x"),
        (
            '[service]\nstate = "sidelong.toml/x"',
            "sidelong.toml is no folder that may be written to",
        ),
        (
            '[service]\ninputs = ["hubbel://x"]',
            "service.inputs[0]: hubbel://x begins with hubbel://, which is no live source",
        ),
        ('[service]\ninputs = ["no.pcap"]', "service.inputs[0]: there is no no.pcap"),
        ('[service]\ninputs = ["kafka://h:1"]', "service.inputs[0]: kafka://h:1 names no topic"),
        ('[service]\nlog = "json"', "service: there is nothing to read"),
        ("[policy]\nresolver = 'dns'", "policy: policy.resolver is 'dns'"),
        ('[alerts]\nsuppressions = ["no.yaml"]', "alerts: "),
        (
            '[[receivers]]\ntype = "slack"\nname = "s"\nurl = { env = "NOWHERE" }',
            "receivers[0].url: a secret is in the variable NOWHERE, which is not set",
        ),
        (
            '[[receivers]]\ntype = "webhook"\nname = "w"\nurl = "http://example.com/"',
            "receivers[0]: ",
        ),
        (
            '[[receivers]]\ntype = "file"\nname = "f"\npath = "x"\n' * 2,
            "receivers: 2 are called f",
        ),
        ('[alerts.route]\nreceivers = ["nobody"]', "alerts: "),
        (
            '[kafka]\nservers = ["h"]\n[kafka.sasl]\nmechanism = "PLAIN"\nusername = "u"',
            "kafka.sasl: PLAIN needs username and password",
        ),
    ],
)
def test_what_cannot_work_is_found_before_the_first_byte(
    text: str, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, lines = checked(text, capsys)
    assert status == 2
    assert any(problem in line for line in lines), lines


def test_a_secret_is_looked_for_and_never_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLACK", "https://hooks.slack.com/services/hunter2")
    text = '[[receivers]]\ntype = "slack"\nname = "s"\nurl = { env = "SLACK" }\n'
    assert checked(text, capsys)[0] == 0
    assert run(["config", "show", "sidelong.toml"]) == 0
    captured = capsys.readouterr()
    assert 'url = { env = "SLACK" }' in captured.out
    assert "hunter2" not in captured.out + captured.err


def test_what_is_in_the_environment_is_checked_and_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SIDELONG_SERVICE__LISTN", "x")
    monkeypatch.setenv("SIDELONG_SERVICE__LOG", "json")
    assert run(["config", "check"]) == 2
    captured = capsys.readouterr()
    assert "wrong: SIDELONG_SERVICE__LISTN is no setting" in captured.out
    assert captured.err == "the defaults: 1 problem, 0 warnings, 1 setting from the environment\n"


def test_what_is_not_toml_is_refused_with_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "check", file("[service\n")]) == 2
    assert "is not TOML" in capsys.readouterr().err


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(["config", "show", *arguments]) == 0
    return capsys.readouterr().out


def test_the_defaults_read_back_as_the_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    assert msgspec.convert(tomllib.loads(shown(capsys, "--defaults")), Config) == Config()


def test_the_defaults_are_those_whatever_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SIDELONG_SERVICE__LOG", "json")
    assert 'log = "text"' in shown(capsys, "--defaults")
    assert 'log = "json"  # from SIDELONG_SERVICE__LOG' in shown(capsys)
    assert run(["config", "show", "--defaults", file("")]) == 2


def test_every_key_of_every_section_is_explained() -> None:
    unexplained = []
    for name, hint in get_type_hints(Config).items():
        for kind in _all_structs(hint):
            about, explained = meanings(kind)
            for field in msgspec.structs.fields(kind):
                key = field.encode_name
                told = " ".join([about, *explained.values()])
                if key not in explained and not re.search(rf"\b{key}\b", told):
                    unexplained.append(f"{name}: {kind.__name__}.{key}")
    assert unexplained == []


def _all_structs(hint: object) -> list[type[msgspec.Struct]]:
    found = struct_types(hint) or struct_types(getattr(hint, "__args__", (None,))[0])
    return [one for one in found if one is not Secret]


FULL = """
[alerts]
suppressions = ["a.yaml"]
[alerts.labels]
cluster = "prod"
"with a dot.and space" = "x"
[alerts.mute.nights]
weekdays = ["monday"]
[alerts.route]
receivers = ["w"]
[[alerts.route.routes]]
namespace = ["a", "b*"]
kind = "scan"
continue = true
[[alerts.route.routes.routes]]
severity = "high"
[[alerts.route.routes]]
workload = "x"
[hubble]
allow = [{ verdict = "DROPPED", port = 53, names = ["a"] }]
[kafka.tls]
[kafka.sasl]
mechanism = "PLAIN"
username = "a\\u001bb\\u202e\\"\\\\"
password = { file = "/run/secrets/p" }
[[receivers]]
type = "webhook"
name = "w"
url = { env = "URL" }
headers = { X-A = "b", Authorization = { env = "A" } }
signing = [{ env = "S" }, { file = "s" }]
[[receivers]]
type = "file"
name = "f"
path = "x"
[service]
roles = ["detect"]
snapshot_seconds = 1e300
"""


def test_any_settings_read_back_as_themselves() -> None:
    found = look_at(file(FULL), {})
    assert found.problems == []
    assert found.config is not None
    text = written(found.config, {})
    assert msgspec.convert(tomllib.loads(text), Config) == found.config
    assert all(line.isprintable() for line in text.splitlines())


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text(min_size=1), st.text(), max_size=3))
def test_any_text_reads_back_as_itself(labels: Mapping[str, str]) -> None:
    document: Mapping[str, Any] = {"alerts": {"labels": labels}}
    config = msgspec.convert(document, Config)
    assert tomllib.loads(written(config, {}))["alerts"]["labels"] == labels


def test_who_we_are_in_a_url_is_hidden(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, file('[service]\ninputs = ["hubble://me:hunter2@relay"]\n'))
    assert 'inputs = ["hubble://***@relay"]' in text


def test_receivers_of_each_kind_are_walked() -> None:
    assert len(struct_types(ReceiverSettings)) >= 11
