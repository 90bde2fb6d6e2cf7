"""Starts cells, and servers of one worker: an interpreter that has done their imports, and forks one when asked."""

from __future__ import annotations

import contextlib
import importlib
import os
import socket
import sys
from collections.abc import Callable, Iterable

sys.modules["pytest"] = None  # type: ignore[assignment]  # looptime would take it along, and a cell has no use for it
from checks.harness.cell import inside, server_start  # noqa: E402
from checks.harness.cell.forks import fork_when_asked, leave_the_lab, silence  # noqa: E402

del sys.modules["pytest"]

HEAVY = ("pydantic_settings",)
"""What the lab's given modules import that takes long."""
SERVICE = ("anyio._backends._asyncio", "fastapi", "httpx", "httpcore", "pydantic.v1", "structlog")
"""What a learner's service imports beside that; httpx imports httpcore for its first client."""
SERVER = ("uvicorn.main", "uvicorn.lifespan.on", "uvicorn.protocols.http.httptools_impl", "uvloop")
"""What a server imports beside that."""


def _import(names: Iterable[str]) -> None:
    for name in names:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def main(arguments: list[str]) -> None:
    """`fork FD`: start what is asked for over that socket; `fork FD service`: some of it is for a service.

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
            _import(HEAVY)
        if service:
            _import(SERVICE)
        if service and not asked():  # a server imports it by itself, too
            _import(SERVER)

    asked, reader, writer = fork_when_asked(socket.socket(fileno=int(arguments[1])), prepare)
    if asked == server_start.ASKED:
        server_start.run(reader, writer)
    for name in [name for name in sys.modules if name.partition(".")[0] == "uvicorn"]:
        del sys.modules[name]  # code that looks whether it is served sees what it would see without the server
    inside.run(reader, writer)
