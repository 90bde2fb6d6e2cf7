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
    """What other ideas of a percentile give for the same samples, each named in words that fit after a number."""
    ordered, n = sorted(samples), len(samples)
    place = (n - 1) * q / 100
    below, above = ordered[math.floor(place)], ordered[math.ceil(place)]

    def ranked(rank: int, among: Sequence[float] = ordered) -> float:
        return among[min(max(rank, 1), n) - 1]

    return {
        "the sample of that rank before sorting": ranked(-(-q * n // 100), samples),
        "the sample of rank ceil(q / 100 * n), which floats round up once too often": ranked(math.ceil(q / 100 * n)),
        "`ordered[int(n * q / 100)]`, one rank too far": ranked(int(n * q / 100) + 1),
        "the sample of the rank rounded down": ranked(q * n // 100),
        "the sample of the rank rounded to the nearest": ranked(round(q * n / 100)),
        "interpolated between two samples, as numpy does": below + (above - below) * (place % 1),
        "the mean": math.fsum(samples) / n,
    }
