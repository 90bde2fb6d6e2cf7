"""Real servers in a process group of their own: started, waited for, stopped, and always gone at the end.

Knows nothing of what they serve. The port is read from the server's own output, so no two servers can want the same
one; ready means that HTTP answers, and with several workers that each of them has.
"""

import contextlib
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from checks.harness.errors import ServerDied, ServerNotReady, cut
from checks.harness.machine import FairClock
from checks.harness.processes.process_group import GONE_SECONDS, Process, Tail, descendants, leave_nothing, start
from checks.harness.processes.single_requests import Answer, ask_together

PORT_LINE = r"Uvicorn running on \w+://\S+?:(\d+)"
"""How a server names its port: the first group of this regular expression, in one line of its output."""

UVICORN = (sys.executable, "-m", "uvicorn")

PORTS = range(20_000, 32_000)
"""Ports that no system gives to outgoing connections: one of those may be taken before the service is there."""

READY_SECONDS = 20.0
"""Seconds that a server may take to get ready, on an idle machine; it takes one or two."""
LONGEST_START = 60.0
"""Seconds after which no server is waited for, however busy the machine is."""

_PATIENCE_SECONDS = 3.0  # until the port is looked for without the server's own word
_POLL_SECONDS = 0.02
_LOOK_SECONDS = 0.2  # between two looks for dead workers: each reads all processes of the machine
_DEATHS = 4  # of workers that were replaced: what ends so often will not serve
_ROUND_SECONDS = 5.0
_LAST_ROUND_SECONDS = 0.5


Begin = Callable[[Sequence[str], dict[str, str], Path, float], Process]
"""Starts a command with an environment, in a folder, and with so many seconds to end in when it is asked to."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs, or ran.

    Attributes:
        port: the TCP port it listens on, on 127.0.0.1.
        pids: the workers that answered before it counted as ready, as the bodies' "pid" told them; ascending,
            empty when the only worker named none.
        output: call it for the last lines (200 lines, 64 KB) of standard output and error.
    """

    port: int
    pids: tuple[int, ...]
    output: Callable[[], str]
    _process: Process
    _stop_seconds: float

    @property
    def url(self) -> str:
        """Scheme, host and port, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def exit_code(self) -> int | None:
        """None while the main process runs, then its exit code: -N for signal N."""
        return self._process.poll()

    def spawned_workers(self) -> int:
        """How many workers uvicorn's supervisor has started, whether or not they answer; 0 where there is none."""
        found = 0
        for member in descendants(self._process.pid):
            with contextlib.suppress(psutil.Error):
                found += any("spawn_main" in word for word in member.cmdline())
        return found

    def processes(self) -> list[int]:
        """The pids of all its processes, and of a guard that stands before them and passes SIGTERM on."""
        return sorted(_pids(self._process))

    def ask_to_stop(self) -> None:
        """Send SIGTERM to the main process, which is killed `stop_seconds` later. Returns when it has ended."""
        _ask_to_stop(self._process, self._stop_seconds + GONE_SECONDS)


def uvicorn_command(
    app: str, *, factory: bool = False, workers: int = 1, port: int = 0, access_log: bool = False
) -> list[str]:
    """Give the command that serves `app` ("module:name") with uvicorn; port 0 lets the system choose a free one."""
    command = [*UVICORN, app, "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", str(workers), "--access-log" if access_log else "--no-access-log", "--no-use-colors"]
    # The line that names the port is an info line.
    command += ["--log-level", "info"]
    # On a busy machine the supervisor's 5 s kill workers that are merely slow to start, and so for ever.
    command += ["--timeout-worker-healthcheck", "60"]
    return [*command, "--factory"] if factory else command


@contextlib.contextmanager
def server(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    workers: int = 1,
    ready_path: str = "/health",
    ready_seconds: float = READY_SECONDS,
    stop_seconds: float = 10,
    port_line: str = PORT_LINE,
    begin: Begin = start,
) -> Iterator[Server]:
    """Run `command` as a server while the body runs; nothing of it is left afterwards, however the body ends.

    Ready is one worker that gives any answer below 500, or several of which each gave a 200 whose JSON body names
    its "pid". At the end the server gets SIGTERM and `stop_seconds`; then whatever still runs is killed.

    Args:
        command: program and arguments; it must print a line that names its port.
        env: added to this process's environment, which it overrides; `cwd` always comes first on PYTHONPATH.
        cwd: the folder it runs in.
        workers: how many different pids must have answered.
        ready_path: what to GET.
        ready_seconds: how long it may take to get ready, in fair time (`FairClock`).
        stop_seconds: how long it may take to stop of its own accord.
        port_line: regular expression whose first group is the port.
        begin: what starts the process.

    Raises:
        ServerDied: it ended before it was ready; raised at once.
        ServerNotReady: `ready_seconds` of fair time were over, or `LONGEST_START` of real time.
    """
    pattern = re.compile(port_line.encode())
    process = begin(command, _environment(env, cwd), cwd, stop_seconds)
    family: set[psutil.Process] = set()
    try:
        tail = Tail(process.stdout, pattern)
        port, pids = _wait_until_ready(process, tail, workers, ready_path, ready_seconds)
        family |= descendants(process.pid)
        try:
            yield Server(port, pids, tail.text, process, stop_seconds)
        finally:
            family |= descendants(process.pid)
            _ask_to_stop(process, stop_seconds)
    finally:
        leave_nothing(process, family | descendants(process.pid))
        # The end of its output is the end of the last process that could write to it.
        tail.thread.join(GONE_SECONDS)


