"""6.8: what batches give on a real uvicorn."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from checks.harness.assertions.answers import close
from checks.harness.errors import Failure, LearnerError
from checks.harness.fixtures import BATCHED_CONTROL
from checks.harness.grading.noise import best_of, blame_the_machine_if_unanswered, blame_the_machine_unless
from checks.harness.load.generator import closed_loop
from checks.harness.load.trace import Trace
from checks.harness.machine import fair_clock
from checks.harness.processes.servers import Server
from checks.harness.report.evidence import Show, timeline
from checks.harness.source_lines import SourceLines

PATH = "/predict/batched"
CONNECTIONS, MOST = 32, 8
ITEM = 0.0025
TIMES = 4
"""Times of what one item a call cannot exceed. A right answer reaches about 6."""
REQUESTS, FEWER = 72, 40
LOAD_SECONDS = 2.0
"""Seconds after which no request is sent any more: a right answer has served them all by then."""
LIMIT = 30.0
IN_FLIGHT_HALVES = 8
"""`max_in_flight` of the other service: as many as a batch holds."""

Serve = Callable[..., Server]


class Batches:
    """The learner's service, and the loads that it got."""

    def __init__(self, serve: Serve, rng: random.Random, lines: SourceLines) -> None:
        self.base = round(rng.uniform(0.12, 0.13), 3)
        self.settings = {"batch_base_seconds": self.base, "batch_item_seconds": ITEM, "max_batch": MOST}
        self.serve, self.lines = serve, lines
        self.values = [[rng.uniform(-100, 100), rng.uniform(-100, 100)] for _ in range(REQUESTS)]
        with ThreadPoolExecutor(2) as beside:
            server = beside.submit(serve, **self.settings)
            halves = beside.submit(serve, **self.settings, max_in_flight=IN_FLIGHT_HALVES)
        self.server, self.halves = server.result(), halves.result()

    @property
    def one_at_a_time(self) -> float:
        """Requests/s that a call for each item cannot exceed."""
        return 1 / (self.base + ITEM)

    def offer(self, server: Server, requests: int) -> Trace:
        """So many requests over the connections, in a closed loop; all are answered, each with its own mean."""
        with fair_clock() as clock:
            trace = closed_loop(
                f"{server.url}{PATH}",
                connections=CONNECTIONS,
                requests=requests,
                seconds=LOAD_SECONDS,
                body=[json.dumps({"features": values}).encode() for values in self.values],
                headers=[("content-type", "application/json")],
                timeout=LIMIT,
                keep_bodies=True,
            )
        failed = [one.error or f"status {one.status}" for one in trace.requests if not one.ok]
        if any(one.error for one in trace.requests):
            blame_the_machine_if_unanswered(clock, PATH, LIMIT)
        if failed:
            raise LearnerError(
                f"{len(failed)} of {len(trace.requests)} calls of {PATH}: {failed[0]}",
                self.lines.where_printed(server.output()),
                wanted="200 for all",
                hint="The app works in the process of the checks, but not under uvicorn. Start it by hand, and read "
                "what it prints: `uv run uvicorn --factory lab.service:create_app`.",
            )
        return trace

    def answers_are_their_own(self, trace: Trace) -> None:
        """Each caller got the mean of its own features."""
        for number, one in enumerate(trace.requests):
            values = self.values[number % len(self.values)]
            got = json.loads(one.body or b"{}").get("prediction")
            assert isinstance(got, float) and close(got, sum(values) / len(values)), Failure(  # noqa: PT018
                f"a request to {PATH} was answered {got!r}", "the mean of its own features", "See 6.4 and 6.7."
            )

    def judge(self, show: Show) -> None:
        """At least `TIMES` what one item a call could give; beside it the same with few requests in flight."""
        traces: list[Trace] = []

        def times() -> float:
            traces.append(self.offer(self.server, REQUESTS))
            return traces[-1].throughput / self.one_at_a_time

        with fair_clock() as clock:
            reached = times()
            if TIMES / 2 <= reached < TIMES:  # below that no noise is to blame alone, and the control says what is
                reached = best_of(times, TIMES, rounds=2)
        self.answers_are_their_own(traces[-1])
        rows: list[tuple[Any, ...]] = [
            ("no limit", CONNECTIONS, f"{traces[-1].throughput:.0f}", f"{MOST / (self.base + MOST * ITEM):.0f}"),
            ("one item a call", 1, "", f"{self.one_at_a_time:.0f}"),
        ]
        if reached >= TIMES:
            few = self.offer(self.halves, FEWER)
            name = f"max_in_flight {IN_FLIGHT_HALVES}"
            rows.insert(1, (name, IN_FLIGHT_HALVES, f"{few.throughput:.0f}", ""))
        show.table(f"max_batch {MOST}, base {self.base} s", ("", "in flight", "requests/s", "at most"), rows)
        show.picture(_picture(traces[-1], self.base))
        show.number(f"{reached:.1f} times one item a call", reached)
        if reached < TIMES:
            control = self.serve(app=BATCHED_CONTROL, **self.settings)
            theirs = blame_the_machine_unless(
                lambda: self.offer(control, REQUESTS).throughput / self.one_at_a_time,
                TIMES,
                clock,
                f"how many requests/s {PATH} answers",
            )
            raise AssertionError(
                Failure(
                    f"{CONNECTIONS} connections got {reached:.1f} times what one item a call gives. The lab's own "
                    f"batcher gave {theirs:.1f} times in the same seconds",
                    f"at least {TIMES} times: with {CONNECTIONS} callers every batch can be full",
                    "One batcher for all requests, and `settings.max_batch`. /metrics has the sizes.",
                )
            )


def _picture(trace: Trace, base: float) -> Any:
    """Some of the requests, in the order of their answers: those of one batch end together."""
    ended = sorted((one.finished or 0.0, one.sent or 0.0) for one in trace.requests)
    spans: list[tuple[str, float, float | None, float]] = [
        ("", sent, max(sent, finished - base), finished) for finished, sent in ended[:CONNECTIONS]
    ]
    return timeline(
        spans, f"the first {len(spans)} requests to {PATH}", "the time in the model is known by its end only"
    )
