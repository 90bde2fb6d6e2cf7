"""What summaries of latency windows have to say."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from checks.harness.assertions.answers import is_number
from checks.harness.assertions.cpu_cost import FILL_SECONDS
from checks.harness.assertions.metrics_page import FIGURES, figures_in
from checks.harness.cell import made
from checks.harness.errors import Failure
from checks.harness.judge.cost import many_cost, memory
from checks.harness.judge.handles import attribute, beside, each
from checks.harness.load.percentiles import other_percentiles
from checks.harness.load.percentiles import percentile as nearest_rank
from checks.harness.report.evidence import Show
from checks.harness.workspace import LearnerModules, Workspace

NONE_HINT = "While there is no sample, return `count` 0 and None for all other figures, before any arithmetic."
UNIT_HINT = "`record` gets seconds, and a figure with `_ms` is in ms: multiply by 1000, once, at the very end."
RING_HINT = "A ring: write sample number n at place n % size. `collections.deque(maxlen=size)` does just that."
SAMPLES_HINT = (
    "`summary` takes every figure but `count` from the samples that the window holds at that moment, and does not "
    "change their order: `sorted(...)` gives a new list."
)
COUNT_HINT = "Count in `record`, in a separate number: the window holds fewer samples than were recorded."
CHEAP_HINT = (
    "`record` runs in every request: it writes one sample and counts. Sort in `summary`. `pop(0)` of a list moves all "
    "others: write over the oldest sample, or use `collections.deque(maxlen=size)`."
)
POOL_HINT = "Pool the samples that the windows still hold, and take the summary of all of them."


SIZE = 37
"""Of a window that is only looked at."""

AT_ONCE, MANY = 10_000, 300_000
"""Samples that go through a window in one go, and in all: kept, they take more than twice `GROWN`."""
GROWN = 1_000_000
"""Bytes by which a window has surely grown."""


class Places:
    """The lines of the learner's `LatencyWindow.record` and of its `summary`; and what makes a wrong size."""

    def __init__(self, lab: LearnerModules, workspace: Workspace) -> None:
        self._window, self._workspace = lab.timing.LatencyWindow, workspace
        self.record = workspace.where_defined(self._window.record)
        self.summary = workspace.where_defined(self._window.summary)

    @cached_property
    def size(self) -> str | None:
        """A size is made in `__init__`, unless what that has made has the right one. Asked for after a failure only."""
        if beside(self._window, made).has_size(self._window, SIZE) is True:
            return self.record
        return self._workspace.where_defined(attribute(self._window, "__init__")) or self.record


def record_all(window: Any, samples: Sequence[float]) -> None:
    """Record these seconds, one after the other."""
    for _ in each(window.record, [(seconds,) for seconds in samples]):
        pass


def one_second(lab: LearnerModules) -> float:
    """What the learner's own summary makes of one second: 1000, if it is right. 2.2 judges that, others only use it."""
    window = lab.timing.LatencyWindow(10)
    window.record(1.0)
    one = window.summary().get("max_ms")
    return float(one) if is_number(one) and one > 0 else 1000.0


def forgets(lab: LearnerModules) -> bool:
    """Whether the learner's own window of 3 forgets the fourth last sample. 2.3 judges that, others only use it."""
    for _ in range(20):
        window = lab.timing.LatencyWindow(3)
        for seconds in (9.0, 0.1, 0.1, 0.1):
            window.record(seconds)
        if window.summary()["max_ms"] > one_second(lab):
            return False
    return True


def is_empty_summary(found: Any, where: Callable[[], str | None]) -> None:
    """A summary without samples: count 0, and None for the rest. `where` gives the line that made it."""
    wanted = {"count": 0, **dict.fromkeys(FIGURES)}
    assert isinstance(found, dict), Failure(
        f"the summary of an empty window is {found!r}", wanted=str(wanted), hint=NONE_HINT, where=where()
    )
    for name, value in wanted.items():
        got = found.get(name, "missing")
        assert got == value, Failure(
            f"in the summary of an empty window {name} is {got}",
            wanted=f"{value}: without samples `count` is 0, and all other figures are None",
            hint=NONE_HINT,
            where=where(),
        )


def expected_summary(samples: Sequence[float]) -> dict[str, float]:
    """The summary of these seconds, in ms."""
    mean = math.fsum(samples) / len(samples) * 1000
    wanted = {"count": len(samples), "min_ms": min(samples) * 1000, "avg_ms": mean, "max_ms": max(samples) * 1000}
    return wanted | {f"p{q}_ms": nearest_rank(samples, q) * 1000 for q in (50, 95, 99)}


def is_figure(
    name: str, value: float, samples: Sequence[float], lab: LearnerModules, where: Callable[[], str | None]
) -> None:
    """A figure is the expected one to 0.01, or what the learner's own `percentile` gives: 2.1 judges that."""
    expected, q = expected_summary(samples)[name], int(name[1:3]) if name[0] == "p" else None
    own = lab.timing.percentile([*samples], q) if q else None
    right = [expected] + ([own * 1000] if own is not None and is_number(own) else [])
    if min(abs(value - one) for one in right) <= 0.01:
        return
    what, hint = _explained(value, expected, q, samples)
    raise AssertionError(
        Failure(
            f"{name} of {len(samples)} samples is {value:.7g}{what and f', {what}'}",
            wanted=f"{expected:.7g}, to 0.01",
            hint=hint,
            where=where(),
        )
    )


