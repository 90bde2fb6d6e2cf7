"""Streams on the bench: what is counted of them, what is drawn, and a real measurement of the solution."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from checks.harness.load.trace import Request, Trace
from checks.harness.report.token_timeline import TokenGoodput, TokenTimeline
from lab_guide.bench.loads import Part, more
from lab_guide.bench.plan import Plan
from lab_guide.bench.quantities import Predicted
from lab_guide.bench.shown import pictures
from lab_guide.bench.streams import counted
from lab_guide.state import Guide
from tests.guide.conftest import to_the_end

PLAN: dict[str, Any] = {"path": "/generate", "load": "open", "rate": 8, "seconds": 2, "max_tokens": 3}


def request(scheduled: float, *tokens: float, done: float | None = None, status: int = 200) -> Request:
    """A stream whose tokens came so many seconds after it was due."""
    pieces = [(scheduled + after, b'data: {"token": "a"}\n\n') for after in tokens]
    if done is not None:
        pieces.append((scheduled + done, b'event: done\ndata: {"tokens": 3}\n\n'))
    end = scheduled + (done or max(tokens, default=0.1))
    return Request(scheduled, scheduled, end, status, None, 0, pieces=tuple(pieces))


def ends(**counts: int) -> dict[str, Any]:
    """What /metrics says."""
    return {"streams": {"ends": counts}}


REQUESTS = (
    request(100.0, 0.25, 0.28, 0.31, done=0.5),  # of use
    request(100.5, 0.75, 0.78, 0.81, done=1.0),  # late
    request(101.0, 0.25, 0.35, 0.45, done=0.5),  # slow
    request(101.0, 0.25, 0.28),  # no end
    request(101.5, status=503),
)


def test_the_numbers_of_a_load() -> None:
    """Both limits make the goodput; failures are infinite in the tails; the service's own counts stand beside."""
    part = Part(0, Plan(**PLAN), Trace(REQUESTS, 100.0, 103.0), ends(finished=1), ends(finished=4, refused=1))
    told = counted([part])
    measured = told["measured"]

    assert (5, 3, 1) == tuple(measured[name] for name in ("requests", "answered", "refused"))
    assert {"no event `done` at the end": 1} == measured["failed"]
    assert 1.6 == pytest.approx(measured["seconds"])
    assert pytest.approx([3 / 1.6, 1 / 1.6], abs=1e-3) == [measured["per_second"], measured["goodput"]]
    assert {"p50": 250.0, "p95": None, "p99": None} == measured["tails"]["ttft"]
    assert {"p50": 100.0, "p95": None, "p99": None} == measured["tails"]["tpot"]
    assert (250.0, 100.0) == (measured["ttft_p50_ms"], measured["tpot_p50_ms"])
    assert {"p50": 30.0, "p95": 100.0, "p99": 100.0} == measured["tails"]["itl"]
    assert ["ttft_p95_ms", "ttft_p99_ms", "tpot_p95_ms", "tpot_p99_ms"] == measured["never"]
    assert pytest.approx((4 * 0.2 + 0.06 + 0.06 + 0.2 + 0.03) / 1.6, abs=1e-3) == measured["slots_held"]
    assert {"finished": 3, "refused": 1} == measured["ends"]
    assert [0.0, 500.0, 200, 250.0, 280.0, 310.0] == told["rows"][0]
    assert [200, 200, 200, 0, 503] == [row[2] for row in told["rows"]]


@pytest.mark.parametrize("told", [{}, {"streams": 3}, {"streams": {"ends": [1]}}, {"streams": {"ends": {"left": "x"}}}])
def test_metrics_that_say_nothing(told: dict[str, Any]) -> None:
    """A service may have no such counts yet, or other ones."""
    part = Part(0, Plan(**PLAN), Trace((), 0.0, 0.0), told, told)

    assert more(part, "streams", "ends") is None


def test_what_is_drawn_of_rows() -> None:
    """A row for each stream with its TTFT and TPOT, refusals and broken ones among them, and the stalls."""
    plan = Plan(**PLAN)
    rows: list[list[float]] = [[0, 400, 200, 200, 210, 220, 330, 340], [50, 60, 503], [60, 300, 0, 260], [70, 300, 0]]
    (drawn,) = pictures(plan, rows, {})

    assert isinstance(drawn, TokenTimeline)
    assert ["finished", "refused", "failed", "failed"] == [row.how for row in drawn.rows]
    assert [200.0, None, 200.0, None] == [row.ttft for row in drawn.rows]
    assert [35.0, None, None, None] == [row.tpot for row in drawn.rows]
    assert [2] == drawn.rows[0].stalls
    assert (200.0, 340.0) == (drawn.rows[0].tokens[0], drawn.rows[0].tokens[-1])


def test_a_sweep_offers_parts_of_the_capacity() -> None:
    """Half of what the slots can decode, all of it, twice; each has its goodput, and all of them are one picture."""
    plan = Plan(**PLAN | {"load": "sweep", "max_tokens": 16})
    parts = [Part(times, load, Trace(REQUESTS, 100.0, 103.0), {}, {}) for times, load in plan.parts]
    told = counted(parts)
    drawn = pictures(plan, told["rows"], told["measured"])

    assert 8 == pytest.approx(plan.capacity)
    assert [4, 8, 16] == [pytest.approx(load.rate) for _, load in plan.parts]
    assert "0.5 x, 1 x, 2 x of 8 streams/s" in str(plan)
    assert [0.625, 0.625] == [told["measured"][name] for name in ("goodput_1x", "goodput_2x")]
    assert isinstance(drawn[0], TokenGoodput)
    first = drawn[0].points[0]
    assert (0.5, 2.5, 750.0, None) == (first.times, first.sent, first.ttft_p95_ms, first.tpot_p95_ms)
    assert 15 == len(told["rows"])


