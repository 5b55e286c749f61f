"""The work of `sidelong run`: which roles, over Kafka or alone, watched over until it is to end."""

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Final, NamedTuple

from sidelong.baseline_watch import BaselineWatch
from sidelong.config import Config, read_config
from sidelong.errors import ConfigError
from sidelong.health import HealthServer
from sidelong.logs import logging_to_stderr
from sidelong.memory_cap import MemoryCap
from sidelong.metrics import Metrics
from sidelong.role import RoleBuilder
from sidelong.roles import alone, builders
from sidelong.service import Service
from sidelong.service_settings import RoleName
from sidelong.signals import stop_by_signal
from sidelong.vitals import Vitals

__all__ = ["Work", "planned", "run_service"]

_log: Final = logging.getLogger(__name__)

_JUDGING: Final = {"detect", "correlate"}


class Work(NamedTuple):
    """What a process is to do: its roles over Kafka, none where it does all without; and what there
    is to say of what it leaves out."""

    roles: tuple[RoleName, ...]
    left_out: tuple[str, ...]


def planned(config: Config, asked: Sequence[RoleName] = ()) -> Work:
    """What is to be done by the settings; `asked` takes the place of [service] roles.

    Errors: ConfigError for a role that has nothing to work with, if it was asked for.
    """
    service = config.service
    if not config.kafka.servers:
        if asked:
            raise ConfigError(
                f"the role {asked[0]} needs Kafka, and no servers of it are known",
                hint='set servers = ["HOST:9092"] in [kafka], or leave out --role',
            )
        if not service.inputs:
            raise ConfigError(
                "there is nothing to read: neither inputs in [service] nor servers in [kafka]",
                hint='set inputs = ["hubble://HOST:4245"], or servers = ["HOST:9092"]',
            )
        without = () if config.receivers else ("no [[receivers]]: incidents are only logged",)
        return Work((), without)
    missing: dict[str, str] = {}
    if not service.inputs:
        missing["collect"] = "there are no inputs in [service]"
    if not config.receivers:
        missing["deliver"] = "there are no [[receivers]]"
    roles: Sequence[RoleName] = asked or service.roles
    for role in asked:
        if role in missing:
            raise ConfigError(
                f"the role {role} has nothing to do: {missing[role]}", hint="docs/running.md"
            )
    left = tuple(f"without the role {role}: {missing[role]}" for role in roles if role in missing)
    chosen: tuple[RoleName, ...] = tuple(role for role in roles if role not in missing)
    if not chosen:
        raise ConfigError("; ".join(left), hint="docs/running.md")
    return Work(chosen, left)


def run_service(config_path: str | None, asked: Sequence[RoleName] = ()) -> int:
    """Run until SIGINT or SIGTERM, then drain; returns 0.

    What is set wrongly is found before anything is connected to. Errors: ConfigError; whatever
    makes a role unable to go on.
    """
    config = read_config(config_path)
    work = planned(config, asked)
    service = config.service
    changed = threading.Event()
    with ExitStack() as opened:
        log = opened.enter_context(logging_to_stderr(service.log))
        for text in work.left_out:
            _log.warning("%s", text)
        metrics = Metrics()
        build = _builders(config, work, metrics)
        vitals = Vitals(
            build,
            stuck_seconds=service.stuck_seconds,
            ready_seconds=service.ready_seconds,
            away=_watched(config, opened) if work.roles else lambda: "",
        )
        metrics.attach(vitals)
        metrics.attach(log)
        memory = MemoryCap(
            service.memory_megabytes << 20, say=lambda text: _log.warning("%s", text)
        )
        metrics.attach(memory)
        stop = opened.enter_context(stop_by_signal(changed.set))
        running = Service(
            build,
            config,
            path=config_path,
            memory=memory,
            stop=stop,
            vitals=vitals,
            metrics=metrics,
        )
        if service.listen:
            health = HealthServer(
                service.listen, scrape=metrics.scrape, alive=vitals.alive, ready=vitals.ready
            )
            port = health.start()
            opened.callback(health.stop)
            _log.info("watched at %s", f"{service.listen.rpartition(':')[0]}:{port}")
        running.run(changed)
    return 0


def _watched(config: Config, opened: ExitStack) -> Callable[[], str]:
    """What tells why Kafka is not there."""
    from sidelong.kafka_watch import KafkaWatch

    watch = KafkaWatch(config.kafka, lambda text: _log.warning("%s", text))
    watch.start()
    opened.callback(watch.stop)
    return watch.away


def _builders(config: Config, work: Work, metrics: Metrics) -> dict[str, RoleBuilder]:
    baseline = None
    if not work.roles or not _JUDGING.isdisjoint(work.roles):
        if config.service.baseline is None:
            _log.warning("no baseline in [service]: few lateral movements are found without one")
        baseline = BaselineWatch(config.service.baseline, lambda text: _log.info("%s", text))
        metrics.attach(baseline)
    if not work.roles:
        assert baseline is not None
        return alone(baseline)
    return builders(work.roles, baseline)
