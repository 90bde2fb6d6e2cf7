"""6.4: each caller gets the outcome of its own item, whatever becomes of the others."""

from __future__ import annotations

import random
import secrets
from collections import Counter
from typing import Any

from checks.harness.errors import Failure
from checks.harness.report.evidence import Show
from checks.support.ex6.scenes import Call, End, Play, Scene, Seen

CALLERS = 60
BATCHES = 10
BREAKS = {
    "raises": "`run` raised",
    "short": "`run` returned one outcome too few",
    "long": "`run` returned one outcome too many",
    "none": "`run` returned None instead of a list",
    "set": "`run` returned the outcomes in a set",
    "dict": "`run` returned the outcomes in a dict",
}
A_SEQUENCE = (
    "`isinstance(outcomes, Sequence)` (`collections.abc`), then the number. A set and a dict have a length, too, but "
    "no order of the items: with them each caller can get the answer of another one."
)
A_NUMBER = (
    "Compare `len(outcomes)` with `len(batch)` first. `zip` stops at the shorter one without an exception "
    "(`strict=True` raises one, but only at the end)."
)
ALIKE = "Equal items can have different answers: do not tell callers apart by their items."
IN_ORDER = "Outcomes come in the order of the items: `zip(batch, outcomes)`."
RAISES = "`except Exception as error:` around `await run(...)`, and set it on every future of the batch."
MENDS = {
    "raises": RAISES,
    "short": A_NUMBER,
    "long": A_NUMBER,
    "none": A_SEQUENCE,
    "set": A_SEQUENCE,
    "dict": A_SEQUENCE,
}


def its_own(play: Play, rng: random.Random, show: Show) -> None:
    """Sixty callers, some with equal items: each item is in the model once, and its caller gets its outcome."""
    scene = Scene(rng, CALLERS, 6, 0.05, "sixty callers")
    shared = [rng.uniform(-10, 10) for _ in range(5)]
    for number in range(CALLERS):
        if rng.random() < 0.5:
            scene.values[number] = rng.choice(shared)  # equal to others, and its answer is another one
    odd = rng.sample(range(CALLERS), 14)
    false: list[Any] = [None, None, 0.0, 0.0, "", "text", [], False]
    for number, outcome in zip(odd, false, strict=False):
        scene.outcomes[number] = ["answer", outcome]
    for number in odd[8:]:
        scene.outcomes[number] = ["bad", f"no mean of item {secrets.token_hex(4)}"]
    at = 0.0
    for number in range(CALLERS - scene.max_batch):
        scene.submit(at, number)
        at = round(at + rng.choice((0, 0, 0, 0, 0.01, 0.2)), 3)
    scene.submit(at + 2, *range(CALLERS - scene.max_batch, CALLERS))  # a full batch: none is left for a window alone
    seen = scene.play(play, show)
    _each_item_once(seen)
    for number, end in seen.callers.items():
        _own(scene, seen, number, end)


def a_tuple(play: Play, rng: random.Random, show: Show) -> None:
    """`run` may return any sequence."""
    scene = Scene(rng, 3, 3, 0.05, "a tuple of outcomes")
    scene.other_calls["0"] = {"ends": "tuple"}
    scene.submit(0, *range(3))
    seen = scene.play(play, show)
    for number, end in seen.callers.items():
        assert end.how == "answered", Failure(
            f"`run` returned a tuple of outcomes, and a caller {end}",
            "its outcome: `run` may return any sequence, not only a list",
            "`isinstance(outcomes, Sequence)` (`collections.abc`) in the place of `isinstance(outcomes, list)`.",
            seen.places.hands_out(number),
        )
        _own(scene, seen, number, end)


def _each_item_once(seen: Seen) -> None:
    times = Counter(item for call in seen.calls for item in call.items)
    strange, missing = times.pop(-1, 0), [number for number in seen.callers if not times[number]]
    assert not strange, Failure(
        f"`run` was given {strange} things that no caller has submitted",
        "the items, each as it is",
        "`run(items)`: a list of the items as `submit` got them, with nothing around them.",
        seen.places.call(0).asked,
    )
    assert not missing, Failure(
        f"{len(missing)} of {len(seen.callers)} items never reached the model",
        "each item is in one call, also where two items are equal",
        "Two callers may send equal items: keep them in a list, not in a set or a dict.",
        seen.places.takes(-1),
    )
    twice = [number for number, count in times.items() if count > 1]
    assert not twice, Failure(
        f"{len(twice)} items were in the model more than once", "each item in one call", where=seen.places.takes(-1)
    )


