"""What each detector sees in a source, and what would let it see more."""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

import msgspec
import polars as pl
from rich.text import Text

from sidelong.config import read_config
from sidelong.errors import SidelongError
from sidelong.ingest.durations import length
from sidelong.ingest.inputs import open_inputs
from sidelong.ingest.live import is_live, open_live
from sidelong.ingest.merge import merged
from sidelong.ingest.schema import empty_flows
from sidelong.ingest.settings import InputSettings
from sidelong.ingest.source import Source
from sidelong.installation import examined
from sidelong.naming import named_by
from sidelong.progress import Reading, total_bytes
from sidelong.sight import Check, Finding, Sample, Sight, sight_of
from sidelong.sight_connections import CONNECTION_CHECKS
from sidelong.sight_delivery import DELIVERY_CHECKS
from sidelong.sight_dns import DNS_CHECKS
from sidelong.sight_identity import IDENTITY_CHECKS
from sidelong.tally import Tally
from sidelong.terminal import Terminal, plural, printable, printable_json

__all__ = ["ALL_SEE", "CHECKS", "MOST_FLOWS", "NOT_ALL_SEE", "Report", "doctor", "examine"]

ALL_SEE = 0
NOT_ALL_SEE = 1

MOST_FLOWS: Final = 200_000
"""How many flows are looked at unless more are asked for."""

CHECKS: Final[tuple[Check, ...]] = (
    *DELIVERY_CHECKS,
    *DNS_CHECKS,
    *CONNECTION_CHECKS,
    *IDENTITY_CHECKS,
)
"""All there are, in the order in which they are told."""

