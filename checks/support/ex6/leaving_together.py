"""6.2 and 6.3: which items leave together, and when, on a virtual clock."""

from __future__ import annotations

import random

from checks.harness.errors import Failure
from checks.harness.report.evidence import Show
from checks.support.ex6.scenes import Play, Scene, Seen, answered, calls_in_words, same, seconds

AT_ONCE = (
    "Check at two moments whether a batch is due: when an item arrives, and when a call ends. It is due if "
    "`len(waiting) >= max_batch`: with max_batch=1 the first item fills the batch."
)
SINCE_ARRIVAL = (
    "Keep with each item when its window ends: `loop.time() + batch_window` at its arrival. A batch is due when the "
    "window of the longest waiting item is over. One timer is enough (`loop.call_at`)."
)
ZERO = "0 is a window, too. But 0 is false in Python: `window or 5.0` gives 5.0, and `if window:` is not taken."


def full_at_once(play: Play, rng: random.Random, show: Show) -> None:
    """`max_batch` items that come in one instant leave in it."""
    most = rng.randint(3, 6)
    scene = Scene(rng, most, most, rng.randint(300, 600) / 1000, f"{most} at once")
    scene.submit(0, *range(most))
    seen = scene.play(play, show)
    _leaves_full(scene, seen, 0, f"{most} items came at 0.000 s, with max_batch={most}")
    answered(seen, range(most))


def full_with_one(play: Play, rng: random.Random, show: Show) -> None:
    """With `max_batch` 1 the first item completes a batch."""
    scene = Scene(rng, 2, 1, rng.randint(300, 600) / 1000, "batches of one")
    scene.submit(0, 0)
    scene.submit(5, 1)
    seen = scene.play(play, show)
    _leaves_full(scene, seen, 0, "one item came at 0.000 s, with max_batch=1")
    answered(seen, range(2))


def full_one_by_one(play: Play, rng: random.Random, show: Show) -> None:
    """The last of `max_batch` items completes the batch, long before the window is over."""
    most = rng.randint(3, 6)
    scene = Scene(rng, most, most, rng.randint(300, 600) / 1000, f"{most} one by one")
    gap = round(scene.window / most / 2, 3)
    for number in range(most):
        scene.submit(number * gap, number)
    seen = scene.play(play, show)
    last = (most - 1) * gap
    _leaves_full(scene, seen, last, f"{most} items came one by one until {seconds(last)}, with max_batch={most}")
    answered(seen, range(most))


def _leaves_full(scene: Scene, seen: Seen, at: float, what: str) -> None:
    first = seen.calls[0] if seen.calls else None
    assert first, Failure(
        f"{what}: the model was never called",
        f"one call with all of them, at {seconds(at)}",
        AT_ONCE,
        seen.places.keeps(at),
    )
    most = scene.max_batch
    assert len(first.items) == most, Failure(
        f"{what}: the first call has {len(first.items)} of them ({calls_in_words(seen)})",
        f"one call with all {most}, at {seconds(at)}",
        "Items wait until `max_batch` are there, or the window of the first is over."
        if len(first.items) < most
        else "",
        seen.places.hurries() if len(first.items) < most else seen.places.decides(),
    )
    assert same(first.entered, at), Failure(
        f"{what}: {'it' if most == 1 else 'they'} left at {seconds(first.entered)}",
        f"at {seconds(at)}, in the instant in which the batch is full: no later item can join it",
        AT_ONCE,
        seen.places.tests_at(at) or seen.places.keeps(at, first.entered),
    )
    assert first.items == list(range(most)), _order(first.items, seen.places.takes())


def _order(items: list[int], where: str | None) -> Failure:
    return Failure(
        f"a batch holds its items in another order than they came: {items}",
        "the order of arrival, the longest waiting item first",
        "`collections.deque`: `append` at an arrival, `popleft` for a batch.",
        where,
    )


def burst(play: Play, rng: random.Random, show: Show) -> int:
    """More than two full batches at once: they leave one behind the other, in order. Returns the size of the last."""
    most = rng.randint(3, 6)
    rest = rng.randint(1, most - 1)
    total = 2 * most + rest
    scene = Scene(rng, total, most, 0.05, f"a burst of {total}")
    scene.submit(0, *range(total))
    seen = scene.play(play, show)
    sizes = [len(call.items) for call in seen.calls]
    what = f"{total} items came at once, with max_batch={most}: the calls had {', '.join(map(str, sizes)) or 'none'}"
    assert max(sizes, default=0) <= most, Failure(
        what,
        f"at most {most} in a call",
        "Take `min(max_batch, len(waiting))` items: a larger batch is refused.",
        seen.places.decides(next(n for n, size in enumerate([*sizes, most + 1]) if size > most)),
    )
    assert sizes == [most, most, rest], Failure(
        what,
        f"{most}, {most}, {rest}",
        "A call takes all items that wait, at most max_batch. The rest goes on waiting.",
        seen.places.decides(next((n for n, (a, b) in enumerate(zip(sizes, (most, most), strict=False)) if a < b), -1)),
    )
    items = [item for call in seen.calls for item in call.items]
    wrong = next((n for n, call in enumerate(seen.calls) if call.items != sorted(call.items)), 0)
    assert items == list(range(total)), _order(items, seen.places.takes(wrong))
    for earlier, later in zip(seen.calls, seen.calls[1:], strict=False):
        assert same(earlier.left, later.entered), Failure(
            f"a call ended at {seconds(earlier.left or 0)}, the next began at {seconds(later.entered)} with items that "
            "had waited for it",
            "in the same instant: capacity is lost if the model is idle while items wait",
            "When a call ends, check at once whether the next batch is due. Use no loop with a sleep.",
            seen.places.keeps(earlier.left or 0, later.entered),
        )
    answered(seen, range(total))
    return rest


