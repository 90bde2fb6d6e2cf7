"""What a load of batched answers came to: the numbers of any answers, the batches that /metrics counts, the law."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict

from checks.harness.load.trace import MS
from checks.harness.report.batches import AtRate, BatchLaw
from checks.harness.report.spread import spread
from checks.support.ex6.laws import Load as Arrivals
from lab_guide.bench.answers import KEPT_ROWS, Told, numbers, rows
from lab_guide.bench.loads import Part, more
from lab_guide.bench.plan import Plan

RATES = 24
"""Rates at which the law is drawn."""


def counted(parts: Sequence[Part]) -> Told:
    """The numbers of a load, or of some one after the other, and its rows."""
    requests = [request for part in parts for request in part.trace.requests]
    kept = spread(requests, KEPT_ROWS)
    return {
        "measured": _one(parts[0]) if len(parts) == 1 else _together(parts),
        "rows": rows(kept, parts[0].trace.started),
        "left_out": len(requests) - len(kept),
    }


def _one(part: Part) -> Told:
    sizes = _sizes(part)
    told = numbers(part.trace, part.plan.window) | {"sizes": sizes, "batch_mean": _mean(sizes)}
    if part.plan.load == "open":
        law = by_law(part.plan, part.plan.rate)
        told["law"] = {"batch_mean": law.size, "mean_ms": law.mean_ms}
    return told


def _together(parts: Sequence[Part]) -> Told:
    """Of some loads: what became of all of their requests, and the batch and latency of each."""
    all_of_them = [numbers(part.trace, part.plan.window) for part in parts]
    points = [
        AtRate(
            round(len(part.trace.requests) / part.plan.seconds, 3) or part.plan.rate,
            _mean(_sizes(part)),
            told["mean_ms"],
        )
        for part, told in zip(parts, all_of_them, strict=True)
    ]
    last = points[-1]
    return {
        **{name: sum(told[name] for told in all_of_them) for name in ("requests", "answered", "refused")},
        "failed": {words: count for told in all_of_them for words, count in told["failed"].items()},
        "points": [asdict(point) for point in points],
        "batch_mean_80": last.size,
        "mean_ms_80": last.mean_ms,
        "law": {name: value for name, value in _law_at_80(parts[-1].plan, last.rate).items() if value is not None},
        "lag_p99_ms": max((told["lag_p99_ms"] for told in all_of_them if told["lag_p99_ms"]), default=None),
    }


def _law_at_80(plan: Plan, rate: float) -> dict[str, float | None]:
    law = by_law(plan, rate)
    return {"batch_mean_80": law.size, "mean_ms_80": law.mean_ms}


def by_law(plan: Plan, rate: float) -> AtRate:
    """What the law of exercise 6 says of a rate."""
    arrivals = Arrivals(rate, plan.batch_base_seconds, plan.batch_item_seconds, plan.batch_window, plan.max_batch)
    latency = arrivals.latency
    return AtRate(rate, round(arrivals.size, 3), None if math.isinf(latency) else round(latency * MS, 3))


def law_picture(plan: Plan, points: Sequence[AtRate]) -> BatchLaw:
    """What was measured, beside the law from a small rate to nearly all that the model can serve."""
    grid = {round(plan.capacity * n / (RATES + 1), 3) for n in range(1, RATES + 1)}
    rates = sorted(rate for rate in grid | {point.rate for point in points} if rate > 0)
    title = f"Batch and latency over the rate; max_batch {plan.max_batch}, window {plan.batch_window * MS:g} ms"
    return BatchLaw(title, [*points], [by_law(plan, rate) for rate in rates], round(plan.capacity, 3))


def _sizes(part: Part) -> dict[str, int] | None:
    """The batches by size, as the service counts them; None where it does not tell."""
    found = more(part, "batches", "sizes")
    return None if found is None else {size: count for size, count in found.items() if count and size.isdecimal()}


def _mean(sizes: dict[str, int] | None) -> float | None:
    return round(sum(int(n) * count for n, count in sizes.items()) / sum(sizes.values()), 3) if sizes else None
