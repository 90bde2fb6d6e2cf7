"""1.3's model alone: how it waits when it is awaited, and when it blocks.

A virtual clock says exactly what is wrong, and why. That a model is right is seen on this process's own clock.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from random import Random
from statistics import fmean
from typing import Any

from checks.harness.assertions.answers import calling, close, is_number, short
from checks.harness.cell.virtual_time import TICK
from checks.harness.cell.waits import Waited
from checks.harness.errors import Failure
from checks.harness.grading.noise import EARLY, best_of, blame_the_machine_unless
from checks.harness.judge.handles import awaitable, awaited
from checks.harness.judge.timed import Timed, busiest_line, explained, reference, side_by_side, took_and_cost
from checks.harness.machine import crowding, fair_clock
from checks.harness.missing_await import where_called
from checks.harness.report.evidence import Show
from checks.harness.source_lines import SourceLines
from checks.support.ex1.answers import features

SIDE_BY_SIDE = "whether calls of the model wait side by side"
MOST_CALLS = 10
"""Real calls, one after the other, on a very busy machine: there a call takes long also if it does not wait."""
MANY = 8
"""How many times as many calls wait at once in virtual time, where they cost nothing."""


def awaits(simulated_model: Any, seconds: float, rng: Random, lines: SourceLines) -> None:
    """One awaited call waits exactly `seconds`; so does the same question asked again."""
    model, question = simulated_model(seconds), features(rng)
    with calling(f"predict of SimulatedModel({seconds:.3f})", lines):
        call = model.predict(question)
    assert awaitable(call), Failure(
        f"predict returned {call!r}", wanted="something to await", hint="`async def predict(...)`."
    )
    forget(call)
    once = explained(model.predict, [(0, question)], lines)
    assert not once.on_loop, Failure(
        "predict called time.sleep on the event loop's own thread",
        wanted=f"{seconds:.3f} s awaited, in which the loop serves other requests",
        hint="`await asyncio.sleep(self.seconds)`.",
        where=once.where,
    )
    why, hint = why_not(once)
    assert math.isclose(once.seconds[0], seconds, abs_tol=TICK), Failure(
        f"one predict of SimulatedModel({seconds:.3f}) waited {once.seconds[0]:.3f} s on the event loop's clock{why}",
        wanted=f"exactly {seconds:.3f} s, awaited",
        hint=hint,
        where=where_forgotten(simulated_model.predict, once.forgotten, lines) or once.where,
    )
    for other in (0, rng.randint(3, 9)):
        (took,) = explained(simulated_model(other).predict, [(0, features(rng))], lines).seconds
        assert math.isclose(took, other, abs_tol=TICK), Failure(
            f"one predict of SimulatedModel({other}) waited {took:.3f} s on the event loop's clock",
            wanted=f"exactly {other:.3f} s: the model's own `seconds`, also if it is large, and also if it is 0",
            hint="`await asyncio.sleep(self.seconds)`: no `or`, no `min`, no `max` beside it.",
        )
    model = simulated_model(seconds)
    _, again = explained(model.predict, [(start, question) for start in (0, 2 * seconds)], lines).seconds
    assert math.isclose(again, seconds, abs_tol=TICK), Failure(
        f"a question that had been asked before was answered after {again:.3f} s",
        wanted=f"{seconds:.3f} s for every call",
        hint="No cache: an answer that was kept takes no time, and hides what a model call costs.",
    )
    for _ in range(min(MOST_CALLS, math.ceil(crowding()))):
        long_enough(side_by_side(model.predict, [(0, question)], awaits=True), seconds, "predict")


def long_enough(timed: Timed, seconds: float, method: str) -> None:
    """No call was over before its time, on this process's clock."""
    assert min(timed.seconds) >= seconds - EARLY, Failure(
        f"{method} of SimulatedModel({seconds:.3f}) took {min(timed.seconds):.3f} s",
        wanted=f"at least {seconds:.3f} s of real time, in every call",
        hint="Each call waits by itself: `self.seconds`, once.",
    )


