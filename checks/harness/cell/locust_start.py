"""Starts Locust: in an interpreter of its own, or forked from one that has imported it.

Each run has a limit of CPU time, so that an endless loop is ended, and its line is printed. The import does not count.
Windows has no such limit.
"""

from __future__ import annotations

import faulthandler
import math
import os
import signal
import socket
import sys
import time

from checks.harness.cell.forks import end_with, fork_when_asked, leave_the_lab
from checks.harness.cell.wire import Wire


def main(arguments: list[str]) -> None:
    """`run SECONDS ...`: run Locust with these arguments, for at most so many seconds of CPU time.

    `fork FD`: start those that are asked for over that socket. Each then reads an object: `seconds`, `arguments` and
    the `environment` that it adds. It ends when the other side closes what it reads.

    The last argument is the folder with the lab, which nothing in here finds any more.
    """
    leave_the_lab(arguments.pop())
    if arguments[0] == "run":
        _run(int(arguments[1]), arguments[2:])
    _, reader, writer = fork_when_asked(socket.socket(fileno=int(arguments[1])), lambda _: _import())
    order = Wire(reader, writer).receive()
    if order is None:
        sys.exit("nobody said what to run")
    end_with(reader)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    import gevent  # type: ignore[import-untyped]

    gevent.reinit()  # its loop is the other process's
    os.environ.update(order["environment"])
    _run(order["seconds"], order["arguments"])


def _import() -> None:
    import locust.main  # noqa: F401


def _run(seconds: int, arguments: list[str]) -> None:
    import locust.main  # here: it puts gevent in the place of the standard library, for good

    sys.argv[:] = ["locust", *arguments]
    if sys.platform != "win32":
        import resource

        most = math.ceil(time.process_time()) + seconds
        faulthandler.register(signal.SIGXCPU, chain=True)
        resource.setrlimit(resource.RLIMIT_CPU, (most, most + 5))
    sys.exit(locust.main.main())  # type: ignore[no-untyped-call]
