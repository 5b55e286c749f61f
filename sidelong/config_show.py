"""Settings as TOML that says what each key means, and that reads back as the same settings.

The meanings are those of the docstrings, where the settings are declared. Secrets are written as
where they are; nothing here reads one.
"""

import inspect
import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from sidelong.config import Config, look_at, read_config
from sidelong.config_environment import variable
from sidelong.errors import ConfigError
from sidelong.ingest.secret import HIDDEN, Secret
from sidelong.terminal import Terminal

__all__ = ["meanings", "show", "written"]

_WIDTH: Final = 98
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_USER: Final = re.compile(r"(?<=://)[^/@\s]*:[^/@\s]*(?=@)")


_HEAD: Final = """\
# Settings of sidelong. What begins with # is not set.
"""


def show(*, terminal: Terminal, config: str | None, defaults: bool) -> int:
    """Print the settings of the file `config` and the environment, or the defaults; returns 0.

    Errors: ConfigError for settings that cannot be used, and for a file beside `defaults`.
    """
    if defaults:
        if config is not None:
            raise ConfigError(
                f"--defaults are what holds without {config}", hint="leave one of them out"
            )
        text = written(Config(), {})
    else:
        read = look_at(config)
        marks = {place: f"from {variable(place)}" for place in read.overrides}
        text = written(read_config(config) if read.config is None else read.config, marks)
    terminal.out.file.write(f"{_HEAD}\n{text}")
    terminal.out.file.flush()
    return 0


def written(config: msgspec.Struct, marks: Mapping[tuple[str, ...], str]) -> str:
    """All settings, section by section. marks: what to note behind keys, by their place."""
    lines: list[str] = []
    for field in msgspec.structs.fields(config):
        value = getattr(config, field.name)
        place = (field.encode_name,)
        if isinstance(value, tuple):
            for one in value:
                lines += _table(one, place, marks, repeated=True)
        else:
            lines += _table(value, place, marks)
    return "\n".join(lines).strip("\n") + "\n"


def meanings(settings: type[msgspec.Struct]) -> tuple[str, dict[str, str]]:
    """What a section is for, and what its keys mean, as far as each is explained by itself."""
    about = ""
    found: dict[str, str] = {}
    for kind in reversed(settings.__mro__):
        if issubclass(kind, msgspec.Struct) and kind is not msgspec.Struct:
            about, mine = _explained(kind)
            found |= mine
    return about, found


def _explained(kind: type[msgspec.Struct]) -> tuple[str, dict[str, str]]:
    text = " ".join((inspect.getdoc(kind) or "").split())
    names = sorted((field.encode_name for field in msgspec.structs.fields(kind)), key=len)
    if not names:
        return text, {}
    one = rf"`?(?:{'|'.join(map(re.escape, reversed(names)))})`?(?: \([^)]*\))?"
    heads = list(re.finditer(rf"(?:^|(?<=[.;] )|(?<=- ))({one}(?:, {one})*): ", text))
    found = {}
    ends = [*(head.start() for head in heads[1:]), len(text)]
    for head, end in zip(heads, ends if heads else (), strict=True):
        meaning = text[head.end() : end].rstrip("- ")
        for name in re.findall(one, head[1]):
            found[re.sub(r"`| \(.*", "", name)] = meaning
    return text[: heads[0].start() if heads else len(text)].rstrip("- "), found


def _table(
    value: msgspec.Struct,
    place: tuple[str, ...],
    marks: Mapping[tuple[str, ...], str],
    *,
    repeated: bool = False,
) -> Iterator[str]:
    """A table with its comments, then those inside it."""
    about, explained = meanings(type(value))
    title = ".".join(_key(part) for part in place)
    yield ""
    yield from _comment(about)
    yield f"[[{title}]]" if repeated else f"[{title}]"
    tag = value.__struct_config__.tag_field
    if tag is not None:
        yield f"{tag} = {_value(value.__struct_config__.tag)}"
    below: list[tuple[tuple[str, ...], Any]] = []
    said = None
    for field in msgspec.structs.fields(value):
        name, member = field.encode_name, getattr(value, field.name)
        here = (*place, name)
        if _is_table(member):
            below.append((here, member))
            continue
        meaning = explained.get(name)
        if meaning != said and meaning is not None:
            yield from _comment(meaning)
        said = meaning
        mark = f"  # {marks[here]}" if here in marks else ""
        unset = "# " if member is None else ""
        yield f"{unset}{_key(name)} ={'' if member is None else f' {_value(member)}'}{mark}"
    for here, member in below:
        if isinstance(member, msgspec.Struct):
            yield from _table(member, here, marks)
        elif isinstance(member, Mapping):
            for key, one in member.items():
                yield from _table(one, (*here, key), marks)
        else:
            for one in member:
                yield from _table(one, here, marks, repeated=True)


def _is_table(value: object) -> bool:
    """Whether it is written as tables of their own: a struct, or what holds nothing else."""
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, tuple | list):
        return bool(value) and all(_is_table(one) for one in value)
    return isinstance(value, msgspec.Struct) and not isinstance(value, Secret)


def _comment(text: str) -> Iterator[str]:
    for line in textwrap.wrap(text, _WIDTH, break_long_words=False, break_on_hyphens=False):
        yield f"# {line}"


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _text(name)


def _value(value: Any) -> str:
    """A value on one line."""
    match value:
        case str():
            return _text(_USER.sub(HIDDEN, value))
        case bool() | int():
            return json.dumps(value)
        case float():
            return repr(value)  # inf and nan are the same words in TOML
        case Secret() if value.env is not None:
            return f"{{ env = {_text(value.env)} }}"
        case Secret():
            return f"{{ file = {_text(value.file or '')} }}"
        case tuple() | list():
            return f"[{', '.join(map(_value, value))}]"
        case Mapping():
            inner = ", ".join(f"{_key(key)} = {_value(one)}" for key, one in value.items())
            return f"{{ {inner} }}" if inner else "{}"
    raise TypeError(f"{type(value)} has no form in TOML")


def _text(text: str) -> str:
    """A basic string, in which everything shows."""
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(one if one.isprintable() else f"\\U{ord(one):08X}" for one in quoted)
