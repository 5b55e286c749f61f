"""The shipped incident, from learning to finding, as a first look at what sidelong does."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from sidelong.config import Config
from sidelong.errors import ConfigError
from sidelong.ingest.inputs import open_inputs
from sidelong.learn import learnt
from sidelong.listing import Table
from sidelong.replay import watch
from sidelong.replaying import pipeline_of
from sidelong.report import Report, is_report, reported
from sidelong.tally import Tally
from sidelong.terminal import Terminal

__all__ = ["demo", "example"]

_REPORT: Final = Path("report.html")
_EXAMPLE: Final = Path("examples/shop-incident")
_ROOT: Final = Path(__file__).resolve().parent.parent


def example() -> Path:
    """The folder of the shipped incident, relative to where the command runs if that is shorter.

    Errors: ConfigError where there is none, as in an installed wheel.
    """
    for folder in (_EXAMPLE, _ROOT / _EXAMPLE):
        if (folder / "test.hubble.jsonl.zst").is_file():
            return folder
    raise ConfigError(
        f"the demo replays {_EXAMPLE}, which a checkout has and an installed package has not",
        hint="clone the repository and say make demo there",
    )


def demo(terminal: Terminal, report: str | None = None) -> int:
    """Learn from the quiet minutes of the shop, replay the others; returns 0, as it should find.

    report: where to write a page about it, whatever is there; by default report.html, unless
    somebody else's file has that name or nothing can be written here.
    """
    folder = example()
    train, test = (folder / f"{part}.hubble.jsonl.zst" for part in ("train", "test"))
    with _page(report, terminal) as page:
        terminal.tell(f"Five quiet minutes of a shop, {train}:")
        baseline = learnt([str(train)], terminal=terminal)
        terminal.tell("")
        terminal.tell(f"The two minutes after, {test}:")
        terminal.tell("")
        sources, tally = open_inputs([str(test)]), Tally()
        pipeline = pipeline_of(Config(), baseline, None, advised=page is not None)
        recorder = page.recorder if page else None
        watch(sources, pipeline, Table(terminal), terminal, recorder=recorder, tally=tally)
        if page:
            page.write(tally, sources, baseline, "the five minutes before")
    terminal.tell("")
    terminal.tell("By hand, and then on traffic of your own (Hubble JSON, pcap or Parquet):")
    terminal.tell(f"  sidelong learn {train} --baseline shop.baseline")
    terminal.tell(f"  sidelong replay {test} --baseline shop.baseline")
    return 0


@contextmanager
def _page(report: str | None, terminal: Terminal) -> Iterator[Report | None]:
    with ExitStack() as stack:
        page = None
        if report is not None:
            page = stack.enter_context(reported(report, terminal))
        elif is_report(_REPORT):
            try:
                page = stack.enter_context(reported(str(_REPORT), terminal))
            except ConfigError as error:
                terminal.say(f"sidelong: no report: {error.problem}")
        else:
            terminal.say(f"sidelong: {_REPORT} is no report of sidelong and stays as it is")
            terminal.say("  try: sidelong demo --report FILE.html")
        yield page
