"""6.7: the service with the batch model that it makes itself, as it runs for its callers."""

from __future__ import annotations

import random
from collections.abc import Callable
from statistics import fmean
from typing import Any

from checks.harness.assertions.answers import close, content
from checks.harness.errors import Failure
from checks.harness.plain_words import describe
from checks.harness.syntax import calls_with
from checks.harness.workspace import Workspace

PATH = "/predict/batched"
BASE, ITEM = 0.03, 0.08
EARLY = 0.005
"""Seconds by which a timer may go off too early."""
MADE = (
    "`create_app`: `app.state.batch_model = BatchModel(settings.batch_base_seconds, settings.batch_item_seconds, "
    "settings.max_batch)`."
)


def started(service: Callable[..., Any], where: str | None, **settings: Any) -> Any:
    """The service with these settings, and with its own model: where it has none, `create_app` is at `where`."""
    try:
        return service(**settings)
    except AttributeError as error:
        if "batch_model" not in str(error):
            raise
        seen, wanted = f"your code raised {describe(error)}", "a `BatchModel` is there before the lifespan begins"
        raise AssertionError(Failure(seen, wanted, f"It belongs in {MADE}", where)) from None


def where_settings_are_made(workspace: Workspace) -> str | None:
    """A call of `Settings` that gives them values, which those of a server's environment should have."""
    return workspace.where_found(calls_with("Settings"), "service")


def full_batches(service: Callable[..., Any], rng: random.Random, where: str | None) -> None:
    """A full batch and one more are answered, no faster than the settings say."""
    most = rng.randint(2, 5)
    app = started(service, where, max_batch=most, batch_base_seconds=BASE, batch_item_seconds=ITEM)
    made = [[rng.uniform(-100, 100), rng.uniform(-100, 100)] for _ in range(most + 1)]
    asked = [app.post(PATH, {"features": features}) for features in made]
    what = f"with the service's own batch model, and max_batch={most}, POST {PATH}"
    for features, one in zip(made, asked, strict=True):
        answer = one.answer()
        assert answer.status_code == 200, Failure(f"{what} gave {answer.status_code}", "200", MADE, where)
        got = content(answer).get("prediction")
        assert isinstance(got, float) and close(got, fmean(features)), Failure(  # noqa: PT018
            f"{what} answered {got!r}", "the mean of its own features", MADE, where
        )
    took, least = max(one.finished for one in asked) - asked[0].sent, 2 * BASE + (most + 1) * ITEM
    assert took >= least - EARLY, Failure(
        f"{what}: {most + 1} items were answered within {took:.3f} s",
        f"two calls, of base {BASE} s and {ITEM} s an item: {least:.3f} s",
        MADE,
        where,
    )
