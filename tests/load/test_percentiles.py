"""Percentiles by nearest rank."""

from __future__ import annotations

import random

import pytest

from checks.harness.load.percentiles import percentile


@pytest.mark.parametrize("seed", range(5))
def test_percentile_is_the_least_sample_that_covers_q_percent(seed: int) -> None:
    """A percentile is the least sample such that at least q % of all samples are no larger."""
    draw = random.Random(seed)
    samples = [draw.choice([draw.random(), 0.5]) for _ in range(draw.randint(1, 120))]

    for q in range(1, 101):
        by_definition = min(x for x in samples if 100 * sum(y <= x for y in samples) >= q * len(samples))
        assert by_definition == percentile(samples, q), f"p{q} of {len(samples)} samples"


def test_percentile_ranks_are_exact() -> None:
    """The rank is computed without binary fractions: p7 of 1..100 is 7, and p99.9 of 1..1000 is 999."""
    hundred = range(1, 101)

    assert list(hundred) == [percentile(hundred, q) for q in range(1, 101)], "the q-th percentile of 1..100 is q"
    assert 999 == percentile(range(1, 1001), 99.9), "a tenth of a percent is a rank of its own in 1000 samples"


def test_percentile_ends() -> None:
    """p0 is the minimum, p100 the maximum, and one sample is every percentile of itself."""
    samples = [3.0, 1.0, 2.0]

    assert 1.0 == percentile(samples, 0), "p0 is the minimum"
    assert 3.0 == percentile(samples, 100), "p100 is the maximum"
    assert {7.0} == {percentile([7.0], q) for q in (0, 50, 100)}, "one sample is all percentiles"


@pytest.mark.parametrize(("samples", "q"), [([], 50), ([1.0], -1), ([1.0], 100.5), ([1.0], float("nan"))])
def test_percentile_refuses(samples: list[float], q: float) -> None:
    """No samples, or a q that is no percentage, is a ValueError."""
    with pytest.raises(ValueError, match="percentile"):
        percentile(samples, q)
