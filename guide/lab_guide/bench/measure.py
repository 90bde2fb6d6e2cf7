"""Serves the learner's service and loads it, in a process of its own: `python -m lab_guide.bench.measure`.

A line of JSON on standard input (`root`, `files`, `plan`) begins it. On standard output it tells, a line of JSON each,
`{"phase": "starting"}`, `{"phase": "measuring", "of": ...}`, every 100 ms `{"rows": ...}`, and at the end one with
`state`, `said`, `where`, `measured`, `rows`, `left_out`, `hash` and `machine`. SIGINT ends it, and the service with it.

A row is one request: `[due, ended, status]`, in ms after the start; status 0: there was no whole answer. Behind them
stand the moments of a stream's tokens.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from checks.harness.errors import LearnerError, ServerError, ServerNotReady, printable
from checks.harness.load.event_stream import events
from checks.harness.load.streams import stream_of
from checks.harness.load.trace import Request, Trace
from checks.harness.machine import CORES, FairClock, fair_clock, load, load_in_words
from checks.harness.processes.servers import Server, server, uvicorn_command
from checks.harness.processes.single_requests import Answer
from checks.harness.processes.theirs import OURS, THEIRS, environment
from checks.harness.report.spread import spread
from checks.harness.source_lines import last_raised
from checks.harness.workspace import Workspace, open_workspace
from lab_guide.bench import answers, batches, streams
from lab_guide.bench.answers import Row, Told
from lab_guide.bench.loads import Part, alone, metrics, offer
from lab_guide.bench.plan import Plan

LIVE_ROWS = 300
"""Rows that are shown of 100 ms while it runs, at most; the kept run has more of them."""
STOP_SECONDS = 1.0
READY_SECONDS = 10.0
MOMENT = 1.0
"""Seconds within which a log line or the end of a process follows an answer."""


class Unfit(Exception):
    """Why there is nothing to measure, or not to the end: `state` is the record's, `where` the learner's line."""

    def __init__(self, state: str, said: str, where: str | None) -> None:
        super().__init__(said)
        self.state, self.where = state, where


def tell(what: Told) -> None:
    """Write a line of JSON."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


class Watcher:
    """Tells what has been answered while a load runs, and ends it when the service has ended."""

    def __init__(self, service: Server, workspace: Workspace, plan: Plan) -> None:
        self._service, self._workspace, self._plan = service, workspace, plan
        self._counts: Counter[str] = Counter()
        self.requests: list[Request] = []
        self.started = 0.0  # of the first load, where there are some

    def __call__(self, started: float, new: list[Request]) -> None:
        """What the generator calls."""
        self.started = self.started or started
        self.requests += new
        tell({"rows": self._read(new), **self._counts})
        if self._service.exit_code is not None:
            raise self.crash()

    def _read(self, new: list[Request]) -> list[Row]:
        """Count them, and give some as rows; of a stream the first token is enough to draw."""
        if self._plan.kind != "stream":
            self._counts.update(map(answers.how, new))
            return answers.rows(spread(new, LIVE_ROWS), self.started)
        read = [*map(stream_of, new)]
        self._counts.update(map(streams.how, read))
        return [row[:4] for row in streams.rows(spread(read, LIVE_ROWS), self.started)]

    def crash(self) -> Unfit:
        """The service has ended in the middle."""
        output = self._service.output()
        code = self._service.exit_code or 0
        how = f"with exit code {code}" if code >= 0 else f"killed by signal {-code}"
        reason = last_raised(output)
        said = f"The service ended {how} while it was measured{f': {reason}' if reason else '.'}"
        return Unfit("crashed", said, self._workspace.where_printed(output))


def measure(root: Path, files: Path, plan: Plan) -> Told:
    """Serve, load, count: the last line that is told."""
    machine = {"cores": CORES, "load": round(load(), 2), "python": ".".join(map(str, sys.version_info[:3]))}
    with tempfile.TemporaryDirectory(prefix="lab-bench-") as scratch:
        try:
            workspace = open_workspace(root, files, Path(scratch))
        except LearnerError as error:
            return {"state": "no_start", "said": str(error), "where": error.where, "machine": machine}
        told: Told = {"hash": workspace.hash, "machine": machine}
        with fair_clock() as clock:
            try:
                told |= _serve(workspace, plan)
            except Unfit as unfit:
                told |= {"state": unfit.state, "said": printable(str(unfit)), "where": unfit.where}
            machine |= {"busy": busy(clock)}
        return told


def busy(clock: FairClock) -> str:
    """How busy this machine was, in words; empty where numbers of real time mean something."""
    return load_in_words(max(load(), clock.stretch * CORES)) if clock.busy else ""


