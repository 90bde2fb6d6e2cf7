"""Requests to the learner's app, and what every checkpoint wants of them."""

from __future__ import annotations

import random
from collections.abc import Iterable

from checks.harness.assertions.routed import routed
from checks.harness.cell.inprocess import InProcess, Pending
from checks.harness.cell.probe import Probe
from checks.harness.errors import BrokenOff, Failure, cut

Calls = dict[tuple[float, ...], Pending]
"""Requests by the features that they sent, in the order in which they were sent."""


def send(app: InProcess, path: str, rng: random.Random, number: int) -> Calls:
    """Send so many prediction requests together, each with random features."""
    features = [tuple(rng.uniform(-100, 100) for _ in range(rng.randint(2, 8))) for _ in range(number)]
    return {values: app.post(path, {"features": values}) for values in features}


def line_up(app: InProcess, rng: random.Random, number: int) -> Calls:
    """Send so many requests to /predict, each when the one before it has arrived at the app."""
    calls: Calls = {}
    for _ in range(number):
        one = send(app, "/predict", rng, 1)
        calls |= one
        app.go_on_until(lambda one=one: all(call.arrived or call.done for call in one.values()))  # type: ignore[misc]
    return calls


def raise_what_crashed(calls: Calls) -> None:
    """Raise the exception in which one of these requests ended, if one did."""
    for call in calls.values():
        if call.done:
            call.answer()


def require_model_calls(app: InProcess, probe: Probe, calls: Calls) -> None:
    """Fail if the model was never called; the first answer says why."""
    if probe.calls:
        return
    answer = next(iter(calls.values())).answer()
    routed(app, answer)
    raise AssertionError(
        Failure(
            f"POST {answer.url.path} gave {answer.status_code}: {cut(answer.text)}, and the model was never called",
            "200, after one call of the model",
            "Take the model from `Depends(get_model)`, and call it in the route.",
        )
    )


def how_it_ended(call: Pending) -> int | str:
    """The status of the answer, or the name of the exception that ended the request."""
    try:
        return int(call.answer().status_code)
    except BrokenOff as broken_off:
        return broken_off.ended


def all_done(calls: Iterable[Pending]) -> bool:
    """Whether all of them have ended."""
    return all(call.done for call in calls)
