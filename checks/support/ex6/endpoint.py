"""6.7: the batcher in the service, with the batch model held at the gate."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

from checks.harness.assertions.answers import content
from checks.harness.assertions.routed import routed
from checks.harness.cell.batch_probe import BatchCall, BatchProbe
from checks.harness.errors import Failure
from checks.harness.source_lines import SourceLines

PATH = "/predict/batched"
WINDOW = 0.02
"""Seconds of the window: no bound of a check, a call only has to come some time."""
ON_A_THREAD = (
    "`asyncio.to_thread(model.predict_batch, batch)`, or `anyio.to_thread.run_sync(..., limiter=CapacityLimiter(1))`."
)
ONE = "One `Batcher` for the whole app, made in the lifespan: `app.state.batcher`."
REFUSED = (b"{}", b'{"features": []}', b'{"features": ["1"]}', b'{"features": [true]}', b'{"features": [NaN]}')

Service = Callable[..., Any]


class Batched:
    """The learner's app around the batch probe, and the requests that were sent."""

    def __init__(self, service: Service, rng: random.Random, lines: SourceLines, **settings: Any) -> None:
        self.rng, self.lines = rng, lines
        self.most = rng.randint(3, 5)
        self.probe = BatchProbe()
        limits = {name: value(self.most) for name, value in settings.items()}
        self.app = service(batch_model=self.probe, max_batch=self.most, batch_window=WINDOW, **limits)
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
        if not self.probe.calls:
            answer = one.answer()
            routed(self.app, answer)
            raise AssertionError(
                Failure(
                    f"POST {PATH} gave {answer.status_code}: {answer.text[:60]}, and the batch model was never called",
                    "one call of `app.state.batch_model`, which the checkpoint has replaced before the lifespan began",
                    "The lifespan makes the batcher around what it finds at `app.state.batch_model`.",
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


def beside_the_event_loop(batched: Batched) -> None:
    """The call stands on a thread of its own, and the service answers meanwhile."""
    call = batched.first_call()
    health = batched.app.get("/health")
    batched.app.until(lambda: health.done)
    healthy = health.done
    if not healthy:
        batched.probe.open()
    assert healthy, Failure(
        "while the batch model worked, GET /health was not answered",
        "it is answered at once: `predict_batch` blocks, and must not block the event loop",
        ON_A_THREAD,
        batched.app.where_waiting(),
    )
    assert not call.on_loop, Failure(
        "the batch model was called on an event loop's own thread", "on a thread", ON_A_THREAD
    )


def the_next_batch_collects(batched: Batched) -> None:
    """Of `max_batch` + 1 that come meanwhile the second call holds the first `max_batch`, the third the last."""
    most, probe, app = batched.most, batched.probe, batched.app
    batched.send(most)
    batched.quiet()
    batched.send(1)
    batched.quiet()
    batched.one_at_a_time()
    behind = [*batched.sent][1:]
    for number, wanted in ((1, behind[:most]), (2, behind[most:])):
        probe.release(probe.calls[number - 1])
        app.until(lambda number=number: len(probe.calls) > number)
        got = probe.calls[number].items if len(probe.calls) > number else []
        assert got == wanted, Failure(
            f"with max_batch={most} a call was in the model and {most + 1} requests waited; call {number + 1} then had "
            f"{len(got)} items" + (", other ones or in another order" if len(got) == len(wanted) else ""),
            f"the first {most} that came" if number == 1 else "the one that was left",
            f"`settings.max_batch`, no number of your own. {ONE}",
        )
    batched.let_all_go()


def without_the_pool(batched: Batched) -> None:
    """With all threads of FastAPI's pool taken the model is called all the same."""
    before = len(batched.probe.calls)
    with batched.app.pool_taken():
        (one,) = batched.send(1)
        batched.app.until(lambda: one.done)
        called = len(batched.probe.calls) - before
    assert called, Failure(
        "with all threads of the pool taken, by `def` endpoints say, the batch model was not called",
        "it has a thread of its own",
        ON_A_THREAD + " `run_in_threadpool` takes a thread of the pool.",
    )
    batched.let_all_go()


def nothing_wrong_gets_in(batched: Batched) -> None:
    """A body that /predict refuses is refused here, and never reaches the model."""
    before = len(batched.probe.calls)
    for body in REFUSED:
        answer = batched.app.post(PATH, content=body).answer()
        assert answer.status_code == 422, Failure(
            f"POST {PATH} with {body.decode()} gave {answer.status_code}",
            "422, as /predict answers",
            "The handler's body is a `PredictRequest`.",
        )
    assert len(batched.probe.calls) == before, Failure("a body that was refused had reached the model", "never")


def sizes_are_told(batched: Batched) -> None:
    """GET /metrics has what the gate saw."""
    seen = {str(size): number for size, number in Counter(len(call.items) for call in batched.probe.calls).items()}
    told = content(batched.app.get("/metrics").answer()).get("batches")
    hint = '`collected.report() | {"batches": request.app.state.batcher.report()}`.'
    assert isinstance(told, dict), Failure(f"GET /metrics has `batches` {told!r}", f"the sizes: {seen}", hint)
    assert told.get("sizes") == seen, Failure(
        f"GET /metrics says of the batches {told.get('sizes')!r}", f"{seen}: what the model was given", hint
    )
    assert told.get("waiting") == 0, Failure(
        f"GET /metrics says waiting {told.get('waiting')!r}", "0: all were answered"
    )


def waiting_is_told(batched: Batched, waiting: int) -> None:
    """GET /metrics says how many wait while the model works."""
    told = content(batched.app.get("/metrics").answer()).get("batches")
    got = told.get("waiting") if isinstance(told, dict) else None
    assert got == waiting, Failure(
        f"while a call was running and {waiting} items waited, GET /metrics says waiting {got!r}",
        f"{waiting}",
        "`len(self._waiting)`: what is in the model does not wait for it.",
    )


def behind_the_admission(batched: Batched) -> None:
    """With `max_in_flight` inside and `max_queue` waiting the next is refused, while the others are held."""
    batched.first_call()
    batched.send(batched.most + 1)
    batched.quiet()
    waiting_is_told(batched, batched.most + 1)
    queued = batched.send(2)
    batched.quiet()
    (last,) = batched.send(1)
    batched.app.until(lambda: last.done)
    done = [one for one in queued if one.done]
    what = f"with max_in_flight={batched.most + 2} and max_queue=2 the request number {batched.most + 5}"
    assert last.done, Failure(
        f"{what} waits on",
        "503 at once: the batcher has no limit of its own, the admission control in front of it is the limit",
        "The path is below /predict, which AdmissionControl guards.",
    )
    del batched.sent[[*batched.sent][-1]]
    status = last.answer().status_code
    assert status == 503, Failure(f"{what} gave {status}", "503 at once")
    assert not done, Failure(f"{what} was refused, and so was one that should wait", "two wait")
    batched.let_all_go()


def nothing_is_left(batched: Batched) -> None:
    """At the end of the lifespan the batcher is closed, and no task of it is left."""
    batched.app.stop()
    left = batched.app.tasks_left
    assert not left, Failure(
        f"the lifespan had ended, and {left} tasks of the app were left",
        "none",
        "`await app.state.batcher.close()` behind the lifespan's `yield`.",
    )