def _environment(env: Mapping[str, str], cwd: Path) -> dict[str, str]:
    merged = {**os.environ, **env, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}
    merged["PYTHONPATH"] = os.pathsep.join(filter(None, [str(cwd.resolve()), merged.get("PYTHONPATH")]))
    return merged


def _wait_until_ready(
    process: Process, tail: Tail, workers: int, path: str, seconds: float
) -> tuple[int, tuple[int, ...]]:
    """Give port and pids, or raise what `server` raises."""
    clock = FairClock()
    wanted = f"GET {path} to answer" + (f" from {workers} workers" if workers > 1 else "")
    seen = "its output named no port, as 'Uvicorn running on http://127.0.0.1:PORT' does"
    pids: set[int] = set()
    next_look = 0.0
    while clock.seconds() < seconds and clock.real_seconds < LONGEST_START:
        if (code := process.poll()) is not None:
            # Its last words; not for long, as a process that it left behind may keep the pipe open.
            tail.thread.join(1)
            how = f"with exit code {code}" if code >= 0 else f"killed by signal {-code} ({signal.strsignal(-code)})"
            raise ServerDied(f"The server ended before it was ready, {how}.", tail.text(), code)
        dead = False
        if workers > 1 and clock.real_seconds >= next_look:
            dead = _dead_children(process) >= workers
            next_look = clock.real_seconds + _LOOK_SECONDS
        if dead or tail.worker_deaths > max(workers, _DEATHS):
            leave_nothing(process, descendants(process.pid))
            tail.thread.join(1)
            raise ServerDied("The server's workers end as soon as they start.", tail.text(), None)
        port = tail.port or (_listening(process) if clock.real_seconds > _PATIENCE_SECONDS else None)
        if port is not None:
            left = min(seconds - clock.seconds(), LONGEST_START - clock.real_seconds)
            answers = _ask(port, path, 4 * workers if workers > 1 else 1, left)
            # A worker may have ended since it answered.
            pids = (pids | {a.pid for a in answers if a.pid}) & _pids(process)
            if len(pids) >= workers or (workers == 1 and any(a.status and a.status < 500 for a in answers)):
                return port, tuple(sorted(pids))
            seen = f"{len(pids)} of {workers} workers answered" if pids else _why_not(answers, path)
        time.sleep(_POLL_SECONDS)
    took = f"The server was not ready after {clock.real_seconds:.0f} s"
    raise ServerNotReady(f"{took}. Waited for {wanted}; {seen}.", tail.text(), busy=clock.busy)


def _ask(port: int, path: str, connections: int, left: float) -> list[Answer]:
    # A round that begins just before the time is up may pass it: cut short, it would report a server that hangs.
    end = time.monotonic() + max(_LAST_ROUND_SECONDS, min(_ROUND_SECONDS, left))
    return ask_together(("127.0.0.1", port), path, connections, end)


def _why_not(answers: list[Answer], path: str) -> str:
    answer = max(answers, key=lambda a: a.status or 0)
    if answer.status is None:
        why = "in time" if isinstance(answer.error, TimeoutError) else f"({answer.error!r})"
        return f"the port is known, but GET {path} gave no answer {why}"
    text = cut(answer.text, 200)
    if answer.status == 200:
        return f'GET {path} gave 200, but the body is no JSON with the "pid" of one of its processes: {text}'
    return f"the port is open, but GET {path} gave {answer.status}: {text}"


def _listening(process: Process) -> int | None:
    """The one port that the server listens on, for an app whose logging hides the line that names it."""
    ports: set[int] = set()
    for pid in _pids(process):
        with contextlib.suppress(psutil.Error):
            connections = psutil.Process(pid).net_connections("tcp")
            ports |= {one.laddr.port for one in connections if one.status == psutil.CONN_LISTEN}
    return ports.pop() if len(ports) == 1 else None


def _dead_children(process: Process) -> int:
    """Count the dead children that a process of the server has not looked after: the most of any of them.

    uvicorn's supervisor may wait for the answer of a worker that has just died until the health check's time is up.
    """
    parents: Counter[int] = Counter()
    for member in descendants(process.pid):
        with contextlib.suppress(psutil.Error):
            parents[member.ppid()] += member.status() == psutil.STATUS_ZOMBIE
    return max(parents.values(), default=0)


def _ask_to_stop(process: Process, seconds: float) -> None:
    process.ask_to_end()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


def _pids(process: Process) -> set[int]:
    return {process.pid, *(member.pid for member in descendants(process.pid))}


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    while True:
        port = random.SystemRandom().choice(PORTS)  # a replayed seed must not meet what it left
        with socket.socket() as unused, contextlib.suppress(OSError):
            unused.bind(("0.0.0.0", port))
            return port


def just_one_process(output: str) -> bool:
    """Whether uvicorn's output shows that it has started no workers, so that none need be waited for.

    Under gunicorn each worker prints the same line as a lone uvicorn, and gunicorn's own lines stand above.
    """
    several = ("Started parent process", "Booting worker", "Starting gunicorn")
    return "Started server process" in output and not any(line in output for line in several)