def _explained(value: float, expected: float, q: int | None, samples: Sequence[float]) -> tuple[str, str]:
    """What a wrong figure is instead, and the hint for that; both empty where nothing known explains it."""
    units = {"right in seconds": 0.001, "in microseconds": 1000.0}
    for what, factor in units.items():
        if math.isclose(value, expected * factor, rel_tol=1e-3, abs_tol=0.001):  # rounded to three digits
            return what, UNIT_HINT
    hint = f"`percentile(samples, {q})` gives it." if q else ""
    known = expected_summary(samples)
    others = {"the mean": known["avg_ms"], "the maximum": known["max_ms"], "the minimum": known["min_ms"]}
    if q:
        others |= {
            name: seconds * 1000 for name, seconds in other_percentiles(samples, q).items() if name != "the mean"
        }
        if q == 50:
            ordered, middle = sorted(samples), len(samples) // 2
            both = (ordered[middle - 1] + ordered[middle]) / 2 * 1000
            others = {"the mean of the two samples in the middle (statistics.median)": both, **others}
    return next((name for name, other in others.items() if abs(value - other) < 0.005), ""), hint


def stays_as_large_as_it_is(window: Any, size: int, rng: random.Random) -> int:
    """A full window takes no more memory, however many samples go through. Returns how many it recorded."""
    many_cost(window.record, rng.random(), AT_ONCE)
    full, burnt, grown, recorded = memory(window.record), 0.0, 0, AT_ONCE
    while grown < GROWN and burnt < FILL_SECONDS and recorded < MANY:
        burnt += many_cost(window.record, rng.random(), AT_ONCE)
        recorded += AT_ONCE
        grown = memory(window.record) - full
    assert grown < GROWN, Failure(
        f"a window of {size} grew by {grown:,} bytes while {recorded - AT_ONCE:,} more samples went through",
        wanted="no more memory once it is full",
        hint=RING_HINT,
    )
    return recorded


def holds_the_last_samples(window: Any, size: int, lab: LearnerModules, rng: random.Random, places: Places) -> int:
    """A full window's summary is about its last `size` samples and no other. Returns how many it recorded."""
    recorded = 0
    for spike, name in ((90.0, "max_ms"), (0.00001, "min_ms")):
        older = [rng.uniform(0.1, 0.2) for _ in range(size)]
        usual = [rng.uniform(0.1, 0.2) for _ in range(size)]
        for seconds in [*older, spike, *usual[:-1]]:
            window.record(seconds)
        before = figures_in(window.summary(), "a summary")
        window.record(usual[-1])
        after = figures_in(window.summary(), "a summary")
        recorded += 2 * size + 1
        alone = _summary_of(usual, lab)
        kept = abs(before[name] - alone[name]) > abs(alone[name]) / 2  # in whatever unit: 2.2 judges that
        assert kept, _forgotten_too_soon(size, spike, lab, places)
        wrong = [figure for figure in FIGURES if not _same(after[figure], alone[figure])]
        if wrong:
            raise AssertionError(
                _older_than_the_window(after, alone, wrong, [*older, spike, *usual], size, lab, places)
            )
    return recorded


def _forgotten_too_soon(size: int, spike: float, lab: LearnerModules, places: Places) -> Failure:
    """The failure for a window that has forgotten one of its last `size` samples."""
    wanted = f"the last {size} samples"
    if (kept := samples_kept(lab, size)) is None:
        seen = f"a window of {size} has forgotten a sample of {spike:g} s after {size - 1} more samples"
        return Failure(seen, f"{wanted}, and that one is still among them", RING_HINT, places.record)
    seen = f"a window of {size} kept only {kept} samples"
    short = "You keep size - 1 samples: keep `size`." if kept == size - 1 else f"You keep {kept} samples: keep `size`."
    return Failure(seen, wanted, short, places.size)


