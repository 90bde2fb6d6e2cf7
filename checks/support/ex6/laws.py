"""6.1: what the three functions of the law of batching return, for random inputs."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any, NamedTuple

from checks.harness.assertions.answers import is_number
from checks.harness.errors import Failure
from checks.harness.judge.handles import each
from checks.harness.source_lines import SourceLines
from checks.harness.syntax import rest_of_one

CASES = 150
CLOSE = 1e-6
AWAY = 0.02
"""How far, as a part, a case keeps from the edge between two regimes, where rounding decides."""


ZERO = "0 is a value, too. But 0 is false in Python: `x or 0.08` replaces 0 by 0.08, and `if x:` is not taken."


class Load(NamedTuple):
    """The arguments of `batch_size` and `batched_latency`."""

    rate: float
    base: float
    item: float
    window: float
    most: int

    def __str__(self) -> str:
        """As they are written in a call."""
        return f"({self.rate}, {self.base}, {self.item}, {self.window}, {self.most})"

    @property
    def meanwhile(self) -> float:
        """The batch that is as large as what arrives while it is served."""
        return self.rate * self.base / (1 - self.rate * self.item) if self.rate * self.item < 1 else math.inf

    @property
    def in_window(self) -> float:
        """The first item, and what arrives in its window."""
        return 1 + self.rate * self.window

    @property
    def capacity(self) -> float:
        """Items/s of a model that is always busy with full batches."""
        return self.most / (self.base + self.most * self.item)

    @property
    def size(self) -> float:
        """The mean batch."""
        return min(self.most, max(self.in_window, self.meanwhile))

    @property
    def wait(self) -> float:
        """What the first item of a batch waits for company."""
        return min(self.window, (self.most - 1) / self.rate)

    @property
    def latency(self) -> float:
        """Mean seconds to an answer."""
        if self.rate >= self.capacity:
            return math.inf
        service = self.base + self.item * self.size
        if self.meanwhile >= self.in_window:
            return 1.5 * service
        return self.wait * (1 + self.rate * self.wait / 2) / (1 + self.rate * self.wait) + service

    @property
    def clear(self) -> bool:
        """Whether it is away from every edge."""
        edges = (
            (self.rate * self.item, 1),
            (self.rate, self.capacity),
            (min(self.meanwhile, 1e9), self.in_window),
            (min(self.meanwhile, 1e9), self.most),
            (self.in_window, self.most),
        )
        return all(abs(one - other) > AWAY * other for one, other in edges)


def throughput(function: Callable[..., Any], rng: random.Random, _: SourceLines) -> None:
    """`batch_throughput` for random batches."""
    cases: list[tuple[int, float, float]] = [
        (rng.randint(1, 64), rng.randint(1, 300) / 1000, rng.randint(1, 40) / 2000) for _ in range(CASES)
    ]
    cases += [(rng.randint(1, 64), 0, 0.02), (rng.randint(1, 64), 0.1, 0)]
    for (batch, base, item), got in zip(cases, each(function, cases), strict=True):
        wanted = batch / (base + batch * item)
        call = f"batch_throughput({batch}, base_seconds={base}, item_seconds={item})"
        _is_close(call, got, wanted, "items/s", _of_throughput(got, batch, base, item))


def _of_throughput(got: Any, batch: int, base: float, item: float) -> str:
    if not base or not item:
        return ZERO
    if is_number(got) and math.isclose(got, 1 / (base + batch * item), rel_tol=CLOSE):
        return "That is batches per second: each of them serves `batch` items."
    if is_number(got) and math.isclose(got, batch / (base + item), rel_tol=CLOSE):
        return "A call takes item_seconds for each item: base_seconds + batch x item_seconds."
    return "Items in a batch, divided by what one call takes: base_seconds + batch x item_seconds."


def sizes(function: Callable[..., Any], rng: random.Random, lines: SourceLines) -> None:
    """`batch_size` for random loads, in each regime. The second number may be computed in a function of its own."""
    second = lines.where_reached(function, rest_of_one)
    cases = _loads(rng)
    for load, got in zip(cases, each(function, [tuple(load) for load in cases]), strict=True):
        too_large = is_number(got) and got > load.most
        where = second if load.meanwhile == math.inf and not too_large else None
        _is_close(f"batch_size{load}", got, load.size, "items", _of_size(got, load), where)


def _of_size(got: Any, load: Load) -> str:
    if not is_number(got):
        return ""
    if not load.base or not load.item:
        return ZERO
    if got > load.most:
        return "`min(max_batch, ...)`: no batch is larger."
    if load.meanwhile == math.inf:
        return (
            f"Here rate x item_seconds is {load.rate * load.item:.3g}. Where it is 1 or more, the model cannot "
            "catch up at any size: the second number is infinite, and the batch is `max_batch`."
        )
    if math.isclose(got, load.rate * load.window, rel_tol=CLOSE):
        return "The first item is there when the window begins: 1 + rate x window."
    if got == round(load.size):
        return "A mean need not be whole: do not round it."
    return "The larger of 1 + rate x window and rate x base / (1 - rate x item), at most max_batch."


def latencies(function: Callable[..., Any], rng: random.Random, _: SourceLines) -> None:
    """`batched_latency` for random loads, in each regime."""
    cases = _loads(rng)
    for load, got in zip(cases, each(function, [tuple(load) for load in cases]), strict=True):
        _is_close(f"batched_latency{load}", got, load.latency, "s", _of_latency(got, load))
    edge = _as_much_as_it_serves(rng)
    _is_close(f"batched_latency{edge}", function(*edge), math.inf, "s", _of_latency(0.0, edge))


def _of_latency(got: Any, load: Load) -> str:
    if not is_number(got):
        return ""
    if not load.base or not load.item:
        return ZERO
    if load.latency == math.inf:
        return (
            f"The model serves {load.capacity:.4g}/s at most, and {load.rate:g}/s arrive: the queue grows for ever. "
            "`math.inf`."
        )
    service = load.base + load.item * load.size
    if load.meanwhile >= load.in_window:
        return "The model is always busy here: 1.5 x the time of a call, without the window."
    if math.isclose(got, load.window + service, rel_tol=CLOSE):
        return "Only the first item waits for the whole window. Later items wait half of it on average."
    return "w x (1 + rate x w / 2) / (1 + rate x w) + a call, with w = min(window, (max_batch - 1) / rate)."


def _as_much_as_it_serves(rng: random.Random) -> Load:
    """A load that is exactly what the model can serve. All numbers are binary fractions, so no formula rounds."""
    base, most = 1 / rng.choice((2, 4, 8)), rng.choice((2, 4, 8, 16))
    return Load(most / (2 * base), base, base / most, 1 / rng.choice((8, 16, 32)), most)


def _loads(rng: random.Random) -> list[Load]:
    """Loads from far below to far above what the model can serve, with short windows and long ones.

    Last some with batches of one item, and some with a zero: where those fail, nothing else is wrong.
    """
    found: list[Load] = []
    while len(found) < CASES:
        base, item, most = rng.randint(20, 200) / 1000, rng.randint(1, 20) / 1000, rng.randint(2, 32)
        rate = round(
            rng.choice((0.05, 0.3, 0.6, 0.9, 1.2, 3.0)) * rng.uniform(0.9, 1.1) * most / (base + most * item), 2
        )
        load = Load(rate, base, item, rng.choice((0, 1, 5, 20, 50, 200, 500)) / 1000, most)
        if rate > 0 and load.clear:
            found.append(load)
    rates = (rng.uniform(3, 9) for _ in iter(int, 1))
    some = ((0.05, 0.01, 0.1, 1), (0.02, 0.02, 0.3, 1), (0, 0.02, 0.1, 8), (0.1, 0, 0.1, 8), (0.5, 0, 0, 8))
    return found + [next(load for rate in rates if (load := Load(round(rate, 2), *one)).clear) for one in some]


def _is_close(call: str, got: Any, wanted: float, unit: str, hint: str, where: str | None = None) -> None:
    assert is_number(got), Failure(f"{call} returned {got!r}", f"a number of {unit}", hint)
    assert got == wanted or math.isclose(got, wanted, rel_tol=CLOSE, abs_tol=1e-9), Failure(
        f"{call} is {got:.6g}", f"{wanted:.6g} {unit}", hint, where
    )
