"""Real servers: ready when they say so, a plain reason when not, and nothing of them left afterwards."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from checks.harness import ROOT
from checks.harness.errors import ServerDied, ServerNotReady
from checks.harness.processes import supervisor as guard
from checks.harness.processes.servers import Server, just_one_process, server, uvicorn_command
from tests.waiting import SLOWER, ended, until

APP = """
import json, os
{before}
def at_request():
    {at_request}

async def app(scope, receive, send):
    assert scope["type"] == "http"
    at_request()
    body = json.dumps({{"pid": os.getpid(), "env": dict(os.environ)}}).encode()
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": body}})
"""

HOLDER = """
import signal, sys
from pathlib import Path
from checks.harness.processes.servers import server, uvicorn_command

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell runs in the background
with server(uvicorn_command("app:app", workers=2), env={}, cwd=Path(sys.argv[1]), workers=2) as running:
    print(running.port, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path) -> Iterator[None]:
    """Every process of a server starts in `tmp_path`: none may be there soon after the test."""
    yield
    until(lambda: not processes_in(tmp_path), f"no process left in {tmp_path}")


@pytest.fixture
def app(tmp_path: Path) -> Callable[[str], Path]:
    """Write app.py, the ordinary app with lines before it and a statement at each request, and give its folder."""

    def write(before: str = "", at_request: str = "pass") -> Path:
        (tmp_path / "app.py").write_text(APP.format(before=before, at_request=at_request))
        return tmp_path

    return write


def processes_in(folder: Path) -> list[psutil.Process]:
    """List what runs with `folder` as its working directory, whatever its parent; not zombies."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()) == folder:
                found.append(process)
    return found


def listens(port: int) -> bool:
    """Tell whether anything accepts connections on this port."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def get(running: Server, path: str = "/health") -> bytes:
    """Request a path and give the body; an error status raises."""
    with urllib.request.urlopen(running.url + path, timeout=30) as response:
        body: bytes = response.read()
    return body


def tiny(answer: str) -> list[str]:
    """Give the command of a server whose answers are this expression: (status, body)."""
    return [sys.executable, str(ROOT / "tests" / "tiny_server.py"), "127.0.0.1", "0", answer]


@pytest.mark.parametrize("workers", [1, 2, pytest.param(4, marks=pytest.mark.exhaustive)])
def test_workers_answer(app: Callable[..., Path], workers: int) -> None:
    """A ready server has one pid per worker, all different, and its port closes with the body."""
    with server(uvicorn_command("app:app", workers=workers), env={}, cwd=app(), workers=workers) as running:
        pid = json.loads(get(running))["pid"]

        assert running.exit_code is None
        assert workers == len(set(running.pids))
        assert pid in running.pids

    assert running.exit_code in (0, -signal.SIGTERM)
    assert "Finished server process" in running.output()
    assert not listens(running.port)


def test_environment_reaches_workers(app: Callable[..., Path]) -> None:
    """Workers see this process's environment, what the caller adds, and their own folder first on PYTHONPATH."""
    given = {"LAB_DELAY": "0.25", "PYTHONPATH": "elsewhere"}

    with server(uvicorn_command("app:app", workers=2), env=given, cwd=app(), workers=2) as running:
        seen = json.loads(get(running))["env"]

    assert {**os.environ, **given}["PATH"] == seen["PATH"]
    assert seen["LAB_DELAY"] == "0.25"
    assert [str(app()), "elsewhere"] == seen["PYTHONPATH"].split(os.pathsep)
    assert "1" == seen["PYTHONUNBUFFERED"] == seen["PYTHONDONTWRITEBYTECODE"]
    assert not list(app().rglob("*.pyc"))


@pytest.mark.parametrize("answer", ["200, 'no JSON'", "404, ''", "200, '[1]'"])
def test_single_worker_needs_no_pid(tmp_path: Path, answer: str) -> None:
    """A single worker that names no pid is ready with any answer below 500, under any command that names its port."""
    with server(tiny(answer), env={}, cwd=tmp_path) as running:
        assert running.pids == ()

    assert running.exit_code == -signal.SIGTERM