async def test_a_run_in_the_form_of_aiperf(page: httpx.AsyncClient, guide: Guide) -> None:
    """A record for each stream: what finished has its metrics, one token no time per token, and a failure its error."""
    record = guide.bench.write_down(Plan(**PLAN), Predicted(goodput=1))
    record.rows = [[0, 400, 200, 200, 210, 230], [50, 350, 200, 300], [60, 70, 503]]
    guide.bench.keep(record)
    answer = await page.get(f"/bench/{record.name}/aiperf")
    whole, short, refused = map(json.loads, answer.text.splitlines())

    assert "profile_export.jsonl" in answer.headers["content-disposition"]
    assert 400_000_000 == pytest.approx(whole["metadata"]["request_end_ns"] - whole["metadata"]["request_start_ns"])
    assert {"value": 200.0, "unit": "ms"} == whole["metrics"]["time_to_first_token"]
    assert {"value": 15.0, "unit": "ms"} == whole["metrics"]["inter_token_latency"]
    assert {"value": [10.0, 20.0], "unit": "ms"} == whole["metrics"]["inter_chunk_latency"]
    assert {"value": 3, "unit": "tokens"} == whole["metrics"]["output_sequence_length"]
    assert {"request_latency", "time_to_first_token", "output_sequence_length"} == set(short["metrics"])
    assert ({}, 503) == (refused["metrics"], refused["error"]["code"])
    assert 404 == (await page.get("/bench/20200101T000000/aiperf")).status_code


@pytest.mark.parametrize(
    ("change", "predicted", "said"),
    [
        ({"path": "/predict", "load": "sweep"}, {"per_second": 1}, "no such load"),
        ({"workers": 2}, {"goodput": 1}, "one worker"),
        ({"max_tokens": 513}, {"goodput": 1}, "512"),
        ({}, {"mean_ms": 1}, "write down what you expect first: TTFT p95, ms or"),
    ],
)
async def test_what_cannot_be_measured_of_streams(
    page: httpx.AsyncClient, change: dict[str, Any], predicted: dict[str, Any], said: str
) -> None:
    """Limits of the plan, and a prediction of another kind."""
    answer = await page.post("/bench", json={"plan": PLAN | change, "predicted": predicted})

    assert 422 == answer.status_code
    assert said in answer.text


async def test_streams_are_measured(page: httpx.AsyncClient, guide: Guide, solved: Path) -> None:
    """Five at once, two slots, a queue of two: two at once, two behind them, one refused; each token has its time."""
    plan = PLAN | {"load": "burst", "connections": 5, "decoder_slots": 2, "decoder_queue": 2, "queue_seconds": 30}
    plan |= {"prefill_seconds": 0.2, "token_seconds": 0.05}
    await page.post("/bench", json={"plan": plan, "predicted": {"ttft_p95_ms": 500}})
    record = await to_the_end(guide)
    measured = record.measured
    told = (await page.get(f"/bench/{record.name}")).json()

    assert "measured" == record.state, record.said
    assert measured is not None
    assert (5, 4, 1, {}) == tuple(measured[name] for name in ("requests", "answered", "refused", "failed"))
    assert {"finished": 4, "left": 0, "failed": 0, "refused": 1} == measured["ends"]
    finished = sorted(row for row in record.rows if row[2] == 200)
    assert [6] * 4 == [len(row) for row in finished]
    assert all(later - earlier >= 40 for row in finished for earlier, later in pairwise(row[3:]))
    first = sorted(row[3] - row[0] for row in finished)
    assert first[0] >= 190
    assert first[2] >= 490, "the first of the two behind waited for a slot"
    assert ["tokens", "histogram"] == [one["kind"] for one in told["pictures"]]
    assert math.isfinite(measured["tails"]["ttft"]["p50"])


@pytest.mark.exhaustive
async def test_goodput_over_load(page: httpx.AsyncClient, guide: Guide, solved: Path) -> None:
    """Three short loads in one run: what is finished does not exceed what the slots can decode."""
    plan = PLAN | {"load": "sweep", "seconds": 1.5, "max_tokens": 16, "decoder_slots": 2}
    await page.post("/bench", json={"plan": plan, "predicted": {"goodput_2x": 2}})
    record = await to_the_end(guide)

    assert "measured" == record.state, record.said
    assert record.measured is not None
    points = record.measured["points"]
    assert [0.5, 1, 2] == [point["times"] for point in points]
    assert all(point["goodput"] <= point["finished"] <= 4.05 for point in points), points
    assert all(point["goodput"] <= point["sent"] for point in points)


@pytest.mark.exhaustive
async def test_a_stream_that_is_still_a_stub(page: httpx.AsyncClient, guide: Guide, solved: Path) -> None:
    """The service of exercise 4 starts and has no stream yet: the stub's words, and no numbers."""
    text = (solved / "lab/service.py").read_text()
    begin = "    settings: Settings = request.app.state.settings\n    return TokenStream("
    assert begin in text
    (solved / "lab/service.py").write_text(
        text.replace(begin, '    raise NotImplementedError("7.3: generate")\n' + begin)
    )
    await page.post("/bench", json={"plan": PLAN, "predicted": {"goodput": 1}})
    record = await to_the_end(guide)

    assert ("stub", None) == (record.state, record.measured)
    assert "7.3: generate" in record.said
