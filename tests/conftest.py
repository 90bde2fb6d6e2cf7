"""How the lab's own tests run: side by side, and which of them."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path

import pytest

from checks.harness import ROOT
from checks.harness.errors import Inconclusive, ServerNotReady
from checks.harness.machine import CORES, crowding, load_in_words
from tests import runs
from tests.waiting import INCONCLUSIVE, SECOND_TRY, busy

AT_A_TIME = 5
"""Tests that run side by side: a run of checkpoints waits more than it works. On a busy machine up to twice as many: a
core is shared out among all who want it."""
LONGEST, SHORT = 20, 1
"""The costs of tests that come first, and of those that others are spread among."""
MIXED = 0.8
"""The part of the short tests that others are spread among: none of these is the last to end."""

Judge = Callable[..., runs.Judged]

os.environ.pop("PYTEST_XDIST_WORKER", None)  # where it is set, pytest-benchmark measures nothing
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # hundreds of processes read the same files, and pytest rewrites some
sys.dont_write_bytecode = False


@pytest.fixture
def solution(tmp_path: Path) -> Path:
    """A workspace of its own with the solutions in it, for a test to spoil."""
    return shutil.copytree(ROOT / "solutions", tmp_path / "workspace", ignore=shutil.ignore_patterns("__pycache__"))


@pytest.fixture
def judge(tmp_path: Path) -> Judge:
    """`judge(workspace, "checks/test_ex1.py", "-k", "1.4")` runs checkpoints as a learner does."""
    return partial(runs.judge, tmp_path)


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """`--exhaustive`, and xdist's options: only here, for checkpoints must never run side by side."""
    pluginmanager.import_plugin("xdist.plugin")
    parser.addoption("--exhaustive", action="store_true", help="every named answer; containers")
    parser.addoption("--cell", help="judge named answers in such a cell, as `lab grade` does: bwrap, docker, uid")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """The whole suite runs side by side, each worker taking the next test when it is done; `-n 0`: one by one."""
    option = config.option
    every = any((config.invocation_params.dir / name).resolve() == ROOT / "tests" for name in config.args)
    if every and option.numprocesses is None and not option.usepdb and not hasattr(config, "workerinput"):
        others = round((crowding() - 1) * CORES)
        option.numprocesses, option.maxschedchunk = AT_A_TIME + min(others, AT_A_TIME), 1


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, and give each worker a session of its own.

    Linux shares out the cores among sessions (sched(7), autogroup): in one session all workers together would get as
    little as one busy neighbour.
    """
    if hasattr(config, "workerinput") and hasattr(os, "setsid") and os.getpid() != os.getsid(0):
        os.setsid()
    config.addinivalue_line("markers", "exhaustive: runs only with --exhaustive")
    config.addinivalue_line("markers", "cost(n): about how many times as long it takes as a run of one checkpoint")


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Generator[None]:
    """Leave out what is not for every day, and put the rest in an order that keeps all cores busy."""
    if not config.option.exhaustive:
        spared = [item for item in items if item.get_closest_marker("exhaustive")]
        config.hook.pytest_deselected(items=spared)
        items[:] = [item for item in items if item not in spared]
    items[:] = _in_order(sorted(items, key=_cost, reverse=True))
    return (yield)


def _in_order(items: list[pytest.Item]) -> list[pytest.Item]:
    """What takes longest comes first, and what is short comes last, with others between.

    `items` begin with those that take longest. So no core waits at the end for a long one. And most of what takes
    seconds waits, for Locust or for a deadline: many of these at once leave the cores idle.
    """
    longest = [item for item in items if _cost(item) >= LONGEST]
    some = [item for item in items if SHORT < _cost(item) < LONGEST]
    short = [item for item in items if _cost(item) <= SHORT]
    places = [(n / len(short), item) for n, item in enumerate(short)]
    places += [(MIXED * n / len(some), item) for n, item in enumerate(some)]
    return longest + [item for _, item in sorted(places, key=lambda place: place[0])]


def _cost(item: pytest.Item) -> int:
    marker = item.get_closest_marker("cost")
    return int(marker.args[0]) if marker else 0


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call() -> Generator[None, object, object]:
    """A test in which the harness finds the machine too busy to tell right from wrong is skipped."""
    try:
        return (yield)
    except (Inconclusive, ServerNotReady) as error:
        skip_if_busy(error)
        raise


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup() -> Generator[None, object, object]:
    """The same for what a test stands on."""
    try:
        return (yield)
    except (Inconclusive, ServerNotReady) as error:
        skip_if_busy(error)
        raise


def skip_if_busy(error: Exception) -> None:
    """Skip the test that raised this, if the machine is busy."""
    if busy():
        pytest.skip(f"{INCONCLUSIVE}: {error}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was not proved: on too busy a machine, without a Docker engine, or without a browser."""
    seen = terminalreporter.stats
    passed = {report.nodeid: dict(report.user_properties) for report in seen.get("passed", [])}
    for name in [name for name, properties in passed.items() if SECOND_TRY in properties]:
        terminalreporter.write_line(f"{SECOND_TRY}: {name.partition('::')[2]}")
    unsure = [report for report in seen.get("skipped", []) if INCONCLUSIVE in str(report.longrepr)]
    if unsure:
        terminalreporter.write_line(f"{INCONCLUSIVE}: {len(unsure)} tests ({load_in_words()})")
        for report in unsure:
            terminalreporter.write_line(f"  {report.nodeid}")
    real = [report for report in seen.get("passed", []) + seen.get("failed", []) if "test_containers" in report.nodeid]
    spared = [report for report in seen.get("skipped", []) if "test_containers" in report.nodeid]
    if real:
        terminalreporter.write_line(f"on a real Docker engine: {len({report.nodeid for report in real})} tests")
        for report in real:
            terminalreporter.write_line(f"  {report.outcome}: {report.nodeid.partition('::')[2]}")
    if spared:
        terminalreporter.write_line(f"no Docker engine answers: {len(spared)} tests with real containers were skipped")
    if blind := [report for report in seen.get("skipped", []) if "not tried in a browser" in str(report.longrepr)]:
        terminalreporter.write_line(f"no Chromium, or no Playwright: {len(blind)} tests of the page were skipped")
