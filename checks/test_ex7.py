"""Exercise 7 - streaming tokens.

A language model gives its answer token by token, and a reader wants the first one soon. You write the endpoint that
streams, the use of its slots, and the metrics of such a service. Begin with `lab/tokens.py`.

PYTEST_DONT_REWRITE
"""

import pytest


@pytest.mark.checkpoint(
    "7.1",
    points=2,
    needs=["4.5"],
    deadline=15,
    hints=(
        "The docstrings have the formulas, and an example each.",
        "Three values say that there is no number: `math.inf` (it never came), `None` (it has none), `[]`.",
        "`slots_needed` is Little's law again: streams per second x the seconds that each holds its slot.",
    ),
)
def test_times_of_a_stream(workspace, lab, rng, show):
    """Two latencies describe a stream.

    The time to the first token is how long a reader waits with an empty page. The time per token is how fast the text
    then grows. It leaves the first token out: one number for both would describe neither.
    """
    from checks.support.ex7 import token_times

    for check, name in token_times.TIMES:
        function = getattr(lab.tokens, name)
        show.at(workspace.where_defined(function))
        check(function, lab.records, rng)
    show.at(workspace.where_defined(lab.predictions.slots_needed))
    token_times.slots(lab.predictions.slots_needed, rng)
    show.number("8 streams/s of 0.5 s each: 4 slots", 4)


@pytest.mark.checkpoint(
    "7.2",
    points=3,
    needs=["4.5"],
    deadline=15,
    hints=(
        "A stream of use has finished, its first token was in time, and its TPOT is within the limit, if it has one.",
        "`tail` takes three percentiles of three lists: one value a stream, one value a stream, and all gaps together.",
        "The limits are in ms, the times of a stream in seconds.",
    ),
)
def test_goodput_and_tail(workspace, lab, rng, show):
    """Goodput counts streams that were of use.

    A service can refuse most of its streams. The few streams that it served can have a good p99. So a stream that
    failed counts as infinite. And goodput counts only the streams within both limits, because a reader notices when one
    is missed.
    """
    from checks.support.ex7 import token_times

    with token_times.causes_first(lab.tokens, lab.records, rng, workspace.where_defined):
        show.at(workspace.where_defined(lab.tokens.goodput))
        token_times.counts_what_is_of_use(lab.tokens.goodput, lab.records, rng, workspace)
        show.at(workspace.where_defined(lab.tokens.tail))
        token_times.tails(lab.tokens.tail, lab.records, rng, workspace)
    show.number(f"{len(token_times.CASES_OF_USE)} kinds of stream", len(token_times.CASES_OF_USE))


@pytest.mark.checkpoint(
    "7.3",
    points=2,
    needs=["4.5"],
    deadline=60,
    hints=(
        "`create_app` puts a `SimulatedDecoder` at `app.state.decoder`; the handler asks for it at each request.",
        "An event is text: an optional line `event: done`, a line `data: ` with JSON, an empty line.",
        "`json.dumps` keeps a token in one line, also one that holds a line break.",
        "A response of your own calls `super().__init__()`, and sends a status and headers of its own.",
    ),
)
def test_the_wire(service, workspace, lab, rng, show):
    """Each token is an event of its own.

    A token may hold a line break, a quote or the word `data:`. JSON carries it unchanged. And the last event says how
    the stream ended: without it a reader cannot tell a complete answer from one that was broken off.
    """
    from functools import partial

    from checks.support.ex7 import own_decoder
    from checks.support.ex7.wire import Wire, where_event_is_wrong

    show.at(workspace.where_named(lab.service, "generate", "create_app"))
    wire = Wire(service, rng, partial(where_event_is_wrong, lab, workspace))
    traps = wire.whole_answers()
    wire.nothing_wrong_gets_in(workspace.where_named(lab.service, "GenerateRequest", "generate"))
    wire.decoders_that_fail()
    own_decoder.streams(service, workspace.where_named(lab.service, "create_app"))
    show.number(f"{traps} tokens with traps came through", traps)


@pytest.mark.checkpoint(
    "7.4",
    points=2,
    needs=["4.5", "7.3"],
    deadline=90,
    hints=(
        "`await send(...)` for each token, and nothing collected before it.",
        "A middleware that collects the body before it passes it on sends the stream as one piece.",
    ),
)
def test_each_token_at_once(service, serve, workspace, lab, rng, show):
    """Each token is sent at once.

    Streaming exists for this. With a buffer in the handler or in a middleware the text is the same, and ends at the
    same time, but its first token comes as late as its last.
    """
    from checks.support.ex7 import at_once, real
    from checks.support.ex7.streams import Streams

    show.at(workspace.where_named(lab.service, "generate", "create_app"))
    lets = at_once.side_by_side(Streams(service, rng, at_once.SIDE_BY_SIDE))
    real.on_uvicorn(serve, real.OnUvicorn.tokens_leave_at_once)
    show.number(f"{lets} tokens, each there before the next", lets)


