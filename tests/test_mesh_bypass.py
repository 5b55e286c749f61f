"""Plain text where the mesh encrypts, and identities that a workload never bore."""

import math
from dataclasses import replace

import polars as pl
import pytest
from builders import flows, incidents, known, observed

from sidelong.models.baseline import Baseline
from sidelong.models.detectors import Detectors

DAY = 86_400
ENDS = "shop/web -> data/db:5432"


def meshed(encrypted: int, plain: int, told: str = ENDS) -> Baseline:
    """A baseline of one edge that was seen encrypted and in plain text for so many seconds."""
    baseline = known({told: max(1, encrypted + plain)})
    columns = {"encrypted": pl.lit(encrypted, pl.Int64), "plain": pl.lit(plain, pl.Int64)}
    return replace(baseline, contacts=baseline.contacts.with_columns(**columns))


def rows(encrypted: bool | None, *, ends: str = ENDS, times: int = 1, gap: int = 1) -> pl.DataFrame:
    told = flows(*(f"{n * gap}s {ends} SYN" for n in range(times)))
    return told.with_columns(encrypted=pl.lit(encrypted, pl.Boolean))


def weight(baseline: Baseline, told: pl.DataFrame) -> float:
    found = observed(Detectors(baseline), told).filter(statistic="plaintext")
    return 0.0 if found.is_empty() else float(found["level"][0] / 1e6)


def test_plain_text_on_an_edge_that_was_encrypted_is_as_rare_as_it_was() -> None:
    seldom = math.log(1_002)
    sensitive = math.log(100)
    assert weight(meshed(1_000, 0), rows(False)) == pytest.approx(seldom + sensitive, abs=1e-5)
    ends = "shop/web -> shop/api:80"
    within = weight(meshed(1_000, 0, ends), rows(False, ends=ends))
    assert within == pytest.approx(seldom, abs=1e-5)


def test_no_habit_alarms_alone_where_nothing_of_interest_is_reached() -> None:
    ends = "shop/web -> shop/api:80"
    assert weight(meshed(10**9, 0, ends), rows(False, ends=ends)) == 10.0


@pytest.mark.parametrize(("encrypted", "plain"), [(29, 0), (900, 100), (0, 1_000), (0, 0)])
def test_what_is_not_always_encrypted_is_no_habit(encrypted: int, plain: int) -> None:
    assert weight(meshed(encrypted, plain), rows(False)) == 0


@pytest.mark.parametrize("encrypted", [True, None])
def test_what_is_encrypted_or_unknown_bypasses_nothing(encrypted: bool | None) -> None:
    assert weight(meshed(1_000, 0), rows(encrypted)) == 0


def test_it_is_told_once_a_day() -> None:
    detectors = Detectors(meshed(50_000, 0))
    hourly = [observed(detectors, rows(False, times=1).with_columns(**at(n))) for n in range(30)]
    told = [frame.filter(statistic="plaintext").height for frame in hourly]
    assert (sum(told), told.index(1, 1)) == (2, 24)


def at(hours: int) -> dict[str, pl.Expr]:
    later = pl.duration(hours=hours)
    return {name: (pl.col(name) + later).cast(pl.Datetime("ns", "UTC")) for name in ("time", "end")}


def test_a_database_reached_past_the_mesh_alarms() -> None:
    (incident,) = (one for one in incidents(rows(False), meshed(50_000, 0)) if one.status == "open")
    assert incident.kind == "lateral_movement"
    assert incident.summary.endswith(
        " talked to data/db:5432 in plain text, past the mesh: "
        "it was encrypted in 50000 of 50000 seconds."
    )


def bearing(*accounts: str) -> Baseline:
    baseline = known({"shop/web -> shop/api:80": 20_000, "shop/api -> shop/db:5432": 9})
    column = pl.Series([list(accounts)] * 2, dtype=pl.List(pl.String))
    return replace(baseline, workloads=baseline.workloads.with_columns(accounts=column))


@pytest.mark.parametrize(
    ("accounts", "principal", "impostor"),
    [
        (("spiffe://td/ns/shop/sa/web",), "spiffe://td/ns/shop/sa/web", False),
        (("spiffe://td/ns/shop/sa/web",), "spiffe://td/ns/shop/sa/admin", True),
        (("spiffe://td/ns/mesh/sa/gateway",), "spiffe://td/ns/mesh/sa/gateway", False),
        (("spiffe://td/ns/shop/sa/web",), None, False),
        ((), "spiffe://td/ns/shop/sa/admin", False),  # of its own namespace, and no more is known
        ((), "spiffe://td/ns/evil/sa/web", True),
    ],
)
def test_an_impostor_bears_an_identity_that_its_workload_never_had(
    accounts: tuple[str, ...], principal: str | None, impostor: bool
) -> None:
    told = flows("0s shop/web -> shop/db:5432 SYN")
    told = told.with_columns(src_principal=pl.lit(principal, pl.String))
    evidence = observed(Detectors(bearing(*accounts)), told).filter(kind="lateral_movement")
    parts = {one["feature"]: one for one in evidence["parts"].item()}
    assert ("identity" in parts) is impostor
    if impostor and accounts:
        assert parts["identity"]["expected"] == ", ".join(accounts)


def test_what_a_node_does_is_shared_by_its_pods() -> None:
    busy = {"reserved:remote-node -> shop/api:80": 20_000, "shop/web -> data/db:5432": 90}
    told = flows("0s reserved:remote-node -> data/db:5432 SYN")
    (row,) = (
        observed(Detectors(known(busy)), told).filter(kind="lateral_movement").iter_rows(named=True)
    )
    parts = {one["feature"]: one["log_evidence"] for one in row["parts"]}
    assert parts["via_node"] == -round(math.log(30) * 1e6)
    assert sum(parts.values()) == row["level"]
