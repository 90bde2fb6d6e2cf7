"""6.5 and 6.6: callers who are cancelled, and a batcher that is closed, on a virtual clock."""

from __future__ import annotations

import random

from checks.harness.errors import Failure
from checks.harness.report.evidence import Show
from checks.support.ex6.scenes import End, Play, Scene, Seen, answered, calls_in_words, same, seconds

FOREVER = 50.0
"""A window, in virtual seconds, that no item should wait for once the batcher is closed."""
OWN_TASK = (
    "The call of the model belongs to no caller: a task of its own awaits `run`, and each caller awaits only a future "
    "of its own."
)


def _leaves_at_once(seen: Seen, number: int, at: float, where: str) -> None:
    end = seen.callers[number]
    assert end.how == "cancelled", Failure(
        f"a caller was cancelled {where}, and it {end}",
        "it ends with the CancelledError, at once",
        OWN_TASK if end.how == "raised" else "`except asyncio.CancelledError:` has to `raise` again at its end.",
        seen.places.raised(number),
    )
    assert same(end.ended, at), Failure(
        f"a caller was cancelled {where} at {seconds(at)}, and ended at {seconds(end.ended or 0)}",
        "at once",
        "Await nothing else after the cancellation. " + OWN_TASK,
        seen.places.raised(number),
    )


def cancelled_while_waiting(play: Play, rng: random.Random, show: Show) -> None:
    """It takes no place, and never reaches the model."""
    window = rng.randint(20, 40) / 100
    for leaves in (0, 1, 2):
        scene = Scene(rng, 8, 4, window, "cancelled while it waits")
        scene.submit(0, 0, 1, 2)
        at = round(0.3 * window, 3)
        scene.cancel(at, leaves)
        scene.submit(round(0.5 * window, 3), 3)  # with the one who left there would be four: a full batch
        scene.submit(5 * window + 5, 4, 5, 6, 7)
        seen = scene.play(play, show)
        _leaves_at_once(seen, leaves, at, "while its item waited")
        _never_served(seen, [leaves])
        stay = [number for number in range(8) if number != leaves]
        call = seen.call_of(3)
        assert call is None or not same(call.entered, round(0.5 * window, 3)), Failure(
            f"with max_batch=4 a batch of {len(call.items) if call else 0} left when only three callers still waited: "
            "the cancelled one was counted, too",
            "an item whose caller was cancelled takes no place in a batch",
            "`finally:` in `submit` removes the item from those that wait.",
            seen.places.raised(leaves),
        )
        _others_are_answered(seen, stay, "one caller was cancelled while its item waited")


def cancelled_behind_a_busy_model(play: Play, rng: random.Random, show: Show) -> None:
    """While the model works one of five leaves: the next batch holds the other four."""
    window = rng.randint(60, 150) / 1000
    scene = Scene(rng, 6, 4, window, "cancelled behind a busy model")
    scene.other_calls["0"] = {"takes": 5 * window}
    scene.submit(0, 0)
    for number in range(1, 6):
        scene.submit(round((1 + number / 4) * window, 4), number)
    leaves = rng.randint(1, 4)
    scene.cancel(round(3 * window, 4), leaves)
    seen = scene.play(play, show)
    _never_served(seen, [leaves])
    stay = [number for number in range(1, 6) if number != leaves]
    call = seen.call_of(stay[0])
    got = len(call.items) if call else 0
    assert call is None or len(stay) == got, Failure(
        f"with max_batch=4 five items waited for a busy model, and the caller of place {leaves} was cancelled; the "
        f"next call then had {got} item{'s' * (got != 1)}",
        "the four that still waited: a cancelled item takes no place in a batch",
        "`finally:` in `submit` removes the item from those that wait. Then a batch is filled with those that stay.",
        seen.places.raised(leaves),
    )
    _others_are_answered(seen, [0, *stay], "one caller was cancelled while its item waited")


def cancelled_is_not_waiting(play: Play, rng: random.Random, show: Show) -> None:
    """`report()` does not count who has left. What else it says, and whether it is there at all, 6.7 judges."""
    window = rng.randint(20, 40) / 100
    scene = Scene(rng, 3, 4, window, "cancelled while it waits")
    scene.submit(0, 0, 1, 2)
    leaves = rng.randrange(3)
    scene.cancel(round(0.3 * window, 3), leaves)
    scene.does("report", round(0.6 * window, 3))
    try:
        seen = scene.play(play, show)
    except Exception:
        return
    told = seen.reports[0].get("waiting") if isinstance(seen.reports[0], dict) else None
    assert told != 3, Failure(
        "three items waited, and one of their callers was cancelled; `report()` still says waiting 3",
        "2: a cancelled caller does not wait any more",
        "`finally:` in `submit` removes the item from those that wait.",
        seen.places.raised(leaves),
    )


