"""Exercise 6 - dynamic batching.

A call of the model costs nearly the same for eight items as for one. So callers who come at about the same time share a
call. You write the batcher that collects them, and predict its throughput and latency. Begin with `lab/predictions.py`.

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
        "Where rate x item_seconds is 1 or more, the second number is infinite.",
        "`batched_latency` has three cases: too much load, a model that is always busy, and one that is idle at times.",
    ),
)
def test_the_law(workspace, lab, rng, show):
    """Arithmetic predicts what batches give.

    Larger batches serve more items per second, and each item waits longer. You do not choose how large they get: that
    follows from the load. The window only limits how long the first item waits, and only while the model is idle.
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
        check(function, rng, workspace)
    show.number("8 a call: 80 items/s, one a call: 12", 80 / 12)


@pytest.mark.checkpoint(
    "6.2",
    points=2,
    needs=["4.5"],
    deadline=30,
    hints=(
        "Two events matter: an item arrives, and a call ends. At both check whether a batch is due.",
        "Keep the waiting items in a `collections.deque`, each with a future of its own (`loop.create_future()`).",
        "The call runs in a task of its own (`loop.create_task`), so that others can arrive meanwhile.",
    ),
)
def test_a_full_batch_leaves_at_once(play, workspace, lab, rng, show):
    """A full batch leaves at once.

    No later item can join a full batch, so to wait only costs time. And the model runs one call at a time: two calls at
    once share its hardware, and each of them is slower, or fails.
    """
    from checks.support.ex6 import leaving_together

    batcher = lab.batching.Batcher
    show.at(workspace.where_defined(getattr(batcher, "submit", batcher)))
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
        "The window of the longest waiting item counts, from its own arrival: `loop.time() + batch_window`.",
        "`loop.call_at(due, ...)` checks again when it is over. When a call ends, check without a timer.",
    ),
)
def test_the_window(play, workspace, lab, rng, show):
    """No item waits longer than the window.

    The window limits how long an item waits for others. While the model works, each item waits for it anyway, and
    others join. A window that starts again at each arrival never ends under load. A window that starts when the model
    is free comes on top of the wait for the model.
    """
    from checks.support.ex6 import leaving_together

    batcher = lab.batching.Batcher
    show.at(workspace.where_defined(getattr(batcher, "submit", batcher)))
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

    A batch holds items of different users. An answer in the wrong place gives one user's data to another. One bad item
    must not cost seven others their answer. And a caller without an outcome waits until its client gives up.
    """
    from checks.support.ex6 import outcomes

    batcher = lab.batching.Batcher
    show.at(workspace.where_defined(getattr(batcher, "submit", batcher)))
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
        "`try: return await future`, and in `finally:` remove the item from the waiting ones, if it is still there.",
        "The batch runs in a task of its own. A future whose caller has left is done: check that before you set it.",
    ),
)
def test_who_is_cancelled(play, workspace, lab, rng, show):
    """A caller who leaves costs others nothing.

    Clients time out all the time. An item whose caller has left must not take the place of another item. And if the
    first caller of a batch runs the call, seven others lose their answer when that caller leaves.
    """
    from checks.support.ex6 import ending

    batcher = lab.batching.Batcher
    show.at(workspace.where_defined(getattr(batcher, "submit", batcher)))
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
        "`self._closed = True` is a third reason for a batch to leave. Then wait until no call is running any more.",
        "A task that waits for items for ever has to be ended, and awaited, before `close` returns.",
    ),
)
def test_closing(play, workspace, lab, rng, show):
    """`close` serves all items that wait.

    Every deployment ends processes. `close` serves the waiting items without their window, since no more items can join
    them. A later `submit` raises an exception, so that its caller sees the refusal.
    """
    from checks.support.ex6 import ending

    batcher = lab.batching.Batcher
    submit = workspace.where_defined(getattr(batcher, "submit", batcher))
    show.at(workspace.where_defined(getattr(batcher, "close", batcher)))
    ending.closed_with_nothing(play, rng, show, submit)
    ending.closed_with_a_few(play, rng, show, submit)
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

    The model blocks, so it needs a thread, and one that no `def` endpoint can take. The batcher itself refuses nothing.
    The admission control in front of it limits how many requests wait, and so how large batches can become.
    """
    from checks.support.ex6 import endpoint, own_model, told
    from checks.support.ex6.batched import Batched

    batcher, at = lab.batching.Batcher, told.where_told(lab, workspace)
    created_at, made_at = (
        workspace.where_named(lab.service, name, "create_app") for name in ("create_app", "lifespan")
    )
    show.at(workspace.where_defined(batcher))
    told.sizes_are_as_run_was_given_them(play, rng, show, at.report)
    show.at(workspace.where_named(lab.service, "predict_batched", "create_app"))
    batched = Batched(service, rng, made_at)
    endpoint.beside_the_event_loop(batched)
    endpoint.the_next_batch_collects(batched)
    endpoint.without_the_pool(batched)
    endpoint.nothing_wrong_gets_in(batched)
    told.sizes_are_told(batched, at)
    endpoint.a_failed_item_travels(service, created_at)
    guarded = Batched(service, rng, made_at, max_in_flight=lambda most: most + 2, max_queue=lambda _: 2)
    endpoint.behind_the_admission(guarded, batched, at)
    show.at(made_at)
    endpoint.nothing_is_left(batched)
    own_model.full_batches(service, rng, created_at)
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
    """Batches are faster on a real server.

    There are 32 callers, and a call for eight items takes hardly longer than one for one item. Look at the second row,
    too. It has only as many requests in flight as one batch holds: one half is in the model, the other half collects,
    so no batch is full.
    """
    from checks.support.ex6 import own_model
    from checks.support.ex6.real import Batches

    lab.batching.Batcher  # noqa: B018  # an exception is raised here first, where its line is known
    here = service()
    assert here.get("/health").answer().status_code == 200, Failure("GET /health does not answer", "200: see 1.1")
    show.at(workspace.where_named(lab.service, "predict_batched", "create_app"))
    show.at(own_model.where_settings_are_made(workspace))  # 6.7 gives settings, a server gives none
    Batches(serve, rng, workspace).judge(show)
