"""1.3's model alone: how it waits when it is awaited, on a virtual clock, and when it blocks, on the real one."""

from __future__ import annotations

import asyncio
import inspect
import math
import re
import threading
import time
import warnings
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from random import Random
from statistics import fmean
from typing import Any

from checks.harness.assertions.answers import calling, close, is_number, short
from checks.harness.cell.sleep_spy import SLEEPS
from checks.harness.cell.stacks import Stack, stacks
from checks.harness.cell.virtual_time import TICK, virtual_time
from checks.harness.errors import Failure
from checks.harness.grading.noise import EARLY, best_of, blame_the_machine_unless
from checks.harness.missing_await import where_called
from checks.harness.report.evidence import Show
from checks.harness.source_lines import SourceLines
from checks.support.ex1.answers import features

NEVER_ENDS = 1000.0
"""Virtual seconds after which a wait has no end."""
QUEUES = ("asyncio.locks", "asyncio.queues", "anyio._core._synchronization")
"""Modules of what only one, or a few, can hold: a call that waits there is the one that is held up."""


def awaits(simulated_model: Any, seconds: float, rng: Random, lines: SourceLines) -> None:
    """One awaited call waits exactly `seconds`; so does the same question asked again."""
    model, question = simulated_model(seconds), features(rng)
    with calling(f"predict of SimulatedModel({seconds:.3f})", lines):
        call = model.predict(question)
    assert inspect.isawaitable(call), Failure(
        f"predict returned {call!r}", wanted="something to await", hint="`async def predict(...)`."
    )
    once = awaited((0, lambda: call))
    assert not once.on_loop, Failure(
        "predict called time.sleep on the event loop's own thread",
        wanted=f"{seconds:.3f} s awaited, in which the loop serves other requests",
        hint="`await asyncio.sleep(self.seconds)`.",
        where=once.where(lines),
    )
    why, hint = once.why()
    assert math.isclose(once.seconds[0], seconds, abs_tol=TICK), Failure(
        f"one predict of SimulatedModel({seconds:.3f}) waited {once.seconds[0]:.3f} s on the event loop's clock{why}",
        wanted=f"exactly {seconds:.3f} s, awaited",
        hint=hint,
        where=where_forgotten(simulated_model.predict, once.forgotten, lines) or once.where(lines),
    )
    model = simulated_model(seconds)
    _, again = awaited(*[(start, partial(model.predict, question)) for start in (0, 2 * seconds)]).seconds
    assert math.isclose(again, seconds, abs_tol=TICK), Failure(
        f"a question that had been asked before was answered after {again:.3f} s",
        wanted=f"{seconds:.3f} s for every call",
        hint="No cache: an answer that was kept takes no time, and hides what a model call costs.",
    )


def where_forgotten(method: Any, coroutine: str, lines: SourceLines) -> str | None:
    """The line of a method that makes this coroutine, such as `sleep`, and does not await it."""
    code = getattr(method, "__code__", None)
    if code is None or not coroutine:
        return None
    line = where_called(code, {coroutine.rpartition(".")[2]})
    return lines.where(code, line) if line else None


def awaits_side_by_side(
    simulated_model: Any, seconds: float, rng: Random, show: Show, number: int, lines: SourceLines
) -> None:
    """Sixty calls at once take as long as one; so does each of two that start one after the other."""
    model = simulated_model(seconds)
    questions = [features(rng) for _ in range(number)]
    together = awaited(*[(0, partial(model.predict, asked)) for asked in questions])
    took = max(together.seconds)
    show.number(f"{number} waits took as long as {took / seconds:.0f}", took / seconds)
    assert math.isclose(took, seconds, abs_tol=TICK), Failure(
        f"{number} calls of one model took {took:.3f} s, as long as {took / seconds:.0f} one after the other",
        wanted=f"{seconds:.3f} s, since they all wait at the same time",
        hint="Nothing in the model is for one call, or a few, at a time: no lock and no semaphore.",
        where=together.where(lines),
    )
    model = simulated_model(seconds)
    late = [
        (0, questions[0]),
        (0.5, questions[1]),
        (0.75, questions[0]),
    ]  # another one half-way through, the first again
    shortest = min(awaited(*[(part * seconds, partial(model.predict, asked)) for part, asked in late]).seconds)
    assert math.isclose(shortest, seconds, abs_tol=TICK), Failure(
        f"a call that began while another one waited took {shortest:.3f} s",
        wanted=f"{seconds:.3f} s: each call has a wait of its own",
        hint="A call shares no task and no future with another one: nothing of it is kept on `self`.",
    )


