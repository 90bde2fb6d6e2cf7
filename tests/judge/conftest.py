"""Real cells with a learner's module in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType

import psutil
import pytest

from checks.harness import ROOT
from checks.harness.judge.app import Running
from checks.harness.judge.cell import Cell
from checks.harness.judge.start import Started, Zygote, started, zygote_of_cells
from checks.harness.workspace import Workspace, open_workspace

WAYS = ["forked", "new interpreter"]


def runs(pid: int) -> bool:
    """Whether that process has not ended."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Learner:
    """A workspace with `lab/thing.py`, and cells for it."""

    def __init__(self, folder: Path, zygote: Zygote, way: str) -> None:
        self.folder, self.way = folder, way
        self.zygote = zygote
        self.process: Started
        self.cell: Cell
        self.workspace: Workspace
        self.ends = ExitStack()

    def wrote(self, text: str) -> ModuleType:
        """Their lab/thing.py, in a new cell."""
        self._in_a_cell("thing", text)
        return self.cell.load("thing")

    def serves(self, text: str) -> Running:
        """Their lab/service.py, in a new cell that can start its app."""
        self._in_a_cell("service", text)
        return Running(self.cell, self.workspace)

    def _in_a_cell(self, name: str, text: str) -> None:
        (self.folder / "lab").mkdir(exist_ok=True)
        (self.folder / "lab" / f"{name}.py").write_text(text)
        self.workspace = open_workspace(ROOT, self.folder, self.folder.parent / "tree")
        process = self.zygote.fork() if self.way == "forked" else started()
        assert process
        self.process = process
        self.cell = Cell(process, self.workspace, self.folder / "stacks")
        self.ends.callback(process.exit_code)
        self.ends.callback(self.cell.end)


Wrote = Callable[[str], ModuleType]


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    """One that all tests share. Half of their cells are services, whose imports take longer than the test."""
    made = zygote_of_cells(service=True)
    yield made
    made.end()


@pytest.fixture
def way() -> str:
    """How cells start; a test may say which ways it is for."""
    return "forked"


@pytest.fixture
def learner(tmp_path: Path, zygote: Zygote, way: str) -> Iterator[Learner]:
    """Where a learner writes."""
    (tmp_path / "learner").mkdir()
    made = Learner(tmp_path / "learner", zygote, way)
    with made.ends:
        yield made
