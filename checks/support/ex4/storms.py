"""4.7: more load than a service can serve, on the learner's service and beside it on one without a limit."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from checks.harness.assertions.overload import IN_TIME, Load, calm_down, one_more, overload, overload_picture
from checks.harness.cell.inprocess import InProcess
from checks.harness.cell.probe import Probe
from checks.harness.errors import Failure, LearnerError
from checks.harness.fixtures import OVERLOADED, OVERLOADED_CONTROL, Serve
from checks.harness.grading.noise import best_of, blame_the_machine_if_busy, blame_the_machine_unless
from checks.harness.machine import fair_clock
from checks.harness.processes.servers import Server
from checks.harness.report.evidence import Overload, Show
from checks.support.ex4.lines import Lines
from checks.support.ex4.requests import all_done, line_up, raise_what_crashed, require_model_calls

DRAWN = (0.5, 1, 3)
"""Times the capacity that decide nothing: the picture shows them. Each has services of its own."""
SHARE = 0.7
"""Of the capacity that has to be answered in time."""


class Storms:
    """Loads on the learner's service and on the same without a limit, each around a model of known capacity."""

    def __init__(self, serve: Serve, rng: random.Random, slots: int, seconds: float) -> None:
        self.serve, self.rng = serve, rng
        self.model = {"slots": slots, "slot_seconds": seconds}
        with ThreadPoolExecutor(2 * len(DRAWN)) as beside:
            guarded = [
                beside.submit(serve, app=OVERLOADED, **self.model, max_in_flight=slots, max_queue=slots) for _ in DRAWN
            ]
            unbounded = [beside.submit(serve, app=OVERLOADED, **self.model) for _ in DRAWN]
        self.pairs = [(ours.result(), other.result()) for ours, other in zip(guarded, unbounded, strict=True)]
        self.guarded: Server = self.pairs[-1][0]
        self.loads: dict[float, tuple[Load, Load]] = {}

    def offer(self, times: float, lasting: float, guarded: Server, unbounded: Server, seed: int) -> tuple[Load, Load]:
        """Offer so many times the capacity to both, at the same time."""
        slots, seconds = int(self.model["slots"]), self.model["slot_seconds"]
        urls = (guarded.url, unbounded.url)
        ours, other = overload(urls, slots=slots, seconds=seconds, times=times, lasting=lasting, seed=seed)
        calm_down(unbounded.url)
        return ours, other

    def twice(self, guarded: Server) -> Load:
        """What becomes of twice the capacity, offered to that service."""
        self.loads[2] = self.offer(2, 3, guarded, self.pairs[-1][1], self.rng.randrange(10**6))
        return self.loads[2][0]

    def run(self) -> Overload:
        """Offer all that is only drawn at the same time, and then twice the capacity until it goes well: the picture.

        Twice the capacity is offered to the service that has just had the most.
        """
        with ThreadPoolExecutor(len(DRAWN)) as beside:
            drawn = {
                times: beside.submit(self.offer, times, 1, *pair, self.rng.randrange(10**6))
                for times, pair in zip(DRAWN, self.pairs, strict=True)
            }
        self.loads = {times: load.result() for times, load in drawn.items()}
        with fair_clock() as self.clock:
            self.reached = best_of(lambda: score(self.twice(self.guarded)), 1)
        return overload_picture(self.loads)

    def judge(self, show: Show, lines: Lines) -> None:
        """Fail where goodput or refusals at twice the capacity are not as wanted, unless the machine is to blame."""
        twice, seconds = self.loads[2][0], self.model["slot_seconds"]
        share = twice.goodput / twice.capacity
        show.number(f"goodput {share:.2f} of capacity at 2x", share)
        if others := sorted(twice.others, key=lambda words: not words.startswith("status")):
            failure = Failure(
                f"{len(others)} of {len(twice.trace.requests)} requests got neither 200 nor 503: {others[0]}",
                "200 or 503",
            )
            if not others[0].startswith("status"):
                blame_the_machine_if_busy(self.clock, "why requests got no answer", failure)
            raise AssertionError(failure)
        if self.reached < 1:
            blame_the_machine_if_busy(self.clock, "how much of an overload is answered in time")
            own = self.serve(app=OVERLOADED_CONTROL, **self.model)
            blame_the_machine_unless(lambda: score(self.twice(own)), 1, rounds=1)
        what = f"at twice the capacity of {twice.capacity:.0f}/s"
        refused = f"{len(twice.refusals)} of {len(twice.trace.requests)} were refused"
        few = len(twice.refusals) < len(twice.trace.requests) / 4
        assert twice.goodput >= SHARE * twice.capacity, Failure(
            f"{what} goodput is {twice.goodput:.1f}/s, {refused}",
            f"at least {SHARE} of the capacity, each answer at most {IN_TIME} service times after its planned start",
            "Too few are refused: the others wait too long, and their answers come too late."
            if few
            else "Is each slot used again as soon as it is free? A refused request holds no slot, no place and no "
            "count, and costs the event loop next to nothing.",
            lines.decides if few else lines.hands,
        )
        assert twice.refused_in < seconds, Failure(
            f"{what} a refusal took {twice.refused_in:.3f} s in the median",
            f"less than one service time, {seconds} s: a refusal should come at once",
            "Refuse before any work is done: no handler, no body, no wait.",
            lines.decides,
        )

    def all_slots_are_free_again(self) -> None:
        """After the storm a request is served."""
        got = one_more(self.guarded.url)
        failure = Failure(
            f"a request after the storm: {got}", "200: all slots are free again", "A refused request holds nothing."
        )
        if got and not got.startswith("status"):
            blame_the_machine_if_busy(self.clock, "whether a request after the storm is served", failure)
        assert not got, failure


def score(load: Load) -> float:
    """At least 1 where 0.7 of the capacity is served in time, and a refusal takes less than a service time."""
    return min(load.goodput / (SHARE * load.capacity), load.seconds / load.refused_in)


def one_of_each(service: Callable[..., InProcess], rng: random.Random) -> None:
    """One is served, one waits, one is refused: in process, where an exception has its line."""
    probe = Probe()
    app = service(model=probe, max_in_flight=1, max_queue=1)
    calls = line_up(app, rng, 3)
    app.go_on_until(lambda: probe.inside)
    require_model_calls(app, probe, calls)
    probe.open()
    app.go_on_until(lambda: all_done(calls.values()))
    raise_what_crashed(calls)
    if slept := app.where_slept():
        raise LearnerError(
            "one request was served, one waited, one was refused, and time.sleep stopped the event loop meanwhile",
            slept,
            wanted="a refusal costs the event loop next to nothing: under overload most answers are refusals",
            hint="No `time.sleep`, and nothing else that blocks, on the way to a refusal. "
            "`await asyncio.sleep(...)` would let the others run.",
        )
    status = next(iter(calls.values())).answer().status_code
    assert status == 200, Failure(f"/predict gave {status}", "200")