def blocks(simulated_model: Any, seconds: float, rng: Random, lines: SourceLines) -> None:
    """A blocking call keeps its thread for `seconds`, without computing; those of several threads run side by side."""
    model, question, threads = simulated_model(seconds), features(rng), 8
    ask = partial(model.predict_blocking, question)
    others = [features(rng) for _ in range(threads)]
    name, hint = f"predict_blocking of SimulatedModel({seconds:.3f})", "`time.sleep(self.seconds)`, in every call."
    with calling(name, lines):
        (took, burnt), (again, burnt_again) = blocked(ask), blocked(ask)
    assert took >= seconds - EARLY, Failure(
        f"{name} took {took:.3f} s", wanted=f"at least {seconds:.3f} s of real time", hint=hint
    )
    assert again >= seconds - EARLY, Failure(
        f"{name} took {again:.3f} s for a question that had been asked before",
        wanted=f"at least {seconds:.3f} s for every call",
        hint="No cache: an answer that was kept takes no time, and hides what a model call costs.",
    )
    soon = 1 / (1.5 * seconds)
    if 1 / min(took, again) < soon and (alone := best_of(lambda: 1 / blocked(ask)[0], soon)) < soon:
        blame_the_machine_unless(lambda: 1 / blocked(partial(time.sleep, seconds))[0], soon)
        raise AssertionError(
            Failure(
                f"{name} took {1 / alone:.3f} s", wanted=f"{seconds:.3f} s", hint="`time.sleep(self.seconds)`, once."
            )
        )
    assert min(burnt, burnt_again) < seconds / 20, Failure(
        f"{name} computed for {min(burnt, burnt_again):.3f} s",
        wanted="a wait that takes no CPU time",
        hint="`time.sleep(self.seconds)`. A loop that looks at the clock keeps a core, and all threads wait for it.",
    )
    wanted, shortest = threads / (3 * seconds), list[float]()  # one after the other they would take 8 x seconds
    busiest: str | None = None

    def rate() -> float:
        nonlocal busiest
        with ThreadPoolExecutor(1) as pool:
            there = pool.submit(busiest_line, lines, seconds / 2)
            asking = [partial(model.predict_blocking, one) for one in others]
            least, reached, answers = on_threads(asking, later=seconds / 2)
            busiest = there.result()
        shortest.append(least)
        own_answers(others, answers)
        return reached

    reached = best_of(rate, wanted)
    assert min(shortest) >= seconds - EARLY, Failure(
        f"a call of predict_blocking that began while others waited took {min(shortest):.3f} s",
        wanted=f"at least {seconds:.3f} s: each call has a wait of its own",
        hint=hint,
    )
    if reached < wanted:
        blame_the_machine_unless(lambda: on_threads([partial(time.sleep, seconds)] * threads, seconds / 2)[1], wanted)
    assert reached >= wanted, Failure(
        f"{threads} threads got {reached:.1f} calls/s of predict_blocking together",
        wanted=f"at least {wanted:.1f}: they wait side by side, and one alone gives {1 / seconds:.1f}",
        hint="Nothing in the model is for one call at a time: no lock around `time.sleep`.",
        where=busiest,
    )


def own_answers(questions: Sequence[Sequence[float]], answers: Sequence[object]) -> None:
    """None of these answers is the mean of another thread's features. What else may be wrong is seen alone, too."""
    got: Any
    for question, got in zip(questions, answers, strict=True):
        mixed_up = is_number(got) and any(close(got, fmean(other)) for other in questions if other is not question)
        assert not mixed_up, Failure(
            f"{len(questions)} threads called predict_blocking together, and one got {got:.6g}, the mean of the "
            "features of another one",
            wanted=f"the mean of its own, {fmean(question):.6g}",
            hint="All threads have the same model: what belongs to one call stays in local variables, not on `self`.",
        )