def _own(scene: Scene, seen: Seen, number: int, end: End) -> None:
    kind, wanted = scene.outcomes[number]
    another = _of_another(scene, seen, number)
    if kind == "bad":
        assert end.how == "raised", Failure(
            f"the outcome of an item was an exception, and its caller {end}",
            "that exception is raised to its caller: `submit` raises it",
            another or "`if isinstance(outcome, Exception): future.set_exception(outcome)`.",
            seen.places.hands_out(number),
        )
        assert end.what[1] == wanted, Failure(
            f"the outcome of an item was an exception ({wanted}), and its caller {end}",
            "the same exception",
            another or "Pass the exception on unchanged.",
            seen.places.hands_out(number),
        )
        return
    assert end.how is not None, Failure(
        f"a caller {end}: the outcome of its item was {wanted!r:.40}",
        "each caller is answered",
        "`None`, 0.0 and other false values are answers: compare with `is`, or use `future.done()`."
        if not wanted
        else "Each item has a future of its own, which gets its outcome when `run` has returned.",
        seen.places.hands_out(number),
    )
    assert end.how != "raised", Failure(
        f"the outcome of an item was {wanted!r:.40}, and its caller {end}",
        "its own outcome: an exception of another item goes only to that item's caller",
        "Set the exception on the future of that item alone."
        if another != ALIKE and _its_own_raises(scene, seen, number)
        else another or IN_ORDER,
        seen.places.hands_out(number),
    )
    ok = end.how == "answered" and type(end.what) is type(wanted) and end.what == wanted
    assert ok, Failure(
        f"the outcome of an item was {wanted!r:.40}, and its caller {end}",
        "each caller gets the outcome of its own item",
        another or "Take the outcome in the place of the item, and do not change it.",
        seen.places.hands_out(number),
    )


def _of_another(scene: Scene, seen: Seen, number: int) -> str:
    """The hint where a caller got the outcome of another item: of an equal one, as all who got a wrong one, or not."""
    got = {one: _outcome(end) for one, end in seen.callers.items() if end.how in ("raised", "answered")}
    wrong = [one for one in got if got[one] != scene.outcomes[one]]
    if number not in wrong:
        return ""

    def alike(one: int) -> list[int]:
        return [other for other, value in enumerate(scene.values) if value == scene.values[one] and other != one]

    if all(any(got[one] == scene.outcomes[other] for other in alike(one)) for one in wrong):
        return ALIKE
    call = seen.call_of(number)
    return IN_ORDER if call and any(scene.outcomes[one] == got[number] for one in call.items if one >= 0) else ""


def _outcome(end: End) -> list[Any]:
    """What a caller got, as a scene has its outcomes."""
    return ["bad", end.what[1]] if end.how == "raised" else ["answer", end.what]


def _its_own_raises(scene: Scene, seen: Seen, number: int) -> bool:
    """Whether the item whose exception this caller got has failed for its own caller, too."""
    words = seen.callers[number].what[1]
    return any(
        seen.callers[other].how == "raised" and seen.callers[other].what[1] == words
        for other, outcome in enumerate(scene.outcomes)
        if outcome == ["bad", words]
    )


def a_batch_that_fails(play: Play, rng: random.Random, show: Show, ends: str) -> None:
    """All callers of that batch are told, and the nine batches that follow are served."""
    most = rng.randint(3, 5)
    scene = Scene(rng, BATCHES * most, most, 0.05, BREAKS[ends])
    words = f"no memory left {secrets.token_hex(4)}"
    scene.other_calls["0"] = {"ends": ends, "words": words}
    scene.submit(0, *range(BATCHES * most))
    seen = scene.play(play, show)
    what = BREAKS[ends]
    assert seen.calls, Failure("the model was never called", "see 6.2")
    _all_are_told(seen, seen.calls[0], what, MENDS[ends], words if ends == "raises" else "")
    rest = [number for number in seen.callers if number not in seen.calls[0].items]
    for number in rest:
        end = seen.callers[number]
        assert end.how == "answered", Failure(
            f"{what} for one batch, and a caller of a later one {end}",
            f"the batches that follow are served: {len(rest)} callers",
            "An exception in one batch must not end the task, or the timer, that serves the others: catch it there.",
            seen.places.unseen or seen.places.call(0).asked,
        )
        _own(scene, seen, number, end)


def _all_are_told(seen: Seen, call: Call, what: str, hint: str, words: str) -> None:
    for place, number in enumerate(call.items):
        end = seen.callers[number]
        which = f"the caller of place {place + 1} of {len(call.items)} {end}"
        assert end.how == "raised", Failure(
            f"{what}, and {which}",
            "each caller of that batch gets an exception: no outcome is reliable, and no caller may wait for ever",
            hint,
            seen.places.hands_out(number),
        )
        assert not words or end.what[1] == words, Failure(
            f"{what} (Broken: {words}), and {which}",
            "the same exception",
            "`future.set_exception(error)`.",
            seen.places.hands_out(number),
        )
