"""Settings from a TOML file, checked before the first flow is read.

A section belongs to the part of its name and is declared there; this module only puts them
together. A key that nobody knows is an error, for it is most likely a misspelt one.
"""

import re
import tomllib
from pathlib import Path
from typing import Final

import msgspec

from sidelong.alerts.delivery_settings import DeliverySettings
from sidelong.alerts.policy_settings import PolicySettings
from sidelong.alerts.receiver_settings import ReceiverSettings
from sidelong.alerts.route_settings import AlertSettings
from sidelong.collector import CollectSettings
from sidelong.errors import ConfigError
from sidelong.ingest.kubernetes_login import KubernetesSettings
from sidelong.ingest.settings import InputSettings
from sidelong.service_settings import ServiceSettings

__all__ = ["Config", "read_config"]

_PLACE: Final = re.compile(r" - at `(?:key in )?`?\$\.?(?P<place>[^`]*)`$")


class Config(InputSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All there is to set, at its defaults."""

    alerts: AlertSettings = AlertSettings()
    collect: CollectSettings = CollectSettings()
    delivery: DeliverySettings = DeliverySettings()
    kubernetes: KubernetesSettings = KubernetesSettings()
    policy: PolicySettings = PolicySettings()
    receivers: tuple[ReceiverSettings, ...] = ()
    service: ServiceSettings = ServiceSettings()


def read_config(path: str | None) -> Config:
    """The settings in the file `path`; the defaults for None.

    Errors: ConfigError, naming the file, the key and what it should be.
    """
    if path is None:
        return Config()
    try:
        document = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"the configuration {path} cannot be read: {error.strerror}", hint="check the path"
        ) from error
    except ValueError as error:  # not TOML, or not UTF-8
        raise ConfigError(
            f"the configuration {path} is not TOML: {error}",
            hint="sections are written [hubble], settings key = value",
        ) from error
    try:
        return msgspec.convert(document, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {_where(str(error))}", hint=_known()) from error


def _where(message: str) -> str:
    """A message of msgspec with the place first: "hubble.port: Expected `int`, got `str`"."""
    found = _PLACE.search(message)
    if not found:
        return message
    return f"{found['place'] or 'the document'}: {message[: found.start()]}"


def _known() -> str:
    sections = [
        "[[receivers]]" if name == "receivers" else f"[{name}]" for name in Config.__struct_fields__
    ]
    return f"the sections are {', '.join(sections)}"
