"""The work of `sidelong graph`: a map of traffic, of a baseline, or of both, in a format."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from sidelong.baseline_places import load_baseline
from sidelong.config import read_config
from sidelong.errors import ConfigError, SourceError
from sidelong.ingest.inputs import open_inputs
from sidelong.map_formats import FORMATS
from sidelong.models.baseline import Baseline
from sidelong.naming import named_by
from sidelong.progress import Reading, total_bytes
from sidelong.recording import Recorder, Recording
from sidelong.replaying import events_of, pipeline_of
from sidelong.service_map import Graph
from sidelong.tally import Tally
from sidelong.terminal import Terminal, plural
from sidelong.whole_file import WholeFile

__all__ = ["graph"]

_MOST: Final = 60
_COMPLETE: Final = ("graphml", "json")
_ENDINGS: Final = {
    ".dot": "dot",
    ".gv": "dot",
    ".graphml": "graphml",
    ".json": "json",
    ".mmd": "mermaid",
    ".svg": "svg",
    ".txt": "text",
}
_ROOM: Final = 1 << 20


def graph(
    inputs: Sequence[str],
    *,
    terminal: Terminal,
    input_format: str | None = None,
    pods: str | None = None,
    kubernetes: bool = False,
    config: str | None = None,
    baseline: str | None = None,
    around: Sequence[str] = (),
    hops: int = 1,
    most: int | None = None,
    drawn_as: str | None = None,
    output_file: str | None = None,
) -> int:
    """Write the graph to standard output or a file; returns 0.

    Errors: ConfigError without input and baseline, for a workload that is not there, and for a file
    that cannot be written, the last before anything is read; SourceError for an input that cannot
    be read.
    """
    if not inputs and not baseline:
        raise ConfigError(
            "there is nothing to draw",
            hint="name captures or flow files, or a baseline with --baseline DIR",
        )
    if drawn_as is None:
        drawn_as = _ENDINGS.get(Path(output_file or "").suffix.lower(), "text")
    with ExitStack() as stack:
        file = stack.enter_context(WholeFile(output_file, _ROOM)) if output_file else None
        known = load_baseline(baseline) if baseline else None
        if inputs:
            recording = _recorded(
                inputs,
                terminal,
                known,
                input_format=input_format,
                pods=pods,
                kubernetes=kubernetes,
                config=config,
            )
            whole = Graph.of_recording(recording, known)
        else:
            whole = Graph.of(baseline=known)
        shown = _chosen(whole, around, hops, most or (None if drawn_as in _COMPLETE else _MOST))
        text = FORMATS[drawn_as](shown)
        if file:
            size = file.write(text)
            terminal.say(f"{_told(shown)}; {output_file}, {size:,} bytes")
        else:
            terminal.out.file.write(text)
            terminal.out.file.flush()
    for note in shown.folded:
        terminal.say(f"sidelong: {note}; --most N shows more")
    return 0


def _recorded(
    inputs: Sequence[str],
    terminal: Terminal,
    known: Baseline | None,
    *,
    input_format: str | None,
    pods: str | None,
    kubernetes: bool,
    config: str | None,
) -> Recording:
    settings = read_config(config)
    sources = open_inputs(inputs, input_format, settings)
    tally, recorder = Tally(), Recorder()
    with (
        named_by(pods, kubernetes, settings.kubernetes, terminal) as names,
        Reading(terminal, tally, "reading", total_bytes(sources)) as reading,
    ):
        pipeline = pipeline_of(settings, known, names, advised=False)
        for _ in events_of(sources, pipeline, tally, recorder):
            reading.update()
    terminal.bad_rows(tally.bad.count, tally.bad.samples)
    if not tally.flows:
        raise SourceError(
            f"there is no flow to draw in {', '.join(inputs)}",
            hint="give a capture that holds traffic, or say what it is with --input-format",
        )
    recording = recorder.finish(tally=tally, sources=sources)
    for what, count in recording.sight.dropped.items():
        if what == "contacts":
            terminal.say(f"sidelong: {plural(count, 'edge')} left out: there are too many")
    return recording


def _chosen(whole: Graph, around: Sequence[str], hops: int, most: int | None) -> Graph:
    for workload in around:
        if workload not in whole:
            near = whole.named_like(workload)
            raise ConfigError(
                f"nothing is known of a workload {workload!r}",
                hint=f"there is {' or '.join(near)}"
                if near
                else "see who is there: leave --around out",
            )
    return whole.around(*around, hops=hops, most=most) if around else whole.bounded(most)


def _told(shown: Graph) -> str:
    counts = ", ".join(f"{count:,} {state}" for state, count in shown.counts.items()) or "none"
    return f"{shown.nodes.height:,} nodes, edges: {counts}"
