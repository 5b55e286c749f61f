"""The Beta distribution with whole parameters, which needs no library of statistics."""

import numpy as np

__all__ = ["beta_quantile"]


def beta_quantile(probability: float, successes: int, failures: int) -> float:
    """The quantile of Beta(successes, failures), both at least 1, to nine digits.

    The distribution function is a binomial tail: I_x(a, b) = P(Binomial(a + b - 1, x) >= a), here
    summed over its complement, which has only `failures` terms (NIST DLMF 8.17.5).

    >>> round(beta_quantile(0.05, 19, 1), 3)  # 0.05 ** (1 / 19)
    0.854
    """
    trials = successes + failures - 1
    if failures > successes:
        return 1.0 - beta_quantile(1.0 - probability, failures, successes)
    k = np.arange(failures)
    # Of each count of failures, the logarithm of the number of ways: C(n, k) from C(n, k - 1).
    ways = np.cumsum(np.log((trials - k + 1) / np.maximum(k, 1)) * (k > 0))
    low, high = 0.0, 1.0
    for _ in range(60):
        x = (low + high) / 2
        below = np.exp(ways + (trials - k) * np.log(x) + k * np.log1p(-x)).sum()
        low, high = (x, high) if below < probability else (low, x)
    return low
