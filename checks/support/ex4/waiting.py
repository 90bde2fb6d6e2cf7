"""4.6: a request that waits too long is refused and never reaches the model; work that has begun is finished."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from checks.harness.cell.inprocess import InProcess, Pending
from checks.harness.cell.probe import Probe
from checks.harness.errors import Failure
from checks.harness.grading.noise import EARLY, blame_the_machine_if_busy
from checks.harness.machine import fair_clock
from checks.support.ex4.lines import Lines
from checks.support.ex4.requests import (
    Calls,
    all_done,
    how_it_ended,
    line_up,
    raise_what_crashed,
    require_model_calls,
    send,
)

TOO_LONG = 2
"""Times `queue_seconds` after which a wait has been too long: a right answer ends it at 1."""

LATE = 3
"""Further requests for a slot that came free: on a busy machine it may come too late for the first."""

Start = Callable[..., InProcess]


class Waits:
    """The learner's app with all `slots` held, and requests that wait for them in vain."""

    def __init__(self, app: InProcess, probe: Probe, slots: int, places: int, seconds: float, lines: Lines) -> None:
        self.app, self.probe, self.slots, self.places, self.seconds = app, probe, slots, places, seconds
        self.lines = lines
        self.inside: Calls = {}

    def in_vain(self, service: Start, rng: random.Random) -> list[float]:
        """How long each request waited before it was refused; the second half finds the places of the first free."""
        patient = service(model=Probe(), max_in_flight=1, max_queue=1, queue_seconds=60)
        _, stays = line_up(patient, rng, 2).values()
        health = patient.get("/health")
        patient.go_on_until(lambda: health.done)  # a wait that blocks the loop is told as that
        at_once = stays.done  # before a request that was sent after it, and waits for nothing, had its answer
        self.inside = line_up(self.app, rng, self.slots)
        self.app.go_on_until(lambda: self.probe.inside == self.slots)
        require_model_calls(self.app, self.probe, self.inside)
        raise_what_crashed(self.inside)
        if len(self.probe.calls) >= self.slots:  # all of them were in the model, on a busy machine not at the same time
            self.no_work_is_cut_off()
        assert self.probe.inside == self.slots, Failure(
            f"with max_in_flight={self.slots} only {self.probe.inside} "
            f"call{'s are' if self.probe.inside != 1 else ' is'} in the model",
            f"{self.slots}: without that 4.6 cannot be judged (4.5 says more)",
            "First let 4.5 pass.",
            self.lines.create_app if self.lines.is_right_alone else self.lines.passes,
        )
        waits = []
        for before in (0, self.places):
            waiting = line_up(self.app, rng, self.places)
            [without_a_place] = send(self.app, "/predict", rng, 1).values()
            calls = [*waiting.values(), without_a_place]
            self.app.go_on_until(lambda calls=calls: all_done(calls))  # type: ignore[misc]
            self.no_work_is_cut_off()
            waits += self.refused_in_time(waiting, before)
            same_refusal([*waiting.values()], without_a_place, self.lines)
        # No clock: two waits in vain are over, one after the other, so a wait of 60 s that lasts as long is done, too.
        assert not stays.done, refused_too_soon(stays, self.lines, at_once=at_once)
        return waits

    def no_work_is_cut_off(self) -> None:
        """A request that has its slot keeps it, however long the work takes."""
        cut = [call for call in self.inside.values() if call.done]
        assert not cut, Failure(
            f"with queue_seconds={self.seconds} {len(cut)} of {len(self.inside)} calls that were in the model were cut "
            f"off: the first ended in {how_it_ended(cut[0])} after {waited(cut[0]):.2f} s",
            "work that has begun is finished",
            "The time limit belongs around the wait for a slot, not around `self.app(...)`.",
            self.lines.passes,
        )

    def refused_in_time(self, waiting: Calls, before: int) -> list[float]:
        """How long each of these requests waited before it was refused. So many waited in vain before them."""
        assert self.probe.inside <= self.slots, Failure(
            f"with max_in_flight={self.slots} {self.probe.inside} calls are in the model together: no request "
            "waits, so this checkpoint cannot see a wait end",
            f"{self.slots} in the model, and each further request waits for at most queue_seconds (4.5 says more)",
            "First let 4.5 pass.",
            self.lines.lets_in,
        )
        for call in waiting.values():
            assert call.done, Failure(
                f"with queue_seconds={self.seconds} a request still waits, although nothing else happens any more",
                "a 503 as soon as it has waited that long, whether or not a slot comes free",
                "A timer has to end the wait: `asyncio.timeout(self.queue_seconds)` around it, or `loop.call_later`.",
                self.lines.decides,
            )
            status = how_it_ended(call)
            assert isinstance(status, int), Failure(
                f"a request that waited too long got no answer: it ended in {status}",
                "a 503",
                "Catch that exception where you wait, and send the refusal.",
                self.lines.decides,
            )
            assert status >= 400, Failure(f"a request that waited too long was answered {status}", "503")
            assert waited(call) >= self.seconds - EARLY, Failure(
                f"with queue_seconds={self.seconds} a request was refused after {waited(call):.2f} s, although the "
                "queue had a free place",
                "it waits that long" + (": a refused request leaves its place at once" if before else ""),
                "Take the request out of the queue in `finally:`: that runs however the wait ends."
                if before
                else "Refuse only when `max_queue` requests wait already, or after `self.queue_seconds`, in seconds.",
                self.lines.leaves if before else self.lines.decides,
            )
        return [waited(call) for call in waiting.values()]

    def a_freed_slot_is_for_the_last(self, rng: random.Random) -> None:
        """Only the request that still waits gets the slot, and keeps it for longer than queue_seconds in all."""
        app, probe, slots = self.app, self.probe, self.slots
        late = line_up(app, rng, 1)
        probe.release(probe.calls[0])
        app.go_on_until(lambda: len(probe.calls) > slots)
        for _ in range(LATE):
            last = next(iter(late.values()))
            if len(probe.calls) > slots or not (last.done and waited(last) >= self.seconds - EARLY):
                break
            late = line_up(app, rng, 1)  # the slot came too late for the one before, or is lost: then for this one, too
            app.go_on_until(lambda: len(probe.calls) > slots)
        last = next(iter(late.values()))
        asked_for = [call.features for call in probe.calls[slots:]]
        assert asked_for, Failure(
            "when a slot came free no request got it",
            "the request that still waits gets it, not one that was refused before",
            "Give the slot only to a request that still waits: `if not turn.done()`.",
            self.lines.hands,
        )
        assert asked_for == list(late), Failure(
            f"when a slot came free the model was called {len(asked_for)} times, not just for the one that still waits",
            "once: the others were refused before",
            "A request that is refused must not be in the queue any more.",
            self.lines.leaves,
        )
        time.sleep(self.seconds)
        app.until(lambda: last.done, horizon=0)
        assert not last.done, Failure(
            f"a request that had waited was cut off at work: {how_it_ended(last)}",
            "the limit is for the wait: work that has begun is finished",
            "End the time limit when the slot is there: the block of `asyncio.timeout` ends before `self.app(...)`.",
            self.lines.passes,
        )
        probe.open()
        for call in [*self.inside.values(), last]:
            status = how_it_ended(call)
            assert status == 200, Failure(f"a request that had got its slot ended in {status}", "200")
        app.until(lambda: len(probe.calls) > slots + 1)
        extra = len(probe.calls) - slots - 1
        assert extra == 0, Failure(
            f"the model was called {extra} times for requests that were refused before",
            "never",
            "A request that is refused must not be in the queue any more.",
            self.lines.leaves,
        )