def _serve(workspace: Workspace, plan: Plan) -> Told:
    command = uvicorn_command(THEIRS, factory=True, workers=plan.workers)
    env = environment(plan.settings)
    try:
        with server(
            command,
            env=env,
            cwd=workspace.tree,
            workers=plan.workers,
            # One worker is ready when it answers at all: a stub of /health is no reason to wait.
            ready_path="/health" if plan.workers > 1 else "/",
            ready_seconds=READY_SECONDS,
            stop_seconds=STOP_SECONDS,
        ) as service:
            _one_answer(service, workspace, plan)
            watcher = Watcher(service, workspace, plan)
            tell({"phase": "measuring", "of": plan.connections if plan.load == "burst" else None})
            try:
                parts = _parts(service, plan, watcher)
            except Unfit as unfit:
                so_far = Trace(tuple(sorted(watcher.requests, key=lambda r: r.scheduled)), watcher.started, 0.0)
                told = _counted([Part(0, plan, so_far, {}, {})])
                return told | {"state": unfit.state, "said": printable(str(unfit)), "where": unfit.where}
            output = service.output()
    except ServerError as error:
        raise _why_it_did_not_start(error, workspace) from error
    counted = _counted(parts)
    failed = bool(counted["measured"]["failed"])
    reason, where = (last_raised(output), workspace.where_printed(output)) if failed else ("", None)
    return counted | {"state": "measured", "said": printable(reason), "where": where}


def _parts(service: Server, plan: Plan, watcher: Watcher) -> list[Part]:
    """Offer the loads of a plan, one after the other.

    Raises:
        Unfit: the service has ended.
    """
    parts: list[Part] = []
    counts = plan.kind != "answer"
    before = metrics(service.port) if counts else {}
    for times, part in plan.parts:
        trace = offer(f"{service.url}{plan.path}", part, watcher)
        watcher.requests = [r for one in (*(done.trace for done in parts), trace) for r in one.requests]
        if trace.requests and not trace.requests[-1].status:  # it may have ended with the last of them
            _wait_for(lambda: service.exit_code is not None)
        if service.exit_code is not None:
            raise watcher.crash()
        after = metrics(service.port) if counts else {}
        parts.append(Part(times, part, trace, before, after))
        before = after
    return parts


def _counted(parts: list[Part]) -> Told:
    match parts[0].plan.kind:
        case "stream":
            return streams.counted(parts)
        case "batch":
            return batches.counted(parts)
        case _:
            return answers.counted(parts[0].trace, parts[0].plan.window)


def _one_answer(service: Server, workspace: Workspace, plan: Plan) -> None:
    """A first request, alone: what it does not get, no load gets. It also warms the service up."""
    answer = alone(service.port, plan)
    if answer.status == 200 and (plan.kind != "stream" or events(answer.text.encode())):
        return
    _wait_for(lambda: last_raised(service.output()) if (answer.status or 0) >= 500 else True)  # it is logged afterwards
    output = service.output()
    where = workspace.where_printed(output)
    if stub := re.search(r"NotImplementedError: (\d+\.\d+: .*)", output):
        raise Unfit("stub", f"This is still a stub: {stub[1]}", where)
    raise Unfit("no_answer", f"One request alone to {plan.path} got {_got(answer, output)}", where)


def _wait_for(what: Callable[[], object]) -> None:
    """Wait for what follows an answer within a moment, if it comes at all."""
    end = time.monotonic() + MOMENT
    while not what() and time.monotonic() < end:
        time.sleep(MOMENT / 50)


def _got(answer: Answer, output: str) -> str:
    if answer.status is None:
        return f"no answer ({answer.error!r})"
    reason = last_raised(output)
    return f"status {answer.status}" + (f": {reason}" if answer.status >= 500 and reason else f": {answer.text[:200]}")


def _why_it_did_not_start(error: ServerError, workspace: Workspace) -> Unfit:
    where = workspace.where_printed(error.output)
    if stub := re.search(r"NotImplementedError: (\d+\.\d+: .*)", error.output):
        return Unfit("stub", f"The service needs this, and it is still a stub: {stub[1]}", where)
    if isinstance(error, ServerNotReady) and error.busy:
        return Unfit("no_start", f"This machine is too busy ({load_in_words()}): {error.reason}", where)
    reason = last_raised(error.output)
    return Unfit("no_start", f"The service did not start. {reason or error.reason}", where)


def main() -> None:
    """Measure what standard input says."""
    asked = json.loads(sys.stdin.readline())
    for name in [name for name in os.environ if name.upper().startswith(OURS)]:
        del os.environ[name]
    tell({"phase": "starting"})
    try:
        tell(measure(Path(asked["root"]), Path(asked["files"]), Plan(**asked["plan"])))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