def all_cancelled(play: Play, rng: random.Random, show: Show) -> None:
    """No call for a batch that has no callers left; what comes later is served."""
    window = rng.randint(20, 40) / 100
    scene = Scene(rng, 7, 4, window, "all cancelled")
    scene.submit(0, 0, 1, 2)
    scene.cancel(round(0.5 * window, 3), 0, 1, 2)
    scene.submit(5 * window + 5, 3, 4, 5, 6)
    seen = scene.play(play, show)
    _never_served(seen, [0, 1, 2])
    _others_are_answered(seen, [3, 4, 5, 6], "all that waited had been cancelled, and others came")


def cancelled_in_the_model(play: Play, rng: random.Random, show: Show) -> int:
    """Each place of a batch once, then two of them, then all: the call goes on. Returns how many places there were."""
    most = rng.randint(3, 5)
    places = [[place] for place in range(most)] + [[0, most - 1], [*range(most)]]
    for leave in places:
        scene = Scene(rng, 2 * most, most, 0.05, "cancelled in the model")
        scene.submit(0, *range(most))
        at = round(scene.service(most) / 2, 3)
        scene.cancel(at, *leave)
        scene.submit(at + 0.01, *range(most, 2 * most))
        seen = scene.play(play, show)
        which = "all callers" if len(leave) == most else f"the caller of place {leave[0] + 1} of {most}"
        what = f"{which} was cancelled while the batch was in the model"
        assert seen.calls, Failure("the model was never called", "see 6.2")
        for number in leave:
            _leaves_at_once(seen, number, at, "while its item was in the model")
        assert not seen.calls[0].cancelled, Failure(
            f"{what}, and the call was cancelled with it",
            "the call goes on for the others of the batch",
            OWN_TASK,
            seen.places.raised(leave[0]),
        )
        stay = [number for number in range(2 * most) if number not in leave]
        _others_are_answered(seen, stay, what)
    return most


def _never_served(seen: Seen, items: list[int]) -> None:
    count = sum(seen.call_of(number) is not None for number in items)
    what = "an item was" if count == 1 else f"{count} items were"
    whose = "its caller" if count == 1 else "their callers"
    assert not count, Failure(
        f"{what} in the model, although {whose} had left while the item{'s' * (count > 1)} waited (the calls of the "
        f"model had {calls_in_words(seen)})",
        "such an item never reaches the model: it would take the place of another item",
        "`finally:` in `submit` removes the item from those that wait.",
        seen.places.raised(items[0]),
    )


def _others_are_answered(seen: Seen, items: list[int], what: str) -> None:
    for number in items:
        end = seen.callers[number]
        assert end.how == "answered", Failure(
            f"{what}, and another caller {end}",
            "the others are answered, and so is the next batch",
            "A future whose caller has left is done: `if not future.done():` before you set it. " + OWN_TASK,
            seen.places.hands_out(number),
        )


def closed_with_nothing(play: Play, rng: random.Random, show: Show, submit: str | None) -> None:
    """Closing with nothing to do, and twice, returns at once; `submit`, at that line, raises from then on."""
    scene = Scene(rng, 2, 4, FOREVER, "closed with nothing to do")
    scene.does("close", 0)
    scene.does("close", 0.1)
    scene.submit(0.2, 0)
    seen = scene.play(play, show)
    for at, end in zip((0.0, 0.1), seen.closed, strict=True):
        _closed_at(seen, end, at, "with nothing to do")
    _refused(seen, 0, "after it had been closed", submit)
    _no_task_is_left(seen)


def closed_with_a_few(play: Play, rng: random.Random, show: Show, submit: str | None) -> None:
    """Two items wait for a long window: they leave at once, and close returns with their answers."""
    scene = Scene(rng, 3, 4, FOREVER, "closed while two wait")
    scene.submit(0, 0, 1)
    scene.does("close", 1)
    scene.submit(1.01, 2)
    seen = scene.play(play, show)
    _drained(seen, [0, 1], [1 + scene.service(2)] * 2, "two items waited when it was closed at 1.000 s")
    _refused(seen, 2, "while it was being closed", submit)
    _no_task_is_left(seen)


