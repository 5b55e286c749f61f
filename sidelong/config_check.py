"""The work of `sidelong config check`: whether a service can start with these settings.

Everything that can be known before the first byte is looked at, and nothing is connected to. All
that is found is told at once. Secrets are read, to see that they are there, and never shown.
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from sidelong.config import Config, look_at
from sidelong.errors import SidelongError
from sidelong.ingest.secret import Secret
from sidelong.service_settings import ServiceSettings
from sidelong.terminal import Terminal, plural

__all__ = ["check"]

_FINE: Final = 0
_WARNED: Final = 1
_WRONG: Final = 2

_FILES: Final = ("ca", "client_ca", "kubeconfig", "manifests", "pods")
_PAIR: Final = ("cert", "key")


def check(*, terminal: Terminal, config: str | None) -> int:
    """Print all that is wrong, or hardly meant; returns 2, 1, or 0 if there is neither.

    Errors: ConfigError for a file that cannot be read or is no TOML.
    """
    read = look_at(config)
    problems = list(read.problems)
    warnings: list[str] = []
    if read.config is not None:
        problems, warnings = _found(read.config)
    for problem in problems:
        terminal.tell(f"wrong: {problem}")
    for warning in warnings:
        terminal.tell(f"warning: {warning}")
    numbers = [plural(len(problems), "problem"), plural(len(warnings), "warning")]
    if read.overrides:
        numbers.append(f"{plural(len(read.overrides), 'setting')} from the environment")
    terminal.say(f"{config or 'the defaults'}: {', '.join(numbers)}")
    return _WRONG if problems else _WARNED if warnings else _FINE


def _found(config: Config) -> tuple[list[str], list[str]]:
    """What is wrong, and what is hardly meant, in settings that are sound by themselves."""
    problems = [*_secrets(config), *_files(config), *_of_parts(config)]
    warnings: list[str] = []
    for look in (_alerts, _service):
        wrong, hardly = look(config)
        problems += wrong
        warnings += hardly
    # The same is often found by two: by the place of a file, and by who would use it.
    return list(dict.fromkeys(problems)), list(dict.fromkeys(warnings))


def _walk(value: object, place: str = "") -> Iterator[tuple[str, msgspec.Struct]]:
    """Every table of settings, with its place."""
    if isinstance(value, msgspec.Struct):
        yield place, value
        names = {field.name: field.encode_name for field in msgspec.structs.fields(value)}
        inner: Iterable[tuple[str, Any]] = (
            (f"{place}.{shown}" if place else shown, getattr(value, name))
            for name, shown in names.items()
        )
    elif isinstance(value, Mapping):
        inner = ((f"{place}.{key}", one) for key, one in value.items())
    elif isinstance(value, tuple | list):
        inner = ((f"{place}[{number}]", one) for number, one in enumerate(value))
    else:
        return
    for below, one in inner:
        yield from _walk(one, below)


def _secrets(config: Config) -> Iterator[str]:
    for place, secret in _walk(config):
        if isinstance(secret, Secret):
            yield from _tried(secret.reveal, place)


def _files(config: Config) -> Iterator[str]:
    for place, table in _walk(config):
        names = _FILES + (_PAIR if all(hasattr(table, name) for name in _PAIR) else ())
        for name in names:
            path = getattr(table, name, None)
            if not isinstance(path, str) or not path:
                continue
            where = f"{place}.{name}"
            if not os.path.exists(path):
                yield f"{where}: there is no {path}"
            elif os.path.isdir(path):
                yield f"{where}: {path} is a folder"
            elif not os.access(path, os.R_OK):
                yield f"{where}: {path} may not be read"


def _of_parts(config: Config) -> Iterator[str]:
    """What the parts that have settings say of them."""
    from sidelong.ingest.listening import Identity

    yield from _tried(config.policy.selectors, "policy")
    for name, server in (("als", config.als), ("otlp", config.otlp)):
        yield from _tried(lambda server=server: Identity.of(server), name)  # type: ignore[misc]


def _alerts(config: Config) -> tuple[list[str], list[str]]:
    from sidelong.alerts.plan import Plan
    from sidelong.alerts.receiver import Receiver
    from sidelong.alerts.receivers import build_receivers

    built: dict[str, Receiver] = {}
    problems: list[str] = []
    for number, receiver in enumerate(config.receivers):
        build = partial(build_receivers, (receiver,))
        problems += _tried(lambda build=build: built.update(build()), f"receivers[{number}]")  # type: ignore[misc]
    names = Counter(receiver.name for receiver in config.receivers)
    problems += [f"receivers: {n} are called {name}" for name, n in names.items() if n > 1]
    warnings: list[str] = []
    if not problems:  # or each route to one that is wrong would be wrong as well

        def plan() -> None:
            warnings.extend(Plan.read(config.alerts, built).warnings(time.time()))

        problems += _tried(plan, "alerts")
    return problems, warnings


def _service(config: Config) -> tuple[list[str], list[str]]:
    service = config.service
    problems: list[str] = []
    warnings: list[str] = []
    for number, path in enumerate(service.inputs):
        problems += _tried(lambda path=path: _input(path, config), f"service.inputs[{number}]")  # type: ignore[misc]
    if service.listen:
        from sidelong.ingest.listening import listening_address

        problems += _tried(lambda: listening_address(f"http://{service.listen}"), "service.listen")
    if service.baseline is not None:
        from sidelong.baseline_places import load_baseline

        place = service.baseline
        problems += _tried(lambda: load_baseline(place), "service.baseline")
    problems += _state(service.state)
    if _in_use(config):
        from sidelong.running import planned

        def plan() -> None:
            work = planned(config)
            warnings.extend(f"service: {text}" for text in work.left_out)
            if service.baseline is None and (not work.roles or "detect" in work.roles):
                warnings.append("service.baseline is not set: few lateral movements are found")

        problems += _tried(plan, "service")
    return problems, warnings + _hardly(config)


def _in_use(config: Config) -> bool:
    """Whether it is meant for `sidelong run`, and not for a command that needs a section or two."""
    return bool(config.service != ServiceSettings() or config.kafka.servers)


def _hardly(config: Config) -> list[str]:
    """What contradicts itself, or serves nothing."""
    service = config.service
    warnings = []
    if service.snapshot_seconds > 3600:
        warnings.append(
            f"service.snapshot_seconds is {service.snapshot_seconds:g}: after a crash as much as"
            " that is read again"
        )
    if service.stuck_seconds < 5:
        warnings.append(
            f"service.stuck_seconds is {service.stuck_seconds:g}: a step may take a few seconds"
        )
    if config.kafka.in_flight_megabytes * 4 > service.memory_megabytes:
        warnings.append(
            f"kafka.in_flight_megabytes is {config.kafka.in_flight_megabytes}, more than a quarter"
            f" of service.memory_megabytes, {service.memory_megabytes}"
        )
    return warnings


def _input(path: str, config: Config) -> None:
    from sidelong.ingest.inputs import open_inputs
    from sidelong.ingest.live import is_url, open_live
    from sidelong.ingest.topic_address import is_topic, topic_address

    if is_topic(path):
        topic_address(path, config.kafka)
    elif is_url(path):
        open_live(path, config).close()
    else:
        open_inputs([path], None, config)


def _state(state: str) -> Iterator[str]:
    """Whether snapshots can be kept there, as far as can be told without trying."""
    from sidelong.ingest.state_store import StateStore

    yield from _tried(lambda: StateStore(state), "service.state")
    if "://" not in state:
        path = Path(state).absolute()
        there = next(one for one in (path, *path.parents) if one.exists())
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            yield f"service.state: {there} is no folder that may be written to"


def _tried(look: Callable[[], object], place: str) -> Iterator[str]:
    """What `look` refuses; its hint is left out, for there may be many."""
    try:
        look()
    except SidelongError as error:
        yield f"{place}: {error.problem}" if place else error.problem
