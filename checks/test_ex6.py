"""Exercise 6 - dynamic batching.

A call of the model costs nearly the same for eight items as for one. So callers who come at about the same time share a
call. You write what collects them, and predict what it gives. Begin with `lab/predictions.py`.

PYTEST_DONT_REWRITE
"""

import pytest

from checks.harness.errors import Failure


@pytest.mark.checkpoint(
    "6.1",
    points=2,
    needs=["4.5"],
    deadline=15,
    hints=(
        "The docstrings have the formulas. `batch_size` is the larger of two numbers, at most `max_batch`.",
        "Where rate x item_seconds is 1 or more, the second number has no end.",
        "`batched_latency` has three cases: too much load, a model that never rests, and one that waits.",
    ),
)
def test_the_law(workspace, lab, rng, show):
    """What batches give is arithmetic.

    Larger batches serve more items per second, and each of them waits longer. How large they get is not yours to
    choose: it follows from the load. The window only says how long the first one waits, and only while the model rests.
    """
    from checks.support.ex6 import laws

    predictions = lab.predictions
    for check, name in (
        (laws.throughput, "batch_throughput"),
        (laws.sizes, "batch_size"),
        (laws.latencies, "batched_latency"),
    ):
        function = getattr(predictions, name)
        show.at(workspace.where_defined(function))
        check(function, rng)
    show.number("8 a call: 80 items/s, one a call: 12", 80 / 12)


@pytest.mark.checkpoint(
    "6.2",
    points=2,
    needs=["4.5"],
    deadline=30,
    hints=(
        "Two moments decide: an item arrives, and a call ends. At both look whether a batch is due.",
        "What waits stands in a `collections.deque`, each item with a future of its own (`loop.create_future()`).",
        "The call runs in a task of its own (`loop.create_task`), so that others can arrive meanwhile.",
    ),
)
def test_a_full_batch_leaves_at_once(play, workspace, lab, rng, show):
    """A full batch leaves at once.

    Nothing that comes later can join it, so to wait is to lose time. And the model does one thing at a time: two calls
    at once share its hardware and are each slower, or fail.
    """
    from checks.support.ex6 import leaving_together

    show.at(workspace.where_defined(lab.batching.Batcher))
    leaving_together.full_at_once(play, rng, show)
    leaving_together.full_one_by_one(play, rng, show)
    leaving_together.full_with_one(play, rng, show)
    rest = leaving_together.burst(play, rng, show)
    show.number(f"two full batches, then {rest}", rest)


@pytest.mark.checkpoint(
    "6.3",
    points=2,
    needs=["4.5"],
    deadline=30,
    hints=(
        "The window is that of the longest waiting item, since its own arrival: `loop.time() + batch_window`.",
        "`loop.call_at(due, ...)` looks again when it is over. When a call ends, look without a timer.",
    ),
)
def test_the_window(play, workspace, lab, rng, show):
    """No item waits longer than the window.

    For company, that is: while the model works an item waits for it in any case, and uses the time to collect others. A
    window that begins anew at each arrival has no end under load; one that begins when the model is free is paid twice.
    """
    from checks.support.ex6 import leaving_together

    show.at(workspace.where_defined(lab.batching.Batcher))
    leaving_together.a_lone_one(play, rng, show)
    leaving_together.a_trickle(play, rng, show)
    leaving_together.after_a_full_batch(play, rng, show)
    leaving_together.young_when_the_model_is_free(play, rng, show)
    leaving_together.no_window(play, rng, show)
    leaving_together.behind_a_busy_model(play, rng, show)
    show.number("a lone item waits exactly its window", 1)


@pytest.mark.checkpoint(
    "6.4",
    points=3,
    needs=["4.5"],
    deadline=30,
    hints=(
        "`for caller, outcome in zip(batch, outcomes, strict=True)`: by place, never by item. Check the number first.",
        "`isinstance(outcome, Exception)` goes to `future.set_exception`, everything else to `future.set_result`.",
        "`except Exception as error` around `await run(...)` sets the error on each future, and then goes on.",
    ),
)
def test_each_caller_gets_its_own_outcome(play, workspace, lab, rng, show):
    """Each caller gets its own outcome.

    A batch makes neighbours of strangers. An answer in the wrong place gives one user's data to another, one bad item
    must not cost seven others their answer, and a caller who is never told waits until its client gives up.
    """
    from checks.support.ex6 import outcomes

    show.at(workspace.where_defined(lab.batching.Batcher))
    outcomes.its_own(play, rng, show)
    outcomes.a_tuple(play, rng, show)
    for ends in outcomes.BREAKS:
        outcomes.a_batch_that_fails(play, rng, show, ends)
    show.number(f"{outcomes.CALLERS} callers, {outcomes.CALLERS} outcomes", outcomes.CALLERS)


