"""What several of the lab's own tests use."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from checks.harness import ROOT
from tests import runs

AT_A_TIME = 4
"""Runs that go on side by side: a run waits more than it works."""

Judge = Callable[..., runs.Judged]


@pytest.fixture
def solution(tmp_path: Path) -> Path:
    """A workspace of its own with the solutions in it, for a test to spoil."""
    return shutil.copytree(ROOT / "solutions", tmp_path / "workspace", ignore=shutil.ignore_patterns("__pycache__"))


@pytest.fixture
def judge(tmp_path: Path) -> Judge:
    """`judge(workspace, "checks/test_ex1.py", "-k", "1.4")` runs checkpoints as a learner does."""
    return partial(runs.judge, tmp_path)


@pytest.fixture(scope="session")
def runs_ahead(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[runs.Judged]]]:
    """The runs of all cases that this session will ask about, begun before they are asked about."""
    items = [item for item in request.session.items if "runs_ahead" in getattr(item, "fixturenames", ())]
    cases = {item.nodeid: item.callspec.params["case"] for item in items}  # type: ignore[attr-defined]
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        yield {name: pool.submit(case.run, tmp_path_factory.mktemp("case")) for name, case in cases.items()}
        pool.shutdown(cancel_futures=True)


@pytest.fixture
def run(request: pytest.FixtureRequest, runs_ahead: dict[str, Future[runs.Judged]]) -> runs.Judged:
    """What became of this test's `case`: an object whose `run(folder)` judges a workspace."""
    return runs_ahead[request.node.nodeid].result()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say whether containers were really run: without an engine their tests are skipped."""
    seen = terminalreporter.stats
    real = [report for report in seen.get("passed", []) + seen.get("failed", []) if "test_containers" in report.nodeid]
    spared = [report for report in seen.get("skipped", []) if "test_containers" in report.nodeid]
    if real:
        terminalreporter.write_line(f"on a real Docker engine: {len({report.nodeid for report in real})} tests")
        for report in real:
            terminalreporter.write_line(f"  {report.outcome}: {report.nodeid.partition('::')[2]}")
    if spared:
        terminalreporter.write_line(f"no Docker engine answers: {len(spared)} tests with real containers were skipped")
