"""What can be predicted of a measurement, how it is called, and of which a prediction is asked."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

Kind = Literal["answer", "stream", "batch"]
"""What a path gives: one answer, a stream of tokens, or an answer out of a batch."""

Load = Literal["burst", "closed", "open", "sweep"]

Number = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]

QUANTITIES = {
    "last_s": "last answer after, s",
    "per_second": "answers per second",
    "mean_ms": "mean latency, ms",
    "p95_ms": "p95, ms",
    "refused_per_second": "refusals per second",
    "ttft_p50_ms": "TTFT p50, ms",
    "tpot_p50_ms": "TPOT p50, ms",
    "ttft_p95_ms": "TTFT p95, ms",
    "tpot_p95_ms": "TPOT p95, ms",
    "goodput": "goodput, streams per second",
    "slots_held": "slots held, on average",
    "goodput_1x": "goodput at the capacity, streams per second",
    "goodput_2x": "goodput at twice the capacity",
    "batch_mean": "mean batch",
    "batch_mean_80": "mean batch at 80 % of the capacity",
    "mean_ms_80": "mean latency at 80 % of the capacity, ms",
}
"""What can be predicted, and how it is called. Latency counts from when a request was due."""

ASKED: dict[Kind, dict[Load, tuple[str, ...]]] = {
    "answer": {
        "burst": ("last_s", "per_second"),
        "closed": ("per_second", "mean_ms", "p95_ms"),
        "open": ("per_second", "p95_ms", "refused_per_second"),
    },
    "stream": {
        "burst": ("last_s", "ttft_p95_ms"),
        "closed": ("per_second", "ttft_p50_ms", "tpot_p50_ms"),
        "open": ("ttft_p95_ms", "tpot_p95_ms", "goodput", "slots_held"),
        "sweep": ("goodput_1x", "goodput_2x"),
    },
    "batch": {
        "burst": ("last_s", "batch_mean"),
        "closed": ("per_second", "batch_mean", "mean_ms"),
        "open": ("batch_mean", "mean_ms", "p95_ms"),
        "sweep": ("batch_mean_80", "mean_ms_80"),
    },
}
"""Of which of these a prediction is asked, for each load that a kind of path can get."""


class Predicted(BaseModel, extra="forbid", frozen=True):
    """What a learner expects; see `QUANTITIES`."""

    last_s: Number | None = None
    per_second: Number | None = None
    mean_ms: Number | None = None
    p95_ms: Number | None = None
    refused_per_second: Number | None = None
    ttft_p50_ms: Number | None = None
    tpot_p50_ms: Number | None = None
    ttft_p95_ms: Number | None = None
    tpot_p95_ms: Number | None = None
    goodput: Number | None = None
    slots_held: Number | None = None
    goodput_1x: Number | None = None
    goodput_2x: Number | None = None
    batch_mean: Number | None = None
    batch_mean_80: Number | None = None
    mean_ms_80: Number | None = None


def digits(value: float) -> str:
    """A number with four digits that count, never in the notation of powers."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def error_percent(predicted: float, measured: float) -> float | None:
    """How far a prediction is from what was measured, in percent of that: below 0 it was too low."""
    return (predicted - measured) / measured * 100 if measured else None
