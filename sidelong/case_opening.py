"""What was named, as a case: traffic to replay, a bundle, incidents told elsewhere, a service."""

import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Final

import polars as pl

from sidelong.alerts.incident import Incident
from sidelong.alerts.suppressions import Suppressions
from sidelong.baseline_places import load_baseline
from sidelong.bundle_reading import is_bundle, read_bundle
from sidelong.case import Case, CaseParts
from sidelong.case_flows import FLOWS_SCHEMA, Found, StreamFlows
from sidelong.case_incidents import Incidents
from sidelong.case_stream import CaseStream
from sidelong.case_what_if import Comparison, compared
from sidelong.config import Config, read_config
from sidelong.errors import ConfigError
from sidelong.incident_finding import held, holds_incidents, in_text, last_states
from sidelong.ingest.live import is_live, is_url
from sidelong.ingest.topic_address import is_topic, topic_address
from sidelong.models.baseline import Baseline
from sidelong.recorded_contacts import CONTACT_SCHEMA
from sidelong.recorded_names import NAME_SCHEMA
from sidelong.recorded_timeline import TIMELINE_SCHEMA
from sidelong.recording import Recording, Sight

__all__ = ["Name", "Settings", "open_case", "told_case"]

Name = str | PathLike[str]
Settings = Name | Mapping[str, Any] | None

_PROMETHEUS: Final = "give what the service reads or writes: its configuration file, or a topic"


def open_case(
    inputs: Name | Iterable[Name],
    *,
    baseline: Name | Baseline | None = None,
    pods: Name | None = None,
    config: Settings = None,
    format: str | None = None,
    kubernetes: bool = False,
    flows: Name | Iterable[Name] | None = None,
) -> Case:
    """See `sidelong.open`."""
    named = _named(inputs)
    if not named:
        raise ConfigError("there is nothing to open", hint="name a capture, a topic or a bundle")
    if bundles := [one for one in named if is_bundle(one)]:
        if len(named) > 1:
            raise ConfigError(
                f"{bundles[0]} is a bundle, and holds a case of its own", hint="open it alone"
            )
        return Case(read_bundle(Path(bundles[0])))
    path, changes = _config(config)
    if len(named) == 1 and named[0].endswith(".toml") and flows is None:
        return _service(named[0], baseline, pods)
    settings = read_config(path, changes=changes)
    model, judged_by = _baseline(baseline)
    told, traffic = _apart(named, settings)
    stream = CaseStream(
        inputs=tuple([*traffic, *_named(flows or ())]),
        settings=settings,
        format=format,
        pods=None if pods is None else fspath(pods),
        kubernetes=kubernetes,
    )
    _check(stream.inputs)
    if told is not None:
        return told_case(told, ", ".join(named), stream, model, judged_by)
    return _replayed(stream, settings, model, judged_by, path, changes)


def told_case(
    events: Iterable[Incident],
    name: str,
    stream: CaseStream | None,
    model: Baseline | None,
    judged_by: str | None,
) -> Case:
    """A case of incidents that were told elsewhere; stream: where their flows are, if anywhere."""
    incidents = tuple(last_states(events).values())
    settings = stream.settings.policy if stream else Config().policy
    has_flows = stream is not None and bool(stream.inputs)
    recording = Recording(
        incidents=incidents,
        contacts=CONTACT_SCHEMA.to_frame(),
        names=NAME_SCHEMA.to_frame(),
        samples={},
        timeline=TIMELINE_SCHEMA.to_frame(),
        sight=Sight(dropped={}),
    )
    return Case(
        CaseParts(
            name=name,
            recording=recording,
            recorded=False,
            baseline=model,
            judged_by=judged_by,
            selectors=settings.selectors(),
            policy_kind=settings.kind,
            flows=_reader(stream, told=True) if stream is not None and has_flows else None,
            typed=stream.typed if stream is not None and has_flows else (),
        )
    )


def _replayed(
    stream: CaseStream,
    settings: Config,
    model: Baseline | None,
    judged_by: str | None,
    path: str | None,
    changes: Mapping[str, Any],
) -> Case:
    run = stream.replayed(settings, model)
    recording = run.recording
    name = ", ".join(stream.inputs[:3]) + (" and others" if len(stream.inputs) > 3 else "")
    what_if = partial(_what_if, stream, settings, model, path, changes, recording.incidents, name)
    return Case(
        CaseParts(
            name=name,
            recording=recording,
            baseline=model,
            judged_by=judged_by,
            selectors=settings.policy.selectors(),
            policy_kind=settings.policy.kind,
            findings=run.findings,
            flows=_SampledFlows(recording) if stream.is_read_once else _reader(stream),
            what_if=None if stream.is_read_once else what_if,
            typed=stream.typed,
        )
    )