@pytest.mark.parametrize(
    ("name", "workers", "printed"),
    [
        ("app:app", 1, "No module named 'no_such_module'"),
        ("app:app", 2, "No module named 'no_such_module'"),
        ("no_app:app", 2, 'Could not import module "no_app"'),
    ],
    ids=["single", "workers", "wrong-name"],
)
def test_dies_at_start(app: Callable[..., Path], name: str, workers: int, printed: str) -> None:
    """A server, or workers, that cannot start are reported long before the time is up, with what they printed."""
    never = server(uvicorn_command(name, workers=workers), env={}, cwd=app("import no_such_module"), workers=workers)

    with pytest.raises(ServerDied, match=r"ended before it was ready|end as soon as they start") as caught, never:
        pytest.fail("it must not get ready")

    assert printed in str(caught.value)


def test_dies_with_exit_code(tmp_path: Path) -> None:
    """The exit code and the last lines of a server that died are in the message."""
    command = [sys.executable, "-c", "print('no model file'); raise SystemExit(7)"]

    with pytest.raises(ServerDied) as caught, server(command, env={}, cwd=tmp_path):
        pytest.fail("it must not get ready")

    assert caught.value.exit_code == 7
    last_lines = "Its last lines:\n    no model file"
    assert str(caught.value) == f"The server ended before it was ready, with exit code 7.\n{last_lines}"


def test_command_not_found(tmp_path: Path) -> None:
    """A command that does not exist is a server that died, with the reason."""
    reason = "cannot start no-such-command"

    with pytest.raises(ServerDied, match=reason), server(["no-such-command"], env={}, cwd=tmp_path):
        pytest.fail("it must not get ready")


@pytest.mark.parametrize(
    ("command", "workers", "said"),
    [
        ([sys.executable, "-c", "import time; time.sleep(600)"], 1, "its output named no port"),
        (tiny("500, 'no model'"), 1, "GET /health to answer; the port is open, but GET /health gave 500: no model"),
        (tiny("""200, '{"pid": %d}' % os.getpid()"""), 2, "from 2 workers; 1 of 2 workers answered"),
        (tiny("""200, '{"pid": 1}'"""), 2, 'no JSON with the "pid" of one of its processes: {"pid": 1}'),
        (tiny("__import__('time').sleep(600)"), 1, "GET /health gave no answer in time"),
    ],
    ids=["silent", "error", "one-worker", "wrong-pid", "hangs"],
)
@pytest.mark.cost(8)
def test_never_ready(tmp_path: Path, command: list[str], workers: int, said: str) -> None:
    """A server that never gets ready is given up in time, with what was waited for and what was seen."""
    for slower in SLOWER:
        never = server(command, env={}, cwd=tmp_path, workers=workers, ready_seconds=slower)
        with pytest.raises(ServerNotReady) as caught, never:
            pytest.fail("it must not get ready")
        if said in caught.value.reason:
            break

    assert re.match(r"The server was not ready after \d+ s. Waited for GET /health to answer", caught.value.reason)
    assert said in caught.value.reason


def test_flood_of_output(tmp_path: Path) -> None:
    """A server that prints 12 MB is never held up by it, and only the end of it is kept."""
    command = tiny(f"os.write(1, {'0123456789abcde' + chr(10)!r}.encode() * 2**18) and (200, 'ok')")

    with server(command, env={}, cwd=tmp_path) as running:
        for _ in range(3):
            get(running)

    assert len(running.output()) <= 65536
    assert len(running.output().splitlines()) <= 200
    assert "0123456789abcde" in running.output().splitlines()


