"""What can be measured, and what has to be predicted of it before."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, model_validator

from lab_guide.bench.quantities import ASKED, QUANTITIES, Kind, Load, Predicted

Path = Literal["/predict", "/predict/threaded", "/predict/blocking", "/predict/batched", "/generate"]

SWEEP: dict[Kind, tuple[float, ...]] = {"stream": (0.5, 1, 2), "batch": (0.1, 0.4, 0.8)}
"""What a sweep offers, in times of the capacity. The law of batching is said to hold up to 0.8."""

LEAST = 0.001
"""Seconds: what a service takes whose model takes none."""


class Plan(BaseModel, extra="forbid", frozen=True):
    """What is measured. A field that a kind of load or path has no use for is left as it is.

    `burst` sends one request on each of `connections`, all together. `closed` sends on each the next request as soon as
    the last one was answered, for `seconds`. `open` sends `rate` requests/s at random times for `seconds`, however
    slowly they are answered. `sweep` is some open loads of `seconds`, one after the other. `inference_seconds` is how
    long the model takes. Without `max_in_flight` and `max_queue` admission control is lifted, as in the checkpoints.

    Of `/generate` only: each request wants `max_tokens` tokens; an answer is of use within `ttft_ms` and `tpot_ms`; the
    others are the decoder's settings. The last four are the batcher's and its model's, for `/predict/batched`.
    """

    path: Path
    load: Load
    connections: Annotated[int, Field(ge=1, le=500)] = 60
    rate: Annotated[float, Field(gt=0, le=2000, allow_inf_nan=False)] = 50.0
    seconds: Annotated[float, Field(ge=0.5, le=60, allow_inf_nan=False)] = 5.0
    workers: Annotated[int, Field(ge=1, le=8)] = 1
    inference_seconds: Annotated[float, Field(ge=0, le=5, allow_inf_nan=False)] = 0.1
    max_in_flight: Annotated[int, Field(ge=1, le=10_000)] | None = None
    max_queue: Annotated[int, Field(ge=0, le=10_000)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=512)] = 16
    ttft_ms: Annotated[float, Field(gt=0, le=60_000, allow_inf_nan=False)] = 700.0
    tpot_ms: Annotated[float, Field(gt=0, le=60_000, allow_inf_nan=False)] = 40.0
    decoder_slots: Annotated[int, Field(ge=1, le=500)] = 4
    decoder_queue: Annotated[int, Field(ge=0, le=10_000)] = 8
    queue_seconds: Annotated[float, Field(ge=0, le=60, allow_inf_nan=False)] = 1.0
    prefill_seconds: Annotated[float, Field(ge=0, le=5, allow_inf_nan=False)] = 0.2
    token_seconds: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.02
    max_batch: Annotated[int, Field(ge=1, le=500)] = 8
    batch_window: Annotated[float, Field(ge=0, le=5, allow_inf_nan=False)] = 0.005
    batch_base_seconds: Annotated[float, Field(ge=0, le=5, allow_inf_nan=False)] = 0.08
    batch_item_seconds: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.0025

    @model_validator(mode="after")
    def _can_be_measured(self) -> Self:
        if self.load not in ASKED[self.kind]:
            raise ValueError(f"{self.path} has no such load")
        if self.kind != "answer" and self.workers > 1:
            raise ValueError(f"{self.path} is measured with one worker: each has its own slots or batches")
        return self

    @property
    def kind(self) -> Kind:
        """What the path gives."""
        kinds: dict[str, Kind] = {"/generate": "stream", "/predict/batched": "batch"}
        return kinds.get(self.path, "answer")

    @property
    def stream_seconds(self) -> float:
        """How long one stream holds a slot."""
        return self.prefill_seconds + (self.max_tokens - 1) * self.token_seconds

    def call_seconds(self, size: int) -> float:
        """How long a batch of this size is in the model."""
        return self.batch_base_seconds + size * self.batch_item_seconds

    @property
    def window(self) -> float:
        """For how many seconds the load is offered; 0 for all at once."""
        return 0.0 if self.load == "burst" else self.seconds

    @property
    def alone_seconds(self) -> float:
        """How long a request takes that has the service for itself."""
        alone = {"stream": self.stream_seconds, "batch": self.batch_window + self.call_seconds(1)}
        return alone.get(self.kind, self.inference_seconds)

    @property
    def capacity(self) -> float:
        """Streams/s that the decoder can finish, or answers/s that full batches give."""
        if self.kind == "stream":
            return self.decoder_slots / max(self.stream_seconds, LEAST)
        return self.max_batch / max(self.call_seconds(self.max_batch), LEAST)

    @property
    def parts(self) -> list[tuple[float, Plan]]:
        """The loads one after the other, each with how many times the capacity it offers; 0 where that is not asked."""
        if self.load != "sweep":
            return [(0, self)]
        return [
            (times, self.model_copy(update={"load": "open", "rate": times * self.capacity}))
            for times in SWEEP[self.kind]
        ]

    @property
    def settings(self) -> dict[str, float]:
        """The service's settings that the plan sets."""
        if self.kind == "stream":
            return self._only("decoder_slots", "decoder_queue", "queue_seconds", "prefill_seconds", "token_seconds")
        model: dict[str, float] = {"inference_seconds": self.inference_seconds}
        if self.kind == "batch":
            model = self._only("max_batch", "batch_window", "batch_base_seconds", "batch_item_seconds")
        limits = {"max_in_flight": self.max_in_flight, "max_queue": self.max_queue}
        set_here = {name: value for name, value in limits.items() if value is not None}
        # Whoever sets a limit measures admission control: its own limit on waiting is the service's again.
        return {**model, **set_here, **({"queue_seconds": 1.0} if set_here else {})}

    def _only(self, *names: str) -> dict[str, float]:
        return {name: getattr(self, name) for name in names}

    def __str__(self) -> str:
        """The plan in words, in one line."""
        times = " x, ".join(f"{times:g}" for times in SWEEP.get(self.kind, ()))
        requests, users = ("stream", "reader") if self.kind == "stream" else ("request", "user")
        kind = {
            "burst": f"{_some(self.connections, requests)} at once",
            "closed": f"closed loop, {_some(self.connections, users)}, {self.seconds:g} s",
            "open": f"open loop, {self.rate:g} {requests}s/s, {self.seconds:g} s",
            "sweep": f"{times} x of {self.capacity:.3g} {requests}s/s, {self.seconds:g} s each",
        }[self.load]
        if self.kind == "stream":
            return ", ".join([f"{self.path}: {kind}", *self._words_of_streams()])
        workers, model = _some(self.workers, "worker"), f"model {self.inference_seconds:g} s"
        if self.kind == "batch":
            workers = f"batches of {self.max_batch}, window {self.batch_window:g} s"
            model = f"model {self.batch_base_seconds:g} + n x {self.batch_item_seconds:g} s"
        limits = [
            f"{name} {value}"
            for name, value in (("max_in_flight", self.max_in_flight), ("max_queue", self.max_queue))
            if value is not None
        ]
        return ", ".join([f"{self.path}: {kind}", workers, model, *limits])

    def _words_of_streams(self) -> list[str]:
        unusual: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("queue_seconds", "prefill_seconds", "token_seconds")
            if getattr(self, name) != Plan.model_fields[name].default
        }
        return [
            _some(self.max_tokens, "token"),
            _some(self.decoder_slots, "slot"),
            f"queue {self.decoder_queue}",
            *(f"{name} {value:g}" for name, value in unusual.items()),
            f"within {self.ttft_ms:g} and {self.tpot_ms:g} ms",
        ]


def _some(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count > 1 else ''}"


class Wish(BaseModel, extra="forbid", frozen=True):
    """A plan with its prediction. There is none without. `cell` is the field of a lesson that it is measured for."""

    plan: Plan
    predicted: Predicted
    cell: Annotated[str, Field(max_length=20)] = ""

    @model_validator(mode="after")
    def _is_predicted(self) -> Self:
        asked = ASKED[self.plan.kind][self.plan.load]
        if all(getattr(self.predicted, name) is None for name in asked):
            wanted = " or ".join(QUANTITIES[name] for name in asked)
            raise ValueError(f"write down what you expect first: {wanted}")
        return self