_LIVE_SECONDS: Final = 10.0
_STATUS_SECONDS: Final = 5.0
_STYLES: Final = {"sees": "green", "partly": "yellow", "blind": "bold red", "note": "dim"}
_INDENT: Final = 2


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What `--output json` prints: one object, whose fields stay what they are.

    first, last: event times, RFC 3339. whole: whether all there is was looked at. lost, unreadable:
    events and rows. counters: what a live source counts of itself. findings: blinding ones first,
    notes last.
    """

    version: int = 1
    sources: list[str]
    flows: int
    whole: bool
    first: str | None
    last: str | None
    lost: int
    unreadable: int
    origins: dict[str, int]
    nodes: int
    hubble_version: str | None
    counters: dict[str, int]
    detectors: list[Sight]
    findings: list[dict[str, Any]]


def doctor(
    inputs: Sequence[str],
    *,
    terminal: Terminal,
    format: str | None = None,
    pods: str | None = None,
    kubernetes: bool = False,
    config: str | None = None,
    most_flows: int | None = None,
    duration: str | None = None,
    output: str | None = None,
) -> int:
    """Look at some flows of `inputs` and say what each detector sees in them; without inputs, at
    the installation. Returns 0 when nothing is amiss, else 1.

    Takes the first `most_flows`, and no more than come in `duration`. Errors: ConfigError for
    options that cannot be used, SourceError for a source that cannot be reached or read.
    """
    as_table = output == "table" or (output is None and terminal.out.is_terminal)
    if not inputs:
        return examined(terminal, config, as_table=as_table)
    settings = read_config(config)
    live = any(is_live(one) for one in inputs)
    seconds = length(duration, "--for").total_seconds() if duration else None
    if seconds is None and live:
        seconds = _LIVE_SECONDS
    sources = open_inputs(inputs, format, settings)
    tally = Tally()
    flows, whole = _some(sources, most_flows or MOST_FLOWS, seconds, tally, terminal)
    status = _status([one for one in inputs if is_live(one)], settings) if live else {}
    with named_by(pods, kubernetes, settings.kubernetes, terminal) as names_of:
        sample = Sample(
            flows=flows,
            pods=names_of,
            bad=tally.bad,
            live=live,
            counters=_counted(sources),
            **status,
        )
        findings = examine(sample)
    sights = sight_of(findings)
    names = [printable(source.name) for source in sources]
    if as_table:
        _show(terminal, names, tally, whole, sights, findings)
    else:
        report = _report(names, sample, tally, whole, sights, findings)
        terminal.out.file.write(printable_json(msgspec.json.encode(report).decode()) + "\n")
        terminal.out.file.flush()
    return ALL_SEE if all(one.sight == "sees" for one in sights) else NOT_ALL_SEE


def examine(sample: Sample) -> list[Finding]:
    """All findings: what blinds, then what blinds in part, then notes."""
    found = [finding for check in CHECKS if (finding := check(sample))]
    return sorted(found, key=lambda one: ("blind", "partly", "note").index(_weight(one)))


def _weight(finding: Finding) -> str:
    effects = finding.effects.values()
    return "blind" if "blind" in effects else "partly" if effects else "note"


def _some(
    sources: Sequence[Source],
    most_flows: int,
    seconds: float | None,
    tally: Tally,
    terminal: Terminal,
) -> tuple[pl.DataFrame, bool]:
    """The first flows, and whether they are all."""
    frames = [empty_flows()]
    begun = time.monotonic()
    reading = Reading(terminal, tally, "looking", total_bytes(sources))
    whole = True
    with _closed_after(sources, seconds), reading:
        for batch in merged(sources):
            tally.add(batch)
            frames.append(batch.flows)
            reading.update()
            ended = seconds is not None and time.monotonic() - begun >= seconds
            if ended or tally.flows >= most_flows:
                whole = False
                break
    return pl.concat(frames), whole


@contextmanager
def _closed_after(sources: Sequence[Source], seconds: float | None) -> Iterator[None]:
    """Close what is live after so long, and in any case at the end."""
    closing = [close for source in sources if (close := getattr(source, "close", None))]

    def close_all() -> None:
        for close in closing:
            close()

    timer = threading.Timer(seconds, close_all) if seconds is not None and closing else None
    if timer:
        timer.daemon = True
        timer.start()
    try:
        yield
    finally:
        if timer:
            timer.cancel()
        close_all()


def _status(urls: Sequence[str], settings: InputSettings) -> dict[str, Any]:
    """What Hubble says of itself, where it can be asked: version and unavailable nodes."""
    versions: list[str] = []
    away: set[str] = set()
    for target in (getattr(open_live(url, settings), "target", None) for url in urls):
        if target is None:
            continue
        from sidelong.ingest.hubble_status import hubble_nodes, hubble_status  # gRPC, if it is used

        with suppress(SidelongError):  # flows were had all the same
            status = hubble_status(target, _STATUS_SECONDS)
            versions.append(status.version)
            away.update(status.missing)
            nodes = hubble_nodes(target, _STATUS_SECONDS) or ()
            away.update(node.name for node in nodes if node.state != "connected")
    return {"version": ", ".join(filter(None, versions)) or None, "unavailable": sorted(away)}


def _counted(sources: Sequence[Source]) -> Mapping[str, int]:
    return {
        name: count
        for source in sources
        if (counters := getattr(source, "counters", None))
        for name, count in counters().items()
    }


def _report(
    names: list[str],
    sample: Sample,
    tally: Tally,
    whole: bool,
    sights: list[Sight],
    findings: Sequence[Finding],
) -> Report:
    origins = sample.seen["origin"].drop_nulls().value_counts().sort("origin")
    return Report(
        sources=names,
        flows=tally.flows,
        whole=whole,
        first=tally.first.isoformat() if tally.first else None,
        last=tally.last.isoformat() if tally.last else None,
        lost=tally.lost,
        unreadable=tally.bad.count,
        origins=dict(origins.iter_rows()),
        nodes=sample.seen["node"].drop_nulls().n_unique(),
        hubble_version=sample.version,
        counters=dict(sample.counters),
        detectors=sights,
        findings=[{**msgspec.to_builtins(one), "page": one.page} for one in findings],
    )


def _show(
    terminal: Terminal,
    names: Sequence[str],
    tally: Tally,
    whole: bool,
    sights: Sequence[Sight],
    findings: Sequence[Finding],
) -> None:
    """For a person: each detector in a line, then each finding with its cure."""
    part = "" if whole else "the first "
    source = names[0] if len(names) == 1 else plural(len(names), "source")
    terminal.tell(f"{part}{tally} of {source}")
    terminal.tell("")
    for one in sights:
        line = Text.assemble(
            f"  {one.detector.replace('_', ' '):<17}", (f"{one.sight:<6}", _STYLES[one.sight])
        )
        if one.findings:
            line.append(f"  {', '.join(one.findings)}")
        terminal.out.print(line, soft_wrap=True)
    for finding in findings:
        terminal.tell("")
        weight = _weight(finding)
        effects = sorted(
            f"{effect}: {detector.replace('_', ' ')}"
            for detector, effect in finding.effects.items()
        )
        about = f"  {', '.join(effects) or 'a note'}"
        terminal.out.print(
            Text.assemble((finding.code, _STYLES[weight]), (about, "dim")), soft_wrap=True
        )
        _paragraph(terminal, "", finding.observed)
        _paragraph(terminal, "cure: ", finding.cure)
        _paragraph(terminal, "", finding.page)


def _paragraph(terminal: Terminal, lead: str, text: str) -> None:
    width = max(30, terminal.out.width - _INDENT)
    for line in Text(lead + printable(text, 1_000)).wrap(terminal.out, width):
        line.rstrip()
        terminal.out.print(Text(" " * _INDENT).append_text(line), soft_wrap=True)
