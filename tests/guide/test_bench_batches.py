"""Batches on the bench: what is counted of them, what is drawn beside the law, and a real measurement."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from checks.harness.load.trace import Request, Trace
from checks.harness.report.batches import BatchLaw, BatchTimeline
from lab_guide.bench.batches import by_law, counted
from lab_guide.bench.loads import Part
from lab_guide.bench.plan import Plan
from lab_guide.bench.shown import pictures
from lab_guide.state import Guide
from tests.guide.conftest import to_the_end

PLAN: dict[str, Any] = {"path": "/predict/batched", "load": "open", "rate": 32, "seconds": 1}


def trace(*ended: float) -> Trace:
    """Requests that were due every 10 ms."""
    requests = (Request(n / 100, n / 100, end, 200, None, 0) for n, end in enumerate(ended))
    return Trace(tuple(requests), 0.0, 1.0)


def sizes(**counts: int) -> dict[str, Any]:
    """What /metrics says, with the sizes as `_3=1`."""
    return {"batches": {"waiting": 0, "sizes": {name[1:]: count for name, count in counts.items()}}}


def test_the_batches_of_a_load() -> None:
    """The mean batch is of what a load has added to the counts; the law is that of exercise 6."""
    part = Part(0, Plan(**PLAN), trace(0.2, 0.3), sizes(_1=1, _3=2), sizes(_1=1, _2=3, _3=4))
    measured = counted([part])["measured"]

    assert ({"2": 3, "3": 2}, 2.4) == (measured["sizes"], measured["batch_mean"])
    assert {"batch_mean": 2.783, "mean_ms": 130.435} == measured["law"]
    assert by_law(Plan(**PLAN), 80).mean_ms is None, "there is no end to it"


def test_a_service_that_does_not_count() -> None:
    """No sizes and no mean, but the latencies."""
    measured = counted([Part(0, Plan(**PLAN), trace(0.2), {}, {"batches": "x"})])["measured"]

    assert (None, None, 200.0) == (measured["sizes"], measured["batch_mean"], measured["mean_ms"])


def test_who_travelled_in_which() -> None:
    """Whose answers came together were in one batch, which is never larger than the plan's."""
    plan = Plan(**PLAN | {"max_batch": 2})
    rows: list[list[float]] = [[0, 100, 200], [10, 200, 200], [20, 201, 200], [30, 203, 200], [40, 90, 503]]
    (drawn,) = pictures(plan, rows, {"sizes": {"1": 2, "2": 1}})
    (other,) = pictures(plan, rows, {"sizes": {"4": 1}})

    assert isinstance(drawn, BatchTimeline)
    assert isinstance(other, BatchTimeline)
    assert [[0.0], [10.0, 20.0], [30.0]] == [batch.due for batch in drawn.batches]
    assert [17.5, 115.0, 120.5] == [batch.began for batch in drawn.batches]
    assert "as /metrics counts them" in drawn.note
    assert "/metrics counts 1" in other.note


def test_the_law_beside_what_was_measured() -> None:
    """A sweep gives a point for each load, and the law at the same rates and between them."""
    plan = Plan(**PLAN | {"load": "sweep"})
    ended = [n / 100 + 0.1 for n in range(64)]
    parts = [Part(times, load, trace(*ended), sizes(), sizes(_8=8)) for times, load in plan.parts]
    told = counted(parts)
    (drawn,) = pictures(plan, told["rows"], told["measured"])

    assert [8, 32, 64] == [pytest.approx(load.rate) for _, load in plan.parts]
    assert isinstance(drawn, BatchLaw)
    assert [(64.0, 8.0, 100.0)] * 3 == [(point.rate, point.size, point.mean_ms) for point in drawn.points]
    assert 64.0 in [at.rate for at in drawn.law]
    assert all(at.mean_ms is not None for at in drawn.law)
    assert told["measured"]["law"] == {"batch_mean_80": 6.095, "mean_ms_80": 142.857}


async def test_batches_are_measured(page: httpx.AsyncClient, guide: Guide, solved: Path) -> None:
    """Six at once in batches of four: the first alone or with whoever came with it, each within its batch's call."""
    plan = PLAN | {"load": "burst", "connections": 6, "max_batch": 4, "batch_window": 0.3, "batch_base_seconds": 0.1}
    await page.post("/bench", json={"plan": plan, "predicted": {"batch_mean": 3}})
    record = await to_the_end(guide)
    told = (await page.get(f"/bench/{record.name}")).json()

    assert "measured" == record.state, record.said
    assert record.measured is not None
    assert 6 == sum(int(size) * count for size, count in record.measured["sizes"].items())
    assert {"4": 1, "2": 1} == record.measured["sizes"]
    assert ["batches", "histogram"] == [one["kind"] for one in told["pictures"]]
    assert 6 == sum(len(batch["due"]) for batch in told["pictures"][0]["batches"])
