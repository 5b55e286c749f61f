"""The Beta distribution with whole parameters, which needs no library."""

import math

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
    logs = [
        math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1)
        for k in range(failures)
    ]
    low, high = 0.0, 1.0
    for _ in range(60):
        x = (low + high) / 2
        # k failures of the trials: x ** (trials - k) * (1 - x) ** k
        below = sum(
            math.exp(log + (trials - k) * math.log(x) + k * math.log1p(-x))
            for k, log in enumerate(logs)
        )
        low, high = (x, high) if below < probability else (low, x)
    return low
