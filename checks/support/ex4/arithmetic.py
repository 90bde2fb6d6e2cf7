"""4.1 and 4.8: what `max_throughput`, `threads_needed` and `choose` return, for random inputs and for traps."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from fractions import Fraction
from types import ModuleType
from typing import Any

from checks.harness.assertions.answers import close, is_number
from checks.harness.errors import Failure
from checks.harness.report.evidence import Show

CAPACITY = "How many requests can be in the model together? Each of those places serves 1 / seconds requests a second."
WHOLE = "A rate need not be a whole number: `/`, without `//`, `int` or `round`."
SLO_FIRST = "Leave out all rows that break the SLO, then take the one with the most goodput."
TIES = (
    "`min(..., key=lambda m: (-m.goodput, m.workers, m.threads), default=None)` also decides between rows of "
    "equal goodput."
)


def throughput_is_places_by_time(predict: Callable[..., Any], rng: random.Random) -> None:
    """`max_throughput` for random workers, threads and seconds, its default, and a kind that there is not."""
    for _ in range(60):
        workers, threads, seconds = rng.randint(1, 16), rng.randint(1, 100), rng.randint(1, 3000) / 1000
        places = {"async": math.inf, "threaded": workers * threads, "blocking": workers}
        why = {
            "async": "no limit: a call that only waits takes no place",
            "threaded": f"{workers} x {threads} threads, each of which serves one request in {seconds} s",
            "blocking": f"{workers} event loops, each of which serves one request in {seconds} s",
        }
        kind = rng.choice([*places])
        got = predict(kind, workers, seconds, threads)
        call = f"max_throughput({kind!r}, workers={workers}, seconds={seconds}, threads={threads})"
        assert is_number(got), Failure(f"{call} returned {got!r}", "a number of requests/s", CAPACITY)
        wanted = places[kind] / seconds
        assert got == wanted or close(got, wanted), Failure(
            f"{call} is {got:.6g}",
            f"{wanted:.6g}: {why[kind]}",
            "Awaited calls have no limit: `math.inf`."
            if kind == "async"
            else WHOLE
            if got == int(wanted)
            else CAPACITY,
        )
    default = predict("threaded", workers=2, seconds=0.5)
    assert close(default, 160), Failure(
        f"max_throughput('threaded', 2, 0.5) is {default!r}", "160.0, with 40 threads in each worker", CAPACITY
    )
    try:
        got = predict("telepathy", 1, 0.1)
    except Exception as error:
        got = error
    assert isinstance(got, ValueError), Failure(
        f"max_throughput('telepathy', 1, 0.1) gave {got!r}",
        "a ValueError that names the kinds",
        "`burst_seconds` raises such an error: see there.",
    )


def busy_threads_rounded_up(needed: Callable[..., Any], rng: random.Random) -> None:
    """`threads_needed` for traps and for random rates."""
    cases = [(100, 0.07), (0, 1.0), (5, 0.5), (1000, 0.041), (1, 0.001)]
    cases += [(rng.randint(1, 1000), rng.randint(1, 1000) / 1000) for _ in range(200)]
    for rate, seconds in cases:
        busy = rate * Fraction(str(seconds))  # exact: in floats 100 * 0.07 is more than 7
        got = needed(rate, seconds)
        call = f"threads_needed({rate}, {seconds})"
        assert type(got) is int, Failure(
            f"{call} returned {got!r}", "a whole number, an int", "`math.ceil` returns an int."
        )
        assert got == math.ceil(busy), Failure(
            f"{call} is {got}",
            f"{math.ceil(busy)}: {float(busy):g} are busy on average, and only whole threads exist",
            f"In floats {rate} * {seconds} is {rate * seconds!r}: `math.ceil(round(rate * seconds, 9))`."
            if got == math.ceil(rate * seconds)
            else "Without load 0 threads are busy: `max(1, ...)` is one too many."
            if busy == 0
            else "`round` drops a small fraction, which needs one more thread: `math.ceil(round(rate * seconds, 9))`."
            if any(math.ceil(round(float(busy), digits)) == got for digits in range(1, 6))
            else "Little's law: rate x seconds threads are busy; round that up.",
        )


class Choices:
    """Measurements of which `choose` has to take one."""

    def __init__(self, choose: Callable[..., Any], records: ModuleType, rng: random.Random, show: Show) -> None:
        self.choose, self.rng, self.show = choose, rng, show
        self.measurement = records.Measurement
        self.slo = rng.randint(100, 300)

    def wants(self, table: list[Any], wanted: Any, why: str, hint: str = SLO_FIRST) -> None:
        """Offer these measurements in random order; fail where it takes another than wanted."""
        rows = self.rng.sample(table, len(table))
        offered = list(rows)
        got = self.choose(offered, self.slo)
        assert offered == rows, Failure(
            "choose changed the list of measurements",
            "the list as it was",
            "`sorted(...)` and `min(...)` change nothing.",
        )
        if got == wanted:
            return
        assert got is None or got in rows, Failure(
            f"choose returned {got!r}", "one of the measurements, or None", "Return the measurement itself."
        )
        columns = ("workers", "threads", "offered", "goodput", "p95 ms")
        cells = [(m.workers, m.threads, *(f"{x:.0f}" for x in (m.offered, m.goodput, m.p95_ms))) for m in rows]
        self.show.table(f"measured, SLO {self.slo} ms", columns, cells)
        raise AssertionError(Failure(f"of {len(rows)} measurements it chose {got}", f"{wanted}: {why}", hint))

    def judge(self) -> None:
        """Traps: a fast row beyond the SLO, a calm one, a busy one, equals, none, and the edge."""
        measurement, slo, rng = self.measurement, self.slo, self.rng
        for _ in range(20):
            base = float(rng.randrange(50, 500, 10))
            best = measurement(4, 40, base * 2, base, float(rng.randint(slo * 7 // 10, slo - 1)))
            fast = measurement(8, 80, base * 4, base * 1.5, float(rng.randint(slo + 1, 3 * slo)))
            calm = measurement(1, 40, base / 2, base / 2, slo / 10)
            busy = measurement(2, 40, base * 9, round(base * 0.9, 1), round(slo * 0.9, 1))
            self.wants([best, fast, calm, busy], best, "the most goodput of those whose p95 keeps the SLO")
            more = measurement(5, 10, base * 2, base, slo / 4)
            self.wants([best, fast, more], best, "of equal goodput the fewest workers", TIES)
            wide = measurement(4, 64, base * 2, base, slo / 4)
            self.wants([best, wide, fast], best, "of equal goodput and workers the fewest threads", TIES)
            self.wants([fast], None, "none of them keeps the SLO", "None where nothing is left: `default=None`.")
        edge = measurement(1, 40, 10.0, 9.0, float(slo))
        self.wants([edge], edge, "a p95 equal to the SLO keeps it", "`<=`: p95 may be equal to the SLO.")
        above = measurement(1, 40, 10.0, 9.0, slo + 0.1)
        self.wants(
            [above],
            None,
            "a p95 above the SLO breaks it, even if the difference is small",
            "`p95_ms <= slo_ms`, as they are.",
        )
        more, less = measurement(4, 40, 99.0, 90.4, slo / 2), measurement(1, 40, 99.0, 90.0, slo / 2)
        self.wants(
            [more, less],
            more,
            "the most goodput, even if the difference is small",
            "Compare `goodput` as it is, not rounded.",
        )
        self.wants([], None, "there is nothing to choose from", "None where there is nothing: `default=None`.")
