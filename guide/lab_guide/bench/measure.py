"""Serves the learner's service and loads it, in a process of its own: `python -m lab_guide.bench.measure`.

A line of JSON on standard input (`root`, `files`, `plan`) begins it. On standard output it tells, a line of JSON each,
`{"phase": "starting"}`, `{"phase": "measuring", "of": ...}`, every 100 ms `{"rows": ...}`, and at the end one with
`state`, `said`, `where`, `measured`, `rows`, `left_out`, `hash` and `machine`. SIGINT ends it, and the service with it.

A row is one request: `[due, ended, status]`, in ms after the start; status 0: there was no whole answer.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from checks.harness.errors import LearnerError, ServerError, ServerNotReady, printable
from checks.harness.load.generator import closed_loop, open_loop
from checks.harness.load.percentiles import percentile
from checks.harness.load.trace import MS, REFUSED, Request, Trace
from checks.harness.machine import CORES, load, load_in_words
from checks.harness.processes.servers import Server, server, uvicorn_command
from checks.harness.processes.single_requests import FEATURES, Answer, ask_once
from checks.harness.processes.theirs import OURS, THEIRS, environment
from checks.harness.report.evidence import Histogram, histogram, spread
from checks.harness.source_lines import last_raised
from checks.harness.workspace import Workspace, open_workspace
from lab_guide.bench.plan import Plan

KEPT_ROWS = 10_000
LIVE_ROWS = 300
"""Rows that are shown of 100 ms while it runs, at most; the kept run has them all, up to `KEPT_ROWS`."""
STOP_SECONDS = 1.0
TIMEOUT = 10.0
"""Seconds after which a request is given up, beyond those of the model for all requests that are in flight with it."""
LONGEST = 120.0
"""Seconds after which any request is given up."""
READY_SECONDS = 10.0
MOMENT = 1.0
"""Seconds within which a log line or the end of a process follows an answer."""

Row = list[float]
Told = dict[str, Any]

_HISTOGRAM = TypeAdapter(Histogram)


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

    def __init__(self, service: Server, workspace: Workspace) -> None:
        self._service, self._workspace = service, workspace
        self.requests: list[Request] = []
        self.started = 0.0

    def __call__(self, started: float, new: list[Request]) -> None:
        """What the generator calls."""
        self.started = started
        self.requests += new
        counts = Counter(_kind(request) for request in self.requests)
        tell({"rows": rows(spread(new, LIVE_ROWS), started), **counts})
        if self._service.exit_code is not None:
            raise self.crash()

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
        try:
            return told | _serve(workspace, plan)
        except Unfit as unfit:
            return told | {"state": unfit.state, "said": printable(str(unfit)), "where": unfit.where}


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
            watcher = Watcher(service, workspace)
            tell({"phase": "measuring", "of": plan.connections if plan.load == "burst" else None})
            try:
                trace = _load(f"{service.url}{plan.path}", plan, watcher)
            except Unfit as unfit:
                so_far = Trace(tuple(sorted(watcher.requests, key=lambda r: r.scheduled)), watcher.started, 0.0)
                return _counted(so_far) | {"state": unfit.state, "said": printable(str(unfit)), "where": unfit.where}
            if trace.requests and not trace.requests[-1].status:  # it may have ended with the last of them
                _wait_for(lambda: service.exit_code is not None)
            if service.exit_code is not None:
                crash = watcher.crash()
                return _counted(trace) | {"state": crash.state, "said": printable(str(crash)), "where": crash.where}
            output = service.output()
    except ServerError as error:
        raise _why_it_did_not_start(error, workspace) from error
    counted = _counted(trace)
    failed = bool(counted["measured"]["failed"])
    reason, where = (last_raised(output), workspace.where_printed(output)) if failed else ("", None)
    return counted | {"state": "measured", "said": printable(reason), "where": where}


def _one_answer(service: Server, workspace: Workspace, plan: Plan) -> None:
    """A first request, alone: what it does not get, no load gets. It also warms the service up."""
    patience = TIMEOUT + plan.inference_seconds
    answer = ask_once(("127.0.0.1", service.port), plan.path, patience, method="POST", body=FEATURES)
    if answer.status == 200:
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


def _load(url: str, plan: Plan, watcher: Watcher) -> Trace:
    ahead = 1 if plan.load == "open" else plan.connections
    timeout = min(LONGEST, TIMEOUT + plan.inference_seconds * ahead)
    if plan.load == "open":
        return open_loop(
            url, rate=plan.rate, seconds=plan.seconds, seed=1, body=FEATURES, timeout=timeout, live=watcher
        )
    if plan.load == "closed":
        return closed_loop(
            url, connections=plan.connections, seconds=plan.seconds, body=FEATURES, timeout=timeout, live=watcher
        )
    many = plan.connections
    return closed_loop(url, connections=many, requests=many, body=FEATURES, timeout=timeout, live=watcher)


def _counted(trace: Trace) -> Told:
    """The numbers of a load, and its rows."""
    kept = spread(trace.requests, KEPT_ROWS)
    return {
        "measured": numbers(trace),
        "rows": rows(kept, trace.started),
        "left_out": len(trace.requests) - len(kept),
    }


def numbers(trace: Trace) -> Told:
    """What is compared with a prediction, in its units; None where there was no answer."""
    latencies = trace.latencies()
    finishes = [r.finished for r in trace.requests if r.finished is not None]
    seconds = max(finishes, default=trace.started) - trace.started
    kinds = Counter(map(_kind, trace.requests))

    def ms(q: float) -> float | None:
        return round(percentile(latencies, q) * MS, 3) if latencies else None

    answers = [r.finished for r in trace.answered if r.finished is not None]
    return {
        "requests": len(trace.requests),
        "answered": kinds["answered"],
        "refused": kinds["refused"],
        "failed": {printable(words): n for words, n in trace.errors.items() if words not in _REFUSALS},
        "seconds": round(seconds, 3),
        "last_s": round(max(answers) - trace.started, 4) if answers else None,
        "per_second": round(trace.throughput, 2),
        "mean_ms": round(sum(latencies) / len(latencies) * MS, 3) if latencies else None,
        "p50_ms": ms(50),
        "p95_ms": ms(95),
        "p99_ms": ms(99),
        "refused_per_second": round(kinds["refused"] / seconds, 2) if seconds else 0.0,
        "lag_p99_ms": round(percentile(trace.lags, 99) * MS, 3) if trace.lags else None,
        "histogram": _HISTOGRAM.dump_python(histogram(latencies, "Latency"), by_alias=True),
    }


_REFUSALS = {f"status {status}" for status in REFUSED}


def rows(requests: Sequence[Request], started: float) -> list[Row]:
    """A row for each request."""
    return [
        [
            round((r.scheduled - started) * MS, 2),
            round(((r.finished or r.gave_up or r.scheduled) - started) * MS, 2),
            (r.status or 0) if r.error is None else 0,
        ]
        for r in requests
    ]


def _kind(request: Request) -> str:
    if request.ok:
        return "answered"
    return "refused" if request.refused else "failed"


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
