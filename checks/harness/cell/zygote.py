"""Starts cells: an interpreter that has imported what they need, and forks one in milliseconds whenever it is asked."""

from __future__ import annotations

import contextlib
import importlib
import os
import socket
import sys
from collections.abc import Callable

sys.modules["pytest"] = None  # type: ignore[assignment]  # looptime would take it along, and a cell has no use for it
from checks.harness.cell import inside  # noqa: E402
from checks.harness.cell.forks import fork_when_asked, leave_the_lab, silence  # noqa: E402

del sys.modules["pytest"]

HEAVY = ("pydantic_settings",)
"""What the lab's given modules import that takes long."""
SERVICE = ("anyio._backends._asyncio", "fastapi", "httpx", "httpcore", "pydantic.v1", "structlog")
"""What a learner's service imports beside that; httpx imports httpcore for its first client."""


def main(arguments: list[str]) -> None:
    """`fork FD`: start cells that are asked for over that socket; `fork FD service`: some of them are for a service.

    `cell`: be one, between standard input and output.

    The last argument is the folder with the lab, which nothing in here finds any more.
    """
    leave_the_lab(arguments.pop())
    if arguments[0] == "cell":
        reader, writer = os.dup(0), os.dup(1)
        silence(0)
        os.dup2(2, 1)
        inside.run(reader, writer)
    service = "service" in arguments

    def prepare(asked: Callable[[], bool]) -> None:
        if service or not asked():  # else a judge waits already, perhaps for a cell that needs none of them
            for name in [*HEAVY, *(SERVICE if service else ())]:
                with contextlib.suppress(ImportError):
                    importlib.import_module(name)

    try:
        inside.run(*fork_when_asked(socket.socket(fileno=int(arguments[1])), prepare))
    finally:
        os._exit(1)
