"""6.7: the learner's app around a batch model that is held at the gate."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from checks.harness.assertions.answers import content
from checks.harness.assertions.routed import routed
from checks.harness.cell.batch_probe import BatchCall, BatchProbe
from checks.harness.errors import Failure, cut
from checks.harness.source_lines import SourceLines
from checks.harness.syntax import calls, reads

PATH = "/predict/batched"
WINDOW = 0.02
"""Seconds of the window: no bound of a check, a call only has to come some time."""
ONE = "One `Batcher` for the whole app, made in the lifespan: `app.state.batcher`."
SETTINGS = (
    "`Batcher(run, settings.max_batch, settings.batch_window)`: the two settings as they are, in this order, the "
    "window in seconds."
)

Service = Callable[..., Any]


class Batched:
    """The learner's app around the batch probe, and the requests that were sent.

    Lines: its batcher is made in the function at `made_at`, at `batcher_at`; `called_at` names the call of the model.
    """

    def __init__(
        self, service: Service, rng: random.Random, made_at: str | None, window: float = WINDOW, **settings: Any
    ) -> None:
        self.rng, self.made_at = rng, made_at
        self.most = rng.randint(3, 5)
        self.probe = BatchProbe()
        limits = {name: value(self.most) for name, value in settings.items()}
        self.app = service(batch_model=self.probe, max_batch=self.most, batch_window=window, **limits)
        lines: SourceLines = self.app.lines
        self.called_at = lines.where_found(reads("predict_batch"), "service")
        self.batcher_at = lines.where_found(calls("Batcher"), "service") or made_at
        self.sent: dict[tuple[float, ...], Any] = {}

    def send(self, number: int) -> list[Any]:
        """Send so many requests, in this order."""
        made = [tuple(self.rng.uniform(-100, 100) for _ in range(self.rng.randint(2, 5))) for _ in range(number)]
        pending = [self.app.post(PATH, {"features": features}) for features in made]
        self.sent |= dict(zip(made, pending, strict=True))
        return pending

    def quiet(self) -> None:
        """Wait until nothing moves any more."""
        self.app.until(lambda: False, seconds=5)

    def first_call(self) -> BatchCall:
        """Send one request, and wait until it is in the model."""
        (one,) = self.send(1)
        self.app.until(lambda: self.probe.calls or one.done)
        if not self.probe.calls and not one.done:
            waiting = self.app.where_waiting() or ""
            assert not waiting.startswith("lab/batching.py"), Failure(
                f"a request to POST {PATH} waits in the batcher, and the batch model was never called",
                f"a call when the window of {WINDOW} s is over",
                SETTINGS,
                self.made_at,
            )
        if not self.probe.calls:
            answer = one.answer()
            routed(self.app, answer)
            raise AssertionError(
                Failure(
                    f"POST {PATH} gave {answer.status_code}: {cut(answer.text)}, and the batch model was never called",
                    "one call of `app.state.batch_model`, which the checkpoint has replaced before the lifespan began",
                    "The lifespan makes the batcher around what it finds at `app.state.batch_model`.",
                    self.batcher_at,
                )
            )
        return self.probe.calls[0]

    def one_at_a_time(self) -> None:
        """No call came in while another one was running."""
        together = [call for call in self.probe.calls if call.inside]
        assert not together, Failure(
            f"{len(together)} of {len(self.probe.calls)} calls of the model came while another one was running",
            "one call at a time",
            ONE,
            self.batcher_at,
        )

    def let_all_go(self) -> None:
        """Open the gate, and wait for all answers: each has its own."""
        self.probe.open()
        self.app.finish([*self.sent.values()], seconds=10)
        self.one_at_a_time()
        for features, one in self.sent.items():
            answer = one.answer()
            assert answer.status_code == 200, Failure(
                f"POST {PATH} gave {answer.status_code}: {answer.text[:80]}", "200"
            )
            got = content(answer).get("prediction")
            assert got == self.probe.answer(features), Failure(
                f"POST {PATH} answered {got!r}",
                "the model's answer to what this caller has sent, unchanged",
                "`await batcher.submit(body.features)`, and the answer in a `PredictResponse`.",
            )
