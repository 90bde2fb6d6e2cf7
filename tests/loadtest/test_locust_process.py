"""Locust in processes of its own: its environment, its deadline, and that no process stays."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from checks.harness import ROOT
from checks.harness.loadtest import locust_process
from checks.harness.loadtest.locust_process import Ended, Locusts, locust_arguments, locust_environment
from checks.harness.loadtest.targets import Answer, Service, target
from checks.harness.processes.servers import free_port
from tests.waiting import SLOWER, until

ENDLESS = """
import os, pathlib
from locust import User, constant, events, task

class Endless(User):
    wait_time = constant(0.1)
    @task
    def nothing(self): pass

@events.test_start.add_listener
def note(**_): pathlib.Path(__file__).with_name(f"{os.getpid()}.pid").touch()
"""
COUNTER = """
import os, pathlib
from locust import events

requests = 0

@events.request.add_listener
def count(**_):
    global requests
    requests += 1

@events.quit.add_listener
def write(exit_code, **_):
    pathlib.Path(__file__).with_name(f"{os.getpid()}.count").write_text(str(requests))
"""
NOWHERE = "--host=http://127.0.0.1:9"


@pytest.fixture(params=["forked", "new interpreter"])
def locusts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Locusts]:
    """Each way to start Locust, in a folder of its own."""
    if request.param != "forked":
        monkeypatch.setattr(locust_process, "can_fork", lambda: False)
    (tmp_path / "tree").mkdir()
    made = Locusts(tmp_path / "tree")
    yield made
    made.end()


def run(
    locusts: Locusts,
    *arguments: str,
    environment: dict[str, str] | None = None,
    seconds: float = 60,
    cpu_seconds: int = 60,
) -> Ended:
    """A run of Locust with these variables as well."""
    return locusts.run(arguments, environment or {}, cpu_seconds, seconds, stop=lambda: False)


@pytest.mark.cost(8)
def test_locust_that_does_not_end_is_killed_with_its_workers(locusts: Locusts, tmp_path: Path) -> None:
    """Neither the process nor the workers it forked are left after the deadline."""
    endless = tmp_path / "endless.py"
    endless.write_text(ENDLESS)
    port = free_port()
    master = (f"--master-bind-port={port}", f"--master-port={port}")
    arguments = locust_arguments("--processes=2", *master, NOWHERE, locustfiles=[endless])
    for slower in SLOWER:
        ended = run(locusts, *arguments, seconds=8 * slower)
        pids = [int(path.stem) for path in tmp_path.glob("*.pid")]
        if len(pids) >= 3:  # it came so far as to start its workers
            break

    assert ended.code is None
    assert len(pids) >= 3, ended.printed
    until(lambda: not any(map(psutil.pid_exists, pids)), "the end of Locust and its workers")


def test_an_endless_loop_is_ended_and_its_line_is_printed(locusts: Locusts, tmp_path: Path) -> None:
    """By its CPU time, which no other program adds to."""
    endless = tmp_path / "endless.py"
    endless.write_text("while True:\n    pass\n")

    ended = run(locusts, *locust_arguments(NOWHERE, locustfiles=[endless]), cpu_seconds=1)

    assert ended.code == -24  # SIGXCPU
    assert f'"{endless}", line' in ended.printed


def test_a_run_has_what_a_new_interpreter_has(locusts: Locusts, tmp_path: Path) -> None:
    """Its folder, its variables, its exit code; and the lab's own modules are out of its reach."""
    locustfile = tmp_path / "theirs.py"
    (tmp_path / "tree" / "beside.py").write_text("")
    locustfile.write_text(
        "import atexit, os, sys\nimport beside\nprint(os.getcwd(), os.environ['LOAD_STEPS'], sys.argv[0])\n"
        "print([name for name in sys.modules if name.startswith('checks')])\natexit.register(print, 'the end')\n"
    )

    ended = run(locusts, *locust_arguments(NOWHERE, locustfiles=[locustfile]), environment={"LOAD_STEPS": "3"})

    assert 1 == ended.code  # no User class
    assert f"{tmp_path}/tree 3 locust\n[]\n" in ended.printed
    assert ended.printed.endswith("the end\n")


@pytest.mark.exhaustive
def test_a_master_and_two_workers_are_one_load_test(locusts: Locusts, tmp_path: Path) -> None:
    """The master reports the sum of what its workers sent, and the target saw as much; the gate is the master's.

    Where other processes want the cores the master may end before a worker's last report: it is given longer.
    """
    for slower in SLOWER:
        folder = tmp_path / f"{slower}"
        folder.mkdir()
        counts, reported, arrived = _master_and_two_workers(locusts, folder, 5 * slower)
        if sum(counts) == reported:
            break

    assert 3 == len(counts)
    assert 0 == counts[0] < counts[1]  # the master sends none
    assert sum(counts) == reported == arrived


def _master_and_two_workers(locusts: Locusts, folder: Path, stop_seconds: int) -> tuple[list[int], int, int]:
    """How many requests each process has sent, the fewest first, the master has reported, and have arrived."""
    counter, report, port = folder / "counter.py", folder / "report", free_port()
    counter.write_text(COUNTER)
    files = [ROOT / "solutions/loadtests/locustfile.py", counter]
    load = {
        "LOAD_STEPS": "2",
        "LOAD_STEP_USERS": "4",
        "LOAD_STEP_SECONDS": "4",
        "LOAD_SLO_MS": "60000",
        "LOAD_DEADLINE_MS": "60000",
        "LOAD_PACE_SECONDS": "0.1",
    }
    bound = ["--master-bind-host=127.0.0.1", f"--master-bind-port={port}"]
    worker = ["--worker", f"--master-port={port}"]
    roles = [["--master", "--expect-workers=2", *bound, f"--json-file={report}"], worker, worker]
    with target(Service((Answer(0.01),))) as running, ThreadPoolExecutor(3) as pool:
        common = [f"--host={running.url}", f"--stop-timeout={stop_seconds}"]
        commands = [locust_arguments(*common, *role, locustfiles=files) for role in roles]
        ended = [*pool.map(lambda command: run(locusts, *command, environment=load), commands)]
    counts = sorted(int(path.read_text()) for path in folder.glob("*.count"))
    [row] = json.loads(report.with_suffix(".json").read_text())

    assert [0, 0, 0] == [one.code for one in ended]
    return counts, row["num_requests"], len(running.arrivals)


def test_what_a_shell_exports_does_not_reach_locust(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Settings of Locust or of a load test made by hand must not change a verdict."""
    monkeypatch.setenv("LOAD_STEPS", "99")
    monkeypatch.setenv("LOCUST_HOST", "http://127.0.0.1:9")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")  # compiling Locust at each start takes longer than a run

    assert not {"LOAD_STEPS", "LOCUST_HOST", "PYTHONDONTWRITEBYTECODE"} & set(locust_environment(tmp_path))
    assert os.environ["LOAD_STEPS"] == "99"
