"""The evidence of batches: who travelled in which, and batch size and latency over the rate beside the law."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from checks.harness.load.trace import MS

REQUESTS = 120
"""Requests that the results keep of such a picture, or a few more: the last batch is whole."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A call of the model from `began` to `ended`, and when each of its requests was due: in ms."""

    began: float
    ended: float
    due: list[float]


@dataclass(frozen=True, slots=True)
class BatchTimeline:
    """Batches in the order of their calls. `left_out` counts those behind them, `note` is for the reader."""

    title: str
    batches: list[Batch]
    left_out: int = 0
    note: str = ""
    unit: str = "ms"
    kind: Literal["batches"] = "batches"


@dataclass(frozen=True, slots=True)
class AtRate:
    """Mean batch and mean latency in ms at a rate of requests/s; None where there is none, or no end to it."""

    rate: float
    size: float | None
    mean_ms: float | None


@dataclass(frozen=True, slots=True)
class BatchLaw:
    """What was measured at some rates, and what the law says, at these rates and between them.

    `capacity` is what full batches can serve in requests/s.
    """

    title: str
    points: list[AtRate]
    law: list[AtRate]
    capacity: float
    kind: Literal["law"] = "law"


def together(requests: Sequence[tuple[float, float]], apart: float, most: int) -> list[list[tuple[float, float]]]:
    """Requests (due, ended) by batch: those of one batch end together, less than `apart` from one to the next."""
    batches: list[list[tuple[float, float]]] = []
    for due, ended in sorted(requests, key=lambda request: request[1]):
        if batches and ended - batches[-1][-1][1] < apart and len(batches[-1]) < most:
            batches[-1].append((due, ended))
        else:
            batches.append([(due, ended)])
    return batches


def batch_timeline(
    batches: Sequence[Sequence[tuple[float, float]]], call: Callable[[int], float], title: str, note: str = ""
) -> BatchTimeline:
    """Batches of requests (due, ended) in seconds. The model is taken to need `call(size)` seconds until the first end.

    Times come out in ms after the first was due. The first batches are kept, with about 120 requests.
    """
    origin = min((due for batch in batches for due, _ in batch), default=0.0)

    def ms(moment: float) -> float:
        return round((moment - origin) * MS, 2)

    kept: list[Batch] = []
    while len(kept) < len(batches) and sum(len(batch.due) for batch in kept) < REQUESTS:
        batch = batches[len(kept)]
        ended = batch[0][1]
        kept.append(Batch(ms(ended - call(len(batch))), ms(ended), sorted(ms(due) for due, _ in batch)))
    return BatchTimeline(title, kept, len(batches) - len(kept), note)
