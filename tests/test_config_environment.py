"""Settings from the environment: read as in a file, named when they are wrong, never shown."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from sidelong.config import Config, look_at, read_config
from sidelong.errors import ConfigError


def read(environment: Mapping[str, str], file: str | None = None) -> Config:
    return read_config(file, environment)


def wrong(**environment: str) -> list[str]:
    return look_at(None, environment).problems


def test_a_variable_sets_what_it_names() -> None:
    config = read({"SIDELONG_SERVICE__LISTEN": "0.0.0.0:9464"})
    assert config.service.listen == "0.0.0.0:9464"


@pytest.mark.parametrize(
    ("text", "value"), [("45", 45.0), ("45.5", 45.5), ("1e2", 100.0), ("4_5", 45.0)]
)
def test_a_number_is_written_as_in_toml(text: str, value: float) -> None:
    assert read({"SIDELONG_SERVICE__SNAPSHOT_SECONDS": text}).service.snapshot_seconds == value


@pytest.mark.parametrize("text", ['["detect", "deliver"]', "detect,deliver", " detect , deliver "])
def test_a_list_is_written_as_in_toml_or_with_commas(text: str) -> None:
    assert read({"SIDELONG_SERVICE__ROLES": text}).service.roles == ("detect", "deliver")


@pytest.mark.parametrize("text", ["12", "true", "2026-11-24", "a b", "", '"12"'])
def test_a_text_is_one_whatever_else_it_could_be(text: str) -> None:
    assert read({"SIDELONG_HUBBLE__SERVER_NAME": text}).hubble.server_name == text.strip('"')


def test_two_underscores_lead_into_tables_of_tables() -> None:
    config = read(
        {
            "SIDELONG_KAFKA__SASL__MECHANISM": "PLAIN",
            "SIDELONG_KAFKA__SASL__USERNAME": "us",
            "SIDELONG_KAFKA__SASL__PASSWORD__ENV": "WHERE",
            "SIDELONG_ALERTS__LABELS__CLUSTER": "prod",
        }
    )
    assert config.kafka.sasl is not None
    assert config.kafka.sasl.password is not None
    assert config.kafka.sasl.password.env == "WHERE"
    assert config.alerts.labels == {"cluster": "prod"}


def test_a_table_may_be_written_in_one() -> None:
    config = read({"SIDELONG_KAFKA__TLS": '{ ca = "ca.pem" }'})
    assert config.kafka.tls is not None
    assert config.kafka.tls.ca == "ca.pem"


def test_the_environment_takes_the_place_of_the_file_key_by_key(tmp_path: Path) -> None:
    path = tmp_path / "sidelong.toml"
    path.write_text('[service]\nlog = "json"\nlisten = "127.0.0.1:1"\n', encoding="utf-8")
    config = read({"SIDELONG_SERVICE__LISTEN": ""}, str(path))
    assert (config.service.log, config.service.listen) == ("json", "")


def test_that_of_the_process_is_read_where_no_other_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SIDELONG_SERVICE__LOG", "json")
    assert read_config(None).service.log == "json"


@pytest.mark.parametrize("name", ["SIDELONG_DATA", "SIDELONG_PEERS", "SIDELONG_", "OTHER__KEY"])
def test_a_variable_of_another_kind_is_none_of_ours(name: str) -> None:
    assert wrong(**{name: "x"}) == []


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("SIDELONG_SERVICE__LISTN", "service has no `listn`: is it `listen`?"),
        ("SIDELONG_SERVISE__LISTEN", "the configuration has no `servise`: is it `service`?"),
        ("SIDELONG_RECEIVERS__0__URL", "receivers cannot be set by variables"),
        ("SIDELONG_SERVICE__LISTEN__X", "service.listen cannot be set by variables"),
        ("SIDELONG_ALERTS__LABELS__", "alerts.labels cannot be set by variables"),
        ("SIDELONG___X", "the configuration has no"),
    ],
)
def test_a_variable_that_sets_nothing_is_named(name: str, why: str) -> None:
    (problem,) = wrong(**{name: "x"})
    assert problem.startswith(f"{name} is no setting, ")
    assert why in problem


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("SIDELONG_SERVICE__MEMORY_MEGABYTES", "Expected `int`, got `str`"),
        ("SIDELONG_SERVICE__KUBERNETES", "Expected `bool`, got `str`"),
        ("SIDELONG_SERVICE__LOG", "it is none of text, json"),
        ("SIDELONG_SERVICE__ROLES", "Expected `array`, got `str`"),
        ("SIDELONG_KAFKA__TLS__KEY_PASSWORD", "Expected `object | null`, got `str`"),
    ],
)
def test_a_value_that_cannot_be_is_not_shown_for_it_may_be_a_secret(name: str, why: str) -> None:
    (problem,) = wrong(**{name: "hunter2"})
    assert problem == f"{name} cannot be used: {why}"


def test_what_fits_no_more_with_the_rest_is_told() -> None:
    (problem,) = wrong(SIDELONG_SERVICE__KUBERNETES="true", SIDELONG_SERVICE__PODS="pods.json")
    assert problem == ("with the environment, service: pods and kubernetes exclude each other")


def test_what_is_wrong_in_it_stops_every_command() -> None:
    with pytest.raises(ConfigError, match=r"SIDELONG_A__B is no setting.* \(and 1 more\)"):
        read({"SIDELONG_A__B": "1", "SIDELONG_C__D": "1"})