def answers_the_mean(simulated_model: Any, name: str, rng: Random) -> None:
    """The method `name` returns the mean of the features."""
    method = getattr(simulated_model(0.001), name)
    for question in [features(rng) for _ in range(5)]:
        got, mean = method(question), fmean(question)
        got = asyncio.run(got) if inspect.iscoroutine(got) else got
        hint = "`return fmean(features)` at its end." if got is None else ""
        assert is_number(got), Failure(f"{name} returned {got!r}", wanted="a float", hint=hint)
        assert close(got, mean), Failure(
            f"{name} answered {got:.6g} to {short(question)}",
            wanted=f"their mean, {mean:.6g}",
            hint="`fmean(features)`, of the features of this call.",
        )


@dataclass(frozen=True, slots=True)
class Waited:
    """How long each call waited, in virtual seconds: `math.inf` for one that does not end.

    `forgotten` names a coroutine that was made and not awaited; `elsewhere`: threads were put to sleep meanwhile;
    `on_loop`: so was the event loop's own. `stacks` are where it slept, or where the calls waited.
    """

    seconds: list[float]
    forgotten: str
    elsewhere: bool
    on_loop: bool
    stacks: list[Stack]

    def where(self, lines: SourceLines) -> str | None:
        """The learner's line that sleeps on the loop, else one that waits for another call, else one that waits."""
        held_up = [stack for stack in self.stacks if stack and stack[-1][0].f_globals.get("__name__") in QUEUES]
        return lines.where_first([*held_up, *self.stacks])

    def why(self) -> tuple[str, str]:
        """Why a single call waited for another time than wanted, and what mends it."""
        right = "`await asyncio.sleep(self.seconds)`"
        if self.forgotten:
            return f": `{self.forgotten}` was called and not awaited", f"{right}, with the `await`."
        if self.elsewhere:
            return ": a thread slept in its place (time.sleep)", f"{right} waits without a thread."
        if not self.seconds[0]:
            return ": it awaited nothing that takes time", f"{right} waits, and lets others run meanwhile."
        return "", f"{right}: once, and with the seconds of this model."


def awaited(*calls: tuple[float, Callable[[], Awaitable[object]]]) -> Waited:
    """Await calls on a virtual clock, each from its own start on: (seconds from now, the call)."""

    async def one(start: float, call: Callable[[], Awaitable[object]]) -> float:
        await asyncio.sleep(start)
        clock = asyncio.get_running_loop()
        begun = clock.time()
        await call()
        return clock.time() - begun

    waiting: list[Stack] = []

    async def together() -> list[float]:
        tasks = [asyncio.ensure_future(one(*call)) for call in calls]
        await asyncio.wait(tasks, timeout=TICK)
        waiting.extend(stacks(threading.get_ident()))
        await asyncio.wait(tasks, timeout=NEVER_ENDS)
        return [task.result() if task.done() else math.inf for task in tasks]

    SLEEPS.install()
    on_loop, elsewhere = len(SLEEPS.stacks), SLEEPS.elsewhere
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        seconds = virtual_time(together())
    said = re.search(r"coroutine '(.+?)' was never awaited", " ".join(str(warning.message) for warning in warned))
    slept = SLEEPS.stacks[on_loop:]
    return Waited(seconds, said[1] if said else "", SLEEPS.elsewhere > elsewhere, bool(slept), slept or waiting)


def busiest_line(lines: SourceLines, later: float) -> str | None:
    """The learner's line at which most threads are, `later` seconds from now."""
    time.sleep(later)
    found = Counter(filter(None, map(lines.where_frames, stacks())))
    return found.most_common(1)[0][0] if found else None


def blocked(call: Callable[[], object]) -> tuple[float, float]:
    """How long a call took, and how much CPU time, in seconds."""
    started, burnt = time.perf_counter(), time.thread_time()
    call()
    return time.perf_counter() - started, time.thread_time() - burnt


def on_threads(calls: Sequence[Callable[[], object]], later: float) -> tuple[float, float, list[object]]:
    """Make each call on a thread of its own, the last one `later` seconds after the others.

    Returns how long the shortest call took, in seconds, the rate of all of them together, in calls/s, and what each
    returned.
    """

    def one(start: float, call: Callable[[], object]) -> tuple[float, object]:
        time.sleep(start)
        begun = time.perf_counter()
        returned = call()
        return time.perf_counter() - begun, returned

    started = time.perf_counter()
    with ThreadPoolExecutor(len(calls)) as pool:
        made = [*pool.map(one, [*[0.0] * (len(calls) - 1), later], calls)]
    rate = len(calls) / (time.perf_counter() - started)
    return min(took for took, _ in made), rate, [returned for _, returned in made]