def closed_with_many(play: Play, rng: random.Random, show: Show) -> int:
    """A batch is in the model, and more than one behind it: all are served, one after the other. Returns how many."""
    most = rng.randint(3, 5)
    rest = rng.randint(1, most - 1)
    total = 2 * most + rest
    scene = Scene(rng, total, most, FOREVER, "closed with more than one batch to go")
    scene.submit(0, *range(total))
    scene.does("close", 0.01)
    scene.does("close", 0.02)
    seen = scene.play(play, show)
    full = scene.service(most)
    begin = min(seen.calls[0].entered, 0.01) if seen.calls else 0  # that a full batch leaves at once is 6.2's
    ends = [begin + full, begin + 2 * full, begin + 2 * full + scene.service(rest)]
    times = [ends[0]] * most + [ends[1]] * most + [ends[2]] * rest
    what = f"{most} items were in the model and {most + rest} waited when it was closed (max_batch={most})"
    too_many = [len(call.items) for call in seen.calls if len(call.items) > most]
    assert not too_many, Failure(
        f"{what}: a call had {too_many[0]} items",
        f"at most {most}, also after `close`",
        "Also close in batches.",
        seen.places.decides(next(n for n, call in enumerate(seen.calls) if len(call.items) > most)),
    )
    _drained(seen, [*range(total)], times, what)
    _no_task_is_left(seen)
    return total


def _drained(seen: Seen, items: list[int], times: list[float], what: str) -> None:
    for number, at in zip(items, times, strict=True):
        end = seen.callers[number]
        assert end.how == "answered", Failure(
            f"{what}, and a caller {end}",
            "all waiting items are served",
            "`close` serves the waiting items in batches, and waits for them. It drops and cancels none.",
        )
        assert same(end.ended, at), Failure(
            f"{what}, and a caller was answered at {seconds(end.ended or 0)}",
            f"at {seconds(at)}: after `close` an item waits only for the model, not for the window",
            "A batch is due in a third case: the batcher is closed.",
            _kept_by(seen, number, at),
        )
    for end in seen.closed:
        _closed_at(seen, end, times[-1], "with items to serve")
    answered(seen, items)


def _kept_by(seen: Seen, number: int, at: float) -> str | None:
    """What keeps an item after `close`: a wait of its own, else the condition that `close` came to; None for none."""
    call = seen.call_of(number)
    late = (seen.callers[number].ended or at) - at
    if call and late < FOREVER / 2:
        return seen.places.keeps(call.entered - late, call.entered)
    return seen.places.tests_at(seen.closed[0].came) if seen.closed else None


def _closed_at(seen: Seen, end: End, at: float, where: str) -> None:
    assert end.how is not None, Failure(f"close() {where} never returned", "it returns when nothing is left to do")
    assert end.how == "answered", Failure(f"close() {where}: it {end}", "it returns, also when it is called twice")
    assert same(end.ended, at), Failure(
        f"close() {where} returned at {seconds(end.ended or 0)}",
        f"at {seconds(at)}, with the last outcome",
        "Wait for the call that is running, and for those behind it."
        if (end.ended or 0) < at
        else "Return as soon as nothing is left: no window, no sleep.",
        seen.places.keeps(at, end.ended) if (end.ended or 0) > at else None,
    )


def _refused(seen: Seen, number: int, when: str, submit: str | None) -> None:
    end = seen.callers[number]
    assert end.how == "raised", Failure(
        f"submit {when}: its caller {end}",
        "a RuntimeError: after `close` no new batch is collected",
        "`if self._closed: raise RuntimeError(...)` at the start of `submit`.",
        submit,
    )
    assert end.what[0] == "RuntimeError", Failure(
        f"submit {when}: its caller {end}", "a RuntimeError", where=seen.places.raised(number) or submit
    )


def _no_task_is_left(seen: Seen) -> None:
    assert not seen.tasks, Failure(
        f"close() had returned, and {seen.tasks} task{'s' * (seen.tasks != 1)} of the batcher had not ended",
        "no task: one that is left delays the end of the loop, and is destroyed with a warning",
        "A task that loops for ever has to end: `task.cancel()`, and then await it.",
        next(iter(seen.places.left), None),
    )
