"""Settings in files of their own, as YAML or TOML: routes, suppressions."""

import tomllib
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from sidelong.errors import ConfigError

__all__ = ["read_settings"]

_Settings = TypeVar("_Settings", bound=msgspec.Struct)

_LARGEST: Final = 4 << 20
_YAML: Final = (".yaml", ".yml")


def read_settings(path: str, kind: type[_Settings]) -> _Settings:
    """What the file `path` says, as `kind`; it is YAML if it is called so, else TOML.

    Errors: ConfigError, naming the file and what is wrong in it.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise ConfigError(f"{path} has more than 4 MiB", hint="check the path")
        text = content.decode("utf-8")
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}", hint="check the path"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8", hint="save it as UTF-8") from error
    document = _yaml(path, text) if path.endswith(_YAML) else _toml(path, text)
    try:
        # Dates become text, which is what they are in JSON and may be in TOML and YAML.
        return msgspec.convert(msgspec.to_builtins(document), kind)
    except (msgspec.ValidationError, TypeError) as error:
        raise ConfigError(
            f"{path}: {error}", hint="docs/alerts.md says what may stand there"
        ) from error


def _toml(path: str, text: str) -> object:
    try:
        return tomllib.loads(text)
    except ValueError as error:
        raise ConfigError(
            f"{path} is not TOML: {error}", hint="name it .yaml if it is YAML"
        ) from error


def _yaml(path: str, text: str) -> object:
    try:
        import yaml
    except ModuleNotFoundError:
        raise ConfigError(
            f"{path} is YAML, which needs PyYAML", hint="pip install pyyaml, or write it as TOML"
        ) from None
    try:
        return yaml.safe_load(text) or {}
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        where = " ".join(str(error).split())
        raise ConfigError(f"{path} is not YAML: {where}", hint="mind the indentation") from error