@pytest.mark.checkpoint(
    "7.5",
    points=2,
    needs=["4.5", "7.3"],
    deadline=90,
    hints=(
        "`await receive()` gives `http.disconnect` when the reader has left: a task of its own has to wait for that.",
        "Release the slot exactly once: also after an error or a cancellation.",
        "A task that is cancelled before its first step never runs its `finally`. A done-callback runs all the same.",
    ),
)
def test_who_has_left(service, serve, workspace, lab, rng, show):
    """A reader who left frees its slot at once.

    Readers close the page before the end. If the decoder goes on, it works without a reader, in a slot that others wait
    for. And if each such reader costs a slot, a service of four slots has none left after four of them.
    """
    from checks.support.ex7 import leaving, real
    from checks.support.ex7.streams import Streams

    show.at(workspace.where_named(lab.service, "generate", "create_app"))
    leaving.in_the_middle(Streams(service, rng, 1))
    leaving.in_the_head(Streams(service, rng, 1))
    leaving.while_it_waits(Streams(service, rng, 1))
    leaving.at_each_turn(Streams(service, rng, 1))
    steps = leaving.random_steps(Streams(service, rng, rng.randint(2, 4)))
    real.on_uvicorn(serve, real.OnUvicorn.a_socket_is_closed)
    show.number(f"{steps} steps: a slot for each that is alive", steps)


@pytest.mark.checkpoint(
    "7.6",
    points=1,
    needs=["4.5", "7.3"],
    deadline=60,
    hints=(
        "The task that decodes must not wait for `send`: put a queue between the two.",
        "The queue needs no bound: `max_tokens` is one.",
    ),
)
def test_a_slow_reader(service, workspace, lab, rng, show):
    """A slot is for decoding, not for reading.

    If the response itself pulls the next token, a reader on a slow connection stops the decoder. Its slot stays taken,
    and all streams that wait for one wait longer.
    """
    from checks.support.ex7 import slow_reader
    from checks.support.ex7.streams import Streams

    show.at(workspace.where_named(lab.service, "generate", "create_app"))
    for leaves in (False, True):
        slow_reader.its_slot_is_free(Streams(service, rng, 1), leaves=leaves)
    show.number(f"{slow_reader.TOKENS} tokens wait, and no slot", slow_reader.TOKENS)


@pytest.mark.checkpoint(
    "7.7",
    points=2,
    needs=["4.5", "7.3"],
    deadline=60,
    hints=(
        "`decoder.free` and `decoder.waiting` say whether there is a place; then `acquire`, with a timeout around it.",
        "Send nothing before the slot is there: until then the answer may be a 200 or a 503.",
    ),
)
def test_a_slot_first(service, workspace, lab, rng, show):
    """A stream gets a slot soon, or a 503.

    A 200 that was sent cannot become a 503. So a stream waits for its slot before anything is sent. Until then it can
    be refused, and its reader can ask another server.
    """
    from checks.support.ex7 import own_decoder, slots

    show.at(workspace.where_named(lab.service, "generate", "create_app"))
    held, places = slots.the_queue(service, rng)
    slots.refused_without_patience(service, rng)
    waited = slots.too_long(service, rng)
    own_decoder.has_its_slots(service, rng, workspace.where_named(lab.service, "create_app"))
    show.number(f"{held} slots, {places} wait; refused after {waited:.2f} s", waited)


@pytest.mark.checkpoint(
    "7.8",
    points=1,
    needs=["4.5", "7.3"],
    deadline=60,
    hints=(
        "Take the time where the handler begins, and again when the first token is handed to `send`.",
        "The docstring of `StreamMetrics` says which streams have a TTFT and a TPOT, and which have left.",
        "Count an end where it happens, once: finished, left, failed or refused.",
    ),
)
def test_what_is_measured(service, workspace, lab, rng, show):
    """The service measures its TTFT and TPOT.

    `Server-Timing` cannot hold them: the header is sent before the first token is there. So the service records them
    for each stream, also for those that ended badly, and GET /metrics reports them.
    """
    from checks.support.ex7.measured import Measured

    show.at(workspace.where_named(lab.service, "metrics", "create_app"))
    measured = Measured(service, rng, lab.streaming)
    for tokens, waits in ((1, False), (3, True), (2, False), (4, True)):
        measured.a_stream(tokens, waits=waits)
    measured.other_ends(service)
    measured.left_unsent(service)
    measured.left_waiting(service)
    measured.refusals(service)
    measured.show(show)