def forget(coroutine: Any) -> None:
    """Leave a coroutine alone that was made to be looked at; one in a cell stays there."""
    if hasattr(coroutine, "close"):
        coroutine.close()


def why_not(waited: Waited) -> tuple[str, str]:
    """Why a single call waited for another time than wanted, and what mends it."""
    right = "`await asyncio.sleep(self.seconds)`"
    if waited.forgotten:
        return f": `{waited.forgotten}` was called and not awaited", f"{right}, with the `await`."
    if waited.elsewhere:
        return ": a thread slept in its place (time.sleep)", f"{right} waits without a thread."
    if not waited.seconds[0]:
        return ": it awaited nothing that takes time", f"{right} waits, and lets others run meanwhile."
    return "", f"{right}: once, and with the seconds of this model."


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
    questions = [features(rng) for _ in range(number)]
    for asked in (questions, questions * MANY):
        together = explained(simulated_model(seconds).predict, [(0, question) for question in asked], lines)
        took = max(together.seconds)
        if asked is questions:
            show.number(f"{number} waits took as long as {took / seconds:.0f}", took / seconds)
        assert math.isclose(took, seconds, abs_tol=TICK), Failure(
            f"{len(asked)} calls of one model took {took:.3f} s, as long as {took / seconds:.0f} one after the other",
            wanted=f"{seconds:.3f} s, since they all wait at the same time",
            hint="Remove the lock or the semaphore: the model must take any number of calls at a time.",
            where=together.where,
        )
    model = simulated_model(seconds)
    late = [
        (0, questions[0]),
        (0.5, questions[1]),
        (0.75, questions[0]),
    ]  # another one half-way through, the first again
    staggered = explained(model.predict, [(part * seconds, asked) for part, asked in late], lines)
    other = max(staggered.seconds, key=lambda took: abs(took - seconds))
    assert math.isclose(other, seconds, abs_tol=TICK), Failure(
        f"a call that began while another one waited took {other:.3f} s",
        wanted=f"{seconds:.3f} s: each call has a wait of its own",
        hint="Two calls must not share one wait. Each call awaits its own `asyncio.sleep(self.seconds)`."
        if other < seconds
        else "A call must not wait for another one: no lock and no semaphore in the model.",
        where=staggered.where if other > seconds else None,
    )
    for_real(simulated_model, model, questions, seconds)


def for_real(simulated_model: Any, model: Any, questions: Sequence[list[float]], seconds: float) -> None:
    """The same on this process's clock: each call takes its time, and all of them far less than one after the other."""
    calls = [(0.0, question) for question in questions] + [(seconds / 2, questions[0])]
    wanted = 4 / seconds

    def rate(predict: Any) -> float:
        timed = side_by_side(predict, calls, awaits=True)
        long_enough(timed, seconds, "predict")
        return len(calls) / timed.together

    with fair_clock() as clock:
        reached = best_of(lambda: rate(model.predict), wanted)
    if reached < wanted:
        control = reference(simulated_model, seconds)
        blame_the_machine_unless(lambda: rate(control.predict), wanted, clock, SIDE_BY_SIDE)
    assert reached >= wanted, Failure(
        f"{len(calls)} calls of one model got {reached:.0f} answers/s",
        wanted=f"at least {wanted:.0f}: one after the other they get {1 / seconds:.0f}",
        hint="Remove the lock or the semaphore: the model must take any number of calls at a time.",
    )


