"""What is wrong with a document of settings: everything, not only the first thing.

msgspec checks values and stops at the first that is wrong. Here the same types are walked key by
key, so that a file with three mistakes is put right in one go.
"""

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, Final, Literal, TypeGuard, Union, get_args, get_origin

import msgspec

from sidelong.ingest.secret import Secret

__all__ = ["choices", "field_types", "problems", "struct_types", "suggestion"]

_PLACE: Final = re.compile(r" - at `(?:key in )?`?\$\.?(?P<place>[^`]*)`$")
_Struct = type[msgspec.Struct]


def problems(document: Mapping[str, Any], settings: _Struct, place: str = "") -> list[str]:
    """All that keeps `document` from being `settings`, each beginning with its place.

    place: that of the document, such as `alerts.route`; empty for a whole file.
    """
    return list(_of_struct(document, settings, place))


def struct_types(hint: object) -> list[_Struct]:
    """The structs that a value of this type may be itself, not those inside it."""
    if _is_struct(hint):
        return [hint]
    if get_origin(hint) in (Annotated, Union, UnionType):
        return [one for inner in get_args(hint) for one in struct_types(inner)]
    return []


def field_types(settings: _Struct) -> dict[str, Any]:
    """The types of the fields of a struct, by the names they have in a file."""
    return {field.encode_name: field.type for field in msgspec.structs.fields(settings)}


def choices(hint: object) -> tuple[Any, ...]:
    """The values that a type names itself, as `Literal` does.

    >>> choices(tuple[Literal["a", "b"], ...])
    ('a', 'b')
    """
    if get_origin(hint) is Literal:
        return get_args(hint)
    return tuple(one for inner in get_args(hint) for one in choices(inner))


def suggestion(given: str, known: list[str]) -> str:
    """The rest of a sentence about an unknown name: what it may be meant to be, or what there is.

    >>> suggestion("hubbel", ["als", "hubble"]), suggestion("x", ["als", "hubble"])
    (': is it `hubble`?', ': there is als, hubble')
    """
    close = get_close_matches(given, known, 1, cutoff=0.6)
    return f": is it `{close[0]}`?" if close else f": there is {', '.join(known)}"


def _is_struct(hint: object) -> TypeGuard[_Struct]:
    return isinstance(hint, type) and issubclass(hint, msgspec.Struct)


def _of_struct(document: Mapping[str, Any], settings: _Struct, place: str) -> Iterator[str]:
    types = field_types(settings)
    where = place or "the document"
    tag = settings.__struct_config__.tag_field
    sound = {}
    found = False
    for key, value in document.items():
        if key == tag:
            sound[key] = value
        elif key not in types:
            found = True
            yield f"{where} has an unknown field `{key}`{suggestion(key, list(types))}"
        else:
            below = list(_of_value(value, types[key], f"{place}.{key}" if place else key))
            found = found or bool(below)
            yield from below
            sound[key] = value
    for field in msgspec.structs.fields(settings):
        if field.required and field.encode_name not in document:
            found = True
            yield f"{where} lacks `{field.encode_name}`"
    if not found:  # what only all of it together shows
        yield from _refused(sound, settings, where)


def _of_value(value: object, hint: object, place: str) -> Iterator[str]:
    structs = struct_types(hint)
    if isinstance(value, Mapping) and structs:
        yield from _of_table(value, structs, place)
        return
    inner = _items(hint)
    if isinstance(value, list) and inner is not None:
        for number, one in enumerate(value):
            yield from _of_value(one, inner, f"{place}[{number}]")
    elif isinstance(value, Mapping) and (members := _members(hint)) is not None:
        for key, one in value.items():
            yield from _of_value(one, members, f"{place}.{key}")
    else:
        yield from _refused(value, hint, place)


def _of_table(value: Mapping[str, Any], structs: list[_Struct], place: str) -> Iterator[str]:
    if len(structs) == 1:
        yield from _of_struct(value, structs[0], place)
        return
    tagged = {str(one.__struct_config__.tag): one for one in structs}
    tag = str(structs[0].__struct_config__.tag_field)
    if tag not in value:
        yield f"{place} lacks `{tag}`: one of {', '.join(tagged)}"
    elif value[tag] not in tagged:
        yield f"{place}.{tag} is unknown{suggestion(str(value[tag]), list(tagged))}"
    else:
        yield from _of_struct(value, tagged[value[tag]], place)


def _items(hint: object) -> Any:
    """What a list of this type has in it, where that may be a table; else None."""
    return _argument(hint, (tuple, list), 0)


def _members(hint: object) -> Any:
    """What a table of this type has as values, where that may be a table; else None."""
    return _argument(hint, (dict, Mapping), 1)


def _argument(hint: object, origins: tuple[Any, ...], number: int) -> Any:
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Annotated, Union, UnionType):
        found = [_argument(one, origins, number) for one in inner]
        return next((one for one in found if one is not None), None)
    if origin in origins and len(inner) > number:
        return inner[number] if _holds_struct(inner[number]) else None
    return None


def _holds_struct(hint: object) -> bool:
    if get_origin(hint) is Literal:
        return False
    return _is_struct(hint) or any(_holds_struct(inner) for inner in get_args(hint))


def _refused(value: object, hint: Any, place: str) -> Iterator[str]:
    try:
        msgspec.convert(value, hint)
    except msgspec.ValidationError as error:
        message = str(error)
        if found := _PLACE.search(message):
            below, message = found["place"], message[: found.start()]
            dot = "" if not below or below.startswith("[") else "."
            place = f"{place}{dot}{below}"
        if message.startswith("Invalid enum value"):
            message += f", but one of {', '.join(map(str, choices(hint)))}"
        elif Secret in struct_types(hint) and not isinstance(value, Mapping):
            message = 'a secret is written { env = "NAME" } or { file = "PATH" }'
        yield f"{place}: {message}"