def samples_kept(lab: LearnerModules, size: int) -> int | None:
    """How many samples a full window of that size holds; None where that is not always the same number."""
    found = set[int | None]()
    for before in (size, size + size // 3):
        window = lab.timing.LatencyWindow(size)
        record_all(window, [0.1] * (size + before))
        window.record(9.0)
        high = window.summary().get("max_ms")
        held = 1
        while held <= 3 * size and window.summary().get("max_ms") == high:
            window.record(0.1)
            held += 1
        found.add(held - 1 if held <= 3 * size else None)
    return found.pop() if len(found) == 1 else None


def _summary_of(samples: Sequence[float], lab: LearnerModules) -> dict[str, float]:
    """What the learner's own summary says of a window that has seen just these samples."""
    window = lab.timing.LatencyWindow(2 * len(samples))
    record_all(window, samples)
    return figures_in(window.summary(), "a summary")


def _same(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9)


def _older_than_the_window(
    after: dict[str, float],
    alone: dict[str, float],
    wrong: Sequence[str],
    stream: Sequence[float],
    size: int,
    lab: LearnerModules,
    places: Places,
) -> Failure:
    """The failure for figures that are not about the last `size` samples of `stream`; it names one that is too old.

    If the median is wrong as well, the window holds other samples; else a figure is not taken from what it holds.
    """
    second = one_second(lab)
    hint, where = (RING_HINT, places.record) if "p50_ms" in wrong else (SAMPLES_HINT, places.summary)
    if "p50_ms" in wrong and (kept := samples_kept(lab, size)) and kept > size:
        hint, where = f"You keep {kept} samples: keep `size`.", places.size
    for name in wrong:
        for place, seconds in enumerate(stream[: len(stream) - size]):
            if math.isclose(after[name], seconds * second, rel_tol=1e-4):
                seen = (
                    f"{name} is {after[name]:.6g}: that is the sample of {seconds:.6g} s, which is "
                    f"{len(stream) - place} samples old, in a window of {size}"
                )
                wanted = f"{alone[name]:.6g}, and nothing older than the last {size} samples"
                return Failure(seen, wanted, hint, where)
    name = wrong[0]
    return Failure(
        f"{name} is {after[name]:.6g} in a window of {size}, whose last {size} samples make {alone[name]:.6g}",
        wanted=f"all figures except the count are those of the last {size} samples alone",
        hint=hint,
        where=where,
    )


def three_windows(lab: LearnerModules, rng: random.Random) -> tuple[list[Any], list[float]]:
    """Windows of three workers, from few and quick to many and slow, none of them full; and all their samples."""
    windows, samples = [], []
    for worker, count in enumerate((rng.randint(5, 15), 750, 450)):
        window = lab.timing.LatencyWindow(1000)
        latencies = [rng.lognormvariate(-3 + worker, 0.5) for _ in range(count)]
        record_all(window, latencies)
        windows.append(window)
        samples += latencies
    return windows, samples


def is_summary_of_all(
    got: dict[str, float], each: Sequence[dict[str, float]], samples: Sequence[float], lab: Any
) -> None:
    """A merged summary is what the learner's own window says that has all samples."""
    wanted = _summary_of(samples, lab)
    for name in ("p99_ms", "p95_ms", "p50_ms", "avg_ms", "min_ms", "max_ms", "count"):
        if math.isclose(got[name], wanted[name], rel_tol=1e-6, abs_tol=0.01):
            continue
        counts = [one["count"] for one in each]
        weighted = sum(one[name] * count for one, count in zip(each, counts, strict=True)) / sum(counts)
        values = [one[name] for one in each]
        ideas = {
            "their average": sum(values) / 3,
            "their average, weighted by count": weighted,
            "the largest": max(values),
        }
        idea = next((f", {what}" for what, value in ideas.items() if math.isclose(got[name], value, rel_tol=1e-6)), "")
        right = "their sum" if name == "count" else "as if one window had the samples of all three"
        raise AssertionError(
            Failure(
                f"{name} of three windows (each has {', '.join(f'{value:.0f}' for value in values)}) is "
                f"{got[name]:.6g}{idea}",
                wanted=f"{wanted[name]:.6g}, {right}",
                hint="Add the counts of the windows." if name == "count" else POOL_HINT,
            )
        )


def counts_forgotten_samples(lab: LearnerModules) -> None:
    """The count of a merged summary is that of all samples over all time, also of those that a window has forgotten."""
    windows = [lab.timing.LatencyWindow(5) for _ in range(2)]
    for number, window in enumerate(windows, 1):
        record_all(window, [0.1] * 8 * number)
    own, true = sum(window.summary()["count"] for window in windows), 8 + 16  # 2.3 judges the learner's own count
    got = figures_in(lab.timing.merged_summary(windows), "merged_summary of two full windows")["count"]
    assert got in (own, true), Failure(
        f"count is {got} for two windows of 5 that have counted 8 and 16 samples",
        wanted=f"{true}, their sum: `count` is over all time",
        hint="Add the counts of the windows: they hold fewer samples than they have counted.",
    )


def ignores_empty_windows(windows: Sequence[Any], got: dict[str, float], lab: LearnerModules) -> None:
    """A window without samples changes nothing, and alone gives what its own summary says. 2.2 judges that summary."""
    nothing = lab.timing.LatencyWindow(5)
    try:
        own = nothing.summary()
    except Exception:
        return
    same, none = lab.timing.merged_summary([nothing, *windows]), lab.timing.merged_summary([nothing])
    assert same == got, Failure(f"with an empty window beside the three it is {same}", wanted="the same as without it")
    assert none == own, Failure(f"merged_summary of one empty window is {none}", wanted=str(own))


def table_of_figures(show: Show, got: dict[str, float], wanted: dict[str, float]) -> None:
    """Shows a summary beside the right one."""
    rows = [(name, f"{got[name]:.7g}", f"{wanted[name]:.7g}") for name in wanted]
    show.table("seconds in, ms out", ("figure", "yours", "wanted"), rows)
