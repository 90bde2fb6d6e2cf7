"""One run of checkpoints: which ones run, what became of each, what is shown and written."""

from __future__ import annotations

import gc
import io
import os
import random
import re
import shlex
import shutil
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from _pytest.mark import KeywordMatcher
from _pytest.mark.expression import Expression
from _pytest.runner import runtestprotocol
from _pytest.terminal import TerminalReporter

from checks.harness.errors import Failure
from checks.harness.grading import checkpoints, isolation
from checks.harness.grading.checkpoints import CHECKPOINT, OUTCOME, SHOWN
from checks.harness.grading.runner import Runner, unsent, with_verdict
from checks.harness.grading.verdicts import outcome_of
from checks.harness.judge.start import begin
from checks.harness.machine import CORES, load
from checks.harness.report import results
from checks.harness.report.card import MARKS, Card, console
from checks.harness.report.progress_line import ProgressLine
from checks.harness.report.results import Outcome
from checks.harness.workspace import Workspace

ORDER = pytest.StashKey[int]()


class Session:
    """One run of checkpoints, as pytest's hooks drive it: the workspace, the results so far, and the card."""

    def __init__(
        self,
        config: pytest.Config,
        workspace: Workspace,
        scratch: Path,
        path: Path,
        *,
        with_card: bool,
        clean_up: Callable[[Path, int], None],
    ) -> None:
        self.config = config
        self.workspace = workspace
        self.scratch = scratch
        self.shared: Path = config.option.isolated.parent if config.option.isolated else scratch
        self.seed: int = config.option.seed if config.option.seed is not None else random.randrange(10**6)
        self.path = path
        self.clean_up = clean_up
        self.runner = Runner(config, workspace, scratch, self.seed)
        self.run: results.Run | None = None
        self.started = time.monotonic()
        self.console = console(sys.stdout, config.option.color)
        self.exit_status: int = pytest.ExitCode.OK
        self.card: Card | None = None
        live = with_card and config.option.capture != "no"
        self.line = ProgressLine(self.console, self.shared, enabled=live)
        self.pytest_says = io.StringIO()
        if with_card:
            # pytest's own reporter goes on, into a buffer: its last line ends the card, and errors outside of any
            # checkpoint are shown from there.
            config.pluginmanager.unregister(name="terminalreporter")
            config.pluginmanager.register(TerminalReporter(config, self.pytest_says), "terminalreporter")
            self.card = Card(self.console, all_hints=config.option.hints, all_details=config.option.all_details)

    # -- which checkpoints ------------------------------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Take the numbers of checkpoints in `-k` for exactly these: `-k 2.1` does not mean 2.10 as well."""
        for order, item in enumerate(items):
            checkpoints.adopt(item)
            item.stash[ORDER] = order
        numbers = set(re.findall(r"(?<![\w.])\d+\.\d+(?![\w.])", config.option.keyword or ""))
        if not numbers:
            return
        known = [item.stash[CHECKPOINT].id for item in items if CHECKPOINT in item.stash]
        if missing := sorted(numbers - set(known)):
            raise pytest.UsageError(f"there is no checkpoint {', '.join(missing)} among {', '.join(known)}")
        wanted = Expression.compile(config.option.keyword)
        others = [item for item in items if not wanted.evaluate(partial(_matches, item))]
        config.option.keyword = ""  # pytest itself would look for a part of a name
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in others]

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """From the start all selected checkpoints stand in the results, as not run."""
        session.items.sort(key=lambda item: item.stash[ORDER])  # what a checkpoint needs runs before it, also with --ff
        items = [item for item in session.items if CHECKPOINT in item.stash]
        if not items or self.config.option.isolated or self.config.option.collectonly:
            return
        if self.config.option.isolation != "none":
            isolation.adopt_orphans()
        service = any(map(checkpoints.uses_service, items))
        if self.runner.forks and any(map(checkpoints.in_cell, items)):
            begin(self.config, service=service)  # first: its imports take as long as those below
        if self.config.option.isolation != "none" and service:
            with warnings.catch_warnings():  # a library's own deprecations are not for a learner
                warnings.simplefilter("ignore")
                import_module("httpx")  # once here, and not in every checkpoint's process
        gc.freeze()  # what is imported is no garbage: no collection touches it, here or in a checkpoint's process
        self.run = results.Run(
            workspace=self.workspace.name,
            hash=self.workspace.hash,
            seed=self.seed,
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            machine=_machine(),
            exercises=checkpoints.exercises(items),
            options=f" --workspace {shlex.quote(str(self.config.option.workspace))}"
            if self.config.option.workspace
            else "",
        )
        self._write()

    # -- one checkpoint ---------------------------------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        """Run a checkpoint in a process of its own."""
        if CHECKPOINT not in item.stash:
            return None
        if folder := self.config.option.isolated:
            self.runner.inside_spawned(item, folder)
        checkpoint = item.stash[CHECKPOINT]
        missing = self._missing(item)
        if not missing or not self._exercise(checkpoint).untold:
            self._announce(checkpoint)
        if missing:
            outcome = Outcome("locked", Failure(f"needs {', '.join(missing)} first"))
            reports = unsent(item, outcome)
        elif self.config.option.isolation == "none":
            reports = runtestprotocol(item, log=False)
            outcome = item.stash[OUTCOME]
        else:
            outcome, reports = self.runner.run(item, self.line.tick)
        checkpoint.settle(outcome)
        if self.run:
            self.run.compare(checkpoint)
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in reports:
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        self._write()
        if self.card and not self._exercise(checkpoint).untold:
            self.line.clear()
            self.card.line(checkpoint)
        return True

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Turn what a checkpoint ended with into its verdict."""
        report = yield
        if CHECKPOINT not in item.stash:
            return report
        before, shown = item.stash[OUTCOME], item.stash[SHOWN]
        outcome = before
        if call.excinfo is not None and before.verdict in ("not_run", "passed"):
            outcome = outcome_of(call.excinfo.value, self.workspace, item.stash[CHECKPOINT].id)
        elif call.when == "call" and call.excinfo is None:
            outcome = Outcome("passed")
        elif call.when == "teardown" and call.excinfo is not None:
            report.outcome, report.longrepr = "passed", None  # the checkpoint has its verdict already
        if outcome.verdict == "failed":
            outcome = replace(outcome, failure=replace(outcome.failure, where=outcome.failure.where or shown.where))
        seconds = before.seconds + call.duration
        item.stash[OUTCOME] = outcome = replace(outcome, evidence=shown.evidence, seconds=seconds)
        return with_verdict(report, item, outcome)

    def _missing(self, item: pytest.Item) -> list[str]:
        """What this checkpoint needs that was selected too, and has not passed."""
        assert self.run
        verdicts = {c.id: c.verdict for c in self.run.checkpoints}
        return [need for need in checkpoints.needs(item) if verdicts.get(need, "passed") != "passed"]

    # -- what is shown ------------------------------------------------------------------------------------------

    def _announce(self, checkpoint: results.Checkpoint) -> None:
        if not self.card or not self.run:
            return
        exercise = self._exercise(checkpoint)
        if exercise.checkpoints[0] is checkpoint:
            self.card.heading(exercise, self.run)
        self.line.start(checkpoint)

    def _exercise(self, checkpoint: results.Checkpoint) -> results.Exercise:
        assert self.run
        return next(e for e in self.run.exercises if checkpoint in e.checkpoints)

    def _write(self) -> None:
        if self.run:
            self.run.seconds = round(time.monotonic() - self.started, 3)
            self.run.machine["load"] = max(self.run.machine["load"] or 0.0, load())
            results.write(self.run, self.path)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """The exit code is 0 only if every selected checkpoint passed; inconclusive is not a pass."""
        if self.run and session.exitstatus == pytest.ExitCode.OK and not self.run.all_passed:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        self.exit_status = session.exitstatus
        if self.run and self.exit_status in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            self.run.finished = True
            self._write()

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self) -> None:
        """The rest of the card, and pytest's own last line."""
        if self.card:
            self.line.clear()
            said = self.pytest_says.getvalue()
            judged = self.run is not None and any(c.verdict != "not_run" for c in self.run.checkpoints)
            if self.run and judged and self.exit_status != pytest.ExitCode.INTERNAL_ERROR:
                self.card.ending(self.run)
                if self.exit_status == pytest.ExitCode.INTERRUPTED:
                    self.console.print("interrupted: the rest was not judged", style="yellow")
                last = next((line for line in reversed(said.splitlines()) if line.strip("= ")), "")
                self.console.print(f"\n{self._last_line(last)}", style="dim", highlight=False, markup=False)
            else:
                self.console.file.write(said)
        if not self.config.option.isolated:
            self.clean_up(self.shared, os.getpid())
        shutil.rmtree(self.scratch, ignore_errors=True)

    def _last_line(self, pytests: str) -> str:
        """pytest's own last line, with the card's verdicts in the place of its outcomes: a stub has not failed."""
        assert self.run
        verdicts = Counter(MARKS[c.verdict][3] for c in self.run.checkpoints)
        counts = [f"{verdicts[word]} {word}" for _, _, _, word in MARKS.values() if verdicts[word]]
        parts, _, seconds = pytests.strip("= ").rpartition(" in ")
        others = [part for part in parts.split(", ") if not re.fullmatch(r"\d+ (failed|passed|skipped)", part)]
        return f"{', '.join([*counts, *filter(None, others)])} in {seconds}"


def _matches(item: pytest.Item, name: str, /) -> bool:
    """Whether a name in `-k` means this item: a checkpoint's number its own, anything else as pytest has it."""
    if re.fullmatch(r"\d+\.\d+", name):
        return CHECKPOINT in item.stash and item.stash[CHECKPOINT].id == name
    return KeywordMatcher.from_item(item)(name)


def _machine() -> dict[str, Any]:
    python = ".".join(map(str, sys.version_info[:3]))
    return {"cores": CORES, "platform": sys.platform, "python": python, "load": load()}
