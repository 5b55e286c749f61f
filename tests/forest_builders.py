"""Windows and forests made up for tests."""

from datetime import UTC, datetime

import numpy as np
import polars as pl

from sidelong.features.catalogue import (
    CATALOGUE,
    DOMAIN_WINDOW,
    EDGE_WINDOW,
    KEYS,
    WINDOW_NS,
    WORKLOAD_WINDOW,
)
from sidelong.ingest.keys import hash_columns
from sidelong.models.calibration import Calibration
from sidelong.models.forest_training import train
from sidelong.models.forests import CLUSTER, JUDGED, Forests, Habit, ScopeForests, features_of

__all__ = ["jumpy_forests", "windows"]

_SCHEMAS = {"workload": WORKLOAD_WINDOW, "edge": EDGE_WINDOW, "domain": DOMAIN_WINDOW}
_MONDAY_NS = int(datetime(2026, 1, 5, tzinfo=UTC).timestamp()) * 1_000_000_000


def windows(
    scope: str, actors: list[str], minutes: int, *, seed: int = 0, row: int = 0
) -> pl.DataFrame:
    """A closed window of each actor for each minute, with ordinary features; row: of the first."""
    chance = np.random.default_rng(seed)
    count = len(actors) * minutes
    minute = np.repeat(np.arange(minutes), len(actors))
    features = {}
    for one in CATALOGUE[scope]:
        if one.unit == "share":
            features[one.name] = chance.beta(2, 5, count)
        elif one.skewed:
            features[one.name] = np.floor(chance.lognormal(3, 1, count))
        else:
            features[one.name] = chance.poisson(3, count).astype(np.float64)
    features["completeness"] = np.ones(count)
    if scope == "edge":
        features["new_edge"] = np.zeros(count)
    frame = pl.DataFrame(
        {
            "actor": actors * minutes,
            "row": row + minute * 100,
            "ns": _MONDAY_NS + minute * WINDOW_NS,
        }
        | features
    ).with_columns(
        window=pl.col("ns").cast(WORKLOAD_WINDOW["window"]),
        last=(pl.col("ns") + 59_000_000_000).cast(WORKLOAD_WINDOW["window"]),
        actor_pod=pl.lit("shop/web-7d-x2"),
        peer=pl.lit("data/db"),
        port=pl.lit(5432),
        edge_port=pl.lit(5432, pl.UInt16),
        protocol=pl.lit("TCP", EDGE_WINDOW["protocol"]),
        domain=pl.lit("example.org"),
        sample=pl.lit("www.example.org"),
    )
    group = pl.Series("group", hash_columns(frame, KEYS[scope]), dtype=pl.UInt64)
    frame = frame.with_columns(group)
    return frame.select(
        (pl.col(name) if name in frame.columns else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in _SCHEMAS[scope].items()
    )


def jumpy_forests(actors: list[str]) -> Forests:
    """Forests that know nothing but idle windows, so that nearly anything an actor does is strange.

    Each actor is calibrated by windows of its own.
    """
    scopes = {}
    for scope in JUDGED:
        width = len(features_of(scope))
        chance = np.random.default_rng(3)
        idle = chance.exponential(0.05, size=(1_200, width)).astype(np.float32)
        forest = train(idle[:256])
        calibration = Calibration.of(forest.depths(idle))
        ordinary = np.zeros(width, np.float32)
        habit = Habit(0, calibration, ordinary, True)
        scopes[scope] = ScopeForests(
            scope, (forest,), {CLUSTER: 0}, ordinary[None], (calibration,),
            dict.fromkeys(actors, habit), 1_200, 100.0,
        )  # fmt: skip
    return Forests(scopes)
