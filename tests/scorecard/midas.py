"""MIDAS-F on the DARPA edge stream, the published anchor, beside a mere count of the minute.

Bhatia et al., "Real-Time Anomaly Detection in Edge Streams" (TKDD 2022): the chi-squared statistic
of a minute's count against its mean so far, of the edge, its source and its destination, where
counts of a minute that scored above 1,000 stay out of the mean. Published AUC: 0.987.
"""

import io
import zipfile
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

__all__ = ["aucs"]

_THRESHOLD: Final = 1_000.0
_DECAY: Final = 0.5
_ROWS: Final = 2
_CELLS: Final = 1_024
_PRIME: Final = 2_147_483_647


class _Counts:
    """Current and past counts of keys, in a count-min sketch."""

    def __init__(self, chance: np.random.Generator) -> None:
        self._salt = chance.integers(1, _PRIME, (_ROWS, 2))
        self._now, self._past = np.zeros((2, _ROWS, _CELLS))
        self._strange = np.zeros((_ROWS, _CELLS), np.bool_)  # scored above the threshold at last

    def next_tick(self, before: int) -> None:
        """Merge the counts of the last tick into the mean, unless they stood out."""
        mean = self._past / (before - 1) if before > 1 else 0.0
        self._past += np.where(self._strange, mean, self._now)
        self._now *= _DECAY

    def score(self, keys: NDArray[np.int64], tick: int) -> NDArray[np.float64]:
        """The scores of a tick's records, in order."""
        now = np.full(len(keys), np.inf)
        past = np.full(len(keys), np.inf)
        cells = (keys * self._salt[:, :1] + self._salt[:, 1:]) % _PRIME % _CELLS
        for row, cell in enumerate(cells):
            now = np.minimum(now, self._now[row, cell] + _nth(cell))
            past = np.minimum(past, self._past[row, cell])
            np.add.at(self._now[row], cell, 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            scores = (now + past - now * tick) ** 2 / (past * (tick - 1))
        scores = np.where((past == 0) | (tick == 1), 0.0, scores)
        for row, cell in enumerate(cells):
            self._strange[row, cell] = scores >= _THRESHOLD  # of equal cells the last one holds
        return scores


def _nth(cells: NDArray[np.int64]) -> NDArray[np.int64]:
    """The how manieth record of its cell each is, from one."""
    order = np.argsort(cells, kind="stable")
    ordered = cells[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    sizes = np.diff(np.append(starts, len(cells)))
    nth = np.empty(len(cells), np.int64)
    nth[order] = np.arange(len(cells)) - np.repeat(starts, sizes) + 1
    return nth


def aucs(data: Path) -> dict[str, float]:
    """The AUC of MIDAS-F, and of the number of records in the minute so far."""
    with zipfile.ZipFile(data / "midas-darpa" / "darpa_original.zip") as folder:
        name = max(folder.namelist(), key=lambda one: folder.getinfo(one).file_size)
        raw = folder.read(name)
    names = ["src", "dst", "minute", "attack"]
    frame = pl.read_csv(io.BytesIO(raw), has_header=False, new_columns=names)
    # All of one year, month first, so that text sorts by time; July has a 32nd day there.
    frame = frame.sort("minute", maintain_order=True)
    labels = (frame["attack"] != "-").to_numpy()
    ticks = frame["minute"].rank("dense").cast(pl.Int64).to_numpy()
    edges = _codes(frame.select(pl.struct("src", "dst")).to_series())
    sources, targets = _codes(frame["src"]), _codes(frame["dst"])
    scores = np.empty(len(ticks))
    chance = np.random.default_rng(1)
    counts = [(_Counts(chance), keys) for keys in (edges, sources, targets)]
    bounds = np.append(np.flatnonzero(np.diff(ticks, prepend=0)), len(ticks))
    for low, high in pairwise(bounds):
        tick = int(ticks[low])
        each = []
        for count, keys in counts:
            if tick > 1:
                count.next_tick(tick - 1)
            each.append(count.score(keys[low:high], tick))
        scores[low:high] = np.max(each, axis=0)
    so_far = np.arange(len(ticks)) - np.repeat(bounds[:-1], np.diff(bounds))
    return {
        "MIDAS-F": float(roc_auc_score(labels, scores)),
        "records in the minute so far": float(roc_auc_score(labels, so_far)),
    }


def _codes(values: pl.Series) -> NDArray[np.int64]:
    return values.rank("dense").cast(pl.Int64).to_numpy() - 1