@pytest.mark.parametrize("workers", [1, 2])
def test_ignores_sigterm(app: Callable[..., Path], workers: int) -> None:
    """A server that does not stop when asked is killed."""
    # At the first request: what is set at import, uvicorn sets again.
    folder = app("import signal", "signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    command = uvicorn_command("app:app", workers=workers)

    with server(command, env={}, cwd=folder, workers=workers, stop_seconds=0.7) as running:
        pass

    assert running.exit_code == -signal.SIGKILL
    assert not listens(running.port)


@pytest.mark.parametrize("session", [False, True], ids=["same-session", "own-session"])
def test_children_go_too(app: Callable[..., Path], session: bool) -> None:
    """Processes that the server started are gone with it, even in a session of their own."""
    child = "import subprocess, sys\n"
    child += "command = [sys.executable, '-c', 'import time; time.sleep(600)']\n"
    child += f"child = subprocess.Popen(command, start_new_session={session})\n"
    folder = app(child)

    with server(uvicorn_command("app:app"), env={}, cwd=folder) as running:
        children = psutil.Process(running.pids[0]).children()

    assert len(children) == 1
    assert not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in children)


def test_supervisor_killed(app: Callable[..., Path]) -> None:
    """Workers do not outlive a supervisor that was killed."""
    with server(uvicorn_command("app:app", workers=2), env={}, cwd=app(), workers=2) as running:
        supervisor = psutil.Process(running.pids[0]).parent()
        assert supervisor is not None
        supervisor.kill()
        until(lambda: running.exit_code is not None, "the supervisor's death noticed")

    assert running.exit_code == -signal.SIGKILL
    until(lambda: not listens(running.port), "the port closed")


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_body_raises(tmp_path: Path, error: type[BaseException]) -> None:
    """The server is gone, and the error kept, when the body raises."""
    opened = server(tiny("200, ''"), env={}, cwd=tmp_path)

    with pytest.raises(error, match="in the body"), opened as running:
        raise error("in the body")

    assert running.exit_code == -signal.SIGTERM
    assert not listens(running.port)


@contextlib.contextmanager
def holder(folder: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A Python process that holds a server of two workers, and the server's port."""
    command = [sys.executable, "-c", HOLDER, str(folder)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, text=True, start_new_session=True, stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        try:
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


def test_parent_killed(app: Callable[..., Path]) -> None:
    """The server does not outlive the process that opened it, though that was killed."""
    with holder(app()) as (process, port):
        assert listens(port)

        process.kill()

    until(lambda: not processes_in(app()), "the server's processes gone")
    until(lambda: not listens(port), "the port closed")


@pytest.mark.skipif(sys.platform == "win32", reason="signals the whole group, as a terminal does")
def test_ctrl_c(app: Callable[..., Path]) -> None:
    """Ctrl-C ends the process that holds a server, and the server with it."""
    with holder(app()) as (process, port):
        os.killpg(process.pid, signal.SIGINT)

        assert ended(process) == -signal.SIGINT
        assert not processes_in(app())
        assert not listens(port)


@pytest.mark.skipif(sys.platform == "win32", reason="there SIGTERM is a kill")
@pytest.mark.parametrize(
    ("handler", "grace", "code"), [("SIG_DFL", "600", -signal.SIGTERM), ("SIG_IGN", "0.3", -signal.SIGKILL)]
)
def test_guard_told_to_stop(tmp_path: Path, handler: str, grace: str, code: int) -> None:
    """The guard passes SIGTERM on, kills the group after the grace time, and ends as the command did."""
    command = (
        f"import signal, time; signal.signal(signal.SIGTERM, signal.{handler}); print(1, flush=1); time.sleep(600)"
    )
    whole = [sys.executable, "-I", "-S", guard.__file__, grace, sys.executable, "-c", command]
    pipe = subprocess.PIPE
    with subprocess.Popen(whole, cwd=tmp_path, start_new_session=True, stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        process.stdout.readline()

        process.terminate()

        assert code == ended(process)


@pytest.mark.parametrize(
    ("output", "alone"),
    [
        ("INFO: Started server process [7]\n", True),
        ("INFO: Started parent process [1]\nINFO: Started server process [7]\n", False),
        (
            "Starting gunicorn 23.0\nBooting worker with pid: 7\nINFO: Started server process [7]\n",
            False,
        ),
        ("", False),
    ],
)
def test_a_lone_process_is_told_from_workers(output: str, alone: bool) -> None:
    """By what uvicorn prints, alone, under its own supervisor and under gunicorn."""
    assert alone == just_one_process(output)
