"""The lab's own options. pytest loads this before it looks for any conftest.py.

pytest treats the value of an undeclared option as a path of tests: `--workspace DIR` would then run
DIR/conftest.py in the process that grades.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from checks.harness.judge.start import begin, can_fork

_NUMBER = re.compile(r"\d+\.\d+")

TAKE_THEIR_CODE = frozenset(("lab", "service", "play", "serve", "launch", "wall_clock"))
"""Fixtures that take the learner's code, and so run in a cell."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """The lab's own options."""
    group = parser.getgroup("lab", "the inference latency lab")
    group.addoption("--workspace", type=Path, metavar="DIR", help="judge the files in DIR (default: your own, here)")
    group.addoption("--results", type=Path, metavar="PATH", help="where the results go (default: .lab/last-run.json)")
    group.addoption("--seed", type=int, help="repeat a run's random inputs")
    group.addoption("--hints", action="store_true", help="show all hints, not just the first")
    group.addoption("--all", action="store_true", dest="all_details", help="show every open checkpoint in full")
    ways = ("auto", "fork", "spawn", "none")
    group.addoption(
        "--isolation",
        choices=ways,
        default="auto",
        help="how a checkpoint is kept apart (none: not at all, for debuggers; --pdb implies it)",
    )
    group.addoption("--isolated", type=Path, metavar="DIR", help="internal: this is the process of one checkpoint")


def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Start what cells are forked from, where they are surely needed: while pytest loads and collects, it imports.

    A run that needs it after all starts it when its checkpoints are known.
    """
    option = early_config.known_args_namespace
    if (
        can_fork()
        and option.isolation in ("auto", "fork")
        and not (option.usepdb or option.trace or option.collectonly)
    ):
        files = [Path(early_config.invocation_params.dir, name) for name in option.file_or_dir]
        checks = [path for path in files if path.parent.name == "checks"]
        cells = {number: service for path in checks for number, service in _in_cells(path).items()}
        chosen = _chosen(option.keyword, cells)
        if chosen:
            begin(early_config, service=any(cells[number] for number in chosen))


def _chosen(keyword: str, cells: Iterable[str]) -> set[str]:
    """Those that surely run, or perhaps: the numbers that a keyword names; all where it names those that do not run."""
    if not keyword or re.search(r"\bnot\b", keyword):
        return {*cells}
    return {*_NUMBER.findall(keyword)} & {*cells}


def _in_cells(path: Path) -> dict[str, bool]:
    """The checkpoints in that file that take the learner's code, and whether each runs their service.

    By number; none where it is no file.
    """
    if not path.is_file():
        return {}
    parts = [part.partition("\ndef ")[::2] for part in path.read_text().split("pytest.mark.checkpoint(")[1:]]
    found = [
        (_NUMBER.search(marker), set(re.findall(r"\w+", function.partition("(")[2].partition(")")[0])))
        for marker, function in parts
    ]
    return {number[0]: "service" in fixtures for number, fixtures in found if number and fixtures & TAKE_THEIR_CODE}
