"""Runs one checkpoint in a process of its own, and returns its outcome, whatever happened there."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
from _pytest.runner import runtestprotocol
from pydantic import TypeAdapter

from checks.harness.cell.stacks import stacks
from checks.harness.errors import Failure, LearnerError, all_printable, cut, printable
from checks.harness.grading import isolation
from checks.harness.grading.checkpoints import CHECKPOINT, OUTCOME, SHOWN, deadline
from checks.harness.judge.cell import how_it_ended
from checks.harness.judge.start import ZYGOTE, can_fork
from checks.harness.machine import FairClock
from checks.harness.report.results import Outcome, Verdict
from checks.harness.source_lines import SourceLines
from checks.harness.workspace import Workspace

IMPORT_SECONDS = 10.0
COMPUTING = 1 / 3
"""Part of a deadline: a process that has computed for as long was not starved."""
TRIES = 3
"""How often a checkpoint is run before it is inconclusive."""
RETRY_SECONDS = 120.0
"""Seconds after which a checkpoint is not tried again: the machine has been too busy for long enough."""
OUTPUT_LINES, OUTPUT_COLUMNS = 20, 200
REQUEST_LOGGED = '"event": "request"'
"""What their service logs of each request would hide what they printed to find a mistake."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What the process of a checkpoint sends: its outcome, pytest's reports, and the module whose import hung."""

    outcome: Outcome
    reports: list[dict[str, Any]] = field(default_factory=list)
    hung_import: str | None = None


_SENT = TypeAdapter(Sent)


def _bytes(sent: Sent) -> bytes:
    return json.dumps(_SENT.dump_python(sent, by_alias=True)).encode()


def _read(ending: isolation.Ending) -> Sent | None:
    """What a process sent, its texts made printable; None for nothing, or for anything else than a `Sent`."""
    try:
        return _SENT.validate_python(all_printable(json.loads(ending.payload)), extra="forbid")
    except (ValueError, RecursionError):
        return None


class Runner:
    """How the checkpoints of this run are kept apart."""

    def __init__(self, config: pytest.Config, workspace: Workspace, scratch: Path, seed: int) -> None:
        self.config = config
        self.workspace = workspace
        self.scratch = scratch
        self.seed = seed
        way = config.option.isolation
        self.forks: bool = way == "fork" or (way == "auto" and can_fork())
        """Whether the process of a checkpoint is forked from this one."""

    def run(self, item: pytest.Item, tick: Callable[[], None]) -> tuple[Outcome, list[pytest.TestReport]]:
        """Run it until it is conclusive, at most `TRIES` times; `tick` is called meanwhile.

        The outcome's seconds are those of all tries. After `RETRY_SECONDS` there is no further one.
        """
        seconds = 0.0
        for _ in range(TRIES):
            outcome, reports = self._once(item, tick)
            seconds += outcome.seconds
            if outcome.verdict != "inconclusive" or seconds > RETRY_SECONDS:
                break
        return replace(outcome, seconds=seconds), reports

    def _once(self, item: pytest.Item, tick: Callable[[], None]) -> tuple[Outcome, list[pytest.TestReport]]:
        folder = Path(tempfile.mkdtemp(dir=self.scratch))
        clock = FairClock()

        def turn() -> None:
            clock.seconds()
            tick()

        ending = self._process(item, folder, turn)
        zygote = self.config.stash.get(ZYGOTE, None)
        # Before anything is written that they could change.
        isolation.end_descendants({zygote.pid} if zygote else set())
        sent = _read(ending)
        if sent:
            if sent.hung_import:
                self.workspace.hung_imports[sent.hung_import] = sent.outcome.failure
        else:
            sent = Sent(_ended_badly(ending, self.workspace, busy=clock.busy))
        lines = printable(ending.output).splitlines()
        printed = [cut(line, OUTPUT_COLUMNS) for line in lines if REQUEST_LOGGED not in line]
        outcome = replace(sent.outcome, seconds=ending.seconds, output="\n".join(printed[-OUTPUT_LINES:]))
        return outcome, self._loaded(sent.reports) or unsent(item, outcome)

    def _process(self, item: pytest.Item, folder: Path, tick: Callable[[], None]) -> isolation.Ending:
        seconds = deadline(item)
        common: dict[str, Any] = {
            "echo": self.config.option.capture == "no",
            "stacks": folder / "stacks",
            "tick": tick,
        }
        if self.forks:

            def work(send: isolation.Send) -> None:
                self._inside(item, send, folder)

            return isolation.forked(work, seconds, prepare=self._stop_capturing, **common)
        return isolation.spawned(self._command(item, folder), folder / "payload", seconds, **common)

    def _command(self, item: pytest.Item, folder: Path) -> list[str]:
        node = f"{item.path}::{item.nodeid.partition('::')[2]}"
        options = [f"--seed={self.seed}", f"--isolated={folder}", "--capture=no", f"--tb={self.config.option.tbstyle}"]
        if self.config.option.workspace:
            options.append(f"--workspace={self.config.option.workspace}")
        return [sys.executable, "-m", "pytest", "-qq", "--rootdir", str(self.config.rootpath), node, *options]

    def _loaded(self, data: list[dict[str, Any]]) -> list[pytest.TestReport]:
        load: Callable[..., Any] = self.config.hook.pytest_report_from_serializable
        reports = [load(config=self.config, data=one) for one in data]
        for report in reports:
            if isinstance(report.longrepr, list):  # the reason of a skip: JSON has no tuples, and pytest expects one
                report.longrepr = tuple(report.longrepr)
        return reports

    def _stop_capturing(self) -> None:
        """In a fork pytest's own capture file would be shared with the parent."""
        if capture := self.config.pluginmanager.getplugin("capturemanager"):
            capture.stop_global_capturing()
            self.config.pluginmanager.unregister(capture)

    # -- in the checkpoint's own process ----------------------------------------------------------------------

    def inside_spawned(self, item: pytest.Item, folder: Path) -> NoReturn:
        """Run it in an interpreter that was started for it alone; what it sends goes through a file."""
        isolation.follow_parent(0)

        def send(payload: bytes) -> None:
            partial = folder / "partial"
            partial.write_bytes(payload)
            partial.replace(folder / "payload")

        self._inside(item, send, folder)
        isolation.wait_to_be_ended()
        os._exit(0)

    def _inside(self, item: pytest.Item, send: isolation.Send, folder: Path) -> None:
        """Run it, and send its reports and its results; the watchdog sends them if it takes too long."""

        def late(what: str, starved: bool) -> None:
            starved = starved and not computes_for_ever(self.workspace.computed_in_cell(), deadline(item))
            said = f"too busy a machine to {what}" if starved else f"your code did not {what}"
            where = self.workspace.where_first(stacks(threading.main_thread().ident)) or self.workspace.line_in_cell()
            verdict: Verdict = "inconclusive" if starved else "failed"
            outcome = Outcome(verdict, Failure(said, where=where), evidence=item.stash[SHOWN].evidence)
            hung = what.split()[2] if what.startswith("finish importing") and not starved else None
            send(_bytes(Sent(outcome, hung_import=hung)))
            os._exit(1)

        def no_debugger(*_: object, **__: object) -> None:
            path, number = Path(item.path).relative_to(self.config.rootpath), item.stash[CHECKPOINT].id
            raise LearnerError(
                "breakpoint() was called, and this run has no debugger",
                wanted="a run with the debugger, or no breakpoint",
                hint=f"`uv run pytest {path.as_posix()} -k {number} --pdb` stops at it.",
                explains_itself=True,
            )

        sys.breakpointhook = no_debugger
        watchdog = isolation.Watchdog(deadline(item), folder / "stacks", late)
        self.workspace.import_deadline = lambda module: watchdog.within(
            IMPORT_SECONDS, f"finish importing {module} within {IMPORT_SECONDS:g} s"
        )
        dump: Callable[..., Any] = self.config.hook.pytest_report_to_serializable
        reports = [dump(config=self.config, report=report) for report in runtestprotocol(item, log=False)]
        with contextlib.suppress(Exception):  # a learner's code may have closed them
            sys.stdout.flush()
            sys.stderr.flush()
        send(_bytes(Sent(item.stash[OUTCOME], reports)))


