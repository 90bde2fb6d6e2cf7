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

SHARE = 0.7
"""Of the capacity that has to be answered in time."""


class Storms:
    """Loads on the learner's service and on the same without a limit, each around a model of known capacity."""

    def __init__(self, serve: Serve, rng: random.Random, slots: int, seconds: float) -> None:
        self.serve, self.rng = serve, rng
        self.model = {"slots": slots, "slot_seconds": seconds}
        with ThreadPoolExecutor(2) as beside:
            guarded = beside.submit(serve, app=OVERLOADED, **self.model, max_in_flight=slots, max_queue=slots)
            unbounded = beside.submit(serve, app=OVERLOADED, **self.model)
        self.guarded: Server = guarded.result()
        self.unbounded: Server = unbounded.result()
        self.loads: dict[float, tuple[Load, Load]] = {}

    def offer(self, times: float, lasting: float, guarded: Server) -> tuple[Load, Load]:
        """Offer so many times the capacity to both, at the same time."""
        slots, seconds = int(self.model["slots"]), self.model["slot_seconds"]
        urls = (guarded.url, self.unbounded.url)
        seed = self.rng.randrange(10**6)
        ours, other = overload(urls, slots=slots, seconds=seconds, times=times, lasting=lasting, seed=seed)
        calm_down(self.unbounded.url)
        return ours, other

    def twice(self) -> float:
        """The score at twice the capacity."""
        self.loads[2] = self.offer(2, 3, self.guarded)
        return score(self.loads[2][0])

    def run(self) -> Overload:
        """Offer half, all and three times the capacity once, and twice of it until it goes well: the picture."""
        for times in (0.5, 1, 3):
            self.loads[times] = self.offer(times, 1, self.guarded)
        with fair_clock() as self.clock:
            self.reached = best_of(self.twice, 1)
        return overload_picture(self.loads)

    def judge(self, show: Show, lines: Lines) -> None:
        """Fail where goodput or refusals at twice the capacity are not as wanted, unless the machine is to blame."""
        twice, seconds = self.loads[2][0], self.model["slot_seconds"]
        share = twice.goodput / twice.capacity
        show.number(f"goodput {share:.2f} of capacity at 2x", share)
        if others := twice.wrong_statuses or twice.others:
            failure = Failure(
                f"{len(twice.others)} of {len(twice.trace.requests)} requests got neither 200 nor 503: {others[0]}",
                "200 or 503",
            )
            if not twice.wrong_statuses:
                blame_the_machine_if_busy(self.clock, "why requests got no answer", failure)
            raise AssertionError(failure)
        if self.reached < 1:
            own = self.serve(app=OVERLOADED_CONTROL, **self.model)
            in_doubt = "how much of an overload is answered in time"
            blame_the_machine_unless(lambda: score(self.offer(2, 3, own)[0]), 1, self.clock, in_doubt, rounds=1)
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
        assert not got, Failure(
            f"a request after the storm: {got}", "200: all slots are free again", "A refused request holds nothing."
        )


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
