"""Servers that a zygote forks do what those in a new interpreter do, and nothing of them is left either."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from checks.harness import ROOT
from checks.harness.errors import ServerDied
from checks.harness.judge.forked_server import ForkedServers
from checks.harness.judge.start import Zygote, can_fork, zygote_of_cells
from checks.harness.processes.process_group import Guarded, start
from checks.harness.processes.servers import Server, server, uvicorn_command
from tests.waiting import until

pytestmark = pytest.mark.skipif(not can_fork(), reason="no fork here")

APP = """
import json, os, sys
{before}
async def app(scope, receive, send):
    assert scope["type"] == "http"
    {at_request}
    said = {{"pid": os.getpid(), "env": dict(os.environ), "path": sys.path, "cwd": os.getcwd(), "argv": sys.argv}}
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": json.dumps(said).encode()}})
"""
HOLDER = """
import sys
from pathlib import Path
from checks.harness.judge.forked_server import ForkedServers
from checks.harness.judge.start import zygote_of_cells
from checks.harness.processes.servers import server, uvicorn_command

begin = ForkedServers(zygote_of_cells())
with server(uvicorn_command("app:app"), env={}, cwd=Path(sys.argv[1]), begin=begin) as running:
    print(running.pids[0], flush=True)
    sys.stdin.read()
"""
COMMAND = uvicorn_command("app:app")


@pytest.fixture
def zygote() -> Iterator[Zygote]:
    """What forks them."""
    made = zygote_of_cells()
    yield made
    made.end()


@pytest.fixture
def app(tmp_path: Path) -> Callable[..., Path]:
    """Writes app.py, with lines before the app and a statement at each request, and gives its folder."""

    def write(before: str = "", at_request: str = "pass") -> Path:
        (tmp_path / "app.py").write_text(APP.format(before=before, at_request=at_request))
        return tmp_path

    return write


def said(running: Server) -> dict[str, Any]:
    """What the app says of its process."""
    with urllib.request.urlopen(f"{running.url}/health", timeout=30) as response:
        answer: dict[str, Any] = json.load(response)
    return answer


def runs(pid: int) -> bool:
    """Whether that process exists, and is no zombie."""
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_it_is_what_a_new_interpreter_is(zygote: Zygote, app: Callable[..., Path]) -> None:
    """Its environment, folder and arguments are those that it was given, and so is the order of its modules."""
    seen, given = [], {"LAB_DELAY": "0.25", "PYTHONPATH": str(ROOT)}
    for begin in (start, ForkedServers(zygote)):
        with server(COMMAND, env=given, cwd=app(), begin=begin) as running:
            seen.append(answer := said(running))
            assert running.exit_code is None
            assert (answer["pid"],) == running.pids
        assert -signal.SIGTERM == running.exit_code
        assert "Finished server process" in running.output()
    new, forked = seen

    assert new["env"] == forked["env"]
    assert new["cwd"] == forked["cwd"]
    assert new["argv"][1:] == forked["argv"][1:]
    first = [list(dict.fromkeys(path or new["cwd"] for path in one["path"]))[:2] for one in seen]
    assert first == [[new["cwd"], str(ROOT)]] * 2  # "" is the folder that it runs in


def test_one_that_dies_at_its_start_says_why(zygote: Zygote, app: Callable[..., Path]) -> None:
    """At once, with its own exit code and last words."""
    never = server(COMMAND, env={}, cwd=app("raise SystemExit(7)"), begin=ForkedServers(zygote))

    with pytest.raises(ServerDied, match="exit code 7"), never:
        pass


def test_one_that_does_not_end_is_killed_with_its_children(zygote: Zygote, app: Callable[..., Path]) -> None:
    """It has the seconds that it was given."""
    child = "import signal, subprocess\nsubprocess.Popen(['sleep', '600'])\n"
    folder = app(child, "signal.signal(signal.SIGTERM, signal.SIG_IGN)")

    with server(COMMAND, env={}, cwd=folder, stop_seconds=0.5, begin=ForkedServers(zygote)) as running:
        family = running.processes()

    assert -signal.SIGKILL == running.exit_code
    assert len(family) == 2
    assert not any(map(runs, family))


def test_it_ends_with_the_judge(app: Callable[..., Path]) -> None:
    """A judge that was killed can end nothing."""
    command = [sys.executable, "-c", HOLDER, str(app())]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as judge:
        assert judge.stdout
        pid = int(judge.stdout.readline())
        judge.kill()

    until(lambda: not runs(pid), "the end of the server")


def test_without_the_zygote_it_is_a_new_interpreter(zygote: Zygote, app: Callable[..., Path]) -> None:
    """A learner's code may have killed the zygote."""
    os.kill(zygote.pid, signal.SIGKILL)

    with server(COMMAND, env={}, cwd=app(), begin=ForkedServers(zygote)) as running:
        assert isinstance(running._process, Guarded)
        assert running.pids[0] == said(running)["pid"]


def test_a_server_that_kills_the_zygote_is_ended_as_well(zygote: Zygote, app: Callable[..., Path]) -> None:
    """Nobody can say how it ended: it counts as killed."""
    folder = app(at_request="os.kill(os.getppid(), 9) if scope['path'] == '/kill' else None")

    with server(COMMAND, env={}, cwd=folder, begin=ForkedServers(zygote)) as running:
        urllib.request.urlopen(f"{running.url}/kill", timeout=30).close()
        until(lambda: running.exit_code is not None, "the end of the zygote noticed")
        pid = running.pids[0]

    assert -signal.SIGKILL == running.exit_code
    until(lambda: not runs(pid), "the end of the server")
