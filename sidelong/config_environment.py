"""Settings from the environment: SIDELONG_SECTION__KEY takes the place of what a file says.

A variable is a setting if it begins with SIDELONG_ and has two underscores in a row; each pair
of them leads one table deeper, as in SIDELONG_KAFKA__TLS__CA. A value is written as in TOML, or as
plain text; a list of texts also as `a, b`.
"""

import tomllib
from collections.abc import Mapping
from contextlib import suppress
from types import UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

import msgspec

from sidelong.config_problems import choices, field_types, struct_types, suggestion

__all__ = ["PREFIX", "overridden", "overrides", "variable"]

PREFIX: Final = "SIDELONG_"
_DEEPER: Final = "__"


def overrides(
    environment: Mapping[str, str], settings: type[msgspec.Struct]
) -> tuple[dict[tuple[str, ...], Any], list[str]]:
    """The settings in the environment by their place, and what is wrong with the others.

    What is wrong names the variable and never its value, which may be a secret at a wrong place.
    """
    found: dict[tuple[str, ...], Any] = {}
    wrong: list[str] = []
    for variable in sorted(environment):
        name = variable.removeprefix(PREFIX)
        if variable.startswith(PREFIX) and _DEEPER in name:
            try:
                path, hint = _place(name, settings)
                found[path] = _value(environment[variable], hint)
            except ValueError as error:
                wrong.append(f"{variable} {error}")
    return found, wrong


def overridden(
    document: Mapping[str, Any], values: Mapping[tuple[str, ...], Any]
) -> dict[str, Any]:
    """The document with these values in it."""
    document = dict(document)
    for path, value in values.items():
        table = document
        for key in path[:-1]:
            below = table.get(key)
            table[key] = dict(below) if isinstance(below, Mapping) else {}
            table = table[key]
        table[path[-1]] = value
    return document


def variable(place: tuple[str, ...]) -> str:
    """The variable that sets what is at a place.

    >>> variable(("service", "listen"))
    'SIDELONG_SERVICE__LISTEN'
    """
    return PREFIX + _DEEPER.join(place).upper()


def _place(name: str, settings: type[msgspec.Struct]) -> tuple[tuple[str, ...], Any]:
    """Where a variable leads, and the type of what is there. Errors: ValueError."""
    path: list[str] = []
    hint: Any = settings
    for key in (part.lower() for part in name.split(_DEEPER)):
        structs = struct_types(hint)
        members = _members(hint)
        if len(structs) == 1:
            types = field_types(structs[0])
            if key not in types:
                where = ".".join(path) or "the configuration"
                raise ValueError(f"is no setting, {where} has no `{key}`{_or(key, types)}")
            hint = types[key]
        elif members is not None and key:
            hint = members
        else:
            raise ValueError(f"is no setting, {'.'.join(path)} cannot be set by variables")
        path.append(key)
    return tuple(path), hint


def _or(key: str, types: Mapping[str, Any]) -> str:
    return suggestion(key, list(types))


def _members(hint: object) -> Any:
    """What a table of this type has as values; None if it is none."""
    if get_origin(hint) in (dict, Mapping):
        return get_args(hint)[1]
    if get_origin(hint) in (Annotated, Union, UnionType):
        found = [_members(inner) for inner in get_args(hint)]
        return next((one for one in found if one is not None), None)
    return None


def _value(text: str, hint: Any) -> Any:
    """The first reading of a text that is of the type. Errors: ValueError."""
    readings: list[Any] = [text]
    with suppress(tomllib.TOMLDecodeError):
        readings.insert(0, tomllib.loads(f"value = {text}")["value"])
    readings.append([part for one in text.split(",") if (part := one.strip())])
    first: str | None = None
    for reading in readings:
        try:
            msgspec.convert(reading, hint)
        except msgspec.ValidationError as error:
            first = first or str(error).partition(" - at ")[0]
        else:
            return reading
    raise ValueError(f"cannot be used: {_unquoted(first or '', hint)}")


def _unquoted(message: str, hint: object) -> str:
    """Without the value, which msgspec quotes where it is none of several."""
    if message.startswith("Invalid enum value"):
        return f"it is none of {', '.join(map(str, choices(hint)))}"
    return message
