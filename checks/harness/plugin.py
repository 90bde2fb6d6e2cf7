"""pytest's hooks: which checkpoints run, each in a process of its own, and who tells of it."""

from __future__ import annotations

import io
import json
import os
import random
import re
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import pytest
from _pytest.runner import runtestprotocol
from _pytest.terminal import TerminalReporter
from rich.console import Console

from checks.harness import isolation
from checks.harness.fixtures import SHOWN, lab, rng, serve, service, show
from checks.harness.report import results
from checks.harness.report.card import WIDTH, Card
from checks.harness.report.evidence import Show
from checks.harness.verdicts import Judged, judge
from checks.harness.watch import stacks
from checks.harness.workspace import LearnerError, Workspace, open_workspace

__all__ = ["lab", "rng", "serve", "service", "show"]

DEADLINE = 60.0
"""Seconds that a checkpoint may take; a right answer takes a few, on a machine with 16 busy processes too."""
IMPORT_SECONDS = 10.0
TRIES = 3
"""How often a checkpoint is run before it is inconclusive."""

CHECKPOINT = pytest.StashKey[results.Checkpoint]()
LAB = pytest.StashKey["Lab"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The lab's own options."""
    group = parser.getgroup("lab", "the inference latency lab")
    group.addoption("--workspace", type=Path, metavar="DIR", help="judge the files in DIR (default: your own, here)")
    group.addoption("--results", type=Path, metavar="PATH", help="where the results go (default: .lab/last-run.json)")
    group.addoption("--seed", type=int, help="repeat a run's random inputs")
    group.addoption("--hints", action="store_true", help="show all hints, not just the first")
    group.addoption("--all", action="store_true", dest="all_details", help="show every open checkpoint in full")
    ways = ("auto", "fork", "spawn", "none")
    group.addoption("--isolation", choices=ways, default="auto", help="how a checkpoint is kept apart (none: for pdb)")
    group.addoption("--isolated", type=Path, metavar="DIR", help="internal: this is the process of one checkpoint")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Open the workspace, and put the card in the place of pytest's own report where a learner looks at checkpoints."""
    config.addinivalue_line(
        "markers", "checkpoint(id, points, needs=[], hints=(), deadline=60): a checkpoint of the lab"
    )
    scratch = Path(tempfile.mkdtemp(prefix="lab-"))
    try:
        workspace = open_workspace(config.rootpath, config.option.workspace, scratch / "tree")
    except LearnerError as error:
        shutil.rmtree(scratch)
        raise pytest.UsageError(str(error)) from error
    for name in [name for name in os.environ if name.startswith("LAB_")]:
        del os.environ[name]  # what a shell happens to export must not change a verdict
    config.stash[LAB] = Lab(config, workspace, scratch)
    config.pluginmanager.register(config.stash[LAB], "lab")


def _wants_card(config: pytest.Config) -> bool:
    """Checkpoints only, and nobody asked for pytest's own words."""
    option = config.option
    if option.verbose > 0 or option.tbstyle != "auto" or option.collectonly or option.isolated:
        return False
    named = [Path(config.invocation_params.dir, arg.partition("::")[0]) for arg in config.args]
    return all("checks" in path.resolve().relative_to(config.rootpath.resolve()).parts[:1] for path in named)


class Lab:
    """One run: the workspace, the results so far, and the card that tells them."""

    def __init__(self, config: pytest.Config, workspace: Workspace, scratch: Path) -> None:
        self.config = config
        self.workspace = workspace
        self.scratch = scratch
        self.seed: int = config.option.seed if config.option.seed is not None else random.randrange(10**6)
        self.path: Path = config.option.results or config.rootpath / ".lab" / "last-run.json"
        self.run: results.Run | None = None
        self.started = time.monotonic()
        self.console = Console(file=sys.stdout, width=WIDTH)
        self.exit_status: int = pytest.ExitCode.OK
        self.card: Card | None = None
        self.pytest_says = io.StringIO()
        if _wants_card(config):
            # pytest's own reporter goes on, into a buffer: its last line ends the card, and errors outside of any
            # checkpoint are shown from there.
            config.pluginmanager.unregister(name="terminalreporter")
            config.pluginmanager.register(TerminalReporter(config, self.pytest_says), "terminalreporter")
            self.card = Card(self.console, all_hints=config.option.hints, all_details=config.option.all_details)

    # -- which checkpoints ------------------------------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """`-k 2.1` means that checkpoint alone, not 2.10 as well."""
        for item in items:
            if checkpoint := _checkpoint(item):
                item.stash[CHECKPOINT] = checkpoint
                item.stash[SHOWN] = Show()
                item.extra_keyword_matches.add(checkpoint.id)
                item.add_marker(pytest.mark.filterwarnings("ignore"))  # what a learner's code warns of is no failure
        if re.fullmatch(r"\d+\.\d+", config.option.keyword or ""):
            wanted = config.option.keyword
            config.option.keyword = ""
            others = [item for item in items if CHECKPOINT not in item.stash or item.stash[CHECKPOINT].id != wanted]
            config.hook.pytest_deselected(items=others)
            items[:] = [item for item in items if item not in others]

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """From the start all selected checkpoints stand in the results, as not run."""
        items = [item for item in session.items if CHECKPOINT in item.stash]
        if not items or self.config.option.isolated:
            return
        if self.config.option.isolation != "none" and any(
            {"service", "serve"} & set(_fixtures(item)) for item in items
        ):
            import fastapi  # noqa: F401 - once here instead of once in every checkpoint's process
            import httpx  # noqa: F401
        self.run = results.Run(
            workspace=self.workspace.name,
            hash=self.workspace.hash,
            seed=self.seed,
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            machine=_machine(),
            exercises=_exercises(items),
            options=f" --workspace {self.config.option.workspace}" if self.config.option.workspace else "",
        )
        self._write()

    # -- one checkpoint ---------------------------------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        """Run a checkpoint in a process of its own."""
        if CHECKPOINT not in item.stash:
            return None
        if folder := self.config.option.isolated:
            self._be_spawned(item, folder)
        checkpoint = item.stash[CHECKPOINT]
        self._announce(checkpoint)
        missing = self._missing(item)
        if missing:
            checkpoint.judge("locked", f"needs {', '.join(missing)} first")
            reports = self._reports(item, checkpoint)
        elif self.config.option.isolation == "none":
            reports = runtestprotocol(item, log=False)
        else:
            for _ in range(TRIES):
                reports = self._isolate(item)
                if checkpoint.verdict != "inconclusive":
                    break
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in reports:
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        self._write()
        if self.card:
            self._clear()
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
        checkpoint, shown = item.stash[CHECKPOINT], item.stash[SHOWN]
        checkpoint.seconds += call.duration
        if call.excinfo is not None and checkpoint.verdict in ("not_run", "passed"):
            judged = judge(call.excinfo.value, self.workspace)
            checkpoint.judge(judged.verdict, judged.message)
            checkpoint.where = judged.where
        elif call.when == "call" and call.excinfo is None:
            checkpoint.judge("passed")
        checkpoint.evidence = shown.evidence
        if checkpoint.verdict == "failed":
            checkpoint.where = checkpoint.where or shown.where
        return _told(report, item, checkpoint)

    def _missing(self, item: pytest.Item) -> list[str]:
        """What this checkpoint needs that was selected too, and has not passed."""
        assert self.run
        verdicts = {c.id: c.verdict for c in self.run.checkpoints}
        return [need for need in _marker(item).kwargs.get("needs", ()) if verdicts.get(need, "passed") != "passed"]

    def _isolate(self, item: pytest.Item) -> list[pytest.TestReport]:
        checkpoint = item.stash[CHECKPOINT]
        way = self.config.option.isolation
        fork = isolation.can_fork() if way == "auto" else way == "fork"
        seconds = _deadline(item)
        folder = Path(tempfile.mkdtemp(dir=self.scratch))
        echo = self.config.option.capture == "no"
        if fork:
            ending = isolation.forked(
                lambda send: self._be_isolated(item, send, folder),
                seconds,
                prepare=self._stop_capturing,
                echo=echo,
                stacks=folder / "stacks",
                tick=self._tick,
            )  # fmt: skip
        else:
            ending = isolation.spawned(
                self._command(item, folder), folder / "payload", seconds, echo=echo, stacks=folder / "stacks",
                tick=self._tick,
            )  # fmt: skip
        told: dict[str, Any] = json.loads(ending.payload or b"{}")
        if "checkpoint" in told:
            for name, value in told["checkpoint"].items():
                setattr(checkpoint, name, value)
            if late := told.get("hung_import"):
                self.workspace.hung_imports[late] = checkpoint.message
        else:
            judged = _ended_badly(ending, self.workspace, seconds)
            checkpoint.judge(judged.verdict, judged.message)
            checkpoint.where = judged.where
        checkpoint.seconds = ending.seconds
        checkpoint.output = "\n".join(line[:200] for line in ending.output.splitlines()[-20:])
        load: Callable[..., Any] = self.config.hook.pytest_report_from_serializable
        reports = [load(config=self.config, data=data) for data in told.get("reports", [])]
        for report in reports:
            if isinstance(report.longrepr, list):  # why it was skipped: JSON knows no tuples, and pytest nothing else
                report.longrepr = tuple(report.longrepr)
        return reports or self._reports(item, checkpoint)

    def _stop_capturing(self) -> None:
        """In a fork pytest's own capture file would be shared with the parent."""
        if capture := self.config.pluginmanager.getplugin("capturemanager"):
            capture.stop_global_capturing()
            self.config.pluginmanager.unregister(capture)

    def _be_isolated(self, item: pytest.Item, send: isolation.Send, folder: Path) -> None:
        """The inside of a checkpoint's process: run it, and send its reports and its results."""
        checkpoint, shown = item.stash[CHECKPOINT], item.stash[SHOWN]

        def late(what: str, starved: bool) -> None:
            where = self.workspace.where_first(stacks(threading.main_thread().ident))
            verdict: results.Verdict = "inconclusive" if starved else "failed"
            checkpoint.judge(verdict, f"your code did not {what}" if not starved else f"too busy a machine to {what}")
            checkpoint.where, checkpoint.evidence = where, shown.evidence
            hung = what.split()[2] if what.startswith("finish importing") else None
            send(json.dumps({"checkpoint": asdict(checkpoint), "hung_import": hung}).encode())
            os._exit(1)

        watchdog = isolation.Watchdog(_deadline(item), folder / "stacks", late)
        self.workspace.import_deadline = lambda module: watchdog.within(
            IMPORT_SECONDS, f"finish importing {module} within {IMPORT_SECONDS:g} s"
        )
        dump: Callable[..., Any] = self.config.hook.pytest_report_to_serializable
        reports = [dump(config=self.config, report=report) for report in runtestprotocol(item, log=False)]
        sys.stdout.flush()
        sys.stderr.flush()
        send(json.dumps({"reports": reports, "checkpoint": asdict(checkpoint)}).encode())

    def _be_spawned(self, item: pytest.Item, folder: Path) -> NoReturn:
        """The same in an interpreter that was started for this one checkpoint; what it sends goes through a file."""
        isolation.follow_parent(0)

        def send(payload: bytes) -> None:
            partial = folder / "partial"
            partial.write_bytes(payload)
            partial.replace(folder / "payload")

        self._be_isolated(item, send, folder)
        sys.stdout.flush()
        os._exit(0)

    def _command(self, item: pytest.Item, folder: Path) -> list[str]:
        options = [f"--seed={self.seed}", f"--isolated={folder}", "--capture=no"]
        if self.config.option.workspace:
            options.append(f"--workspace={self.config.option.workspace}")
        return [sys.executable, "-m", "pytest", "-qq", "--rootdir", str(self.config.rootpath), item.nodeid, *options]

    def _reports(self, item: pytest.Item, checkpoint: results.Checkpoint) -> list[pytest.TestReport]:
        """Reports for a checkpoint whose own process sent none; pytest's plugins wait for all three phases."""
        words: dict[Any, str | None] = {"setup": None, "call": checkpoint.message, "teardown": None}
        reports = [
            pytest.TestReport(
                item.nodeid, item.location, dict.fromkeys(item.keywords, 1), "failed" if said else "passed", said, when
            )
            for when, said in words.items()
        ]
        return [_told(report, item, checkpoint) for report in reports]

    # -- who is told ------------------------------------------------------------------------------------------

    def _announce(self, checkpoint: results.Checkpoint) -> None:
        if not self.card or not self.run:
            return
        exercise = next(e for e in self.run.exercises if checkpoint in e.checkpoints)
        if exercise.checkpoints[0] is checkpoint:
            self.card.heading(exercise, self.run)
        self._running = (checkpoint, time.monotonic())
        self._tick()

    def _tick(self) -> None:
        """What runs right now, and for how long, on a line that the next one replaces."""
        if self.card and self.console.is_terminal:
            checkpoint, since = self._running
            text = f"   {checkpoint.id:<5}{checkpoint.title[:40]:<41}{time.monotonic() - since:.0f} s"
            self.console.file.write(f"\r{text}\x1b[K")
            self.console.file.flush()

    def _clear(self) -> None:
        if self.console.is_terminal:
            self.console.file.write("\r\x1b[K")

    def _write(self) -> None:
        if self.run:
            self.run.seconds = round(time.monotonic() - self.started, 3)
            results.write(self.run, self.path)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Success is when every selected checkpoint passed: one that could not be judged is none."""
        if self.run and session.exitstatus == pytest.ExitCode.OK and not self.run.all_passed:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        self.exit_status = session.exitstatus

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self) -> None:
        """The rest of the card, and pytest's own last line."""
        if self.card:
            self._clear()
            said = self.pytest_says.getvalue()
            judged = self.run is not None and any(c.verdict != "not_run" for c in self.run.checkpoints)
            if self.run and judged and self.exit_status != pytest.ExitCode.INTERNAL_ERROR:
                self.card.ending(self.run)
                last = next((line for line in reversed(said.splitlines()) if line.strip("= ")), "")
                self.console.print(f"\n{last.strip('= ')}", style="dim", highlight=False, markup=False)
            else:
                self.console.file.write(said)
        shutil.rmtree(self.scratch, ignore_errors=True)


@pytest.fixture
def workspace(request: pytest.FixtureRequest) -> Workspace:
    """Whose files are judged."""
    return request.config.stash[LAB].workspace


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """This run's seed."""
    return request.config.stash[LAB].seed


def _marker(item: pytest.Item) -> pytest.Mark:
    marker = item.get_closest_marker("checkpoint")
    assert marker is not None
    return marker


def _deadline(item: pytest.Item) -> float:
    return float(_marker(item).kwargs.get("deadline", DEADLINE))


def _fixtures(item: pytest.Item) -> list[str]:
    return list(getattr(item, "fixturenames", ()))


def _checkpoint(item: pytest.Item) -> results.Checkpoint | None:
    """What a checkpoint's marker and docstring say of it."""
    if item.get_closest_marker("checkpoint") is None:
        return None
    marker = _marker(item)
    title, _, why = _docstring(getattr(item, "function", None))
    return results.Checkpoint(
        id=marker.args[0],
        title=title,
        max_points=marker.kwargs["points"],
        why=why,
        hints=list(marker.kwargs.get("hints", ())),
    )


def _docstring(thing: object) -> tuple[str, str, str]:
    """First line, nothing, and the rest as one paragraph."""
    title, _, rest = (getattr(thing, "__doc__", None) or "").strip().partition("\n")
    return title.strip().rstrip("."), "", " ".join(rest.split())


def _exercises(items: list[pytest.Item]) -> list[results.Exercise]:
    exercises: dict[str, results.Exercise] = {}
    for item in items:
        module = getattr(item, "module", None)
        name = getattr(module, "__name__", item.nodeid)
        if name not in exercises:
            title, _, about = _docstring(module)
            number = int(item.stash[CHECKPOINT].id.partition(".")[0])
            title = re.sub(r"^Exercise \d+ - ", "", title)
            exercises[name] = results.Exercise(number, title, about, [])
        exercises[name].checkpoints.append(item.stash[CHECKPOINT])
    return list(exercises.values())


def _told(report: pytest.TestReport, item: pytest.Item, checkpoint: results.Checkpoint) -> pytest.TestReport:
    """A report with pytest's word for the verdict, and the lab's own for `--junitxml`."""
    properties = {"checkpoint": checkpoint.id, "points": checkpoint.points, "verdict": checkpoint.verdict}
    report.user_properties = [*properties.items()]
    if report.failed and checkpoint.verdict in ("locked", "inconclusive"):
        report.outcome = "skipped"
        report.longrepr = (str(item.path), item.location[1] or 0, f"{checkpoint.verdict}: {checkpoint.message}")
    return report


def _ended_badly(ending: isolation.Ending, workspace: Workspace, seconds: float) -> Judged:
    """A process that sent nothing: it hung beyond its own watchdog's reach, or it ended itself."""
    if "INTERNALERROR" in ending.output:
        return Judged("lab_error", ending.output)
    if "Timeout" in ending.stacks:
        where = next(
            (
                f"{Path(path).relative_to(workspace.tree).as_posix()}:{line} in {function}"
                for path, line, function in re.findall(r'File "([^"]+)", line (\d+) in (\S+)', ending.stacks)
                if Path(path).is_relative_to(workspace.tree / "lab")
            ),
            None,
        )
        return Judged("failed", f"your code did not finish within {seconds:g} s, and let nothing else run", where)
    if ending.exit_code is not None and ending.exit_code < 0:
        return Judged("failed", f"the process that ran your code was killed (signal {-ending.exit_code})")
    return Judged("failed", f"your code ended its own process with exit code {ending.exit_code} (os._exit?)")


def _machine() -> dict[str, Any]:
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    python = ".".join(map(str, sys.version_info[:3]))
    return {"cores": os.cpu_count(), "platform": sys.platform, "python": python, "load": load}
