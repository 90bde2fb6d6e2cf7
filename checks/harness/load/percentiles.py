"""Percentiles by nearest rank, and what other definitions give."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction


def percentile(samples: Iterable[float], q: float) -> float:
    """The q-th percentile by nearest rank: the least sample that at least q % of all samples do not exceed.

    Rank ceil(q/100 * n), counted from 1, in exact arithmetic; q=0 is the minimum, q=100 the maximum. The definition is
    Hyndman & Fan's 1 ("Sample Quantiles in Statistical Packages", 1996), the inverse of the empirical distribution.

    Raises:
        ValueError: no samples, or q not within 0..100.

    """
    ordered = sorted(samples)
    if not ordered:
        raise ValueError("a percentile needs at least one sample")
    if not 0 <= q <= 100:
        raise ValueError(f"a percentile is within 0..100, not {q}")
    # Through str, 99.9 is 999/10 and not the binary fraction next to it.
    rank = math.ceil(Fraction(str(q)) * len(ordered) / 100)
    return ordered[max(rank, 1) - 1]


def other_percentiles(samples: Sequence[float], q: int) -> dict[str, float]:
    """What other formulas give for the same samples, each with a name that fits after a number and a comma.

    The names of Hyndman & Fan's types 2 and 4 to 8 are those of `numpy.percentile(method=...)`.
    """
    ordered, n = sorted(samples), len(samples)
    steps = Fraction((n - 1) * q, 100)

    def ranked(rank: int, among: Sequence[float] = ordered) -> float:
        return among[min(max(rank, 1), n) - 1]

    def between(place: Fraction) -> float:
        """Linear interpolation at a place counted from 1, held within the samples."""
        below, share = math.floor(place), float(place % 1)
        return ranked(below) + (ranked(below + 1) - ranked(below)) * share

    def beyond(place: Fraction) -> float:
        """The same, extrapolated beyond the samples at both ends."""
        below = min(max(math.floor(place), 1), max(n - 1, 1))
        return ranked(below) + (ranked(below + 1) - ranked(below)) * float(place - below)

    share, exact = q / 100, Fraction(q * n, 100)
    whole = exact.denominator == 1 and 0 < q < 100
    below, above = ranked(math.floor(steps) + 1), ranked(math.ceil(steps) + 1)
    shifted = {
        "hazen": (Fraction(n), Fraction(1, 2)),
        "median_unbiased": (n + Fraction(1, 3), Fraction(1, 3)),
        "normal_unbiased": (n + Fraction(1, 4), Fraction(3, 8)),
        "interpolated_inverted_cdf": (Fraction(n), Fraction(0)),
    }
    weibull = "interpolated at rank (n + 1) * q / 100, as `statistics.quantiles` does"
    named = {
        "interpolated between two samples at (n - 1) * q / 100, as numpy does": between(steps + 1),
        weibull: between(Fraction((n + 1) * q, 100)),
        f"{weibull}, beyond the samples at both ends": beyond(Fraction((n + 1) * q, 100)),
        "the sample of that rank before sorting": ranked(-(-q * n // 100), samples),
        "the sample of rank ceil(q / 100 * n), which floats round up once too often": ranked(math.ceil(share * n)),
        "`ordered[int(n * q / 100)]`. If n * q / 100 is a whole number, this takes the next larger sample": ranked(
            int(n * q / 100) + 1
        ),
        "`ordered[int(n * (q / 100))]`. If n * q / 100 is a whole number, this mostly takes the next sample": ranked(
            int(n * share) + 1
        ),
        "`ordered[ceil(n * q / 100)]`, one rank too far: the first index is 0": ranked(math.ceil(exact) + 1),
        "the sample of the rank rounded down": ranked(math.floor(exact)),
        "the sample of the rank rounded to the nearest": ranked(round(q * n / 100)),
        "`ordered[int((n - 1) * q / 100)]`, the rank of n - 1 steps rounded down": ranked(int((n - 1) * q / 100) + 1),
        "`ordered[ceil((n - 1) * q / 100)]`, the rank of n - 1 steps rounded up": above,
        "`ordered[round((n - 1) * q / 100)]`, the nearest of n - 1 steps": ranked(round((n - 1) * q / 100) + 1),
        "half-way between the two samples around (n - 1) * q / 100": (below + above) / 2,
        "the sample of the rank (n + 1) * q / 100 rounded down": ranked((n + 1) * q // 100),
        "the sample of the rank (n + 1) * q / 100 rounded to the nearest": ranked(round((n + 1) * q / 100)),
        "the sample of the rank (n + 1) * q / 100 rounded up": ranked(-(-(n + 1) * q // 100)),
        "the mean of two samples where n * q / 100 is whole": (
            (ranked(int(exact)) + ranked(int(exact) + 1)) / 2 if whole else ranked(math.ceil(exact))
        ),
        "counted from the largest sample down": ranked(n + 1 - max(-(-q * n // 100), 1)),
        "with q as a share from 0 to 1": ranked(q * n),
        "the mean": math.fsum(samples) / n,
    }
    for method, (count, shift) in shifted.items():
        named[f"interpolated between two samples, as numpy's method {method!r} does"] = between(count * q / 100 + shift)
    return named
