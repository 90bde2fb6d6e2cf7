"""The lab's own options. pytest loads this before it looks for any conftest.py.

pytest treats the value of an undeclared option as a path of tests: `--workspace DIR` would then run
DIR/conftest.py in the process that grades.
"""

from __future__ import annotations

from pathlib import Path

import pytest


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