def refused_too_soon(call: Pending, lines: Lines, *, at_once: bool) -> Failure:
    """With queue_seconds=60 a request was refused although it had a place: at once, or after another time."""
    how = how_it_ended(call)
    if at_once:
        return Failure(
            f"with max_in_flight=1 and max_queue=1 the second of two requests was refused at once ({how}), though a "
            "place was free",
            "it waits: one request holds the slot, and no other request waits",
            "Count only requests that wait. One that gets its slot at once does not wait: look for a free slot first, "
            "and count a request as waiting only where there is none.",
            lines.decides,
        )
    return Failure(
        f"with queue_seconds=60 a request was refused after {waited(call):.2f} s ({how})",
        "it waits for queue_seconds",
        "`self.queue_seconds`, not a number of your own.",
        lines.decides,
    )


def same_refusal(waiting: list[Pending], without_a_place: Pending, lines: Lines) -> None:
    """A request that waited too long is refused as one that found no place. What a refusal is judges 4.5."""
    if not without_a_place.done or (wanted := without_a_place.answer()).status_code < 400:
        return
    for call in waiting:
        answer = call.answer()
        assert answer.status_code == wanted.status_code, Failure(
            f"a request that waited too long is answered {answer.status_code}, one that found no place "
            f"{wanted.status_code}",
            "one refusal for both: 503, and when to come again",
            "Send both from one place in the code.",
            lines.refusal,
        )
        assert ("retry-after" in answer.headers) >= ("retry-after" in wanted.headers), Failure(
            "the refusal of a request that waited too long has no Retry-After, that of one that found no place has",
            "both say when to come again",
            "Send both from one place in the code.",
            lines.refusal,
        )


def waited(call: Pending) -> float:
    """Seconds from sending a request until it ended."""
    return (call.finished or call.sent) - call.sent


def the_time_runs_from_arrival(service: Start, rng: random.Random, lines: Lines) -> None:
    """With one slot that comes free again and again, no request gets it that came long ago."""
    seconds, most = 1.0, 9
    probe = Probe(held=False, seconds=0.4 * seconds)  # the second waits 0.4 times as long as it may, the third 0.8
    app = service(model=probe, max_in_flight=1, max_queue=most - 1, queue_seconds=seconds)
    with fair_clock() as clock:
        calls = send(app, "/predict", rng, most)
        app.until(lambda: all_done(calls.values()))
    served = sum(call.answer().status_code == 200 for call in calls.values())
    assert served == len(probe.calls), Failure(
        f"{len(probe.calls)} requests got their slot, and {served} a 200", "200 for each of them"
    )
    longest = max(one.entered - (calls[one.features].arrived or one.entered) for one in probe.calls)
    if longest <= TOO_LONG * seconds:
        return
    late = Failure(
        f"{most} requests came at once for one slot, which is free every {0.4 * seconds:.2f} s: {served} were served, "
        f"the last after a wait of {longest:.2f} s",
        f"about 3: the others have waited longer than queue_seconds={seconds}",
        "Start the time once, when the request arrives: not when it is first in the queue, nor each time it wakes up.",
        lines.decides,
    )
    # A timer that is late by as much as that is no timer, or the machine is busy.
    blame_the_machine_if_busy(clock, "how long a request waited for its slot", late)
    raise AssertionError(late)
