"""Quantiles of the Beta distribution, against the integral of its density."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidelong.models.beta import beta_quantile

NODES, WEIGHTS = np.polynomial.legendre.leggauss(128)  # exact for polynomials to degree 255


def mass_below(x: float, successes: int, failures: int) -> float:
    """The integral of the density from 0 to x, a polynomial of degree successes + failures - 2."""
    at = x * (NODES + 1) / 2
    log_scale = (
        math.lgamma(successes + failures) - math.lgamma(successes) - math.lgamma(failures)
    )  # 1 / B(a, b)
    density = np.exp(log_scale + (successes - 1) * np.log(at) + (failures - 1) * np.log1p(-at))
    return float((WEIGHTS * density).sum() * x / 2)


@given(st.floats(0.001, 0.999), st.integers(1, 120), st.integers(1, 120))
def test_the_mass_below_the_quantile_is_the_probability_asked_for(
    probability: float, successes: int, failures: int
) -> None:
    x = beta_quantile(probability, successes, failures)
    assert mass_below(x, successes, failures) == pytest.approx(probability, abs=1e-8)


def test_with_one_success_and_one_failure_it_is_the_probability_itself() -> None:
    assert beta_quantile(0.3, 1, 1) == pytest.approx(0.3, abs=1e-9)


def test_more_experience_of_the_same_kind_narrows_it() -> None:
    bounds = [beta_quantile(0.05, 19 * n, n) for n in (1, 10, 100, 1_000)]
    assert bounds == sorted(bounds)
    assert bounds[-1] < 0.95


def test_hundreds_of_thousands_of_contacts_are_no_trouble() -> None:
    assert beta_quantile(0.05, 950_000, 50_000) == pytest.approx(0.95, abs=0.001)
