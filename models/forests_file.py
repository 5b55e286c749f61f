"""Forests as a file: `forests.npz` holds arrays and nothing else, `forests.json` their names.

Neither holds anything that could be executed. What is read is checked for being a forest: a walk in
it stays within its arrays whatever the file says.
"""

import json
import zipfile
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sidelong.errors import ConfigError
from sidelong.models.calibration import Calibration
from sidelong.models.forest import Forest
from sidelong.models.forests import (
    CLUSTER,
    JUDGED,
    Forests,
    Habit,
    ScopeForests,
    features_of,
    schema_hash,
)

__all__ = ["FILES", "read_forests", "write_forests"]

FILES: Final = ("forests.npz", "forests.json")

_FORMAT: Final = 1
_HINT: Final = "learn the baseline anew with: sidelong learn INPUT --baseline DIR"

Arrays = dict[str, NDArray[Any]]


def write_forests(forests: Forests, directory: Path) -> None:
    """Write both files in place of those that are there; none where there is no forest."""
    if not forests.scopes:
        for name in FILES:
            (directory / name).unlink(missing_ok=True)
        return
    arrays: Arrays = {}
    told = {scope: _put(one, arrays) for scope, one in forests.scopes.items()}
    part = directory / ".forests.npz"
    with part.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    part.replace(directory / FILES[0])
    document = {"format": _FORMAT, "scopes": told}
    part = directory / ".forests.json"
    part.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    part.replace(directory / FILES[1])


def read_forests(directory: Path) -> Forests:
    """The forests of a baseline directory; none where the files are missing.

    Errors: ConfigError when they are damaged, or made for other features than this version's.
    """
    path = directory / FILES[1]
    if not path.exists():
        return Forests()
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != _FORMAT:
            raise ConfigError(
                f"{path} has format {document['format']!r}, but this version reads {_FORMAT}",
                hint=_HINT,
            )
        _refuse_other_features(path, document["scopes"])
        # Opened here, for NumPy leaves a damaged file open.
        with (directory / FILES[0]).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return Forests(
                {scope: _take(scope, one, arrays) for scope, one in document["scopes"].items()}
            )
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ConfigError(
            f"the forests in {directory} cannot be read: {type(error).__name__}: {error}",
            hint=_HINT,
        ) from error


def _refuse_other_features(path: Path, scopes: dict[str, Any]) -> None:
    for scope, told in scopes.items():
        ours = schema_hash(scope) if scope in JUDGED else "none"
        if told["schema"] != ours:
            raise ConfigError(
                f"{path}: the {scope} forests were trained on features {told['schema']}, "
                f"but this version of sidelong computes {ours}",
                hint=_HINT,
            )


def _put(one: ScopeForests, arrays: Arrays) -> dict[str, Any]:
    at = one.scope
    for number, forest in enumerate(one.forests):
        arrays[f"{at}/{number}/feature"] = forest.feature
        arrays[f"{at}/{number}/threshold"] = forest.threshold
        arrays[f"{at}/{number}/leaf"] = forest.leaf
    arrays[f"{at}/medians"] = one.medians
    _put_calibrations(f"{at}/pooled", list(one.pooled), arrays)
    _put_calibrations(f"{at}/own", [habit.calibration for habit in one.own.values()], arrays)
    ordinary = [habit.ordinary for habit in one.own.values()]
    width = one.medians.shape[1]
    arrays[f"{at}/ordinary"] = np.array(ordinary, np.float32).reshape(len(ordinary), width)
    return {
        "schema": schema_hash(at),
        "features": [feature.name for feature in features_of(at)],
        "samples": [forest.sample for forest in one.forests],
        "groups": one.groups,
        "own": {actor: habit.forest for actor, habit in one.own.items()},
        "windows": one.windows,
        "windows_per_day": one.windows_per_day,
    }


def _put_calibrations(at: str, calibrations: list[Calibration], arrays: Arrays) -> None:
    """One after the other, p and evidence being one longer than limits."""
    none = np.empty(0, np.int64)
    arrays[f"{at}_steps"] = np.array([len(one.limits) for one in calibrations], np.int64)
    arrays[f"{at}_windows"] = np.array([one.windows for one in calibrations], np.int64)
    for name in ("limits", "p", "evidence"):
        arrays[f"{at}_{name}"] = np.concatenate([none, *(getattr(c, name) for c in calibrations)])


def _take(scope: str, told: dict[str, Any], arrays: Any) -> ScopeForests:
    width = len(features_of(scope))
    forests = tuple(
        _checked([arrays[f"{scope}/{number}/{name}"] for name in _PARTS], int(sample), width)
        for number, sample in enumerate(told["samples"])
    )
    pooled = _take_calibrations(f"{scope}/pooled", arrays)
    own = _take_calibrations(f"{scope}/own", arrays)
    medians, ordinary = arrays[f"{scope}/medians"], arrays[f"{scope}/ordinary"]
    groups = {str(group): int(forest) for group, forest in told["groups"].items()}
    numbers = [*groups.values(), *told["own"].values()]
    _insist(
        CLUSTER in groups
        and all(0 <= number < len(forests) for number in numbers)
        and len(pooled) == len(forests)
        and medians.shape == (len(forests), width)
        and len(own) == len(told["own"]) == len(ordinary)
        and (not len(ordinary) or ordinary.shape[1] == width)
    )
    habits = {
        actor: Habit(int(forest), own[number], ordinary[number], True)
        for number, (actor, forest) in enumerate(told["own"].items())
    }
    windows, rate = int(told["windows"]), float(told["windows_per_day"])
    return ScopeForests(scope, forests, groups, medians, tuple(pooled), habits, windows, rate)


_PARTS: Final = ("feature", "threshold", "leaf")


def _checked(parts: list[NDArray[Any]], sample: int, width: int) -> Forest:
    feature, threshold, leaf = parts
    forest = Forest(feature, threshold, leaf, sample)
    trees, leaves = forest.leaf.shape
    _insist(
        trees > 0
        and leaves & (leaves - 1) == 0
        and forest.feature.shape == forest.threshold.shape == (trees, leaves - 1)
        and forest.feature.dtype == np.uint8
        and forest.threshold.dtype == np.float32
        and forest.leaf.dtype == np.uint16
        and int(forest.feature.max(initial=0)) < width
        and 0 < forest.sample < 512
    )
    return forest


def _take_calibrations(at: str, arrays: Any) -> list[Calibration]:
    steps, windows = arrays[f"{at}_steps"], arrays[f"{at}_windows"]
    limits, p, evidence = (arrays[f"{at}_{name}"] for name in ("limits", "p", "evidence"))
    _insist(
        all(one.dtype == np.int64 for one in (steps, windows, limits, p, evidence))
        and bool((steps >= 0).all())
        and len(limits) == steps.sum()
        and len(p) == len(evidence) == steps.sum() + len(steps)
    )
    ends = np.cumsum(steps)
    return [
        Calibration(
            limits[end - count : end],
            p[end - count + number : end + number + 1],
            evidence[end - count + number : end + number + 1],
            int(windows[number]),
        )
        for number, (end, count) in enumerate(zip(ends, steps, strict=True))
    ]


def _insist(holds: bool) -> None:
    if not holds:
        raise ValueError("the arrays do not fit together")