def blocks(simulated_model: Any, seconds: float, rng: Random, lines: SourceLines) -> None:
    """A blocking call keeps its thread for `seconds`, without computing; those of several threads run side by side."""
    model, question, threads = simulated_model(seconds), features(rng), 8
    ask = partial(model.predict_blocking, question)
    blocked = partial(took_and_cost, model.predict_blocking)
    control = reference(simulated_model, seconds)
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
    if 1 / min(took, again) < soon:
        with fair_clock() as clock:
            alone = best_of(lambda: 1 / blocked(ask)[0], soon)
        if alone < soon:
            right = partial(control.predict_blocking, question)
            blame_the_machine_unless(lambda: 1 / blocked(right)[0], soon, clock, "how long a call blocks")
        assert alone >= soon, Failure(
            f"{name} took {1 / alone:.3f} s", wanted=f"{seconds:.3f} s", hint="`time.sleep(self.seconds)`, once."
        )
    assert min(burnt, burnt_again) < seconds / 20, Failure(
        f"{name} computed for {min(burnt, burnt_again):.3f} s",
        wanted="a wait that takes no CPU time",
        hint="`time.sleep(self.seconds)`. A loop that reads the clock again and again keeps a core busy, and all "
        "other threads wait.",
    )
    wanted, shortest = threads / (3 * seconds), list[float]()  # one after the other they would take 8 x seconds
    busiest: str | None = None

    others = [features(rng) for _ in range(threads)]
    calls = [(seconds / 2 if one is others[-1] else 0.0, one) for one in others]

    def look() -> None:
        nonlocal busiest
        busiest = busiest_line(model.predict_blocking, lines) or busiest

    def rate(method: Any) -> tuple[float, list[Any]]:
        timed = side_by_side(method, calls, awaits=False, meanwhile=(0.6 * seconds, look))
        shortest.append(min(timed.seconds))
        return threads / timed.together, timed.answers

    def rate_of_theirs() -> float:
        per_second, answers = rate(model.predict_blocking)
        own_answers(others, answers)
        return per_second

    with fair_clock() as clock:
        reached = best_of(rate_of_theirs, wanted)
    assert min(shortest) >= seconds - EARLY, Failure(
        f"a call of predict_blocking that began while others waited took {min(shortest):.3f} s",
        wanted=f"at least {seconds:.3f} s: each call has a wait of its own",
        hint=hint,
    )
    if reached < wanted:
        blame_the_machine_unless(lambda: rate(control.predict_blocking)[0], wanted, clock, SIDE_BY_SIDE)
    assert reached >= wanted, Failure(
        f"{threads} threads got {reached:.1f} calls/s of predict_blocking together",
        wanted=f"at least {wanted:.1f}: they wait side by side, and one alone gives {1 / seconds:.1f}",
        hint="Let all calls wait at the same time: no lock around `time.sleep`.",
        where=busiest,
    )


def own_answers(questions: Sequence[Sequence[float]], answers: Sequence[object]) -> None:
    """None of these answers is the mean of another thread's features. What else may be wrong is seen alone, too."""
    got: Any
    for question, got in zip(questions, answers, strict=True):
        mixed_up = is_number(got) and any(close(got, fmean(other)) for other in questions if other is not question)
        assert not mixed_up, Failure(
            f"{len(questions)} threads called predict_blocking together, and one got {got:.6g}, the mean of the "
            "features of another thread",
            wanted=f"the mean of its own, {fmean(question):.6g}",
            hint="All threads share the model: keep what belongs to one call in local variables, not on `self`.",
        )


def answers_the_mean(simulated_model: Any, name: str, rng: Random) -> None:
    """The method `name` returns the mean of the features."""
    method = getattr(simulated_model(0.001), name)
    for question in [features(rng) for _ in range(5)]:
        got, mean = method(question), fmean(question)
        got = awaited(got) if awaitable(got) else got
        hint = "`return fmean(features)` at its end." if got is None else ""
        assert is_number(got), Failure(f"{name} returned {got!r}", wanted="a float", hint=hint)
        assert close(got, mean), Failure(
            f"{name} answered {got:.6g} to {short(question)}",
            wanted=f"their mean, {mean:.6g}",
            hint="`fmean(features)`, of the features of this call.",
        )
