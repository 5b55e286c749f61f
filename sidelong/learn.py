"""How workloads ordinarily talk, learnt from traffic that a person vouches for."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import polars as pl

from sidelong.baseline_places import feedback_on, read_baseline, save_baseline
from sidelong.config import read_config
from sidelong.declared import Declared
from sidelong.declared import declared as read_declared
from sidelong.errors import ConfigError, SourceError
from sidelong.ingest.inputs import open_inputs
from sidelong.ingest.merge import merged
from sidelong.ingest.podmap_files import read_accounts
from sidelong.learning import Learning
from sidelong.listing import headline
from sidelong.models.baseline import Baseline, is_replaceable
from sidelong.models.feedback import Feedback
from sidelong.models.forest_training import can_train
from sidelong.models.learning_speeds import Updated
from sidelong.models.store import is_store
from sidelong.naming import named_by
from sidelong.progress import Reading, total_bytes
from sidelong.tally import Tally
from sidelong.terminal import Terminal, plural

__all__ = ["learn", "learnt", "refuse_what_is_no_baseline", "tell_learnt"]

_TOLD: Final = 10


def learn(
    inputs: Sequence[str],
    *,
    terminal: Terminal,
    baseline: str,
    format: str | None = None,
    pods: str | None = None,
    kubernetes: bool = False,
    config: str | None = None,
    update: bool = False,
    declared: Sequence[str] = (),
) -> int:
    """Learn a baseline from `inputs` and save it as the folder `baseline`, or publish it
    in the model store of that name; returns 0.

    A baseline that is already there is replaced, or with `update` brought up to date; anything else
    is left alone. declared: files and folders of manifests, which may stand for any traffic.
    Errors: ConfigError for a folder that is something else, for manifests or a pod map that cannot
    be used, SourceError for an input that cannot be read or holds no flow.
    """
    if not is_store(baseline):
        refuse_what_is_no_baseline(Path(baseline))
    if not inputs and not declared:
        raise ConfigError(
            "there is nothing to learn from",
            hint="name captures or flow files, or manifests with --declared",
        )
    intent = read_declared(declared) if declared else None
    before = baseline if update else None
    if inputs:
        model = learnt(
            inputs,
            terminal=terminal,
            format=format,
            pods=pods,
            kubernetes=kubernetes,
            config=config,
            before=before,
        )
    else:
        model = read_baseline(before) if before else Baseline.empty()
    if intent:
        model = replace(model, declared=intent.edges, guarded=intent.guarded)
        terminal.tell(_declaration(intent))
    elif pods and model.declared.is_empty():
        model = replace(model, guarded=_with_accounts(model.guarded, Path(pods)))
    told = save_baseline(model, baseline)
    terminal.say(f"{told}; use it with --baseline {baseline}")
    return 0


def learnt(
    inputs: Sequence[str],
    *,
    terminal: Terminal,
    format: str | None = None,
    pods: str | None = None,
    kubernetes: bool = False,
    config: str | None = None,
    before: str | None = None,
) -> Baseline:
    """The baseline of `inputs`, or that in the folder `before` brought up to date with them.

    Says on the terminal what went into it. Errors: as `learn`.
    """
    settings = read_config(config)
    learning_from = read_baseline(before) if before else None
    said = feedback_on(before) if before else Feedback()
    sources = open_inputs(inputs, format, settings)
    tally = Tally()
    with (
        named_by(pods, kubernetes, settings.kubernetes, terminal) as names,
        Reading(terminal, tally, "learning", total_bytes(sources)) as reading,
    ):
        learning = Learning(names, learning_from, said)
        for batch in tally.counted(merged(sources)):
            learning.observe(batch.flows)
            reading.update()
        drift = learning.update() if before else None
        model = drift.baseline if drift else learning.finish()
    terminal.bad_rows(tally.bad.count, tally.bad.samples)
    if not tally.flows:
        raise SourceError(
            f"there is no flow to learn from in {', '.join(inputs)}",
            hint="give a capture that holds traffic, or say what it is with --format",
        )
    tell_learnt(model, tally, drift, learning, terminal)
    return model


def tell_learnt(
    model: Baseline, tally: Tally, drift: Updated | None, learning: Learning, terminal: Terminal
) -> None:
    """Say what was learnt, what changed, and what was left out."""
    terminal.tell(_sentence(model, tally))
    if not can_train():
        terminal.say("no isolation forest was grown: that needs pip install 'sidelong[forest]'")
    if drift:
        _show(drift, terminal)
    left_out = [one for one in learning.incidents.values() if one.severity != "info"]
    if left_out:
        terminal.say("what led to these incidents was not learnt; are they ordinary here?")
        for incident in left_out:
            terminal.say(f"  {headline(incident).plain}")


def _with_accounts(guarded: pl.DataFrame, pods: Path) -> pl.DataFrame:
    """The workloads whose service account is known, those of kubectl's pods among them.

    Policies that guard them are not: a workload that does not stand in the manifests beside
    policies would seem to stand there.
    """
    told = read_accounts(pods).with_columns(ingress=pl.lit(False), egress=pl.lit(False))
    before = guarded.join(told, on="workload", how="anti")
    return pl.concat([before, told.select(guarded.columns)]).sort("workload")


def _declaration(intent: Declared) -> str:
    guarded = intent.guarded.filter(pl.col("ingress") | pl.col("egress")).height
    expected = intent.edges.drop_nulls("breadth").height
    return (
        f"{intent.policies:,} {'policy' if intent.policies == 1 else 'policies'} of "
        f"{plural(intent.guarded.height, 'workload')} expressly allow "
        f"{plural(expected, 'edge')} and guard {plural(guarded, 'workload')}"
    )


def _show(drift: Updated, terminal: Terminal) -> None:
    """What changed since the baseline was learnt, so that nobody need take it on trust."""
    for edges, what in (
        (drift.joined, "joined: used in three separate hours, or over a day"),
        (drift.trial, "on trial: new, and vouched for by nobody yet"),
        (drift.withheld, "held back: new, but of workloads that had incidents"),
        (drift.forgotten, "forgotten: not used for a long time"),
    ):
        if edges.is_empty():
            continue
        terminal.tell(f"{plural(edges.height, 'edge')} {what}")
        for actor, peer, port, protocol in edges.head(_TOLD).iter_rows():
            terminal.tell(f"  {actor} -> {peer}:{port or 'dynamic'}/{protocol}")
        if edges.height > _TOLD:
            terminal.tell(f"  and {edges.height - _TOLD:,} more")


def refuse_what_is_no_baseline(folder: Path) -> None:
    """Errors: ConfigError for a path that holds anything else than a baseline."""
    if folder.is_dir():
        if is_replaceable(folder):
            return
        problem = f"{folder} holds something else than a baseline, and is left as it is"
    elif folder.exists():
        problem = f"{folder} is a file, but a baseline is a folder"
    else:
        return
    raise ConfigError(
        problem, hint="name a folder that is not there yet, as --baseline shop.baseline"
    )


def _sentence(model: Baseline, tally: Tally) -> str:
    known = model.description()
    return f"learnt {known['workloads']:,} workloads and {known['edges']:,} edges from {tally}"
