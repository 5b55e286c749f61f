"""How workloads ordinarily talk, learnt from traffic that a person vouches for."""

from collections.abc import Sequence
from pathlib import Path

from sidelong.config import read_config
from sidelong.errors import ConfigError, SourceError
from sidelong.ingest.inputs import open_inputs
from sidelong.ingest.merge import merged
from sidelong.learning import Learning
from sidelong.listing import headline
from sidelong.models.baseline import Baseline, is_replaceable
from sidelong.naming import named_by
from sidelong.progress import Reading, total_bytes
from sidelong.tally import Tally
from sidelong.terminal import Terminal

__all__ = ["learn", "learnt"]


def learn(
    inputs: Sequence[str],
    *,
    terminal: Terminal,
    baseline: str,
    format: str | None = None,
    pods: str | None = None,
    kubernetes: bool = False,
    config: str | None = None,
) -> int:
    """Learn a baseline from `inputs` and save it as the folder `baseline`; returns 0.

    A baseline that is already there is replaced, anything else is left alone. Errors: ConfigError
    for a folder that is something else or a pod map that cannot be used, SourceError for an input
    that cannot be read or holds no flow.
    """
    folder = Path(baseline)
    _refuse_what_is_no_baseline(folder)
    model = learnt(
        inputs, terminal=terminal, format=format, pods=pods, kubernetes=kubernetes, config=config
    )
    model.save(folder)
    terminal.say(f"saved as {folder}; use it with --baseline {folder}")
    return 0


def learnt(
    inputs: Sequence[str],
    *,
    terminal: Terminal,
    format: str | None = None,
    pods: str | None = None,
    kubernetes: bool = False,
    config: str | None = None,
) -> Baseline:
    """The baseline of `inputs`; says on the terminal what went into it."""
    settings = read_config(config)
    sources = open_inputs(inputs, format, settings)
    tally = Tally()
    with (
        named_by(pods, kubernetes, settings.kubernetes, terminal) as names,
        Reading(terminal, tally, "learning", total_bytes(sources)) as reading,
    ):
        learning = Learning(pods=names)
        for batch in tally.counted(merged(sources)):
            learning.observe(batch.flows)
            reading.update()
        model = learning.finish()
    terminal.bad_rows(tally.bad.count, tally.bad.samples)
    if not tally.flows:
        raise SourceError(
            f"there is no flow to learn from in {', '.join(inputs)}",
            hint="give a capture that holds traffic, or say what it is with --format",
        )
    terminal.tell(_sentence(model, tally))
    left_out = [one for one in learning.incidents.values() if one.severity != "info"]
    if left_out:
        terminal.say("what led to these incidents was not learnt; are they ordinary here?")
        for incident in left_out:
            terminal.say(f"  {headline(incident).plain}")
    return model


def _refuse_what_is_no_baseline(folder: Path) -> None:
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
