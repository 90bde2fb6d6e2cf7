"""The numbers and the pictures' data of recorded requests."""

from __future__ import annotations

import itertools
import random

import pytest

from checks.harness.load.percentiles import percentile
from checks.harness.load.trace import Request, Trace
from checks.harness.report.evidence import Bucket, Span, Timeline, histogram, timeline


def request(
    scheduled: float = 0.0,
    sent: float | None = None,
    finished: float | None = None,
    *,
    status: int = 200,
    error: str | None = None,
    gave_up: float | None = None,
) -> Request:
    """A request that was sent when it was scheduled, unless said otherwise."""
    sent = scheduled if sent is None else sent
    return Request(scheduled, sent, finished, None if finished is None else status, error, 0, None, gave_up)


def trace(*requests: Request, started: float = 0.0, ended: float = 100.0) -> Trace:
    """A trace of these requests."""
    return Trace(tuple(requests), started, ended)


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


def test_latency_counts_from_scheduled() -> None:
    """A request that was sent late has waited since it was scheduled."""
    late = request(scheduled=1.0, sent=3.0, finished=4.0)

    assert 3.0 == late.latency, "1 s of service time, 2 s before it was sent"


def test_unfinished_has_no_latency() -> None:
    """A request without a whole answer has no latency and is not ok."""
    lost = request(error="connection reset", gave_up=5.0)

    assert lost.latency is None, "it never finished, however long it took to give up"
    assert not lost.ok, "an error is not ok"


def test_answered_and_errors_share_out_all_requests() -> None:
    """Only a whole 200 is an answer; everything else is counted by what went wrong, a refusal by its status."""
    good, refused, lost = request(finished=0.5), request(finished=0.1, status=503), request(error="connection reset")
    run = trace(good, refused, refused, lost)

    assert (good,) == run.answered, "of the four, one got its 200"
    assert {"status 503": 2, "connection reset": 1} == run.errors, "the other three, in plain words"
    assert [0.5] == run.latencies(), "a fast refusal is no latency"


def test_throughput_runs_from_start_to_last_finish() -> None:
    """Throughput divides the answers by the time to the last of them, not by the time until the load was cleared up."""
    run = trace(request(finished=12.0), request(finished=14.0), request(error="no answer"), started=10.0, ended=99.0)

    assert 0.5 == run.throughput, "2 answers in 4 s"
    assert 0.0 == trace(request(error="no answer")).throughput, "no answer, no throughput"
    assert 0.0 == trace(request(finished=0.0)).throughput, "no time, no throughput to tell"


def test_timeline_rows_are_ms_after_the_earliest() -> None:
    """A row tells in ms when it waited and when it worked; without a known start of work all of it is work."""
    picture = timeline([("#2", 10.5, 10.75, 11.0), ("#1", 10.0, None, 10.25)], "two requests")

    assert (
        Timeline("two requests", [Span("#2", 500.0, 750.0, 1000.0), Span("#1", 0.0, 0.0, 250.0)], left_out=0, note="")
        == picture
    )


@pytest.mark.parametrize("count", [0, 1, 12, 13, 39, 1000])
def test_timeline_keeps_an_even_spread(count: int) -> None:
    """Of more than 12 rows 12 are kept, evenly spread with the first and the last; the others are counted."""
    picture = timeline([(str(i), float(i), None, i + 1.0) for i in range(count)], "many")
    kept = [int(row.label) for row in picture.rows]
    gaps = {after - before for before, after in itertools.pairwise(kept)}

    assert min(count, 12) == len(set(kept)), "no row twice"
    assert count - len(kept) == picture.left_out
    assert max(gaps, default=0) - min(gaps, default=0) <= 1, "evenly spread"
    if count:
        assert [0, count - 1] == [kept[0], kept[-1]], "first and last are there"


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("spread", [1.5, 1000.0])
def test_histogram_counts_every_sample_once(seed: int, spread: float) -> None:
    """At most 12 buckets, side by side from the smallest to the largest sample, hold each sample once."""
    draw = random.Random(seed)
    samples = [0.001 * spread ** draw.random() for _ in range(500)]
    picture = histogram(samples, "latencies")
    buckets = picture.buckets

    assert 12 == len(buckets)
    assert 500 == sum(bucket.count for bucket in buckets) == picture.count
    assert [b.high for b in buckets[:-1]] == [b.low for b in buckets[1:]], "no gap, no overlap"
    assert pytest.approx([min(samples) * 1000, max(samples) * 1000], abs=1e-3) == [
        buckets[0].low,
        buckets[-1].high,
    ]
    assert round(percentile(samples, 95) * 1000, 3) == picture.p95


def test_histogram_spacing() -> None:
    """Buckets are equally wide, but equally wide in the logarithm for samples that span over 20 times."""
    near = histogram([0.010 + 0.001 * i for i in range(13)], "near").buckets
    far = histogram([0.001 * 2**i for i in range(13)], "far").buckets

    assert pytest.approx([1.0] * 12) == [bucket.high - bucket.low for bucket in near]
    assert pytest.approx([2.0] * 12) == [bucket.high / bucket.low for bucket in far]


def test_histogram_of_equal_samples_and_of_none() -> None:
    """Equal samples share one bucket, and no samples are a histogram without buckets, not an error."""
    equal, empty = histogram([0.05] * 7, "equal"), histogram([], "empty")

    assert [Bucket(50.0, 50.0, 7)] == equal.buckets
    assert [50.0] * 3 == [equal.p50, equal.p95, equal.p99]
    assert ([], 0, None) == (empty.buckets, empty.count, empty.p99)
    assert 3 == sum(bucket.count for bucket in histogram([0.0, 0.0, 0.1], "zeros").buckets), "0 has no logarithm"
