"""A pytest that has imported its libraries and waits for its arguments, as JSON in a line: `python -m lab_guide.warm`.

It imports libraries only. The lab's own modules and the learner's are read when the run begins, as `python -m pytest`
does, so that a run judges what is there then. What it waits for in vain ends it: the end of its standard input.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import warnings

LIBRARIES = (
    "_pytest.cacheprovider",
    "_pytest.doctest",
    "_pytest.faulthandler",
    "_pytest.helpconfig",
    "_pytest.junitxml",
    "_pytest.legacypath",
    "_pytest.logging",
    "_pytest.pytester",
    "_pytest.skipping",
    "_pytest.stepwise",
    "_pytest.subtests",
    "_pytest.terminal",
    "_pytest.threadexception",
    "_pytest.unittest",
    "_pytest.unraisableexception",
    "_pytest.warnings",
    "anyio._backends._asyncio",
    "asyncio",
    "cProfile",
    "ctypes",
    "dataclasses",
    "fastapi",
    "httpcore",
    "httptools",
    "httpx",
    "packaging.version",
    "pdb",
    "psutil",
    "pydantic.v1",
    "pydantic_settings",
    "pygments.lexers.python",
    "pygments.styles.default",
    "pytest",
    "readline",
    "rich._emoji_codes",
    "rich.console",
    "rich.live",
    "statistics",
    "structlog",
    "timeit",
    "tomllib",
    "unittest.mock",
    "uvloop",
    "xml.etree.ElementTree",
)
"""What a run of checkpoints imports. Not pytest's plugins by name: pytest rewrites these while it imports them."""


def main() -> None:
    """Wait, then be the run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in LIBRARIES:
            try:
                importlib.import_module(name)
            except ImportError:  # a library that this platform does not have
                continue
    line = sys.stdin.readline()
    if not line:
        return
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    import pytest

    sys.exit(pytest.main(json.loads(line)))


if __name__ == "__main__":
    main()