def a_lone_one(play: Play, rng: random.Random, show: Show) -> None:
    """One item leaves after exactly the window, and no call follows."""
    scene = Scene(rng, 1, rng.randint(4, 6), rng.randint(60, 150) / 1000, "one alone")
    came = rng.randint(10, 90) / 1000
    scene.submit(came, 0)
    scene.does("turn", came + 20 * scene.window + 5)  # a later call would have come by then
    seen = scene.play(play, show)
    what = f"one item came, with batch_window={scene.window}"
    wanted = "it leaves when its window is over, exactly"
    assert seen.calls, Failure(
        f"{what}, and the model was never called", wanted, SINCE_ARRIVAL, seen.places.keeps(came + scene.window)
    )
    waited = seen.calls[0].entered - came
    assert same(waited, scene.window), Failure(
        f"{what}: it left after {seconds(waited)}",
        wanted,
        "`batch_window` is in seconds."
        if waited < scene.window / 100 and not same(waited, 0)
        else "It waits for other items: `loop.call_later(batch_window, ...)`."
        if waited < scene.window
        else SINCE_ARRIVAL,
        seen.places.hurries()
        if waited < scene.window
        else seen.places.window.computed or seen.places.keeps(came + scene.window, seen.calls[0].entered),
    )
    ended = seen.callers[0].ended
    assert same(ended, came + scene.window + scene.service(1)), Failure(
        f"{what}: its caller was answered at {seconds(ended or 0)}"
        if ended
        else f"{what}: its caller was never answered",
        f"at {seconds(came + scene.window + scene.service(1))}, when its call has ended",
        "Hand out the answers as soon as `run` has returned.",
        seen.places.keeps(came + scene.window + scene.service(1), ended) if ended else seen.places.hands_out(0),
    )
    assert len(seen.calls) == 1, Failure(
        f"{what}: {len(seen.calls)} calls of the model", "one call", where=seen.places.decides(1)
    )
    answered(seen, [0])


def after_a_full_batch(play: Play, rng: random.Random, show: Show) -> None:
    """The window of a batch that has left full says nothing about the items that come later."""
    window = rng.randint(60, 150) / 1000
    scene = Scene(rng, 4, 3, window, "after a full batch")
    scene.other_calls["0"] = {"takes": round(0.1 * window, 4)}
    fills, late = round(0.2 * window, 4), round(0.5 * window, 4)
    scene.submit(0, 0)
    scene.submit(fills, 1, 2)
    scene.submit(late, 3)
    seen = scene.play(play, show)
    first, second = next(iter(seen.calls), None), seen.call_of(3)
    if not first or not same(first.entered, fills) or first.items != [0, 1, 2]:
        return  # 6.2 judges that
    what = f"three items left full at {seconds(fills)}, the next one came at {seconds(late)} (window {window} s)"
    assert second, Failure(
        f"{what}, and was never served",
        f"a call at {seconds(late + window)}",
        SINCE_ARRIVAL,
        seen.places.keeps(late + window),
    )
    assert same(second.entered, late + window), Failure(
        f"{what} and left at {seconds(second.entered)}"
        + (": that is the end of the first item's window" if same(second.entered, window) else ""),
        f"at {seconds(late + window)}: its window starts at its own arrival",
        "A timer is for the items that wait when it is set. Cancel it when they leave (`timer.cancel()`), or check at "
        "its end whether the window of the longest waiting item is over."
        if same(second.entered, window)
        else SINCE_ARRIVAL,
        seen.places.keeps(late + window, second.entered),
    )
    answered(seen, range(4))


