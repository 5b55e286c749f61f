"""How each role of the service is built from the settings: what it connects to, what it takes over.

Modules of roles are imported when they are built: a process that only collects loads no detectors.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from sidelong.alerts.plan import Plan
from sidelong.alerts.receivers import build_receivers
from sidelong.baseline_watch import BaselineWatch
from sidelong.claim import Claim
from sidelong.errors import ConfigError, SourceError
from sidelong.ingest.podmap import PodMap, PodMaps
from sidelong.ingest.state_store import StateStore
from sidelong.ingest.topic_address import TopicAddress
from sidelong.resuming import gone, lanes_of, resume
from sidelong.role import Role, RoleBuilder, Surroundings
from sidelong.service_settings import RoleName

if TYPE_CHECKING:
    from sidelong.ingest.kafka_consumer import KafkaConsumer
    from sidelong.ingest.kafka_producer import KafkaProducer
    from sidelong.ingest.state_store import StateStore
    from sidelong.notify import Notifier

__all__ = ["alone", "builders"]


def builders(roles: Iterable[RoleName], baseline: BaselineWatch | None) -> dict[str, RoleBuilder]:
    """What builds each of `roles`, over Kafka. baseline: needed by detect and correlate."""
    known: dict[RoleName, RoleBuilder] = {
        "collect": _collect,
        "normalise": _normalise,
        "deliver": _deliver,
    }
    if baseline is not None:
        known |= {"detect": partial(_detect, baseline), "correlate": partial(_correlate, baseline)}
    return {role: known[role] for role in roles}


def alone(baseline: BaselineWatch) -> dict[str, RoleBuilder]:
    """What builds the whole service without Kafka."""
    return {"alone": partial(_alone, baseline)}


class _Kafka:
    """The clients of one role, all closed again should it not come to be."""

    def __init__(self, surroundings: Surroundings, role: str) -> None:
        self._settings = surroundings.config.kafka
        self._member = surroundings.config.service.member
        self._memory = surroundings.memory
        self._role = role
        _await_kafka(surroundings)
        self._opened = ExitStack()

    def __enter__(self) -> "_Kafka":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._opened.pop_all()  # the role has them now
        else:
            self._opened.close()

    def consumer(
        self, topic: str, *, to: str | None = None, flows: bool = False
    ) -> "KafkaConsumer":
        """A member of the role's group; `to` is the topic it is to write to, which must exist.
        flows: whether it reads those, and so is held back while memory is short."""
        from sidelong.ingest.kafka_consumer import KafkaConsumer

        memory = self._memory if flows else None
        consumer = KafkaConsumer(
            self._settings,
            self._role,
            topics=[self._settings.topic(topic)],
            group=self._settings.group(self._role),
            static_member=self._member,
            hold=lambda: memory is not None and memory.hold,
        )
        self._opened.callback(consumer.close)
        if to is not None:
            consumer.partitions(self._settings.topic(to))
        return consumer

    def producer(self, *, packed: bool = True) -> "KafkaProducer":
        """packed: whether values are compressed by themselves."""
        from sidelong.ingest.kafka_producer import KafkaProducer

        producer = KafkaProducer(self._settings, self._role, compression="none" if packed else None)
        self._opened.callback(producer.close)
        return producer


def _await_kafka(surroundings: Surroundings) -> None:
    """Wait for a broker; `KafkaWatch` says so. Errors: SourceError when the service ends before
    there is one."""
    from sidelong.ingest.kafka_client import wait_for_broker

    if not wait_for_broker(surroundings.config.kafka, surroundings.stop, lambda _: None):
        raise SourceError("told to end while waiting for Kafka", hint="start it again")


def _collect(surroundings: Surroundings) -> Role:
    from sidelong.ingest.kafka_topics import RAW
    from sidelong.ingest.topic_sink import TopicSink
    from sidelong.role_collect import CollectRole

    config, say = surroundings.config, surroundings.say
    _await_kafka(surroundings)
    topic = config.kafka.topic(RAW)
    sink = TopicSink(TopicAddress(f"kafka://{config.kafka.shown}/{topic}", config.kafka, topic))
    with ExitStack() as opened:
        opened.callback(sink.close)
        lanes = lanes_of(config.service.inputs, None, config, say)
        sink.forget(gone(sink.state.sources))
        for feed in (feed for lane in lanes for feed in lane):
            if told := resume(feed, sink, config.collect.overlap_seconds):
                say(told)
        settings = config.collect.of_topic()
        role = CollectRole(surroundings, lanes, sink, settings, closing=[opened.pop_all().close])
    return role


def _normalise(surroundings: Surroundings) -> Role:
    from sidelong.role_normalise import NormaliseRole

    with ExitStack() as opened:
        pods = opened.enter_context(_named(surroundings))
        with _Kafka(surroundings, "normalise") as kafka:
            election = kafka.consumer("evidence", to="flows.batches")
            election.partitions(surroundings.config.kafka.topic("flows.raw"))
            return NormaliseRole(
                surroundings,
                pods,
                election=election,
                producer=kafka.producer(),
                store=_snapshots(surroundings),
                closing=[opened.pop_all().close],
            )


def _detect(baseline: BaselineWatch, surroundings: Surroundings) -> Role:
    from sidelong.ingest.stretch_messages import decode
    from sidelong.role_detect import DetectRole

    networks = _networks(surroundings)
    with _Kafka(surroundings, "detect") as kafka:
        return DetectRole(
            surroundings,
            baseline,
            networks,
            consumer=kafka.consumer("flows.batches", to="evidence", flows=True),
            producer=kafka.producer(),
            store=_snapshots(surroundings),
            decode=decode,
        )


def _correlate(baseline: BaselineWatch, surroundings: Surroundings) -> Role:
    from sidelong.role_correlate import CorrelateRole

    with _Kafka(surroundings, "correlate") as kafka:
        return CorrelateRole(
            surroundings,
            baseline,
            consumer=kafka.consumer("evidence", to="alerts"),
            producer=kafka.producer(packed=False),
            store=_snapshots(surroundings),
        )


def _deliver(surroundings: Surroundings) -> Role:
    from sidelong.role_deliver import DeliverRole

    config = surroundings.config
    Plan.read(config.alerts, build_receivers(config.receivers))  # what is wrong is said at once

    def opened() -> "tuple[KafkaConsumer, Notifier]":
        with _Kafka(surroundings, "deliver") as kafka:
            return kafka.consumer("alerts"), _notifier(surroundings)

    claim = Claim(surroundings.config.delivery.outbox)
    return DeliverRole(surroundings, claim=claim, opened=opened)


def _alone(baseline: BaselineWatch, surroundings: Surroundings) -> Role:
    from sidelong.run_alone import Alone, AloneRole
    from sidelong.telling import let_go

    config = surroundings.config
    with ExitStack() as opened:
        claim = Claim(config.delivery.outbox)
        opened.callback(claim.release)
        if not claim.taken():
            raise ConfigError(
                f"another process works with the outbox {config.delivery.outbox}",
                hint="end that one first, or give this one an outbox and a state of its own",
            )
        names = opened.enter_context(_named(surroundings))
        notifier = _notifier(surroundings) if config.receivers else None
        if notifier is not None:
            opened.callback(let_go, notifier)
        store = _snapshots(surroundings)
        alone = Alone(surroundings, baseline, names, notifier=notifier, store=store)
        lanes = lanes_of(config.service.inputs, None, config)
        for feed in (feed for lane in lanes for feed in lane):
            known = alone.sources.get(feed.key)
            if known is not None and known.fingerprint == feed.state.fingerprint:
                feed.state = msgspec.structs.replace(feed.state, position=known.position)
        role = AloneRole(surroundings, lanes, alone, closing=[opened.pop_all().close])
    return role


def _notifier(surroundings: Surroundings) -> "Notifier":
    from sidelong.notify import Notifier
    from sidelong.telling import timed

    config = surroundings.config
    return Notifier(
        config,
        path=surroundings.path,
        receivers=timed(build_receivers(config.receivers), surroundings.observe),
        say=surroundings.say,
    )


def _snapshots(surroundings: Surroundings) -> "StateStore":
    from sidelong.ingest.state_store import StateStore

    return StateStore(surroundings.config.service.state, surroundings.say)


@contextmanager
def _named(surroundings: Surroundings) -> Iterator[PodMaps | None]:
    """Who gives addresses their names."""
    service = surroundings.config.service
    if service.kubernetes:
        from sidelong.ingest.kubernetes_watch import watch_kubernetes

        with watch_kubernetes(surroundings.config.kubernetes, say=surroundings.say) as watch:
            yield watch
    else:
        yield PodMap.read(Path(service.pods)) if service.pods is not None else None


def _networks(surroundings: Surroundings) -> frozenset[str]:
    """The networks that hold workloads, as normalising knows them at its start."""
    with _named(surroundings) as names:
        return frozenset() if names is None else names.current().networks
