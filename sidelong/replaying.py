"""One replay as everybody runs it: a command, a notebook, a what-if.

Whatever is judged with the same settings, baseline and names gives the same incidents, byte for
byte, because it comes through here.
"""

from collections.abc import Iterator, Sequence

from sidelong.alerts.incident import Incident
from sidelong.alerts.policy_advice import Advice
from sidelong.config import Config
from sidelong.ingest.merge import merged
from sidelong.ingest.podmap import PodMaps
from sidelong.ingest.source import Source
from sidelong.models.baseline import Baseline
from sidelong.pipeline import Pipeline
from sidelong.recording import Recorder
from sidelong.tally import Tally

__all__ = ["events_of", "pipeline_of"]


def pipeline_of(
    settings: Config, model: Baseline | None, names: PodMaps | None, *, advised: bool = True
) -> Pipeline:
    """The pipeline that settings, a baseline and a pod map make.

    advised: whether incidents carry the policy against them.
    """
    policy = settings.policy
    advice = Advice(model or Baseline.empty(), policy.selectors(), policy.kind) if advised else None
    return Pipeline(
        baseline=model, pods=names, advice=advice, budget=settings.anomaly.alarms_per_day
    )


def events_of(
    sources: Sequence[Source],
    pipeline: Pipeline,
    tally: Tally,
    recorder: Recorder | None = None,
) -> Iterator[list[Incident]]:
    """What each batch of the merged sources opens, grows or closes, and what their end does.

    All are to be taken. Counts what is read in `tally`, and records every step, if anything shall.
    """
    for batch in tally.counted(merged(sources)):
        found = []
        for step in pipeline.steps(batch.flows):
            if recorder is not None:
                recorder.observe(step)
            found += step.incidents
        yield found
    last = pipeline.end()
    if recorder is not None:
        recorder.observe(last)
    yield last.incidents