@pytest.mark.checkpoint(
    "6.5",
    points=2,
    needs=["4.5"],
    deadline=30,
    hints=(
        "`try: return await future` and `finally:` take the item out of what waits, if it still stands there.",
        "The batch runs in a task of its own. A future whose caller has left is done: look before you set it.",
    ),
)
def test_who_is_cancelled(play, workspace, lab, rng, show):
    """A caller who leaves costs others nothing.

    Clients time out all the time. An item whose caller has left takes a place that another could have; and where the
    call belongs to the first of a batch, seven others lose their answer when that one leaves.
    """
    from checks.support.ex6 import ending

    show.at(workspace.where_defined(lab.batching.Batcher))
    ending.cancelled_while_waiting(play, rng, show)
    ending.all_cancelled(play, rng, show)
    places = ending.cancelled_in_the_model(play, rng, show)
    ending.cancelled_behind_a_busy_model(play, rng, show)
    ending.cancelled_is_not_waiting(play, rng, show)
    show.number(f"each of {places} places has left once", places)


@pytest.mark.checkpoint(
    "6.6",
    points=1,
    needs=["4.5"],
    deadline=30,
    hints=(
        "`self._closed = True` is a third reason for a batch to leave. Then wait for the call, until there is none.",
        "A task that waits for items for ever has to be ended, and awaited, before `close` returns.",
    ),
)
def test_closing(play, workspace, lab, rng, show):
    """Closing serves what waits.

    A deployment ends processes all day. What was taken on is served, without a window in which no more can come, and
    what comes later is refused in a way that its caller can see.
    """
    from checks.support.ex6 import ending

    batcher = lab.batching.Batcher
    show.at(workspace.where_defined(getattr(batcher, "close", batcher)))
    ending.closed_with_nothing(play, rng, show)
    ending.closed_with_a_few(play, rng, show)
    served = ending.closed_with_many(play, rng, show)
    show.number(f"{served} of {served} served", served)


@pytest.mark.checkpoint(
    "6.7",
    points=2,
    needs=["4.5"],
    deadline=90,
    hints=(
        "`create_app` puts a `BatchModel` at `app.state.batch_model`; the lifespan makes the batcher around it.",
        "`asyncio.to_thread(app.state.batch_model.predict_batch, batch)` is awaitable, and blocks no event loop.",
        "The handler is short: `await request.app.state.batcher.submit(body.features)`.",
    ),
)
def test_in_the_service(service, play, workspace, lab, rng, show):
    """The service answers in batches.

    The model blocks, so it has a thread, and one that no `def` endpoint can take from it. The batcher itself refuses
    nothing: the admission control in front of it decides how many wait, and so how large batches can become at all.
    """
    from checks.support.ex6 import endpoint, own_model, told
    from checks.support.ex6.batched import Batched

    batcher, made_at = lab.batching.Batcher, workspace.where_named(lab.service, "lifespan", "create_app")
    show.at(workspace.where_defined(batcher))
    told.sizes_are_as_run_was_given_them(play, rng, show, workspace.where_defined(getattr(batcher, "report", batcher)))
    show.at(workspace.where_named(lab.service, "predict_batched", "create_app"))
    batched = Batched(service, rng, made_at)
    endpoint.beside_the_event_loop(batched)
    endpoint.the_next_batch_collects(batched)
    endpoint.without_the_pool(batched)
    endpoint.nothing_wrong_gets_in(batched)
    told.sizes_are_told(batched)
    endpoint.a_failed_item_travels(service)
    guarded = Batched(service, rng, made_at, max_in_flight=lambda most: most + 2, max_queue=lambda _: 2)
    endpoint.behind_the_admission(guarded, batched)
    show.at(made_at)
    endpoint.nothing_is_left(batched)
    own_model.full_batches(service, rng, workspace.where_named(lab.service, "create_app"))
    endpoint.waits_for_the_window_and_the_end(service, rng, made_at)
    show.number(f"{batched.most} share a call, one waits", batched.most)


@pytest.mark.checkpoint(
    "6.8",
    points=1,
    needs=["4.5", "6.7"],
    deadline=180,
    hints=(
        "`GET /metrics` has the sizes of the batches: with 32 callers they should be full.",
        "Try it by hand: the lesson has the commands.",
    ),
)
def test_batches_on_a_real_server(serve, service, workspace, lab, rng, show):
    """Batches pay on a real server.

    32 callers, a model that takes eight items nearly as fast as one. Look at the row beside it, too: with as many in
    flight as one batch holds, half of them are in the model and the other half collects, and they take turns for ever.
    """
    from checks.support.ex6.real import Batches

    lab.batching.Batcher  # noqa: B018  # an exception is raised here first, where its line is known
    here = service()
    assert here.get("/health").answer().status_code == 200, Failure("GET /health does not answer", "200: see 1.1")
    show.at(workspace.where_named(lab.service, "predict_batched", "create_app"))
    Batches(serve, rng, workspace).judge(show)