def _what_if(
    stream: CaseStream,
    settings: Config,
    model: Baseline | None,
    path: str | None,
    changes: Mapping[str, Any],
    found: Sequence[Incident],
    name: str,
    other_path: str | None,
    other_changes: Mapping[str, Any],
    other_model: Baseline | str | None,
) -> Comparison:
    kept = {} if other_path is not None else changes
    merged = {**kept, **{key: _merged(kept.get(key), new) for key, new in other_changes.items()}}
    other = read_config(other_path or path, changes=merged)
    judge = load_baseline(other_model) if isinstance(other_model, str) else other_model or model
    run = stream.replayed(other, judge)
    return compared(
        Incidents(found, name),
        Incidents(run.recording.incidents, f"{name}, judged otherwise"),
        run.events,
        _suppressed(settings),
        _suppressed(other),
    )


def _merged(old: Any, new: Any) -> Any:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return {**old, **{key: _merged(old.get(key), value) for key, value in new.items()}}
    return new


def _suppressed(settings: Config) -> Any:
    suppressions = Suppressions.read(settings.alerts.suppressions)
    now = time.time()

    def by(incident: Incident) -> str | None:
        rule = suppressions.of(incident, now)
        return rule.id if rule else None

    return by


def _service(path: str, baseline: Name | Baseline | None, pods: Name | None) -> Case:
    """What a service with this configuration has told, and the flows that it reads."""
    settings = read_config(path)
    service = settings.service
    model, judged_by = _baseline(baseline or service.baseline)
    events = list(held(settings))
    inputs = [one for one in service.inputs if not is_live(one)]
    if settings.kafka.servers:
        from sidelong.incident_topics import in_topic  # Kafka's client: for topics alone
        from sidelong.ingest.kafka_topics import ALERTS, RAW

        events += in_topic(
            topic_address(f"kafka:///{settings.kafka.topic(ALERTS)}", settings.kafka)
        )
        inputs = [f"kafka:///{settings.kafka.topic(RAW)}"]
    named = service.pods if pods is None else fspath(pods)
    stream = CaseStream(inputs=tuple(inputs), settings=settings, pods=named)
    return told_case(events, path, stream, model, judged_by)


def _reader(stream: CaseStream, *, told: bool = False) -> StreamFlows:
    """told: whether incidents come from elsewhere, and a topic need not be read from its start."""
    opened = stream.opened_for if told else lambda _: stream.opened()
    return StreamFlows(opened, stream.names, stream.shown)


class _SampledFlows:
    """The flows that brought evidence, of a stream that cannot be read again."""

    def __init__(self, recording: Recording) -> None:
        self._samples = recording.samples

    def of(self, incidents: Sequence[Incident], limit: int | None) -> Mapping[str, Found]:
        """See `FlowReader`."""
        why = "standard input cannot be read again: these are the flows that brought evidence"
        found = {}
        for one in incidents:
            kept = self._samples.get(one.id)
            rows = FLOWS_SCHEMA.to_frame()
            if kept is not None:
                rows = kept.with_columns(about=pl.lit(True)).match_to_schema(
                    FLOWS_SCHEMA, extra_columns="ignore"
                )
            found[one.id] = Found(rows if limit is None else rows.head(limit), rows.height, why)
        return found


def _apart(named: Sequence[str], settings: Config) -> tuple[list[Incident] | None, list[str]]:
    """The incidents among what was named, None where there are none, and the traffic."""
    told: list[Incident] | None = None
    traffic: list[str] = []
    for name in named:
        events: list[Incident] | None = None
        if is_topic(name) and not is_live(name):
            from sidelong.incident_topics import in_topic, is_alerts

            address = topic_address(name, settings.kafka)
            events = in_topic(address) if is_alerts(address) else None
        elif not is_url(name) and Path(name).is_file() and holds_incidents(Path(name)):
            events = in_text(Path(name).read_text(encoding="utf-8"), name)
        if events is None:
            traffic.append(name)
        else:
            told = [*(told or []), *events]
    return told, traffic


def _check(inputs: Sequence[str]) -> None:
    for name in inputs:
        if name.startswith(("http://", "https://")):
            raise ConfigError(
                f"{name} cannot be opened: a service tells its metrics there, and keeps no flows",
                hint=_PROMETHEUS,
            )
        if is_live(name):
            raise ConfigError(
                f"{name} is live, and has no end",
                hint="keep some of it first: sidelong collect SOURCE --to DIR",
            )


def _config(config: Settings) -> tuple[str | None, Mapping[str, Any]]:
    if config is None or isinstance(config, Mapping):
        return None, config or {}
    return fspath(config), {}


def _baseline(baseline: Name | Baseline | None) -> tuple[Baseline | None, str | None]:
    if baseline is None or isinstance(baseline, Baseline):
        return baseline, None
    place = fspath(baseline)
    return load_baseline(place), place


def _named(inputs: Name | Iterable[Name]) -> list[str]:
    if isinstance(inputs, str | PathLike):
        return [fspath(inputs)]
    return [fspath(one) for one in inputs]
