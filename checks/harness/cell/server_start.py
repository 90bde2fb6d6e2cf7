"""A server of one worker, in a process that has most of its imports done: what `python -m uvicorn ARGUMENTS` runs."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from checks.harness.cell.forks import end_with, print_by_lines
from checks.harness.cell.wire import Wire

ASKED = b"s"
"""The byte by which a server is asked for."""


def run(reader: int, writer: int) -> NoReturn:
    """Read an object (`folder`, `path`, `environment`, `arguments`) and be that server. It ends with the other side."""
    order = Wire(reader, writer).receive()
    if order is None:
        sys.exit("nobody said what to serve")
    end_with(reader)
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.path[:0] = order["path"]
    sys.argv[:] = ["uvicorn", *order["arguments"]]
    print_by_lines()
    import uvicorn.main

    sys.exit(uvicorn.main.main())