def computes_for_ever(computed: float, seconds: float) -> bool:
    """Whether the learner's process has computed for so long that no busy machine explains a deadline that has passed.

    `computed` is its CPU time, of which a right answer takes a small part of its deadline of so many seconds.
    """
    return computed >= COMPUTING * seconds


def unsent(item: pytest.Item, outcome: Outcome) -> list[pytest.TestReport]:
    """Reports for a checkpoint that sent none; pytest's plugins wait for all three phases."""
    words: dict[Any, str | None] = {"setup": None, "call": str(outcome.failure), "teardown": None}
    reports = [
        pytest.TestReport(
            item.nodeid, item.location, dict.fromkeys(item.keywords, 1), "failed" if said else "passed", said, when
        )
        for when, said in words.items()
    ]
    return [with_verdict(report, item, outcome) for report in reports]


def with_verdict(report: pytest.TestReport, item: pytest.Item, outcome: Outcome) -> pytest.TestReport:
    """A report with pytest's word for the verdict, and the lab's own for `--junitxml`."""
    checkpoint = item.stash[CHECKPOINT]
    points = checkpoint.max_points if outcome.verdict == "passed" else 0
    report.user_properties = [("checkpoint", checkpoint.id), ("points", points), ("verdict", outcome.verdict)]
    if report.failed and outcome.verdict in ("locked", "inconclusive"):
        report.outcome = "skipped"
        report.longrepr = (str(item.path), item.location[1] or 0, f"{outcome.verdict}: {outcome.failure}")
    return report


def _ended_badly(ending: isolation.Ending, lines: SourceLines, *, busy: bool) -> Outcome:
    """The outcome of a process that sent no outcome: its watchdog could not run, or it ended itself."""
    if "INTERNALERROR" in ending.output:
        return Outcome("lab_error", Failure(ending.output))
    if ending.payload:
        return Outcome("failed", Failure("your code wrote something else in place of this checkpoint's result"))
    if "Timeout" in ending.stacks and busy:  # its watchdog did not get to run
        return Outcome("inconclusive", Failure(f"too busy a machine to finish within {ending.seconds:.0f} s"))
    if "Timeout" in ending.stacks:
        said = f"your code did not finish within {ending.seconds:.0f} s, and blocked everything else meanwhile"
        return Outcome("failed", Failure(said, where=lines.where_printed(ending.stacks, innermost_last=False)))
    return Outcome("failed", Failure(how_it_ended(ending.exit_code)))
