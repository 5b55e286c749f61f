"""The same captures made harder: records lost, attacks slowed, order shuffled."""

from collections.abc import Callable
from typing import Final

import numpy as np
import polars as pl

from scorecard.captures import NS, Capture, Truth

__all__ = ["ALTERED", "lossy", "reordered", "slower"]


def lossy(capture: Capture, share: float = 0.1, seed: int = 1) -> Capture:
    """A share of the records is lost, and nobody says so."""
    kept = np.random.default_rng(seed).random(capture.flows.height) >= share
    return capture.with_flows(capture.flows.filter(pl.Series(kept)))


def reordered(capture: Capture, within_ns: int = NS, seed: int = 1) -> Capture:
    """Records come up to a second late."""
    late = np.random.default_rng(seed).integers(0, within_ns, capture.flows.height)
    arrival = capture.flows["time"].to_physical() + pl.Series(late)
    order = capture.flows.with_columns(arrival=arrival).sort("arrival", maintain_order=True)
    return capture.with_flows(order.drop("arrival"))


def slower(capture: Capture, times: int) -> Capture:
    """Each attack takes so many times as long, in the middle of the same ordinary traffic.

    Attackers' packets are moved; what they do after an attack's end goes on when it is over. The
    ordinary traffic is that of the capture, which ends before a slow attack does.
    """
    flows = capture.flows
    time = flows["time"].to_physical()
    moved = time.to_numpy().copy()
    truths: list[Truth] = []
    for truth in capture.truths:
        ours = flows.select(
            pl.col("src_ip").is_in(list(truth.addresses))
            | pl.col("dst_ip").is_in(list(truth.addresses))
        ).to_series()
        during = time.is_between(truth.start, truth.end + 2 * NS)
        inside = (ours & during).fill_null(False)
        # What a resolver asks for the attacker comes after the attacker has asked.
        asked = flows.filter(inside)["dns_name"].drop_nulls().unique()
        inside |= (flows["dns_name"].is_in(asked.implode()) & during).fill_null(False)
        at = inside.to_numpy()
        moved[at] = truth.start + (moved[at] - truth.start) * times
        end = truth.start + (truth.end - truth.start) * times
        truths.append(
            Truth(
                truth.name,
                truth.kind,
                truth.actors,
                truth.addresses,
                truth.objects,
                truth.start,
                end,
            )
        )
    changed = capture.with_flows(
        flows.with_columns(time=pl.Series(moved).cast(flows.schema["time"]))
        .with_columns(end=pl.max_horizontal("time", "end"))
        .sort("time", maintain_order=True)
    )
    object.__setattr__(changed, "truths", tuple(truths))
    return changed


ALTERED: Final[dict[str, Callable[[Capture], Capture]]] = {
    "10 % of records lost": lossy,
    "1 s of disorder": reordered,
    "10 times slower": lambda capture: slower(capture, 10),
    "100 times slower": lambda capture: slower(capture, 100),
}
