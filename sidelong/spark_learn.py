"""`sidelong spark learn` and `features`: baselines and windows from terabytes of flows."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import polars as pl

from sidelong.alerts.incident import Incident
from sidelong.baseline_places import feedback_on, read_baseline, save_baseline
from sidelong.config import read_config
from sidelong.errors import ConfigError, SourceError
from sidelong.ingest.state_values import decode
from sidelong.learn import refuse_what_is_no_baseline, tell_learnt
from sidelong.learning import Learning
from sidelong.models.baseline import Baseline
from sidelong.models.feedback import Feedback
from sidelong.models.store import is_store
from sidelong.spark_evidence import incidents_of
from sidelong.spark_files import find_flows
from sidelong.spark_run import on_spark, plan_of
from sidelong.spark_session import SparkOptions
from sidelong.terminal import Terminal, plural

__all__ = ["features", "joined", "learn"]

_HOUR: Final = "_hour"


def learn(
    inputs: Sequence[str],
    *,
    terminal: Terminal,
    options: SparkOptions,
    baseline: str,
    pods: str | None = None,
    config: str | None = None,
    update: bool = False,
) -> int:
    """Learn a baseline from Parquet flows and save it, as `sidelong learn` does; returns 0.

    Errors: ConfigError for options or an installation that cannot be used, and for more than one
    cluster; SourceError for flows that cannot be read, or if there is none.
    """
    if not is_store(baseline):
        refuse_what_is_no_baseline(Path(baseline))
    settings = read_config(config)
    before = read_baseline(baseline) if update else None
    said = feedback_on(baseline) if update else Feedback()
    clusters = find_flows(inputs)
    if len(clusters) > 1:
        raise ConfigError(
            f"there are {len(clusters)} clusters, and a baseline is of one",
            hint="name the folder of one: flows/cluster=NAME",
        )
    model = (before or Baseline.empty()).heeding(said)
    plan = plan_of(settings, model, pods, teaches=True)
    learning = Learning(before=before, feedback=said)
    with on_spark(options, terminal) as run:
        plan = run.parted(plan, options)
        ordered = run.engine.order(clusters, plan, options.rows)
        judged = run.engine.judge(ordered, plan)
        run.as_one(judged.plan)
        incidents: list[Incident] = []
        habits: list[dict[str, Any]] = []
        for outcome in incidents_of(run.engine.told(judged), ordered, plan.actors, plan.bounds):
            incidents += outcome.incidents
            habits += [dict(last["habits"]) for last in outcome.last]
        run.report(ordered[0], None)
    if not ordered[0].tally.flows:
        raise SourceError(
            f"there is no flow to learn from in {', '.join(inputs)}",
            hint="give a folder of flows, as sidelong collect keeps them",
        )
    learning.adopt(joined(habits), incidents)
    drift = learning.update() if update else None
    learnt = drift.baseline if drift else learning.finish()
    tell_learnt(learnt, ordered[0].tally, drift, learning, terminal)
    terminal.say(f"{save_baseline(learnt, baseline)}; use it with --baseline {baseline}")
    return 0


def features(
    inputs: Sequence[str],
    *,
    terminal: Terminal,
    options: SparkOptions,
    to: str,
    baseline: str | None = None,
    pods: str | None = None,
    config: str | None = None,
) -> int:
    """Write the windows of workloads, edges, domains and of who is called as Parquet; returns 0.

    Errors: ConfigError for options or an installation that cannot be used, SourceError for flows
    that cannot be read.
    """
    settings = read_config(config)
    model = read_baseline(baseline) if baseline else None
    clusters = find_flows(inputs)
    plan = plan_of(settings, model, pods, windows=True, to=to)
    with on_spark(options, terminal) as run:
        plan = run.parted(plan, options)
        ordered = run.engine.order(clusters, plan, options.rows)
        judged = run.engine.judge(ordered, plan)
        run.as_one(judged.plan)
        written: Counter[str] = Counter()
        for message in run.engine.told(judged):
            written.update(decode(message.value).get("windows", {}))
        for message in run.engine.called(judged):
            written.update(decode(message.value)["windows"])
        for stream in ordered:
            run.report(stream, None)
    for scope, count in written.items():
        terminal.tell(f"{plural(count, 'window')} of scope {scope}")
    terminal.say(f"written to {to}; what columns mean is in docs/features.md")
    return 0


def joined(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The states of `Habits` of several parts of a stream as that of the whole stream.

    What they gather is of one actor each, or a set, or a sum.
    """
    whole: dict[str, Any] = {}
    for name, first in parts[0].items():
        values = [part[name] for part in parts]
        if isinstance(first, pl.DataFrame):
            whole[name] = pl.concat(values)
        elif isinstance(first, Mapping):
            whole[name] = joined(values)
        else:
            whole[name] = max(values) if name == _HOUR else sum(values)
    return whole
