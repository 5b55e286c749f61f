"""MIDAS-F on the DARPA edge stream, the published anchor, beside a mere count of the minute.

Bhatia et al., "Real-Time Anomaly Detection in Edge Streams" (TKDD 2022): the chi-squared statistic
of a minute's count against its mean so far, of the edge, its source and its destination, where
counts of a minute that scored above 1,000 stay out of the mean. Counts here are exact, theirs are
count-min sketches; theirs has AUC 0.987.
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


class _Counts:
    """Current and past counts of as many keys as there are."""

    def __init__(self, keys: int) -> None:
        self._now, self._past = np.zeros((2, keys))
        self._strange = np.zeros(keys, np.bool_)  # scored above the threshold when last seen

    def next_tick(self, before: int) -> None:
        """Merge the counts of the last tick into the mean, unless they stood out."""
        strange = np.flatnonzero(self._strange)
        grown = self._past[strange] * (1 + 1 / (before - 1) if before > 1 else 1)
        self._past += self._now
        self._past[strange] = grown
        self._now *= _DECAY

    def score(self, keys: NDArray[np.int64], tick: int) -> NDArray[np.float64]:
        """The scores of a tick's records, in order."""
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
        sizes = np.diff(np.append(starts, len(keys)))
        nth = np.empty(len(keys))
        nth[order] = np.arange(len(keys)) - np.repeat(starts, sizes) + 1
        now, past = self._now[keys] + nth, self._past[keys]
        with np.errstate(divide="ignore", invalid="ignore"):
            scores = (now + past - now * tick) ** 2 / (past * (tick - 1))
        scores = np.where((past == 0) | (tick == 1), 0.0, scores)
        last = ordered[starts + sizes - 1]
        self._strange[last] = scores[order[starts + sizes - 1]] >= _THRESHOLD
        self._now[last] += sizes
        return scores


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
    counts = [(_Counts(int(keys.max()) + 1), keys) for keys in (edges, sources, targets)]
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
