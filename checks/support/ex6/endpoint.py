"""6.7: the batcher in the service, with the batch model held at the gate."""

from __future__ import annotations

import random

from checks.harness.errors import Failure, NoAnswer, cut
from checks.support.ex6 import told
from checks.support.ex6.batched import ONE, PATH, SETTINGS, Batched, Service
from checks.support.ex6.own_model import started
from checks.support.ex6.told import OF_ITS_OWN

LONG = 300.0
"""Seconds of a window that no item waits for in the time of a check."""
ON_A_THREAD = (
    "`asyncio.to_thread(model.predict_batch, batch)`, or `anyio.to_thread.run_sync(..., limiter=CapacityLimiter(1))`."
)
REFUSED = (b"{}", b'{"features": []}', b'{"features": ["1"]}', b'{"features": [true]}', b'{"features": [NaN]}')


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
        batched.called_at or batched.app.where_waiting(),
    )
    assert not call.on_loop, Failure(
        "the batch model was called on an event loop's own thread", "on a thread", ON_A_THREAD, batched.called_at
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
            f"{len(got)} item{'s' * (len(got) != 1)}"
            + (", other ones or in another order" if len(got) == len(wanted) else ""),
            f"the first {most} that came" if number == 1 else "the one that was left",
            f"{SETTINGS} {ONE}",
            batched.batcher_at,
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
        "with all threads of the pool taken (as by `def` endpoints) the batch model was not called",
        "it has a thread of its own",
        ON_A_THREAD + " `run_in_threadpool` takes a thread of the pool.",
        batched.called_at,
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
    assert len(batched.probe.calls) == before, Failure("a refused body reached the model", "no call of the model")


def a_failed_item_travels(service: Service, created_at: str | None) -> None:
    """An item that has no answer is no 200, and no other error than the server's own. Its exception may come out."""
    app = started(service, created_at, batch_base_seconds=0, batch_item_seconds=0)
    request = app.post(PATH, {"features": [1e308, 1e308]})
    try:
        answer = request.answer()
    except (NoAnswer, NotImplementedError):
        raise
    except Exception:
        return
    assert answer.status_code >= 500, Failure(
        f"the mean of [1e308, 1e308] overflows in the batch model, and POST {PATH} gave {answer.status_code}: "
        f"{cut(answer.text)}",
        "the exception of an item without an answer reaches the server: a 500",
        "No `try` around `await batcher.submit(...)`: an exception of the model is no answer.",
    )


def shares_nothing(batched: Batched, other: Batched) -> None:
    """While items wait in one app, another app in the process serves its own, and no other ones."""
    (one,) = other.send(1)
    other.app.until(lambda: one.done)
    what = "two apps ran in one process, and a request to one of them"
    for probe, sent in ((other.probe, other.sent), (batched.probe, batched.sent)):
        strays = [item for call in probe.calls for item in call.items if item not in sent]
        assert not strays, Failure(
            f"{what} reached the batch model of the other",
            "each app has a batcher of its own",
            OF_ITS_OWN,
        )
    assert one.done, Failure(
        f"{what} got no answer while items waited in the other", "each app has a batcher of its own", OF_ITS_OWN
    )
    other.let_all_go()


def behind_the_admission(batched: Batched, other: Batched, at: told.Told) -> None:
    """With `max_in_flight` inside and `max_queue` waiting the next is refused, while the others are held.

    Meanwhile the `other` app goes on.
    """
    batched.first_call()
    batched.send(batched.most + 1)
    batched.quiet()
    told.waiting_is_told(batched, batched.most + 1, at)
    shares_nothing(batched, other)
    queued = batched.send(2)
    batched.quiet()
    (last,) = batched.send(1)
    batched.app.until(lambda: last.done)
    done = [one for one in queued if one.done]
    what = f"with max_in_flight={batched.most + 2} and max_queue=2 the request number {batched.most + 5}"
    assert last.done, Failure(
        f"{what} waits",
        "503 at once: the batcher has no limit of its own, the admission control in front of it is the limit",
        "The path is below /predict, which AdmissionControl guards.",
        at.guard,
    )
    del batched.sent[[*batched.sent][-1]]
    status = last.answer().status_code
    assert status == 503, Failure(f"{what} gave {status}", "503 at once", where=at.guard)
    assert not done, Failure(
        f"{what} was refused, and also a request before it", "the two before it wait", where=at.guard
    )
    batched.let_all_go()
    told.sizes_are_told(batched, at, second=True)


def nothing_is_left(batched: Batched) -> None:
    """At the end of the lifespan the batcher is closed, and no task of it is left."""
    batched.app.stop()
    left = batched.app.tasks_left
    assert not left, Failure(
        f"the lifespan had ended, and {left} tasks of the app were left",
        "no task",
        "`await app.state.batcher.close()` behind the lifespan's `yield`.",
    )


def waits_for_the_window_and_the_end(service: Service, rng: random.Random, made_at: str | None) -> None:
    """With a long window too few items wait, until the lifespan ends: then they are served."""
    batched = Batched(service, rng, made_at, window=LONG)
    batched.probe.open()
    batched.send(batched.most - 1)
    batched.quiet()
    early = sum(len(call.items) for call in batched.probe.calls)
    assert not early, Failure(
        f"with batch_window={LONG:g} and max_batch={batched.most} {batched.most - 1} requests came, and {early} of "
        "them were in the model at once",
        "they wait for the window, or for a full batch",
        SETTINGS,
        batched.batcher_at,
    )
    batched.app.stop()
    served = sum(len(call.items) for call in batched.probe.calls)
    assert served == batched.most - 1, Failure(
        f"{batched.most - 1} requests waited when the lifespan ended, and {served} of them were served",
        "all of them: the lifespan closes the batcher",
        "`await app.state.batcher.close()` behind the lifespan's `yield`.",
    )
