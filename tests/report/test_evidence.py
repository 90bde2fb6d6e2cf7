"""The data of pictures."""

from __future__ import annotations

import itertools
import json
import random
from dataclasses import asdict

import pytest
from pydantic import TypeAdapter

from checks.harness.load.percentiles import percentile
from checks.harness.load.streams import Stream
from checks.harness.report.batches import AtRate, Batch, BatchLaw, batch_timeline, together
from checks.harness.report.evidence import Bucket, Evidence, Span, Timeline, histogram, timeline
from checks.harness.report.pictures import draw
from checks.harness.report.token_timeline import OfferedStreams, TokenGoodput, token_timeline


def test_timeline_rows_are_ms_after_the_earliest() -> None:
    """A row tells in ms when it waited and when it worked; without a known start of work all of it is work."""
    picture = timeline([("#2", 10.5, 10.75, 11.0), ("#1", 10.0, None, 10.25)], "two requests")

    assert (
        Timeline("two requests", [Span("#2", 500.0, 750.0, 1000.0), Span("#1", 0.0, 0.0, 250.0)], left_out=0, note="")
        == picture
    )


@pytest.mark.parametrize("count", [0, 1, 64, 65, 130, 1000])
def test_timeline_keeps_an_even_spread(count: int) -> None:
    """Of more than 64 rows 64 are kept, evenly spread with the first and the last; the others are counted."""
    picture = timeline([(str(i), float(i), None, i + 1.0) for i in range(count)], "many")
    kept = [int(row.label) for row in picture.rows]
    gaps = {after - before for before, after in itertools.pairwise(kept)}

    assert min(count, 64) == len(set(kept)), "no row twice"
    assert count - len(kept) == picture.left_out
    assert max(gaps, default=0) - min(gaps, default=0) <= 1, "evenly spread"
    if count:
        assert [0, count - 1] == [kept[0], kept[-1]], "first and last are there"


def test_a_request_without_an_answer_is_drawn_to_the_last_time_of_all() -> None:
    """It has no time of its own: the card says "no answer" in its place."""
    picture = timeline([("#1", 0.0, None, 0.25), ("#2", 0.0, 0.1, None)], "one of two")

    drawn = [line.plain for line in draw(picture, width=80, ascii_only=True)]

    assert [("answered", 250.0), ("failed", 250.0)] == [(row.how, row.end) for row in picture.rows]
    assert drawn[1].endswith("| 250 ms")
    assert drawn[2].endswith("| no answer")


def test_the_card_shows_twelve_rows() -> None:
    """What the card draws of a timeline fits a screen; it counts what it leaves out."""
    rows = timeline([(f"#{i}", float(i), None, i + 1.0) for i in range(100)], "many")

    drawn = [line.plain for line in draw(rows, width=80, ascii_only=True)]

    assert 12 == sum("|" in line for line in drawn)
    assert any("and 88 more between them" in line for line in drawn)


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


def test_a_row_for_each_stream() -> None:
    """A bar until the first token, a mark for each, a stall between two; a refusal has none of them."""
    whole = Stream(1.0, (1.25, 1.3, 1.35, 1.75, 1.8), 2.0, 2.0, 200)
    refused = Stream(1.5, (), None, 1.625, 503, "refused")
    broken = Stream(1.5, (1.75,), None, 2.0, 200, "no event `done` at the end")
    picture = token_timeline([whole, refused, broken], "three streams")

    assert [2] == picture.rows[0].stalls
    assert (250.0, 137.5) == (picture.rows[0].ttft, picture.rows[0].tpot)
    assert picture == TypeAdapter(Evidence).validate_json(json.dumps(asdict(picture)))
    drawn = [line.plain for line in draw(picture, width=80, ascii_only=True)]
    assert drawn[1].startswith(" |............#")
    assert "~~~~#" in drawn[1]
    assert drawn[1].endswith("| 250 ms + 4 x 137.5")
    assert [" refused", " failed, tokens: 1"] == [line.rpartition("|")[2] for line in drawn[2:4]]


def test_goodput_is_a_table_in_the_terminal() -> None:
    """A row for each load; what is infinite says so."""
    points = [OfferedStreams(2, 16.0, 8.1, 0.4, None, 20.25)]
    drawn = [line.plain for line in draw(TokenGoodput("goodput", points, 8.0, 700, 40), width=80, ascii_only=True)]

    assert ["2", "x", "16.0", "8.1", "0.4", "inf", "20"] == drawn[2].split()


def test_batches_are_rows_of_one_call_each() -> None:
    """Requests that end together are one; the row has their number, and the wait of the first."""
    found = together([(1.0, 1.5), (1.1, 1.505), (1.2, 2.0)], 0.1, 8)
    picture = batch_timeline(found, lambda size: 0.1 * size, "two batches")
    drawn = [line.plain for line in draw(picture, width=72, ascii_only=True)]

    assert [[(1.0, 1.5), (1.1, 1.505)], [(1.2, 2.0)]] == found
    assert [Batch(300.0, 500.0, [0.0, 100.0]), Batch(900.0, 1000.0, [200.0])] == picture.batches
    assert picture == TypeAdapter(Evidence).validate_json(json.dumps(asdict(picture)))
    assert ["2", "1"] == [line.split()[0] for line in drawn[1:3]]
    assert ("." * 12 + "#" * 8) in drawn[1]


def test_no_batch_is_larger_than_the_most() -> None:
    """Two full ones that end nearly together are two."""
    assert [3, 2] == [len(batch) for batch in together([(0.0, 1.0)] * 5, 0.1, 3)]


def test_the_law_is_a_table_in_the_terminal() -> None:
    """What was measured, and beside it the law at that rate."""
    at, law = AtRate(8.0, 1.25, None), [AtRate(4.0, 1.0, 90.0), AtRate(8.0, 1.125, 95.0)]
    drawn = [line.plain for line in draw(BatchLaw("law", [at], law, 80.0), width=80, ascii_only=True)]

    assert ["8.0", "1.25", "1.12", "-", "95"] == drawn[2].split()
