"""The shipped incident as a case, made once for all tests that ask it something."""

from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import sidelong
from sidelong.case import Case
from sidelong.ingest.inputs import open_inputs
from sidelong.learning import Learning

__all__ = ["TEST", "shop_baseline", "shop_case"]

_SHOP = Path(__file__).resolve().parent.parent / "examples" / "shop-incident"
TEST = str(_SHOP / "test.hubble.jsonl.zst")


@cache
def shop_baseline() -> str:
    """The folder of the baseline of the quiet minutes."""
    learning = Learning()
    for batch in open_inputs([str(_SHOP / "train.hubble.jsonl.zst")])[0].batches():
        learning.observe(batch.flows)
    folder = Path(mkdtemp(prefix="sidelong-shop-")) / "shop.baseline"
    learning.finish().save(folder)
    return str(folder)


@cache
def shop_case() -> Case:
    """The two minutes after, opened with that baseline."""
    return sidelong.open(TEST, baseline=shop_baseline())