def a_trickle(play: Play, rng: random.Random, show: Show) -> None:
    """Arrivals that are closer than the window do not restart it."""
    scene = Scene(rng, 4, 6, rng.randint(6, 15) / 100, "a trickle")
    for number in range(4):
        scene.submit(round(0.6 * number * scene.window, 4), number)
    seen = scene.play(play, show)
    what = f"an item came every 0.6 windows of {scene.window} s"
    first = seen.calls[0] if seen.calls else None
    assert first, Failure(
        f"{what}, and the model was never called", "a call", SINCE_ARRIVAL, seen.places.keeps(scene.window)
    )
    assert same(first.entered, scene.window), Failure(
        f"{what}: the first left after {seconds(first.entered)}",
        f"after {seconds(scene.window)}: the window of the longest waiting item counts, and no later item changes it",
        SINCE_ARRIVAL,
        seen.places.keeps(scene.window, first.entered),
    )
    assert first.items == [0, 1], Failure(
        f"{what}: the first call has items {first.items}",
        "the two that had come by then",
        "A batch takes all items that wait when it leaves, in order of arrival.",
        seen.places.takes(),
    )
    answered(seen, range(4))


def behind_a_busy_model(play: Play, rng: random.Random, show: Show) -> None:
    """Items that waited for a busy model for longer than the window leave in the moment in which it is free."""
    scene, window = _busy(rng, 4, "behind a busy model")
    for number in (1, 2, 3):
        scene.submit(round(window * (1 + number / 4), 4), number)
    seen = scene.play(play, show)
    free = 4 * window
    second = seen.calls[1] if len(seen.calls) > 1 else None
    what = f"three items waited for a busy model for more than the window of {window} s"
    assert second, Failure(
        f"{what}, and were never served", f"one call at {seconds(free)}", AT_ONCE, seen.places.keeps(free)
    )
    assert same(second.entered, free), Failure(
        f"{what}: it was free at {seconds(free)}, and they left at {seconds(second.entered)}",
        "as soon as the model is free: their window was over long ago",
        SINCE_ARRIVAL,
        seen.places.begins(free) or seen.places.keeps(free, second.entered),
    )
    assert second.items == [1, 2, 3], Failure(
        f"{what}: the next call has items {second.items}",
        "all three: while the model works, the next batch collects",
        "A batch takes all items that wait when it leaves.",
        seen.places.decides(1),
    )
    answered(seen, range(4))


def young_when_the_model_is_free(play: Play, rng: random.Random, show: Show) -> None:
    """An item that came shortly before the model was free has the rest of its window."""
    scene, window = _busy(rng, 2, "a model that is free again")
    scene.submit(3.5 * window, 1)
    seen = scene.play(play, show)
    second = seen.calls[1] if len(seen.calls) > 1 else None
    what = f"an item came half a window before the model was free (window {window} s)"
    assert second, Failure(
        f"{what}, and was never served",
        f"a call at {seconds(4.5 * window)}",
        SINCE_ARRIVAL,
        seen.places.keeps(4.5 * window),
    )
    assert same(second.entered, 4.5 * window), Failure(
        f"{what}: it left {seconds(second.entered - 3.5 * window)} after it came",
        f"after {seconds(window)}: its window starts at its own arrival",
        SINCE_ARRIVAL,
        seen.places.call(1).path
        if second.entered < 4.5 * window
        else seen.places.begins(second.entered - window) or seen.places.keeps(4.5 * window, second.entered),
    )
    answered(seen, range(2))


def _busy(rng: random.Random, items: int, title: str) -> tuple[Scene, float]:
    """A scene, and its window, in which the first item leaves after one window, and its call takes three."""
    window = rng.randint(60, 150) / 1000
    scene = Scene(rng, items, 6, window, title)
    scene.other_calls["0"] = {"takes": 3 * window}
    scene.submit(0, 0)
    return scene, window


def no_window(play: Play, rng: random.Random, show: Show) -> None:
    """With a window of 0 an item waits for the model, and for nothing else."""
    scene = Scene(rng, 4, 6, 0, "no window")
    came = rng.randint(10, 90) / 1000
    scene.submit(came, 0)
    for number in (1, 2, 3):
        scene.submit(came + number / 100, number)
    seen = scene.play(play, show)
    first, others = next(iter(seen.calls), None), seen.calls[1:]
    zero = (
        seen.places.window.tested or seen.places.window.unused if not first or not same(first.entered, came) else None
    )
    assert first, Failure(
        "with batch_window=0 a lone item never left",
        "at once, when the model is free",
        ZERO,
        zero or seen.places.keeps(came),
    )
    assert same(first.entered, came), Failure(
        f"with batch_window=0 a lone item left after {seconds(first.entered - came)}",
        "at once: the model is free",
        ZERO,
        zero or seen.places.keeps(came, first.entered),
    )
    ends = came + scene.service(1)
    assert others, Failure(
        "with batch_window=0 three items that came meanwhile were never served",
        "a call when the model is free",
        AT_ONCE,
        seen.places.keeps(ends),
    )
    assert same(others[0].entered, ends), Failure(
        f"with batch_window=0 three items waited for the model until {seconds(ends)}, and left at "
        f"{seconds(others[0].entered)}",
        "when the model is free",
        AT_ONCE,
        seen.places.keeps(ends, others[0].entered),
    )
    answered(seen, range(4))
