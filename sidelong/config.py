"""Settings from a TOML file, checked before the first flow is read.

A section belongs to the part of its name and is declared there; this module only puts them
together. A key that nobody knows is an error, for it is most likely a misspelt one.
"""

import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from sidelong.alerts.delivery_settings import DeliverySettings
from sidelong.alerts.policy_settings import PolicySettings
from sidelong.alerts.receiver_settings import ReceiverSettings
from sidelong.alerts.route_settings import AlertSettings
from sidelong.collect_settings import CollectSettings
from sidelong.config_environment import overridden, overrides
from sidelong.config_problems import problems
from sidelong.errors import ConfigError
from sidelong.ingest.kubernetes_login import KubernetesSettings
from sidelong.ingest.settings import InputSettings
from sidelong.models.anomaly_settings import AnomalySettings
from sidelong.service_settings import ServiceSettings

__all__ = ["Config", "Read", "look_at", "read_config"]


class Config(InputSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All there is to set, at its defaults."""

    alerts: AlertSettings = AlertSettings()
    anomaly: AnomalySettings = AnomalySettings()
    collect: CollectSettings = CollectSettings()
    delivery: DeliverySettings = DeliverySettings()
    kubernetes: KubernetesSettings = KubernetesSettings()
    policy: PolicySettings = PolicySettings()
    receivers: tuple[ReceiverSettings, ...] = ()
    service: ServiceSettings = ServiceSettings()


class Read(NamedTuple):
    """A configuration as it was read, and what keeps it from being used: empty if nothing does.

    overrides: what the environment says, by its place. config: None if there are problems.
    """

    config: Config | None
    document: Mapping[str, Any]
    overrides: Mapping[tuple[str, ...], Any]
    problems: list[str]


def read_config(
    path: str | None,
    environment: Mapping[str, str] | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Config:
    """The settings in the file `path`, the defaults for None, and what the environment says.

    environment: that of the process without. changes: by section what counts instead of what the
    file says, such as {"anomaly": {"alarms_per_day": 5}}. Errors: ConfigError, naming the file or
    the variable, the key and what it should be.
    """
    read = look_at(path, environment, changes)
    if read.config is None:
        first, *others = read.problems
        if others:
            raise ConfigError(
                f"{first} (and {len(others)} more)",
                hint=f"see all of them: sidelong config check {path or ''}".rstrip(),
            )
        raise ConfigError(first, hint=_known())
    return read.config


def look_at(
    path: str | None,
    environment: Mapping[str, str] | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Read:
    """All that `read_config` reads, with everything that is wrong with it.

    Errors: ConfigError for a file that cannot be read or is no TOML.
    """
    document = _document(path) if path is not None else {}
    document = overridden(document, dict(_leaves(changes or {})))
    values, wrong = overrides(os.environ if environment is None else environment, Config)
    name = path or "the configuration"
    found = [*wrong, *(f"{name}: {one}" for one in problems(document, Config))]
    if found:
        return Read(None, document, values, found)
    whole = overridden(document, values)
    found = [f"with the environment, {one}" for one in problems(whole, Config)]
    config = None if found else msgspec.convert(whole, Config)
    return Read(config, document, values, found)


def _document(path: str) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"the configuration {path} cannot be read: {error.strerror}", hint="check the path"
        ) from error
    except ValueError as error:  # not TOML, or not UTF-8
        raise ConfigError(
            f"the configuration {path} is not TOML: {error}",
            hint="sections are written [hubble], settings key = value",
        ) from error


def _leaves(changes: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in changes.items():
        if isinstance(value, Mapping):
            yield from (((key, *below), leaf) for below, leaf in _leaves(value))
        else:
            yield (key,), value


def _known() -> str:
    sections = [
        "[[receivers]]" if name == "receivers" else f"[{name}]" for name in Config.__struct_fields__
    ]
    return f"the sections are {', '.join(sections)}"
