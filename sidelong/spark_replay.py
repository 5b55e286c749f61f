"""`sidelong spark replay`: what `sidelong replay` finds, found on Spark, byte for byte."""

from collections.abc import Iterable, Sequence

from sidelong.alerts.incident import Incident
from sidelong.alerts.plain_text import printable_json
from sidelong.alerts.policy_advice import Advice
from sidelong.alerts.suppressions import Suppressions
from sidelong.baseline_places import load_baseline
from sidelong.config import read_config
from sidelong.errors import ConfigError
from sidelong.listing import JsonLines, Listing, Table
from sidelong.models.baseline import Baseline
from sidelong.replay import FOUND, NOTHING_FOUND, Known
from sidelong.spark_evidence import incidents_of
from sidelong.spark_files import find_flows, write_file
from sidelong.spark_run import on_spark, plan_of
from sidelong.spark_session import SparkOptions
from sidelong.terminal import Terminal, plural

__all__ = ["replay"]


def replay(
    inputs: Sequence[str],
    *,
    terminal: Terminal,
    options: SparkOptions,
    baseline: str | None = None,
    pods: str | None = None,
    config: str | None = None,
    output: str | None = None,
    every_change: bool = False,
    to: str | None = None,
) -> int:
    """Detect in Parquet flows and print what is found; returns the exit status, 0 or 1.

    to: a folder or URL for `incidents.jsonl` of each cluster, instead of printing. Errors:
    ConfigError for options, a baseline or an installation that cannot be used, SourceError for
    flows that cannot be read.
    """
    settings = read_config(config)
    model = load_baseline(baseline) if baseline else None
    suppressions = Suppressions.read(settings.alerts.suppressions)
    plan = plan_of(settings, model, pods)
    as_table = to is None and (output == "table" or (output is None and terminal.out.is_terminal))
    clusters = find_flows(inputs)
    if len(clusters) > 1 and not as_table and to is None:
        raise ConfigError(
            f"there are {len(clusters)} clusters, whose incidents would be mixed in one output",
            hint="give a folder for the incidents of each, with --to",
        )
    policy = settings.policy
    advice = Advice(model or Baseline.empty(), policy.selectors(), policy.kind)
    found = 0
    with on_spark(options, terminal) as run:
        plan = run.parted(plan, options)
        ordered = run.engine.order(clusters, plan, options.rows)
        judged = run.engine.judge(ordered, plan)
        run.as_one(judged.plan)
        messages = run.engine.told(judged)
        listing, known, ids = None, None, set[str]()
        for outcome in incidents_of(messages, ordered, plan.actors, plan.bounds):
            stream = ordered[outcome.stream]
            if listing is None or known is None:
                listing = _listing(terminal, to, stream.cluster, as_table, every_change)
                known, ids = Known(suppressions, as_table, every_change), set[str]()
            # A table shows no policy.
            events = outcome.incidents if as_table else map(advice.on, outcome.incidents)
            if listed := known.judge(list(events), ids):
                with run.progress.aside():
                    listing.show(listed)
            if outcome.last:
                with run.progress.aside():
                    listing.end()
                run.report(stream, len(ids))
                if suppressed := known.ids - ids:
                    more = plural(len(suppressed), "more incident")
                    terminal.say(f"{more} suppressed; --all lists them")
                found += len(ids)
                listing = None
    return FOUND if found else NOTHING_FOUND


class _File:
    """A listing that becomes a file when it ends: incidents are few."""

    open: Sequence[Incident] = ()

    def __init__(self, url: str) -> None:
        self._url = url
        self._lines: list[str] = []

    def show(self, events: Iterable[Incident]) -> None:
        self._lines += [printable_json(event.to_json()) + "\n" for event in events]

    def end(self) -> None:
        write_file(self._url, "".join(self._lines).encode())


def _listing(
    terminal: Terminal, to: str | None, cluster: str, as_table: bool, every_change: bool
) -> Listing:
    if to is not None:
        below = f"cluster={cluster}/" if cluster else ""
        return _File(f"{to.rstrip('/')}/{below}incidents.jsonl")
    if not as_table:
        return JsonLines(terminal)
    if cluster:
        terminal.say(f"cluster {cluster}")
    return Table(terminal, every_change=every_change)
