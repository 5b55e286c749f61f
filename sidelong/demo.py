"""The shipped incident, from learning to finding, as a first look at what sidelong does."""

from pathlib import Path
from typing import Final

from sidelong.errors import ConfigError
from sidelong.ingest.inputs import open_inputs
from sidelong.learn import learnt
from sidelong.listing import Table
from sidelong.pipeline import Pipeline
from sidelong.replay import watch
from sidelong.terminal import Terminal

__all__ = ["demo", "example"]

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


def demo(terminal: Terminal) -> int:
    """Learn from the quiet minutes of the shop, replay the others; returns 0, as it should find."""
    folder = example()
    train, test = (folder / f"{part}.hubble.jsonl.zst" for part in ("train", "test"))
    terminal.tell(f"Five quiet minutes of a shop, {train}:")
    baseline = learnt([str(train)], terminal=terminal)
    terminal.tell("")
    terminal.tell(f"The two minutes after, {test}:")
    terminal.tell("")
    watch(open_inputs([str(test)]), Pipeline(baseline=baseline), Table(terminal), terminal)
    terminal.tell("")
    terminal.tell("By hand, and then on traffic of your own (Hubble JSON, pcap or Parquet):")
    terminal.tell(f"  sidelong learn {train} --baseline shop.baseline")
    terminal.tell(f"  sidelong replay {test} --baseline shop.baseline")
    return 0
