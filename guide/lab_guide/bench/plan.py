"""What can be measured, and what has to be predicted of it before."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, model_validator

Load = Literal["burst", "closed", "open"]

Number = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]

QUANTITIES = {
    "last_s": "last answer after, s",
    "per_second": "answers per second",
    "mean_ms": "mean latency, ms",
    "p95_ms": "p95, ms",
    "refused_per_second": "refusals per second",
}
"""What can be predicted, and how it is called. Latency counts from when a request was due."""

ASKED: dict[Load, tuple[str, ...]] = {
    "burst": ("last_s", "per_second"),
    "closed": ("per_second", "mean_ms", "p95_ms"),
    "open": ("per_second", "p95_ms", "refused_per_second"),
}
"""Of which of these a prediction is asked, for each kind of load."""


class Plan(BaseModel, extra="forbid", frozen=True):
    """What is measured. A field that a kind of load has no use for is left as it is.

    `burst` sends one request on each of `connections`, all together. `closed` sends on each the next request as soon as
    the last one was answered, for `seconds`. `open` sends `rate` requests/s at random times for `seconds`, however
    slowly they are answered. `inference_seconds` is how long the model takes. Without `max_in_flight` and `max_queue`
    admission control is lifted, as in the checkpoints.
    """

    path: Literal["/predict", "/predict/threaded", "/predict/blocking"]
    load: Load
    connections: Annotated[int, Field(ge=1, le=500)] = 60
    rate: Annotated[float, Field(gt=0, le=2000, allow_inf_nan=False)] = 50.0
    seconds: Annotated[float, Field(ge=0.5, le=60, allow_inf_nan=False)] = 5.0
    workers: Annotated[int, Field(ge=1, le=8)] = 1
    inference_seconds: Annotated[float, Field(ge=0, le=5, allow_inf_nan=False)] = 0.1
    max_in_flight: Annotated[int, Field(ge=1, le=10_000)] | None = None
    max_queue: Annotated[int, Field(ge=0, le=10_000)] | None = None

    @property
    def settings(self) -> dict[str, float]:
        """The service's settings that the plan sets."""
        limits = {"max_in_flight": self.max_in_flight, "max_queue": self.max_queue}
        set_here = {name: value for name, value in limits.items() if value is not None}
        # Whoever sets a limit measures admission control: its own limit on waiting is the service's again.
        return {"inference_seconds": self.inference_seconds, **set_here, **({"queue_seconds": 1.0} if set_here else {})}

    def __str__(self) -> str:
        """The plan in words, in one line."""
        kind = {
            "burst": f"{self.connections} request{'s' if self.connections > 1 else ''} at once",
            "closed": f"closed loop, {self.connections} user{'s' if self.connections > 1 else ''}, {self.seconds:g} s",
            "open": f"open loop, {self.rate:g} requests/s, {self.seconds:g} s",
        }[self.load]
        workers = f"{self.workers} worker{'s' if self.workers > 1 else ''}"
        limits = [
            f"{name} {value}"
            for name, value in (("max_in_flight", self.max_in_flight), ("max_queue", self.max_queue))
            if value is not None
        ]
        return ", ".join([f"{self.path}: {kind}", workers, f"model {self.inference_seconds:g} s", *limits])


class Predicted(BaseModel, extra="forbid", frozen=True):
    """What a learner expects; see `QUANTITIES`."""

    last_s: Number | None = None
    per_second: Number | None = None
    mean_ms: Number | None = None
    p95_ms: Number | None = None
    refused_per_second: Number | None = None


class Wish(BaseModel, extra="forbid", frozen=True):
    """A plan with its prediction. There is none without. `cell` is the field of a lesson that it is measured for."""

    plan: Plan
    predicted: Predicted
    cell: Annotated[str, Field(max_length=20)] = ""

    @model_validator(mode="after")
    def _is_predicted(self) -> Self:
        if all(getattr(self.predicted, name) is None for name in ASKED[self.plan.load]):
            wanted = " or ".join(QUANTITIES[name] for name in ASKED[self.plan.load])
            raise ValueError(f"write down what you expect first: {wanted}")
        return self


def digits(value: float) -> str:
    """A number with four digits that count, never in the notation of powers."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def error_percent(predicted: float, measured: float) -> float | None:
    """How far a prediction is from what was measured, in percent of that: below 0 it was too low."""
    return (predicted - measured) / measured * 100 if measured else None
