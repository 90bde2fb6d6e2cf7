"""Percentiles by nearest rank."""

from __future__ import annotations

import random
import statistics

import pytest

from checks.harness.load.percentiles import other_percentiles, percentile


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


def test_other_formulas_have_their_names() -> None:
    """What the standard library gives is what the formula of that name gives; each formula is wrong somewhere."""
    draw = random.Random(7)
    samples = [draw.lognormvariate(3, 1) for _ in range(20)]
    answers = {q: other_percentiles(samples, q) for q in range(1, 100)}
    exclusive = statistics.quantiles(samples, n=100)
    inclusive = statistics.quantiles(samples, n=100, method="inclusive")

    for q in range(1, 100):
        named = answers[q]
        assert exclusive[q - 1] in [pytest.approx(named[name]) for name in named if "beyond the samples" in name]
        assert inclusive[q - 1] in [pytest.approx(named[name]) for name in named if "as numpy does" in name]
    hundred = range(1, 101)
    for name in answers[1]:
        right = all(other_percentiles(samples, q)[name] == percentile(samples, q) for q in answers)
        exact = all(other_percentiles(hundred, q)[name] == q for q in answers)
        assert not (right and exact), f"{name} is the nearest rank"
